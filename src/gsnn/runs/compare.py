"""Compare the inferred edges of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gsnn.base.errors import RunError

if TYPE_CHECKING:
    from gsnn.ask.comparison import Comparison
    from gsnn.runs.folder import Run


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """Compare the inferred tables of runs pair by pair, find the candidates high in all, and list their fits.

    Args:
        runs: At least two, each after ``gsnn infer``.

    Raises:
        DataError: If there are fewer than two, or they have no candidate in common.
        RunError: If one of them has no table of edges, is given twice, or is not complete.
    """
    from gsnn.ask.comparison import compare

    names = [str(run.path) for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RunError(f"{twice[0]} was given twice; give each run once")
    tables = {name: run.edges() for name, run in zip(names, runs, strict=True)}
    fits = {name: dict(run.fit_report().correlation) for name, run in zip(names, runs, strict=True)}
    return compare(tables, fits)
