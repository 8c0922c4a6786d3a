"""The research code's ``gsnn.optim.MagnitudeEdgeInferer``: today's objects."""

from gsnn.edges import MagnitudeEdgeInferer

__all__ = ["MagnitudeEdgeInferer"]
