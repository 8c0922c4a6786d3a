"""The numbers behind the curves, testable without a picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from gsnn.base.arrays import BoolArray, FloatArray
from gsnn.graph.checks import Edge
from gsnn.metrics.scores import as_scores

_COLUMNS = {"source": ("source", "src_func"), "target": ("target", "dst_func"), "known": ("known", "has_edge")}
_SCORES = ("score", "corr")


def scored_edges(table: pd.DataFrame, score_col: str | None = None) -> pd.DataFrame:
    """Any table of edges under the same four names, without self-edges.

    Args:
        table: Of an inferer's ``evaluate``, or of ``edges.csv``.
        score_col: Its column of scores; None for ``score`` or ``corr``.

    Returns:
        Columns source, target, score, known.

    Raises:
        ValueError: If a column is missing.
    """
    found: dict[str, Any] = {}
    wanted = _COLUMNS | {"score": (score_col,) if score_col is not None else _SCORES}
    for name in ("source", "target", "score", "known"):
        column = next((c for c in wanted[name] if c in table.columns), None)
        if column is None and name != "known":
            raise ValueError(
                f"a table of edges needs a column {' or '.join(map(repr, wanted[name]))}; "
                f"this one has {list(table.columns)}"
            )
        found[name] = table[column].to_numpy() if column is not None else np.zeros(len(table), bool)
    edges = pd.DataFrame(
        {
            "source": np.asarray(found["source"], dtype=object),
            "target": np.asarray(found["target"], dtype=object),
            "score": np.asarray(found["score"], dtype=np.float64),
            "known": np.asarray(found["known"], dtype=bool),
        }
    )
    return edges[edges["source"] != edges["target"]].reset_index(drop=True)


def candidate_labels(
    table: pd.DataFrame, positives: Iterable[Edge], known_true: Iterable[Edge] = (), score_col: str | None = None
) -> tuple[FloatArray, BoolArray]:
    """Scores of the candidates of a table, and which of them are positives.

    Args:
        table: Of every candidate.
        positives: The true edges to find.
        known_true: Other true edges, which count as neither.
        score_col: Column of the scores.

    Returns:
        (K,) scores, undefined ones -inf, and (K,) labels.

    Raises:
        ValueError: If a positive is not among the candidates.
    """
    edges = scored_edges(table, score_col)
    wanted, others = set(map(tuple, positives)), set(map(tuple, known_true))
    edges = edges[~edges["known"]]
    pairs = list(zip(edges["source"], edges["target"], strict=True))
    absent = sorted(wanted - set(pairs))
    if not wanted or absent:
        what = f"{len(absent)} of them are not: {absent[:5]}" if absent else "there are none"
        raise ValueError(f"positives must be candidates of the table, which known edges are not; {what}")
    kept = np.array([pair in wanted or pair not in others for pair in pairs], dtype=bool)
    truth = np.array([pair in wanted for pair in pairs], dtype=bool)
    return as_scores(edges["score"].to_numpy())[kept], truth[kept]


def shared_ranks(tables: dict[str, pd.DataFrame], score_col: str | None = None) -> pd.DataFrame:
    """Rank of each candidate in each table, 1 the best, ties averaged, NaN where it has no score.

    Args:
        tables: Table of edges by name of the method.
        score_col: Column of the scores.

    Returns:
        One row per (source, target) that is a candidate in a table, one column per method.
    """
    ranks = {}
    for name, table in tables.items():
        edges = scored_edges(table, score_col)
        edges = edges[~edges["known"]].set_index(["source", "target"])
        if edges.index.has_duplicates:
            raise ValueError(f"the table of {name!r} lists an edge twice")
        ranks[name] = edges["score"].rank(ascending=False)
    return pd.DataFrame(ranks)
