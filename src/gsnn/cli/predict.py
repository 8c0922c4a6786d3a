"""``gsnn predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Quiet, RunFolder
from gsnn.cli.output import figure, interruptible, print_json, show_model, show_table, show_warnings

if TYPE_CHECKING:
    from gsnn.ask import Predictions

_EXPLAIN = "gsnn explain RUN --condition ROW --readout NAME, which tells why the model predicts a response"
_MEASURE = "measure before you build on these figures: the model fits unseen conditions badly"
_CONDITIONS, _READOUTS = 10, 5  # how many of each are printed; predictions.csv has all


def predict(
    run: RunFolder,
    data: Annotated[
        Path | None,
        typer.Option(help="New conditions: a table with TR: columns, MIDAS or AnnData; readouts are not needed."),
    ] = None,
    inputs: Annotated[Path | None, typer.Option(help="Instead of --data: matrix of treatments.")] = None,
    interval: Annotated[
        float | None,
        typer.Option(
            help="Share of responses that the intervals hold; needs gsnn train --members.", show_default="0.9"
        ),
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", help="A row for each condition and readout, with its standard deviation.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="File to write.", show_default="RUN/predictions.csv")
    ] = None,
    data_format: Annotated[str | None, typer.Option(help="midas, matrix or h5ad.", show_default="recognised")] = None,
    decimal: Annotated[str | None, typer.Option(help="What separates decimals: . or ,", show_default=".")] = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Predict the responses to new conditions, in the units of the data; writes predictions.csv.

    A row for each condition, with a column for each readout and, of a run with members, the ends of its interval. The
    last column says in which way a condition lies outside the training data.

    Example: gsnn predict runs/first --data new.csv
    """
    with interruptible("no predictions were written"), stage("reading the run", show=not quiet):
        from gsnn.runs import Run
        from gsnn.runs.predict import predict_run
        from gsnn.runs.results import model_verdict

        opened = Run.open(run)
        result, path = predict_run(
            opened,
            data,
            inputs=inputs,
            format=data_format,
            decimal=decimal,
            interval=interval,
            long=long,
            out=out,
        )
        model = model_verdict(opened)
    label = result.treatments.index.name or "condition"
    far = [f"{label} {name}: {why}" for name, why in zip(result.treatments.index, result.outside, strict=True) if why]
    show_warnings([*result.notes, *far], quiet=quiet)
    if as_json:
        print_json(
            {
                "run": run,
                "file": path,
                "model": model.at(run).to_dict(),
                "interval": result.level if result.sd is not None else None,
                "notes": result.notes,
                "predictions": result.to_frame().to_dict("records"),
            }
        )
    elif not quiet:
        _show(result)
        show_model(model, "Predictions", [path], run, _EXPLAIN if model.tone != "bad" else _MEASURE)


def _show(result: Predictions) -> None:
    """Print the first conditions, and the readouts that differ most between conditions."""
    spread = result.mean.std(axis=0) if len(result) > 1 else abs(result.mean[0])
    order = sorted(range(len(result.readouts)), key=lambda j: -spread[j] if spread[j] == spread[j] else 1.0)
    chosen = sorted(order[:_READOUTS])
    rows = []
    for i, (name, treated) in enumerate(zip(result.treatments.index[:_CONDITIONS], result.conditions, strict=False)):
        cells = []
        for j in chosen:
            cell = figure(result.mean[i, j])
            if result.low is not None and result.high is not None:
                cell += f" ({figure(result.low[i, j])} to {figure(result.high[i, j])})"
            cells.append(cell)
        rows.append([str(name), treated, *cells, result.outside[i].split(":")[0]])
    title = f"Predicted responses of {len(result)} conditions"
    title += f", {result.level:.0%} intervals" if result.sd is not None else ""
    title += f"; the first {len(rows)}" if len(result) > len(rows) else ""
    if len(result.readouts) > len(chosen):
        title += f"; the {len(chosen)} of {len(result.readouts)} readouts that differ most"
    header = ["condition", "treatments", *(result.readouts[j] for j in chosen), "outside"]
    show_table(title, header, rows, left=2)
