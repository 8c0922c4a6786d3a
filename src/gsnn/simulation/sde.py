"""Samples from a directed graph that may have cycles: a stochastic differential equation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import networkx as nx
import numpy as np
from scipy import sparse

from gsnn.base.arrays import FloatArray
from gsnn.graph import Graph
from gsnn.simulation.linear import SpecialFunction, call_special, check_special
from gsnn.simulation.network import Seed, check_network, check_sizes, normal_source


def simulate_sde(
    G: nx.DiGraph | Graph,
    n_train: int,
    n_test: int,
    input_nodes: Iterable[str],
    output_nodes: Iterable[str],
    *,
    noise_scale: float = 0.1,
    f: Callable[[FloatArray], FloatArray] = np.tanh,
    dt: float = 0.05,
    steps: int = 200,
    special_functions: Mapping[str, SpecialFunction] | None = None,
    signed_edges: Mapping[tuple[str, str], int] | None = None,
    seed: Seed = None,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Draw samples from a graph that may have cycles (GSNN spec 1.2).

    Every node v that is not an input follows dX_v = (-X_v + f(sum over parents u of w_uv X_u)) dt + noise_scale dW_v,
    from X_v = 0, by the Euler-Maruyama method; the inputs are N(0, 1) and constant. A sample is the state after
    ``steps`` steps: the relaxation time is 1, so the defaults (10 units of time) end near the stationary state
    unless the cycles amplify. Edge weights w are N(0, 1) times the sign, drawn once for all samples.

    Order of the draws: the weights, in the order of ``G.edges``; the inputs, sample by sample; then for each step the
    noise, sample by sample and within a sample in the order of ``G.nodes`` without the inputs.

    Args:
        G: The graph, with or without cycles. Edges into an input have no effect (their weights are drawn).
        n_train: Number of training samples.
        n_test: Number of test samples.
        input_nodes: Names of the I inputs.
        output_nodes: Names of the O outputs.
        noise_scale: Noise per square root of time; a single node has the stationary SD ``noise_scale`` / sqrt(2).
        f: The nonlinearity, element by element, of an array (n nodes, M).
        dt: Step, in units of the relaxation time; above 0 and at most 1.
        steps: Number of steps, at least 1.
        special_functions: For some nodes a function of the parents' values that replaces f(sum ...), as in
            :func:`simulate`: called once per sample and step with a list of numbers, in predecessor order, or once per
            step with whole columns where it is :class:`Vectorised`.
        signed_edges: -1 or +1 for some (parent, child); else the edge attribute ``sign``, else +1.
        seed: Seed or generator; None draws from numpy's global generator.

    Returns:
        ``(x_train, x_test, y_train, y_test)``, float64, shapes (n, I) and (n, O).

    Raises:
        TypeError: If G is not a directed graph.
        ValueError: If a name is unknown, a size, step or sign is not valid, or a special function does not return one
            finite number per sample.
        RuntimeError: If the state grows without bound, as it can with an unbounded f.

    Example:
        >>> G = nx.DiGraph([("x", "a"), ("a", "b"), ("b", "a"), ("b", "y")])
        >>> x_train, x_test, y_train, y_test = simulate_sde(G, 3, 2, ["x"], ["y"], seed=0)
        >>> x_train.shape, y_test.shape
        ((3, 1), (2, 1))
    """
    network = check_network(G, input_nodes, output_nodes, signed_edges)
    check_sizes(n_train, n_test, noise_scale)
    if not 0 < dt <= 1:
        raise ValueError(f"dt must be above 0 and at most 1 (the relaxation time), got {dt!r}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps!r}")
    special = dict(special_functions or {})
    check_special(special, network.graph, network.inputs)
    draw = normal_source(seed)
    n_samples, inputs = n_train + n_test, network.inputs
    is_input = set(inputs)
    others = [node for node in network.graph if node not in is_input]
    place = {node: i for i, node in enumerate([*inputs, *others])}
    n_in, n_nodes = len(inputs), len(place)

    weight = draw([len(network.sign)]) * np.fromiter(network.sign.values(), float, len(network.sign))
    rows = np.array([place[v] for _, v in network.sign], dtype=np.int64)
    columns = np.array([place[u] for u, _ in network.sign], dtype=np.int64)
    weights = sparse.csr_matrix((weight, (rows, columns)), shape=(n_nodes, n_nodes))[n_in:]

    parents = {node: [place[u] for u in network.graph.predecessors(node)] for node in special}
    state = np.zeros((n_nodes, n_samples))
    state[:n_in] = draw([n_samples, n_in]).T
    spread = noise_scale * np.sqrt(dt)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            pull = f(weights @ state)
            for node, function in special.items():
                pull[place[node] - n_in] = call_special(node, function, state[parents[node]])
            drift = pull - state[n_in:]
            state[n_in:] += dt * drift + spread * draw([n_samples, len(others)]).T
    if not np.isfinite(state).all():
        raise RuntimeError("the state grew without bound; use a bounded f such as np.tanh, or fewer steps")
    x, y = state[:n_in].T, state[[place[node] for node in network.outputs]].T
    return x[:n_train].copy(), x[n_train:].copy(), y[:n_train].copy(), y[n_train:].copy()
