"""Readers of prior networks and of perturbation responses.

Two doors: :func:`read_network` for who acts on whom, :func:`read_responses` for what was done and what was
measured. Both return plain frozen dataclasses around pandas tables, keep every identifier as the text that
stands in the file (``NA``, ``007`` and ``1e5`` are names like any other), and raise
:class:`gsnn.errors.DataError` with the file, the line and the remedy.
"""

from __future__ import annotations

from gsnn.io._network import DuplicateEdge, Network, read_network
from gsnn.io._responses import Responses, read_responses

__all__ = ["DuplicateEdge", "Network", "Responses", "read_network", "read_responses"]
