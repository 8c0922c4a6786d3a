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

from gsnn.base.progress import track
from gsnn.edges.prior import PriorEdges, match_nodes
from gsnn.edges.stats import descending, largest

FloatMatrix = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Column = Callable[[IntArray], npt.NDArray[np.generic]]
Nodes = str | list[str] | tuple[str, ...]

# Pairs looked through at a time when choosing the best.
_CHUNK = 1 << 22


@dataclass(frozen=True)
class ScoredPairs:
    """Scores of all ordered pairs, and how to compute the other columns for some of them.

    Attributes:
        prior: Names and known edges.
        score: (N, T), NaN where undefined; float32 above 4,096 nodes. T is N, except where processes share the targets.
        score_name: Column name of the score.
        columns: Further columns by name, in order; each maps rows (K,) to values (K,).
        first: Index of the first target; rows are i * T + (j - first).
    """

    prior: PriorEdges
    score: FloatMatrix
    score_name: str
    columns: Mapping[str, Column] = field(default_factory=dict)
    first: int = 0

    def places(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Sources and targets (K,) of rows (K,)."""
        source, target = np.divmod(rows, self.score.shape[1])
        return source, target + self.first

    def table(self, rows: IntArray) -> pd.DataFrame:
        """The table of the given rows, in their order.

        Args:
            rows: (K,) pairs, i * N + j where all targets are here.

        Returns:
            A frame with columns src_func, dst_func (categoricals), src_idx, dst_idx, the score, has_edge, and the
            further columns.
        """
        source, target = self.places(rows)
        src, dst = source.astype(np.int32), target.astype(np.int32)
        categories = pd.Index(self.prior.names, dtype=object)
        values: dict[str, object] = {
            "src_func": pd.Categorical.from_codes(src, categories=categories),
            "dst_func": pd.Categorical.from_codes(dst, categories=categories),
            "src_idx": src,
            "dst_idx": dst,
            self.score_name: self.score.ravel()[rows].astype(np.float64, copy=False),
            "has_edge": self.prior.has_edge(source * self.prior.N + target),
        }
        for name, column in track(self.columns.items(), "columns", show=None):
            values[name] = column(rows)
        return pd.DataFrame(values, copy=False)

    def all_rows(self, *, exclude_self: bool = True) -> IntArray:
        """Every pair, ranked; without the diagonal unless asked for it."""
        order = descending(self.score.ravel().astype(np.float64, copy=False))
        if exclude_self and self.score.shape[1] == self.prior.N:
            order = order[order % (self.prior.N + 1) != 0]
        elif exclude_self:
            order = order[np.not_equal(*self.places(order))]
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
        wanted = [
            None if given is None else match_nodes(self.prior.names, given, name)
            for given, name in ((sources, "sources"), (targets, "targets"))
        ]
        if per_target is not None and per_target < n:
            rows = self._best_of_targets(per_target, exclude_known, *wanted)
        else:
            rows = self._best(self.score.size if k is None else k, exclude_known, *wanted)
        return rows[descending(self.score.ravel()[rows].astype(np.float64, copy=False))][:k]

    def _best(self, k: int, exclude_known: bool, sources: BoolArray | None, targets: BoolArray | None) -> IntArray:
        """The k best pairs, ascending, from blocks of sources."""
        n, n_targets = self.score.shape
        found, values = np.zeros(0, np.int64), np.zeros(0, self.score.dtype)
        step = max(1, _CHUNK // max(n_targets, 1))
        for start in range(0, n, step):
            block = slice(start, min(start + step, n))
            score = self._masked(block, slice(0, n_targets), exclude_known, sources, targets).ravel()
            # A later row wins over an earlier one only if it is better.
            floor = values.min() if k and len(values) == k else -np.inf
            rows = np.flatnonzero(score > floor)
            rows = rows[largest(score[rows], k)]
            values, found = np.concatenate([values, score[rows]]), np.concatenate([found, rows + start * n_targets])
            if len(found) > k:
                kept = largest(values, k)
                values, found = values[kept], found[kept]
        return found

    def _best_of_targets(
        self, k: int, exclude_known: bool, sources: BoolArray | None, targets: BoolArray | None
    ) -> IntArray:
        """The k best pairs of each target, ascending, from blocks of targets."""
        n, n_targets = self.score.shape
        step = max(1, _CHUNK // n)
        parts = [np.zeros(0, np.int64)]
        for start in range(0, n_targets, step):
            block = slice(start, min(start + step, n_targets))
            score = self._masked(slice(0, n), block, exclude_known, sources, targets)
            # A stable sort of the negated columns keeps the first sources among equals.
            best = np.argsort(-score, axis=0, kind="stable")[:k]
            rows = best * n_targets + np.arange(block.start, block.stop)
            parts.append(rows[np.take_along_axis(score, best, axis=0) > -np.inf])
        return np.sort(np.concatenate(parts))

    def _masked(
        self,
        rows: slice,
        columns: slice,
        exclude_known: bool,
        sources: BoolArray | None,
        targets: BoolArray | None,
    ) -> FloatMatrix:
        """A block of scores with minus infinity at whatever is no candidate."""
        part = self.score[rows, columns]
        score = np.where(np.isnan(part), -np.inf, part).astype(self.score.dtype, copy=False)
        i, j = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)
        score[i == j + self.first] = -np.inf
        if exclude_known:
            source, target = self.prior.pairs[0], self.prior.pairs[1] - self.first
            inside = (source >= rows.start) & (source < rows.stop) & (target >= columns.start) & (target < columns.stop)
            score[source[inside] - rows.start, target[inside] - columns.start] = -np.inf
        if sources is not None:
            score[~sources[rows]] = -np.inf
        if targets is not None:
            score[:, ~targets[self.first :][columns]] = -np.inf
        return score
