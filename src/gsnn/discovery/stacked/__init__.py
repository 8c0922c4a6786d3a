"""Methods that learn from hidden known edges what a missing edge looks like."""

from __future__ import annotations

from gsnn.discovery.stacked.combined import CombinedEdgeInferer
from gsnn.discovery.stacked.inferer import StackedEdgeInferer, StructureEdgeInferer

__all__ = ["CombinedEdgeInferer", "StackedEdgeInferer", "StructureEdgeInferer"]
