"""``gsnn demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Quiet
from gsnn.cli.output import interruptible, print_json, show_edges, show_fit, show_next, show_verdict, show_warnings


def demo(
    dataset: Annotated[str, typer.Option(help="extliver or liverdream.")] = "extliver",
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder; an earlier demo in it is replaced.")] = Path(
        "runs/demo"
    ),
    epochs: Annotated[int | None, typer.Option(help="Train for so many epochs.", show_default="as tuned")] = None,
    seed: Annotated[int, typer.Option(help="Fixes the split, the weights and the order of samples.")] = 0,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Do the whole job on real data: train, infer the missing edges, write the report.

    Example: gsnn demo --dataset liverdream -o runs/liverdream --epochs 20
    """
    with interruptible("run gsnn demo again; it starts over"), stage("reading network and data", show=not quiet):
        from gsnn.base.verdict import at_run
        from gsnn.datasets import DATASETS
        from gsnn.report.html import report_run
        from gsnn.runs.infer import infer_run
        from gsnn.runs.results import after_infer
        from gsnn.runs.train import train_demo

        run, result = train_demo(out, dataset, settings={"epochs": epochs, "seed": seed}, progress=not quiet)
        show_warnings(result.warnings, quiet=quiet)
        edges = infer_run(run, progress=not quiet)
        path = report_run(run)
        _, advice = after_infer(run)
        origin = DATASETS[run.sources.name]
    if as_json:
        print_json(
            {
                "run": run.path,
                "fit": run.info["fit"],
                "verdict": result.verdict.at(run.path).to_dict(),
                "inference": run.info["inference"],
                "next": at_run(advice, run.path),
                "report": path,
            }
        )
        return
    if quiet:
        return
    typer.echo(f"Data: {origin.description} ({origin.origin}).")
    show_fit(result.report)
    show_verdict(result.verdict)
    typer.echo("")
    show_edges(edges, run.info["inference"])
    typer.echo("")
    typer.echo(f"Report: {path}")
    show_next(advice, run.path)
