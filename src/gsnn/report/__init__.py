"""One self-contained HTML page about a run: proposed edges, network, self-check, scores, fit, loss, data.

:mod:`gsnn.report.contents` reads a run into plain tables and numbers, :mod:`gsnn.report.html` makes them a page.
"""

from __future__ import annotations

from gsnn.report.html import write_report

__all__ = ["write_report"]
