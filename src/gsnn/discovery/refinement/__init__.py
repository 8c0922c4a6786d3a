"""The refinement: candidates are tried in rounds, and those that help held-out samples stay.

``proposals`` draws up the candidates, ``held_out`` has the two gates, ``joint`` chooses among edges that are trained
together. ``bench`` decides on a round, ``protocol`` does the rounds, and ``result`` is the outcome.
"""

from __future__ import annotations

from gsnn.discovery.refinement.protocol import refine
from gsnn.discovery.refinement.result import Refinement

__all__ = ["Refinement", "refine"]
