"""Which known edges have a bypass: their source reaches their target without them."""

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

_MOST = 1000  # edges that are looked at one by one; of more a sample is


def routed(graph: Graph, edges: Sequence[Edge]) -> list[bool]:
    """Whether the source of each pair reaches its target over function edges.

    Args:
        graph: The prior graph; for hidden edges the one without them.
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
    """How many known edges between functions have a bypass; edges of a function to itself are left out.

    A self-check hides such an edge to little effect: what the edge carried goes the other way, so that a model without
    it loses little and does not ask for it back.

    Args:
        graph: The prior graph.
        most: Of more edges than so many, a random sample is looked at.
        seed: Of that sample.

    Returns:
        How many have one, and of how many edges.

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
        steps.indices[k] = source[k]  # the edge, turned into one to its own source, leads nowhere
        n += bool((_reached(steps, int(source[k])) == target[k]).any())
        steps.indices[k] = target[k]
    return n, len(chosen)


def _steps(graph: Graph) -> sparse.csr_array:
    """The edges between different functions, each once, as a matrix."""
    source, target = graph.edge_index_dict[edge_type(FUNCTION_EDGES)].numpy()
    apart = source != target
    ones = np.ones(int(apart.sum()))
    steps = sparse.csr_array((ones, (source[apart], target[apart])), shape=(graph.N, graph.N))
    steps.sum_duplicates()
    return steps


def _reached(steps: sparse.csr_array, start: int) -> npt.NDArray[np.int32]:
    """Functions that a function leads to, itself left out."""
    found: npt.NDArray[np.int32] = csgraph.breadth_first_order(steps, start, return_predecessors=False)[1:]
    return found
