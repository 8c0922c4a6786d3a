"""Rankings with at most so many edges of a target, and of a source, before all others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gsnn.base.arrays import BoolArray, FloatArray


def chosen_pairs(score: FloatArray, per_target: int | None, per_source: int | None) -> BoolArray:
    """Pairs that are chosen by going down the ranking and skipping those whose target or source is full.

    Because both ends rank pairs by the same score, this is the only stable matching of targets and sources. It is found
    in rounds of proposals, without a loop over the N^2 pairs.

    Args:
        score: (N, N), NaN where a pair cannot be chosen; ties in the order of the pairs.
        per_target: At most this many of a target; None: no limit.
        per_source: The same for a source.

    Returns:
        (N, N).

    Raises:
        ValueError: If a limit is below 1.

    Example:
        >>> chosen_pairs(np.array([[np.nan, 3.0, 2.0], [0.0, np.nan, 1.0]]), 1, 1).astype(int).tolist()
        [[0, 1, 0], [0, 0, 1]]
    """
    for name, value in (("per_target", per_target), ("per_source", per_source)):
        if value is not None and (isinstance(value, bool) or value < 1):
            raise ValueError(f"{name} must be at least 1 or None, got {value}")
    n_sources, n_targets = score.shape
    limit = n_sources if per_target is None else min(per_target, n_sources)
    room = n_targets if per_source is None else min(per_source, n_targets)
    # Ranks have no ties, so every comparison has an answer.
    order = np.argsort(np.where(np.isnan(score), np.inf, -score), axis=None, kind="stable")
    places = np.empty(score.size, dtype=np.int64)
    places[order] = np.arange(score.size)
    rank = places.reshape(score.shape)
    never = score.size
    rank[np.isnan(score)] = never
    while True:
        held = _best(rank, limit, never, axis=0)
        kept = _best(np.where(held, rank, never), room, never, axis=1)
        refused = held & ~kept
        if not refused.any():
            return held
        # A source that is full has better offers than these and keeps them, so these are refused for good.
        rank[refused] = never


def _best(rank: npt.NDArray[np.int64], k: int, never: int, axis: int) -> BoolArray:
    """The k lowest ranks along an axis."""
    if k >= rank.shape[axis]:
        return rank < never
    edge = np.expand_dims(np.partition(rank, k - 1, axis=axis).take(k - 1, axis=axis), axis)
    return (rank <= edge) & (rank < never)


def capped(score: FloatArray, per_target: int | None, per_source: int | None) -> FloatArray:
    """Scores (N, N) in which the pairs beyond the limits of :func:`chosen_pairs` follow all others, in their order."""
    if per_target is None and per_source is None:
        return score
    chosen = chosen_pairs(score, per_target, per_source)
    beyond = ~chosen & ~np.isnan(score)
    if not chosen.any() or not beyond.any():
        return score
    # Lower them until the best of them comes after the worst chosen one.
    drop = max(float(score[beyond].max() - score[chosen].min()), 0.0) + 1.0
    return np.where(beyond, score - drop, score)
