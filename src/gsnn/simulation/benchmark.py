"""The "converging tiers" benchmark graph and its standard hold-out."""

from __future__ import annotations

import networkx as nx
import numpy as np

from gsnn.graph.checks import Edge


def convergence_graph(n_tier_a: int = 6) -> tuple[nx.DiGraph, list[str], list[str], list[str], list[Edge]]:
    """The benchmark graph of converging tiers (GSNN spec 1.2).

    With n = ``n_tier_a``: inputs in0..in{n-1}; tier A f0..f{n-1}, in_i -> f_i; tier B f{n}..f{2n-2}, where f{n+k} has
    the parents f_k and f_{k+1}; the sink f{2n-1}, whose parents are all of tier B; outputs f{n+k} -> o_k and
    sink -> o_{n-1}. So I = n, N = 2n, O = n, with 3(n - 1) function -> function edges.

    Args:
        n_tier_a: n, at least 2.

    Returns:
        ``(G, input_nodes, function_nodes, output_nodes, function_edges)``: a DiGraph with the node attribute ``type``,
        three lists of names and the function -> function edges.

    Raises:
        ValueError: If n is smaller than 2.

    Example:
        >>> G, inputs, functions, outputs, edges = convergence_graph(2)
        >>> edges
        [('f0', 'f2'), ('f1', 'f2'), ('f2', 'f3')]
        >>> sorted(set(G.edges) - set(edges))
        [('f2', 'o0'), ('f3', 'o1'), ('in0', 'f0'), ('in1', 'f1')]
    """
    n = _checked(n_tier_a, "n_tier_a")
    inputs = [f"in{i}" for i in range(n)]
    functions = [f"f{i}" for i in range(2 * n)]
    outputs = [f"o{i}" for i in range(n)]
    tier_a, tier_b, sink = functions[:n], functions[n : 2 * n - 1], functions[-1]
    into_b = [(parent, child) for k, child in enumerate(tier_b) for parent in tier_a[k : k + 2]]
    function_edges = into_b + [(parent, sink) for parent in tier_b]
    G = nx.DiGraph()
    for kind, names in (("input", inputs), ("function", functions), ("output", outputs)):
        G.add_nodes_from(names, type=kind)
    G.add_edges_from(zip(inputs, tier_a, strict=True))
    G.add_edges_from(function_edges)
    G.add_edges_from(zip([*tier_b, sink], outputs, strict=True))
    return G, inputs, functions, outputs, function_edges


def held_out_roles(n: int, stride: int = 2) -> dict[Edge, str]:
    """The held-out edges of the benchmark graph with their roles.

    The "merge" edges are f_k -> f_{n+k} for k = 1..n-2, the "sink" edges f_{n+k} -> sink for
    k = 0, stride, 2 stride, .. < n - 1 (GSNN spec 1.2).

    Args:
        n: The n of :func:`convergence_graph`.
        stride: Step between held-out sink edges, at least 1.

    Returns:
        'merge' or 'sink' for each edge, merge edges first.

    Raises:
        ValueError: If n is smaller than 2 or stride smaller than 1.

    Example:
        >>> held_out_roles(4)
        {('f1', 'f5'): 'merge', ('f2', 'f6'): 'merge', ('f4', 'f7'): 'sink', ('f6', 'f7'): 'sink'}
    """
    n = _checked(n, "n")
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    merge = {(f"f{k}", f"f{n + k}"): "merge" for k in range(1, n - 1)}
    return merge | {(f"f{n + k}", f"f{2 * n - 1}"): "sink" for k in range(0, n - 1, stride)}


def held_out_edges(n: int, stride: int = 2) -> list[Edge]:
    """The standard hold-out of the benchmark graph: merge edges, then sink edges.

    Args:
        n: The n of :func:`convergence_graph`.
        stride: Step between held-out sink edges.

    Returns:
        (source, target) names; 16 edges for n = 12, 35 for n = 25. See :func:`held_out_roles` for their roles.

    Raises:
        ValueError: If n is smaller than 2 or stride smaller than 1.

    Example:
        >>> len(held_out_edges(12)), len(held_out_edges(25))
        (16, 35)
    """
    return list(held_out_roles(n, stride))


def split_held_out(n: int, stride: int = 2, seed: int | np.random.Generator = 0) -> tuple[list[Edge], list[Edge]]:
    """Split the hold-out into a validation and a test part, each role in half.

    One generator shuffles the merge edges, then the sink edges; the first half of each role (rounded down) is for
    validation, the rest for testing (GSNN spec 3.3).

    Args:
        n: The n of :func:`convergence_graph`.
        stride: Step between held-out sink edges.
        seed: Seed or generator of the shuffle.

    Returns:
        ``(validation, test)``, each with its merge edges first.

    Raises:
        ValueError: If n is smaller than 2 or stride smaller than 1.

    Example:
        >>> validation, test = split_held_out(25)
        >>> len(validation), len(test)
        (17, 18)
    """
    rng = np.random.default_rng(seed)
    validation: list[Edge] = []
    test: list[Edge] = []
    roles = held_out_roles(n, stride)
    for role in ("merge", "sink"):
        edges = [edge for edge, this in roles.items() if this == role]
        rng.shuffle(edges)
        half = len(edges) // 2
        validation += edges[:half]
        test += edges[half:]
    return validation, test


def _checked(n: int, parameter: str) -> int:
    if n < 2:
        raise ValueError(f"{parameter} must be at least 2, so that two tier-A nodes can converge; got {n}")
    return int(n)
