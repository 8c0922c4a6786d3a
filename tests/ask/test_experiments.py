"""Hypotheses, separations and the greedy batch; refits from the weights of a model."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from gsnn.ask import design
from gsnn.ask.experiments import Experiment, greedy, listed_experiments, possible_experiments, separations
from gsnn.ask.hypotheses import leading_hypotheses, with_weights_of
from gsnn.ask.new_readouts import StateAxes
from gsnn.base.errors import DataError
from gsnn.nn import GSNN
from gsnn.training import TrainConfig

from .worlds import channels_by_hand, model_of, world

CANDIDATES = pd.DataFrame(
    {"source": ["a", "b", "b", "e"], "target": ["d", "c", "f", "f"], "alias_group": [1, 2, 2, 3]},
)
OPTIONS = [{}, {"norm": "edgebatch", "share_layers": True}, {"channels": [1, 2, 3, 4, 2, 1], "norm": "layer"}]


def test_separations_are_distances_in_standard_errors():
    rng = np.random.default_rng(0)
    mu, tau = rng.normal(size=(3, 4, 5)), rng.random((3, 4, 5))
    noise = rng.random(5) + 0.1
    noise[2] = np.nan
    found = separations(mu, tau, noise, replicates=2)
    for x in range(4):
        for column, (h, k) in enumerate(combinations(range(3), 2)):
            total = 0.0
            for o in (0, 1, 3, 4):
                variance = noise[o] ** 2 / 2 + (tau[h, x, o] ** 2 + tau[k, x, o] ** 2) / 2
                total += (mu[h, x, o] - mu[k, x, o]) ** 2 / variance
            assert found[x, column] == pytest.approx(total**0.5)


def test_the_greedy_batch_takes_what_adds_most_for_its_cost():
    rng = np.random.default_rng(1)
    separation, cost = 2 * rng.random((7, 6)), rng.random(7) + 0.5
    told = lambda some: np.mean(2 * norm.cdf(np.sqrt((separation[some] ** 2).sum(0)) / 2) - 1)  # noqa: E731
    chosen: list[int] = []
    expected = []
    for _ in range(3):
        gains = {i: told([*chosen, i]) - (told(chosen) if chosen else 0.0) for i in range(7) if i not in chosen}
        best = max(gains, key=lambda i: gains[i] / cost[i])
        expected.append(gains[best])
        chosen.append(best)
    found, gain = greedy(separation, cost, 3)
    assert found == chosen
    np.testing.assert_allclose(gain, expected)
    assert len(greedy(separation, cost, 99)[0]) == 7


@pytest.mark.parametrize("options", OPTIONS)
def test_a_refit_starts_from_the_weights_of_the_model(options):
    data, _ = world()
    model = model_of(data, **options)
    x = torch.tensor(data.x)
    settings = {"channels": 3, "layers": 4, "norm": "groupbatch", "share_layers": False} | options
    for change in ({"add": [("e", "f"), ("b", "c")]}, {"drop": [("c", "d")]}):
        if "drop" in change and model.norm == "edgebatch":
            continue  # an edge that holds 0 is still shifted by its norm
        graph = data.graph
        graph = graph.with_edges(change["add"]) if "add" in change else graph.without_edges(change["drop"])
        fresh = with_weights_of(model, GSNN.from_graph(graph, **settings)).eval()
        # With the edges that differ silenced, the two are one function.
        masked = (
            {"mask": torch.ones(fresh.E), "of": fresh}
            if "add" in change
            else {"mask": torch.ones(model.E), "of": model}
        )
        names = masked["of"].layout.names["function"]
        ends = [[names[i] if i < len(names) else "" for i in row] for row in masked["of"].layout.edge_index.tolist()]
        for edge in change.get("add") or change["drop"]:
            masked["mask"][[i for i, pair in enumerate(zip(*ends, strict=True)) if pair == edge]] = 0
        with torch.no_grad():
            whole, part = masked["of"](x, edge_mask=masked["mask"]), (model if "add" in change else fresh)(x)
        torch.testing.assert_close(whole, part, atol=1e-5, rtol=1e-5)


def test_hypotheses_are_groups_and_doubts():
    found = leading_hypotheses(CANDIDATES, [("c", "d")], k=2)
    assert [one.name for one in found][1:] == ["a -> d", "b -> c (or 1 like it)", "no c -> d"]
    assert found[2].members == (("b", "c"), ("b", "f"))
    with pytest.raises(DataError, match="gsnn infer"):
        leading_hypotheses(CANDIDATES.head(0))


def test_the_parts_that_the_data_have():
    data, _ = world()
    names = [one.name for one in possible_experiments(data)]
    assert [name.split("=")[0] for name in names[:2]] == ["a", "b"]
    assert len(names) == len(set(names))
    found = possible_experiments(data)
    assert sum(one.kind == "knock-out" for one in found) == data.graph.N * 8
    # c and f have readouts.
    new = [one for one in found if one.kind == "readout"]
    assert {data.graph.functions[one.read] for one in new} == {"a", "b", "d", "e"}
    assert len(new) == 4 * 8
    assert {one.kind for one in possible_experiments(data, knockouts=False, readouts=False)} == {"treatment"}


def test_a_new_readout_is_the_direction_in_which_a_function_varies_most():
    data, _ = world()
    models = [model_of(data, seed, channels=[1, 2, 3, 4, 2, 1]) for seed in range(2)]
    axes = StateAxes.of(models[0], data.x, [3, 2])
    for row, function in enumerate([3, 2]):
        h = channels_by_hand(models[0], data.x.copy())[-1][models[0].channel_node == function].double().numpy()
        covariance = np.cov(h, bias=True)
        values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
        along = vectors[:, -1] @ (h - h.mean(1, keepdims=True)) / values[-1] ** 0.5
        sign = np.sign(along @ axes.pattern[row])
        np.testing.assert_allclose(axes.pattern[row], sign * along, atol=1e-4)
        np.testing.assert_allclose(axes.states(models[0], data.x[:5])[:, row], sign * along[:5], atol=1e-4)
    other = StateAxes.of(models[1], data.x, [3, 2], axes)
    assert ((other.pattern * axes.pattern).sum(1) >= 0).all()
    np.testing.assert_allclose(other.states(models[1], data.x).T, other.pattern, atol=1e-6)


def test_a_new_readout_separates_hypotheses_by_its_own_state_alone():
    data, standardiser = world(60)
    config = TrainConfig(epochs=10, channels=3, layers=4)
    read = data.graph.functions.index("d")
    asked = [Experiment(tuple(map(float, data.x[row])), -1, read, f"d measured, {row}", "readout") for row in (0, 5)]
    asked.append(Experiment(asked[0].treatments, name="plain"))
    models = [model_of(data, seed) for seed in range(2)]
    found = design(models, data, standardiser, config, CANDIDATES, hypotheses=2, experiments=asked, replicates=4)
    assert np.isnan(found.state[:, 2]).all()
    assert np.isfinite(found.state[:, :2]).all()
    assert np.isnan(found.predicted).all(2).tolist() == [[True, True, False]] * 3
    assert np.median(found.noise / standardiser.scale) == pytest.approx(found.state_noise)
    most = (found.state[0, 0] - found.state[1, 0]) / (found.state_noise / 2)
    assert 0 < found.separation[0, 0] <= abs(most) + 1e-9
    assert list(found.table(0).columns) == ["hypothesis", "d"]
    assert list(found.table(2).columns) == ["hypothesis", "c", "f"]


def test_a_list_of_ones_own():
    data, _ = world()
    table = pd.DataFrame({"experiment": ["a+b=2", "untreated", "b"], "knockout": ["", "d", ""], "cost": [2.0, 1.0, 1]})
    found = listed_experiments(table.assign(readout=["", "", "d"]), data)
    assert found[0] == Experiment((1.0, 2.0), -1, -1, "a+b=2", "listed", 2.0)
    d = data.graph.functions.index("d")
    assert [(one.knocked, one.read) for one in found[1:]] == [(d, -1), (-1, d)]
    assert found[2].name == "d measured, b"
    for wrong, words in (
        ({"experiment": ["a", "bb"]}, "row 2.*'bb'.*did you mean 'b'"),
        ({"experiment": ["a"], "cost": [0]}, "row 1.*above 0"),
        ({"experiment": ["a"], "knockout": ["dd"]}, "row 1.*'dd'"),
        ({"experiment": ["a"], "knockout": ["c"], "readout": ["d"]}, "row 1.*one of the two"),
        ({"what": ["a"]}, "column 'experiment'"),
    ):
        with pytest.raises(DataError, match=words):
            listed_experiments(pd.DataFrame(wrong), data)


def test_a_design_names_what_it_separates(tmp_path):
    data, standardiser = world(60)
    config = TrainConfig(epochs=10, channels=3, layers=4)
    models = [model_of(data, seed, dropout=0.1) for seed in range(2)]
    found = design(models, data, standardiser, config, CANDIDATES, doubts=[("c", "d")], batch=3)
    assert found.hypotheses[0].name == "the network as it is"
    frame = found.to_frame()
    assert list(frame["rank"]) == [1, 2, 3]
    assert found.gain == sorted(found.gain, reverse=True)
    assert found.table(found.batch[0]).shape == (5, 2 if found.experiments[found.batch[0]].read >= 0 else 3)
    assert found.predicted.shape == (5, len(found.experiments), 2)
    # A refit is the model that is trained on, and says what a knock-out does by the clamp of it.
    out = [i for i, one in enumerate(found.experiments) if one.name.startswith("e knocked out, ")]
    plain = {one.treatments: i for i, one in enumerate(found.experiments) if one.kind == "treatment"}
    same = [i for i in out if found.experiments[i].treatments in plain]
    for i in same:  # without an edge out of e nothing changes
        there = plain[found.experiments[i].treatments]
        np.testing.assert_allclose(found.predicted[0, i], found.predicted[0, there], atol=1e-4)
    assert same
    assert [path.name for path in found.write(tmp_path)] == ["design.csv", "design.json"]
    again = design(models, data, standardiser, config, CANDIDATES, doubts=[("c", "d")], batch=3)
    assert again.batch == found.batch
    with pytest.raises(DataError, match="batch must be at least 1"):
        design(models, data, standardiser, config, CANDIDATES, batch=0)
