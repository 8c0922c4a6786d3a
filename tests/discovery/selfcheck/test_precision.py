"""The precision to expect, against its definitions and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gsnn.discovery.selfcheck.precision import estimable, found_share, precision_interval


def test_share_found_is_that_of_a_count_once_five_are_found():
    rng = np.random.default_rng(0)
    ranks = rng.choice(np.arange(1, 300), 30, replace=False)
    fifth = np.sort(ranks)[4]
    k = np.arange(fifth, 310)
    np.testing.assert_allclose(found_share(ranks, np.ones(30), k), [(ranks <= place).mean() for place in k])
    head = np.arange(1, fifth)
    np.testing.assert_allclose(found_share(ranks, np.ones(30), head), head * 4 / (fifth - 1) / 30)
    assert np.isnan(found_share([], [], [1])).all()
    assert found_share([7], [1], [1, 6, 7]).tolist() == [0, 0, 1], "one edge has no density"
    assert found_share([1, 1], [1, 1], [1, 2]).tolist() == [1, 1]


def test_share_found_weighs_edges():
    k = [1, 3, 9, 12]
    twice = found_share([2, 2, 5, 6, 8, 9, 11], [0.5, 0.5, 1, 1, 1, 1, 1], k)
    np.testing.assert_allclose(twice, found_share([2, 5, 6, 8, 9, 11], np.ones(6), k))


@pytest.mark.parametrize("p", [0.004, 0.05, 0.3])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_share_found_is_right_on_average_at_the_head(load_benchmark, p, k):
    # Places hold a hidden edge with probability p each, the definition of a precision that does not fall.
    rng = np.random.default_rng(0)
    m, draws = 60, 1500
    ranks = rng.geometric(p, size=(draws, m)).cumsum(axis=1)
    found = np.array([found_share(row, np.ones(m), [k])[0] for row in ranks])
    expected = k * p / m
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(draws) + 1e-12
    if k == 1:
        majorant = load_benchmark("precision").majorant
        before = np.mean([majorant(row, int(row[-1]) + 1, np.array([k]))[0] for row in ranks[:400]])
        assert before > 1.5 * expected, "a concave curve is too high there"


@pytest.mark.parametrize("m", [11, pytest.param(40, marks=pytest.mark.slow)])
def test_quick_form_of_the_precision_benchmark(load_benchmark, m):
    """Chance and skill, few and many edges: no bias, and intervals that hold the truth; all of it in seconds."""
    found = load_benchmark("precision").table(40, hidden=(m,))
    assert set(found["k"]) == {1, 5, 10, 50}
    chance = found[found["skill"] == "chance"]
    assert (abs(chance["estimate"] - m / (2000 + m)) < 4 * chance["SE"] + 1e-9).all()
    assert chance.loc[chance["k"] == 1, "before"].item() > 2 * m / (2000 + m), "what a concave curve promised"
    assert (found["coverage"] >= 0.9).all()
    assert found.loc[found["k"] == 1, "told"].max() < 0.1, "among one candidate nothing is known"
    assert (found.loc[found["k"] == 50, "told"] > 0.9).all()


def test_a_precision_is_told_up_to_a_width_of_a_half():
    assert estimable([0.0, 0.0, np.nan, 0.4], [0.5, 0.51, 1.0, 0.4]).tolist() == [True, False, False, True]
    assert estimable([0.0], [1.0], widest=1.0).all()


def test_precision_interval_is_the_predictive_one():
    rng = np.random.default_rng(0)
    share, hidden, missing, k = 0.6, 20, 30, 50
    recall = rng.beta(0.5 + hidden * share, 0.5 + hidden * (1 - share), size=400_000)
    low, high = np.quantile(rng.binomial(missing, recall) / k, [0.025, 0.975])
    expected, found_low, found_high = precision_interval([share], hidden, missing, [k])
    assert expected[0] == pytest.approx(share * (missing + missing * share / k) / k)
    assert (found_low[0], found_high[0]) == pytest.approx((low, high), abs=0.021)


def test_long_tables_are_bounded_by_the_grid():
    share = np.linspace(0, 1, 3000)
    k = np.full(3000, 100.0)
    _, low, high = precision_interval(share, 40, 30.0, k)
    some = slice(0, None, 100)
    _, exact_low, exact_high = precision_interval(share[some], 40, 30.0, k[some])
    assert (low[some] <= exact_low + 1e-12).all()
    assert (high[some] >= exact_high - 1e-12).all()
    assert np.abs(low[some] - exact_low).max() < 0.03
    assert np.abs(high[some] - exact_high).max() < 0.03


def test_precision_interval_at_the_ends():
    expected, low, high = precision_interval([0.0, 1.0, np.nan], 10, 5.0, [100, 1, 1])
    assert expected[:2].tolist() == [0.0, 1.0]
    assert (low[0], high[1]) == (0.0, 1.0)
    assert np.isnan([expected[2], low[2], high[2]]).all()
    assert [v.tolist() for v in precision_interval([0.5], 10, 0.0, [3])] == [[0.0]] * 3


@pytest.mark.parametrize("skill", [0.0, 2.0])
def test_coverage_of_the_stated_precision_without_a_model(skill):
    # Scores are normal, true edges shifted by `skill`; hidden and missing edges are drawn alike.
    rng = np.random.default_rng(0)
    n, missing, hidden = 400, 12, 30
    inside = []
    for _ in range(200):
        unknown = np.concatenate([rng.normal(size=n), rng.normal(skill, size=missing)])
        masked = rng.normal(skill, size=hidden)
        ranks = 1 + (unknown[None] > masked[:, None]).sum(axis=1)
        true = np.argsort(-unknown)[:20] >= n
        recall = found_share(ranks, np.ones(hidden), [20])
        _, low, high = precision_interval(recall, hidden, missing, [20])
        inside.append(low[0] - 1e-9 <= true.mean() <= high[0] + 1e-9)
    assert np.mean(inside) >= 0.9
    assert stats.binomtest(sum(inside), 200, 0.95).pvalue > 1e-4 or np.mean(inside) > 0.95
