"""Samples from a directed acyclic graph with Gaussian nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from scipy import sparse

from gsnn.base.arrays import FloatArray
from gsnn.graph import Graph
from gsnn.simulation.network import Seed, check_network, check_sizes, known_nodes, normal_source


@dataclass(frozen=True)
class Vectorised:
    """Marks a special function that takes whole columns: a list of arrays (M,), one per parent, and returns (M,).

    Without this mark :func:`simulate` calls a function once per sample, with numbers; it never guesses.

    Example:
        >>> Vectorised(lambda v: np.maximum(v[0], v[1])).function([np.array([1.0, 5.0]), np.array([2.0, 4.0])])
        array([2., 5.])
    """

    function: Callable[[list[FloatArray]], FloatArray]


SpecialFunction = Callable[[list[float]], float] | Vectorised


def simulate(
    G: nx.DiGraph | Graph,
    n_train: int,
    n_test: int,
    input_nodes: Iterable[str],
    output_nodes: Iterable[str],
    *,
    noise_scale: float = 1.0,
    special_functions: Mapping[str, SpecialFunction] | None = None,
    signed_edges: Mapping[tuple[str, str], int] | None = None,
    seed: Seed = None,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Draw samples from an acyclic graph (GSNN spec 1.2).

    Inputs are independent N(0, 1). Every other node v, outputs too, is Normal(sum over parents u of s_uv x_u,
    ``noise_scale``); without parents it is N(0, 1). Edges into an input have no effect.

    Order of the draws: one standard normal per sample and node, sample by sample; within a sample the inputs in the
    order given, then the other nodes by topological generation, as ``networkx.topological_generations`` lists them.
    So the training samples of a seed do not depend on ``n_test``.

    Args:
        G: The graph; predecessors are taken in the order in which their edges were added (of a Graph: functions
            before inputs).
        n_train: Number of training samples.
        n_test: Number of test samples.
        input_nodes: Names of the I inputs.
        output_nodes: Names of the O outputs.
        noise_scale: Standard deviation of every node that has parents.
        special_functions: For some nodes a function that replaces the signed sum. It is called once per sample with
            the list of the parents' values, plain numbers in predecessor order, so that code written for scalars
            works; wrap it in :class:`Vectorised` to be called once with a list of arrays. The noise is added to what
            it returns.
        signed_edges: -1 or +1 for some (parent, child). An edge that is not in it has the sign of its attribute
            ``sign``, else +1; an attribute of 0 means unknown and counts as +1.
        seed: Seed or generator; None draws from numpy's global generator, so that ``np.random.seed`` fixes the data.

    Returns:
        ``(x_train, x_test, y_train, y_test)``, float64, shapes (n, I) and (n, O).

    Raises:
        TypeError: If G is not a directed graph.
        ValueError: If the graph has a cycle (:func:`simulate_sde` takes those), a name is unknown, a sign or size is
            not valid, or a special function does not return one finite number per sample.

    Example:
        >>> G = nx.DiGraph([("x", "f"), ("f", "y")])
        >>> x_train, x_test, y_train, y_test = simulate(G, 3, 2, ["x"], ["y"], noise_scale=0.0, seed=0)
        >>> x_train.shape, y_test.shape
        ((3, 1), (2, 1))
        >>> bool((x_train == y_train).all())
        True
    """
    network = check_network(G, input_nodes, output_nodes, signed_edges)
    check_sizes(n_train, n_test, noise_scale)
    graph, inputs = network.graph, network.inputs
    special = dict(special_functions or {})
    check_special(special, graph, inputs)
    is_input = set(inputs)
    generations = _generations(graph, is_input)

    order = [*inputs, *(node for generation in generations for node in generation)]
    place = {node: i for i, node in enumerate(order)}
    edges = [(place[v], place[u], s) for (u, v), s in network.sign.items() if v not in is_input and v not in special]
    rows, columns, signs = zip(*edges, strict=True) if edges else ((), (), ())
    weights = sparse.csr_matrix((np.array(signs, float), (rows, columns)), shape=(len(order), len(order)))

    # Drawn sample by sample, computed node by node: a row of `values` holds one node.
    values = np.ascontiguousarray(normal_source(seed)((n_train + n_test, len(order))).T)
    scale = np.where([graph.in_degree(node) > 0 for node in order], noise_scale, 1.0)
    scale[: len(inputs)] = 1.0
    values *= scale[:, None]
    start = len(inputs)
    for generation in generations:
        stop = start + len(generation)
        values[start:stop] += weights[start:stop, :start] @ values[:start]
        for node in generation:
            if node in special:
                parents = values[[place[u] for u in graph.predecessors(node)]]
                values[place[node]] += call_special(node, special[node], parents)
        start = stop
    x = values[: len(inputs)].T
    y = values[[place[node] for node in network.outputs]].T
    return x[:n_train].copy(), x[n_train:].copy(), y[:n_train].copy(), y[n_train:].copy()


def _generations(graph: nx.DiGraph, is_input: Set[str]) -> list[list[str]]:
    """Nodes that are not inputs, by topological generation."""
    try:
        return [[n for n in generation if n not in is_input] for generation in nx.topological_generations(graph)]
    except nx.NetworkXUnfeasible:
        cycle = [source for source, *_ in nx.find_cycle(graph)]
        path = " -> ".join(map(str, [*cycle[:10], *(["..."] if len(cycle) > 10 else []), cycle[0]]))
        raise ValueError(f"G must be acyclic, but has the cycle {path}; use simulate_sde for cyclic graphs") from None


def check_special(special: Mapping[str, Any], graph: nx.DiGraph, inputs: Sequence[str]) -> None:
    """Refuse special functions that could never be called."""
    known_nodes("special_functions", special, graph)
    for node, function in special.items():
        if not (callable(function) or isinstance(function, Vectorised)):
            raise TypeError(f"special_functions[{node!r}] must be a function, got {type(function).__name__}")
        if node in inputs or not graph.in_degree(node):
            why = "is an input" if node in inputs else "has no parents"
            raise ValueError(f"special_functions[{node!r}] would never be called: {node!r} {why}; leave it out")


def call_special(node: str, function: SpecialFunction, parents: FloatArray) -> FloatArray:
    """The means (M,) of a node with a special function, from the values of its parents (n parents, M)."""
    n_samples = parents.shape[1]
    if isinstance(function, Vectorised):
        result = np.asarray(function.function(list(parents.copy())), dtype=np.float64)
        if result.shape != (n_samples,):
            raise ValueError(
                f"special_functions[{node!r}] is Vectorised and must return shape ({n_samples},), got {result.shape}"
            )
    else:
        returned = [function(list(sample)) for sample in parents.T.tolist()]
        wrong = next((value for value in returned if np.ndim(value) != 0), None)
        if wrong is not None:
            raise ValueError(
                f"special_functions[{node!r}] must return one number per sample, got shape {np.shape(wrong)}; "
                "wrap it in Vectorised(...) if it works on whole columns"
            )
        result = np.array(returned, dtype=np.float64)
    if not np.isfinite(result).all():
        raise ValueError(
            f"special_functions[{node!r}] returned {result[~np.isfinite(result)][0]}; return finite numbers"
        )
    return result
