"""``gsnn design``."""

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
    picture: Annotated[
        str, typer.Option(help="Picture in the run folder, .png, .svg or .pdf; empty for none.")
    ] = "design.png",
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
        from gsnn.runs.results import model_verdict

        opened = Run.open(run)
        found = design_run(
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
        model = model_verdict(opened)
    files = [run / name for name in ("design.csv", "design.json", picture) if name]
    if as_json:
        print_json({"run": run, "files": files, "model": model.at(run).to_dict(), **found.content()})
    elif not quiet:
        _show(found)
        show_verdict(model, "the model that was asked")
        typer.echo(f"Design: {', '.join(map(str, files))}")
        show_next(MODEL_ASKED, run)


def _show(found: Design) -> None:
    rows = [[one.name, figure(loss)] for one, loss in zip(found.hypotheses, found.loss, strict=True)]
    show_table("Hypotheses, with the loss of their refits on the training samples", ["hypothesis", "loss"], rows)
    typer.echo("")
    rows = [
        [
            str(row["rank"]),
            str(row["experiment"]),
            str(row["readouts"]),
            *(figure(row[name]) for name in ("gain", "separation")),
            f"{row['pairs']} of {len(found.pairs)}",
        ]
        for row in found.to_frame().to_dict("records")
    ]
    header = ["rank", "experiment", "readouts that differ", "gain", "separation", "pairs"]
    show_table(f"Experiments: the best {len(rows)} of {len(found.experiments)}", header, rows, left=3)
    typer.echo("gain: by how much the experiment raises the share of pairs of hypotheses that are told apart")
    typer.echo("separation: root mean square over the pairs, in units of the predictive noise; pairs: above 2 of them")
    typer.echo("which hypotheses each experiment separates stands in design.csv, all predictions in design.json")
    for note in found.notes:
        typer.echo(f"note: {note}")
