"""One self-contained HTML page about a run: proposed edges, network, self-check, scores, fit, loss, data.

`collect` reads a run into a `ReportData` (plain tables and numbers), `render` turns one into a page, and
`write_report` does both and writes the file.
"""

from __future__ import annotations

from gsnn.report._collect import collect
from gsnn.report._data import Check, ReportData
from gsnn.report._render import render, write_report

__all__ = ["Check", "ReportData", "collect", "render", "write_report"]
