"""Weighted metrics and intervals of AUCs against scikit-learn, loops and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from gsnn.metrics.auc import (
    auc_interval,
    degree_weights,
    dyadic_variance,
    least_visible,
    place,
    weighted_average_precision,
)


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    n = 9
    scores = rng.integers(0, 12, size=(n, n)).astype(float)  # with ties
    scores[0, 3] = np.nan
    kind = rng.choice([0, 1, 2], size=(n, n), p=[0.6, 0.2, 0.2])
    np.fill_diagonal(kind, 2)
    return scores, np.stack(np.nonzero(kind == 1)), kind == 0, rng.random((n, n))


def flat(scores, positives, negatives, weights):
    values = np.concatenate([scores[positives[0], positives[1]], scores[negatives]])
    label = np.arange(len(values)) < positives.shape[1]
    weight = np.concatenate([np.ones(positives.shape[1]), weights[negatives]])
    return np.nan_to_num(values, nan=-1.0), label, weight


def test_weighted_auc_and_precision_are_those_of_scikit_learn(case):
    scores, positives, negatives, weights = case
    values, label, weight = flat(scores, positives, negatives, weights)
    assert place(scores, positives, negatives).auc == pytest.approx(roc_auc_score(label, values))
    expected = roc_auc_score(label, values, sample_weight=weight)
    assert place(scores, positives, negatives, weights).auc == pytest.approx(expected)
    expected = average_precision_score(label, values, sample_weight=weight)
    assert weighted_average_precision(values, label, weight) == pytest.approx(expected)


def test_placements_and_variance_by_loops(case):
    scores, positives, negatives, weights = case
    found = place(scores, positives, negatives, weights)
    values = np.nan_to_num(scores, nan=-np.inf)
    pairs = list(zip(*np.nonzero(negatives), strict=True))
    weight = {pair: weights[pair] / weights[negatives].sum() for pair in pairs}

    def beats(a, b):
        return 1.0 if a > b else 0.5 if a == b else 0.0

    shares = [sum(weight[q] * beats(values[s, t], values[q]) for q in pairs) for s, t in positives.T]
    np.testing.assert_allclose(found.share_below, shares)
    effect = {
        q: weight[q] * (np.mean([beats(values[s, t], values[q]) for s, t in positives.T]) - found.auc) for q in pairs
    }
    expected = sum(effect[p] * effect[q] for p, q in itertools.product(pairs, pairs) if set(p) & set(q))
    assert found.negative_variance == pytest.approx(max(expected, sum(v**2 for v in effect.values())))


def test_variance_of_independent_pairs_is_the_plain_one():
    effects = np.array([0.5, -1.0, 0.5])
    assert dyadic_variance(np.array([[0, 2, 4], [1, 3, 5]]), effects, 6) == pytest.approx((effects**2).sum())


def test_undefined_without_positives_or_negatives():
    scores, none = np.zeros((2, 2)), np.zeros((2, 2), bool)
    assert np.isnan(place(scores, np.array([[0], [1]]), none).auc)
    assert np.isnan(place(scores, np.zeros((2, 0), int), ~none).auc)
    assert np.isnan(auc_interval([], np.zeros(0), 0.0)).all()
    auc, low, high = auc_interval([("a", "b"), ("a", "b")], np.array([0.5, 0.7]), 0.0)
    assert auc == pytest.approx(0.6)
    assert np.isnan([low, high]).all()


def test_degree_weights_equal_drawing_matched_negatives():
    rng = np.random.default_rng(1)
    n = 12
    known = np.stack(np.nonzero(rng.random((n, n)) < 0.12))
    negatives = ~np.eye(n, dtype=bool)
    negatives[known[0], known[1]] = False
    places = np.stack(np.nonzero(negatives))
    positives = places[:, rng.choice(places.shape[1], 5, replace=False)]
    negatives[positives[0], positives[1]] = False
    weights, matched = degree_weights(known, positives, negatives)
    out, into = np.bincount(known[0], minlength=n), np.bincount(known[1], minlength=n)
    drawn = np.zeros((n, n))
    for (s, t), ok in zip(positives.T, matched, strict=True):
        like = negatives & (out == out[s])[:, None] & (into == into[t])[None, :]
        assert like.any() == ok
        if ok:
            drawn[like] += 1 / like.sum()
    np.testing.assert_allclose(weights, drawn * negatives.sum() / drawn.sum())


@pytest.mark.parametrize("n_nodes", [25])
def test_auc_interval_covers_a_half_where_scores_follow_nodes(n_nodes):
    # Row and column effects make pairs of one node alike; an interval for independent pairs would be too narrow.
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        scores = rng.normal(size=(n_nodes, 1)) + rng.normal(size=n_nodes) + 0.5 * rng.normal(size=(n_nodes, n_nodes))
        negatives = ~np.eye(n_nodes, dtype=bool)
        places = np.stack(np.nonzero(negatives))
        positives = places[:, rng.choice(places.shape[1], 15, replace=False)]
        negatives[positives[0], positives[1]] = False
        found = place(scores, positives, negatives)
        _, low, high = auc_interval(
            [tuple(map(str, e)) for e in positives.T], found.share_below, found.negative_variance
        )
        covered.append(low <= 0.5 <= high)
    assert np.mean(covered) >= 0.92


def test_least_visible_auc_is_found_with_the_power_it_says():
    rng = np.random.default_rng(0)
    n = 30
    edges = [(f"s{i}", f"t{i}") for i in range(n)]
    null = rng.random(n)
    visible = least_visible(edges, null, 0.0)
    _, low, high = auc_interval(edges, null, 0.0)
    half = (high - low) / 2
    assert visible == pytest.approx(0.5 + half * (1 + stats.t.ppf(0.8, n - 1) / stats.t.ppf(0.975, n - 1)))
    # Placements of that mean, with the spread of the null: found in about 80 of 100 cases.
    found = 0
    for _ in range(400):
        shares = visible + (rng.random(n) - 0.5)
        found += auc_interval(edges, shares, 0.0)[1] > 0.5
    assert abs(found / 400 - 0.8) < 0.12
    assert np.isnan(least_visible(edges[:2], null[:2], 0.0))
    assert least_visible(edges[:3], np.array([0.0, 0.5, 1.0]), 0.0) == 1.0
