"""Repairs: what opening an edge does, one table of all actions, what is refused, and how a refinement tests them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.base.errors import DataError
from gsnn.data import PerturbationData
from gsnn.discovery import audit, refine
from gsnn.discovery.auditing.opening import copies_with, opened_errors
from gsnn.discovery.auditing.restricted import Recipe, Restricted
from gsnn.discovery.refinement.held_out import Folds, verdict
from gsnn.discovery.repairs import COLUMNS, Repair, read_repairs, repaired, repairs_table
from gsnn.graph import Graph
from gsnn.training import TrainConfig

from .conftest import simulated
from .refinement.test_held_out import pair

SHORT = TrainConfig(epochs=2, channels=2, layers=4, batch_size=32)
NODES = {"input_nodes": ["x0", "x1", "x2"], "function_nodes": list("abcde"), "output_nodes": [f"y.{n}" for n in "deab"]}


def graph(*more):
    """Three chains; c -> d does nothing, b -> d has the wrong sign."""
    edges = [("x0", "a", 1), ("x1", "b", 1), ("x2", "c", 1), ("a", "d", 1), ("b", "d", 1), ("c", "d", 1)]
    return Graph.from_edges([*edges, *((n, f"y.{n}", 1) for n in "deab"), *more], **NODES)


def planted(n=400, seed=0):
    """Data of d = tanh(a - b) and e = tanh(c); the network lacks c -> e."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    a, b, c = np.tanh(x.T)
    y = np.c_[np.tanh(a - b), np.tanh(c), a, b] + 0.1 * rng.normal(size=(n, 4))
    known = graph()
    return PerturbationData(known, pd.DataFrame(x, columns=known.inputs), pd.DataFrame(y, columns=known.outputs))


CANDIDATES = pd.DataFrame(
    [
        ("input->function", "x0", "e", 2, False),
        ("input->function", "x2", "e", 1, False),
        ("function->function", "c", "e", 1, False),
        ("function->function", "a", "e", 2, False),
        ("function->function", "e", "a", 31, False),
        ("function->function", "a", "d", 1, True),
        ("function->output", "c", "y.e", 1, False),
    ],
    columns=["kind", "source", "target", "rank", "known"],
)


@pytest.fixture(scope="module")
def table():
    data = planted()
    return repairs_table(data, audit(data, SHORT, recipe=Recipe(steps=200, rate=0.05), removal=False), CANDIDATES)


def random_net(known):
    net = Restricted(known, 1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return net


EDGES = [("function->output", "c", "y.e"), ("input->function", "x2", "e"), ("function->function", "c", "e")]


def test_copies_predict_what_the_network_does():
    known = graph()
    net = random_net(known)
    wide, places = copies_with(net, known, EDGES)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(wide(x.repeat(1, 4)).view(20, 4, 4), net(x)[:, None].expand(20, 4, 4))
    # An open edge changes its own copy alone, and as the graph with this edge would.
    for copy, (place, edge) in enumerate(zip(places.tolist(), EDGES, strict=True), 1):
        with torch.no_grad():
            wide.weight[place] = 0.7
        found = wide(x.repeat(1, 4)).view(20, 4, 4)
        torch.testing.assert_close(found[:, 0], net(x))
        larger = Restricted(known.with_edges([edge[1:]]))
        _, at = copies_with(net, known, [edge])
        values = net.to_lists()
        before = {"function->output": 10, "input->function": 6, "function->function": 3}[edge[0]]
        values["weight"].insert(before, 0.7)
        assert len(at) == 1
        torch.testing.assert_close(found[:, copy], Restricted.from_lists(known.with_edges([edge[1:]]), values)(x))
        assert len(larger.weight) == len(values["weight"])


def test_an_edge_that_is_missing_helps_and_a_dead_function_wakes():
    """Nothing reaches e, so the edge out of it had died."""
    data = planted(200)
    net = random_net(data.graph)
    with torch.no_grad():
        net.weight[data.graph.E - 3] = 0.0
    x, y = (np.array(values, dtype=float) for values in (data.x, data.y))
    train, held = (x[:150], y[:150]), (x[150:], y[150:])
    found = opened_errors(net, data.graph, [*EDGES, ("input->function", "x0", "e")], train, held, Recipe(200, 32, 0.02))
    falls = (found.without - found.errors).mean(1)
    assert falls[:3].min() > 0.3
    assert abs(falls[3]) < 0.1
    assert found.weights[:3].min() > 0.1
    # The copy without the edge is the same, whatever stands beside it.
    assert np.ptp(found.without, axis=0).max() == 0


def test_no_edges_to_open():
    known = graph()
    x, y = np.zeros((5, 3)), np.zeros((5, 4))
    assert opened_errors(random_net(known), known, [], (x, y), (x, y), Recipe(1)).errors.shape == (0, 5)


def test_one_table_of_adds_removes_and_flips(table):
    assert tuple(table.columns) == COLUMNS
    rows = {(row["action"], row["source"], row["target"]): row for row in table.to_dict("records")}
    missing = rows["add", "c", "e"]
    assert missing["gain"] > 0.2
    assert missing["gain_low"] > 0
    assert missing["sign"] == 1
    assert abs(rows["add", "a", "e"]["gain"]) < 0.05
    assert rows["flip", "b", "d"]["sign"] == -1
    assert rows["flip", "b", "d"]["gain_low"] > 0
    gone = rows["remove", "c", "d"]
    assert abs(gone["gain"]) < 0.02
    assert gone["gain_low"] <= gone["gain"] <= gone["gain_high"]
    # The known one and the one of rank 31 are not there.
    assert set(rows) == {
        ("flip", "b", "d"), ("remove", "c", "d"), ("add", "x0", "e"), ("add", "x2", "e"), ("add", "c", "e"),
        ("add", "a", "e"), ("add", "c", "y.e")}  # fmt: skip
    assert table["gain"].is_monotonic_decreasing


def test_the_table_can_be_read_and_applied(table):
    known = planted().graph
    changed = repaired(known, read_repairs(table, known))
    edges, _ = changed.to_pandas()
    sign = dict(zip(zip(edges["source"], edges["target"], strict=True), edges["sign"], strict=True))
    assert ("c", "d") not in sign
    assert sign["b", "d"] == -1
    assert sign["c", "e"] == 1
    assert len(sign) == known.E - 1 + 5


def test_an_unsigned_graph_keeps_its_edges_when_a_sign_is_turned():
    pairs = [("x", "a"), ("a", "b"), ("b", "y")]
    plain = Graph.from_edges(pairs, input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"])
    same = repaired(plain, [Repair("flip", "function->function", ("a", "b"), -1)])
    assert same.equals(plain)
    more = repaired(plain, [Repair("add", "function->function", ("b", "a"), -1)])
    assert more.edge_sign_dict is None
    turned = read_repairs(pd.DataFrame({"action": ["flip"], "source": ["a"], "target": ["d"]}), graph())[0]
    assert turned.sign == -1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"action": "adds"}, ["row 1", "unknown action 'adds'", "did you mean 'add'"]),
        ({"source": "C"}, ["row 1", "'C' is no node", "did you mean 'c'"]),
        ({"target": "d"}, ["row 1", "cannot add 'c' -> 'd'", "in the network already"]),
        ({"action": "remove"}, ["cannot remove 'c' -> 'e'", "not in the network"]),
        ({"action": "flip"}, ["cannot flip 'c' -> 'e'", "not in the network"]),
        ({"kind": "function->output"}, ["of the kind function->function, not 'function->output'"]),
        ({"source": "x0", "target": "y.e"}, ["would be of the kind input->output"]),
        ({"sign": 2}, ["a sign is -1, 0 or 1, got 2"]),
        ({"gain": "much"}, ["row 1, gain: must be a number, got 'much'"]),
    ],
)
def test_wrong_repairs_are_refused(row, words):
    good = {"action": "add", "kind": "function->function", "source": "c", "target": "e", "sign": 1, "gain": 0.1}
    row = {key: value for key, value in (good | row).items() if key != "kind" or "kind" in row}
    with pytest.raises(DataError) as error:
        read_repairs(pd.DataFrame([row]), graph())
    for word in words:
        assert word in str(error.value)


def test_a_table_without_columns_or_with_a_row_twice():
    with pytest.raises(DataError, match="must have the columns action, source and target, got source"):
        read_repairs(pd.DataFrame({"source": ["a"]}), graph())
    row = {"action": "add", "source": "c", "target": "e"}
    with pytest.raises(DataError, match="row 2: 'c' -> 'e' stands in an earlier row"):
        read_repairs(pd.DataFrame([row, row]), graph())


def test_removal_is_tested_against_a_small_rise():
    """The same test as of a gain, after the loss before has grown by what is tolerated."""
    before, after = pair(np.random.default_rng(0), shift=0.5)
    found = verdict(before, after, 0.01, tolerated=0.01)
    grown = replace(before, squares=1.01 * before.squares)
    same = verdict(grown, after, 0.01)
    assert found.passes == same.passes
    assert found.p == pytest.approx(same.p)
    assert found.gain == pytest.approx(verdict(before, after, 0.01).gain)
    # What changes nothing can go, and is no gain.
    assert verdict(before, before, 0.01, tolerated=0.01).passes
    assert not verdict(before, before, 0.01).passes


def test_the_test_part_decides_on_repairs():
    data = planted(60)
    split = data.split(**SHORT.split_options())
    folds = Folds.of(data, SHORT, on_test=True)
    assert folds.whole.validation.tolist() == split.test.tolist()
    assert len(folds.whole.test) == 0
    assert sorted(np.concatenate([part.validation for part in folds.parts]).tolist()) == split.test.tolist()
    assert not set(folds.whole.train.tolist()) & set(split.test.tolist())


REPAIRS = pd.DataFrame(
    [
        ("add", "f1", "f8", 0.3, 0.2),
        ("flip", "f3", "f10", 0.2, 0.1),
        ("flip", "f3", "f11", 0.2, -0.1),
        ("add", "f7", "f8", 0.1, 0.1),
        ("remove", "f2", "f9", 0.0, -0.1),
        ("remove", "f0", "f8", 0.0, -0.1),
        ("add", "f2", "f15", -0.1, -0.2),
    ],
    columns=["action", "source", "target", "gain", "gain_low"],
)


def incomplete():
    return simulated(8, without=[("f1", "f8"), ("f2", "f10"), ("f9", "f15")])


def loss_of(known):
    """Falls with the edge that is missing, rises with the one that is needed, and a little with any that is not."""
    edges = set(known.function_edges)
    return 10 - 2 * (("f1", "f8") in edges) + 2 * (("f0", "f8") not in edges) + 0.1 * (("f7", "f8") in edges)


def test_repairs_are_tested_in_rounds(fake_training, tmp_path):
    fake = fake_training(loss_of)
    options = {"repairs": REPAIRS, "per_round": 4, "rounds": 2}
    found = refine(incomplete(), folder=tmp_path, **options)
    mine = found.table().query("arm == 'inferred'")
    # One into each target a round: the second into f8 waits; an add that lowers the fit is passed over.
    assert mine[["round", "action", "source"]].to_numpy().tolist() == [
        [1, "add", "f1"], [1, "flip", "f3"], [1, "flip", "f3"], [1, "remove", "f2"], [2, "add", "f7"]
    ]  # fmt: skip
    assert mine["kept"].tolist() == [True, True, False, True, False]
    assert found.repairs()[0].edge == ("f1", "f8")
    drawn = found.table().query("arm == 'random'")
    assert drawn["action"].tolist() == ["add", "remove", "add"]
    assert not drawn.query("action == 'add'")["kept"].any()
    # A flip trains nothing.
    n = len(fake.calls)
    again = refine(incomplete(), folder=tmp_path, resume=True, **options)
    assert len(fake.calls) == n
    pd.testing.assert_frame_equal(again.table(), found.table())
    last = refine(incomplete(), folder=tmp_path, resume=True, **options | {"rounds": 3})
    assert last.table().query("round == 3 and arm == 'inferred'")["source"].tolist() == ["f0"]
    assert not last.table().query("round == 3 and arm == 'inferred'")["kept"].any()


def test_wrong_options_of_repairs(fake_training):
    fake = fake_training(loss_of)
    for options in ({"decision": "joint"}, {"inferer": "magnitude"}):
        with pytest.raises(ValueError, match="repairs stand in a table"):
            refine(incomplete(), repairs=REPAIRS, **options)
    with pytest.raises(DataError, match="no function -> output edge"):
        refine(planted(60), repairs=pd.DataFrame({"action": ["remove"] * 4, "source": list("deab"),
                                                  "target": [f"y.{n}" for n in "deab"]}))  # fmt: skip
    assert not fake.calls
