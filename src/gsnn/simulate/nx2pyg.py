"""The research code's ``gsnn.simulate.nx2pyg``: today's objects."""

from gsnn.graph import nx2pyg, pyg2nx

__all__ = ["nx2pyg", "pyg2nx"]
