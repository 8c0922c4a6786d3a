"""Edges between functions with readouts of their own."""

import numpy as np
import pytest
import torch
from scipy import stats

from gsnn.edges import MeasuredEdgeInferer
from gsnn.graph import Graph
from gsnn.nn import GSNN


def problem(n=400, seed=0):
    """x -> a -> b -> c with a -> c missing; b can be knocked out; d is not read; e has two readouts."""
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(2, n))
    out = rng.random(n) < 0.3
    a = x + 0.3 * rng.normal(size=n)
    b = np.where(out, -2.0, a + 0.5 * rng.normal(size=n))
    c = b - 0.8 * a + 0.3 * rng.normal(size=n)
    e = w + 0.5 * rng.normal(size=n)
    y = np.stack([a, b, c, e, e + 0.01 * rng.normal(size=n)], 1)
    edges = [("x", "a"), ("a", "b"), ("b", "c"), ("w", "d"), ("d", "e"), ("ko", "b")]
    edges += [("a", "ya"), ("b", "yb"), ("c", "yc"), ("e", "ye1"), ("e", "ye2"), ("d", "shared"), ("e", "shared")]
    outputs = ["ya", "yb", "yc", "ye1", "ye2", "shared"]
    graph = Graph.from_edges(
        edges, input_nodes=["x", "w", "ko"], function_nodes=["a", "b", "c", "d", "e"], output_nodes=outputs
    )
    y = np.c_[y, e]
    order = [list(graph.inputs).index(name) for name in ("x", "w", "ko")]
    inputs = np.zeros((n, 3))
    inputs[:, order] = np.stack([x, w, out], 1)
    responses = np.zeros_like(y)
    responses[:, [list(graph.outputs).index(name) for name in outputs]] = y
    torch.manual_seed(0)
    model = GSNN.from_graph(graph, channels=2, layers=4).double()
    return model, graph, torch.from_numpy(inputs), torch.from_numpy(responses), np.stack([a, b, c, e], 1)


def fitted(model, graph, x, y):
    inferer = MeasuredEdgeInferer(model, graph)
    inferer.fit(list(zip(x.split(64), y.split(64), strict=True)), verbose=False)
    return inferer


def test_the_missing_edge_comes_first_with_its_sign():
    model, graph, x, y, _ = problem()
    inferer = fitted(model, graph, x, y)
    assert inferer.measured == ["a", "b", "c", "e"]
    best = inferer.top_edges(1).iloc[0]
    assert (best["src_func"], best["dst_func"], best["sign"]) == ("a", "c", -1)
    score = inferer.score_matrix()
    d = inferer.function_nodes.index("d")
    assert np.isnan(score[d]).all()
    assert np.isnan(score[:, d]).all()


def test_it_is_a_partial_correlation_in_standard_errors():
    model, graph, x, y, state = problem()
    a, b, c, _ = state.T
    rest = [each - np.polyval(np.polyfit(b, each, 1), b) for each in (a, c)]
    r = stats.pearsonr(*rest).statistic
    table = fitted(model, graph, x, y).evaluate().set_index(["src_func", "dst_func"])
    found = table.loc[("a", "c")]
    assert found["r"] == pytest.approx(r, abs=1e-5)
    assert found["score"] == pytest.approx(abs(np.arctanh(r)) * np.sqrt(400 - 1 - 3), rel=1e-4)


def test_samples_in_which_the_target_was_set_are_left_out():
    model, graph, x, y, state = problem()
    a, b, c, _ = state.T
    free = x[:, list(graph.inputs).index("ko")].numpy() == 0
    rest = [each[free] - np.polyval(np.polyfit(a[free], each[free], 1), a[free]) for each in (c, b)]
    found = fitted(model, graph, x, y).evaluate().set_index(["src_func", "dst_func"]).loc[("c", "b")]
    assert found["r"] == pytest.approx(stats.pearsonr(*rest).statistic, abs=1e-4)
    assert found["score"] == pytest.approx(abs(np.arctanh(found["r"])) * np.sqrt(free.sum() - 1 - 3), rel=1e-6)


def test_missing_readouts_leave_samples_out_for_their_target_alone():
    model, graph, x, y, _ = problem()
    at = list(graph.outputs).index("yc")
    holes = y.clone()
    holes[::2, at] = torch.nan
    whole, half = fitted(model, graph, x, y).score_matrix(), fitted(model, graph, x, holes).score_matrix()
    names = MeasuredEdgeInferer(model, graph).function_nodes
    i, j, k = (names.index(name) for name in "ace")
    assert half[i, j] == pytest.approx(whole[i, j] / np.sqrt(2), rel=0.2)
    assert half[i, k] == pytest.approx(whole[i, k])


def test_nothing_measured_is_no_score():
    graph = Graph.from_edges(
        [("x", "a"), ("x", "b"), ("a", "b"), ("a", "y"), ("b", "y")],
        input_nodes=["x"],
        function_nodes=["a", "b"],
        output_nodes=["y"],
    )
    inferer = fitted(GSNN.from_graph(graph, channels=2, layers=2), graph, torch.randn(20, 1), torch.randn(20, 1))
    assert inferer.measured == []
    assert np.isnan(inferer.score_matrix()).all()
    with pytest.raises(RuntimeError, match="not fitted"):
        MeasuredEdgeInferer(GSNN.from_graph(graph, channels=2, layers=2), graph).scored()


def test_batches_and_the_model_leave_no_trace():
    model, graph, x, y, _ = problem()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    whole = fitted(model, graph, x, y).score_matrix()
    inferer = MeasuredEdgeInferer(model, graph)
    inferer.fit([(x, y)], verbose=False)
    np.testing.assert_allclose(inferer.score_matrix(), whole, atol=1e-9)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
