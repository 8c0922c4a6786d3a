"""Predict conditions with a run, and write the table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import DataError
from gsnn.base.files import atomic_path

if TYPE_CHECKING:
    from gsnn.ask.ensemble import Ensemble
    from gsnn.ask.predictions import Predictions
    from gsnn.runs.folder import Run

PREDICTIONS = "predictions.csv"


def predict_run(
    run: Run,
    data: str | Path | None = None,
    *,
    inputs: str | Path | None = None,
    format: str | None = None,
    decimal: str | None = None,
    interval: float | None = None,
    long: bool = False,
    out: str | Path | None = None,
) -> tuple[Predictions, Path]:
    """Predict the responses to new conditions, and write ``predictions.csv``.

    AnnData, and names in another case, are read as the run read its own.

    Args:
        run: A run; its training is complete.
        data: The new conditions, as :func:`gsnn.io.read_treatments` reads them.
        inputs: A matrix of treatments, instead of ``data``.
        format: As for :func:`gsnn.io.read_treatments`.
        decimal: Likewise.
        interval: Share of responses that intervals hold; None: 0.9 for a run with members, else no intervals.
        long: Write a row for each condition and readout, instead of one for each condition.
        out: Where to write; by default into the folder of the run.

    Returns:
        The predictions, and the file.

    Raises:
        DataError: If the file cannot be read, a treatment is none of the run, or an interval is asked of a run without
            members.
        RunError: If the run is not complete or its data cannot be read.
    """
    from gsnn.ask.predictions import check_interval, predict
    from gsnn.io import read_treatments

    path = run.path / PREDICTIONS if out is None else Path(out)
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}; make it first")
    check_interval(interval, members=run.n_members > 0)
    options = run.sources.options
    anndata: Any = options.get("responses", {}).get("anndata")
    responses = read_treatments(data, inputs=inputs, format=format, decimal=decimal or ".", anndata=anndata)
    ensemble, notes = _ensemble(run)
    ignore_case = bool(options.get("build", {}).get("ignore_case", False))
    result = predict(ensemble, responses, interval=interval, ignore_case=ignore_case)
    result.notes.extend(notes)
    with atomic_path(path) as temporary:
        (result.to_frame() if long else result.to_table()).to_csv(
            temporary, index=False, lineterminator="\n", float_format="%.6g"
        )
    return result, path


def _ensemble(run: Run) -> tuple[Ensemble, list[str]]:
    """The models of a run, and notes on the samples that decide whether a condition is outside the training data."""
    import numpy as np

    from gsnn.ask.ensemble import Ensemble
    from gsnn.runs.sample import run_sample, sample_notes

    if not run.sources.streamed:
        return Ensemble.of(run), []
    data = run_sample(run, part="train")  # members were refused
    none = np.zeros((0, len(data)), dtype=np.int64)
    notes = [f"what lies outside of the training: {note}" for note in sample_notes(data)]
    return Ensemble(data.graph, run.model(), [], run.standardiser(), data.x, data.y, none), notes
