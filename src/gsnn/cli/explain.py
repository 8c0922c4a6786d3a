"""``gsnn explain``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Picture, Quiet, RunFolder
from gsnn.cli.output import figure, interruptible, show_answer, show_notes, show_table

if TYPE_CHECKING:
    from gsnn.ask import Explanation

_LISTED = 20


def explain(
    run: RunFolder,
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
    picture: Picture = "explain.png",
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

        opened = Run.open(run)
        if condition is None and readout is None:
            answers = explain_worst(opened, worst, against=against, picture=picture)
        else:
            answers = [explain_run(opened, condition, readout, against=against, picture=picture)]
    files = ["explain.csv", "explain.json", "explain.graphml", picture]
    first, *others = (answer.content() for answer in answers)
    content = first | ({"others": others} if others else {})
    show_answer(opened, "Explanation", files, content, partial(_show, answers), as_json=as_json, quiet=quiet)


def _show(answers: Sequence[Explanation]) -> None:
    for number, answer in enumerate(answers):
        if number:
            typer.echo("")
        _show_one(answer)


def _show_one(answer: Explanation) -> None:
    typer.echo(
        f"{answer.readout} in {answer.condition}: {figure(answer.predicted)} predicted, {answer.difference:+.3g} "
        f"against {answer.against}"
    )
    rows = [[str(row["input"]), figure(row["contribution"])] for row in answer.inputs.to_dict("records")]
    show_table("Contributions of the inputs", ["input", "contribution"], rows)
    part = answer.subnetwork
    columns = [name for name in ("contribution", "low", "high") if name in part]
    cells = [
        [str(row["source"]), str(row["target"]), *(figure(row[name]) for name in columns)]
        for row in part.head(_LISTED).to_dict("records")
    ]
    if cells:
        more = f", the strongest {_LISTED}" if len(part) > _LISTED else ""
        title = f"\nSubnetwork: {len(part)} of {len(answer.edges)} edges carry {answer.carried:.0%} of the difference"
        show_table(title + more, ["source", "target", *columns], cells, left=2)
    if len(answer.paths):
        rows = [[str(row["path"]), figure(row["alone"])] for row in answer.paths.to_dict("records")]
        show_table("\nPaths: the difference that each carries alone", ["path", "alone"], rows)
    show_notes(answer.notes)
