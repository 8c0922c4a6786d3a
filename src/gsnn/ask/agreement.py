"""Rankings by several models: their average, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gsnn.base.arrays import FloatArray
from gsnn.edges.pairs import Column, ScoredPairs

TOP = 10
"""How many of the best candidates are compared."""


def pair_ranks(scored: ScoredPairs) -> FloatArray:
    """(S, T) rank of each pair among the candidates, 1 is best; NaN where the score is NaN.

    Tied pairs share the mean of their ranks. A known edge is no candidate; it gets the rank that its score would have.
    """
    score = scored.score.astype(np.float64)
    candidates = np.sort(score[scored.prior.candidates()])
    n = np.count_nonzero(~np.isnan(candidates))  # NaN is sorted last
    above, at_least = (n - np.searchsorted(candidates[:n], score, side) for side in ("right", "left"))
    return np.where(np.isnan(score), np.nan, (above + at_least + 1) / 2)


def average_ranks(members: Sequence[ScoredPairs]) -> ScoredPairs:
    """Average the rankings of several models, each of which scored all pairs.

    The score is one over the geometric mean of the ranks, so that ranks near the top count most. Further columns are
    the sign that most models give, and ``worst_rank``, the worst rank by any model. p-values are left out, because
    they are of single models.

    Args:
        members: By the same method on the same graph.
    """
    first = members[0]
    ranks = np.stack([pair_ranks(scored) for scored in members])
    score = np.exp(-np.log(ranks).mean(axis=0))
    worst = ranks.max(axis=0).ravel()
    columns: dict[str, Column] = {}
    if all("sign" in scored.columns for scored in members):
        columns["sign"] = lambda rows: np.sign(
            np.sum([np.asarray(scored.columns["sign"](rows), np.int64) for scored in members], axis=0)
        ).astype(np.int8)
    columns["worst_rank"] = lambda rows: worst[rows]
    notes = list(dict.fromkeys(note for scored in members for note in scored.notes))
    return ScoredPairs(first.prior, score, first.score_name, columns, notes=notes)


def agreement(edges: pd.DataFrame, members: int, top: int = TOP) -> dict[str, int]:
    """Count the ``top`` best candidates that every model has among its ``2 * top`` best.

    Args:
        edges: A table with the columns ``rank`` and ``worst_rank``.
        members: How many models there are.
        top: How many candidates to look at.

    Returns:
        ``members``, ``top`` (fewer if there are fewer candidates), and how many of them are ``in_all``.

    Example:
        >>> agreement(pd.DataFrame({"rank": [1, 2, 3], "worst_rank": [2, 9, 5]}), members=5, top=2)
        {'members': 5, 'top': 2, 'in_all': 1}
    """
    best = edges[(edges["rank"] <= top).fillna(False).to_numpy(bool)]
    top = min(top, len(best))
    return {"members": members, "top": top, "in_all": int((best["worst_rank"] <= 2 * top).sum())}
