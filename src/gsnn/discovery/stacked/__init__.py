"""Learners of what a missing edge looks like, taught on known edges that were hidden for the purpose."""

from __future__ import annotations

from gsnn.discovery.stacked.combined import CombinedEdgeInferer
from gsnn.discovery.stacked.inferer import StackedEdgeInferer, StructureEdgeInferer

__all__ = ["CombinedEdgeInferer", "StackedEdgeInferer", "StructureEdgeInferer"]
