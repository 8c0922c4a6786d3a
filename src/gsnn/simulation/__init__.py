"""Simulated graphs and data whose missing edges are known."""

from __future__ import annotations

from gsnn.simulation.benchmark import convergence_graph, held_out_edges, split_held_out
from gsnn.simulation.linear import simulate
from gsnn.simulation.random_graphs import random_graph
from gsnn.simulation.sde import simulate_sde

__all__ = [
    "convergence_graph",
    "held_out_edges",
    "random_graph",
    "simulate",
    "simulate_sde",
    "split_held_out",
]
