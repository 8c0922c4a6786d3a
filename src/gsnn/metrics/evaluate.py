"""One evaluator for any score matrix or table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.metrics.edges import as_index, table_matrix, table_nodes
from gsnn.metrics.groups import GroupMetrics, group_metrics
from gsnn.metrics.ranks import Ranks, Ties, Within, candidate_mask, count_ranks, square
from gsnn.metrics.scores import SortedScores, as_scores


@dataclass(frozen=True)
class EdgeMetrics:
    """What :func:`evaluate_edges` found.

    Attributes:
        roc_auc: Area under the ROC curve, positives against negatives.
        average_precision: Average precision (AUPR).
        precision_at: Precision among the k best, by k.
        recall_at: Recall among the k best, by k.
        mrr: Mean reciprocal rank.
        top_at: Share of the positives among the k best of their target (or source), by k.
        n_positives: Number of positives.
        n_negatives: Number of negatives: candidates in no true edge.
        n_undefined: Candidates whose score is undefined (NaN).
        mean_rank_candidates: Mean number of candidates that a positive is ranked among, itself included.
        chance: Expectation of each metric for random scores, by name as in :meth:`to_dict`.
        within: Ranks within 'target' or 'source'.
        filtered: Whether other true edges are left out of the candidates of a rank.
        ties: Tie rule of the ranks.
        by_role: The same for the positives of each role, against the same negatives.
        by_group: The metrics of groups of candidates by their number of places, if groups were given.
    """

    roc_auc: float
    average_precision: float
    precision_at: dict[int, float]
    recall_at: dict[int, float]
    mrr: float
    top_at: dict[int, float]
    n_positives: int
    n_negatives: int
    n_undefined: int
    mean_rank_candidates: float
    chance: dict[str, float]
    within: Within
    filtered: bool
    ties: Ties
    by_role: dict[str, EdgeMetrics] = field(default_factory=dict)
    by_group: dict[int, GroupMetrics] = field(default_factory=dict)

    @property
    def n_candidates(self) -> int:
        """Positives and negatives together."""
        return self.n_positives + self.n_negatives

    def to_dict(self) -> dict[str, float]:
        """The numbers in one flat dictionary: roc_auc, average_precision, precision@k, recall@k, mrr, top@k, counts.

        Those of groups follow, as :meth:`GroupMetrics.to_dict` names them.
        """
        flat = {"roc_auc": self.roc_auc, "average_precision": self.average_precision, "mrr": self.mrr}
        for label, values in (("precision", self.precision_at), ("recall", self.recall_at), ("top", self.top_at)):
            flat |= {f"{label}@{k}": value for k, value in values.items()}
        counts = ("n_positives", "n_negatives", "n_candidates", "n_undefined", "mean_rank_candidates")
        flat |= {name: getattr(self, name) for name in counts}
        for group in self.by_group.values():
            flat |= group.to_dict()
        return flat


def evaluate_edges(
    scores: Any,  # noqa: ANN401 - a matrix (array, tensor) or a table
    positives: Any,  # noqa: ANN401 - indices or names
    known: Any = None,  # noqa: ANN401
    *,
    known_true: Any = (),  # noqa: ANN401
    names: Sequence[str] | None = None,
    score_col: str = "score",
    roles: Mapping[tuple[Any, Any], str] | None = None,
    groups: npt.ArrayLike | None = None,
    within: Within = "target",
    filtered: bool = True,
    ties: Ties = "realistic",
    k: Sequence[int] | None = None,
    top_k: Sequence[int] = (1, 3, 5),
    exclude_self: bool = True,
    chunk_size: int = 2048,
) -> EdgeMetrics:
    """Every metric of how well scores recover some true edges (GSNN spec 3.1).

    Negatives are the pairs in **no** true edge: neither positive, nor known, nor in ``known_true``, nor a self-edge.
    So when test edges are scored, pass the validation edges as ``known_true``: they are then neither positives nor
    negatives. (The research code counts them as negatives: leave ``known_true`` out for its "research AUC".)

    Args:
        scores: Shape (N, N), scores[i, j] for i -> j; or a table with src_func, dst_func and ``score_col``. A NaN
            score, and a pair that the table lacks, ranks below every number.
        positives: The true edges to find: (2, Q) indices, or pairs of indices or names. One given twice counts once.
        known: Edges of the graph the model has; never candidates. None: the column ``has_edge`` of a table, if it has
            one; none for a matrix.
        known_true: Other true edges: neither positives nor negatives.
        names: Names of the N nodes, to give edges by name; of a table by default the names in it.
        score_col: Column of the table.
        roles: A label for each positive, for the breakdown by role.
        groups: Shape (N, N), the alias group of each pair, for the metrics of groups (:func:`group_metrics`). There,
            the edges of ``known_true`` and the positives of other roles are candidates, and a group that holds one of
            them and no edge to find is left out.
        within: Whether positives are ranked among the candidates of their 'target' or their 'source'.
        filtered: Whether the other true edges are left out of those candidates.
        ties: Tie rule of the ranks: 'realistic', 'optimistic' or 'pessimistic'.
        k: Numbers of places for precision and recall; by default the number of positives (or of true groups).
        top_k: Numbers of places for top@k.
        exclude_self: Whether self-edges are no candidates.
        chunk_size: Queries at a time, which bounds the memory of the ranks.

    Returns:
        The metrics, with the numbers of candidates, positives and negatives and what chance would give.

    Raises:
        ValueError: If there are no positives, a shape, name, index or option is wrong, a positive is a known edge or a
            self-edge, or a positive has no role where roles are given.

    Example:
        >>> scores = np.array([[0.0, 0.9, 0.1], [0.2, 0.0, 0.3], [0.8, 0.5, 0.0]])
        >>> found = evaluate_edges(scores, [("a", "b")], known=[("c", "a")], names=["a", "b", "c"])
        >>> found.roc_auc, found.mrr, found.n_negatives
        (1.0, 1.0, 4)
    """
    if isinstance(scores, pd.DataFrame):
        names = table_nodes(scores) if names is None else names
        if known is None and "has_edge" in scores.columns:
            has_edge = scores.loc[scores["has_edge"].to_numpy(dtype=bool), ["src_func", "dst_func"]]
            known = list(has_edge.itertuples(index=False, name=None))
        matrix = table_matrix(scores, score_col, names)
    else:
        matrix = scores.detach().cpu().double().numpy() if hasattr(scores, "detach") else np.asarray(scores, float)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"scores must have shape (N, N), got {matrix.shape}")
        if names is not None and len(names) != len(matrix):
            raise ValueError(f"names must have one name for each of the {len(matrix)} rows, got {len(names)}")
    n_nodes = len(matrix)
    queries = as_index("positives", positives, n_nodes, names)
    if not queries.size:
        raise ValueError("positives is empty: there is nothing to find")
    graph = as_index("known", () if known is None else known, n_nodes, names)
    others = as_index("known_true", known_true, n_nodes, names)

    candidate = candidate_mask(n_nodes, queries, graph, names, exclude_self=exclude_self)
    negative = candidate.copy()
    negative[others[0], others[1]] = False
    negative[queries[0], queries[1]] = False
    rivals = negative if filtered else candidate
    ranks = count_ranks(square(matrix), queries, rivals, within=within, chunk_size=chunk_size)
    labels = None if groups is None else np.asarray(groups)
    if labels is not None and labels.shape != matrix.shape:
        raise ValueError(f"groups must have the shape of the scores, {matrix.shape}, got {labels.shape}")

    # Sorted once for all roles.
    below = matrix[negative]
    n_undefined = int(np.isnan(below).sum())
    below = as_scores(below)
    below.sort()

    def measure(rows: npt.NDArray[np.int64], by_role: dict[str, EdgeMetrics]) -> EdgeMetrics:
        part = queries[:, rows]
        values = matrix[part[0], part[1]]
        scored = SortedScores(as_scores(values), below)
        by_group = {} if labels is None else _groups(matrix, labels, candidate, negative, part, k)
        own = ranks.take(rows)
        count = own.n_candidates
        total = len(rows) + below.size
        places, prevalence = (len(rows),) if k is None else tuple(k), len(rows) / total
        blind = Ranks(np.zeros_like(count), count - 1, count)  # all candidates are tied
        chance = {"roc_auc": 0.5 if below.size else float("nan"), "average_precision": prevalence}
        chance |= {"mrr": blind.mrr()} | {f"precision@{n}": prevalence for n in places}
        chance |= {f"recall@{n}": min(n, total) / total for n in places}
        chance |= {f"top@{n}": blind.top_at(n) for n in top_k}
        for group in by_group.values():
            chance |= group.chance
        return EdgeMetrics(
            roc_auc=scored.roc_auc(),
            average_precision=scored.average_precision(),
            precision_at={n: scored.precision_at(n) for n in places},
            recall_at={n: scored.recall_at(n) for n in places},
            mrr=own.mrr(ties),
            top_at={n: own.top_at(n, ties) for n in top_k},
            n_positives=len(rows),
            n_negatives=below.size,
            n_undefined=n_undefined + int(np.isnan(values).sum()),
            mean_rank_candidates=float(count.mean()),
            chance=chance,
            within=within,
            filtered=filtered,
            ties=ties,
            by_role=by_role,
            by_group=by_group,
        )

    by_role = {role: measure(rows, {}) for role, rows in _rows_by_role(queries, roles, n_nodes, names).items()}
    return measure(np.arange(queries.shape[1]), by_role)


def _groups(
    scores: npt.NDArray[np.float64],
    groups: npt.NDArray[Any],
    candidate: npt.NDArray[np.bool_],
    negative: npt.NDArray[np.bool_],
    positives: npt.NDArray[np.int64],
    k: Sequence[int] | None,
) -> dict[int, GroupMetrics]:
    """The metrics of groups by the number of places."""
    label = np.zeros_like(candidate)
    label[positives[0], positives[1]] = True
    # A candidate that is neither to be found nor a negative is another true edge.
    other = (candidate & ~negative & ~label)[candidate]
    values = scores[candidate], label[candidate], groups[candidate]
    metrics = [group_metrics(*values, other_true=other, k=n) for n in ((None,) if k is None else tuple(k))]
    return {each.k: each for each in metrics}


def _rows_by_role(
    positives: npt.NDArray[np.int64],
    roles: Mapping[tuple[Any, Any], str] | None,
    n_nodes: int,
    names: Sequence[str] | None,
) -> dict[str, npt.NDArray[np.int64]]:
    """Which positives have which role."""
    if roles is None:
        return {}
    edges = as_index("roles", roles, n_nodes, names, unique=False)
    label = dict(zip(map(tuple, edges.T.tolist()), roles.values(), strict=True))
    pairs = list(map(tuple, positives.T.tolist()))
    without = [pair if names is None else (names[pair[0]], names[pair[1]]) for pair in pairs if pair not in label]
    if without:
        raise ValueError(f"roles has no label for {len(without)} of the positives: {without[:5]}")
    each = [label[pair] for pair in pairs]
    return {role: np.flatnonzero([this == role for this in each]) for role in dict.fromkeys(each)}
