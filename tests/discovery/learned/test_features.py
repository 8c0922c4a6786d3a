"""Features of the learnt scorer, against plain loops."""

import itertools

import networkx as nx
import numpy as np
import pytest
from scipy.stats import rankdata

from gsnn.discovery.baselines import reach_masks
from gsnn.discovery.learned.features import (
    block_features,
    correlations,
    kin_features,
    near,
    opinion_features,
    residual_features,
)
from gsnn.graph import Graph


@pytest.fixture(scope="module")
def graph():
    """Random, with a cycle, an input that feeds two functions and a function that reads nowhere."""
    edges = [("x0", "f0"), ("x0", "f1"), ("x1", "f3"), ("f0", "f2"), ("f2", "f4"), ("f4", "f2"), ("f1", "f5")]
    edges += [("f3", "f6"), ("f4", "y0"), ("f5", "y1"), ("f6", "y1"), ("f2", "y2"), ("f0", "f7")]
    return Graph.from_edges(
        edges,
        input_nodes=["x0", "x1"],
        function_nodes=[f"f{k}" for k in range(8)],
        output_nodes=["y0", "y1", "y2"],
    )


def steps(graph, source, target):
    """Edges of the shortest path of the whole network; None without one."""
    network = nx.DiGraph(graph.to_networkx())
    return nx.shortest_path_length(network, source, target) if nx.has_path(network, source, target) else None


def test_reach_and_nearness_are_those_of_shortest_paths(graph):
    above, below = reach_masks(graph)
    near_above, near_below = near(graph, graph.N)
    for i, name in enumerate(graph.functions):
        for a, node in enumerate(graph.inputs):
            far = steps(graph, node, name)
            assert above[i, a] == (far is not None)
            assert near_above[i, a] == (0 if far is None else 0.5 ** (far - 1))
        for b, node in enumerate(graph.outputs):
            far = steps(graph, name, node)
            assert below[i, b] == (far is not None)
            assert near_below[i, b] == (0 if far is None else 0.5 ** (far - 1))


def test_residuals_are_summed_over_inputs_above_and_outputs_below(graph):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 2)), rng.normal(size=(50, 3))
    y[:, 0] += x[:, 1]
    y[rng.random(y.shape) < 0.1] = np.nan
    free = ~np.eye(graph.N, dtype=bool)
    reach = reach_masks(graph)
    found = dict(residual_features(graph, reach, x, {"residual": y, "response": y}, free))
    above, below = reach
    weights = near(graph, graph.N)
    for i, j in itertools.product(range(graph.N), repeat=2):
        for short, (up, down), only_unconnected in (
            ("residual", reach, False),
            ("residual_near", weights, False),
            ("residual_unconnected", reach, True),
            ("response_unconnected", reach, True),
        ):
            total = count = squares = 0.0
            for a, b in itertools.product(range(2), range(3)):
                if only_unconnected and steps(graph, graph.inputs[a], graph.outputs[b]) is not None:
                    continue
                seen = np.isfinite(y[:, b])
                r = np.corrcoef(x[seen, a], y[seen, b])[0, 1]
                weight = up[i, a] * down[j, b]
                total, count, squares = (
                    total + weight * seen.sum() * r**2,
                    count + weight,
                    squares + weight**2,
                )
            z = (total - count) / np.sqrt(2 * squares) if count else 0.0
            assert found[f"{short}_z"][i, j] == pytest.approx(np.sign(z) * np.sqrt(abs(z)), abs=1e-4)
            mean = total / count if count else 1.0
            assert found[f"{short}_mean"][i, j] == pytest.approx(np.log(max(mean, 0.05)), abs=1e-4)
    assert "response_z" not in found
    # The two inputs are not connected to all outputs, so that the planted one stands out where its path is missing.
    best = np.unravel_index(found["response_unconnected_z"].argmax(), free.shape)
    assert above[best[0], 1]
    assert below[best[1], 0]


def test_ranks_of_opinions_leave_known_edges_out():
    rng = np.random.default_rng(1)
    log = rng.normal(size=(5, 5))
    known = rng.random((5, 5)) < 0.2
    log[known] = np.nan
    free = ~(known | np.eye(5, dtype=bool))
    found = dict(opinion_features("s", log, free))
    values = log[free]
    np.testing.assert_allclose(found["s_log"][free], values - np.median(values), rtol=1e-5)
    np.testing.assert_allclose(found["s_rank"][free], np.log((rankdata(-values) - 0.5) / 25), rtol=1e-5)
    for j in range(5):
        column = free[:, j]
        np.testing.assert_allclose(
            found["s_rank_in_target"][column, j], np.log((rankdata(-log[column, j]) - 0.5) / 5), rtol=1e-5
        )
        np.testing.assert_allclose(
            found["s_rank_in_source"][j, free[j]], np.log((rankdata(-log[j, free[j]]) - 0.5) / 5), rtol=1e-5
        )


def test_ranks_at_pairs_of_blocks_are_averaged():
    rng = np.random.default_rng(2)
    pairs = [rng.random((4, 4)) for _ in range(3)]
    pairs[1][0, 1] = np.nan
    free = ~np.eye(4, dtype=bool)
    found = dict(block_features(pairs, free))
    for i, j in zip(*np.nonzero(free), strict=True):
        ranks = []
        for score in pairs:
            column = np.nan_to_num(score)[free[:, j], j]
            ranks.append(np.log((rankdata(-column)[list(np.flatnonzero(free[:, j])).index(i)] - 0.5) / 4))
        assert found["blocks_mean"][i, j] == pytest.approx(np.mean(ranks), rel=1e-4)
        assert found["blocks_best"][i, j] == pytest.approx(np.min(ranks), rel=1e-4)
        assert found["blocks_sd"][i, j] == pytest.approx(np.std(ranks), abs=1e-3)


def test_a_source_is_compared_with_known_parents():
    rng = np.random.default_rng(3)
    signal = rng.normal(size=(4, 30)).astype(np.float32)
    signal[3] = 2.0
    alike = correlations(signal)
    np.testing.assert_allclose(alike[:3, :3], np.abs(np.corrcoef(signal[:3])), atol=1e-5)
    assert (alike[3] == 0).all()
    found = dict(
        kin_features(alike, "activation", [np.array([1, 2]), np.array([], dtype=int), np.array([0]), np.array([1])])
    )
    np.testing.assert_allclose(found["activation_mimic"][:, 0], alike[:, [1, 2]].max(1))
    assert (found["activation_mimic"][:, 1] == 0).all()
    np.testing.assert_allclose(found["activation_new"], alike - found["activation_mimic"])
