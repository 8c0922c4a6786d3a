"""p-values against scipy, quadrature and simulation; q-values against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats

from gsnn.edges._significance import Significance
from gsnn.stats import (
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
