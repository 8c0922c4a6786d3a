from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from gsnn.edges.stats.permutation_forms import (
    form_covariance,
    form_moments,
    form_sums,
    form_weights,
    joined,
    pearson3_tail,
    triples,
)


def stacks(seed, nodes, blocks, channels, n, power=1):
    values = np.random.default_rng(seed).normal(size=(nodes, blocks, channels, n)) ** power
    return values - values.mean(3, keepdims=True)


def every(z, g):
    """The P forms of all pairs of nodes for each permutation of the samples."""
    n = z.shape[3]
    products = (np.einsum("ipcm,jpdm->ijpcd", z, g[..., list(order)]) for order in itertools.permutations(range(n)))
    return np.stack([np.square(product).sum((3, 4)) for product in products])


def sums(values, **options):
    return form_sums(torch.tensor(values), **options)


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_three_moments_against_all_permutations(n):
    """Also where there are fewer samples than indices, and where one sample sticks out."""
    z, g = stacks(0, 3, 3, 2, n, power=3), stacks(1, 2, 3, 3, n)
    z[1, 1] = 0
    forms = every(z, g)
    total = forms.sum(3)
    mean, variance, skewness = form_moments(sums(z), sums(g), n)
    np.testing.assert_allclose(mean, total.mean(0), rtol=1e-12)
    np.testing.assert_allclose(variance, total.var(0), rtol=1e-10)
    np.testing.assert_allclose(skewness, scipy.stats.skew(total), rtol=1e-8)
    for p, q in ((0, 0), (0, 2), (1, 2)):
        expected = (forms[..., p] * forms[..., q]).mean(0) - forms[..., p].mean(0) * forms[..., q].mean(0)
        np.testing.assert_allclose(form_covariance(sums(z), sums(g), n, p, q), expected, atol=1e-12)


def test_forms_that_count_differ_by_pair():
    n = 5
    z, g = stacks(2, 4, 3, 2, n), stacks(3, 3, 3, 2, n)
    defined = np.random.default_rng(4).random((3, 4, 3)) < 0.6
    defined[:, 0, 0], defined[:, 1, 1] = False, True
    total = (every(z, g) * defined.transpose(1, 2, 0)).sum(3)
    mean, variance, skewness = form_moments(sums(z), sums(g), n, defined)
    np.testing.assert_allclose(mean, total.mean(0), atol=1e-12)
    np.testing.assert_allclose(variance, total.var(0), atol=1e-12)
    some = defined.any(0)
    np.testing.assert_allclose(skewness[some], scipy.stats.skew(total)[some], rtol=1e-8)
    assert skewness[0, 0] == 0


def test_sums_scale_join_and_leave_out():
    z = stacks(5, 4, 3, 2, 8)
    whole, factor = sums(z), np.random.default_rng(6).random((4, 3))
    scaled, wanted = whole.scaled(factor), sums(z * np.sqrt(factor)[:, :, None, None])
    again, two = joined([sums(z[:1]), sums(z[1:])]), whole.of(np.array([2, 0]), np.array([True, False, True]))
    for name in ("first", "second", "third"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(wanted, name), atol=1e-12)
        np.testing.assert_allclose(getattr(again, name), getattr(whole, name), atol=1e-12)
        np.testing.assert_allclose(getattr(two, name), getattr(sums(z[[2, 0]][:, [0, 2]]), name), atol=1e-12)
    lean = sums(z, third=False)
    assert lean.third.shape == (4, 0, 16)
    full = form_moments(whole, whole, 8)
    np.testing.assert_allclose(form_moments(lean, lean, 8, third=False)[1], full[1])
    np.testing.assert_allclose(lean.scaled(factor).second, scaled.second)


def test_large_samples_give_the_moments_of_normal_products():
    """Then the cumulants are 2 tr(S^2) and 8 tr(S^3) of the covariance S of the entries of Z P G'."""
    n = 4000
    z, g = stacks(7, 1, 2, 2, n) / n**0.5, stacks(8, 1, 2, 2, n) / n**0.5
    z[:, 1] += z[:, 0]
    flat = [v[0].reshape(4, n) for v in (z, g)]
    cross = [(v @ v.T).reshape(2, 2, 2, 2) for v in flat]
    covariance = np.einsum("paqb,pcqd->pacqbd", *cross).reshape(8, 8) / (n - 1)
    mean, variance, skewness = (v.item() for v in form_moments(sums(z), sums(g), n))
    second, third = (np.trace(np.linalg.matrix_power(covariance, k)) for k in (2, 3))
    assert mean == pytest.approx(np.trace(covariance))
    assert variance == pytest.approx(2 * second, rel=0.01)
    assert skewness == pytest.approx(8 * third / (2 * second) ** 1.5, rel=0.01)


def test_nothing_varies():
    z = stacks(9, 2, 2, 1, 6)
    mean, variance, skewness = form_moments(sums(z), sums(0 * z), 6)
    assert not mean.any()
    assert not variance.any()
    assert not skewness.any()
    assert form_weights(2000, 3).shape == (16, 16)
    assert len(triples(4)[0]) == 20
    with pytest.raises(ValueError, match="units must have the shape"):
        form_sums(torch.zeros(2, 3, 4))


def test_tail_of_pearson_type_three():
    score, skewness = np.meshgrid(np.linspace(-3, 6, 19), [-2.0, -0.5, 0.1, 1.0, 4.0])
    expected = scipy.stats.pearson3.sf(score, skewness)
    np.testing.assert_allclose(pearson3_tail(score, skewness), expected, rtol=1e-6, atol=1e-12)
