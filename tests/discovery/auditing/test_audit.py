"""The audit of known edges: its networks, its tests, its verdicts, and that it resumes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from gsnn.base.errors import DataError, RunError
from gsnn.data import PerturbationData
from gsnn.discovery import Audit, audit
from gsnn.discovery.auditing.closing import closest_parents, first_order, refitted_errors, squared_errors
from gsnn.discovery.auditing.restricted import STEPS, Recipe, Restricted, fit_restricted
from gsnn.discovery.auditing.verdicts import PairedTests, judge, only_edges, paired_tests, reasons_not_to_judge
from gsnn.graph import EDGE_TYPES, Graph
from gsnn.training import TrainConfig

from ..conftest import random_graph

QUICK = Recipe(steps=30, batch=16)
SHORT = TrainConfig(epochs=1, channels=2, layers=3, batch_size=32)


def diamond(signs=(1, 1, -1, 1, 1, 1)):
    """x -> a, z -> b; a -> c, b -> c, a -> b; c -> y."""
    pairs = [("x", "a"), ("a", "c"), ("b", "c"), ("a", "b"), ("z", "b"), ("c", "y")]
    return Graph.from_edges(
        [(*pair, sign) for pair, sign in zip(pairs, signs, strict=True)],
        input_nodes=["x", "z"],
        function_nodes=["a", "b", "c"],
        output_nodes=["y"],
    )


def samples(graph, n=40, seed=0, gaps=False):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, graph.I)), rng.normal(size=(n, graph.O))
    if gaps:
        y[rng.random(y.shape) < 0.2] = np.nan
    return x, y


def loop(net, graph, x):
    """The recurrence with plain loops over edges."""
    inner, fed, read = (graph.edge_index_dict[kind].T.tolist() for kind in EDGE_TYPES)
    w = net.weight.detach().double().numpy()
    bias, slope, offset = (p.detach().double().numpy().ravel() for p in (net.bias, net.slope, net.offset))
    out = np.zeros((len(x), graph.O))
    for m, row in enumerate(x):
        state = np.zeros(graph.N)
        for _ in range(STEPS):
            total = bias.copy()
            for e, (s, t) in enumerate(inner):
                total[t] += w[e] * state[s]
            for e, (s, t) in enumerate(fed):
                total[t] += w[len(inner) + e] * row[s]
            state = np.where(total > 0, np.tanh(total), slope * np.tanh(total))
        out[m] = offset
        for e, (s, t) in enumerate(read):
            out[m, t] += w[len(inner) + len(fed) + e] * state[s]
    return out


def random_net(graph, seed=0):
    net = Restricted(graph, seed)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.from_numpy(rng.normal(scale=0.2, size=tuple(parameter.shape))).float())
    return net


@pytest.mark.parametrize("graph", [diamond(), random_graph()], ids=["diamond", "random"])
def test_the_network_is_its_recurrence(graph):
    net, (x, _) = random_net(graph), samples(graph, 5)
    found = net(torch.as_tensor(x, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(found, loop(net, graph, x), atol=1e-5)


def test_weights_start_without_the_signs_of_the_network():
    assert torch.equal(Restricted(diamond(), 3).weight, Restricted(diamond(signs=[-1] * 6), 3).weight)


def test_derivatives_of_each_sample_are_those_of_autograd():
    graph = random_graph()
    net, (x, _) = random_net(graph), samples(graph, 4)
    x = torch.as_tensor(x, dtype=torch.float32)
    cotangent = torch.randn(4, graph.O, generator=torch.Generator().manual_seed(0))
    (found,) = net.derivatives(x, [cotangent])
    for m in range(4):
        each = torch.autograd.grad((net(x[m : m + 1]) * cotangent[m]).sum(), [net.weight, net.bias, net.offset])
        expected = torch.cat([part.flatten() for part in each])
        np.testing.assert_allclose(found[:, m].detach().numpy(), expected.numpy(), atol=1e-5)


def test_a_small_signal_is_closed_as_its_first_order_says():
    """Oracle: the weight is made small, and the edge is closed with its mean in the bias."""
    graph = diamond()
    net, (x, y) = random_net(graph), samples(graph, 200, gaps=True)
    edge = 0
    with torch.no_grad():
        net.weight[edge] = 0.01
        net.slope.fill_(1.0)  # without a kink at 0, where nothing is said to first order
    found = first_order(net, x, y)
    weight, bias = net.weight.detach().clone(), net.bias.detach().clone()
    mean = net.mean_signals(torch.as_tensor(x, dtype=torch.float32))[edge]
    bias[int(net.target_row[edge])] += weight[edge] * mean
    weight[edge] = 0.0
    rise = squared_errors(net, x, y, {"weight": weight, "bias": bias}) - squared_errors(net, x, y)
    np.testing.assert_allclose(found.rise[edge], rise, atol=2e-4)
    with torch.no_grad():
        changed = torch.func.functional_call(
            net, {"weight": weight, "bias": bias}, (torch.as_tensor(x, dtype=torch.float32),)
        )
        moved = (changed - net(torch.as_tensor(x, dtype=torch.float32))).numpy()
    # One response: every random sign squares to 1, so there is nothing random about it.
    assert found.carried[edge] == pytest.approx(np.sqrt(np.mean(moved[np.isfinite(y)] ** 2)), rel=0.05)


def test_a_refit_lets_a_twin_take_over():
    """b does what a does; closing either costs nothing after a refit, and much without one."""
    pairs = [("x", "a"), ("x", "b"), ("a", "c"), ("b", "c"), ("c", "y")]
    nodes = {"input_nodes": ["x"], "function_nodes": ["a", "b", "c"], "output_nodes": ["y"]}
    graph = Graph.from_edges(pairs, **nodes)
    net = Restricted(graph, 0)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([0.4, 0.4, 1.0, 1.0, 1.0]))
    x = np.random.default_rng(0).normal(size=(300, 1))
    y = net(torch.as_tensor(x, dtype=torch.float32)).detach().double().numpy()
    errors = refitted_errors(net, [0, 2, 4], (x, y), (x, y))
    assert errors[0].mean() < 0.01 * np.var(y)  # the twin
    assert errors[2].mean() == pytest.approx(np.var(y), rel=0.05)  # the only way out: the mean is left
    alike, other = closest_parents(net, x)
    assert alike[:2] == pytest.approx([1, 1])
    assert other[:2].tolist() == [1, 0]
    assert other[2:].tolist() == [-1, -1, -1]


def test_parameters_survive_json():
    graph = random_graph()
    net = random_net(graph)
    again = Restricted.from_lists(graph, net.to_lists())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_training_is_repeatable_and_closed_edges_stay_closed():
    from gsnn.discovery.auditing.restricted import train_restricted

    graph = diamond()
    x, y = samples(graph, gaps=True)
    first, second = (fit_restricted(graph, x, y, QUICK, 1) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    train_restricted(second, x, y, QUICK, 1, closed=[1])
    assert second.weight[1] == 0
    assert bool((second.slope >= 0.05).all())


def test_the_paired_test_is_that_of_scipy():
    rng = np.random.default_rng(0)
    units = rng.normal(0.3, 1, size=(2, 24))
    fold = np.arange(24) % 4
    rise = np.array([[row[fold == k].sum() for row in units] for k in range(4)])
    square = np.array([[np.square(row[fold == k]).sum() for row in units] for k in range(4)])
    found = paired_tests(rise, square, np.full(4, 6), np.full(4, 12.0))
    scale = 48 / 24
    for e, row in enumerate(units):
        expected = stats.ttest_1samp(row, 0, alternative="greater")
        assert found.p[e] == pytest.approx(expected.pvalue)
        mean = row.mean() / scale
        assert found.gain[e] == pytest.approx(mean / (1 + mean) if mean > 0 else mean)
        assert found.passes[e] == (expected.pvalue < 0.05 and bool((rise[:, e] > 0).all()))
        assert found.low[e] < found.gain[e] < found.high[e]


def of(gain, spread=0.01, passes=False, t=0.0, n=40):
    half = 2 * spread / np.sqrt(n)
    one = [np.array([value]) for value in (gain, gain - half, gain + half, 0.5)]
    return PairedTests(*one, np.array([passes]), np.array([t]), np.array([spread]), n)


def verdict(found, weights=(1, 1, 1, 1), sign=1, hidden="", alike=0.0, only=""):
    (record,) = judge(
        found, np.array(weights, float)[:, None], np.array([sign]), [hidden], np.array([alike]), ["twin"], [only]
    )
    return record


def test_verdicts_and_their_reasons():
    assert verdict(of(0.2, passes=True, t=3.0))["verdict"] == "supported"
    wrong = verdict(of(0.2, passes=True, t=3.0), weights=(-1, -1, -1, -1))
    assert (wrong["verdict"], wrong["sign_model"]) == ("contradicts the sign", -1)
    # One fold that disagrees, or a sign that nobody gave, is no contradiction.
    assert verdict(of(0.2, passes=True, t=3.0), weights=(-1, -1, -1, 1))["verdict"] == "supported"
    assert verdict(of(0.2, passes=True, t=3.0), weights=(-1, -1, -1, -1), sign=0)["verdict"] == "supported"
    assert verdict(of(0.001))["verdict"] == "not needed"
    cases = [
        verdict(of(0.001), hidden="no input that varies reaches its source"),
        verdict(of(0.001), alike=0.999),
        verdict(of(0.001), only="x"),
        verdict(of(0.02, spread=1.0)),
        verdict(of(0.04, t=2.0)),
    ]
    words = ["no input", "twin", "x has no other edge", "probability", "every fold"]
    for record, word in zip(cases, words, strict=True):
        assert record["verdict"] == "cannot be judged"
        assert word in record["why"]


def test_what_cannot_show():
    pairs = [("x", "a"), ("still", "b"), ("a", "c"), ("b", "c"), ("a", "d"), ("c", "y"), ("c", "blank")]
    nodes = {"input_nodes": ["x", "still"], "function_nodes": ["a", "b", "c", "d"], "output_nodes": ["y", "blank"]}
    graph = Graph.from_edges(pairs, **nodes)
    x, y = np.array([[0.0, 1], [1, 1], [2, 1]]), np.array([[1.0, np.nan], [2, np.nan], [0, np.nan]])
    names = [("a", "c"), ("b", "c"), ("a", "d"), ("x", "a"), ("still", "b"), ("c", "y"), ("c", "blank")]
    reasons = dict(zip(names, reasons_not_to_judge(graph, x, y, STEPS), strict=True))
    assert reasons == {
        ("a", "c"): "",
        ("b", "c"): "no input that varies reaches its source",
        ("a", "d"): "its target reaches no measured output",
        ("x", "a"): "",
        ("still", "b"): "its input never varies in these data",
        ("c", "y"): "",
        ("c", "blank"): "its output was not measured",
    }
    short = reasons_not_to_judge(graph, x, y, 1)
    assert short[0] == "every path over it passes more than 1 functions"
    assert only_edges(graph) == ["", "", "", "x", "still", "y", "blank"]


def planted(n=400, seed=0):
    """Two chains that mix, with an edge that does nothing and one of the wrong sign."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    a, b, c = np.tanh(x[:, 0]), np.tanh(x[:, 1]), np.tanh(x[:, 2])
    d, e = np.tanh(a - b), np.tanh(c)
    y = np.c_[d, e, a, b] + 0.1 * rng.normal(size=(n, 4))
    edges = [("x0", "a", 1), ("x1", "b", 1), ("x2", "c", 1), ("a", "d", 1), ("b", "d", 1), ("c", "e", 1), ("c", "d", 1)]
    edges += [(name, f"y.{name}", 1) for name in "deab"]
    nodes = {"input_nodes": ["x0", "x1", "x2"], "function_nodes": list("abcde")}
    graph = Graph.from_edges(edges, **nodes, output_nodes=[f"y.{name}" for name in "deab"])
    return PerturbationData(graph, pd.DataFrame(x, columns=graph.inputs), pd.DataFrame(y, columns=graph.outputs))


@pytest.fixture(scope="module")
def found():
    return audit(planted(), SHORT, recipe=Recipe(steps=200, rate=0.05))


def test_planted_edges_and_turned_signs_are_found(found):
    verdicts = {(edge["source"], edge["target"]): edge["verdict"] for edge in found.edges}
    assert verdicts["c", "d"] == "not needed"
    assert verdicts["b", "d"] == "contradicts the sign"
    assert verdicts["a", "d"] == verdicts["c", "e"] == verdicts["x2", "c"] == verdicts["d", "y.d"] == "supported"
    assert found.of("not needed") == [("c", "d")]
    assert found.summary()["edges"].tolist() == [4, 3, 4]
    assert found.facts["r2"] > 0.7
    assert found.warnings == []
    assert not found.table()["estimated"].any()


def test_an_audit_that_was_stopped_goes_on_to_the_same(tmp_path, monkeypatch):
    data = planted(60)
    options = {"recipe": QUICK, "removal": True}
    whole = audit(data, SHORT, folder=tmp_path / "whole", **options)
    from gsnn.discovery.auditing import steps

    step, calls = steps.Work.trained, []

    def stops(self, number):
        calls.append(number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(steps.Work, "trained", stops)
        patch.setattr(steps, "workers_for", lambda *_: 1)  # calls of other processes are not seen here
        with pytest.raises(KeyboardInterrupt):
            audit(data, SHORT, folder=tmp_path / "cut", **options)
    assert len(Audit.read(tmp_path / "cut").folds) == 2
    with pytest.raises(RunError, match="--resume"):
        audit(data, SHORT, folder=tmp_path / "cut", **options)
    with pytest.raises(RunError, match="seed was 0"):
        audit(data, SHORT, folder=tmp_path / "cut", resume=True, seed=1, **options)
    audit(data, SHORT, folder=tmp_path / "cut", resume=True, **options)
    for name in ("audit.json", "audit.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert Audit.read(tmp_path / "cut").to_dict() == whole.to_dict()
    assert whole.complete


def test_above_a_size_the_rest_is_estimated(monkeypatch):
    for name, value in {"REFIT_ALL": 5, "DOUBTFUL": 3, "RANDOM": 2}.items():
        monkeypatch.setattr(f"gsnn.discovery.auditing.protocol.{name}", value)
    result = audit(planted(60), SHORT, removal=False, recipe=QUICK)
    assert (~result.table()["estimated"]).sum() == 5
    assert result.agreement["edges"] == 2
    assert any("random edges that were estimated" in note for note in result.notes)


def test_kinds_are_chosen():
    result = audit(planted(60), SHORT, kinds="input,output", removal=False, recipe=QUICK)
    assert result.summary()["kind"].tolist() == ["input->function", "function->output"]
    with pytest.raises(DataError, match=r"unknown kind 'inputs'.*did you mean 'input'"):
        audit(planted(60), SHORT, kinds="inputs")


def test_too_few_conditions_are_refused():
    with pytest.raises(DataError, match=r"3 conditions .* 4 are the least"):
        audit(planted(4), SHORT)


def test_the_removal_is_told(found):
    assert found.removal["removed"] == 1
    assert found.removal["gain_low"] <= found.removal["gain"] <= found.removal["gain_high"]
    assert "Without the 1 edges that are not needed" in found.notes[-1]
