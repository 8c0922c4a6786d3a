"""Known edges, and the result table and the ranking of pairs that all inferers share.

A pair (i, j) of a source and a target has the row i * T + j, so a table of all pairs and a table of the best few are
built by the same columns from different rows. The order is by score, highest first, NaN last, equal scores by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.base.errors import closest
from gsnn.base.progress import track
from gsnn.edges.stats import descending, largest
from gsnn.graph.checks import check_index
from gsnn.graph.kinds import FUNCTION_EDGES, edge_type

FloatMatrix = npt.NDArray[np.floating]
Column = Callable[[IntArray], npt.NDArray[np.generic]]
Nodes = str | list[str] | tuple[str, ...]

# Pairs that are searched for the best at a time.
_CHUNK = 1 << 22


class PriorEdges:
    """Names of the nodes that edges of a kind may join, and the known edges.

    Args:
        data: HeteroData-like: has ``edge_index_dict`` and ``node_names_dict``.
        kind: One of :data:`gsnn.graph.KINDS`.

    Attributes:
        kind: The kind.
        names: The N function nodes.
        sources: The S nodes that edges come from.
        targets: The T nodes that they lead to.
        pairs: int64 (2, E), the known edges by number, each once.
        edges: The same by name.
        parents: For each target the int64 array of its known sources; never itself.

    Raises:
        TypeError: If ``data`` lacks one of the two dictionaries.
        ValueError: If there are no function nodes, two have the same name, or an edge points outside.

    Example:
        >>> from gsnn.graph import Graph
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> PriorEdges(graph).edges, PriorEdges(graph, "input->function").edges
        ([('a', 'b')], [('x', 'a')])
    """

    def __init__(self, data: Any, kind: str = FUNCTION_EDGES) -> None:  # noqa: ANN401 - anything HeteroData-like
        for attribute in ("edge_index_dict", "node_names_dict"):
            if not hasattr(data, attribute):
                raise TypeError(f"data must be a Graph or HeteroData-like with {attribute}, got {type(data).__name__}")
        self.kind = kind
        self.names: list[str] = list(data.node_names_dict.get("function", ()))
        self.N = len(self.names)
        if self.N == 0:
            raise ValueError("data has no function nodes: there are no edges to infer")
        if len(set(self.names)) != self.N:
            raise ValueError("data has function nodes of the same name; names must be unique")
        type_ = edge_type(kind)
        names = {end: tuple(data.node_names_dict.get(end, ())) for end in (type_[0], type_[2])}
        self.sources, self.targets = list(names[type_[0]]), list(names[type_[2]])
        pairs = check_index(type_, data.edge_index_dict.get(type_), names)
        # Parallel edges are one edge here, at the place of the first.
        _, first = np.unique(self.rows(*pairs), return_index=True)
        self.pairs = pairs[:, np.sort(first)]
        self.edges: list[tuple[str, str]] = [
            (self.sources[i], self.targets[j]) for i, j in zip(*self.pairs.tolist(), strict=True)
        ]
        source, target = self.pairs
        if self.square:
            # A self-edge does not make a node its own parent: scores are conditioned on the other parents of a target.
            source, target = self.pairs[:, source != target]
        counts = np.bincount(target, minlength=len(self.targets))
        self.parents: list[npt.NDArray[np.int64]] = np.split(
            source[np.lexsort((source, target))], np.cumsum(counts)[:-1]
        )

    @property
    def index(self) -> dict[str, int]:
        """Number of each function node."""
        return {name: i for i, name in enumerate(self.names)}

    @property
    def square(self) -> bool:
        """Whether sources and targets are the same nodes, so that self pairs are no candidates."""
        return self.kind == FUNCTION_EDGES

    def rows(self, source: IntArray, target: IntArray) -> IntArray:
        """Pairs as rows i * T + j."""
        return source * len(self.targets) + target

    def matrix(self) -> npt.NDArray[np.bool_]:
        """(S, T) bool, True at known edges (source, target)."""
        known = np.zeros((len(self.sources), len(self.targets)), dtype=bool)
        known[self.pairs[0], self.pairs[1]] = True
        return known

    def candidates(self, targets: range | None = None) -> npt.NDArray[np.bool_]:
        """(S, len(targets)) bool, True for the pairs that are no known edge and no self pair; None: all targets."""
        chosen = range(len(self.targets)) if targets is None else targets
        known = np.zeros((len(self.sources), len(chosen)), dtype=bool)
        inside = (self.pairs[1] >= chosen.start) & (self.pairs[1] < chosen.stop)
        known[self.pairs[0][inside], self.pairs[1][inside] - chosen.start] = True
        if self.square:
            known[np.arange(chosen.start, chosen.stop), np.arange(len(chosen))] = True
        return ~known

    def has_edge(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which pairs i * T + j (K,) are known edges."""
        if len(rows) > len(self.sources) * len(self.targets) // 64:
            return self.matrix().ravel()[rows]
        known: npt.NDArray[np.bool_] = np.isin(rows, self.rows(*self.pairs))
        return known


def column_of(matrix: npt.NDArray[Any]) -> Column:
    """The column that reads its values from a matrix (S, T)."""
    return lambda rows: matrix.ravel()[rows]


def undefined_column(rows: IntArray) -> FloatArray:
    """A column of NaN."""
    return np.full(len(rows), np.nan)


@dataclass(frozen=True)
class ScoredPairs:
    """Scores of all ordered pairs, and how to compute the other columns for some of them.

    Attributes:
        prior: Names and known edges.
        score: (S, T), NaN where undefined; float32 above 4,096 nodes. Where processes share the targets, T counts those
            of this process.
        score_name: Column name of the score.
        columns: Further columns by name, in order; each maps rows (K,) to values (K,).
        first: Index of the first target; rows are i * T + (j - first).
        notes: What a reader of the scores should know.
    """

    prior: PriorEdges
    score: FloatMatrix
    score_name: str = "score"
    columns: Mapping[str, Column] = field(default_factory=dict)
    first: int = 0
    notes: Sequence[str] = ()

    def places(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Sources and targets (K,) of rows (K,)."""
        source, target = np.divmod(rows, self.score.shape[1])
        return source, target + self.first

    def table(self, rows: IntArray) -> pd.DataFrame:
        """The table of the given rows, in their order.

        Args:
            rows: (K,) pairs, i * T + j where no targets are left out.

        Returns:
            A frame with columns src_func, dst_func (categoricals), src_idx, dst_idx, the score, has_edge, and the
            further columns.
        """
        source, target = self.places(rows)
        src, dst = source.astype(np.int32), target.astype(np.int32)
        sources = targets = pd.Index(self.prior.sources, dtype=object)
        if not self.prior.square:
            targets = pd.Index(self.prior.targets, dtype=object)
        values: dict[str, object] = {
            "src_func": pd.Categorical.from_codes(src, categories=sources),
            "dst_func": pd.Categorical.from_codes(dst, categories=targets),
            "src_idx": src,
            "dst_idx": dst,
            self.score_name: self.score.ravel()[rows].astype(np.float64, copy=False),
            "has_edge": self.prior.has_edge(self.prior.rows(source, target)),
        }
        for name, column in track(self.columns.items(), "columns", show=None):
            values[name] = column(rows)
        return pd.DataFrame(values, copy=False)

    def all_rows(self, *, exclude_self: bool = True) -> IntArray:
        """Every pair, ranked; without the diagonal unless ``exclude_self`` is False."""
        order = descending(self.score.ravel().astype(np.float64, copy=False))
        if not (exclude_self and self.prior.square):
            return order
        if self.score.shape[1] == self.prior.N:
            order = order[order % (self.prior.N + 1) != 0]
        else:
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
        """Rows (K,) of the best pairs, ranked; arguments and errors are those of :meth:`EdgeScores.top_edges`."""
        for name, value in (("k", k), ("per_target", per_target)):
            if value is not None and value < 0:
                raise ValueError(f"{name} must be at least 0 or None, got {value}")
        source_type, _, target_type = edge_type(self.prior.kind)
        allowed = [
            None if patterns is None else match_nodes(names, patterns, name, node)
            for patterns, name, names, node in (
                (sources, "sources", self.prior.sources, source_type),
                (targets, "targets", self.prior.targets, target_type),
            )
        ]
        if per_target is not None and per_target < len(self.prior.sources):
            rows = self._best_of_targets(per_target, exclude_known, *allowed)
        else:
            rows = self._best(self.score.size if k is None else k, exclude_known, *allowed)
        return rows[descending(self.score.ravel()[rows].astype(np.float64, copy=False))][:k]

    def _best(self, k: int, exclude_known: bool, sources: BoolArray | None, targets: BoolArray | None) -> IntArray:
        """The k best pairs, ascending, from blocks of sources."""
        n, n_targets = self.score.shape
        best, values = np.zeros(0, np.int64), np.zeros(0, self.score.dtype)
        # Small blocks for few pairs: the best of the first blocks leave little to look at in the others.
        step = max(1, min(_CHUNK, max(_CHUNK >> 5, 16 * k)) // max(n_targets, 1))
        for start in range(0, n, step):
            block = slice(start, min(start + step, n))
            score = self._masked(block, slice(0, n_targets), exclude_known, sources, targets).ravel()
            # A later row wins over an earlier one only if it is better.
            floor = values.min() if k and len(values) == k else -np.inf
            rows = np.flatnonzero(score > floor)
            rows = rows[largest(score[rows], k)]
            values, best = np.concatenate([values, score[rows]]), np.concatenate([best, rows + start * n_targets])
            if len(best) > k:
                kept = largest(values, k)
                values, best = values[kept], best[kept]
        return best

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
        """A block of scores with minus infinity at pairs that are no candidates."""
        part = self.score[rows, columns]
        score = np.where(np.isnan(part), -np.inf, part).astype(self.score.dtype, copy=False)
        if self.prior.square:
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


def checked_targets(targets: range | None, n_nodes: int) -> range:
    """The range of targets of an inferer; all of them for None.

    Raises:
        ValueError: If it is empty, has a step, or leaves the nodes.

    Example:
        >>> checked_targets(None, 3)
        range(0, 3)
    """
    chosen = range(n_nodes) if targets is None else targets
    if chosen.step != 1 or not 0 <= chosen.start < chosen.stop <= n_nodes:
        raise ValueError(f"targets must be a range of nodes within 0..{n_nodes}, not empty, got {chosen}")
    return chosen


def match_nodes(
    names: Sequence[str], patterns: str | list[str] | tuple[str, ...], parameter: str, node: str = "function"
) -> npt.NDArray[np.bool_]:
    """Which of N nodes match names or glob patterns (``*``, ``?``, ``[...]``); an exact name wins over a pattern.

    Errors name the ``parameter`` and the type of the ``node``.

    Raises:
        ValueError: If a name or pattern matches no node; near misses are suggested.

    Example:
        >>> match_nodes(["akt", "erk1", "erk2"], ["erk*"], "sources")
        array([False,  True,  True])
    """
    chosen = np.zeros(len(names), dtype=bool)
    position = {name: i for i, name in enumerate(names)}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if pattern in position:
            chosen[position[pattern]] = True
            continue
        hits = [i for i, name in enumerate(names) if fnmatchcase(name, pattern)]
        if not hits:
            near = closest(pattern, names)
            hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
            raise ValueError(f"{parameter}: no {node} node is called or matches {pattern!r}{hint}")
        chosen[hits] = True
    return chosen


def edge_indices(edges: Iterable[Any], index: Mapping[str, int], parameter: str) -> npt.NDArray[np.int64]:
    """Indices (2, K) of edges given as (source, target) names; errors name the ``parameter``.

    Raises:
        ValueError: If an edge is no pair or a name is unknown; near misses are suggested.

    Example:
        >>> edge_indices([("b", "a")], {"a": 0, "b": 1}, "edges")
        array([[1],
               [0]])
    """
    pairs = list(edges)
    wrong = [pair for pair in pairs if isinstance(pair, str) or len(pair) != 2]
    if wrong:
        raise ValueError(f"{parameter} must be (source, target) pairs of names, got {wrong[:3]}")
    unknown = sorted({str(end) for pair in pairs for end in pair if end not in index})
    if unknown:
        near = closest(unknown[0], index)
        hint = f"; the closest to {unknown[0]!r} are {near}" if near else ""
        raise ValueError(f"{parameter} names unknown function nodes: {unknown[:5]}{hint}")
    return np.array([[index[s], index[t]] for s, t in pairs], dtype=np.int64).reshape(-1, 2).T
