"""Which candidate edges of a scored table count as true."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gsnn.base.errors import check_option

STRATEGIES = ("fdr", "topk_per_target")


def mine_edges(
    table: pd.DataFrame, score_col: str, strategy: str, *, fdr_alpha: float = 0.05, top_k_per_target: int = 5
) -> pd.DataFrame:
    """Rows of the candidates that count as true, by falling score; never undefined ones, self-edges or known edges.

    'fdr' takes q_value <= ``fdr_alpha``, 'topk_per_target' the ``top_k_per_target`` best sources of each target. The
    table has columns src_idx, dst_idx, has_edge, ``score_col`` and, for 'fdr', q_value; of equal scores the first row
    counts as the better.

    Raises:
        ValueError: If ``strategy`` is unknown.

    Example:
        >>> table = pd.DataFrame({"src_idx": [0, 1, 2], "dst_idx": [2, 2, 1], "has_edge": [False, False, True],
        ...                       "corr": [0.9, 0.5, 0.7], "q_value": [0.01, 0.3, float("nan")]})
        >>> mine_edges(table, "corr", "fdr")["src_idx"].tolist()
        [0]
        >>> mine_edges(table, "corr", "topk_per_target", top_k_per_target=2)["src_idx"].tolist()
        [0, 1]
    """
    check_option("mining_strategy", strategy, STRATEGIES)
    usable = table[score_col].notna() & (table["src_idx"] != table["dst_idx"]) & ~table["has_edge"].astype(bool)
    if strategy == "fdr":
        # A missing q is no discovery: NaN <= alpha is False.
        usable &= table["q_value"].to_numpy(dtype=np.float64) <= fdr_alpha
    ranked = table[usable].sort_values(score_col, ascending=False, kind="stable")
    return ranked if strategy == "fdr" else ranked.groupby("dst_idx", sort=False).head(top_k_per_target)
