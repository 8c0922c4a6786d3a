"""Random graphs with inputs and outputs, and the edges that can be hidden in them."""

from __future__ import annotations

import networkx as nx
import numpy as np

from gsnn.base.errors import check_option
from gsnn.graph.checks import Edge

RANDOM_KINDS = ("layered", "dag", "scale-free", "cyclic")


def random_graph(
    kind: str = "dag", n: int = 40, seed: int | np.random.Generator = 0
) -> tuple[nx.DiGraph, list[str], list[str], list[str], list[Edge]]:
    """A random signed graph of n functions with about two parents each.

    The first fifth of the functions are roots. ``layered``: layers of that size, each function with two parents in the
    layer above. ``dag``: 1 + Poisson(1) parents among all earlier functions. ``scale-free``: the same, and a function
    is chosen in proportion to 1 + its number of children. ``cyclic``: a ``dag`` in which a fifth of the edges also have
    a reverse edge. Three edges in four activate. Every root has an input (in a ``cyclic`` graph every fifth function
    too); every function without children and every third other one has an output.

    Args:
        kind: One of the four.
        n: Number of functions, at least 10.
        seed: Seed or generator.

    Returns:
        As :func:`convergence_graph`: the graph (edges have ``sign``), the inputs, functions and outputs, and the
        function -> function edges.

    Raises:
        ValueError: If the kind is unknown or n too small.

    Example:
        >>> G, inputs, functions, outputs, edges = random_graph("layered", 10, seed=0)
        >>> len(inputs), len(functions), len(edges)
        (2, 10, 16)
    """
    check_option("kind", kind, RANDOM_KINDS)
    if n < 10:
        raise ValueError(f"n must be at least 10 functions, got {n}")
    rng = np.random.default_rng(seed)
    pairs = _pairs(kind, n, rng)
    into, out = {t for _, t in pairs}, {s for s, _ in pairs}
    fed = [k for k in range(n) if k not in into or (kind == "cyclic" and k % 5 == 0)]
    read = [k for k in range(n) if k not in out or k % 3 == 2]
    functions = [f"f{k}" for k in range(n)]
    inputs, outputs = [f"in{k}" for k in fed], [f"o{k}" for k in read]
    edges = [(functions[s], functions[t]) for s, t in pairs]
    signs = np.where(rng.random(len(edges)) < 0.75, 1, -1)
    G = nx.DiGraph()
    for label, names in (("input", inputs), ("function", functions), ("output", outputs)):
        G.add_nodes_from(names, type=label)
    G.add_edges_from(((name, functions[k]) for name, k in zip(inputs, fed, strict=True)), sign=1)
    G.add_edges_from((s, t, {"sign": int(sign)}) for (s, t), sign in zip(edges, signs, strict=True))
    G.add_edges_from(((functions[k], name) for name, k in zip(outputs, read, strict=True)), sign=1)
    return G, inputs, functions, outputs, edges


def _pairs(kind: str, n: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    width = n // 5
    edges: set[tuple[int, int]] = set()
    children = np.zeros(n)
    for node in range(width, n):
        if kind == "layered":
            above = (node // width - 1) * width
            parents = above + rng.choice(width, size=min(2, width), replace=False)
        else:
            weight = 1 + children[:node] if kind == "scale-free" else np.ones(node)
            many = min(node, 1 + int(rng.poisson(1.0)))
            parents = rng.choice(node, size=many, replace=False, p=weight / weight.sum())
        children[parents] += 1
        edges |= {(int(parent), node) for parent in parents}
    pairs = sorted(edges)
    if kind == "cyclic":
        chosen = rng.choice(len(pairs), size=len(pairs) // 5, replace=False)
        pairs = sorted(edges | {(pairs[k][1], pairs[k][0]) for k in chosen})
    return pairs
