"""Explain predictions of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gsnn.ask.conditions import UNTREATED, condition_names, name_of, numbers_of
from gsnn.ask.explanation import PICTURE, Explanation, explain, write_explanations
from gsnn.base.arrays import IntArray
from gsnn.base.errors import DataError, as_data_error
from gsnn.plot.files import write_picture
from gsnn.runs.members import models_of
from gsnn.runs.sample import run_parts, sample_notes

if TYPE_CHECKING:
    from gsnn.data import PerturbationData
    from gsnn.runs.folder import Run

WORST = 3


def explain_run(
    run: Run,
    condition: str | None = None,
    readout: str | None = None,
    *,
    against: str = UNTREATED,
    picture: str = PICTURE,
) -> Explanation:
    """What every edge and input contributes to a prediction, written into the folder of the run.

    ``condition``, ``readout`` and ``against`` are those of :func:`gsnn.ask.explain`. Without a readout it is the one
    that is fitted worst, without a condition the held-out one in which the readout is missed most. For the other
    arguments and the errors see :mod:`gsnn.runs`.

    Returns:
        The explanation, as ``explain.csv``, ``explain.graphml`` and ``explain.json`` have it.
    """
    readout = worst_readouts(run, 1)[0] if readout is None else readout
    return _explained(run, [readout], condition, against, picture)[0]


def explain_worst(run: Run, n: int = WORST, *, against: str = UNTREATED, picture: str = PICTURE) -> list[Explanation]:
    """Explain the ``n`` readouts that are fitted worst, each where it is missed most, as :func:`explain_run` does.

    Returns:
        The explanations, the worst readout first; the picture shows the first.

    Raises:
        DataError: If ``n`` is not positive, the reference is unknown, or nothing is held out.
    """
    if n < 1:
        raise DataError(f"the number of readouts to explain must be at least 1, got {n}")
    return _explained(run, worst_readouts(run, n), None, against, picture)


def _explained(
    run: Run, readouts: Sequence[str], condition: str | None, against: str, picture: str
) -> list[Explanation]:
    (data, split), models = run_parts(run), models_of(run)
    conditions = [condition] * len(readouts) if condition else worst_fitted(run, data, split.test, readouts, against)
    with as_data_error():
        explanations = [
            explain(models, data, run.standardiser(), where, readout, against=against)
            for where, readout in zip(conditions, readouts, strict=True)
        ]
    for each in explanations:
        each.notes.extend(sample_notes(data))
    with run.lock():
        write_explanations(explanations, run.path, fingerprint=run.info["data"]["fingerprint"], run=run.info["id"])
        if picture:
            write_picture(explanations[0].plot, run.path / picture)
    return explanations


def worst_readouts(run: Run, n: int) -> list[str]:
    """Names of at most ``n`` readouts with the lowest R2 on the held-out samples, the worst first.

    Raises:
        DataError: If the fit was not measured.
    """
    fit = run.fit_report().readouts.dropna(subset=["model_r2"]).sort_values("model_r2", kind="stable")
    if not len(fit):
        raise DataError("the fit was not measured, so name the readout to explain (--readout)")
    return [name_of(str(name)) for name in fit["readout"].head(n)]


def worst_fitted(run: Run, data: PerturbationData, rows: IntArray, readouts: Sequence[str], against: str) -> list[str]:
    """For each readout the name of the condition, among the held-out ``rows``, in which it is missed most.

    Raises:
        DataError: If there is no such readout, or nothing is held out, so that the condition must be named.
    """
    from gsnn.training import predict

    columns = numbers_of(readouts, data.graph.outputs, "readout")
    predicted = run.standardiser().inverse_transform(predict(run.model(), data.x[rows]))
    labels = condition_names(data.x[rows], data)
    worst = []
    for column in columns:
        error = np.abs(data.y[rows, column] - predicted[:, column])
        error[[label == against for label in labels]] = np.nan
        if not np.isfinite(error).any():
            raise DataError("no held-out sample can be explained; name the condition (--condition)")
        worst.append(labels[int(np.nanargmax(error))])
    return worst
