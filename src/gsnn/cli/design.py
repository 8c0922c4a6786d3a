"""``gsnn design``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Picture, Quiet
from gsnn.cli.output import figure, interruptible, show_answer, show_notes, show_table

if TYPE_CHECKING:
    from gsnn.ask import Design


def design(
    run: Annotated[Path, typer.Argument(help="Run folder with inferred edges.", metavar="RUN")],
    hypotheses: Annotated[int, typer.Option("--hypotheses", "-k", help="How many alias groups of candidates.")] = 8,
    batch: Annotated[int, typer.Option("--batch", "-n", help="How many experiments to choose.")] = 8,
    replicates: Annotated[int, typer.Option(help="Measurements of each experiment.")] = 3,
    experiments: Annotated[
        Path | None,
        typer.Option(
            help="CSV with columns experiment, knockout, readout, cost.",
            show_default="single and paired treatments, knock-outs, new readouts",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of each refit.", show_default="a fifth of the run's")
    ] = None,
    seed: Annotated[int, typer.Option(help="Fixes the refits.")] = 0,
    picture: Picture = "design.png",
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Tell which experiments to do next: those that would tell the leading hypotheses of the network apart.

    Writes design.csv, design.json and a picture into the run folder.

    Example: gsnn design runs/first --batch 4
    """
    with interruptible("run the command again"), stage("reading the run", show=not quiet):
        from gsnn.runs import Run
        from gsnn.runs.design import design_run

        opened = Run.open(run)
        answer = design_run(
            opened,
            hypotheses=hypotheses,
            batch=batch,
            replicates=replicates,
            experiments=experiments,
            epochs=epochs,
            seed=seed,
            picture=picture,
            progress=not quiet,
        )
    files = ["design.csv", "design.json", picture]
    show_answer(opened, "Design", files, answer.content(), partial(_show, answer), as_json=as_json, quiet=quiet)


def _show(answer: Design) -> None:
    rows = [[one.name, figure(loss)] for one, loss in zip(answer.hypotheses, answer.loss, strict=True)]
    show_table("Hypotheses, with the loss of their refits on the training samples", ["hypothesis", "loss"], rows)
    rows = [
        [
            str(row["rank"]),
            str(row["experiment"]),
            str(row["readouts"]),
            *(figure(row[name]) for name in ("gain", "separation")),
            f"{row['pairs']} of {len(answer.pairs)}",
        ]
        for row in answer.to_frame().to_dict("records")
    ]
    header = ["rank", "experiment", "readouts that differ", "gain", "separation", "pairs"]
    show_table(f"\nExperiments: the best {len(rows)} of {len(answer.experiments)}", header, rows, left=3)
    typer.echo("gain: by how much the experiment raises the share of pairs of hypotheses that are told apart")
    typer.echo("separation: root mean square over the pairs, in units of the predictive noise; pairs: above 2 of them")
    typer.echo("design.csv says which hypotheses each experiment separates; design.json has all predictions")
    show_notes(answer.notes)
