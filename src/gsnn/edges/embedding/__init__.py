"""Embeddings of the graph of known and mined edges."""

from __future__ import annotations

from gsnn.edges.embedding.inferer import DirectedMagnitudeEdgeKGE, EmbeddingEdgeInferer, MagnitudeEdgeKGE

__all__ = ["DirectedMagnitudeEdgeKGE", "EmbeddingEdgeInferer", "MagnitudeEdgeKGE"]
