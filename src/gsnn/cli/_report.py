"""``gsnn report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsnn.cli._output import interruptible


def report(
    run: Annotated[Path, typer.Argument(help="Run folder of gsnn train.", metavar="RUN")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Write report.html into the run folder: one file that opens anywhere, without a network.

    Example: gsnn report runs/first
    """
    with interruptible("nothing was written"):
        from gsnn import workflow
        from gsnn.runs import Run

        path = workflow.report_run(Run.open(run))
    if not quiet:
        typer.echo(f"Report: {path}")
