"""The audit: what the data say of every edge that is known already.

``restricted`` has its small networks, ``closing`` and ``opening`` take an edge away or put one in. ``steps`` does so
fold by fold. ``verdicts`` judges. ``protocol`` does one after the other, and ``result`` is the outcome.
"""

from __future__ import annotations

from gsnn.discovery.auditing.protocol import audit
from gsnn.discovery.auditing.result import Audit

__all__ = ["Audit", "audit"]
