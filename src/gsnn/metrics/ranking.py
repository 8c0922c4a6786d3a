"""Rankings by the conventions of the research methods, and the filtered form of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gsnn.base.arrays import BoolArray, IntArray
from gsnn.metrics.edges import as_index, check_table, name_codes, table_nodes, unknown_names
from gsnn.metrics.ranks import count_ranks, square


def source_filtered_mrr(
    A: Any,  # noqa: ANN401 - an array or a tensor
    edge_index: Any,  # noqa: ANN401
    all_true_edges: Any,  # noqa: ANN401
    query_chunk_size: int = 2048,
) -> float:
    """Mean reciprocal rank of true edges among the targets of their source, filtered (GSNN spec 2.2).

    For a query (s, d) the candidates are the columns j of row s for which (s, j) is in no true edge, and d itself;
    column s stays a candidate. Ties take the average rank, and its reciprocal is averaged: with ties this is less
    than the expectation that :meth:`Ranks.mrr` gives.

    Args:
        A: Shape (N, N), A[i, j] the evidence for i -> j; NaN ranks below every number.
        edge_index: The queries, (2, Q) indices or pairs of indices.
        all_true_edges: All true edges, (2, T) indices or pairs of indices; the queries may be among them.
        query_chunk_size: Queries at a time, which bounds the memory.

    Returns:
        From near 0 to 1; NaN without queries.

    Raises:
        ValueError: If a shape or an index is wrong.

    Example:
        >>> A = np.array([[0.0, 0.9, 0.1], [0.2, 0.0, 0.3], [0.8, 0.5, 0.0]])
        >>> source_filtered_mrr(A, [(1, 0)], [(0, 1), (1, 0), (1, 2)])
        1.0
    """
    if query_chunk_size < 1:
        raise ValueError(f"query_chunk_size must be at least 1, got {query_chunk_size}")
    scores = square(A)
    queries = as_index("edge_index", edge_index, len(scores), unique=False)
    true = as_index("all_true_edges", all_true_edges, len(scores))
    candidate = np.ones(scores.shape, bool)
    candidate[true[0], true[1]] = False
    ranks = count_ranks(scores, queries, candidate, within="source", chunk_size=query_chunk_size)
    return float((1 / ranks.rank()).mean()) if len(ranks) else float("nan")


def target_ranking(
    table: pd.DataFrame,
    positive_edges: Iterable[tuple[str, str]],
    score_col: str = "score",
    top_k: Sequence[int] = (1, 3, 5),
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Rank true edges among all rows of their target in a table of results (GSNN spec 2.1).

    Every row of the target that has a score is a candidate: known edges, self pairs and other true edges too, where the
    table holds them. Descending by score; of equal scores the one that comes first in the table is the better one.
    :func:`filtered_target_ranking` leaves true edges out of the candidates.

    Args:
        table: One row an ordered pair: ``src_func``, ``dst_func`` and the score.
        positive_edges: (source, target) names of the true edges; one given twice counts once.
        score_col: Column with the score.
        top_k: For each k a column ``top@k``.

    Returns:
        ``(detail, summary)``. ``detail`` has a row for each positive, sorted by the names: src_func, dst_func, score,
        rank, n_candidates, reciprocal_rank and, as booleans, top@k. A positive that the table lacks, or whose score is
        undefined, has the rank NaN, the reciprocal rank 0 and is in no top k. ``summary`` holds floats: 'n_positives',
        'mrr', 'top@k'.

    Raises:
        ValueError: If there are no positives or no rows, a name is unknown, a column is missing or a k below 1.

    Example:
        >>> table = pd.DataFrame(
        ...     {"src_func": ["a", "b", "c"], "dst_func": ["d", "d", "d"], "score": [0.3, 0.9, float("nan")]}
        ... )
        >>> detail, summary = target_ranking(table, [("a", "d"), ("c", "d")], top_k=(1, 2))
        >>> detail["rank"].tolist(), detail["reciprocal_rank"].tolist()
        ([2.0, nan], [0.5, 0.0])
        >>> summary
        {'n_positives': 2.0, 'mrr': 0.25, 'top@1': 0.0, 'top@2': 0.5}
    """
    return _ranking(_Queries(table, positive_edges, score_col, top_k), None)


def filtered_target_ranking(
    table: pd.DataFrame,
    positive_edges: Iterable[tuple[str, str]],
    score_col: str = "score",
    top_k: Sequence[int] = (1, 3, 5),
    *,
    known_true: Iterable[tuple[str, str]] = (),
) -> tuple[pd.DataFrame, dict[str, float]]:
    """:func:`target_ranking` with the true edges left out of the candidates, as knowledge graphs are evaluated.

    The candidates of a positive are itself and the rows of its target that are neither a known edge (``has_edge``,
    where the table has that column), nor a self pair, nor another positive, nor in ``known_true``.

    Args:
        table: As for :func:`target_ranking`, with or without ``has_edge``.
        positive_edges: Likewise.
        score_col: Likewise.
        top_k: Likewise.
        known_true: (source, target) names of further true edges, such as those held back for validation.

    Returns:
        What :func:`target_ranking` returns.

    Raises:
        ValueError: As :func:`target_ranking`.

    Example:
        >>> table = pd.DataFrame({"src_func": ["a", "b", "c"], "dst_func": ["d"] * 3, "score": [0.9, 0.5, 0.1]})
        >>> filtered_target_ranking(table, [("b", "d")], top_k=(1,), known_true=[("a", "d")])[1]
        {'n_positives': 1.0, 'mrr': 1.0, 'top@1': 1.0}
    """
    queries = _Queries(table, positive_edges, score_col, top_k)
    left_out = queries.self_pair
    if "has_edge" in table.columns:
        left_out = left_out | table["has_edge"].to_numpy(dtype=bool)
    other_true = queries.pairs(known_true, "known_true")
    return _ranking(queries, left_out | np.isin(queries.row_pairs, [*queries.positive_pairs, *other_true]))


class _Queries:
    """A table and its positives, checked; nodes are numbers, pairs are source * N + target."""

    def __init__(
        self, table: pd.DataFrame, positive_edges: Iterable[tuple[str, str]], score_col: str, top_k: Sequence[int]
    ) -> None:
        check_table(table, score_col)
        positives = list(positive_edges)
        if not positives or table.empty:
            raise ValueError(f"{'the table' if positives else 'positive_edges'} is empty: there is nothing to rank")
        if any(k < 1 for k in top_k):
            raise ValueError(f"top_k must be at least 1, got {tuple(top_k)}")
        self.names, self.top_k = table_nodes(table), top_k
        source, self.target = (name_codes(table[column], self.names) for column in ("src_func", "dst_func"))
        self.self_pair = source == self.target
        self.row_pairs = source * len(self.names) + self.target
        self.score = table[score_col].to_numpy(dtype=np.float64)
        self.pairs(positives, "positive_edges")  # checks them
        self.positives = sorted({(s, t) for s, t in positives})
        self.positive_pairs = self.pairs(self.positives, "positive_edges")

    def pairs(self, edges: Iterable[tuple[Any, Any]], parameter: str) -> IntArray:
        """The pairs of edges given by name."""
        edges = list(edges)
        if any(isinstance(edge, str) or len(edge) != 2 for edge in edges):
            raise ValueError(f"{parameter} must hold (source, target) names, got {edges[:3]}")
        number = {name: i for i, name in enumerate(self.names)}
        unknown = {end for edge in edges for end in edge if end not in number}
        if unknown:
            raise unknown_names(parameter, unknown, self.names)
        return np.array([number[s] * len(number) + number[t] for s, t in edges], dtype=np.int64)


def _ranking(queries: _Queries, left_out: BoolArray | None) -> tuple[pd.DataFrame, dict[str, float]]:
    """Ranks among the rows of a target, less those that are left out; a positive is always among its candidates."""
    n_nodes, target = len(queries.names), queries.target
    targets = queries.positive_pairs % n_nodes
    scored = np.isin(target, targets) & ~np.isnan(queries.score)
    rival = scored if left_out is None else scored & ~left_out
    sizes = np.bincount(target[rival], minlength=n_nodes)
    # Stable: by target, then by falling score, then by row.
    order = np.flatnonzero(scored)
    order = order[np.lexsort((-queries.score[order], target[order]))]
    first = np.cumsum(sizes) - sizes
    before: IntArray = np.cumsum(rival[order]) - rival[order]
    ranked = pd.DataFrame(
        {
            "score": queries.score[order],
            "rank": (before - first[target[order]] + 1).astype(float),
            "n_candidates": sizes[target[order]] + ~rival[order],
        },
        index=queries.row_pairs[order],
    )
    rows = ranked[~ranked.index.duplicated()].reindex(queries.positive_pairs)
    ranks = rows["rank"].to_numpy()
    detail = pd.DataFrame(
        {
            "src_func": [s for s, _ in queries.positives],
            "dst_func": [t for _, t in queries.positives],
            "score": rows["score"].to_numpy(),
            "rank": ranks,
            "n_candidates": np.where(np.isnan(ranks), sizes[targets], rows["n_candidates"]).astype(np.int64),
            "reciprocal_rank": np.where(np.isnan(ranks), 0.0, 1 / ranks),
        }
        | {f"top@{k}": ranks <= k for k in queries.top_k}
    )
    means = {"mrr": detail["reciprocal_rank"]} | {f"top@{k}": detail[f"top@{k}"] for k in queries.top_k}
    return detail, {"n_positives": float(len(detail))} | {name: float(v.mean()) for name, v in means.items()}
