"""The refinement: candidates are tried in rounds, and those that help held-out samples stay.

``held_out`` has the two gates, ``joint`` the choice among proposals that are trained together, ``protocol`` the rounds,
``result`` what comes out.
"""

from __future__ import annotations

from gsnn.discovery.refinement.protocol import refine
from gsnn.discovery.refinement.result import Refinement

__all__ = ["Refinement", "refine"]
