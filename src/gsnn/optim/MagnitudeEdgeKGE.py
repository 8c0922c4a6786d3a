"""The research code's ``gsnn.optim.MagnitudeEdgeKGE``: today's objects."""

from gsnn.edges import MagnitudeEdgeKGE

__all__ = ["MagnitudeEdgeKGE"]
