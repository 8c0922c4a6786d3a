"""Refinement: what is proposed, what stays, and that it resumes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError, RunError
from gsnn.discovery import Refinement, refine
from gsnn.discovery.refinement.bench import decide
from gsnn.discovery.refinement.held_out import power

from ..conftest import simulated

HIDDEN = [("f1", "f8"), ("f2", "f10"), ("f9", "f15")]
TRUE = {*HIDDEN}


def data():
    return simulated(8, without=HIDDEN)


def hints(model, graph, batches):
    """The hidden edges first, then others in a fixed order."""
    index = {name: i for i, name in enumerate(graph.functions)}
    scores = np.random.default_rng(0).random((graph.N, graph.N))
    for place, (source, target) in enumerate(HIDDEN):
        scores[index[source], index[target]] = 9 - 2 * place
    return scores


def loss_of(graph):
    """Falls with every hidden edge that is there, and rises a little with every other one."""
    edges = set(graph.function_edges)
    return 10 - 2 * len(edges & TRUE) + 0.1 * len(edges - set(data().graph.function_edges) - TRUE)


@pytest.mark.parametrize("effects", list(itertools.product([True, False], repeat=4)))
def test_halving_keeps_what_going_one_by_one_keeps(effects):
    names = [f"e{i}" for i in range(len(effects))]
    calls = []

    def passes(kept, batch):
        assert kept == [e for e in names[: names.index(batch[0])] if effects[names.index(e)]]
        calls.append(batch)
        return all(effects[names.index(e)] for e in batch)

    assert decide(names, passes) == [name for name, good in zip(names, effects, strict=True) if good]
    assert len(calls) == (1 if all(effects) else 7 if not any(effects) else len(calls)) <= 2 * len(names) - 1


def test_nothing_to_decide():
    assert decide([], lambda kept, batch: True) == []


def test_hidden_edges_enter_and_others_do_not(fake_training):
    fake = fake_training(loss_of)
    found = refine(data(), inferer=hints, rounds=2, per_round=4, decision="single", truth=TRUE)
    assert set(found.kept()) == TRUE
    assert found.kept("random") == []
    assert found.accepted().to_dict("list") == {
        "arm": ["inferred", "random"], "proposed": [8, 8], "kept": [3, 0], "share": [3 / 8, 0.0]}  # fmt: skip
    first = found.summary().query("arm == 'inferred' and round == 1").iloc[0]
    assert (first["loss_before"], first["loss_after"]) == (10.0, 4.0)
    assert (first["kept"], first["precision"], first["precision_proposed"]) == (3, 1.0, 0.75)
    assert len(found.tried()) == len(set(found.tried())) == 8
    for arm in ("inferred", "random"):
        assert not set(found.tried(arm)) & set(data().graph.function_edges)
    control = found.summary().query("arm == 'random'")
    assert control["proposed"].tolist() == [4, 4]
    assert all(len(edges) >= len(data().graph.function_edges) for edges in fake.calls)


def test_bisect_tries_batches_and_none_lets_in_all(fake_training):
    fake = fake_training(loss_of)
    batch = refine(data(), inferer=hints, rounds=1, per_round=4, decision="bisect", control=False, truth=TRUE)
    assert set(batch.kept()) >= TRUE
    assert len(fake.tests) == 2  # without and with all
    assert batch.summary()["trainings"].tolist() == [9]  # twice four folds, and what was kept
    worse = refine(data(), inferer=hints, rounds=2, per_round=4, decision="none", control=False)
    assert len(worse.kept()) == 8
    assert worse.summary()["precision"].isna().all()
    assert worse.table()["true"].isna().all()


def test_together_asks_that_random_edges_help_less(fake_training):
    fake = fake_training(loss_of)
    found = refine(data(), inferer=hints, rounds=2, per_round=3, decision="together", truth=TRUE)
    first, second = found.summary().query("arm == 'inferred'").to_dict("records")
    assert (first["proposed"], first["kept"], first["loss_after"]) == (3, 3, 4.0)
    assert (second["kept"], second["loss_after"]) == (0, 4.0)
    # Without, with, with random ones, each in four folds, and the model that goes on.
    assert first["trainings"] == 13
    prior = data().graph.function_edges
    instead = [set(edges) - set(prior) for edges in fake.tests][2]
    assert len(instead) == 3
    assert not instead & TRUE
    table = found.table()
    assert (table.query("kept")["p_random"] < 0.025).all()
    # Random edges stay in good company alone.
    drawn = table.query("arm == 'random' and kept")
    assert all(rows["true"].any() for _, rows in drawn.groupby("round"))
    assert table.query("arm == 'inferred' and round == 1")["target"].is_unique


def test_together_keeps_nothing_that_random_edges_do_as_well(fake_training):
    """Any further edge helps."""
    fake_training(lambda graph: 10 - 0.5 * len(graph.function_edges))
    found = refine(data(), inferer=hints, rounds=1, per_round=3, decision="together", control=False)
    assert found.table()["gain"].gt(found.table()["needed"]).all()
    assert found.kept() == []


def test_nothing_is_trained_twice_for_its_losses(fake_training):
    fake = fake_training(loss_of)
    found = refine(data(), inferer=hints, rounds=3, per_round=1)
    assert found.table()["kept"].sum() == 3
    # The prior graph, and one more after each edge; a round counts what it uses, so that stopping changes no record.
    assert [len(edges) - len(data().graph.function_edges) for edges in fake.tests] == [0, 1, 2, 3]
    assert found.summary()["trainings"].tolist() == [9, 9, 9, 0, 0, 0]


def test_losses_chain_over_rounds(fake_training):
    fake_training(loss_of)
    table = refine(data(), inferer=hints, rounds=3, per_round=1, control=False).summary()
    assert table["loss_before"].tolist()[1:] == table["loss_after"].tolist()[:-1]
    assert (table["loss_after"] <= table["loss_before"]).all()


def test_a_stopped_refinement_resumes(fake_training, tmp_path):
    fake = fake_training(loss_of)
    options = {"inferer": hints, "per_round": 2, "decision": "single", "truth": TRUE}
    whole = refine(data(), rounds=3, **options)
    refine(data(), rounds=1, folder=tmp_path, **options)
    with pytest.raises(RunError, match="--resume"):
        refine(data(), rounds=3, folder=tmp_path, **options)
    parts = refine(data(), rounds=3, folder=tmp_path, resume=True, **options)
    pd.testing.assert_frame_equal(parts.table(), whole.table())
    pd.testing.assert_frame_equal(parts.summary(), whole.summary())
    n = len(fake.calls)
    again = refine(data(), rounds=3, folder=tmp_path, resume=True, **options)
    assert len(fake.calls) == n
    assert again.complete
    pd.testing.assert_frame_equal(Refinement.read(tmp_path).table(), whole.table())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["refine.csv", "refine.json"]
    with pytest.raises(RunError, match="per_round was 2, now 3"):
        refine(data(), rounds=3, folder=tmp_path, resume=True, **{**options, "per_round": 3})
    assert len(refine(data(), rounds=1, folder=tmp_path, overwrite=True, **options).tried()) == 2


def test_no_candidates_left(fake_training):
    fake_training(loss_of)
    found = refine(data(), inferer=lambda *_: np.full((16, 16), np.nan), rounds=2, control=False)
    assert found.tried() == []
    assert found.complete
    assert len(found.table()) == 0
    assert found.summary()["loss_after"].tolist() == [10.0, 10.0]


def flat(model, graph, batches):
    """The same for every pair."""
    return np.ones((graph.N, graph.N))


@pytest.fixture
def two_methods(monkeypatch):
    """'hints' and 'flat', as if they were registered."""
    monkeypatch.setattr("gsnn.discovery.refinement.protocol.method_names", lambda names: list(names))
    monkeypatch.setattr(
        "gsnn.discovery.refinement.protocol.resolve_scorers",
        lambda names, *_: {n: {"hints": hints, "flat": flat}[n] for n in names},
    )
    return ["flat", "hints"]


@pytest.fixture
def best_of_the_pool(monkeypatch):
    """Hidden edges are missed most."""
    pools = []

    def chosen(model, graph, pool, batches, n):
        assert set(pool) <= set(graph.function_edges)
        pools.append(list(pool))
        return sorted(pool, key=lambda edge: edge not in TRUE)[:n]

    monkeypatch.setattr("gsnn.discovery.refinement.bench.largest_ablation_cost", chosen)
    return pools


def test_every_method_proposes_and_what_is_missed_most_is_tried(fake_training, two_methods, best_of_the_pool):
    fake = fake_training(loss_of)
    found = refine(data(), inferer=two_methods, rounds=2, per_round=3, decision="joint", control=False, truth=TRUE)
    assert set(found.kept()) == TRUE
    assert [len(pool) for pool in best_of_the_pool] == [6, 6]
    first, second = found.summary().to_dict("records")
    assert (first["proposed"], first["kept"], first["trainings"]) == (6, 3, 10)
    # Nothing is left to find: the three that are missed most make the loss worse, so none enters.
    assert (second["kept"], second["loss_after"]) == (0, 4.0)
    table = found.table()
    assert table.groupby("round")["method"].value_counts().to_dict() == {
        (1, "flat"): 3, (1, "hints"): 3, (2, "flat"): 3, (2, "hints"): 3}  # fmt: skip
    # Trained: the prior graph, and in each round the pool and, if anything is kept, that.
    assert [len(edges) - len(fake.calls[0]) for edges in fake.calls] == [0, 6, 3, 9]


def test_joint_proposes_again_what_was_not_chosen(fake_training, two_methods, best_of_the_pool):
    fake_training(loss_of)
    found = refine(data(), inferer=two_methods, rounds=2, per_round=2, decision="joint", control=False)
    first, second = ([edge for edge in pool if edge not in TRUE] for pool in best_of_the_pool)
    assert found.kept()[:2] == [*HIDDEN[:2]]
    assert set(first) == set(second) & set(first)
    assert found.kept() == HIDDEN


def test_joint_proposes_others_where_nothing_helped(fake_training, two_methods, best_of_the_pool):
    fake_training(lambda graph: len(graph.function_edges))
    found = refine(data(), inferer=two_methods, rounds=2, per_round=2, decision="joint", control=False)
    assert found.kept() == []
    assert not set(best_of_the_pool[0]) & set(best_of_the_pool[1])


def test_joint_with_few_proposals_trains_once(fake_training, best_of_the_pool):
    fake_training(loss_of)
    found = refine(data(), inferer=hints, rounds=1, per_round=3, decision="joint", truth=TRUE, seed=1)
    assert found.summary()["trainings"].tolist() == [9, 0]
    assert set(found.kept()) == TRUE
    assert not best_of_the_pool


def test_the_control_is_as_large_as_the_pool(fake_training, two_methods, best_of_the_pool):
    fake_training(loss_of)
    found = refine(data(), inferer=two_methods, rounds=1, per_round=3, decision="joint")
    assert found.summary()["proposed"].tolist() == [6, 6]
    assert set(found.table().query("arm == 'random'")["method"]) == {"random"}


def test_no_more_of_a_target_and_of_a_source_than_asked(fake_training):
    fake_training()
    free = refine(data(), inferer=flat, rounds=1, per_round=6, decision="none", control=False)
    assert len({source for source, _ in free.tried()}) == 1
    found = refine(
        data(), inferer=flat, rounds=1, per_round=6, decision="none", control=False, per_target=1, per_source=2
    )
    sources, targets = zip(*found.tried(), strict=True)
    assert len(targets) == len(set(targets)) == 6
    assert max(map(sources.count, sources)) == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"per_target": 0}, ValueError, "per_target must be at least 1"),
        ({"per_source": 1.5}, ValueError, "per_source must be"),
        ({"inferer": []}, DataError, "at least one method"),
        ({"inferer": "magnitude,gradiant"}, DataError, "did you mean 'gradient'"),
        ({"rounds": 0}, ValueError, "rounds must be at least 1"),
        ({"per_round": 1.5}, ValueError, "per_round must be"),
        ({"decision": "bisekt"}, ValueError, "did you mean 'bisect'"),
        ({"min_drop": -1}, ValueError, "min_drop"),
        ({"min_drop": 1.0}, ValueError, "share of the loss"),
        ({"inferer": "magnitud"}, DataError, "did you mean 'magnitude'"),
        ({"resume": True}, RunError, "folder="),
    ],
)
def test_wrong_options(fake_training, options, error, message):
    fake = fake_training()
    with pytest.raises(error, match=message):
        refine(data(), **options)
    assert not fake.calls


def test_no_deciding_samples():
    given = data()
    outputs = given.outputs.copy()
    split = given.split(seed=0, test=0.2, validation=0.3)
    outputs.iloc[split.validation] = np.nan
    with pytest.raises(DataError, match=r"0 conditions with a measured response.*raise validation"):
        refine(replace(given, outputs=outputs), inferer=hints)


def test_what_is_kept_must_help_together(fake_training, monkeypatch):
    """The last word has a model trained with all that passed."""
    fake = fake_training(loss_of)
    whole = len(data().graph.function_edges) + len(HIDDEN)
    alone = fake.__call__

    def spoilt(monkeypatch_data, graph, config, **options):
        found = alone(monkeypatch_data, graph, config, **options)
        return replace(found, validation_loss=99.0) if len(graph.function_edges) == whole else found

    monkeypatch.setattr("gsnn.discovery.refinement.bench.train_on", spoilt)
    found = refine(data(), inferer=hints, rounds=1, per_round=3, control=False)
    assert (found.table()["gain"] > found.table()["needed"]).all()
    assert found.kept() == []
    assert found.summary()["loss_after"].tolist() == [10.0]


def test_min_drop_asks_for_more(fake_training):
    fake_training(loss_of)
    options = {"inferer": hints, "rounds": 1, "per_round": 3, "control": False}
    free = refine(data(), **options).table()
    assert (free["needed"] < 0.05).all()
    # Each of the three takes 2 away, of 10, 8 and 6.
    asked = refine(data(), min_drop=0.22, **options).table()
    assert asked["kept"].tolist() == [False, False, False]
    assert (asked["needed"] == 0.22).all()
    assert refine(data(), min_drop=0.18, **options).kept() == HIDDEN


def test_levels_add_up_to_five_percent_however_many_rounds(fake_training):
    fake_training(lambda graph: 1.0)
    found = refine(data(), inferer=hints, rounds=4, per_round=5, control=False)
    levels = [each["level"] for each in found.arms["inferred"]]
    assert levels == pytest.approx([0.05 / (r * (r + 1) * 5) for r in (1, 2, 3, 4)])
    assert sum(5 * level for level in levels) < 0.05
    halved = refine(data(), inferer=hints, rounds=1, per_round=5, control=False, decision="bisect")
    assert halved.arms["inferred"][0]["level"] == pytest.approx(0.05 / (2 * 9))


def test_too_few_conditions_are_told_with_the_power_that_is_left(fake_training):
    fake_training(loss_of)
    options = {"inferer": hints, "rounds": 1, "per_round": 3, "control": False}
    few = refine(simulated(8, 12, without=HIDDEN), **options)
    (told,) = few.warnings
    left = power(few.arms["inferred"][0]["conditions"], 0.05 / 6)
    assert f"{few.arms['inferred'][0]['conditions']} conditions decide" in told
    assert f"probability of {left:.0%}" in told
    assert refine(data(), **options).warnings == []


def test_an_edge_that_helps_no_more_than_others_does_not_stay(fake_training):
    """Every edge helps, as on a network that lacks many: what is proposed at random stays in no more than 5 %."""
    fake_training(lambda graph: 100.0 - len(graph.function_edges))
    found = refine(data(), inferer=flat, rounds=3, per_round=12)
    table = found.table()
    assert table["gain"].notna().sum() == (table["p_random"] <= 0.05).sum()
    assert (table["p_random"] <= 0.05).mean() < 0.15
    assert not table["kept"][table["p_random"] > 0.05].any()


@pytest.mark.slow
def test_with_a_real_model(config, tmp_path):
    found = refine(data(), config, "magnitude", rounds=2, per_round=2, truth=TRUE, seed=1)
    refine(data(), config, "magnitude", rounds=1, per_round=2, truth=TRUE, seed=1, folder=tmp_path)
    parts = refine(data(), config, "magnitude", rounds=2, per_round=2, truth=TRUE, seed=1, folder=tmp_path, resume=True)
    pd.testing.assert_frame_equal(parts.table(), found.table())
    table = found.summary()
    assert (table["loss_after"] <= table["loss_before"]).all()
    assert found.table()["p_random"].notna().all()


@pytest.mark.slow
def test_joint_with_the_stack_and_stopped(config, tmp_path):
    """The stack learns from the prior graph also where a later process goes on."""
    pytest.importorskip("sklearn")
    config = replace(config, epochs=1)
    options = {"rounds": 2, "per_round": 2, "decision": "joint", "seed": 1, "control": False}
    found = refine(simulated(4, 60), config, **options)
    assert set(found.table()["method"]) == {"stacked", "gradient-explained"}
    assert found.settings["method"] == "stacked,gradient-explained"
    refine(simulated(4, 60), config, **{**options, "rounds": 1}, folder=tmp_path)
    parts = refine(simulated(4, 60), config, **options, folder=tmp_path, resume=True)
    pd.testing.assert_frame_equal(parts.table(), found.table())


@pytest.mark.slow
def test_refinement_beats_random_edges():
    from gsnn.training import TrainConfig

    settings = TrainConfig(
        epochs=12, channels=4, layers=6, batch_size=64, lr=6e-3, norm="none", dropout=0.0, weight_decay=0.0
    )
    hidden = [("f1", "f13"), ("f4", "f15"), ("f7", "f19"), ("f10", "f21"), ("f14", "f23"), ("f18", "f23")]
    found = refine(simulated(12, samples=400, without=hidden), settings, rounds=1, per_round=4, truth=hidden)
    table = found.summary().groupby("arm").last()
    assert table.loc["inferred", "kept"] >= 2
    assert table.loc["inferred", "precision"] >= 0.75
    assert table.loc["inferred", "loss_after"] < 0.75 * table.loc["random", "loss_after"]
    assert table.loc["inferred", "test_after"] < 0.75 * table.loc["random", "test_after"]
