"""The checks behind Graph: names, indices, weights, signs; all on whole arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.edge_rows import edge_rows
from gsnn.base.errors import DataError, did_you_mean

Edge = tuple[str, str]
SignedEdge = tuple[str, str, int]
EdgeType = tuple[str, str, str]
Names = dict[str, tuple[str, ...]]
SignArray = npt.NDArray[np.int8]

NODE_TYPES: tuple[str, ...] = ("function", "input", "output")
"""Node types in the homogeneous order that masks and checkpoints rely on."""

EDGE_TYPES: tuple[EdgeType, ...] = (
    ("function", "to", "function"),
    ("input", "to", "function"),
    ("function", "to", "output"),
)
"""Edge types in the homogeneous order."""

_ALLOWED = "input -> function, function -> function, function -> output"


def shown(items: Iterable[str], limit: int = 5) -> str:
    """The first few items as one string, with an ellipsis where there are more."""
    iterator = iter(items)
    head = list(islice(iterator, limit))
    return ", ".join(head) + (", ..." if next(iterator, None) is not None else "")


def arrow(source: object, target: object) -> str:
    """An edge as it is written in messages."""
    return f"{source!r} -> {target!r}"


@dataclass(frozen=True)
class Edges:
    """The distinct edges of one type.

    Attributes:
        index: Shape (2, E_type).
        weight: Shape (E_type,), or None.
        sign: Shape (E_type,), or None.
        duplicated: Edges that were given more than once, shape (2, D).
    """

    index: IntArray
    weight: FloatArray | None
    sign: SignArray | None
    duplicated: IntArray

    def take(self, rows: IntArray) -> Edges:
        """The edges at some positions."""
        return Edges(
            self.index[:, rows],
            None if self.weight is None else self.weight[rows],
            None if self.sign is None else self.sign[rows],
            np.empty((2, 0), np.int64),
        )

    def append(self, new: Edges, *, signed: bool) -> Edges:
        """These edges, then the new ones; if only one side has signs, those of the other are unknown (0)."""
        sign = weight = None
        if signed:
            sign = np.concatenate(
                [np.zeros(e.index.shape[1], np.int8) if e.sign is None else e.sign for e in (self, new)]
            )
        if self.weight is not None and new.weight is not None:
            weight = np.concatenate([self.weight, new.weight])
        return Edges(np.concatenate([self.index, new.index], axis=1), weight, sign, self.duplicated)


def check_names(names: Mapping[str, Iterable[str]]) -> Names:
    """The names of each node type, after checking that they are non-empty and unique strings."""
    unknown = sorted(str(kind) for kind, listed in names.items() if kind not in NODE_TYPES and len(list(listed)))
    if unknown:
        raise DataError(f"unknown node types {unknown}; use 'input', 'function' and 'output'")
    text = [kind for kind, listed in names.items() if isinstance(listed, str)]
    if text:
        raise DataError(
            f"names of {text[0]} nodes must be a list of names, got the string {names[text[0]]!r}; put it in []"
        )
    checked = {kind: tuple(names.get(kind, ())) for kind in NODE_TYPES}
    for kind, listed in checked.items():
        wrong = [name for name in listed if not isinstance(name, str) or not name]
        if wrong:
            raise DataError(
                f"names of {kind} nodes must be non-empty strings, got {shown(map(repr, wrong))}; use str(name)"
            )
        if len(set(listed)) != len(listed):
            raise DataError(f"duplicate {kind} names {_repeated(listed)}; every node needs a name of its own")
    everything = [name for listed in checked.values() for name in listed]
    if len(set(everything)) != len(everything):
        twice = _repeated(everything)
        raise DataError(f"names in two node types: {twice}; rename the node in one, e.g. 'in:NAME'")
    empty = [kind for kind, listed in checked.items() if not listed]
    if empty:
        raise DataError(f"no {' and no '.join(empty)} nodes: such a graph cannot be trained; name at least one of each")
    return checked


def _repeated(names: Sequence[str]) -> str:
    """The names that occur more than once, for a message."""
    return shown(repr(name) for name, n in Counter(names).items() if n > 1)


def check_edges(
    index: Mapping[EdgeType, Any],
    weight: Mapping[EdgeType, Any] | None,
    sign: Mapping[EdgeType, Any] | None,
    names: Names,
) -> dict[EdgeType, Edges]:
    """The edges of each type, checked, with duplicates collapsed.

    Raises:
        DataError: If the edges break a rule of :class:`gsnn.graph.Graph`.
    """
    counts = {kind: _as_array(ends).size // 2 for kind, ends in index.items() if kind not in EDGE_TYPES}
    foreign = [f"{kind} ({n} edges)" for kind, n in counts.items() if n]
    if foreign:
        raise DataError(
            f"edges of types that a graph has not: {shown(foreign)}; allowed are {_ALLOWED}, "
            "with keys (source type, 'to', target type)"
        )
    return {
        kind: _collapse(
            kind,
            check_index(kind, index.get(kind), names),
            None if weight is None else weight.get(kind),
            None if sign is None else sign.get(kind),
            names,
            weighted=weight is not None,
            signed=sign is not None,
        )
        for kind in EDGE_TYPES
    }


def _as_array(values: Any) -> npt.NDArray[Any]:  # noqa: ANN401 - a tensor or anything numpy reads
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def check_index(kind: EdgeType, values: Any, names: Names) -> IntArray:  # noqa: ANN401
    """A copy of the index as (2, E_type) int64; None has no edges.

    Raises:
        DataError: If it has another shape or type, or a node that does not exist.
    """
    index = _as_array([] if values is None else values)
    if index.size == 0:
        return np.empty((2, 0), np.int64)
    if index.ndim != 2 or index.shape[0] != 2:
        hint = "; pass its transpose" if index.ndim == 2 and index.shape[1] == 2 else ""
        raise DataError(f"edge_index_dict[{kind}] must have shape (2, E), got {index.shape}{hint}")
    if not np.issubdtype(index.dtype, np.integer):
        raise DataError(f"edge_index_dict[{kind}] must hold integers, got {index.dtype}; convert it to int64")
    index = index.astype(np.int64)
    limits = np.array([[len(names[kind[0]])], [len(names[kind[2]])]])
    bad = np.flatnonzero(((index < 0) | (index >= limits)).any(axis=0))
    if bad.size:
        listed = shown(f"edge {e} = ({index[0, e]}, {index[1, e]})" for e in bad)
        raise DataError(
            f"edge_index_dict[{kind}]: {bad.size} edges with an index out of range: {listed}; there are "
            f"{limits[0, 0]} {kind[0]} and {limits[1, 0]} {kind[2]} nodes, counted from 0 within their type"
        )
    return index


def _collapse(
    kind: EdgeType,
    index: IntArray,
    weight: Any,  # noqa: ANN401
    sign: Any,  # noqa: ANN401
    names: Names,
    *,
    weighted: bool,
    signed: bool,
) -> Edges:
    """One edge for each pair, in order of first occurrence."""
    weights = signs = None
    if weighted:
        weights = _attribute("edge_weight_dict", kind, weight, index.shape[1])
        _refuse("edge_weight_dict", kind, index, weights, ~np.isfinite(weights), names, "a weight must be finite")
    if signed:
        numbers = _attribute("edge_sign_dict", kind, sign, index.shape[1])
        _refuse("edge_sign_dict", kind, index, numbers, ~np.isin(numbers, (-1, 0, 1)), names, "a sign is -1, 0 or +1")
        signs = numbers.astype(np.int8)
    key = index[0] * len(names[kind[2]]) + index[1]
    _, first, inverse, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    if len(first) == len(key):
        return Edges(index, weights, signs, np.empty((2, 0), np.int64))
    if weights is not None:
        differs = weights != weights[first[inverse]]
        _refuse("edge_weight_dict", kind, index, weights, differs, names, "repeated edges must agree; combine them")
    order = np.argsort(first)  # np.unique sorts by key; the graph keeps the order of the edges
    collapsed = None
    if signs is not None:
        positive = np.bincount(inverse, weights=signs > 0) > 0
        negative = np.bincount(inverse, weights=signs < 0) > 0
        collapsed = (positive.astype(np.int8) - negative.astype(np.int8))[order]
    rows = first[order]
    duplicated = index[:, rows[count[order] > 1]]
    return Edges(index[:, rows], None if weights is None else weights[rows], collapsed, duplicated)


def _attribute(parameter: str, kind: EdgeType, numbers: Any, n_edges: int) -> FloatArray:  # noqa: ANN401
    """Weights or signs of one type as float64, one for each edge."""
    values = np.empty(0) if numbers is None else _as_array(numbers)
    if values.shape != (n_edges,):
        raise DataError(f"{parameter}[{kind}] must have shape ({n_edges},), one number an edge, got {values.shape}")
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{parameter}[{kind}] must hold numbers, got {shown(map(repr, values.tolist()))}") from error


def _refuse(
    parameter: str,
    kind: EdgeType,
    index: IntArray,
    values: npt.NDArray[Any],
    bad: npt.NDArray[np.bool_],
    names: Names,
    rule: str,
) -> None:
    """Raise a DataError that lists the edges whose value breaks a rule, if there are any."""
    rows = np.flatnonzero(bad)
    if rows.size:
        source, target = names[kind[0]], names[kind[2]]
        listed = shown(f"{arrow(source[index[0, e]], target[index[1, e]])} ({values[e]:g})" for e in rows)
        raise DataError(f"{parameter}[{kind}]: {rule}; {rows.size} do not: {listed}")


def check_trainable(edges: Mapping[EdgeType, Edges]) -> None:
    """Raise a DataError if no output depends on a parameter of the model."""
    if not edges["function", "to", "output"].index.shape[1]:
        raise DataError(
            "no function -> output edges: no output depends on the model, so it cannot be trained; "
            "add an edge from a function to each output"
        )


def locate(source: Sequence[str], target: Sequence[str], names: Names) -> list[tuple[EdgeType, IntArray, IntArray]]:
    """Sort edges given by name into the edge types.

    Returns:
        For each edge type: the type, its edges (2, E_type) by local index, and their positions in the arguments.

    Raises:
        DataError: If a name is unknown, or an edge joins types that have no edges.
    """
    place = {name: (code, i) for code, kind in enumerate(NODE_TYPES) for i, name in enumerate(names[kind])}
    unknown = [name for name in dict.fromkeys([*source, *target]) if name not in place]
    if unknown:
        hints = shown(f"{name!r}{did_you_mean(str(name), place)}" for name in unknown)
        raise DataError(f"{len(unknown)} edge ends that are not nodes of the graph: {hints}")
    n_edges = len(source)
    ends = np.array([place[name] for name in (*source, *target)], np.int64).reshape(2, n_edges, 2)
    kinds = ends[0, :, 0] * len(NODE_TYPES) + ends[1, :, 0]
    located = []
    taken = np.zeros(n_edges, bool)
    for kind in EDGE_TYPES:
        is_kind = kinds == NODE_TYPES.index(kind[0]) * len(NODE_TYPES) + NODE_TYPES.index(kind[2])
        taken |= is_kind
        rows = np.flatnonzero(is_kind)
        located.append((kind, np.ascontiguousarray(ends[:, rows, 1]), rows))
    wrong = np.flatnonzero(~taken).tolist()
    if wrong:
        listed = shown(
            f"{arrow(source[e], target[e])} ({NODE_TYPES[ends[0, e, 0]]} -> {NODE_TYPES[ends[1, e, 0]]})" for e in wrong
        )
        raise DataError(
            f"{len(wrong)} edges join types that have no edges: {listed}; allowed are {_ALLOWED}: "
            "leave these edges out, or put a function node between"
        )
    return located


def columns(edges: Iterable[Edge | SignedEdge]) -> tuple[list[str], list[str], list[int] | None]:
    """Pairs or triples as (sources, targets, signs or None); see :func:`gsnn.base.edge_rows.edge_rows`."""
    source, target, signs, _ = edge_rows(edges, _is_sign)
    wrong = [name for name in (*source, *target) if not isinstance(name, str)]
    if wrong:
        raise DataError(f"the ends of edges must be names as text, got {shown(map(repr, wrong))}; use str(name)")
    return source, target, None if signs is None else [0 if sign is None else _number(sign) for sign in signs]


def _is_sign(element: Any) -> bool:  # noqa: ANN401 - of an edge
    """Whether an element of an edge is -1, 0 or 1, also as text; a missing value counts as 0."""
    if isinstance(element, str):
        return element in {"-1", "0", "1", "+1", "+", "-"}
    return element is None or bool(np.isscalar(element) and (element in (-1, 0, 1) or element != element))


def _number(sign: Any) -> int:  # noqa: ANN401
    """A sign as -1, 0 or 1."""
    if isinstance(sign, str):
        return {"+": 1, "-": -1}[sign] if sign in {"+", "-"} else int(sign)
    return 0 if sign is None or sign != sign else int(sign)


def same_edges(a: Edges, b: Edges) -> bool:
    """Whether two sets of distinct edges are equal, whatever their order."""
    if a.index.shape != b.index.shape:
        return False
    rows_a, rows_b = (np.lexsort(e.index) for e in (a, b))
    pairs: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = [(a.index[:, rows_a], b.index[:, rows_b])]
    for left, right in ((a.weight, b.weight), (a.sign, b.sign)):
        if left is not None and right is not None:
            pairs.append((left[rows_a], right[rows_b]))
    return all(np.array_equal(left, right) for left, right in pairs)
