"""simulate_sde: against a loop of steps, the closed-form stationary law, and its stated rules."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from gsnn.graph import Graph
from gsnn.simulation import research_sde, simulate_sde
from gsnn.simulation.linear import Vectorised

EDGES = [("x", "a", 1), ("a", "b", -1), ("b", "a", 1), ("x2", "b", 1), ("b", "y", -1), ("b", "b", 1)]


def cyclic():
    G = nx.DiGraph()
    G.add_nodes_from(["y", "x", "a", "b", "x2"])
    for u, v, s in EDGES:
        G.add_edge(u, v, sign=s)
    return G


def drawn_weights(G, seed):
    """The matrix W with W[child, parent], as the documented order of draws gives it."""
    nodes = list(G)
    W = np.zeros((len(nodes), len(nodes)))
    for (u, v, d), z in zip(G.edges(data=True), np.random.default_rng(seed).standard_normal(G.size()), strict=True):
        W[nodes.index(v), nodes.index(u)] = d["sign"] * z
    return W


def test_against_a_loop():
    G, n, steps, dt, noise = cyclic(), 6, 7, 0.2, 0.3
    x_train, x_test, y_train, y_test = simulate_sde(
        G, 4, 2, ["x", "x2"], ["y", "a"], noise_scale=noise, dt=dt, steps=steps, seed=5
    )
    rng = np.random.default_rng(5)
    weight = {(u, v): d["sign"] * rng.standard_normal() for u, v, d in G.edges(data=True)}
    state = [dict.fromkeys(G, 0.0) for _ in range(n)]
    for sample in state:
        for name in ("x", "x2"):
            sample[name] = rng.standard_normal()
    for _ in range(steps):
        for sample in state:
            old = dict(sample)
            for v in ("y", "a", "b"):
                total = sum(weight[u, v] * old[u] for u in G.predecessors(v))
                sample[v] = old[v] + dt * (-old[v] + np.tanh(total)) + noise * np.sqrt(dt) * rng.standard_normal()
    x = np.array([[s["x"], s["x2"]] for s in state])
    y = np.array([[s["y"], s["a"]] for s in state])
    np.testing.assert_allclose(np.vstack([x_train, x_test]), x, rtol=1e-12)
    np.testing.assert_allclose(np.vstack([y_train, y_test]), y, rtol=1e-10)


def test_stationary_law_of_the_linear_equation():
    """With f = identity the chain is a vector autoregression: its covariance solves a discrete Lyapunov equation."""
    G, dt, noise, n, seed = cyclic(), 0.25, 0.5, 40_000, 1
    nodes = list(G)
    W = drawn_weights(G, seed)
    inner = [nodes.index(v) for v in ("y", "a", "b")]
    outer = [nodes.index(v) for v in ("x", "x2")]
    W_in, B = W[np.ix_(inner, inner)], W[np.ix_(inner, outer)]
    step = np.eye(3) + dt * (W_in - np.eye(3))
    assert np.abs(np.linalg.eigvals(step)).max() < 0.95  # the drawn system is stable
    gain = np.linalg.inv(np.eye(3) - W_in) @ B
    expected = gain @ gain.T + solve_discrete_lyapunov(step, dt * noise**2 * np.eye(3))
    _, _, y, _ = simulate_sde(
        G, n, 0, ["x", "x2"], ["y", "a", "b"], noise_scale=noise, f=lambda v: v, dt=dt, steps=250, seed=seed
    )
    spread = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / n)
    assert np.abs((np.cov(y, rowvar=False) - expected) / spread).max() < 5


def test_shapes_inputs_and_seeds():
    parts = simulate_sde(cyclic(), 5, 3, ["x", "x2"], ["y"], steps=3, seed=0)
    assert [p.shape for p in parts] == [(5, 2), (3, 2), (5, 1), (3, 1)]
    again = simulate_sde(cyclic(), 5, 3, ["x", "x2"], ["y"], steps=3, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    np.random.seed(1)  # noqa: NPY002
    first = simulate_sde(cyclic(), 5, 3, ["x", "x2"], ["y"], steps=3)
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(first[2], simulate_sde(cyclic(), 5, 3, ["x", "x2"], ["y"], steps=3)[2])


def test_signs_flip_an_effect():
    G = nx.DiGraph([("x", "y")])
    options = {"noise_scale": 0.0, "seed": 0}
    up = simulate_sde(G, 20, 0, ["x"], ["y"], signed_edges={("x", "y"): 1}, **options)[2]
    down = simulate_sde(G, 20, 0, ["x"], ["y"], signed_edges={("x", "y"): -1}, **options)[2]
    np.testing.assert_allclose(up, -down)
    assert np.abs(up).max() > 0


def test_a_graph_is_accepted():
    graph = Graph.from_edges(
        [("x", "a"), ("a", "b"), ("b", "a"), ("b", "y")],
        input_nodes=["x"],
        function_nodes=["a", "b"],
        output_nodes=["y"],
    )
    assert simulate_sde(graph, 2, 1, graph.inputs, graph.outputs, steps=2, seed=0)[2].shape == (2, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dt": 0.0}, "dt must be above 0 and at most 1"),
        ({"dt": 1.5}, "dt must be above 0 and at most 1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"input_nodes": ["xx"]}, "input_nodes names nodes that are not in G"),
        ({"noise_scale": -1}, "noise_scale"),
    ],
)
def test_errors(change, message):
    given = {"n_train": 3, "n_test": 2, "input_nodes": ["x", "x2"], "output_nodes": ["y"], **change}
    with pytest.raises(ValueError, match=message):
        simulate_sde(cyclic(), **given)


def test_divergence_is_an_error():
    with pytest.raises(RuntimeError, match="grew without bound; use a bounded f"):
        simulate_sde(cyclic(), 3, 2, ["x", "x2"], ["y"], f=lambda v: 1e3 * v, steps=400, seed=0)


def test_special_functions_replace_the_bounded_sum():
    G, n, steps, dt = cyclic(), 5, 6, 0.2

    def larger(values):
        return 2 * values[0] if values[0] > values[1] else -values[1]

    options = {"noise_scale": 0.0, "dt": dt, "steps": steps, "seed": 5}
    got = simulate_sde(G, n, 0, ["x", "x2"], ["y", "a", "b"], special_functions={"a": larger}, **options)
    rng = np.random.default_rng(5)
    weight = {(u, v): d["sign"] * rng.standard_normal() for u, v, d in G.edges(data=True)}
    x = rng.standard_normal((n, 2))
    for row, (one, two) in enumerate(x):
        now = dict.fromkeys(G, 0.0) | {"x": one, "x2": two}
        for _ in range(steps):
            old = dict(now)
            total = {v: np.tanh(sum(weight[u, v] * old[u] for u in G.predecessors(v))) for v in ("y", "b")}
            total["a"] = larger([old[u] for u in G.predecessors("a")])
            now |= {v: old[v] + dt * (total[v] - old[v]) for v in total}
        np.testing.assert_allclose(got[2][row], [now["y"], now["a"], now["b"]], rtol=1e-10)
    columns = Vectorised(lambda v: np.where(v[0] > v[1], 2 * v[0], -v[1]))
    same = simulate_sde(G, n, 0, ["x", "x2"], ["y", "a", "b"], special_functions={"a": columns}, **options)
    np.testing.assert_array_equal(same[2], got[2])
    with pytest.raises(ValueError, match="would never be called: 'x' is an input"):
        simulate_sde(G, n, 0, ["x", "x2"], ["y"], special_functions={"x": larger}, **options)


def test_as_the_research_package_calls_it():
    """Its order of results and its linear drift: without noise, a chain of leaky integrators in closed form."""
    G = nx.DiGraph([("x", "a"), ("a", "y")])
    x_train, y_train, x_test, y_test = research_sde.simulate_sde(
        G, n_train=7, n_test=4, input_nodes=["x"], output_nodes=["y"], noise_scale=0.0, seed=2
    )
    assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == ((7, 1), (7, 1), (4, 1), (4, 1))
    rng = np.random.default_rng(2)
    effect = rng.standard_normal() * rng.standard_normal()
    # After t = 10 units a chain of two has reached 1 - exp(-t) (1 + t) of where it is going.
    reached = 1 - np.exp(-10.0) * 11
    np.testing.assert_allclose(y_train, effect * reached * x_train, rtol=1e-3)
    np.testing.assert_allclose(y_test, effect * reached * x_test, rtol=1e-3)
    assert not np.array_equal(x_train[:4], x_test)
    short = research_sde.simulate_sde(G, 7, 4, ["x"], ["y"], noise_scale=0.0, dt=0.1, t_final=0.2, seed=2)
    np.testing.assert_allclose(short[1], effect * 0.1**2 * x_train, rtol=1e-12)
    with pytest.raises(ValueError, match=r"^dt must be above 0, got 0$"):
        research_sde.simulate_sde(G, 7, 4, ["x"], ["y"], dt=0)
