"""Which candidates of a ranking are kept: by patterns, the best few, forbidden and required edges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np

from gsnn.base.arrays import BoolArray, IntArray
from gsnn.base.errors import DataError, closest
from gsnn.edges.pairs import ScoredPairs, match_nodes
from gsnn.graph import Graph
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import FUNCTION_EDGES, edge_type
from gsnn.io.truth import read_truth

Given = str | Path | Edge


@dataclass(frozen=True)
class Selection:
    """What part of a ranking to keep.

    Attributes:
        top: Number of candidates in all; None for no limit.
        per_target: Number for each target, chosen before ``top`` applies.
        sources: Names or glob patterns of the sources; empty for all.
        targets: The same for targets.
    """

    top: int | None = None
    per_target: int | None = None
    sources: Sequence[str] = ()
    targets: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, value in (("top", self.top), ("per_target", self.per_target)):
            if value is not None and value < 1:
                label = name.replace("_", "-")
                raise DataError(f"{label} must be at least 1, got {value}; leave it out for every candidate")


@dataclass(frozen=True)
class NamedEdges:
    """Edges that the user named.

    Attributes:
        rows: For each kind (K,) pairs i * T + j, ascending, each once.
        notes: What was left out.
    """

    rows: Mapping[str, IntArray]
    notes: list[str]


@dataclass(frozen=True)
class Ends:
    """The nodes that edges of a kind may join.

    Attributes:
        kind: One of :data:`gsnn.graph.KINDS`.
        sources: Names of the S sources.
        targets: Names of the T targets.
    """

    kind: str
    sources: Sequence[str]
    targets: Sequence[str]

    @staticmethod
    def of(graph: Graph, kind: str) -> Ends:
        """The nodes of a graph."""
        source, _, target = edge_type(kind)
        names = graph.node_names_dict
        return Ends(kind, names[source], names[target])

    @cached_property
    def place(self) -> tuple[dict[str, int], dict[str, int]]:
        """Number of each source, and of each target."""
        return {name: i for i, name in enumerate(self.sources)}, {name: i for i, name in enumerate(self.targets)}

    def name(self, row: int) -> str:
        """A pair as ``A:B``."""
        i, j = divmod(row, len(self.targets))
        return f"{self.sources[i]}:{self.targets[j]}"

    def row(self, source: str, target: str) -> int | None:
        """The pair as i * T + j; None if it cannot be an edge of this kind."""
        i, j = self.place[0].get(source), self.place[1].get(target)
        return None if i is None or j is None else i * len(self.targets) + j

    def matching(self, source: str, target: str) -> IntArray:
        """(K,) pairs whose names match two glob patterns, without self pairs."""
        i, j = (
            np.array([k for k, name in enumerate(names) if fnmatchcase(name, pattern)], dtype=np.int64)
            for names, pattern in ((self.sources, source), (self.targets, target))
        )
        i, j = np.repeat(i, len(j)), np.tile(j, len(i))
        keep = i != j if self.kind == FUNCTION_EDGES else np.ones(len(i), bool)
        return i[keep] * len(self.targets) + j[keep]


def named_edges(given: Iterable[Given], ends: Sequence[Ends], what: str, *, patterns: bool = False) -> NamedEdges:
    """Edges as the user gave them: ``A:B``, a pair of names, or a file of edges.

    Names may contain colons; the text is split at the colon that leaves two known names. Edges of unknown names are an
    error if typed; in a file they are left out with a note.

    Args:
        given: Texts, paths and pairs.
        ends: The nodes of each kind of edges that is asked for.
        what: ``forbidden`` or ``required``, for the messages.
        patterns: Whether glob patterns are allowed as names, as in ``DRUG*:*``; an exact name wins.

    Raises:
        DataError: If a text is neither an edge nor a file, or is an edge in two ways.

    Example:
        >>> functions = ["a", "b", "c:d"]
        >>> ends = Ends("function->function", functions, functions)
        >>> named_edges(["a:b", ("b", "c:d")], [ends], "forbidden").rows
        {'function->function': array([1, 5])}
    """
    rows: dict[str, list[IntArray]] = {each.kind: [np.zeros(0, np.int64)] for each in ends}
    notes = []
    for item in given:
        typed = [item] if isinstance(item, tuple) else _splits(item) if isinstance(item, str) else []
        known = [pair for pair in typed if len(pair) == 2 and any(each.row(*pair) is not None for each in ends)]
        if len(known) > 1:
            raise DataError(f"{what} edge {item!r} can be read in {len(known)} ways; put it into a file of edges")
        if known:
            pair = known[0]
            if pair[0] == pair[1]:
                raise DataError(f"{what} edge {':'.join(pair)!r} is a self-edge, which is no candidate")
            for each in ends:
                row = each.row(*pair)
                if row is not None:
                    rows[each.kind].append(np.array([row]))
            continue
        if not isinstance(item, tuple) and Path(item).exists():
            pairs, n_inside = read_truth(item), 0
            for each in ends:
                inside = [row for s, t in pairs if s != t and (row := each.row(s, t)) is not None]
                rows[each.kind].append(np.array(inside, dtype=np.int64))
                n_inside += len(inside)
            if n_inside < len(pairs):
                notes.append(
                    f"{len(pairs) - n_inside} of {len(pairs)} {what} edges in {item} are not {_between(ends)} of the "
                    "network and were left out"
                )
            continue
        pairs_typed = [pair for pair in typed if patterns and len(pair) == 2]
        by_kind = [(each.kind, each.matching(*pair)) for pair in pairs_typed for each in ends]
        if not any(len(matched) for _, matched in by_kind):
            raise DataError(_unknown(":".join(map(str, item)) if isinstance(item, tuple) else str(item), ends, what))
        for kind, matched in by_kind:
            rows[kind].append(matched)
    return NamedEdges({kind: np.unique(np.concatenate(parts)) for kind, parts in rows.items()}, notes)


def _splits(text: str) -> list[Edge]:
    return [(text[:k], text[k + 1 :]) for k, letter in enumerate(text) if letter == ":"]


def _between(ends: Sequence[Ends]) -> str:
    if [each.kind for each in ends] == [FUNCTION_EDGES]:
        return "between two functions"
    return f"{' or '.join(each.kind for each in ends)} edges"


def _unknown(text: str, ends: Sequence[Ends], what: str) -> str:
    if ":" not in text:
        return f"{what} edge {text!r} is neither A:B nor a file of edges"
    known = {name for each in ends for name in each.sources}, {name for each in ends for name in each.targets}
    hints = []
    for name, names in zip(text.split(":", 1), known, strict=True):
        if name not in names:
            near = closest(name, sorted(names), 1)
            hints.append(f"{name!r} (did you mean {near[0]!r}?)" if near else repr(name))
    why = f": there is no {' and no '.join(hints)}" if hints else ""
    return f"{what} edge {text!r} is not {_between(ends)} of the network{why}"


def candidate_rows(scored: ScoredPairs, forbidden: IntArray) -> IntArray:
    """Rows of all candidates by score, best first, undefined last: neither known, nor forbidden, nor self pairs."""
    excluded = np.zeros(scored.score.size, dtype=bool)
    excluded[scored.prior.rows(*scored.prior.pairs)] = True
    excluded[forbidden] = True
    rows = scored.all_rows()
    return rows[~excluded[rows]]


def rank_rows(order: IntArray, n_pairs: int) -> IntArray:
    """Rank of each of all S * T pairs, 1 the best of ``order``; 0 for pairs that are no candidates."""
    rank = np.zeros(n_pairs, dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    return rank


def keep_rows(scored: ScoredPairs, order: IntArray, selection: Selection, required: IntArray) -> IntArray:
    """The candidates (all of them in ``order``, best first) that are selected or required, in their order."""
    return order[selected(scored, order, selection) | np.isin(order, required)]


def selected(scored: ScoredPairs, order: IntArray, selection: Selection) -> BoolArray:
    """Which candidates, best first, a selection keeps; undefined scores only without ``top`` and ``per_target``."""
    keep = matching(scored, order, selection)
    if selection.top is not None or selection.per_target is not None:
        keep &= ~np.isnan(scored.score.ravel()[order])
    if selection.per_target is not None:
        keep[keep] = earlier_equals(scored.places(order[keep])[1]) < selection.per_target
    if selection.top is not None:
        keep &= np.cumsum(keep) <= selection.top
    return keep


def matching(scored: ScoredPairs, rows: IntArray, selection: Selection) -> BoolArray:
    """Which pairs have a source and a target that are selected; a pattern may match none."""
    i, j = scored.places(rows)
    keep: BoolArray = _named(scored.prior.sources, selection.sources)[i]
    return keep & _named(scored.prior.targets, selection.targets)[j]


def check_patterns(selection: Selection, ends: Sequence[Ends]) -> None:
    """Raise a DataError if a pattern matches no node of any of the kinds of edges; it suggests near misses."""
    for parameter, patterns, sides in (
        ("sources", selection.sources, [(each.sources, edge_type(each.kind)[0]) for each in ends]),
        ("targets", selection.targets, [(each.targets, edge_type(each.kind)[2]) for each in ends]),
    ):
        names = list(dict.fromkeys(name for side, _ in sides for name in side))
        node = " or ".join(dict.fromkeys(type_ for _, type_ in sides))
        try:
            match_nodes(names, list(patterns), parameter, node)
        except ValueError as error:
            raise DataError(str(error)) from error


def _named(names: Sequence[str], patterns: Sequence[str]) -> BoolArray:
    """Which names match any of the patterns; all if there are none. An exact name wins over a pattern."""
    exact = set(patterns).intersection(names)
    globs = [pattern for pattern in patterns if pattern not in exact]
    return np.array(
        [not patterns or name in exact or any(fnmatchcase(name, pattern) for pattern in globs) for name in names], bool
    )


def earlier_equals(labels: IntArray) -> IntArray:
    """How many equal labels precede each."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    start = np.cumsum(counts) - counts
    place = np.empty(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels)) - start[labels[order]]
    return place
