"""The audit: what the data say of every known edge.

``restricted`` has its small networks; ``closing`` takes an edge away and ``opening`` puts one in. ``steps`` does so
fold by fold, ``verdicts`` judges, ``protocol`` does one after the other, and ``result`` is the outcome.
"""

from __future__ import annotations

from gsnn.discovery.auditing.protocol import audit
from gsnn.discovery.auditing.result import Audit

__all__ = ["Audit", "audit"]
