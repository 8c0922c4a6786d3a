"""simulate: against a loop over samples, the closed-form covariance, and its stated rules."""

from __future__ import annotations

import time

import networkx as nx
import numpy as np
import pytest

from gsnn.graph import Graph
from gsnn.simulation import convergence_graph, simulate
from gsnn.simulation.linear import Vectorised


def random_dag(seed, n=20, p=0.2):
    rng = np.random.default_rng(seed)
    order = rng.permutation(n).tolist()
    G = nx.DiGraph()
    G.add_nodes_from(f"n{i}" for i in range(n))
    for i in range(n):
        for j in range(i + 1, n):
            if rng.random() < p:
                G.add_edge(f"n{order[i]}", f"n{order[j]}", sign=int(rng.choice([-1, 0, 1])))
    roots = [v for v in G if G.in_degree(v) == 0]
    leaves = [v for v in G if G.out_degree(v) == 0 and G.in_degree(v) > 0]
    return G, roots[: max(1, len(roots) - 1)], leaves


def loop(G, n, inputs, outputs, noise_scale, special, signed, seed):
    """One sample after the other, one node after the other."""
    rng = np.random.default_rng(seed)
    order = list(inputs) + [v for generation in nx.topological_generations(G) for v in generation if v not in inputs]
    x, y = [], []
    for _ in range(n):
        draws = rng.standard_normal(len(order))
        value = {}
        for node, z in zip(order, draws, strict=True):
            parents = list(G.predecessors(node))
            if node in inputs or not parents:
                value[node] = z
                continue
            if node in special:
                mean = special[node]([value[p] for p in parents])
            else:
                mean = 0.0
                for p in parents:
                    sign = signed.get((p, node), G.edges[p, node].get("sign", 1) or 1)
                    mean += sign * value[p]
            value[node] = mean + noise_scale * z
        x.append([value[v] for v in inputs])
        y.append([value[v] for v in outputs])
    return np.array(x), np.array(y)


@pytest.mark.parametrize("seed", range(6))
def test_against_a_loop(seed):
    G, inputs, outputs = random_dag(seed)
    signed = {edge: -1 for edge in list(G.edges)[::3]}
    inner = [v for v in G if G.in_degree(v) > 1][:2]
    special = dict(zip(inner, [lambda v: -np.mean(v), lambda v: max(v) if all(a > 0 for a in v) else 0.0], strict=True))
    options = {"noise_scale": 0.3, "special_functions": special, "signed_edges": signed}
    x_train, x_test, y_train, y_test = simulate(G, 30, 12, inputs, outputs, seed=seed, **options)
    x, y = loop(G, 42, inputs, outputs, 0.3, special, signed, seed)
    np.testing.assert_allclose(np.vstack([x_train, x_test]), x, rtol=1e-12)
    np.testing.assert_allclose(np.vstack([y_train, y_test]), y, rtol=1e-10, atol=1e-12)


def test_covariance_in_closed_form():
    G, inputs, outputs = random_dag(3, n=12)
    nodes = list(G)
    A = np.zeros((12, 12))
    for u, v, d in G.edges(data=True):
        A[nodes.index(v), nodes.index(u)] = d["sign"] or 1
    noise = np.diag([0.25 if G.in_degree(v) else 1.0 for v in nodes])
    total = np.linalg.inv(np.eye(12) - A)
    expected = total @ noise @ total.T
    pick = [nodes.index(v) for v in [*inputs, *outputs]]
    expected = expected[np.ix_(pick, pick)]
    n = 200_000
    x, _, y, _ = simulate(G, n, 0, inputs, outputs, noise_scale=0.5, seed=0)
    found = np.cov(np.hstack([x, y]), rowvar=False)
    # Var of a sample covariance of Gaussians: (s_ii s_jj + s_ij^2) / n.
    spread = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / n)
    assert np.abs((found - expected) / spread).max() < 5
    assert np.abs(np.hstack([x, y]).mean(0) / np.sqrt(np.diag(expected) / n)).max() < 5


class TestRules:
    G = nx.DiGraph([("a", "f"), ("b", "f"), ("f", "y")])

    def run(self, G=None, n_train=50, n_test=0, **options):
        options = {"noise_scale": 0.0, "seed": 0, **options}
        x, _, y, _ = simulate(G or self.G, n_train, n_test, ["a", "b"], ["y"], **options)
        return x, y

    def test_shapes_and_dtype(self):
        parts = simulate(self.G, 7, 3, ["a", "b"], ["y"], seed=0)
        assert [part.shape for part in parts] == [(7, 2), (3, 2), (7, 1), (3, 1)]
        assert all(part.dtype == np.float64 for part in parts)

    def test_training_samples_do_not_depend_on_the_test_samples(self):
        np.testing.assert_array_equal(self.run()[1], self.run(n_test=40)[1])

    def test_sign_precedence(self):
        G = self.G.copy()
        G.edges["a", "f"]["sign"] = -1
        x, y = self.run(G)
        np.testing.assert_allclose(y[:, 0], -x[:, 0] + x[:, 1])
        x, y = self.run(G, signed_edges={("a", "f"): 1, ("b", "f"): -1})
        np.testing.assert_allclose(y[:, 0], x[:, 0] - x[:, 1])
        G.edges["a", "f"]["sign"] = 0  # unknown
        x, y = self.run(G)
        np.testing.assert_allclose(y[:, 0], x[:, 0] + x[:, 1])

    def test_special_functions_get_plain_numbers_in_predecessor_order(self):
        seen = []

        def special(values):
            seen.append(values)
            return values[0] - 2 * values[1]

        x, y = self.run(special_functions={"f": special})
        assert len(seen) == 50
        assert all(type(v) is list and [type(a) for a in v] == [float, float] for v in seen)
        np.testing.assert_allclose(y[:, 0], x[:, 0] - 2 * x[:, 1])

    def test_vectorised_equals_the_scalar_function(self):
        scalar = {"f": lambda v: v[0] if all(a > 0 for a in v) else -np.mean(v)}
        whole = {"f": Vectorised(lambda v: np.where((v[0] > 0) & (v[1] > 0), v[0], -np.mean(v, axis=0)))}
        options = {"noise_scale": 0.3}
        np.testing.assert_allclose(
            self.run(special_functions=scalar, **options)[1], self.run(special_functions=whole, **options)[1]
        )

    def test_vectorised_is_called_once_and_cannot_change_its_parents(self):
        calls = []

        def special(values):
            calls.append([v.shape for v in values])
            values[0][:] = 100.0
            return values[1]

        x, y = self.run(special_functions={"f": Vectorised(special)})
        assert calls == [[(50,), (50,)]]
        np.testing.assert_allclose(y[:, 0], x[:, 1])
        assert x.max() < 10

    def test_parentless_node_is_standard_normal_whatever_the_noise(self):
        G = nx.DiGraph([("a", "f"), ("root", "f"), ("f", "y")])
        x, _, y, _ = simulate(G, 20_000, 0, ["a"], ["y"], noise_scale=0.0, seed=0)
        assert abs((y - x).var() - 1) < 0.05

    def test_global_generator(self):
        np.random.seed(3)  # noqa: NPY002
        first = simulate(self.G, 5, 5, ["a", "b"], ["y"])
        np.random.seed(3)  # noqa: NPY002
        again = simulate(self.G, 5, 5, ["a", "b"], ["y"])
        for left, right in zip(first, again, strict=True):
            np.testing.assert_array_equal(left, right)
        state = np.random.get_state()[1].copy()  # noqa: NPY002
        simulate(self.G, 5, 5, ["a", "b"], ["y"], seed=0)
        np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002

    def test_a_generator_goes_on(self):
        rng = np.random.default_rng(0)
        assert not np.array_equal(self.run(seed=rng)[0], self.run(seed=rng)[0])
        np.testing.assert_array_equal(self.run(seed=np.random.default_rng(0))[0], self.run(seed=0)[0])

    def test_a_graph_works_like_networkx(self):
        graph = Graph.from_edges(
            [("a", "f", -1), ("b", "f"), ("f", "y")], input_nodes=["a", "b"], function_nodes=["f"], output_nodes=["y"]
        )
        x, y = self.run(graph)
        np.testing.assert_allclose(y[:, 0], -x[:, 0] + x[:, 1])

    def test_no_samples(self):
        assert [p.shape for p in simulate(self.G, 0, 0, ["a", "b"], ["y"])] == [(0, 2), (0, 2), (0, 1), (0, 1)]


class TestErrors:
    G = nx.DiGraph([("alpha", "f"), ("f", "y")])

    def test_cycle_is_named(self):
        G = nx.DiGraph([("x", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "y")])
        with pytest.raises(ValueError, match=r"has the cycle a -> b -> c -> a; use simulate_sde"):
            simulate(G, 1, 1, ["x"], ["y"])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"input_nodes": ["alfa"]}, r"input_nodes names nodes that are not in G: \['alfa'\]; .*\['alpha'"),
            ({"output_nodes": ["z"]}, r"output_nodes names nodes that are not in G: \['z'\]"),
            ({"input_nodes": ["alpha", "alpha"]}, r"input_nodes lists a node twice: \['alpha'\]"),
            ({"n_train": -1}, "n_train must be a whole number"),
            ({"n_test": 1.5}, "n_test must be a whole number"),
            ({"noise_scale": -1.0}, "noise_scale must be finite and not negative, got -1"),
            ({"noise_scale": np.nan}, "noise_scale must be finite"),
            ({"signed_edges": {("f", "alpha"): 1}}, "the other way round"),
            ({"signed_edges": {("alpha", "y"): 1}}, r"signed_edges names edges that are not in G.*\(parent, child\)"),
            ({"signed_edges": {("f", "y"): 2}}, r"signed_edges of 'f' -> 'y' must be -1 or \+1, got 2"),
            ({"special_functions": {"g": sum}}, r"special_functions names nodes that are not in G: \['g'\]"),
            ({"special_functions": {"alpha": sum}}, "would never be called: 'alpha' is an input"),
            (
                {"special_functions": {"f": lambda v: np.array(v)}},
                r"must return one number per sample, got shape \(1,\)",
            ),
            ({"special_functions": {"f": lambda v: np.nan}}, "returned nan; return finite"),
            ({"special_functions": {"f": Vectorised(lambda v: v)}}, r"must return shape \(5,\), got \(1, 5\)"),
        ],
    )
    def test_each(self, change, message):
        given = {"n_train": 3, "n_test": 2, "input_nodes": ["alpha"], "output_nodes": ["y"], **change}
        with pytest.raises(ValueError, match=message):
            simulate(self.G, **given)

    def test_types(self):
        with pytest.raises(TypeError, match="must be a networkx DiGraph or a gsnn Graph, got Graph"):
            simulate(nx.Graph(self.G), 1, 1, ["alpha"], ["y"])
        with pytest.raises(TypeError, match=r"special_functions\['f'\] must be a function, got int"):
            simulate(self.G, 1, 1, ["alpha"], ["y"], special_functions={"f": 1})
        G = self.G.copy()
        G.edges["f", "y"]["sign"] = "+"
        with pytest.raises(ValueError, match=r"the edge attribute 'sign' of 'f' -> 'y' must be -1 or \+1, got '\+'"):
            simulate(G, 1, 1, ["alpha"], ["y"])


def test_speed():
    """2,500 samples of a 100-node graph in under 50 ms; the best of a few runs, as the machine is shared."""
    G, inputs, _, outputs, _ = convergence_graph(25)
    assert len(G) == 100
    times = []
    for _ in range(10):
        start = time.perf_counter()
        simulate(G, 2000, 500, inputs, outputs, noise_scale=0.15, seed=0)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05
