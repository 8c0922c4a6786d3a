"""Known edges with a bypass: their source reaches their target without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from gsnn.graph.kinds import FUNCTION_EDGES, edge_type

if TYPE_CHECKING:
    from gsnn.graph.checks import Edge
    from gsnn.graph.graph import Graph

_MOST = 1000  # edges that are examined; of more edges, a random sample


def routed(graph: Graph, edges: Sequence[Edge]) -> list[bool]:
    """Whether the source of each pair reaches its target by function edges.

    Args:
        graph: The prior graph; to test hidden edges, the graph without them.
        edges: Pairs of names of functions.

    Example:
        >>> from gsnn.graph import Graph
        >>> nodes = {"input_nodes": ["x"], "function_nodes": ["a", "b", "c"], "output_nodes": ["y"]}
        >>> graph = Graph.from_edges([("x", "a"), ("a", "b"), ("b", "c"), ("c", "y")], **nodes)
        >>> routed(graph, [("a", "c"), ("c", "a")])
        [True, False]
    """
    steps, place = _steps(graph), {name: i for i, name in enumerate(graph.functions)}
    reached: dict[str, set[int]] = {}
    for source in dict.fromkeys(source for source, _ in edges):
        reached[source] = set(_reached(steps, place[source]).tolist())
    return [place[target] in reached[source] for source, target in edges]


def bypass_count(graph: Graph, most: int = _MOST, seed: int = 0) -> tuple[int, int]:
    """Count the known edges between functions that have a bypass, self-edges left out.

    Hiding such an edge in a self-check has little effect: the signal takes the other path, so a model without the edge
    loses little and does not propose it again.

    Args:
        graph: The prior graph.
        most: Largest number of edges to examine; of more, a random sample is taken.
        seed: Seed of that sample.

    Returns:
        How many edges have a bypass, and how many were examined.

    Example:
        >>> from gsnn.graph import Graph
        >>> nodes = {"input_nodes": ["x"], "function_nodes": ["a", "b", "c"], "output_nodes": ["y"]}
        >>> edges = [("x", "a"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "y")]
        >>> bypass_count(Graph.from_edges(edges, **nodes))
        (1, 3)
    """
    steps = _steps(graph)
    source, target = steps.nonzero()
    chosen = np.arange(len(source))
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(chosen), most, replace=False))
    n = 0
    for k in chosen.tolist():
        steps.indices[k] = source[k]  # as a self-edge, the edge leads nowhere
        n += bool((_reached(steps, int(source[k])) == target[k]).any())
        steps.indices[k] = target[k]
    return n, len(chosen)


def _steps(graph: Graph) -> sparse.csr_array:
    """The edges between different functions as a matrix (N, N)."""
    source, target = graph.edge_index_dict[edge_type(FUNCTION_EDGES)].numpy()
    apart = source != target
    return sparse.csr_array((np.ones(apart.sum()), (source[apart], target[apart])), shape=(graph.N, graph.N))


def _reached(steps: sparse.csr_array, start: int) -> npt.NDArray[np.int32]:
    """Functions that a function reaches, itself left out."""
    order: npt.NDArray[np.int32] = csgraph.breadth_first_order(steps, start, return_predecessors=False)
    return order[1:]
