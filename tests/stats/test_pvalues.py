"""p-values against scipy, quadrature and simulation; q-values against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from gsnn.edges._significance import Significance
from gsnn.stats import (
    conditional_exceedance,
    false_discovery,
    fisher_z,
    max_upper_tail,
    mean_variance,
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
