"""Samples of a run in memory, also where all of them would not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gsnn.runs.info import RUN, reading

if TYPE_CHECKING:
    from gsnn.data import PerturbationData
    from gsnn.runs.folder import Run


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
