"""p-values against scipy, quadrature and simulation; q-values against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats

from gsnn.edges.significance import Significance
from gsnn.edges.stats import (
    conditional_exceedance,
    false_discovery,
    fisher_z,
    least_p_value,
    max_upper_tail,
    mean_variance,
    skewed_score,
    sum_skewness,
    upper_tail,
)


def test_fisher_p_values_match_scipy_in_the_tails():
    r = np.array([-0.9, 0.0, 0.05, 0.184, 0.5, 0.9, np.nan])
    expected = [scipy.stats.norm.sf(np.arctanh(v) * (1984 - 3) ** 0.5) for v in r[:-1]]
    np.testing.assert_allclose(upper_tail(fisher_z(r, 1981)), [*expected, 1.0], rtol=1e-12)
    assert 0 < upper_tail(fisher_z(np.array([0.5]), 1981))[0] < 1e-100
    naive = 0.5 * (1 - scipy.special.erf(fisher_z(np.array([0.2]), 1981) / 2**0.5))
    assert naive[0] == 0 < upper_tail(fisher_z(np.array([0.2]), 1981))[0]
    assert (upper_tail(fisher_z(r, 1.0)) == 1).all()
    assert upper_tail(fisher_z(np.array([1.0]), 10))[0] == 0


@pytest.mark.parametrize("rho", [0.0, 0.2, -0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("t", [0.0, 0.5, 1.96, 4.0])
def test_conditional_exceedance_matches_the_bivariate_normal(t, rho):
    if abs(rho) == 1:
        expected = 1.0
    else:
        joint = scipy.stats.multivariate_normal(cov=[[1, rho], [rho, 1]])
        corner = joint.cdf([-t, -t]) + scipy.stats.multivariate_normal(cov=[[1, -rho], [-rho, 1]]).cdf([-t, -t])
        expected = 2 * corner / (2 * scipy.stats.norm.sf(t))
    assert conditional_exceedance(np.array([t]), np.array([rho]))[0] == pytest.approx(expected, rel=5e-3, abs=1e-5)


def covariance(kind, p, rho):
    distance = np.abs(np.subtract.outer(np.arange(p), np.arange(p)))
    return rho**distance if kind == "chain" else np.where(distance == 0, 1.0, rho)


@pytest.mark.parametrize(
    ("kind", "p", "rho"), [("chain", 5, 0.0), ("chain", 5, 0.6), ("chain", 9, 0.8), ("even", 5, 0.4)]
)
def test_p_value_of_the_maximum_is_uniform(kind, p, rho):
    rng = np.random.default_rng(0)
    k = covariance(kind, p, rho)
    z = rng.multivariate_normal(np.zeros(p), k, size=100_000)
    signed = z[np.arange(len(z)), np.abs(z).argmax(1)]
    adjacent = np.repeat(np.diag(k, 1)[:, None], len(z), axis=1)
    found = max_upper_tail(signed, adjacent, np.ones((p, len(z)), bool))
    for level, low, high in ((0.5, 0.49, 0.51), (0.05, 0.045, 0.0525), (0.01, 0.008, 0.011), (0.95, 0.945, 0.955)):
        assert low < (found < level).mean() < high
    naive = scipy.stats.norm.sf(signed)
    assert (naive < 0.05).mean() > 0.06


def test_p_value_of_the_maximum_skips_undefined_pairs():
    z = np.array([2.0, 2.0, np.nan])
    defined = np.array([[True, True, False], [False, True, False], [False, True, False]])
    got = max_upper_tail(z, np.zeros((2, 3)), defined)
    single = 2 * scipy.stats.norm.sf(2.0)
    np.testing.assert_allclose(got, [single / 2, (1 - (1 - single) ** 3) / 2, 1.0], rtol=1e-3)


def test_p_value_of_the_maximum_keeps_its_tail():
    got = max_upper_tail(np.array([30.0]), np.zeros((1, 1)), np.ones((2, 1), bool))[0]
    assert got == pytest.approx(2 * scipy.stats.norm.sf(30.0), rel=1e-6)


def test_max_tail_that_vanishes_is_zero_without_a_sign():
    got = max_upper_tail(np.array([60.0]), np.zeros((1, 1)), np.ones((2, 1), bool))
    assert str(got[0]) == "0.0"


def test_variance_of_the_mean_is_that_of_permuted_correlations():
    rng = np.random.default_rng(0)
    p, n = 4, 60
    x = rng.standard_normal((n, p)) @ rng.standard_normal((p, p))
    y = rng.standard_normal((n, p)) @ rng.standard_normal((p, p))
    expected = (np.corrcoef(x.T) * np.corrcoef(y.T)).sum() / p**2
    assert mean_variance(np.corrcoef(x.T)[None], np.corrcoef(y.T)[None])[0, 0] == pytest.approx(expected)
    zx, zy = ((v - v.mean(0)) / v.std(0) for v in (x, y))
    means = [(zx * zy[rng.permutation(n)]).mean(0).mean() for _ in range(20_000)]
    assert np.var(means) * (n - 1) == pytest.approx(expected, rel=0.04)


def unit(v):
    v = v - v.mean(-1, keepdims=True)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def moments_of(u):
    """Third and second products of unit-norm deviations (P, n) across the pairs."""
    i, j = np.triu_indices(len(u))
    return np.einsum("pb,qb,sb->pqs", u, u, u)[i, j][None], (u @ u.T)[None]


def permuted_means(u, v, rng, draws):
    return np.array([(u * v[:, rng.permutation(u.shape[1])]).sum(1).mean() for _ in range(draws)])


def test_skewness_of_the_sum_is_exact_over_all_permutations():
    rng = np.random.default_rng(0)
    u, v = unit(rng.exponential(size=(3, 6))), unit(rng.exponential(size=(3, 6)) ** 2)
    (third_x, rho_x), (third_y, rho_y) = moments_of(u), moments_of(v)
    sums = np.array([(u * v[:, list(order)]).sum() for order in itertools.permutations(range(6))])
    found = sum_skewness(third_x, third_y, rho_x, rho_y, 6)[0, 0]
    assert found == pytest.approx(scipy.stats.skew(sums), rel=1e-10)
    assert sum_skewness(third_x * 0, third_y, rho_x * 0, rho_y, 6)[0, 0] == 0


@pytest.mark.parametrize("skewness", [1e-8, 0.05, 0.3, 0.9, 1.5])
def test_skewed_score_is_the_tail_of_a_gamma_variable(skewness):
    z = np.array([-0.5, 0.5, 1.645, 2.5, 4.0])
    shape = 4 / skewness**2
    expected = scipy.stats.norm.sf(z) if skewness < 1e-6 else scipy.stats.gamma.sf(shape + z * shape**0.5, shape)
    found = upper_tail(skewed_score(z, np.full(5, skewness), 5000))
    np.testing.assert_allclose(found, expected, rtol=0.12)


def test_skewed_score_rises_and_keeps_nan():
    z = np.linspace(-6, 30, 2000)
    for skewness in (-4.0, -0.5, 0.0, 0.5, 4.0):
        score = skewed_score(z, np.full(len(z), skewness), 40)
        assert (np.diff(score) >= 0).all()
        assert np.isnan(skewed_score(np.array([np.nan]), np.array([skewness]), 40)).all()


@pytest.mark.parametrize(("n", "m"), [(17, 4), (25, 1), (25, 12), (45, 5)])
def test_no_p_value_is_below_the_share_of_the_best_arrangement(n, m):
    u = unit(np.r_[np.ones(m), np.zeros(n - m)][None])
    third, rho = moments_of(u)
    skewness = sum_skewness(third, third, rho, rho, n)[0]
    least = 1 / scipy.special.comb(n, m)
    assert least_p_value(skewness, n)[0] == pytest.approx(least, rel=1e-3)
    perfect = fisher_z(np.array([1 - 1e-15]), n - 3)
    assert upper_tail(perfect)[0] < least / 1e9
    assert upper_tail(skewed_score(perfect, skewness, n))[0] == pytest.approx(least, rel=1e-3)


@pytest.mark.parametrize("case", ["few values", "exponential", "heavy"])
def test_tails_under_permutation_are_those_stated(case):
    rng = np.random.default_rng(1)
    if case == "few values":  # as in a screen: a few conditions with a strong response
        levels = np.r_[np.zeros(33), 0.05 * np.ones(7), np.ones(5)]
        x, y = np.stack([levels] * 3), np.stack([levels] * 3) + 0.05 * rng.exponential(size=(3, 45))
    elif case == "exponential":
        x, y = (rng.exponential(size=(1, 60)) + 0.5 * rng.exponential(size=(4, 60)) for _ in range(2))
    else:
        x, y = (np.exp(1.5 * rng.normal(size=(2, 100))) for _ in range(2))
    u, v = unit(x), unit(y)
    n = u.shape[1]
    (third_x, rho_x), (third_y, rho_y) = moments_of(u), moments_of(v)
    skewness = sum_skewness(third_x, third_y, rho_x, rho_y, n)[0]
    z = fisher_z(permuted_means(u, v, rng, 20_000), n - 3) / np.sqrt(mean_variance(rho_x, rho_y)[0])
    naive, found = upper_tail(z), upper_tail(skewed_score(z, np.broadcast_to(skewness, z.shape), n))
    assert (naive < 1e-3).mean() > 2e-3
    assert (found < 1e-3).mean() < 1.6e-3
    assert (found < 1e-4).mean() < 4e-4
    assert (found < 0.05).mean() < 0.09  # with a few values the steps of the distribution are wide


def test_q_values_match_scipy_over_the_family():
    rng = np.random.default_rng(0)
    p = rng.random(300) ** 2
    p[rng.random(300) < 0.1] = 1.0
    family = rng.random(300) < 0.7
    q = false_discovery(p, family)
    np.testing.assert_allclose(q[family], scipy.stats.false_discovery_control(p[family]), rtol=1e-14)
    assert np.isnan(q[~family]).all()
    p[5] = np.nan
    assert np.isnan(false_discovery(p, np.ones(300, bool))[5])
    assert np.isnan(false_discovery(p, np.zeros(300, bool))).all()


@pytest.mark.parametrize("seed", range(60))
def test_q_values_of_a_few_equal_those_of_all(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 90))
    z = rng.standard_normal((n, n)) * rng.choice([0.3, 0.9, 1.0, 1.1, 3.0]) + rng.choice([-0.5, 0.0, 0.3])
    if seed % 3 == 0:
        z = np.round(z, 1)
    if seed % 4 == 0:
        z[rng.random((n, n)) < 0.2] = np.nan
    if seed % 7 == 0:
        z[0, 0], z[-1, -1] = np.inf, -np.inf
    candidates = rng.random((n, n)) < 0.8
    expected = false_discovery(upper_tail(z).ravel(), candidates.ravel())
    rows = np.argsort(-z.ravel())[: max(1, n * n // 20)]
    np.testing.assert_array_equal(Significance(z, candidates).q_value(rows), expected[rows])


def test_degrees_of_freedom_from_two_on():
    r = np.array([[0.5, -0.5, 0.0], [0.5, np.nan, 1.0]])
    found = fisher_z(r, np.array([1.9, 2.0, 7.0]))
    np.testing.assert_allclose(found, [[np.nan, -np.arctanh(0.5) * 2**0.5, 0.0], [np.nan, np.nan, np.inf]])
    assert fisher_z(np.array([0.5]), 2)[0] == pytest.approx(np.arctanh(0.5) * 2**0.5)


def test_variance_of_the_mean_over_the_defined_pairs():
    """By the double sum over the pairs; a constant variable has zeros, its diagonal included."""
    rng = np.random.default_rng(2)
    rho_x, rho_y = (np.stack([np.corrcoef(rng.normal(size=(3, 9))) for _ in range(n)]) for n in (2, 4))
    rho_x[1, 2] = rho_x[1, :, 2] = 0.0
    rho_y[3] = 0.0
    before = rho_x.copy(), rho_y.copy()
    found = mean_variance(rho_x, rho_y)
    assert found.shape == (2, 4)
    for i, j in np.ndindex(2, 4):
        pairs = [p for p in range(3) if rho_x[i, p, p] and rho_y[j, p, p]]
        total = sum(rho_x[i, p, q] * rho_y[j, p, q] for p in pairs for q in pairs)
        assert found[i, j] == pytest.approx(total / len(pairs) ** 2 if pairs else np.nan, nan_ok=True)
    np.testing.assert_array_equal(rho_x, before[0])
    np.testing.assert_array_equal(rho_y, before[1])


def test_variance_that_cancels_stays_above_nothing():
    x, y = np.ones((1, 2, 2)), np.array([[[1.0, -1.0], [-1.0, 1.0]]])
    assert mean_variance(x, y)[0, 0] == 1e-12
    skewness = sum_skewness(np.ones((1, 3, 2)), np.ones((1, 3, 2)), x, y, 9)
    assert skewness[0, 0] == 0.0


def test_skewness_of_every_source_with_every_target():
    """By the triple sum over the pairs."""
    rng = np.random.default_rng(3)
    n = 7
    u, v = ([unit(rng.exponential(size=(2, n))) for _ in range(count)] for count in (2, 3))
    (third_x, rho_x), (third_y, rho_y) = (
        tuple(np.concatenate(part) for part in zip(*(moments_of(each) for each in side), strict=True))
        for side in (u, v)
    )
    found = sum_skewness(third_x, third_y, rho_x, rho_y, n)
    for i, j in np.ndindex(2, 3):
        cubes = sum(
            (u[i][p] * u[i][q] * u[i][s]).sum() * (v[j][p] * v[j][q] * v[j][s]).sum()
            for p, q, s in itertools.product(range(2), repeat=3)
        )
        squares = sum((u[i][p] @ u[i][q]) * (v[j][p] @ v[j][q]) for p, q in itertools.product(range(2), repeat=2))
        want = n / ((n - 1) * (n - 2)) * cubes / (squares / (n - 1)) ** 1.5
        assert found[i, j] == pytest.approx(want, rel=1e-12)


def wilson_hilferty(z, g):
    """Score of a gamma variable of skewness g at z standard deviations, one number at a time."""
    if g < 0 and z > -1 / g:
        return wilson_hilferty(-1 / g, g) + z + 1 / g
    k = 4 / g**2
    ratio = 1 + z * g / 2  # x / k, with a negative sign of g for the mirrored variable
    return np.sign(g) * (np.cbrt(ratio) - (1 - 1 / (9 * k))) / np.sqrt(1 / (9 * k))


def test_skewed_score_is_the_cube_root():
    scores, skewness = [-3.0, -0.7, 0.0, 0.4, 1.5, 2.0, 3.5], [-2.5, -0.8, 1e-6, 0.3, 1.7]
    z, g = (values.ravel() for values in np.meshgrid(scores, skewness))
    found = skewed_score(z, g, 10**12)
    np.testing.assert_allclose(found, [wilson_hilferty(*each) for each in zip(z, g, strict=True)], rtol=1e-8, atol=2e-9)
    np.testing.assert_array_equal(skewed_score(z, np.full(z.shape, 0.9e-6), 10**12), z)
    np.testing.assert_array_equal(skewed_score(z, np.full(z.shape, -0.9e-6), 10**12), z)


def test_skewed_score_leaves_its_arguments_alone():
    z, g = np.array([0.5, 9.0, -2.0]), np.array([0.0, 0.9, -0.9])
    before = z.copy(), g.copy()
    skewed_score(z, g, 20)
    np.testing.assert_array_equal(z, before[0])
    np.testing.assert_array_equal(g, before[1])


@pytest.mark.parametrize("n", [3, 8, 20])
@pytest.mark.parametrize("skewness", [-1.0, 0.0, 0.4, 5.0])
def test_scores_are_capped_at_the_least_p_value_and_only_there(n, skewness):
    z = np.linspace(-2, 40, 300)
    g = np.full(300, skewness)
    least = least_p_value(g[:1], n)[0]
    # The share m of high samples that gives this skewness, by search; 1 / C(n, m) arrangements.
    share = np.linspace(1e-6, 0.5, 200_001)
    g2 = np.square(1 - 2 * share) / (share * (1 - share)) * np.sqrt(n - 1) / (n - 2)
    m = max(1.0, n * share[np.argmin(np.abs(g2 - max(skewness, 0.0)))])
    assert least == pytest.approx(1 / scipy.special.binom(n, m), rel=1e-3)
    found, free = skewed_score(z, g, n), skewed_score(z, g, 10**12)
    np.testing.assert_allclose(found, np.minimum(free, scipy.stats.norm.isf(least)), rtol=1e-9, atol=1e-12)


def test_maximum_of_scores_against_the_product_over_adjacent_pairs():
    """P(max <= t) = P(|Z1| <= t) prod P(|Zk| <= t given |Zk-1| <= t), by the bivariate normal, with gaps."""
    rho = np.array([0.8, -0.5, 0.3])
    z = np.array([1.3, -1.3, 2.1])
    defined = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=bool)

    def within(t, r):
        box = scipy.stats.multivariate_normal(cov=[[1, r], [r, 1]])
        return box.cdf([t, t], lower_limit=[-t, -t])

    found = max_upper_tail(z, np.repeat(rho[:, None], 3, 1), defined)
    for place in range(3):
        t = abs(z[place])
        one = 1 - 2 * scipy.stats.norm.sf(t)
        below = 1.0
        for k in range(4):
            if defined[k, place]:
                follows = k > 0 and defined[k - 1, place]
                below *= within(t, rho[k - 1]) / one if follows else one
        want = (1 - below) / 2
        assert found[place] == pytest.approx(want if z[place] > 0 else 1 - want, rel=2e-3)


def test_maximum_of_scores_at_nothing_and_without_any():
    z = np.array([0.0, 0.0, np.nan, 3.0])
    defined = np.array([[True, True, True, False]] * 2)
    found = max_upper_tail(z, np.full((1, 4), 0.5), defined)
    np.testing.assert_allclose(found, [0.5, 0.5, 1.0, 1.0])


def test_exceedance_between_and_beyond_the_nodes_of_its_table():
    t = np.array([0.0, 1.0, 11.95, 12.0, 40.0])
    assert (conditional_exceedance(t, np.ones(5)) == 1).all()
    assert (conditional_exceedance(t, -np.ones(5)) == 1).all()
    assert (conditional_exceedance(t, np.full(5, 1 + 1e-12)) == 1).all()  # rounding
    assert conditional_exceedance(np.array([0.0]), np.array([0.0]))[0] == pytest.approx(1.0)
    # Without correlation it is the tail itself, up to 12.
    tail = 2 * scipy.stats.norm.sf(np.minimum(t, 12))
    np.testing.assert_allclose(conditional_exceedance(t, np.zeros(5)), tail, rtol=1e-6)
    nodes = np.array([0.5, 2.05, 3.0])
    for rho in (0.3, 0.75, 0.97):
        box = scipy.stats.multivariate_normal(cov=[[1, rho], [rho, 1]])
        beyond = 2 * scipy.stats.norm.sf(nodes)
        want = [1 - (1 - p - box.cdf([t, t], lower_limit=[-t, -t])) / p for t, p in zip(nodes, beyond, strict=True)]
        for sign in (1, -1):
            np.testing.assert_allclose(conditional_exceedance(nodes, np.full(3, sign * rho)), want, rtol=2e-3)
    inside = conditional_exceedance(np.linspace(0, 12, 977), np.full(977, 0.6))
    assert (np.diff(inside) <= 1e-12).all()
    across = conditional_exceedance(np.full(977, 1.7), np.linspace(0, 1, 977))
    assert (np.diff(across) >= 0).all()
    assert conditional_exceedance(np.array([np.nan]), np.array([0.5]))[0] == 1.0
