"""Streaming moments against numpy, where the naive formula fails too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gsnn.edges.stats import PairMoments, constant_columns, correlation, inverse_norms, layer_correlation

P, N = 3, 5


def draw(n, *, seed=0, mean=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((2 * P * N, 2 * P * N)) / 3
    values = (rng.standard_normal((n, 2 * P * N)) @ mix).T.reshape(2, P, N, n)
    return torch.from_numpy(mean + values[0]), torch.from_numpy((mean + values[1]) * scale)


def feed(moments, x, y, sizes):
    start = 0
    for size in sizes:
        moments.update(x[..., start : start + size].to(moments.dtype), y[..., start : start + size].to(moments.dtype))
        start += size
    assert start == x.shape[-1]
    return moments


def make(dtype=torch.float64, **options):
    return PairMoments(P, N, dtype, condition_on=torch.tensor([1, 3]), **options)


def pearson(moments):
    eps = torch.finfo(moments.dtype).eps
    sides = []
    for mean, ss in ((moments.mean_x, moments.ss_x), (moments.mean_y, moments.ss_y)):
        sides.append(inverse_norms(ss.numpy(), constant_columns(mean.numpy(), ss.numpy(), moments.n, eps)))
    return correlation(moments.cross.numpy(), *sides)


def thirds(values):
    d = values - values.mean(-1, keepdims=True)
    i, j = np.triu_indices(len(d))
    return np.einsum("pnb,qnb,snb->npqs", d, d, d)[:, i, j]


def test_every_sum_matches_numpy():
    x, y = draw(53, mean=2.0)
    moments = feed(make(buffer_rows=16), x, y, [20, 1, 32])
    assert moments.n == 53
    a, b = x.numpy(), y.numpy()
    da, db = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    for got, expected in [
        (moments.mean_x, a.mean(-1)),
        (moments.mean_y, b.mean(-1)),
        (moments.ss_x, (da**2).sum(-1)),
        (moments.ss_y, (db**2).sum(-1)),
        (moments.cross, np.einsum("pib,pjb->pij", da, db)),
        (moments.within, np.einsum("pub,pib->pui", da[:, [1, 3]], da)),
        (moments.layers_x, np.einsum("pib,qib->ipq", da, da)),
        (moments.layers_y, np.einsum("pib,qib->ipq", db, db)),
        (moments.thirds_x, thirds(a)),
        (moments.thirds_y, thirds(b)),
    ]:
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_batches_and_buffers_do_not_matter(dtype, tolerance):
    x, y = draw(100, mean=3.0)
    expected = pearson(feed(make(dtype), x, y, [100]))
    for rows in (7, 33, 200):
        for sizes in ([1] * 100, [64, 36], [98, 2]):
            np.testing.assert_allclose(
                pearson(feed(make(dtype, buffer_rows=rows), x, y, sizes)), expected, atol=tolerance
            )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_merged_parts_are_the_whole_in_any_order(dtype, tolerance):
    x, y = draw(90, mean=1.0)
    whole = feed(make(dtype), x, y, [90])
    cuts = [slice(0, 2), slice(2, 50), slice(50, 90)]
    for order in ([0, 1, 2], [2, 0, 1]):
        merged = make(dtype)
        for k in order:
            part = feed(make(dtype, buffer_rows=10), x[..., cuts[k]], y[..., cuts[k]], [cuts[k].stop - cuts[k].start])
            before = part.cross.clone()
            merged.merge(part)
            assert torch.equal(part.cross, before)
        assert merged.n == 90
        np.testing.assert_allclose(pearson(merged), pearson(whole), atol=tolerance)
        np.testing.assert_allclose(merged.within, whole.within, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(merged.layers_y, whole.layers_y, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(merged.thirds_x, thirds(x.numpy()), rtol=1e-5, atol=1e-4)


def test_merging_nothing_changes_nothing():
    x, y = draw(20)
    moments = feed(make(), x, y, [20])
    before = moments.cross.clone()
    moments.merge(make())
    assert torch.equal(moments.cross, before)
    empty = make().merge(moments)
    torch.testing.assert_close(empty.cross, before)
    with pytest.raises(ValueError, match="conditioned on"):
        moments.merge(PairMoments(P, N, torch.float64))


def test_a_large_mean_breaks_sums_of_squares_but_not_these():
    x, y = draw(500, mean=3000.0)
    expected = np.array([[np.corrcoef(x[0, i], y[0, j])[0, 1] for j in range(N)] for i in range(N)])
    a, b = x[0].float().numpy(), y[0].float().numpy()
    n = a.shape[-1]
    products = a @ b.T / n - np.outer(a.mean(1), b.mean(1))
    spread = [np.sqrt(np.maximum((v * v).mean(1) - v.mean(1) ** 2, 0)) for v in (a, b)]
    with np.errstate(divide="ignore", invalid="ignore"):
        naive = products / np.outer(*spread)
    assert not np.allclose(naive, expected, atol=0.01)
    got = pearson(feed(make(torch.float32, buffer_rows=64), x, y, [100] * 5))[0]
    # float32 samples of this size carry 1e-4 of their spread as rounding.
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 1e6])
def test_scale_changes_no_correlation(dtype, scale):
    x, y = draw(80, mean=1.0)
    expected = pearson(feed(make(dtype), x, y, [80]))
    np.testing.assert_allclose(pearson(feed(make(dtype), x, y * scale, [80])), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e-9, 12345.678])
def test_constant_columns_are_recognised_and_only_they(dtype, value):
    x, y = draw(101, mean=5.0)
    y = y * 1e-9
    x[1, 2] = value
    y[0, 4] = value
    # A few roundings of noise, as matrix products of different shapes leave.
    x[2, 0] = value * (
        1 + torch.finfo(dtype).eps * torch.randint(-3, 4, (101,), generator=torch.Generator().manual_seed(0))
    )
    r = pearson(feed(make(dtype, buffer_rows=16), x, y, [50, 51]))
    expected = np.zeros((P, N, N), bool)
    expected[1, 2, :] = expected[0, :, 4] = expected[2, 0, :] = True
    np.testing.assert_array_equal(np.isnan(r), expected)


def test_cross_layer_correlations():
    x, y = draw(60)
    x[1, 2] = 4.0
    moments = feed(make(), x, y, [60])
    eps = np.finfo(np.float64).eps
    constant = constant_columns(moments.mean_x.numpy(), moments.ss_x.numpy(), 60, eps)
    rho = layer_correlation(moments.layers_x.numpy(), constant)
    for i in range(N):
        defined = [p for p in range(P) if not (i == 2 and p == 1)]
        expected = np.zeros((P, P))
        expected[np.ix_(defined, defined)] = np.corrcoef(x[defined, i])
        np.testing.assert_allclose(rho[i], expected, atol=1e-12)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"\(P, N, B\) = \(3, 5, B\)"):
        make().update(torch.zeros(3, 4, 2), torch.zeros(3, 4, 2))
