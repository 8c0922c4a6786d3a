"""The command line ``gsnn``: parse, delegate to `gsnn.workflow`, print."""

from __future__ import annotations

from gsnn.cli._app import app, main

__all__ = ["app", "main"]
