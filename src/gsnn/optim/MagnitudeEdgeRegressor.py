"""The research code's ``gsnn.optim.MagnitudeEdgeRegressor``: today's objects."""

from gsnn.edges import MagnitudeEdgeInferer, MagnitudeEdgeRegressor

__all__ = ["MagnitudeEdgeInferer", "MagnitudeEdgeRegressor"]
