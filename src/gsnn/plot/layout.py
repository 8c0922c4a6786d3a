"""Which part of the network is drawn, and where its nodes stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import networkx as nx
import numpy as np

SWEEPS = 12  # up and down passes of the crossing reduction; it settles well before


def drawn_nodes(
    graph: nx.DiGraph, proposed: Sequence[tuple[str, str]], *, limit: int = 200, around: int = 120
) -> list[str]:
    """Nodes to draw: all of a small network, else the neighbourhood of the proposed edges.

    Args:
        graph: Known edges; every function node is in it.
        proposed: Proposed edges, best first.
        limit: Most nodes of a network that is drawn whole.
        around: Most nodes to draw of a larger one; more would be a hairball.

    Returns:
        Names in the graph's own order.

    Example:
        >>> chain = nx.path_graph([f"n{i}" for i in range(9)], create_using=nx.DiGraph)
        >>> drawn_nodes(chain, [("n1", "n4")], limit=8, around=5)
        ['n0', 'n1', 'n2', 'n3', 'n4']
    """
    if graph.number_of_nodes() <= limit:
        return list(graph)
    around = min(around, limit)
    kept: dict[str, None] = {}
    for edge in proposed:
        if len(kept.keys() | set(edge)) > around:
            break
        kept.update(dict.fromkeys(edge))
    # The ends first, so that no proposed edge is dropped in favour of a hub's many neighbours.
    for node in list(kept):
        for other in (*graph.predecessors(node), *graph.successors(node)):
            if len(kept) < around:
                kept.setdefault(other)
    return [node for node in graph if node in kept]


def layers(graph: nx.DiGraph, roots: Iterable[str]) -> dict[str, int]:
    """Layer of every node: its distance from the most upstream of the roots.

    Distances start at the roots that no other root reaches, except through a common cycle, so that a treatment
    which acts in the middle of a pathway does not pull that node to the front. Nodes no root reaches stand just
    before what they feed.

    Args:
        graph: Known edges.
        roots: Nodes fed by an input.

    Returns:
        Node -> layer, 0 the most upstream.

    Example:
        >>> graph = nx.DiGraph([("a", "b"), ("b", "c"), ("x", "c")])
        >>> layers(graph, ["a", "b"])
        {'a': 0, 'b': 1, 'c': 2, 'x': 1}
    """
    condensed = nx.condensation(graph)
    component = condensed.graph["mapping"]
    fed = {component[root] for root in roots if root in component}
    below = {node for root in fed for node in nx.descendants(condensed, root)}
    starts = [node for node in graph if component[node] in fed - below]
    depth: dict[str, int] = dict(nx.multi_source_dijkstra_path_length(graph, starts)) if starts else {}
    # Just before the first node they feed, so that sources no root reaches stand beside the pathway they enter.
    for node in reversed(list(nx.topological_sort(condensed))):
        members = [member for member in condensed.nodes[node]["members"] if member not in depth]
        after = [depth[child] for member in members for child in graph.successors(member) if child in depth]
        depth.update(dict.fromkeys(members, max(min(after, default=1) - 1, 0)))
    return {node: int(depth[node]) for node in graph}


def positions(graph: nx.DiGraph, roots: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Coordinates of a layered drawing: depth along the first axis, order within the layer along the second.

    Layers are ordered by the barycentre heuristic of Sugiyama, Tagawa and Toda (1981), which needs no random start, so
    that the same network is always drawn the same way.

    Args:
        graph: Known edges between the drawn nodes.
        roots: Nodes fed by an input.

    Returns:
        Node -> (depth, place), both in [0, 1].

    Example:
        >>> positions(nx.DiGraph([("a", "b"), ("a", "c")]), ["a"])
        {'a': (0.0, 0.5), 'b': (1.0, 0.25), 'c': (1.0, 0.75)}
    """
    if not len(graph):
        return {}
    layer_of = layers(graph, roots)
    columns: list[list[str]] = [[] for _ in range(max(layer_of.values()) + 1)]
    for node, layer in layer_of.items():
        columns[layer].append(node)
    columns = [column for column in columns if column]
    place = {node: (i + 0.5) / len(column) for column in columns for i, node in enumerate(column)}
    neighbours = {node: [*graph.predecessors(node), *graph.successors(node)] for node in graph}
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            centre = {
                n: float(np.mean([place[m] for m in neighbours[n]])) if neighbours[n] else place[n] for n in column
            }
            column.sort(key=centre.__getitem__)
            place.update({node: (i + 0.5) / len(column) for i, node in enumerate(column)})
    last = max(len(columns) - 1, 1)
    return {node: (depth / last, place[node]) for depth, column in enumerate(columns) for node in column}


def edges_around(graph: nx.DiGraph, nodes: Sequence[str], *, limit: int) -> list[tuple[str, str, int]]:
    """Known edges that start or end at some nodes, each once.

    Args:
        graph: Known edges with their ``sign``.
        nodes: The nodes, the most important first.
        limit: Most edges to return; those of the last nodes are left out.

    Returns:
        (source, target, sign) of each.

    Example:
        >>> graph = nx.DiGraph([("a", "b", {"sign": 1}), ("b", "c", {"sign": -1}), ("c", "d", {"sign": 0})])
        >>> edges_around(graph, ["b"], limit=10)
        [('a', 'b', 1), ('b', 'c', -1)]
    """
    edges: dict[tuple[str, str], int] = {}
    for node in nodes:
        if node not in graph or len(edges) >= limit:
            continue
        for source, target, sign in (*graph.in_edges(node, "sign"), *graph.out_edges(node, "sign")):
            if len(edges) < limit:
                edges.setdefault((source, target), int(sign))
    return [(source, target, sign) for (source, target), sign in edges.items()]
