"""Knock out functions in the models of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gsnn.ask.conditions import inputs_of
from gsnn.ask.ensemble import Ensemble
from gsnn.ask.knockouts import DEFAULT_STATE, PICTURE, Knockouts, knockout
from gsnn.base.errors import as_data_error
from gsnn.plot.files import write_picture
from gsnn.runs.members import models_of
from gsnn.runs.sample import run_parts, sample_notes

if TYPE_CHECKING:
    from gsnn.runs.folder import Run


def knockout_run(
    run: Run,
    nodes: Sequence[str] | None = None,
    *,
    pairs: bool = False,
    to: str = DEFAULT_STATE,
    conditions: Sequence[str] = (),
    picture: str = PICTURE,
    progress: bool = False,
) -> Knockouts:
    """Predict what knocking out functions does, written into the folder of the run.

    ``conditions`` are names, as :func:`gsnn.ask.conditions.inputs_of` reads them (none: those of the data, or of a part
    of samples that stay in their files). ``nodes``, ``pairs`` and ``to`` are those of :func:`gsnn.ask.knockout`; for
    the other arguments see :mod:`gsnn.runs`.

    Returns:
        The outcome, as ``knockout.csv`` and ``knockout.json`` have it.
    """
    (data, split), models = run_parts(run), models_of(run)
    with as_data_error():
        inputs = np.stack([inputs_of(text, data) for text in conditions]) if conditions else None
        result = knockout(
            models,
            data,
            run.standardiser(),
            nodes,
            pairs=pairs,
            to=to,
            train=split.train,
            conditions=inputs,
            calibration=Ensemble.of(run).calibration if run.n_members else None,
            progress=progress,
        )
    result.notes.extend(sample_notes(data))
    with run.lock():
        result.write(run.path, fingerprint=run.info["data"]["fingerprint"], run=run.info["id"])
        if picture:
            write_picture(result.plot, run.path / picture)
    return result
