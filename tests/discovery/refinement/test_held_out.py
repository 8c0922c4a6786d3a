"""The two gates of a refinement: their tests against scipy, and what chance makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from gsnn.discovery.refinement import held_out as held_out_module
from gsnn.discovery.refinement.held_out import ENOUGH, Folds, Losses, degree_classes, losses, power, ranks, verdict
from gsnn.discovery.retrain import train_on
from gsnn.discovery.verdicts import ALPHA

from ..conftest import random_graph, simulated


def pair(rng, n=40, shift=0.0, luck=0.0, folds=4):
    """Squares without and with an edge; ``luck`` is what all conditions of a fold have in common."""
    fold = np.arange(n) % folds
    before = rng.gamma(4.0, size=n)
    after = before - shift + rng.normal(scale=0.3, size=n) + luck * rng.normal(size=folds)[fold]
    counts = rng.integers(1, 4, n).astype(float)
    return Losses(before, counts, fold), Losses(after, counts, fold)


@pytest.mark.parametrize("shift", [-0.1, 0.0, 0.15, 0.5])
@pytest.mark.parametrize("level", [0.05, 0.004])
def test_the_verdict_is_two_paired_t_tests(shift, level):
    rng = np.random.default_rng(int(10 * shift) + 5)
    for _ in range(20):
        before, after = pair(rng, shift=shift, luck=0.1)
        found = verdict(before, after, level)
        over_conditions = stats.ttest_rel(before.squares, after.squares, alternative="greater").pvalue
        means = [[part.squares[part.fold == k].mean() for k in range(4)] for part in (before, after)]
        over_folds = stats.ttest_rel(*means, alternative="greater").pvalue
        assert found.p == pytest.approx(over_conditions)
        assert found.gain == pytest.approx(1 - after.squares.sum() / before.squares.sum())
        assert found.passes == (over_conditions < level and over_folds < ALPHA and found.gain > 0)
        assert found.passes == (found.gain > found.needed)
        # The units of the loss do not matter.
        scaled = [Losses(1e6 * part.squares, part.counts, part.fold) for part in (before, after)]
        assert verdict(*scaled, level).needed == pytest.approx(found.needed)


def test_luck_that_all_conditions_share_passes_no_more_than_its_level():
    """What the old rule took for a gain: two trainings differ, and every sample sees it."""
    rng = np.random.default_rng(0)
    lower, passed = 0, 0
    for _ in range(400):
        before, after = pair(rng, luck=1.0)
        lower += after.squares.sum() < before.squares.sum()
        passed += verdict(before, after, 0.004).passes
    assert lower > 150
    assert stats.binom.sf(passed - 1, 400, ALPHA) > 1e-3


def test_nothing_passes_where_nothing_changes_or_one_fold_is_left():
    before, _ = pair(np.random.default_rng(0))
    assert not verdict(before, before, 0.05).passes
    single = [
        Losses(part.squares, part.counts, np.zeros(40, int)) for part in pair(np.random.default_rng(0), shift=1.0)
    ]
    assert verdict(*single, 0.05).needed == np.inf
    asked = verdict(*pair(np.random.default_rng(0), shift=1.0), 0.05, 0.9)
    assert (asked.needed, asked.passes) == (0.9, False)


def test_the_power_is_that_of_drawn_samples():
    rng = np.random.default_rng(1)
    drawn = stats.ttest_1samp(rng.normal(loc=1.0, size=(4000, 6)), 0, axis=1, alternative="greater").pvalue
    assert power(6, 0.01) == pytest.approx((drawn < 0.01).mean(), abs=0.03)
    assert power(1, 0.01) == 0.0
    assert power(3, 0.004) < 0.1 < 0.99 < power(40, 0.004)


def test_folds_hold_every_deciding_condition_out_once(config):
    given = simulated(5, 60)
    folds = Folds.of(given, config)
    held = np.concatenate([part.validation for part in folds.parts])
    assert sorted(held) == folds.whole.validation.tolist()
    assert folds.n_conditions == round(0.3 * 60)
    for part in folds.parts:
        everything = np.concatenate([part.train, part.validation, part.test])
        assert sorted(everything) == list(range(60))
        assert not set(folds.whole.train) - set(part.train)


def test_many_conditions_leave_more_to_train_on(config):
    """Thirty percent decide, but no more than are needed, unless the settings ask for them."""
    decide = {n: Folds.of(simulated(4, n), config).n_conditions for n in (60, 600, 900)}
    assert decide == {60: 18, 600: round(0.3 * 600), 900: ENOUGH}
    assert Folds.of(simulated(4, 900), replace(config, validation=0.25)).n_conditions == round(0.25 * 900)
    # A gain of a quarter of its standard deviation is seen in four of five cases.
    assert power(ENOUGH, 0.004, 0.25) == pytest.approx(0.8, abs=0.01)


def test_degree_classes_hold_a_quarter_of_the_functions():
    graph = random_graph(40, 0.1, 3)
    found = degree_classes(graph)
    degree = {name: 0 for name in graph.functions}
    for source, target in [*graph.function_edges, *graph.to_networkx().edges]:
        if target in degree and (source, target) not in graph.function_edges:
            degree[target] += 1
    for _, target in graph.function_edges:
        degree[target] += 1
    counts = np.bincount(found)
    assert len(counts) > 1
    assert counts.min() >= 10
    values = np.array(list(degree.values()))
    for low, high in zip(range(len(counts) - 1), range(1, len(counts)), strict=True):
        assert values[found == low].max() < values[found == high].min()


def test_a_random_non_edge_has_a_uniform_rank(monkeypatch, fake_training):
    graph = random_graph(20, 0.1, 1)
    rng = np.random.default_rng(0)
    scores = np.round(rng.gamma(0.3, size=(20, 20)), 1)  # ties, and a heavy tail
    scores[3] = np.nan
    trained = fake_training()(None, graph, None)
    monkeypatch.setattr(held_out_module, "_explained", lambda *_: scores)
    classes = degree_classes(graph)
    found = ranks(None, trained, None, classes)
    place = {name: i for i, name in enumerate(graph.functions)}
    known = {(place[s], place[t]) for s, t in graph.function_edges}
    for i in range(20):
        for j in range(20):
            if i == j or (i, j) in known:
                assert np.isnan(found[i, j])
                continue
            peers = [(a, b) for a in range(20) for b in range(20)
                     if a != b and (a, b) not in known and classes[b] == classes[j]]  # fmt: skip
            wanted = 1.0 if i == 3 else np.mean([scores[peer] >= scores[i, j] for peer in peers])
            assert found[i, j] == pytest.approx(wanted)
    for level in (0.01, 0.05, 0.2):
        assert np.nanmean(found <= level) <= level


def test_losses_are_those_of_models_trained_without_the_fold(config):
    given = simulated(4, 60)
    folds = Folds.of(given, config)
    found = losses(given, given.graph, config, folds)
    assert len(found.squares) == folds.n_conditions
    for number, part in enumerate(folds.parts):
        alone = train_on(given, given.graph, config, seed=config.seed + number, split=part)
        mine = found.fold == number
        assert found.squares[mine].sum() / found.counts[mine].sum() == pytest.approx(alone.validation_loss, rel=1e-5)
    again = losses(given, given.graph, config, folds)
    np.testing.assert_array_equal(found.squares, again.squares)
