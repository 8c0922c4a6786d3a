"""The combination of one training: what known edges look like, and what the trained model says."""

import copy
import itertools

import numpy as np
import pytest
import torch
from scipy import optimize

from gsnn.discovery import CombinedEdgeInferer, StructureEdgeInferer, mask_edges
from gsnn.discovery.stacked.combined import FLOOR, combined_memory
from gsnn.discovery.stacked.learners import _LINEAR_C, _MANY, learn_linear, log_odds, log_probability
from gsnn.edges import GradientEdgeInferer, MeasuredEdgeInferer
from gsnn.graph import Graph
from gsnn.nn import GSNN


@pytest.fixture(scope="module")
def problem():
    """Four layers of six functions, each with two parents; the inputs feed the first, the last is read."""
    rng = np.random.default_rng(0)
    names = [[f"f{layer}{k}" for k in range(6)] for layer in range(4)]
    edges = [(f"x{k}", names[0][k]) for k in range(6)] + [(names[3][k], f"y{k}") for k in range(6)]
    for above, below in itertools.pairwise(names):
        edges += [(above[k], node) for node in below for k in rng.choice(6, 2, replace=False)]
    inputs, outputs = ([f"{letter}{k}" for k in range(6)] for letter in "xy")
    full = Graph.from_edges(
        edges, input_nodes=inputs, function_nodes=[*names[0], *names[1], *names[2], *names[3]], output_nodes=outputs
    )
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    graph = mask_edges(full, 0.15, 0).graph
    torch.manual_seed(0)
    model = GSNN.from_graph(graph, channels=3, layers=5, norm="groupbatch")
    return model, graph, x, torch.tanh(x @ torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))


def fitted(problem, **options):
    model, graph, x, y = problem
    inferer = CombinedEdgeInferer(model, graph, **options)
    inferer.fit(zip(x.split(64), y.split(64), strict=True), verbose=False)
    return inferer


def test_the_linear_learner_minimises_the_penalised_loss():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)).astype(np.float32) * [1, 10, 0.1, 1] + [0, 5, 0, 2]
    x[:, 3] = 7.0  # constant: no weight
    label = rng.random(300) < 1 / (1 + np.exp(-x[:, 0]))
    z = np.where(x.std(0) > 0, (x - x.mean(0)) / np.maximum(x.std(0), 1e-12), 0.0)

    def loss(w):
        odds = z @ w[1:] + w[0]
        return (
            _LINEAR_C * min(1, label.sum() / _MANY) * np.sum(np.logaddexp(0, odds) - label * odds) + 0.5 * w[1:] @ w[1:]
        )

    best = optimize.minimize(loss, np.zeros(5), tol=1e-12).x
    grid = rng.normal(size=(4, 6, 6))
    features = {str(k): grid[k] * x[:, k].std() + x[:, k].mean() for k in range(3)} | {"3": np.full((1, 6), 7.0)}
    odds = best[0] + sum(best[k + 1] * grid[k] for k in range(3))
    model = learn_linear(x.astype(np.float32), ["0", "1", "2", "3"], label)
    (found,) = log_odds([model], [*features.items(), ("unknown", np.ones((1, 6)))], 6)
    np.testing.assert_allclose(found, odds, atol=1e-4)
    np.testing.assert_allclose(log_probability(found), np.log(1 / (1 + np.exp(-found))), rtol=1e-12)
    with pytest.raises(ValueError, match="both masked and other"):
        learn_linear(x, ["0", "1", "2", "3"], np.ones(300, dtype=bool))


def test_the_score_is_the_sum_of_its_two_logarithms(problem):
    inferer = fitted(problem)
    table = inferer.evaluate()
    known = table["has_edge"].to_numpy()
    assert table.loc[known, "score"].isna().all()
    rest = table[~known]
    assert 0 <= inferer.weight <= 1.5
    odds = np.log(rest["likely"] / (1 - rest["likely"]))
    expected = inferer.weight * odds + np.log(np.maximum(rest["explained"], FLOOR))
    np.testing.assert_allclose(rest["score"], expected, rtol=1e-6)
    assert rest["likely"].between(0, 1).all()
    assert rest["likely"].nunique() > 50
    assert inferer.learnt_from >= 8
    model, graph, x, y = problem
    plain = GradientEdgeInferer(model, graph)
    plain.fit([(x, y)], verbose=False)
    np.testing.assert_allclose(
        inferer.score_matrix(score="explained"), plain.score_matrix(score="explained"), atol=1e-6
    )


def test_where_nothing_can_be_learnt_the_trained_model_decides_alone():
    graph = Graph.from_edges(
        [("x", "a"), ("x", "b"), ("a", "c"), ("c", "y"), ("b", "z")],
        input_nodes=["x"],
        function_nodes=["a", "b", "c"],
        output_nodes=["y", "z"],
    )
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    inferer = fitted((GSNN.from_graph(graph, channels=2, layers=4), graph, x, torch.cat([x**2, x], 1)))
    score, explained = inferer.score_matrix(), inferer.score_matrix(score="explained")
    free = ~(inferer.prior.matrix() | np.eye(3, dtype=bool))
    np.testing.assert_allclose(score[free], np.log(np.maximum(explained[free], FLOOR)))
    assert inferer.learnt_from == 0
    assert inferer.beside() == {}


def test_structure_stands_beside_it_and_is_that_of_the_method(problem):
    model, graph, x, y = problem
    alone = StructureEdgeInferer(model, graph)
    alone.fit([(x, y)], verbose=False)
    np.testing.assert_array_equal(fitted(problem).beside()["structure"].score, alone.score_matrix())


def test_parts_merged_and_copied_are_the_whole(problem):
    model, graph, x, y = problem
    whole = fitted(problem).score_matrix()
    halves = [CombinedEdgeInferer(model, graph) for _ in range(2)]
    for half, rows in zip(halves, (slice(0, 80), slice(80, None)), strict=True):
        half.update(x[rows], y[rows])
    np.testing.assert_allclose(halves[0].merge(halves[1]).score_matrix(), whole, atol=1e-6)
    np.testing.assert_array_equal(copy.deepcopy(halves[0]).score_matrix(), halves[0].score_matrix())
    part = fitted(problem, targets=range(5, 9))
    np.testing.assert_allclose(part.scored().score, whole[:, 5:9], atol=1e-6)
    halves[0].update(x[:20], -y[:20])  # further samples are not overlooked
    assert not np.allclose(halves[0].score_matrix(), whole, equal_nan=True)


def test_what_was_hidden_follows_from_the_seed_alone(problem, monkeypatch):
    whole = fitted(problem).score_matrix()
    state = torch.get_rng_state()
    monkeypatch.setattr("gsnn.discovery.stacked.combined.workers_for", lambda *_: 0)
    np.testing.assert_array_equal(fitted(problem).score_matrix(), whole)
    assert torch.equal(torch.get_rng_state(), state)
    assert not np.allclose(fitted(problem, seed=1).score_matrix(), whole, equal_nan=True)


def test_readouts_of_functions_are_looked_at_where_half_are_measured(problem, monkeypatch):
    whole = fitted(problem).score_matrix()
    monkeypatch.setattr("gsnn.discovery.stacked.combined.LEAST_MEASURED", 0.2)  # 6 of 24 functions are read
    assert not np.allclose(fitted(problem).score_matrix(), whole, equal_nan=True)
    seen = []
    monkeypatch.setattr(MeasuredEdgeInferer, "fit", lambda self, *_, **__: seen.append(self) or 0)
    monkeypatch.setattr("gsnn.discovery.stacked.combined.LEAST_MEASURED", 0.5)
    fitted(problem).scored()
    assert not seen


def test_bad_arguments_are_named(problem):
    model, graph, *_ = problem
    with pytest.raises(ValueError, match="seed must be an integer of at least 0, got -1"):
        CombinedEdgeInferer(model, graph, seed=-1)
    with pytest.raises(ValueError, match="unknown score 'magnitude'"):
        fitted(problem).scored(score="magnitude")
    with pytest.raises(ValueError, match="features of all pairs"):
        CombinedEdgeInferer(model, graph, memory_budget=combined_memory(graph.N, model.L - 1) - 1)
    CombinedEdgeInferer(model, graph, memory_budget=combined_memory(graph.N, model.L - 1))
