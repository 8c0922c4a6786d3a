"""Metrics and statistics: bounds, symmetries, and what is known in advance."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gsnn.data import Standardiser
from gsnn.edges.stats import PairMoments, aggregate, correlation, false_discovery, fisher_z, inverse_norms, upper_tail
from gsnn.metrics import (
    average_precision,
    edge_ranks,
    evaluate_edges,
    group_metrics,
    precision_at_k,
    recall_at_k,
    roc_auc,
)
from gsnn.metrics.scores import collapse_groups
from gsnn.nn.losses import masked_mse

from .strategies import examples, finite, ranked, seeds, split_points, tied, with_gaps

# ---------------------------------------------------------------- metrics


def both(labels):
    assume(labels.any() and not labels.all())


@examples()
@given(ranked())
def test_auc_counts_pairs_won(case):
    scores, labels = case
    both(labels)
    values = np.where(np.isnan(scores), -np.inf, scores)
    won = [(p > n) + (p == n) / 2 for p in values[labels] for n in values[~labels]]
    assert abs(roc_auc(scores, labels) - np.mean(won)) < 1e-12


@examples()
@given(ranked(tied))
def test_auc_of_the_opposite_is_the_rest(case):
    scores, labels = case
    both(labels)
    assert abs(roc_auc(-scores, labels) + roc_auc(scores, labels) - 1) < 1e-12
    assert abs(roc_auc(scores, ~labels) + roc_auc(scores, labels) - 1) < 1e-12


@examples()
@given(ranked(st.integers(-1000, 1000).map(float)))
def test_metrics_see_the_order_alone(case):
    scores, labels = case
    both(labels)
    for other in (scores * 4 + 1, np.exp2(scores / 64), scores**3):
        for metric in (roc_auc, average_precision):
            assert metric(other, labels) == metric(scores, labels)


@examples()
@given(ranked(), st.randoms(use_true_random=False))
def test_order_of_the_candidates_does_not_matter(case, random):
    scores, labels = case
    both(labels)
    order = list(range(len(scores)))
    random.shuffle(order)
    for metric in (roc_auc, average_precision):
        assert abs(metric(scores[order], labels[order]) - metric(scores, labels)) < 1e-12
    k = random.randint(1, len(scores))
    assert abs(precision_at_k(scores[order], labels[order], k) - precision_at_k(scores, labels, k)) < 1e-12


@examples()
@given(ranked(), st.integers(1, 50))
def test_metrics_stay_within_their_bounds(case, k):
    scores, labels = case
    both(labels)
    positives, k = int(labels.sum()), min(k, len(scores))
    least = np.mean([i / (len(labels) - positives + i) for i in range(1, positives + 1)])
    assert 0 <= roc_auc(scores, labels) <= 1
    assert least - 1e-12 <= average_precision(scores, labels) <= 1 + 1e-12
    hits = precision_at_k(scores, labels, k) * k
    assert abs(hits - recall_at_k(scores, labels, k) * positives) < 1e-9
    assert 0 <= hits <= min(k, positives) + 1e-9
    for perfect in (roc_auc, average_precision):
        assert perfect(labels.astype(float), labels) == 1


@examples()
@given(ranked(st.just(0.5)))
def test_a_constant_score_gets_what_chance_gets(case):
    scores, labels = case
    both(labels)
    assert roc_auc(scores, labels) == 0.5
    assert abs(average_precision(scores, labels) - labels.mean()) < 1e-12
    assert abs(precision_at_k(scores, labels, 1) - labels.mean()) < 1e-12


@examples()
@given(hnp.arrays(np.float64, st.integers(2, 6), elements=tied), st.data())
def test_expectation_over_all_labellings(scores, data):
    """Every way to choose the positives, each once: the means are known."""
    n = len(scores)
    positives = data.draw(st.integers(1, n - 1))
    k = data.draw(st.integers(1, n))
    labellings = [np.isin(np.arange(n), chosen) for chosen in itertools.combinations(range(n), positives)]
    assert abs(np.mean([roc_auc(scores, labels) for labels in labellings]) - 0.5) < 1e-9
    mean = np.mean([precision_at_k(scores, labels, k) for labels in labellings])
    assert abs(mean - positives / n) < 1e-9


@st.composite
def scored_matrices(draw):
    n = draw(st.integers(3, 7))
    scores = draw(hnp.arrays(np.float64, (n, n), elements=with_gaps))
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=8, unique=True))
    cut = draw(st.integers(1, len(chosen)))
    return scores, chosen[:cut], chosen[cut:]


@examples()
@given(scored_matrices())
def test_ranks_lie_between_the_tie_rules(case):
    scores, positives, known = case
    ranks = edge_ranks(scores, positives, known)
    best, middle, worst = (ranks.rank(ties) for ties in ("optimistic", "realistic", "pessimistic"))
    assert (best >= 1).all()
    assert (worst <= len(scores) - 1).all()
    np.testing.assert_allclose(middle, (best + worst) / 2)
    for ties in ("optimistic", "realistic", "pessimistic"):
        assert 0 < ranks.mrr(ties) <= 1
        assert ranks.top_at(1, ties) <= ranks.top_at(3, ties) <= ranks.top_at(len(scores), ties) == 1


@examples()
@given(scored_matrices(), st.randoms(use_true_random=False))
def test_numbering_of_nodes_does_not_matter(case, random):
    scores, positives, known = case
    order = list(range(len(scores)))
    random.shuffle(order)
    place = np.argsort(order)

    def moved(pairs):
        return [(int(place[i]), int(place[j])) for i, j in pairs]

    before = evaluate_edges(scores, positives, known or None).to_dict()
    after = evaluate_edges(scores[np.ix_(order, order)], moved(positives), moved(known) or None).to_dict()
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-12, err_msg=name)


@examples()
@given(ranked(), st.data())
def test_groups_of_one_change_nothing(case, data):
    scores, labels = case
    both(labels)
    alone = data.draw(st.permutations(range(len(scores))))
    for metric in (roc_auc, average_precision):
        assert abs(metric(*collapse_groups(scores, labels, alone)) - metric(scores, labels)) < 1e-12
    one = collapse_groups(scores, labels, np.zeros(len(scores), dtype=int))
    assert one[1].tolist() == [True]
    found = group_metrics(scores, labels, np.asarray(alone)).to_dict()
    assert abs(next(v for name, v in found.items() if "auc" in name) - roc_auc(scores, labels)) < 1e-12


# ---------------------------------------------------------------- statistics


@st.composite
def moment_samples(draw, elements=finite):
    p, n, b = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(2, 12))
    x, y = (torch.from_numpy(draw(hnp.arrays(np.float64, (p, n, b), elements=elements))) for _ in range(2))
    return x, y


def moments_of(x, y, parts, rows=None):
    moments = PairMoments(*x.shape[:2], torch.float64, buffer_rows=rows)
    for part in parts:
        moments.update(x[..., part], y[..., part])
    return moments


def assert_same_moments(a, b, x, y):
    size = 1 + float(torch.maximum(x.abs().max(), y.abs().max()))
    assert a.n == b.n
    for name, power in (("mean_x", 1), ("mean_y", 1), ("ss_x", 2), ("ss_y", 2), ("cross", 2), ("layers_x", 2)):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-9 * size**power, msg=name)


@examples()
@given(moment_samples(), st.data())
def test_moments_forget_how_samples_came(case, data):
    x, y = case
    whole = moments_of(x, y, [slice(None)])
    parts = data.draw(split_points(x.shape[2]))
    assert_same_moments(moments_of(x, y, parts, rows=data.draw(st.integers(1, 5))), whole, x, y)


@examples()
@given(moment_samples(), st.data())
def test_merging_is_associative_and_commutative(case, data):
    x, y = case
    cuts = data.draw(st.lists(st.integers(0, x.shape[2]), min_size=2, max_size=2).map(sorted))
    parts = [slice(0, cuts[0]), slice(cuts[0], cuts[1]), slice(cuts[1], x.shape[2])]

    def of(k):
        return moments_of(x, y, [parts[k]])

    left = of(0).merge(of(1)).merge(of(2))
    right = of(0).merge(of(1).merge(of(2)))
    other = of(2).merge(of(0)).merge(of(1))
    for found in (left, right, other):
        assert_same_moments(found, moments_of(x, y, [slice(None)]), x, y)


@examples()
@given(moment_samples(st.integers(-1000, 1000).map(float)), st.sampled_from([0.0, 1e3, 1e8, -1e10]))
def test_a_constant_added_moves_the_means_alone(case, offset):
    x, y = case
    plain, moved = moments_of(x, y, [slice(None)]), moments_of(x + offset, y - offset, [slice(None)])
    torch.testing.assert_close(moved.mean_x, plain.mean_x + offset)
    # What remains is rounding of the offset itself: x + 1e10 keeps x to 2e-6.
    tolerance = 1e-9 + 1e-15 * abs(offset)
    scale = 1 + plain.ss_x.max().item() + plain.ss_y.max().item()
    torch.testing.assert_close(moved.cross, plain.cross, rtol=0, atol=tolerance * scale)
    torch.testing.assert_close(moved.ss_x, plain.ss_x, rtol=0, atol=tolerance * scale)


@examples()
@given(moment_samples(st.integers(-50, 50).map(float)), st.sampled_from([1e-12, 1e-3, -1.0, 7.0, 1e9]))
def test_correlations_are_bounded_and_know_no_units(case, factor):
    x, y = case

    def r(a, b):
        m = moments_of(a, b, [slice(None)])
        constant = [(ss == 0).numpy()[0] for ss in (m.ss_x, m.ss_y)]
        norms = [inverse_norms(ss.numpy()[0], c) for ss, c in zip((m.ss_x, m.ss_y), constant, strict=True)]
        return correlation(m.cross.numpy()[0], *norms)

    found = r(x, y)
    assert (np.abs(found[~np.isnan(found)]) <= 1).all()
    np.testing.assert_allclose(r(x * factor, y), found * np.sign(factor), atol=1e-9)
    np.testing.assert_allclose(r(y, x), found.T, atol=1e-9)
    rows = [(i, j) for i in range(x.shape[1]) for j in range(x.shape[1]) if not np.isnan(found[i, j])]
    for i, j in rows:
        assert abs(found[i, j] - np.corrcoef(x[0, i], y[0, j])[0, 1]) < 1e-9


correlations = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.one_of(st.floats(-1, 1), st.just(np.nan))
)


@examples()
@given(correlations)
def test_aggregates_lie_within_what_they_are_made_of(r):
    """Over layers, for each pair."""
    seen = ~np.isnan(r)
    mean, mean0, most = (aggregate(r, how) for how in ("mean", "mean0", "max"))
    np.testing.assert_array_equal(np.isnan(mean), ~seen.any(0))
    np.testing.assert_array_equal(np.isnan(most), ~seen.any(0))
    np.testing.assert_allclose(mean0, np.nan_to_num(mean) * seen.mean(0), atol=1e-12)
    some = seen.any(0)
    assert (np.abs(mean[some]) <= np.nanmax(np.abs(r[:, some]), 0) + 1e-12).all()
    np.testing.assert_allclose(np.abs(most[some]), np.nanmax(np.abs(r[:, some]), 0))


p_values = st.one_of(st.floats(0, 1), st.just(np.nan))


@examples()
@given(hnp.arrays(np.float64, st.integers(1, 30), elements=p_values), st.data())
def test_false_discovery_is_the_step_up_rule(p, data):
    candidates = data.draw(hnp.arrays(bool, len(p)))
    q = false_discovery(p, candidates)
    tested = candidates & ~np.isnan(p)
    assert np.isnan(q[~tested]).all()
    values = p[tested]
    # Benjamini and Hochberg (1995), pair by pair: q of p is the least of m p' / rank(p') over p' >= p.
    expected = [min(min(1, len(values) * o / (values <= o).sum()) for o in values[values >= v]) for v in values]
    np.testing.assert_allclose(q[tested], expected, rtol=1e-12)
    assert (q[tested] >= values - 1e-15).all()


@examples()
@given(hnp.arrays(np.float64, st.integers(2, 20), elements=st.floats(-40, 40)))
def test_tails_fall_from_one_to_nought(z):
    z = np.sort(z)
    p = upper_tail(z)
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) <= 0).all()
    np.testing.assert_allclose(upper_tail(-z) + p, 1, atol=1e-12)
    r = np.tanh(z / 40)
    score = fisher_z(r, 10)
    assert (np.diff(score) >= 0).all()
    np.testing.assert_allclose(fisher_z(-r, 10), -score)


@examples()
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=with_gaps))
def test_standardised_and_back(y):
    found = Standardiser.fit(y)
    z = found.transform(y)
    size = 1 + np.nanmax(np.abs(y)) if np.isfinite(y).any() else 1.0
    np.testing.assert_allclose(found.inverse_transform(z), y, rtol=1e-9, atol=1e-9 * size)
    for j in range(y.shape[1]):
        seen = y[~np.isnan(y[:, j]), j]
        if len(seen) > 1 and np.ptp(seen) > 1e-6 * size:
            column = z[~np.isnan(z[:, j]), j]
            assert abs(column.mean()) < 1e-6
            assert abs(column.std() - 1) < 1e-2 or abs(column.std(ddof=1) - 1) < 1e-6


@examples()
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=with_gaps), seeds)
def test_masked_loss_is_the_loop(y, seed):
    p = np.random.default_rng(seed).normal(size=y.shape)
    total = sum((p[i] - y[i]) ** 2 for i in np.ndindex(y.shape) if not np.isnan(y[i]))
    got = masked_mse(torch.from_numpy(p), torch.from_numpy(y))
    np.testing.assert_allclose(float(got), total / y.size, rtol=1e-12, atol=1e-300)
