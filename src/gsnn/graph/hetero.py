"""The research code's two functions between networkx and "HeteroData-like" graphs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gsnn.graph.graph import Graph

if TYPE_CHECKING:
    import networkx as nx


def nx2pyg(
    G: nx.DiGraph,
    input_nodes: Iterable[str],
    function_nodes: Iterable[str],
    output_nodes: Iterable[str],
    weight_attr: str | None = None,
) -> Graph:
    """A networkx DiGraph as a Graph, nodes in the given order.

    Args:
        G: The directed graph.
        input_nodes: Names of the inputs.
        function_nodes: Names of the functions.
        output_nodes: Names of the outputs.
        weight_attr: Edge attribute with the weight; None for an unweighted graph. The attribute ``sign`` is kept.

    Returns:
        The graph, which has ``edge_index_dict`` and ``node_names_dict`` as research code expects.

    Raises:
        DataError: See :class:`Graph`.

    Example:
        >>> import networkx as nx
        >>> data = nx2pyg(nx.DiGraph([("x", "a"), ("a", "y")]), ["x"], ["a"], ["y"])
        >>> data.edge_index_dict["input", "to", "function"]
        tensor([[0],
                [0]])
    """
    return Graph.from_networkx(G, input_nodes, function_nodes, output_nodes, weight_attr)


def pyg2nx(data: Any) -> nx.DiGraph:  # noqa: ANN401 - HeteroData or anything that looks like it
    """The inverse of :func:`nx2pyg`, for a Graph or anything that looks like ``HeteroData``.

    Example:
        >>> import networkx as nx
        >>> G = nx.DiGraph([("x", "a"), ("a", "y")])
        >>> sorted(pyg2nx(nx2pyg(G, ["x"], ["a"], ["y"])).edges)
        [('a', 'y'), ('x', 'a')]
    """
    return Graph.coerce(data).to_networkx()
