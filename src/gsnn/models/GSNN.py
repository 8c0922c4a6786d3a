"""The research code's ``gsnn.models.GSNN``: today's objects."""

from gsnn.nn import GSNN

__all__ = ["GSNN"]
