"""Explain a prediction of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gsnn.ask.conditions import UNTREATED, condition_names, name_of
from gsnn.ask.explanation import PICTURE, Explanation, explain
from gsnn.base.errors import DataError, as_data_error
from gsnn.plot.files import write_picture
from gsnn.runs.members import models_of

if TYPE_CHECKING:
    from gsnn.data import PerturbationData
    from gsnn.runs.folder import Run


def explain_run(
    run: Run,
    condition: str | None = None,
    readout: str | None = None,
    *,
    against: str = UNTREATED,
    picture: str = PICTURE,
) -> Explanation:
    """What every edge and input contributes to a prediction, written into the folder of the run.

    Args:
        run: A run whose training is complete.
        condition: As of :func:`gsnn.ask.explain`; None: see :func:`worst_fitted`.
        readout: Likewise.
        against: The reference.
        picture: Name of the picture in the folder, which tells its format; empty: none.

    Returns:
        The explanation, as ``explain.csv``, ``explain.graphml`` and ``explain.json`` have it.

    Raises:
        DataError: If a name is unknown, or the condition is the reference.
        RunError: If training is not complete, or the data are not those of the run any more.
        MissingExtraError: If a picture is asked for and matplotlib is not installed.
    """
    data, models = run.data(), models_of(run)
    if condition is None or readout is None:
        condition, readout = worst_fitted(run, data, condition, readout, against)
    with as_data_error():
        found = explain(models, data, run.standardiser(), condition, readout, against=against)
    with run.lock():
        found.write(run.path, fingerprint=run.info["data"]["fingerprint"], run=run.info["id"])
        if picture:
            write_picture(found.plot, run.path / picture)
    return found


def worst_fitted(
    run: Run, data: PerturbationData, condition: str | None, readout: str | None, against: str = UNTREATED
) -> tuple[str, str]:
    """What is explained if nothing is said: the readout with the lowest R2, where it is missed most.

    Both are taken from the held-out samples.

    Args:
        run: The run.
        data: Its data.
        condition: A condition, if the user named one.
        readout: A readout, likewise.
        against: The reference, which is not explained itself.

    Returns:
        Names of the condition and of the readout.

    Raises:
        DataError: If nothing is held out, so that both must be named.
    """
    from gsnn.training import predict

    fit = run.fit_report().readouts.dropna(subset=["model_r2"])
    names = [name_of(name) for name in data.graph.outputs]
    if readout is None:
        if not len(fit):
            raise DataError("the fit was not measured, so name the readout to explain (--readout)")
        readout = name_of(str(fit.sort_values("model_r2", kind="stable")["readout"].iloc[0]))
    if condition is not None or readout not in names:
        return condition or "0", readout
    rows = run.split().test
    predicted = run.standardiser().inverse_transform(predict(run.model(), data.x[rows]))
    column = names.index(readout)
    missed = np.abs(data.y[rows, column] - predicted[:, column])
    labels = condition_names(data.x[rows], data)
    missed[[label == against for label in labels]] = np.nan
    if not np.isfinite(missed).any():
        raise DataError("no held-out sample can be explained; name the condition (--condition)")
    return labels[int(np.nanargmax(missed))], readout
