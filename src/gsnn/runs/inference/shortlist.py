"""A short list of the best candidates: look-alikes in one row, few rows of one source or target."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MEMBERS = 3  # how many look-alikes are named
_PER_END = 3  # how many rows may have the same source, and how many the same target
_BEST = 2000  # how many of the best candidates the rows are taken from


@dataclass(frozen=True)
class Shortlist:
    """A few rows for a list of candidates.

    Attributes:
        rows: The best candidate of each group of look-alikes, as a row of ``edges.csv``, with ``look_alikes``: the
            other members as (source, target), best first.
        notes: What the best candidates have in common, a sentence each.
    """

    rows: list[dict[str, Any]]
    notes: list[str]

    def to_list(self) -> list[dict[str, Any]]:
        """JSON-able: source, target, rank, score, and the look-alikes as ``A:B``."""
        names = ("kind", "source", "target", "rank", "score")
        return [
            {name: row[name] for name in names if name in row}
            | {"look_alikes": [":".join(pair) for pair in row["look_alikes"]]}
            for row in self.rows
        ]


def shortlist(edges: pd.DataFrame, n: int = 10) -> Shortlist:
    """Put look-alikes into one row, with at most 3 rows of one source and 3 of one target.

    Where this leaves fewer than ``n`` rows, the best of the others fill up. Every candidate keeps its rank.

    Args:
        edges: Rows of ``edges.csv`` of one kind, candidates best first; known edges are left out.
        n: How many rows to give, at most.

    Example:
        >>> import pandas as pd
        >>> edges = pd.DataFrame({"source": list("abcd"), "target": list("zzzz"), "rank": [1, 2, 3, 4],
        ...                       "known": False, "alias_group": [0, 0, 1, 2]})
        >>> best = shortlist(edges, n=3)
        >>> [(row["source"], row["look_alikes"]) for row in best.rows]
        [('a', [('b', 'z')]), ('c', []), ('d', [])]
        >>> best.notes[0]
        '3 of the best 3 have the target z; shown are at most 3 of each source and target, where there are others'
    """
    candidates = edges[~edges["known"].astype(bool)]
    best = candidates.head(_BEST)
    notes = _concentration(best.head(n))
    grouped = "alias_group" in best
    first = best.drop_duplicates("alias_group") if grouped else best
    chosen: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    used: Counter[tuple[str, str]] = Counter()
    for record in first.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        ends = [("source", str(row["source"])), ("target", str(row["target"]))]
        if all(used[end] < _PER_END for end in ends):
            chosen.append(row)
            used.update(ends)
        else:
            others.append(row)
        if len(chosen) == n:
            break
    chosen = sorted(chosen + others[: n - len(chosen)], key=lambda row: (row["rank"], row["source"], row["target"]))
    members: dict[Any, list[tuple[str, str]]] = {}
    if grouped:
        alike = candidates[candidates["alias_group"].isin([row["alias_group"] for row in chosen])]
        for group, source, target in zip(alike["alias_group"], alike["source"], alike["target"], strict=True):
            members.setdefault(group, []).append((str(source), str(target)))
    for row in chosen:
        own = (str(row["source"]), str(row["target"]))
        row["look_alikes"] = [pair for pair in members.get(row.get("alias_group"), ()) if pair != own]
    if any(row["rank"] > n for row in chosen) and notes:
        notes[-1] += f"; shown are at most {_PER_END} of each source and target, where there are others"
    return Shortlist(chosen, notes)


def _concentration(top: pd.DataFrame) -> list[str]:
    """What more than half of the best candidates have in common, a sentence each."""
    notes = []
    shared = {
        "source": "have the source {}",
        "target": "have the target {}",
        "alias_group": "come from one group of look-alikes",
    }
    for name, words in shared.items():
        if name not in top or not len(top):
            continue
        counts = top[name].value_counts()
        most = int(counts.iloc[0])
        if 2 * most > len(top) and most > 2:
            notes.append(f"{most} of the best {len(top)} {words.format(counts.index[0])}")
    return notes
