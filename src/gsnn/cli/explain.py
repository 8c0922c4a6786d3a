"""``gsnn explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Quiet
from gsnn.cli.output import (
    MODEL_ASKED,
    figure,
    interruptible,
    print_json,
    show_next,
    show_table,
    show_verdict,
)

if TYPE_CHECKING:
    from gsnn.ask import Explanation

_LISTED = 20


def explain(
    run: Annotated[Path, typer.Argument(help="Run folder of gsnn train.", metavar="RUN")],
    condition: Annotated[
        str | None,
        typer.Option(
            help="Treatments joined by +, or a row of the data.", show_default="where the readout is missed most"
        ),
    ] = None,
    readout: Annotated[
        str | None, typer.Option(help="The readout.", show_default="those that are fitted worst")
    ] = None,
    against: Annotated[str, typer.Option(help="The condition to compare with.")] = "untreated",
    worst: Annotated[
        int, typer.Option(help="How many readouts to explain, the worst fitted ones, if none is named.")
    ] = 3,
    picture: Annotated[
        str, typer.Option(help="Picture in the run folder, .png, .svg or .pdf; empty for none.")
    ] = "explain.png",
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Tell why the model predicts a response: what every edge and input contributes to it.

    Writes explain.csv, explain.json, explain.graphml (for Cytoscape) and a picture into the run folder.

    Example: gsnn explain runs/first --condition 3
    """
    with interruptible("run the command again"), stage("reading the run", show=not quiet):
        from gsnn.runs import Run
        from gsnn.runs.explain import explain_run, explain_worst
        from gsnn.runs.results import model_verdict

        opened = Run.open(run)
        if condition is None and readout is None:
            found = explain_worst(opened, worst, against=against, picture=picture)
        else:
            found = [explain_run(opened, condition, readout, against=against, picture=picture)]
        model = model_verdict(opened)
    files = [run / name for name in ("explain.csv", "explain.json", "explain.graphml", picture) if name]
    if as_json:
        others = [one.content() for one in found[1:]]
        print_json(
            {
                "run": run,
                "files": files,
                "model": model.at(run).to_dict(),
                **found[0].content(),
                **({"others": others} if others else {}),
            }
        )
    elif not quiet:
        for number, one in enumerate(found):
            typer.echo("\n" if number else "", nl=False)
            _show(one)
        show_verdict(model, "the model that was asked")
        typer.echo(f"Explanation: {', '.join(map(str, files))}")
        show_next(MODEL_ASKED, run)


def _show(found: Explanation) -> None:
    typer.echo(
        f"{found.readout} in {found.condition}: {figure(found.predicted)} predicted, {found.difference:+.3g} against "
        f"{found.against}"
    )
    rows = [[str(row["input"]), figure(row["contribution"])] for row in found.inputs.to_dict("records")]
    show_table("Contributions of the inputs", ["input", "contribution"], rows)
    part = found.subnetwork
    columns = [name for name in ("contribution", "low", "high") if name in part]
    cells = [
        [str(row["source"]), str(row["target"]), *(figure(row[name]) for name in columns)]
        for row in part.head(_LISTED).to_dict("records")
    ]
    if cells:
        typer.echo("")
        more = f", the strongest {_LISTED}" if len(part) > _LISTED else ""
        title = f"Subnetwork: {len(part)} of {len(found.edges)} edges carry {found.carried:.0%} of the difference{more}"
        show_table(title, ["source", "target", *columns], cells, left=2)
    if len(found.paths):
        typer.echo("")
        rows = [[str(row["path"]), figure(row["alone"])] for row in found.paths.to_dict("records")]
        show_table("Paths: the difference that each carries alone", ["path", "alone"], rows)
    for note in found.notes:
        typer.echo(f"note: {note}")
