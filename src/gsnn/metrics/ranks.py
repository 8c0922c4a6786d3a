"""Ranks of true edges among the candidates of their target or source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import digamma

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import check_option
from gsnn.metrics.edges import as_index
from gsnn.metrics.scores import as_scores

Ties = Literal["realistic", "optimistic", "pessimistic"]
Within = Literal["target", "source"]


@dataclass(frozen=True)
class Ranks:
    """Where each of Q queries stands among its candidates.

    Attributes:
        better: Candidates that score higher, shape (Q,).
        tied: Other candidates with the same score, shape (Q,).
        n_candidates: Candidates, the query itself included, shape (Q,).

    Example:
        >>> ranks = Ranks(better=np.array([0, 1]), tied=np.array([0, 2]), n_candidates=np.array([4, 4]))
        >>> ranks.rank("optimistic").tolist(), ranks.rank("pessimistic").tolist(), ranks.rank().tolist()
        ([1.0, 2.0], [1.0, 4.0], [1.0, 3.0])
    """

    better: IntArray
    tied: IntArray
    n_candidates: IntArray

    def __len__(self) -> int:
        return len(self.better)

    def take(self, rows: npt.NDArray[Any]) -> Ranks:
        """The ranks of some of the queries."""
        return Ranks(self.better[rows], self.tied[rows], self.n_candidates[rows])

    def rank(self, ties: Ties = "realistic") -> FloatArray:
        """Rank of each query, 1 the best.

        Args:
            ties: 'optimistic': before its ties; 'pessimistic': after them; 'realistic': in the middle (the average
                rank, which is the expectation over random orders).

        Returns:
            Shape (Q,).

        Raises:
            ValueError: If ``ties`` is none of these.
        """
        share = {"optimistic": 0.0, "realistic": 0.5, "pessimistic": 1.0}[_ties(ties)]
        return self.better + 1 + share * self.tied

    def reciprocal(self, ties: Ties = "realistic") -> FloatArray:
        """Reciprocal rank of each query; 'realistic' is its expectation over random orders of the ties.

        That expectation is (H(b) - H(a - 1)) / (b - a + 1) for the possible ranks a..b, H the harmonic numbers. It is
        not the reciprocal of the average rank: among n tied candidates a query gets H(n)/n, which is what chance
        gives, where 2/(n + 1) would be less than chance.

        Returns:
            Shape (Q,), in (0, 1].

        Raises:
            ValueError: If ``ties`` is none of the three.
        """
        if _ties(ties) != "realistic":
            return 1 / self.rank(ties)
        spread = (digamma(self.better + self.tied + 2) - digamma(self.better + 1)) / (self.tied + 1)
        return np.where(self.tied == 0, 1 / (self.better + 1), spread)

    def top(self, k: int, ties: Ties = "realistic") -> FloatArray:
        """Whether each query is among the k best; 'realistic' is the probability over random orders of the ties.

        Returns:
            Shape (Q,), in [0, 1].

        Raises:
            ValueError: If k is below 1 or ``ties`` is none of the three.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if _ties(ties) != "realistic":
            return (self.rank(ties) <= k).astype(np.float64)
        return np.clip(k - self.better, 0, self.tied + 1) / (self.tied + 1)

    def mrr(self, ties: Ties = "realistic") -> float:
        """Mean reciprocal rank; NaN without queries."""
        values = self.reciprocal(ties)
        return float(values.mean()) if len(values) else float("nan")

    def top_at(self, k: int, ties: Ties = "realistic") -> float:
        """Share of the queries among the k best of their candidates; NaN without queries."""
        values = self.top(k, ties)
        return float(values.mean()) if len(values) else float("nan")


def _ties(ties: str) -> str:
    check_option("ties", ties, get_args(Ties))
    return ties


def count_ranks(
    scores: npt.NDArray[Any],
    queries: IntArray,
    candidate: npt.NDArray[np.bool_],
    *,
    within: Within,
    chunk_size: int,
) -> Ranks:
    """Count who is better and who is tied, some queries at a time.

    Args:
        scores: (N, N) without NaN.
        queries: (2, Q); a query is always a candidate of its own.
        candidate: (N, N), the other candidates.
        within: Compare with the other sources of the target, or the other targets of the source.
        chunk_size: Queries at a time; the working memory is about 10 * chunk_size * N bytes.

    Raises:
        ValueError: If ``within`` is unknown or ``chunk_size`` is below 1.
    """
    check_option("within", within, get_args(Within))
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    if within == "target":
        scores, candidate, queries = scores.T, candidate.T, queries[::-1]
    n_queries = queries.shape[1]
    better, tied, count = (np.zeros(n_queries, np.int64) for _ in range(3))
    for start in range(0, n_queries, chunk_size):
        part = slice(start, start + chunk_size)
        row, column = queries[:, part]
        values, among = scores[row], candidate[row]
        among[np.arange(len(row)), column] = True
        own = values[np.arange(len(row)), column][:, None]
        better[part] = ((values > own) & among).sum(axis=1)
        tied[part] = ((values == own) & among).sum(axis=1) - 1
        count[part] = among.sum(axis=1)
    return Ranks(better, tied, count)


def edge_ranks(
    scores: Any,  # noqa: ANN401 - an array or a tensor
    positives: Any,  # noqa: ANN401 - indices or names
    known: Any = (),  # noqa: ANN401
    *,
    known_true: Any = (),  # noqa: ANN401
    names: Sequence[str] | None = None,
    within: Within = "target",
    filtered: bool = True,
    exclude_self: bool = True,
    chunk_size: int = 2048,
) -> Ranks:
    """Rank true edges among the candidates of their target, or of their source (GSNN spec 3.1).

    Candidates are all pairs with that target (or source) but known edges and, unless told otherwise, self-edges.
    Filtered, the standard of knowledge-graph evaluation, all other true edges are left out too.

    Args:
        scores: Shape (N, N), scores[i, j] for i -> j; NaN ranks below every number.
        positives: The true edges to rank: (2, Q) indices, or pairs of indices or names. One given twice counts once.
        known: Edges of the graph the model has; never candidates.
        known_true: Other true edges.
        names: Names of the N nodes, where edges are given by name.
        within: 'target' or 'source'.
        filtered: Whether the other true edges are left out of the candidates.
        exclude_self: Whether self-edges are no candidates.
        chunk_size: Queries at a time, which bounds the memory.

    Returns:
        One rank for each positive, in the order given.

    Raises:
        ValueError: If a shape, a name or an index is wrong, or a positive is a known edge or a self-edge.

    Example:
        >>> scores = np.array([[0.0, 0.9, 0.1], [0.2, 0.0, 0.3], [0.8, 0.5, 0.0]])
        >>> edge_ranks(scores, [(0, 1), (1, 0)]).rank().tolist()
        [1.0, 2.0]
    """
    values = square(scores)
    n_nodes = len(values)
    queries = as_index("positives", positives, n_nodes, names)
    graph = as_index("known", known, n_nodes, names)
    candidate = candidate_mask(n_nodes, queries, graph, names, exclude_self=exclude_self)
    if filtered:
        others = as_index("known_true", known_true, n_nodes, names)
        candidate[queries[0], queries[1]] = False
        candidate[others[0], others[1]] = False
    return count_ranks(values, queries, candidate, within=within, chunk_size=chunk_size)


def square(scores: Any) -> FloatArray:  # noqa: ANN401
    """Scores as a square matrix without NaN."""
    values = as_scores(scores)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"scores must have shape (N, N), got {values.shape}")
    return values


def candidate_mask(
    n_nodes: int, positives: IntArray, known: IntArray, names: Sequence[str] | None, *, exclude_self: bool
) -> npt.NDArray[np.bool_]:
    """Which pairs are candidates; positives must be among them."""
    candidate = np.ones((n_nodes, n_nodes), bool)
    candidate[known[0], known[1]] = False
    if exclude_self:
        np.fill_diagonal(candidate, False)
    wrong = positives[:, ~candidate[positives[0], positives[1]]]
    if wrong.size:
        pairs = [(s, t) if names is None else (names[s], names[t]) for s, t in wrong.T[:5].tolist()]
        raise ValueError(
            f"{wrong.shape[1]} positives are known edges or self-edges, which are no candidates: {pairs}; "
            "leave them out, or out of known="
        )
    return candidate
