"""Two rankings with conventions of their own, as the research methods state them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gsnn.metrics._edges import as_index, check_table, name_codes, table_nodes, unknown_names
from gsnn.metrics._ranks import count_ranks, square


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
    *,
    exclude_known: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank true edges among the candidates of their target in a table of results (GSNN spec 2.1).

    Descending by score; of equal scores the one that comes first in the table is the better one; rows with an
    undefined score are dropped. Other true edges stay candidates.

    Args:
        table: One row an ordered pair: ``src_func``, ``dst_func``, the score and, optionally, ``has_edge``.
        positive_edges: (source, target) names of the true edges.
        score_col: Column with the score.
        top_k: For each k a column ``top@k``.
        exclude_known: Whether rows with ``has_edge`` and self-edges are left out of the candidates (a positive is
            always one). If False every row of the target is a candidate.

    Returns:
        ``(detail, summary)``. ``detail`` has a row for each positive, in the order given: src_func, dst_func, score,
        rank, n_candidates, reciprocal_rank and, as booleans, top@k. A positive that the table lacks, or whose score is
        undefined, has the rank NaN, the reciprocal rank 0 and is in no top k. ``summary`` has one row: n_positives,
        mrr, top@k.

    Raises:
        ValueError: If there are no positives or no rows, a name is unknown, a column is missing or a k below 1.

    Example:
        >>> table = pd.DataFrame(
        ...     {"src_func": ["a", "b", "c"], "dst_func": ["d", "d", "d"], "score": [0.3, 0.9, float("nan")]}
        ... )
        >>> detail, summary = target_ranking(table, [("a", "d"), ("c", "d")], top_k=(1, 2))
        >>> detail["rank"].tolist(), detail["reciprocal_rank"].tolist()
        ([2.0, nan], [0.5, 0.0])
        >>> summary.to_dict("records")
        [{'n_positives': 2, 'mrr': 0.25, 'top@1': 0.0, 'top@2': 0.5}]
    """
    check_table(table, score_col)
    positives = list(positive_edges)
    if not positives or table.empty:
        raise ValueError(f"{'the table' if positives else 'positive_edges'} is empty: there is nothing to rank")
    if any(isinstance(edge, str) or len(edge) != 2 for edge in positives):
        raise ValueError(f"positive_edges must hold (source, target) names, got {positives[:3]}")
    if any(k < 1 for k in top_k):
        raise ValueError(f"top_k must be at least 1, got {tuple(top_k)}")
    names = table_nodes(table)
    place = {name: i for i, name in enumerate(names)}
    unknown = {end for edge in positives for end in edge if end not in place}
    if unknown:
        raise unknown_names("positive_edges", unknown, names)

    source, target = (name_codes(table[column], names) for column in ("src_func", "dst_func"))
    wanted_source, wanted_target = np.array([[place[s], place[t]] for s, t in positives]).T
    wanted = wanted_source * len(names) + wanted_target
    score = table[score_col].to_numpy(dtype=np.float64)
    keep = np.isin(target, wanted_target) & ~np.isnan(score)
    if exclude_known:
        is_known = source == target
        if "has_edge" in table.columns:
            is_known |= table["has_edge"].to_numpy(dtype=bool)
        keep &= ~is_known | np.isin(source * len(names) + target, wanted)
    source, target, score = source[keep], target[keep], score[keep]

    # Stable: by target, then by falling score, then as they came.
    order = np.lexsort((-score, target))
    sizes = np.bincount(target, minlength=len(names))
    first = np.cumsum(sizes) - sizes
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - first[target[order]] + 1

    found = pd.DataFrame({"score": score, "rank": rank.astype(float)}, index=source * len(names) + target)
    rows = found[~found.index.duplicated()].reindex(wanted)
    ranks = rows["rank"].to_numpy()
    detail = pd.DataFrame(
        {
            "src_func": [s for s, _ in positives],
            "dst_func": [t for _, t in positives],
            "score": rows["score"].to_numpy(),
            "rank": ranks,
            "n_candidates": sizes[wanted_target],
            "reciprocal_rank": np.where(np.isnan(ranks), 0.0, 1 / ranks),
        }
        | {f"top@{k}": ranks <= k for k in top_k}
    )
    means = {f"top@{k}": [float(detail[f"top@{k}"].mean())] for k in top_k}
    mrr = float(detail["reciprocal_rank"].mean())
    return detail, pd.DataFrame({"n_positives": [len(positives)], "mrr": [mrr]} | means)
