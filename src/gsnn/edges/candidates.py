"""Which candidates of a ranking are kept: patterns, the best few, edges that are forbidden or asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import DataError, closest
from gsnn.graph.checks import Edge

if TYPE_CHECKING:
    from gsnn.edges import ScoredPairs

IntArray = npt.NDArray[np.int64]
Given = str | Path | Edge

__all__ = [
    "Given",
    "NamedEdges",
    "Selection",
    "candidate_rows",
    "keep_rows",
    "matching",
    "named_edges",
    "rank_rows",
    "select",
]


@dataclass(frozen=True)
class Selection:
    """What part of a ranking to keep.

    Attributes:
        top: So many candidates in all; None for no limit.
        per_target: So many of each target, chosen before ``top`` applies.
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
        rows: (K,) pairs i * N + j, ascending, each once.
        notes: What was left out, in words.
    """

    rows: IntArray
    notes: list[str]


def named_edges(given: Iterable[Given], functions: Sequence[str], what: str) -> NamedEdges:
    """Edges between functions from what was typed: ``A:B``, a pair of names, or a file of edges.

    A name may hold colons itself; then the one that leaves two names of functions counts. In a file, edges of other
    names are left out with a note; one that was typed is an error.

    Args:
        given: Texts, paths and pairs.
        functions: The N names.
        what: ``forbidden`` or ``required``, for the messages.

    Returns:
        The edges.

    Raises:
        DataError: If a text is neither an edge between functions nor a file, or is so in two ways.

    Example:
        >>> named_edges(["a:b", ("b", "c:d")], ["a", "b", "c:d"], "forbidden").rows.tolist()
        [1, 5]
    """
    index = {name: i for i, name in enumerate(functions)}
    n, rows, notes = len(functions), [], []
    for item in given:
        if isinstance(item, tuple):
            rows.append(_row(item, index, what))
        elif isinstance(item, str) and (pair := _typed(item, index, what)) is not None:
            rows.append(_row(pair, index, what))
        elif Path(item).exists():
            pairs = _read(item)
            inside = [(s, t) for s, t in pairs if s in index and t in index and s != t]
            rows += [index[s] * n + index[t] for s, t in inside]
            if len(inside) < len(pairs):
                notes.append(
                    f"{len(pairs) - len(inside)} of {len(pairs)} {what} edges in {item} are not between two functions "
                    "of the network and were left out"
                )
        else:
            raise DataError(_unknown(str(item), index, what))
    return NamedEdges(np.unique(np.asarray(rows, dtype=np.int64)), notes)


def _read(path: str | Path) -> list[Edge]:
    from gsnn.io.truth import read_truth

    return read_truth(path)


def _typed(text: str, index: dict[str, int], what: str) -> Edge | None:
    splits = [(text[:k], text[k + 1 :]) for k, letter in enumerate(text) if letter == ":"]
    found = [(s, t) for s, t in splits if s in index and t in index]
    if len(found) > 1:
        raise DataError(f"{what} edge {text!r} can be read in {len(found)} ways; put it into a file of edges")
    return found[0] if found else None


def _row(pair: Edge, index: dict[str, int], what: str) -> int:
    if len(pair) != 2 or pair[0] not in index or pair[1] not in index:
        raise DataError(_unknown(":".join(map(str, pair)), index, what))
    if pair[0] == pair[1]:
        raise DataError(f"{what} edge {':'.join(pair)!r} is a self-edge, which is no candidate")
    return index[pair[0]] * len(index) + index[pair[1]]


def _unknown(text: str, index: dict[str, int], what: str) -> str:
    if ":" not in text:
        return f"{what} edge {text!r} is neither A:B nor a file of edges"
    lost = [name for name in text.split(":", 1) if name not in index]
    hints = [f"{name!r} (did you mean {near[0]!r}?)" if (near := closest(name, index, 1)) else repr(name)
             for name in lost]  # fmt: skip
    return f"{what} edge {text!r} is not between two functions of the network: there is no {' and no '.join(hints)}"


def candidate_rows(scored: ScoredPairs, forbidden: IntArray) -> IntArray:
    """All candidates by score, best first, undefined last: neither known, nor forbidden, nor on the diagonal.

    Args:
        scored: The scores.
        forbidden: (K,) pairs.

    Returns:
        Their rows i * N + j; the place in it is the rank.
    """
    n = scored.prior.N
    out = np.zeros(n * n, dtype=bool)
    out[scored.prior.pairs[0] * n + scored.prior.pairs[1]] = True
    out[forbidden] = True
    rows = scored.all_rows()
    return rows[~out[rows]]


def rank_rows(order: IntArray, n_pairs: int) -> IntArray:
    """Rank of every pair, 1 the best; 0 for what is no candidate.

    Args:
        order: The candidates, best first.
        n_pairs: N * N.

    Returns:
        (N * N,)
    """
    rank = np.zeros(n_pairs, dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    return rank


def keep_rows(scored: ScoredPairs, order: IntArray, selection: Selection, required: IntArray) -> IntArray:
    """The candidates that are kept, in their order.

    Undefined scores are kept only where neither ``top`` nor ``per_target`` is given, or an edge is required.

    Args:
        scored: The scores.
        order: All candidates, best first.
        selection: What to keep.
        required: (K,) pairs kept whatever ``selection`` says.

    Returns:
        Rows.

    Raises:
        DataError: If a pattern matches no function.
    """
    keep = matching(scored, order, selection)
    if selection.top is not None or selection.per_target is not None:
        keep &= ~np.isnan(scored.score.ravel()[order])
    if selection.per_target is not None:
        keep[keep] = _place(order[keep] % scored.prior.N) < selection.per_target
    if selection.top is not None:
        keep &= np.cumsum(keep) <= selection.top
    return order[keep | np.isin(order, required)]


def matching(scored: ScoredPairs, rows: IntArray, selection: Selection) -> npt.NDArray[np.bool_]:
    """Which pairs have a source and a target that are selected."""
    source, target = select(scored.prior.names, selection)
    keep: npt.NDArray[np.bool_] = source[rows // scored.prior.N] & target[rows % scored.prior.N]
    return keep


def select(names: list[str], selection: Selection) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which functions are selected as sources, and as targets: (N,) each.

    Raises:
        DataError: If a pattern matches none.
    """
    from gsnn.edges.pairs import match_nodes

    every = np.ones(len(names), dtype=bool)
    try:
        source = match_nodes(names, list(selection.sources), "sources") if selection.sources else every
        target = match_nodes(names, list(selection.targets), "targets") if selection.targets else every
    except ValueError as error:
        raise DataError(str(error)) from error
    return source, target


def _place(labels: IntArray) -> IntArray:
    """How many equal labels stand before each."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    start = np.cumsum(counts) - counts
    place = np.empty(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels)) - start[labels[order]]
    return place
