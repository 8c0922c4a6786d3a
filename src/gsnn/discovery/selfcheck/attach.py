"""The precision to expect, beside the edges of a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from gsnn.base.arrays import FloatArray
from gsnn.base.errors import DataError
from gsnn.discovery.selfcheck.result import PRECISION_COLUMNS, SelfCheck


def attach_precision(
    table: pd.DataFrame,
    check: SelfCheck,
    method: str | None = None,
    *,
    score_col: str | None = None,
    missing: float | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Add the precision to expect to a table of edges.

    The candidate of rank k gets the expected precision among the k best, with its interval, and that of guessing.
    Known edges and undefined scores get NaN; where the interval is too wide only the expected precision is NaN.

    Args:
        table: Of an inferer's ``evaluate`` (every candidate of the whole prior graph), or of ``edges.csv`` (whose
            column ``rank`` is used, so that it may hold the best ones only).
        check: The self-check, on the same data and graph.
        method: Whose scores the table holds; None if the check has one method only.
        score_col: Column of the scores, where there is no ``rank``; None: ``corr`` or ``score``, whichever is there.
        missing: Share of the complete network that is missing; None: the share that was hidden.
        level: Coverage of the interval.

    Returns:
        A copy with the columns expected_precision, precision_low, precision_high, precision_chance and stated_fdr
        (replaced if they are there).

    Raises:
        DataError: If the table does not hold every candidate and has no ranks.
        ValueError: If the method was not checked, or more than one was and none is named.
    """
    if method is None:
        if len(check.methods) != 1:
            raise ValueError(f"method must be one of {check.methods}: the self-check has more than one")
        method = check.methods[0]
    rank = _candidate_ranks(table, int(check.settings["n_candidates"]), score_col)
    ranked = np.isfinite(rank)
    expected = check.precision(method, rank[ranked], missing=missing, level=level)
    result = table.drop(columns=[name for name in PRECISION_COLUMNS if name in table.columns])
    for name in PRECISION_COLUMNS:
        values = np.full(len(table), np.nan)
        values[ranked] = expected[name].to_numpy()
        result[name] = values
    return result


def _candidate_ranks(table: pd.DataFrame, n_candidates: int, score_col: str | None) -> FloatArray:
    """Rank of each row among all candidates; NaN for other rows and for those without a score."""
    score_col = score_col or next((name for name in ("corr", "score") if name in table.columns), None)
    if score_col is None or score_col not in table.columns:
        raise DataError(f"the table has no column of scores ({score_col or 'corr or score'}): {list(table.columns)}")
    score = table[score_col].to_numpy(dtype=np.float64)
    if "rank" in table.columns:
        ranks = table["rank"].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
        return np.asarray(np.where(np.isnan(score), np.nan, ranks), dtype=np.float64)
    known = next((name for name in ("has_edge", "known") if name in table.columns), None)
    candidate = np.ones(len(table), bool) if known is None else ~table[known].to_numpy(dtype=bool)
    if {"src_idx", "dst_idx"} <= set(table.columns):
        candidate &= (table["src_idx"] != table["dst_idx"]).to_numpy()
    if int(candidate.sum()) != n_candidates:
        raise DataError(
            f"the table holds {int(candidate.sum())} candidates, but the self-check was made on {n_candidates}; pass "
            "the whole table of the same graph, or one with a column 'rank'"
        )
    rank: FloatArray = np.full(len(table), np.nan)
    defined = candidate & ~np.isnan(score)
    # Tied candidates get the same rank, the last of their tie.
    rank[defined] = rankdata(-score[defined], method="max")
    return rank
