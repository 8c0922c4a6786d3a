"""Embeddings of the graph of known and mined edges."""

from __future__ import annotations

from gsnn.edges.embedding.inferer import DirectedMagnitudeEdgeKGE, MagnitudeEdgeKGE

__all__ = ["DirectedMagnitudeEdgeKGE", "MagnitudeEdgeKGE"]
