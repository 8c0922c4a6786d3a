"""The prior network: typed nodes and edges, their rules, conversions, and a summary."""

from __future__ import annotations

from gsnn.graph.checks import EDGE_TYPES, NODE_TYPES
from gsnn.graph.graph import Graph
from gsnn.graph.hetero import nx2pyg, pyg2nx
from gsnn.graph.kinds import KINDS, resolve_kinds
from gsnn.graph.summary import GraphSummary

__all__ = ["EDGE_TYPES", "KINDS", "NODE_TYPES", "Graph", "GraphSummary", "nx2pyg", "pyg2nx", "resolve_kinds"]
