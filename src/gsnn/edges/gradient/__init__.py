"""Signed, first-order evidence for an edge: activation times gradient."""

from __future__ import annotations

from gsnn.edges.gradient.inferer import GradientEdgeInferer

__all__ = ["GradientEdgeInferer"]
