"""A short list of the best candidates: look-alikes in one row, spread over their ends, and what fills the top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

PER_END = 3  # rows with one source, or one target, that are shown
MEMBERS = 3  # look-alikes that are named
_LOOKED_AT = 2000  # best candidates from which the rows are taken


@dataclass(frozen=True)
class Shortlist:
    """What a list of candidates says, shown in a few rows.

    Attributes:
        rows: The best candidate of each group of look-alikes, as a row of ``edges.csv``, with ``look_alikes``: the
            other members as (source, target), best first.
        notes: What fills the top of the list, a sentence each.
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


def shortlist(edges: pd.DataFrame, n: int = 10, per_end: int = PER_END) -> Shortlist:
    """Fold look-alikes into one row each, and spread the rows over sources and targets.

    The table itself stays as it is: every candidate keeps its rank.

    Args:
        edges: Rows of ``edges.csv`` of one kind, candidates best first; known edges are left out.
        n: How many rows to give, at most.
        per_end: How many of them may have the same source, and how many the same target. Where this leaves fewer
            than ``n``, the best of the others fill up.

    Example:
        >>> import pandas as pd
        >>> edges = pd.DataFrame({"source": list("abcd"), "target": list("zzzz"), "rank": [1, 2, 3, 4],
        ...                       "known": False, "alias_group": [0, 0, 1, 2]})
        >>> found = shortlist(edges, n=3, per_end=3)
        >>> [(row["source"], row["look_alikes"]) for row in found.rows]
        [('a', [('b', 'z')]), ('c', []), ('d', [])]
        >>> found.notes[0]
        '3 of the best 3 have the target z; shown are at most 3 of each source and target, where there are others'
    """
    candidates = edges[~edges["known"].astype(bool)]
    best = candidates.head(_LOOKED_AT)
    notes = _fillers(best.head(n))
    grouped = "alias_group" in best
    first = best.drop_duplicates("alias_group") if grouped else best
    chosen: list[dict[str, Any]] = []
    left: list[dict[str, Any]] = []
    used: dict[tuple[str, str], int] = {}
    for found in first.to_dict("records"):
        row = {str(name): value for name, value in found.items()}
        ends = [("source", str(row["source"])), ("target", str(row["target"]))]
        if all(used.get(end, 0) < per_end for end in ends):
            chosen.append(row)
            for end in ends:
                used[end] = used.get(end, 0) + 1
        else:
            left.append(row)
        if len(chosen) == n:
            break
    chosen = sorted(chosen + left[: n - len(chosen)], key=lambda row: (row["rank"], row["source"], row["target"]))
    members: dict[Any, list[tuple[str, str]]] = {}
    if grouped:
        of = candidates[candidates["alias_group"].isin([row["alias_group"] for row in chosen])]
        for group, source, target in zip(of["alias_group"], of["source"], of["target"], strict=True):
            members.setdefault(group, []).append((str(source), str(target)))
    for row in chosen:
        own = (str(row["source"]), str(row["target"]))
        row["look_alikes"] = [pair for pair in members.get(row.get("alias_group"), ()) if pair != own]
    if any(row["rank"] > n for row in chosen) and notes:
        notes[-1] += f"; shown are at most {per_end} of each source and target, where there are others"
    return Shortlist(chosen, notes)


def _fillers(top: pd.DataFrame) -> list[str]:
    """What more than half of the best candidates share."""
    found = []
    for name, words in (("source", "have the source {}"), ("target", "have the target {}"), ("alias_group", "")):
        if name not in top or not len(top):
            continue
        counts = top[name].value_counts()
        most = int(counts.iloc[0])
        if 2 * most > len(top) and most > 2:
            what = words.format(counts.index[0]) if words else "come from one group of look-alikes"
            found.append(f"{most} of the best {len(top)} {what}")
    return found
