"""``gsnn infer``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gsnn.cli._output import interruptible, show_edges, show_warnings


def infer(
    run: Annotated[Path, typer.Argument(help="Run folder of gsnn train.", metavar="RUN")],
    method: Annotated[
        str, typer.Option(help="gradient, gradient-explained, magnitude or magnitude-partial.")
    ] = "magnitude",
    score: Annotated[
        str | None,
        typer.Option(
            help="Of magnitude: corr, or partial given the known parents of the target.", show_default="the method's"
        ),
    ] = None,
    agg: Annotated[
        str | None,
        typer.Option(help="Of magnitude, how layers are combined: mean0, mean or max.", show_default="the method's"),
    ] = None,
    samples: Annotated[str, typer.Option(help="Samples to use: train or all.")] = "train",
    top: Annotated[
        int | None, typer.Option(help="Write only so many candidates.", show_default="every candidate")
    ] = None,
    known: Annotated[bool, typer.Option("--known", help="Write the known edges too, after the candidates.")] = False,
    aliases: Annotated[
        str, typer.Option(help="Group candidates that the data cannot tell apart by reach or hops, or none.")
    ] = "reach",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Rank the edges that the network lacks; writes edges.csv into the run folder.

    Beside it edges.csv-metadata.json says what each column means.

    Example: gsnn infer runs/first --top 100
    """
    with interruptible("nothing was written"):
        from gsnn import workflow
        from gsnn.runs import Run

        opened = Run.open(run)
        edges = workflow.infer_run(
            opened,
            method=method,
            score=score,
            agg=agg,
            samples=samples,
            top=top,
            known=known,
            aliases=aliases,
            progress=not quiet,
        )
    inference = opened.info["inference"]
    show_warnings(inference["notes"], quiet=quiet)
    if not quiet:
        show_edges(edges, inference)
        typer.echo(f"Edges: {opened.edges_path}")
        typer.echo(f"Next: gsnn report {shlex.quote(str(run))}")
