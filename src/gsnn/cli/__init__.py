"""The command line ``gsnn``: parse, delegate to `gsnn.runs`, print."""

from __future__ import annotations

from gsnn.cli.commands import app, main

__all__ = ["app", "main"]
