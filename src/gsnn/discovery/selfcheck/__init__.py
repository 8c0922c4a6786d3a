"""The self-check: known edges are hidden, and what a method finds of them is compared with chance.

``protocol`` does the repeats, with the graphs and samples of ``controls``. ``result`` is the outcome, and ``precision``
the arithmetic of the precision to expect.
"""

from __future__ import annotations

from gsnn.discovery.selfcheck.protocol import self_check
from gsnn.discovery.selfcheck.result import SelfCheck

__all__ = ["SelfCheck", "self_check"]
