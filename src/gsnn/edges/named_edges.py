"""Edges by name, as users give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import closest


def named_edges(edges: Iterable[Any], index: Mapping[str, int], parameter: str) -> npt.NDArray[np.int64]:
    """Indices of edges given by the names of their ends.

    Args:
        edges: (source, target) pairs of names.
        index: Position of each name.
        parameter: What to call the edges in an error.

    Returns:
        int64 (2, K).

    Raises:
        ValueError: If an edge is no pair or a name is unknown; near misses are suggested.

    Example:
        >>> named_edges([("b", "a")], {"a": 0, "b": 1}, "edges")
        array([[1],
               [0]])
    """
    pairs = list(edges)
    wrong = [pair for pair in pairs if isinstance(pair, str) or len(pair) != 2]
    if wrong:
        raise ValueError(f"{parameter} must be (source, target) pairs of names, got {wrong[:3]}")
    unknown = sorted({str(end) for pair in pairs for end in pair if end not in index})
    if unknown:
        near = closest(unknown[0], index)
        hint = f"; the closest to {unknown[0]!r} are {near}" if near else ""
        raise ValueError(f"{parameter} names unknown function nodes: {unknown[:5]}{hint}")
    return np.array([[index[s], index[t]] for s, t in pairs], dtype=np.int64).reshape(-1, 2).T
