"""The run folder, and every command as a function."""

from __future__ import annotations

from gsnn.runs.folder import Run
from gsnn.runs.sources import Sources, fingerprint

__all__ = ["Run", "Sources", "fingerprint"]
