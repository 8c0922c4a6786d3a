"""Simulated graphs and data whose missing edges are known."""

from __future__ import annotations

from gsnn.simulation.benchmark import convergence_graph, held_out_edges, held_out_roles, split_held_out
from gsnn.simulation.linear import Vectorised, simulate
from gsnn.simulation.random_graphs import RANDOM_KINDS, random_graph
from gsnn.simulation.sde import simulate_sde

__all__ = [
    "RANDOM_KINDS",
    "Vectorised",
    "convergence_graph",
    "held_out_edges",
    "held_out_roles",
    "random_graph",
    "simulate",
    "simulate_sde",
    "split_held_out",
]
