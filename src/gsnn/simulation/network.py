"""What both simulators share: the checked graph with its signs, and the source of random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np

from gsnn.base.arrays import FloatArray
from gsnn.base.errors import closest
from gsnn.graph import Graph

Seed = int | np.random.Generator | None


@dataclass(frozen=True)
class Network:
    """A checked graph.

    Attributes:
        graph: The graph.
        inputs: Names of the inputs.
        outputs: Names of the outputs.
        sign: -1.0 or +1.0 for each edge, in the order of ``graph.edges``.
    """

    graph: nx.DiGraph
    inputs: list[str]
    outputs: list[str]
    sign: dict[tuple[str, str], float]


def check_network(
    G: nx.DiGraph | Graph,
    input_nodes: Iterable[str],
    output_nodes: Iterable[str],
    signed_edges: Mapping[tuple[str, str], int] | None,
) -> Network:
    """Check the arguments that both simulators share.

    Raises:
        TypeError: If G is not a directed graph.
        ValueError: If a node or an edge is unknown, a node is listed twice, or a sign is not -1 or +1.
    """
    graph = G.to_networkx() if isinstance(G, Graph) else G
    if not isinstance(graph, nx.DiGraph) or graph.is_multigraph():
        raise TypeError(f"G must be a networkx DiGraph or a gsnn Graph, got {type(G).__name__}")
    inputs, outputs = list(input_nodes), list(output_nodes)
    for parameter, names in (("input_nodes", inputs), ("output_nodes", outputs)):
        known_nodes(parameter, names, graph)
        if len(set(names)) != len(names):
            raise ValueError(
                f"{parameter} lists a node twice: {[n for n in dict.fromkeys(names) if names.count(n) > 1]}"
            )
    signed = dict(signed_edges or {})
    unknown = [edge for edge in signed if edge not in graph.edges]
    if unknown:
        u, v = unknown[0]
        hint = "; G has the edge the other way round" if (v, u) in graph.edges else "; keys are (parent, child)"
        raise ValueError(f"signed_edges names edges that are not in G: {unknown[:5]}{hint}")
    return Network(graph, inputs, outputs, {(u, v): _sign(u, v, d, signed) for u, v, d in graph.edges(data=True)})


def _sign(parent: str, child: str, attributes: dict[str, Any], signed: Mapping[tuple[str, str], int]) -> float:
    """-1 or +1; an attribute 0 is an unknown sign and counts as +1, as a missing one does."""
    if (parent, child) in signed:
        sign, source, allowed = signed[parent, child], "signed_edges", {-1, 1}
    else:
        sign, source, allowed = attributes.get("sign") or 0, "the edge attribute 'sign'", {-1, 0, 1}
    if sign not in allowed:
        raise ValueError(f"{source} of {parent!r} -> {child!r} must be -1 or +1, got {sign!r}")
    return -1.0 if sign == -1 else 1.0


def known_nodes(parameter: str, names: Iterable[str], graph: nx.DiGraph) -> None:
    """Raise ValueError, with the closest names, if a node is not in the graph."""
    unknown = [name for name in names if name not in graph]
    if unknown:
        near = closest(str(unknown[0]), [str(node) for node in graph])
        hint = f"; the closest to {unknown[0]!r} are {near}" if near else ""
        raise ValueError(f"{parameter} names nodes that are not in G: {unknown[:5]}{hint}")


def check_sizes(n_train: int, n_test: int, noise_scale: float) -> None:
    """Raise ValueError if a size or the noise is negative or not a number."""
    for parameter, size in (("n_train", n_train), ("n_test", n_test)):
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 0:
            raise ValueError(f"{parameter} must be a whole number of samples, 0 or more, got {size!r}")
    if not (np.isfinite(noise_scale) and noise_scale >= 0):
        raise ValueError(f"noise_scale must be finite and not negative, got {noise_scale!r}")


def normal_source(seed: Seed) -> Callable[[Sequence[int]], FloatArray]:
    """A function that draws an array of standard normals."""
    if seed is None:
        # The one place that reads numpy's global state: np.random.seed(0) in a notebook must fix the data.
        return lambda shape: np.random.standard_normal(tuple(shape))  # noqa: NPY002
    rng = np.random.default_rng(seed)
    return lambda shape: rng.standard_normal(tuple(shape))
