"""Arrays of indices from what callers pass: names or indices, matrices or tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import closest


def unknown_names(parameter: str, unknown: Collection[str], names: Iterable[str]) -> ValueError:
    """An error for names of nodes that do not exist, with the closest that do."""
    first = next(iter(unknown))
    near = closest(str(first), names)
    hint = f"; the closest to {first!r} are {near}" if near else ""
    return ValueError(f"{parameter} names unknown nodes: {sorted(map(str, unknown))[:5]}{hint}")


def as_index(
    parameter: str,
    edges: Any,  # noqa: ANN401 - an array, a tensor or pairs
    n_nodes: int,
    names: Sequence[str] | None = None,
    *,
    unique: bool = True,
) -> IntArray:
    """Edges as (2, Q) indices in range, in the order given.

    Args:
        parameter: Name of the parameter, for messages.
        edges: An array or tensor (2, Q) of indices, or an iterable of pairs of indices or of names.
        n_nodes: N.
        names: Names of the nodes, needed for edges by name.
        unique: Whether an edge that is given again is dropped.

    Returns:
        Shape (2, Q).

    Raises:
        ValueError: If the shape is wrong, or a node is unknown or out of range.
    """
    if hasattr(edges, "detach"):
        edges = edges.detach().cpu().numpy()
    if isinstance(edges, np.ndarray):
        if edges.size and (edges.ndim != 2 or edges.shape[0] != 2):
            hint = "; pass its transpose" if edges.ndim == 2 and edges.shape[1] == 2 else ""
            raise ValueError(f"{parameter} must have shape (2, Q), got {edges.shape}{hint}")
        index = edges.reshape(2, -1)
    else:
        pairs = list(edges)
        if any(isinstance(pair, str) or len(pair) != 2 for pair in pairs):
            raise ValueError(f"{parameter} must be (source, target) pairs or a (2, Q) array, got {pairs[:3]}")
        if any(isinstance(end, str) for pair in pairs for end in pair):
            if names is None:
                raise ValueError(f"{parameter} has names of nodes; pass names= with the name of each row of the scores")
            place = {name: i for i, name in enumerate(names)}
            unknown = {end for pair in pairs for end in pair if end not in place}
            if unknown:
                raise unknown_names(parameter, unknown, place)
            pairs = [(place[source], place[target]) for source, target in pairs]
        index = np.array(pairs).reshape(-1, 2).T
    index = as_nodes(parameter, index, n_nodes)
    if not unique:
        return index
    _, first = np.unique(index[0] * n_nodes + index[1], return_index=True)
    return index[:, np.sort(first)]


def as_nodes(parameter: str, values: npt.ArrayLike, n_nodes: int) -> IntArray:
    """Numbers of nodes; ValueError unless they are whole and in range."""
    index = np.asarray(values)
    if index.size and not np.issubdtype(index.dtype, np.integer):
        raise ValueError(f"{parameter} must hold whole numbers, got {index.dtype}")
    if index.size and (index.min() < 0 or index.max() >= n_nodes):
        raise ValueError(f"{parameter} has an index out of range 0..{n_nodes - 1}: {index.min()}..{index.max()}")
    return index.astype(np.int64)


def table_nodes(table: pd.DataFrame) -> list[str]:
    """Names of the nodes of a table of edges: its categories, or its values in order of occurrence."""
    names: dict[str, None] = {}
    for column in ("src_func", "dst_func"):
        values = table[column]
        distinct = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values.unique()
        names.update(dict.fromkeys(distinct.tolist()))
    return list(names)


def name_codes(column: pd.Series, names: Sequence[str]) -> IntArray:
    """Position of each value of a column among the names, -1 where it is none of them."""
    index = pd.Index(np.array(names, dtype=object))
    if isinstance(column.dtype, pd.CategoricalDtype):
        # One look-up a category, not one a row; the appended -1 serves missing values, whose code is -1.
        place = index.get_indexer(pd.Index(column.cat.categories.to_numpy(dtype=object)))
        return np.append(place, -1)[column.cat.codes.to_numpy()]
    return index.get_indexer(pd.Index(column.to_numpy(dtype=object)))


def check_table(table: pd.DataFrame, score_col: str) -> None:
    """Raise ValueError if a table of edges lacks a column."""
    absent = [column for column in ("src_func", "dst_func", score_col) if column not in table.columns]
    if absent:
        raise ValueError(f"the table has no column {absent[0]!r}; it has {list(table.columns)}")


def table_matrix(table: pd.DataFrame, score_col: str, names: Sequence[str]) -> FloatArray:
    """Scores of a table as a matrix (N, N); a pair without a row is NaN.

    Raises:
        ValueError: If a column is missing or a name unknown.
    """
    check_table(table, score_col)
    ends = [name_codes(table[column], names) for column in ("src_func", "dst_func")]
    for column, codes in zip(("src_func", "dst_func"), ends, strict=True):
        if (codes < 0).any():
            raise unknown_names(f"the column {column}", set(table[column].to_numpy()[codes < 0]), names)
    matrix = np.full((len(names), len(names)), np.nan)
    matrix[ends[0], ends[1]] = table[score_col].to_numpy(dtype=np.float64)
    return matrix


def squared(values: npt.NDArray[Any], fill: float = np.nan) -> npt.NDArray[Any]:
    """A matrix (S, T) of sources and targets that are different nodes as one of all S + T nodes.

    Args:
        values: (S, T).
        fill: What stands for pairs that no edge can join.

    Returns:
        (S + T, S + T), with the values at [:S, S:].

    Example:
        >>> squared(np.array([[1, 2]]), 0).tolist()
        [[0, 1, 2], [0, 0, 0], [0, 0, 0]]
    """
    n_sources, n_targets = values.shape
    n = n_sources + n_targets
    whole = np.full((n, n), fill, dtype=values.dtype)
    whole[:n_sources, n_sources:] = values
    return whole


def never_joined(n_sources: int, n_targets: int) -> IntArray:
    """(2, Q) pairs of the S + T nodes of :func:`squared` that no edge can join."""
    return np.stack(np.nonzero(squared(np.zeros((n_sources, n_targets), dtype=np.int8), 1)))
