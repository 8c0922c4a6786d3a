"""The tables of a self-check that a report shows, and how far methods agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.base.arrays import FloatArray
from gsnn.plot.data import Check

if TYPE_CHECKING:
    from gsnn.discovery import SelfCheck


GRID = np.arange(1, 41) / 40  # recalls at which the curves of the repeats are averaged
TOP = 100  # places of two rankings that are compared


def precision_at_recall(share_below: npt.ArrayLike, negatives: float, recall: npt.ArrayLike) -> FloatArray:
    """Precision of a ranking at given recalls, from where its positives stand among its negatives.

    At the k-th best of P positives, with a share s_k of the negatives below it, the precision is
    k / (k + (1 - s_k) W) with W the (weighted) number of negatives; the precision at recall r is that at k = ceil(r P).

    Args:
        share_below: Shape (P,), the share of the negatives below each positive; NaN for positives that are not counted.
        negatives: W.
        recall: Shape (R,), in (0, 1].

    Returns:
        Shape (R,); NaN without positives.

    Example:
        >>> precision_at_recall([0.9, 0.5], 10, [0.5, 1.0]).round(3).tolist()
        [0.5, 0.286]
    """
    share = np.asarray(share_below, dtype=np.float64)
    best = np.sort(share[np.isfinite(share)])[::-1]
    places = np.asarray(recall, dtype=np.float64)
    if not len(best) or not np.isfinite(negatives):
        return np.full(len(places), np.nan)
    # Rounded first: 0.07 * 100 is a little more than 7.
    k = np.clip(np.ceil(np.round(places * len(best), 9)), 1, len(best)).astype(np.int64)
    precision: FloatArray = k / (k + (1 - best[k - 1]) * negatives)
    return precision


def check_tables(check: SelfCheck, method: str) -> Check:
    """The curves, figures and placements of a self-check.

    Args:
        check: The self-check, with at least one repeat.
        method: The method that ranked the candidates of the run, shown first; it need not be among those checked.
    """
    curves, places = [], []
    for condition in ("real", *check.settings["controls"]):
        records = [each["conditions"][condition] for each in check.repeats if condition in each["conditions"]]
        for name in dict.fromkeys(name for record in records for name in record["methods"]):
            repeats = [record["methods"][name] for record in records if name in record["methods"]]
            common = {"condition": condition, "method": name, "by": repeats[0]["by"]}
            for negatives in ("all", "degree-matched"):
                precisions, chances = zip(*(_curve(each, negatives) for each in repeats), strict=True)
                curve = {"recall": GRID, "precision": _mean(precisions), "chance": float(_mean(chances))}
                curves.append(pd.DataFrame({**common, "negatives": negatives, **curve}))
            shares = np.array([share for each in repeats for share in each["placement"]["all"]], dtype=np.float64)
            places.append(pd.DataFrame({**common, "place": shares}))
    return Check(
        method=method,
        methods=check.methods,
        curves=pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(),
        places=pd.concat(places, ignore_index=True) if places else pd.DataFrame(),
        summary=check.summary(),
        controls=check.control_table(),
        statement=check.statement(),
        caveats=check.caveats(),
        groups=check.groups(),
        repeats=len(check.repeats),
        fraction=float(check.settings["fraction"]),
        hidden=int(check.counts["n_distinct"]),
        verdict=check.verdicts().get(method),
    )


def _curve(record: dict[str, Any], negatives: str) -> tuple[FloatArray, float]:
    """Precisions of a repeat on the grid of recalls, and that of chance; NaN where they are undefined."""
    share = np.array(record["placement"][negatives], dtype=np.float64)
    metrics = record["metrics"][negatives]
    chance = metrics["chance_average_precision"]
    if not chance:  # None after reading from a file, where it is undefined
        return np.full(len(GRID), np.nan), float("nan")
    # The average precision of a score that knows nothing is P / (P + W).
    weight = metrics["n_positives"] * (1 - chance) / chance
    return precision_at_recall(share, weight, GRID), float(chance)


def _mean(rows: Sequence[npt.ArrayLike]) -> FloatArray:
    """Mean of the defined values over the rows, NaN where there is none."""
    table = np.array(rows, dtype=np.float64)
    n = np.isfinite(table).sum(axis=0)
    mean: FloatArray = np.where(n > 0, np.nansum(table, axis=0) / np.maximum(n, 1), np.nan)
    return mean


def agreement_matrix(pairs: pd.DataFrame, values: Iterable[float]) -> tuple[list[str], FloatArray]:
    """Names of the rankings in the rows of :func:`agreement`, and the values of the rows as a symmetric matrix."""
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    matrix = np.eye(len(names))
    for first, second, value in zip(pairs["first"], pairs["second"], values, strict=True):
        i, j = names.index(first), names.index(second)
        matrix[i, j] = matrix[j, i] = value
    return names, matrix


def hidden_ranks(check: SelfCheck) -> pd.DataFrame:
    """Rank of each hidden edge by each method: a row per edge and repeat, a column per method."""
    parts = [
        pd.DataFrame({name: record["methods"][name]["rank"] for name in check.methods if name in record["methods"]})
        for record in (each["conditions"]["real"] for each in check.repeats)
    ]
    return pd.concat([part for part in parts if len(part)] or [pd.DataFrame()], ignore_index=True)


def method_ranks(edges: pd.DataFrame, method: str) -> pd.DataFrame:
    """Rank of each candidate by each method in a table of edges: columns ``rank_<method>`` or ``score_<method>``.

    Args:
        edges: Candidates.
        method: The method of the columns ``rank`` and ``score``.

    Returns:
        One column per method, 1 the best.

    Example:
        >>> table = pd.DataFrame({"rank": [1, 2, 3], "score_gradient": [0.1, 0.9, None]})
        >>> method_ranks(table, "magnitude").to_dict("list")
        {'magnitude': [1.0, 2.0, 3.0], 'gradient': [2.0, 1.0, nan]}
    """
    ranks: dict[str, Any] = {method or "ranking": edges["rank"].astype("Float64").to_numpy(float, na_value=np.nan)}
    for name in edges.columns:
        what, _, other = str(name).partition("_")
        if not other or other == method or what not in {"rank", "score"}:
            continue
        values = pd.to_numeric(edges[name], errors="coerce")
        if what == "rank":
            ranks[other] = values.to_numpy(float)
        elif f"rank_{other}" not in edges.columns:
            ranks[other] = values.rank(ascending=False, method="average").to_numpy(float)
    return pd.DataFrame(ranks, index=edges.index)


def agreement(ranks: pd.DataFrame, what: str, top: int | None = TOP) -> pd.DataFrame:
    """How far rankings agree, two by two.

    Args:
        ranks: One column per method, 1 the best, NaN where a method has none.
        what: What is ranked, in words.
        top: Places for the overlap; None for none.

    Returns:
        Columns edges (``what``), first, second, spearman (over the edges that both rank; NaN below 3), shared (how
        many of the ``top`` best of each are the same; NaN without ``top``), top, n. Empty for a single method.

    Example:
        >>> ranks = pd.DataFrame({"a": [1, 2, 3, 4], "b": [2, 1, 3, 4]})
        >>> agreement(ranks, "candidates", top=2)[["first", "second", "spearman", "shared"]].to_dict("list")
        {'first': ['a'], 'second': ['b'], 'spearman': [0.8], 'shared': [2.0]}
    """
    rows = []
    for pair in combinations(ranks, 2):
        both = ranks[list(pair)].astype(float).dropna().rank()
        n = min(top or 0, len(both))
        shared = float((both <= n).all(axis=1).sum()) if n else float("nan")
        defined = len(both) > 2 and both.nunique().min() > 1
        rho = round(float(np.corrcoef(both.T)[0, 1]), 9) if defined else float("nan")
        rows.append((what, *map(str, pair), rho, shared, n, len(both)))
    return pd.DataFrame(rows, columns=["edges", "first", "second", "spearman", "shared", "top", "n"])
