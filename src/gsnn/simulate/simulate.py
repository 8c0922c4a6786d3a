"""The research code's ``gsnn.simulate.simulate``: today's objects."""

from gsnn.simulation import simulate
from gsnn.simulation.research_sde import simulate_sde

__all__ = ["simulate", "simulate_sde"]
