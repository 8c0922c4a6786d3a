"""The research code's ``gsnn.optim.FunctionEdgeInferer``: today's objects."""

from gsnn.edges import FunctionEdgeInferer, mrr

__all__ = ["FunctionEdgeInferer", "mrr"]
