"""One result table and one ranking for every inferer.

Pairs (i, j) of a source and a target are addressed by the row i * N + j, so a table of all of them and a table of
the best few are built by the same columns from different rows. The order is by score, highest first, NaN last, and
among equals by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.edges._prior import PriorEdges, match_nodes
from gsnn.stats import descending, largest

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Column = Callable[[IntArray], npt.NDArray[np.generic]]
Nodes = str | list[str] | tuple[str, ...]


@dataclass(frozen=True)
class ScoredPairs:
    """Scores of all ordered pairs, and how to compute the other columns for some of them.

    Attributes:
        prior: Names and known edges.
        score: (N, N), NaN where undefined.
        score_name: Column name of the score.
        columns: Further columns by name, in order; each maps rows (K,) to values (K,).
    """

    prior: PriorEdges
    score: FloatArray
    score_name: str
    columns: Mapping[str, Column] = field(default_factory=dict)

    def table(self, rows: IntArray) -> pd.DataFrame:
        """The table of the given rows, in their order.

        Args:
            rows: (K,) pairs, i * N + j.

        Returns:
            A frame with columns src_func, dst_func (categoricals), src_idx, dst_idx, the score, has_edge, and the
            further columns.
        """
        n = self.prior.N
        src, dst = (side.astype(np.int32) for side in np.divmod(rows, n))
        categories = pd.Index(self.prior.names, dtype=object)
        values: dict[str, object] = {
            "src_func": pd.Categorical.from_codes(src, categories=categories),
            "dst_func": pd.Categorical.from_codes(dst, categories=categories),
            "src_idx": src,
            "dst_idx": dst,
            self.score_name: self.score.ravel()[rows],
            "has_edge": self.prior.matrix().ravel()[rows],
        }
        for name, column in self.columns.items():
            values[name] = column(rows)
        return pd.DataFrame(values, copy=False)

    def all_rows(self, *, exclude_self: bool = True) -> IntArray:
        """Every pair, ranked; without the diagonal unless asked for it."""
        order = descending(self.score.ravel())
        if exclude_self:
            order = order[order % (self.prior.N + 1) != 0]
        return order

    def top_rows(
        self,
        k: int | None,
        *,
        per_target: int | None = None,
        exclude_known: bool = True,
        sources: Nodes | None = None,
        targets: Nodes | None = None,
    ) -> IntArray:
        """The best pairs, ranked; never the diagonal, never an undefined score.

        Args:
            k: At most this many in all; None for no limit.
            per_target: At most this many for each target, chosen before ``k`` applies.
            exclude_known: Leave out known edges.
            sources: Names or glob patterns of the sources allowed.
            targets: The same for targets.

        Returns:
            (K,) rows.

        Raises:
            ValueError: If ``k`` or ``per_target`` is negative, or a name matches no node.
        """
        for name, value in (("k", k), ("per_target", per_target)):
            if value is not None and value < 0:
                raise ValueError(f"{name} must be at least 0 or None, got {value}")
        n = self.prior.N
        score = np.where(np.isnan(self.score), -np.inf, self.score)
        np.fill_diagonal(score, -np.inf)
        if exclude_known:
            score[self.prior.pairs[0], self.prior.pairs[1]] = -np.inf
        if sources is not None:
            score[~match_nodes(self.prior.names, sources, "sources")] = -np.inf
        if targets is not None:
            score[:, ~match_nodes(self.prior.names, targets, "targets")] = -np.inf
        if per_target is not None and per_target < n:
            # A stable sort of the negated columns keeps the first sources among equals.
            best = np.argsort(-score, axis=0, kind="stable")[:per_target]
            rows = np.sort((best * n + np.arange(n)).ravel())
        else:
            rows = largest(score.ravel(), score.size if k is None else k)
        rows = rows[score.ravel()[rows] > -np.inf]
        return rows[descending(score.ravel()[rows])][:k]
