"""How well scores recover true edges up to their aliases: metrics of groups, and of near misses.

Candidates in one alias group (:func:`gsnn.edges.alias_groups`) predict the same thing as far as the data can tell, so
finding one of them is finding the group. The rules of :mod:`gsnn.metrics` hold here too: undefined scores rank last,
ties are "realistic", what is not defined is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, sparse

from gsnn.base.arrays import IntArray
from gsnn.metrics.edges import as_nodes
from gsnn.metrics.scores import SortedScores, collapse_groups, precision_at_k

_NAN = float("nan")


@dataclass(frozen=True)
class GroupMetrics:
    """What :func:`group_metrics` found.

    Attributes:
        n_groups: Groups that count.
        n_true_groups: Groups that hold a true edge.
        n_left_out: Groups that hold no edge to find but one of ``other_true``: neither true nor false.
        k: Number of places.
        precision: Share of true groups among the k best.
        recall: Share of the true groups among the k best.
        average_precision: Average precision (AUPR) of the groups.
        roc_auc: Area under the ROC curve of the groups.
        chance_precision: Expectation of ``precision`` for random scores.
        chance_recall: Expectation of ``recall`` for random scores.
        chance_roc_auc: Expectation of ``roc_auc`` for random scores. Above 0.5 where true groups are larger, because
            the best of many random scores is a high one.
    """

    n_groups: int
    n_true_groups: int
    n_left_out: int
    k: int
    precision: float
    recall: float
    average_precision: float
    roc_auc: float
    chance_precision: float
    chance_recall: float
    chance_roc_auc: float

    def to_dict(self) -> dict[str, float]:
        """The numbers by name, precision and recall with their k: group_precision@35, ..., group_roc_auc, counts."""
        return {f"group_{name}": value for name, value in self._named("").items()} | {
            f"group_{name}": getattr(self, name) for name in ("n_groups", "n_true_groups", "n_left_out")
        }

    @property
    def chance(self) -> dict[str, float]:
        """The expectations for random scores, by the names of :meth:`to_dict`; those without a formula are missing."""
        return {f"group_{name}": value for name, value in self._named("chance_").items()}

    def _named(self, prefix: str) -> dict[str, float]:
        names = {"precision": f"precision@{self.k}", "recall": f"recall@{self.k}", "roc_auc": "roc_auc"}
        names |= {} if prefix else {"average_precision": "average_precision"}
        return {shown: getattr(self, prefix + name) for name, shown in names.items()}


def group_metrics(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    other_true: npt.ArrayLike | None = None,
    k: int | None = None,
) -> GroupMetrics:
    """Metrics where a group counts once, scored by its best member, true if it holds a true edge (GSNN spec 2.6).

    Random scores favour large groups, so the expectation by chance is not the share of true groups. Where a
    random member passes a threshold with probability t, a group of s members does with 1 - (1 - t)^s; t is solved for k
    groups, which is exact for many groups. For the area under the ROC curve, a true group of s members beats a
    false one of u with probability s / (s + u), exactly.

    Args:
        scores: Shape (n,), of the candidates; NaN ranks below every number.
        labels: Shape (n,), True for the edges to find.
        groups: Shape (n,), the alias group of each candidate.
        other_true: Shape (n,), True for other true edges (the validation half, say). A group that holds one of them and
            no edge to find is left out, because it is no false discovery.
        k: Number of places; by default the number of true groups.

    Returns:
        The metrics; NaN without true groups.

    Raises:
        ValueError: If shapes differ, a label is not 0 or 1, or ``k`` is below 1.

    Example:
        >>> found = group_metrics([0.9, 0.8, 0.7, 0.1], [False, True, False, False], [0, 0, 1, 2])
        >>> found.precision, found.roc_auc, found.n_groups
        (1.0, 1.0, 3)
    """
    best, holds = collapse_groups(scores, labels, groups)
    _, member, sizes = np.unique(np.asarray(groups).ravel(), return_inverse=True, return_counts=True)
    counts = np.ones(len(best), bool)
    if other_true is not None:
        other = np.asarray(other_true)
        if other.shape != np.shape(labels):
            raise ValueError(f"other_true must have the shape of labels, {np.shape(labels)}, got {other.shape}")
        counts = holds | (np.bincount(member, weights=other.astype(bool).ravel(), minlength=len(best)) == 0)
        best, holds, sizes = best[counts], holds[counts], sizes[counts]
    n_true = int(holds.sum())
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    places = n_true if k is None else k
    defined = places > 0 and len(best) > 0
    hits = _chance_hits(sizes, holds, places) if defined else _NAN
    ranked = SortedScores.of(best, holds)
    return GroupMetrics(
        n_groups=len(best),
        n_true_groups=n_true,
        n_left_out=int((~counts).sum()),
        k=places,
        precision=ranked.precision_at(places) if defined else _NAN,
        recall=ranked.recall_at(places) if defined else _NAN,
        average_precision=ranked.average_precision(),
        roc_auc=ranked.roc_auc(),
        chance_precision=hits / min(places, len(best)) if defined else _NAN,
        chance_recall=hits / n_true if n_true else _NAN,
        chance_roc_auc=_chance_auc(sizes, holds),
    )


def _chance_hits(sizes: IntArray, holds: npt.NDArray[np.bool_], k: int) -> float:
    """Expected number of true groups among the k best of random scores."""
    if k >= len(sizes):
        return float(holds.sum())
    size, place = np.unique(sizes, return_inverse=True)
    n_all, n_true = (np.bincount(place, weights=w, minlength=len(size)) for w in (np.ones(len(sizes)), holds))

    def found(threshold: float) -> npt.NDArray[np.float64]:
        return -np.expm1(size * np.log1p(-threshold))

    last = np.nextafter(1.0, 0.0)
    threshold = optimize.brentq(lambda t: float(n_all @ found(t)) - k, 0.0, last, xtol=1e-15)
    return float(n_true @ found(threshold))


def _chance_auc(sizes: IntArray, holds: npt.NDArray[np.bool_]) -> float:
    """Expected area under the ROC curve of groups for random scores."""
    true, n_true = np.unique(sizes[holds], return_counts=True)
    false, n_false = np.unique(sizes[~holds], return_counts=True)
    if not len(true) or not len(false):
        return _NAN
    wins = true[:, None] / (true[:, None] + false[None, :])
    return float(n_true @ wins @ n_false / n_true.sum() / n_false.sum())


@dataclass(frozen=True)
class NearHits:
    """What :func:`near_hits` found among the k best candidates.

    Attributes:
        k: Number of places.
        exact: Candidates that are hidden edges.
        near: Candidates within one hop of a hidden edge, hidden edges themselves included.
        chance_exact: Expectation of ``exact`` for random scores.
        chance_near: Expectation of ``near`` for random scores.
        n_candidates: Number of candidates.
        n_near: How many of all candidates are within one hop.
    """

    k: int
    exact: float
    near: float
    chance_exact: float
    chance_near: float
    n_candidates: int
    n_near: int

    @property
    def enrichment(self) -> float:
        """``near`` over its expectation; NaN if no candidate is near."""
        return self.near / self.chance_near if self.chance_near else _NAN


def near_edges(hidden: npt.ArrayLike, edges: npt.ArrayLike, n_nodes: int) -> IntArray:
    """All pairs within one hop of a hidden edge.

    That is, the hidden edges themselves, and every pair that one of them becomes when one of its ends moves along one
    edge of the kept graph, forwards or backwards (the other end stays).

    Args:
        hidden: Shape (2, Q), from, to.
        edges: Shape (2, E), the function -> function edges of the kept graph.
        n_nodes: N.

    Returns:
        Shape (2, n), in ascending order; among them may be self-edges and edges of the graph.

    Raises:
        ValueError: If a shape is wrong or an index out of range.

    Example:
        >>> near_edges([[0], [2]], [[0], [1]], n_nodes=3).tolist()
        [[0, 1], [2, 2]]
    """
    at = _sparse("hidden", hidden, n_nodes)
    beside = _sparse("edges", edges, n_nodes)
    beside = beside + beside.T
    near = (at + beside @ at + at @ beside).tocoo()
    order = np.lexsort((near.col, near.row))
    return np.stack([near.row[order], near.col[order]]).astype(np.int64)


def near_hits(
    scores: npt.ArrayLike,
    src_idx: npt.ArrayLike,
    dst_idx: npt.ArrayLike,
    hidden: npt.ArrayLike,
    edges: npt.ArrayLike,
    n_nodes: int,
    *,
    k: int | None = None,
) -> NearHits:
    """Count the best candidates that lie within one hop of a hidden edge, beside chance (GSNN spec 2.6).

    Args:
        scores: Shape (n,), of the candidates; NaN ranks below every number, ties count by expectation.
        src_idx: Shape (n,), sources of the candidates.
        dst_idx: Shape (n,), targets of the candidates.
        hidden: Shape (2, Q), the hidden edges.
        edges: Shape (2, E), the function -> function edges of the kept graph.
        n_nodes: N.
        k: Number of places; by default the number of hidden edges among the candidates.

    Returns:
        The counts; NaN without candidates, or without hidden ones among them if ``k`` is not given.

    Raises:
        ValueError: If shapes differ, an index is out of range or ``k`` is below 1.

    Example:
        >>> near_hits([0.9, 0.8, 0.1], [0, 1, 2], [2, 2, 0], hidden=[[0], [2]], edges=[[0], [1]], n_nodes=3, k=2)
        NearHits(k=2, exact=1.0, near=2.0, chance_exact=0.666..., chance_near=1.333..., n_candidates=3, n_near=2)
    """
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    source, target = as_nodes("src_idx", src_idx, n_nodes), as_nodes("dst_idx", dst_idx, n_nodes)
    if source.shape != target.shape or source.shape != np.shape(scores) or source.ndim != 1:
        shapes = f"{np.shape(scores)}, {source.shape} and {target.shape}"
        raise ValueError(f"scores, src_idx and dst_idx must have one shape (n,), got {shapes}")
    keys = source * n_nodes + target
    near = near_edges(hidden, edges, n_nodes)
    exact = _sparse("hidden", hidden, n_nodes).tocoo()
    is_near = np.isin(keys, near[0] * n_nodes + near[1])
    is_exact = np.isin(keys, exact.row.astype(np.int64) * n_nodes + exact.col)
    places = min(int(is_exact.sum()) if k is None else k, len(keys))

    def count(labels: npt.NDArray[np.bool_]) -> tuple[float, float]:
        if not places:
            return _NAN, _NAN
        return places * precision_at_k(scores, labels, places), places * float(labels.mean())

    (n_exact, chance_exact), (n_near, chance_near) = count(is_exact), count(is_near)
    return NearHits(places, n_exact, n_near, chance_exact, chance_near, len(keys), int(is_near.sum()))


def _sparse(parameter: str, pairs: Any, n_nodes: int) -> sparse.csr_matrix:  # noqa: ANN401 - array, tensor or lists
    """Pairs as a boolean matrix (N, N)."""
    index = as_nodes(parameter, pairs, n_nodes)
    if index.ndim != 2 or index.shape[0] != 2:
        hint = "; pass its transpose" if index.ndim == 2 and index.shape[1] == 2 else ""
        raise ValueError(f"{parameter} must have shape (2, n), got {index.shape}{hint}")
    return sparse.csr_matrix((np.ones(index.shape[1], bool), (index[0], index[1])), shape=(n_nodes, n_nodes))
