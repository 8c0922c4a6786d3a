"""One self-contained HTML page about a run: proposed edges, network, self-check, scores, fit, loss, data.

`collect` reads a run into a `ReportData` (plain tables and numbers), `render` turns one into a page, and
`write_report` does both and writes the file.
"""

from __future__ import annotations

from gsnn.plot.data import Check, ReportData
from gsnn.report.contents import collect
from gsnn.report.html import render, write_report

__all__ = ["Check", "ReportData", "collect", "render", "write_report"]
