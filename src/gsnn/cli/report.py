"""``gsnn report``."""

from __future__ import annotations

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Quiet, RunFolder
from gsnn.cli.output import interruptible, print_json


def report(
    run: RunFolder,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write report.html into the run folder: one file that opens anywhere, without a network.

    Example: gsnn report runs/first
    """
    with interruptible("nothing was written"), stage("writing the report", show=not quiet):
        from gsnn.report.html import report_run
        from gsnn.runs import Run

        path = report_run(Run.open(run))
    if as_json:
        print_json({"run": run, "report": path})
    elif not quiet:
        typer.echo(f"Report: {path}")
        typer.echo("Next: open it in a browser; its head says what to believe and what to do")
