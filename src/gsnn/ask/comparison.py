"""What several rankings of candidate edges, and the runs they are from, agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from gsnn.ask.agreement import TOP
from gsnn.base.errors import DataError
from gsnn.base.verdict import Verdict
from gsnn.graph.kinds import FUNCTION_EDGES
from gsnn.io.text import listed

_KEY = ["kind", "source", "target"]
TOPS = (10, 50, 100)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What rankings agree on.

    Attributes:
        names: Of the rankings.
        pairs: A row for each kind and pair of rankings: kind, first, second, candidates (how many both have), spearman
            (of their ranks); and for each k of which there are twice as many candidates: overlap_k, how many of the
            best k are the same in both, and chance_k, how many would be in random rankings, k² / n.
        edges: A row for each candidate that all rankings have: kind, source, target, worst (of its ranks), and its rank
            by each; the best in all come first.
        fits: A row for each run: run, r of the model, of ridge, and of the mean over all held-out values.
    """

    names: list[str]
    pairs: pd.DataFrame
    edges: pd.DataFrame
    fits: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """The candidates; the best in all come first."""
        return self.edges

    @property
    def tops(self) -> list[int]:
        """The k whose best candidates were counted."""
        return [int(name.removeprefix("overlap_")) for name in map(str, self.pairs) if name.startswith("overlap_")]

    @property
    def verdict(self) -> Verdict:
        """Whether the rankings agree, judged by the two that agree least, at the largest k that was counted.

        They *agree* if at least half of the best k are the same, *agree in part* if fewer are but more than chance
        gives (hypergeometric test at 5 % divided by the number of pairs), and *do not agree* otherwise.
        """
        agreements = []
        for row in self.pairs.to_dict("records"):
            k = max(k for k in self.tops if pd.notna(row[f"overlap_{k}"]))
            n, same = int(row["candidates"]), int(row[f"overlap_{k}"])
            k = min(k, n)
            p = float(stats.hypergeom.sf(same - 1, n, k, k)) * len(self.pairs)
            text = (
                f"{same} of the best {k} {row['kind']} candidates are the same in {row['first']} and {row['second']}, "
                f"where chance gives {row[f'chance_{k}']:.1f}"
            )
            agreements.append((same / k, p, text))
        share, p, text = min(agreements, key=lambda each: (each[0], -each[1]))
        text += "; no two agree less." if len(self.pairs) > 1 else "."
        caution = " Agreement is no truth: runs on one network share what it lets any of them say."
        if share >= 0.5:
            return Verdict(
                "the rankings agree", text + caution, "good",
                "gsnn selfcheck RUN for one of them, which tells whether such a ranking finds what is hidden",
            )  # fmt: skip
        if p <= 0.05:
            return Verdict(
                "the rankings agree in part", text + caution, "unsure",
                "take the candidates high in all; gsnn train --members 5 averages over trainings",
            )  # fmt: skip
        return Verdict(
            "the rankings do not agree", text, "bad",
            "gsnn train --members 5, which averages over trainings; do not build on one of these rankings",
        )  # fmt: skip

    def high_in_all(self, top: int = TOP) -> pd.DataFrame:
        """The candidates that every ranking has among its best ``top`` of those that all have."""
        return self.edges[self.edges["worst"] <= top]


def compare(
    tables: Mapping[str, pd.DataFrame],
    fits: Mapping[str, Mapping[str, float]] | None = None,
    tops: Sequence[int] = TOPS,
) -> Comparison:
    """Compare rankings of candidates, kind by kind.

    A candidate is an edge that no table marks as known; ranks are places among the candidates that the compared
    rankings have in common.

    Args:
        tables: By name a table of edges, with the columns source, target, rank, and perhaps kind and known.
        fits: By name the correlation of ``model``, ``ridge`` and ``mean`` with held-out responses.
        tops: How many of the best to count.

    Raises:
        DataError: If there are fewer than two tables, or two of them have no candidate in common.

    Example:
        >>> table = pd.DataFrame({"source": list("aab"), "target": list("bcc"), "rank": [1, 2, 3]})
        >>> found = compare({"one": table, "two": table.assign(rank=[1, 3, 2])}, tops=[1])
        >>> found.pairs[["candidates", "spearman", "overlap_1"]].iloc[0].tolist()
        [3.0, 0.5, 1.0]
        >>> found.verdict.short
        'the rankings agree'
    """
    if len(tables) < 2:
        raise DataError(f"give at least two runs to compare, got {len(tables)}")
    series = {name: _ranks(name, table) for name, table in tables.items()}
    known = set().union(*(each[1] for each in series.values()))
    ranks = {name: each[0][~each[0].index.isin(known)] for name, each in series.items()}
    rows = []
    for one, other in combinations(ranks, 2):
        both = pd.concat([ranks[one], ranks[other]], axis=1, join="inner")
        if both.empty:
            raise DataError(f"{one} and {other} have no candidate edge in common; compare runs on the same network")
        for kind, part in both.groupby(level="kind", sort=False):
            # Ranked again among the common candidates.
            first, second = (part.iloc[:, k].rank(method="average").to_numpy() for k in (0, 1))
            n = len(part)
            row: dict[str, Any] = {"kind": kind, "first": one, "second": other, "candidates": n}
            row["spearman"] = float(np.corrcoef(first, second)[0, 1]) if n > 2 else np.nan
            for k in tops:
                if 2 * k <= n or k == tops[0]:
                    row[f"overlap_{k}"] = int(np.count_nonzero((first <= k) & (second <= k)))
                    row[f"chance_{k}"] = min(k, n) ** 2 / n
            rows.append(row)
    together = pd.concat(ranks.values(), axis=1, join="inner", keys=ranks.keys())
    if together.empty:
        raise DataError(f"{listed(ranks)} have no candidate edge that is in all; compare runs on the same network")
    places = together.groupby(level="kind").rank(method="first").astype(int)
    places = places.assign(worst=places.max(axis=1), total=places.sum(axis=1))
    edges = places.sort_values(["worst", "total"], kind="stable").reset_index()[[*_KEY, "worst", *ranks]]
    table = [{"run": name, **values} for name, values in (fits or {}).items()]
    return Comparison(list(tables), pd.DataFrame(rows), edges, pd.DataFrame(table))


def _ranks(name: str, table: pd.DataFrame) -> tuple[pd.Series, list[Any]]:
    """Ranks by kind, source and target; and the known edges of the table."""
    missing = [column for column in ("source", "target", "rank") if column not in table]
    if missing:
        raise DataError(f"the edges of {name} have no column {listed(missing)}")
    table = table if "kind" in table else table.assign(kind=FUNCTION_EDGES)
    known = table["known"].to_numpy(bool) if "known" in table else np.zeros(len(table), bool)
    keyed = table.set_index(_KEY)["rank"]
    chosen = keyed[~known & keyed.notna().to_numpy()].astype(float)
    return chosen.rename(name), keyed.index[known].tolist()
