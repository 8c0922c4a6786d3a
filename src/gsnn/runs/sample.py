"""Samples of a run in memory, also where not all of them would fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gsnn.runs.info import RUN, reading

if TYPE_CHECKING:
    from gsnn.data import PerturbationData, Split
    from gsnn.data.drawn import Drawn
    from gsnn.runs.folder import Run
    from gsnn.training import TrainConfig


def run_sample(run: Run, n: int | None = None, seed: int = 0, part: str | None = None) -> PerturbationData:
    """Samples of a run, in memory: all of them, or some of those that stay in their files, drawn at random.

    Args:
        run: The run; its training has begun.
        n: How many, at most; None takes 2,000 of samples that stay in their files, and all of others.
        seed: Of the draw.
        part: ``"train"``, ``"validation"`` or ``"test"`` to draw from that part; None draws from all three.

    Returns:
        The data. ``drawn`` says how many of how many they are; None where they are all of a run in memory.

    Raises:
        DataError: If ``n`` is too small.
        RunError: If a file changed or is gone, the data were made in memory, or the training has not begun.
    """
    from gsnn.data.split import PARTS

    sources = run.sources
    if n is None and part is None and not sources.streamed:
        return run.data()
    split = run.split()
    rows = np.concatenate([getattr(split, name) for name in (PARTS if part is None else (part,))])
    with reading(run.path / RUN, "sources"):
        sources.check()
        data = sources.sample(n, seed, rows)
    assert data.drawn is not None  # rows were given
    return replace(data, drawn=replace(data.drawn, fingerprint=run.info["data"]["fingerprint"]))


def run_parts(run: Run) -> tuple[PerturbationData, Split]:
    """The samples of a run in memory, and which of them trained and which tested it.

    Of samples that stay in their files up to 2,000 of the training part are drawn, and as many of the test part.

    Returns:
        The data, as of :func:`run_sample`, and their split; of drawn samples without a validation part.

    Raises:
        RunError: As of :func:`run_sample`.
    """
    import pandas as pd

    from gsnn.data import Split
    from gsnn.data.drawn import Drawn

    if not run.sources.streamed:
        return run.data(), run.split()
    whole = run.split()
    train = run_sample(run, part="train")
    if len(whole.test) < Drawn.FEWEST:
        return train, Split(np.arange(len(train)), *(np.zeros(0, dtype=np.int64),) * 2, whole.by)
    test = run_sample(run, part="test")
    assert train.drawn is not None
    assert test.drawn is not None
    n, total = len(train) + len(test), train.drawn.of + test.drawn.of
    data = replace(
        train,
        inputs=pd.concat([train.inputs, test.inputs], ignore_index=True),
        outputs=pd.concat([train.outputs, test.outputs], ignore_index=True),
        drawn=replace(train.drawn, used=n, of=total),
    )
    rows = np.arange(n)
    return data, Split(rows[: len(train)], rows[:0], rows[len(train) :], whole.by)


def sample_notes(data: PerturbationData) -> list[str]:
    """A note on results from a part of the samples; none where all of them are used."""
    return [data.drawn.note] if data.drawn is not None and data.drawn.partial else []


def as_many_steps(config: TrainConfig, drawn: Drawn | None, settings: Mapping[str, Any] | None = None) -> TrainConfig:
    """The configuration with epochs for as many steps on a part of the samples, but no more than by default.

    It stays as it is where all samples are used or the ``settings`` that were asked for say how many epochs.
    """
    from gsnn.training import TrainConfig

    if drawn is None or not drawn.partial or (settings or {}).get("epochs") is not None:
        return config
    most = max(config.epochs, TrainConfig().epochs)
    return replace(config, epochs=min(most, math.ceil(config.epochs * drawn.of / drawn.used)))
