"""The self-check: known edges are hidden, and what a method finds of them is compared with chance.

``controls`` has the two nulls, ``precision`` the arithmetic of the precision to expect. ``protocol`` does the repeats,
and ``result`` is the outcome.
"""

from __future__ import annotations

from gsnn.discovery.selfcheck.protocol import self_check
from gsnn.discovery.selfcheck.result import SelfCheck

__all__ = ["SelfCheck", "self_check"]
