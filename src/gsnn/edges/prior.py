"""The known function-function edges of a prior graph, as every inferer needs them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import closest

FUNCTION_EDGE = ("function", "to", "function")


class PriorEdges:
    """Names of the function nodes and the edges known between them.

    Args:
        data: HeteroData-like: has ``edge_index_dict`` and ``node_names_dict``.

    Raises:
        TypeError: If ``data`` lacks one of the two.
        ValueError: If there are no function nodes, a name stands twice, or an edge points outside.

    Example:
        >>> from gsnn.graph import Graph
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> PriorEdges(graph).edges
        [('a', 'b')]
    """

    def __init__(self, data: Any) -> None:  # noqa: ANN401 - anything HeteroData-like
        for attribute in ("edge_index_dict", "node_names_dict"):
            if not hasattr(data, attribute):
                raise TypeError(f"data must be a Graph or HeteroData-like with {attribute}, got {type(data).__name__}")
        self.names: list[str] = list(data.node_names_dict.get("function", ()))
        self.N = len(self.names)
        if self.N == 0:
            raise ValueError("data has no function nodes: there are no edges to infer")
        self.index = {name: i for i, name in enumerate(self.names)}
        if len(self.index) != self.N:
            raise ValueError("data has function nodes of the same name; names must be unique")
        index = data.edge_index_dict.get(FUNCTION_EDGE)
        pairs = np.zeros((2, 0), dtype=np.int64) if index is None else np.asarray(index.cpu(), dtype=np.int64)
        if pairs.ndim != 2 or pairs.shape[0] != 2:
            raise ValueError(f"edge_index_dict[{FUNCTION_EDGE}] must have shape (2, E), got {pairs.shape}")
        if pairs.size and (pairs.min() < 0 or pairs.max() >= self.N):
            raise ValueError(f"edge_index_dict[{FUNCTION_EDGE}] must hold indices 0..{self.N - 1}, got {pairs.max()}")
        # Parallel edges are one edge here; the first keeps its place.
        _, first = np.unique(pairs[0] * self.N + pairs[1], return_index=True)
        self.pairs = pairs[:, np.sort(first)]
        self.edges: list[tuple[str, str]] = [
            (self.names[i], self.names[j]) for i, j in zip(*self.pairs.tolist(), strict=True)
        ]
        # A self-edge makes no node its own parent: what is asked of a target is asked given its other parents.
        source, target = self.pairs[:, self.pairs[0] != self.pairs[1]]
        counts = np.bincount(target, minlength=self.N)
        self.parents: list[npt.NDArray[np.int64]] = np.split(
            source[np.lexsort((source, target))], np.cumsum(counts)[:-1]
        )

    def matrix(self) -> npt.NDArray[np.bool_]:
        """(N, N) bool, True at known edges (source, target)."""
        known = np.zeros((self.N, self.N), dtype=bool)
        known[self.pairs[0], self.pairs[1]] = True
        return known

    def candidates(self, targets: range) -> npt.NDArray[np.bool_]:
        """(N, T) bool, True for the pairs that are no known edge and no self pair."""
        known = np.zeros((self.N, len(targets)), dtype=bool)
        inside = (self.pairs[1] >= targets.start) & (self.pairs[1] < targets.stop)
        known[self.pairs[0][inside], self.pairs[1][inside] - targets.start] = True
        known[np.arange(targets.start, targets.stop), np.arange(len(targets))] = True
        return ~known

    def has_edge(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which pairs i * N + j (K,) are known edges."""
        if len(rows) > self.N**2 // 64:
            return self.matrix().ravel()[rows]
        found: npt.NDArray[np.bool_] = np.isin(rows, self.pairs[0] * self.N + self.pairs[1])
        return found


def checked_targets(targets: range | None, n_nodes: int) -> range:
    """The range of targets of an inferer; all of them for None.

    Raises:
        ValueError: If it is empty, has a step, or leaves the nodes.

    Example:
        >>> checked_targets(None, 3)
        range(0, 3)
    """
    chosen = range(n_nodes) if targets is None else targets
    if chosen.step != 1 or not 0 <= chosen.start < chosen.stop <= n_nodes:
        raise ValueError(f"targets must be a range of nodes within 0..{n_nodes}, not empty, got {chosen}")
    return chosen


def match_nodes(names: list[str], wanted: str | list[str] | tuple[str, ...], parameter: str) -> npt.NDArray[np.bool_]:
    """Which nodes are meant by names or glob patterns (``*``, ``?``, ``[...]``); an exact name wins over a pattern.

    Args:
        names: The N node names.
        wanted: A name or pattern, or several.
        parameter: What to call it in the error.

    Returns:
        (N,) bool.

    Raises:
        ValueError: If a name or pattern matches no node; near misses are suggested.

    Example:
        >>> match_nodes(["akt", "erk1", "erk2"], ["erk*"], "sources")
        array([False,  True,  True])
    """
    chosen = np.zeros(len(names), dtype=bool)
    position = {name: i for i, name in enumerate(names)}
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        if pattern in position:
            chosen[position[pattern]] = True
            continue
        hits = [i for i, name in enumerate(names) if fnmatchcase(name, pattern)]
        if not hits:
            near = closest(pattern, names)
            hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
            raise ValueError(f"{parameter}: no function node is called or matches {pattern!r}{hint}")
        chosen[hits] = True
    return chosen
