"""Edges from inputs and to outputs: the formulas by slow loops, planted edges, signs and p-values."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gsnn.edges import InputEdgeInferer, OutputEdgeInferer
from gsnn.edges.boundary import explain
from gsnn.edges.capture import Capture, capture
from gsnn.graph import Graph
from gsnn.nn import GSNN

from .worlds import gsnn, samples, small_graph


def residual(values, given):
    """What a least-squares fit of centred rows ``given`` leaves of centred rows."""
    centred = values - values.mean(-1, keepdims=True)
    if not len(given):
        return centred
    basis = (given - given.mean(-1, keepdims=True)).T
    return centred - (basis @ np.linalg.lstsq(basis, centred.T, rcond=None)[0]).T


def test_shares_are_those_of_regressions():
    rng = np.random.default_rng(0)
    z, values = rng.standard_normal((4, 30)), rng.standard_normal((2, 3, 30)) * np.array([1.0, 20.0])[:, None, None]
    z -= z.mean(1, keepdims=True)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    values -= values.mean(2, keepdims=True)
    found = explain(z, np.array([1]), values)
    for source in (0, 2, 3):
        own = residual(z[source], z[[1]])
        expected = 0.0
        for part in values:
            left = residual(part, z[[1]])
            expected += np.square(left @ own).sum() / (own @ own) / np.square(left).sum()
        assert found.shares[source] == pytest.approx(expected)
    assert np.isnan(found.shares[1])
    assert found.freedom == 28


def test_nothing_left_is_undefined():
    z = np.array([[1.0, -1, 0, 0], [1.0, -1, 0, 0], [0, 0, 1, -1]]) / 2**0.5
    found = explain(z, np.array([0]), z[None, :1])
    assert np.isnan(found.shares).all(), "the known source explains all of the target"
    found = explain(z, np.array([0]), np.array([[[1.0, 2, 3, -6]]]))
    assert np.isnan(found.shares[:2]).all()
    assert np.isfinite(found.shares[2])


def test_edges_from_inputs_by_hand():
    """Gradients sample by sample, and a regression for each pair."""
    model, graph = gsnn(), small_graph()
    x, y = samples(40)
    inferer = InputEdgeInferer(model, graph)
    inferer.fit([(x, y)], verbose=False)
    score = inferer.score_matrix(null_correction=False)
    assert score.shape == (3, len(graph.functions))
    seen = capture(model, x, y)
    inputs = x.T.numpy()
    for j, name in enumerate(graph.functions):
        given = [i for i in range(3) if (graph.inputs[i], name) in inferer.edges]
        for i in range(3):
            if i in given:
                assert np.isnan(score[i, j])
                continue
            own, total = residual(inputs[i], inputs[given]), 0.0
            for gradient in seen.gradients:
                left = residual(gradient[seen.channel_node == j].numpy(), inputs[given])
                if np.square(left).sum() > 1e-20:
                    total += np.square(left @ own).sum() / (own @ own) / np.square(left).sum()
            if total:
                assert score[i, j] == pytest.approx(total**0.5, rel=1e-6)


def test_edges_to_outputs_by_hand():
    model, graph = gsnn(), small_graph()
    x, y = samples(40)
    y[::7, 0] = float("nan")
    inferer = OutputEdgeInferer(model, graph)
    inferer.fit([(x, y)], verbose=False)
    score = inferer.score_matrix(null_correction=False)
    seen = capture(model, x, y, where="post")
    signals = []
    for j in range(graph.N):
        stacked = torch.cat([a[seen.channel_node == j] for a in seen.activations]).numpy()
        stacked = stacked - stacked.mean(1, keepdims=True)
        signals.append(np.linalg.svd(stacked, full_matrices=False)[2][0])
    signals = np.array(signals)
    for o, name in enumerate(graph.outputs):
        rows = np.flatnonzero(np.isfinite(y[:, o].numpy()))
        given = [j for j, f in enumerate(graph.functions) if (f, name) in inferer.edges]
        left = residual(y[rows, o].numpy(), signals[given][:, rows])
        for j, function in enumerate(graph.functions):
            if j in given or function in ("lone", "dark"):
                assert np.isnan(score[j, o])
                continue
            own = residual(signals[j][rows], signals[given][:, rows])
            r = (left @ own) / np.linalg.norm(own) / np.linalg.norm(left)
            assert score[j, o] == pytest.approx(abs(r), rel=1e-6)


@pytest.fixture(scope="module")
def incomplete():
    """Two chains; an input edge x1 -> b and an output edge a -> y1 are missing, the first inhibits."""
    edges = [("x0", "a", 1), ("x1", "c", 1), ("a", "b", 1), ("c", "d", 1), ("b", "y0", 1), ("d", "y1", 1)]
    nodes = {"input_nodes": ["x0", "x1"], "function_nodes": list("abcd"), "output_nodes": ["y0", "y1"]}
    graph = Graph.from_edges(edges, **nodes)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 2))
    y = np.stack([x[:, 0] - 0.8 * x[:, 1], x[:, 1] + 0.8 * x[:, 0]], 1) + 0.1 * rng.standard_normal((400, 2))
    x, y = (torch.tensor(v, dtype=torch.float32) for v in (x, y / y.std(0)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GSNN.from_graph(graph, channels=4, layers=4, norm="none", share_layers=False)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(150):
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(model(x), y).backward()
            optimiser.step()
    return model.eval(), graph, x, y


@pytest.mark.parametrize("score", ["explained", "magnitude"])
def test_a_missing_input_edge_is_found(incomplete, score):
    model, graph, x, y = incomplete
    inferer = InputEdgeInferer(model, graph)
    inferer.fit([(x, y)], verbose=False)
    # Into a or b is the same to the data.
    best = inferer.top_edges(2, score=score)
    assert {(s, t) for s, t in zip(best["src_func"], best["dst_func"], strict=True)} <= {
        ("x1", "a"), ("x1", "b"), ("x0", "c"), ("x0", "d")}  # fmt: skip
    if score == "explained":
        table = inferer.evaluate(score=score).set_index(["src_func", "dst_func"])
        assert table.loc[("x1", "b"), "sign"] == -1
        assert table.loc[("x0", "d"), "sign"] == 1
        assert table.loc[("x1", "b"), "p_value"] < 1e-10
        assert np.isnan(table.loc[("x0", "a"), "q_value"])


@pytest.mark.parametrize("score", ["explained", "residual", "magnitude"])
def test_a_missing_output_edge_is_found(incomplete, score):
    model, graph, x, y = incomplete
    inferer = OutputEdgeInferer(model, graph)
    inferer.fit([(x, y)], verbose=False)
    matrix = inferer.score_matrix(score=score)
    candidates = ~np.isnan(matrix)
    assert candidates[[0, 2], [1, 0]].all()
    if score != "magnitude":
        # All that the chains lack is what the other chain carries.
        assert matrix[:2, 1].min() > 0.5 > 0.2 > np.nanmin(matrix)
        table = inferer.evaluate(score=score).set_index(["src_func", "dst_func"])
        assert table.loc[("a", "y1"), "sign"] == 1
        assert table.loc[("c", "y0"), "sign"] == -1


@pytest.mark.parametrize("kind", [InputEdgeInferer, OutputEdgeInferer])
def test_p_values_are_uniform_when_samples_are_permuted(kind):
    """Many samples of inputs that are mostly 0, and few; known sources are regressed out."""
    graph = small_graph()
    rng = np.random.default_rng(3)
    tested, below = 0, np.zeros(2)
    for n in (25, 120):
        x, y = samples(n)
        x = x * torch.from_numpy((rng.random(x.shape) < 0.4).astype(float))
        model = gsnn(channels=2)
        pre, post = (capture(model, x, y, where=where) for where in ("pre", "post"))
        for _ in range(60):
            order = torch.from_numpy(rng.permutation(n))
            shuffled = Capture(
                pre.activations, [g[:, order] for g in pre.gradients], pre.channel_node, pre.n_nodes, 0.0,
                pre.credit[:, order])  # fmt: skip
            inferer = kind(model, graph)
            inferer.add(shuffled, post, x, y[order])
            p = inferer.evaluate()["p_value"].to_numpy()
            p = p[np.isfinite(p)]
            tested += len(p)
            below += [(p < 0.05).sum(), (p < 0.005).sum()]
    rate = below / tested
    assert tested > 1000
    assert 0.03 < rate[0] < 0.07
    assert rate[1] < 0.01


def test_chance_is_as_often_above_nought_as_below():
    model, graph = gsnn(channels=2), small_graph()
    rng = np.random.default_rng(0)
    x, y = samples(40)
    pre, post = (capture(model, x, y, where=where) for where in ("pre", "post"))
    above = []
    for _ in range(60):
        order = torch.from_numpy(rng.permutation(40))
        inferer = InputEdgeInferer(model, graph)
        gradients = [g[:, order] for g in pre.gradients]
        inferer.add(Capture(pre.activations, gradients, pre.channel_node, pre.n_nodes, 0.0, pre.credit), post, x, y)
        score = inferer.score_matrix()
        above.append((score[np.isfinite(score) & (score != 0)] > 0).mean())
    assert 0.42 < np.mean(above) < 0.58


def test_wrong_use_is_refused():
    model, graph = gsnn(), small_graph()
    inferer = OutputEdgeInferer(model, graph)
    with pytest.raises(RuntimeError, match="at least 3 samples, got 0"):
        inferer.score_matrix()
    inferer.fit([samples(10)], verbose=False)
    with pytest.raises(ValueError, match="unknown score 'corr'"):
        inferer.score_matrix(score="corr")
    with pytest.raises(TypeError, match="other must be OutputEdgeInferer, got InputEdgeInferer"):
        inferer.merge(InputEdgeInferer(model, graph))
    names = {"input": ["x0", "x1", "x2"], "function": ["a", "b"], "output": ["y0", "y1"]}
    other = SimpleNamespace(edge_index_dict={}, node_names_dict=names)
    with pytest.raises(ValueError, match="different function nodes"):
        InputEdgeInferer(model, other)
    table = inferer.evaluate()
    inferer.update(*samples(5, seed=1))
    assert len(inferer.evaluate()) == len(table)
