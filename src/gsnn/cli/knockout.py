"""``gsnn knockout``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from gsnn.base.errors import DataError
from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Picture, Quiet, RunFolder
from gsnn.cli.output import figure, interruptible, show_answer, show_notes, show_table

if TYPE_CHECKING:
    from gsnn.ask import Knockouts

_LISTED, _READOUTS = 20, 8


def knockout(
    run: RunFolder,
    nodes: Annotated[str | None, typer.Option(help="Functions to knock out, with commas.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Knock out each function of the network.")] = False,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Also pairs: of --nodes, or of the 30 strongest single ones.")
    ] = False,
    over: Annotated[
        bool, typer.Option("--over", help="Hold at the highest state that was seen, not the lowest.")
    ] = False,
    to: Annotated[str | None, typer.Option(help="lowest, highest or zero.", show_default="lowest")] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Treatments joined by +, or a row of the data; repeatable.", show_default="all conditions of the data"
        ),
    ] = None,
    picture: Picture = "knockout.png",
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Predict what knocking out functions does to every readout in every condition.

    Writes knockout.csv, knockout.json and a heatmap into the run folder.

    Example: gsnn knockout runs/first --all --pairs
    """
    if not (nodes or every or pairs):
        raise DataError("name the functions to knock out with --nodes A,B, or take all with --all")
    if nodes and every:
        raise DataError("--nodes and --all exclude each other; give one of them")
    if over and to not in (None, "highest"):
        raise DataError("--over holds at the highest state; leave out --to")
    named = [part.strip() for part in nodes.split(",") if part.strip()] if nodes else None
    with interruptible("run the command again"), stage("reading the run", show=not quiet):
        from gsnn.ask.knockouts import DEFAULT_STATE
        from gsnn.runs import Run
        from gsnn.runs.knockout import knockout_run

        opened = Run.open(run)
        answer = knockout_run(
            opened,
            named,
            pairs=pairs,
            to="highest" if over else to or DEFAULT_STATE,
            conditions=condition or (),
            picture=picture,
            progress=not quiet,
        )
    files = ["knockout.csv", "knockout.json", picture]
    show_answer(opened, "Knock-outs", files, answer.content(), partial(_show, answer), as_json=as_json, quiet=quiet)


def _show(answer: Knockouts) -> None:
    table = answer.summary()
    # The readouts that change most, in standard deviations.
    change = (table[answer.readouts].abs() / answer.scale).max().sort_values(ascending=False, kind="stable")
    shown = [name for name in answer.readouts if name in set(change.index[:_READOUTS])]
    columns = ["strength", *(["interaction"] if "interaction" in table else []), *shown]
    rows = [
        [str(row["nodes"]), answer.held_at.get(str(row["nodes"]), "") or "-", *(figure(row[name]) for name in columns)]
        for row in table.head(_LISTED).to_dict("records")
    ]
    more = f", the strongest {_LISTED} of {len(table)}" if len(table) > _LISTED else ""
    title = f"Knock-outs: mean effect over {len(answer.conditions)} conditions, in the units of the data{more}"
    show_table(title, ["nodes", "held as in", *columns], rows, left=2)
    typer.echo("strength: root mean square effect over conditions and readouts, in standard deviations of a readout")
    if "interaction" in table:
        typer.echo("interaction: the same of the effect of a pair minus the sum of its single effects")
    if len(shown) < len(answer.readouts):
        typer.echo(f"the {len(shown)} readouts that change most of {len(answer.readouts)}; knockout.csv has all")
    show_notes(answer.notes)
