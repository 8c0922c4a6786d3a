"""Partial correlations and aggregation against regressions and loops."""

from __future__ import annotations

import numpy as np
import pytest

from gsnn.edges.stats import (
    aggregate,
    at_largest,
    constant_columns,
    correlation,
    inverse_norms,
    layer_correlation,
    layer_thirds,
    partial_correlation,
)
from gsnn.edges.stats.correlations import _whiten


def problem(n=80, nodes=7, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, nodes)) @ rng.standard_normal((nodes, nodes))).T
    y = (rng.standard_normal((nodes, nodes)) @ x) + rng.standard_normal((nodes, n))
    parents = [np.array(s, dtype=np.int64) for s in ([], [0], [0, 1], [2, 4], [1], [], [0, 2, 4])]
    return x, y, parents


EPS = float(np.finfo(np.float64).eps)


def solve(x, y, parents, ridge=0.0, eps=EPS):
    dx, dy = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    union = np.unique(np.concatenate(parents))
    ss_x, ss_y = (dx**2).sum(1), (dy**2).sum(1)
    return partial_correlation(
        dx @ dy.T, dx[union] @ dx.T, ss_x, ss_y, x.shape[1], parents, union,
        ridge=ridge, constant_x=ss_x == 0, constant_y=ss_y == 0, eps=eps,
    )  # fmt: skip


def regressed(x, y, parents):
    nodes, n = x.shape
    out = np.full((nodes, nodes), np.nan)
    for j in range(nodes):
        design = np.column_stack([np.ones(n), *(x[s] for s in parents[j])])
        rest = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in [*x, y[j]]]
        for i in range(nodes):
            if i != j and i not in parents[j]:
                out[i, j] = np.corrcoef(rest[i], rest[-1])[0, 1]
    return out


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-150])
def test_matches_regressing_both_sides(scale):
    x, y, parents = problem()
    np.testing.assert_allclose(solve(x, y * scale, parents), regressed(x, y, parents), atol=1e-10)


def test_blocks_of_targets_do_not_matter(monkeypatch):
    x, y, parents = problem()
    expected = solve(x, y, parents)
    monkeypatch.setattr("gsnn.edges.stats.correlations._BLOCK_BYTES", 1)
    np.testing.assert_allclose(solve(x, y, parents), expected, atol=1e-14)


def test_repeated_and_constant_parents_do_not_break_it():
    x, y, parents = problem()
    expected = regressed(x, y, [s if 4 not in s else s[s != 4] for s in parents])
    x[4] = 1.5
    got = solve(x, y, parents)
    x[4] = 1.5
    keep = np.arange(7) != 4
    np.testing.assert_allclose(got[keep], expected[keep], atol=1e-9)
    assert np.isnan(got[4]).all()
    x, y, parents = problem()
    x[2] = x[4]
    got = solve(x, y, parents)
    one = regressed(x, y, [s if 2 not in s else s[s != 2] for s in parents])
    for i in (1, 5):
        assert got[i, 3] == pytest.approx(one[i, 3], abs=1e-7)


def test_what_the_parents_explain_is_undefined_not_noise():
    x, y, parents = problem()
    x[5] = 2 * x[0] - x[2] + 1
    got = solve(x, y, parents)
    assert np.isnan(got[5, 6])
    assert not np.isnan(got[5, 2])
    y[1] = 3 * x[0] - 2
    assert np.isnan(solve(x, y, parents)[:, 1]).all()


def test_aggregations():
    r = np.array([[0.5, np.nan, np.nan, -0.4], [-0.6, 0.3, np.nan, 0.4]])
    np.testing.assert_allclose(aggregate(r, "mean"), [-0.05, 0.3, np.nan, 0.0])
    np.testing.assert_allclose(aggregate(r, "mean0"), [-0.05, 0.15, 0.0, 0.0])
    np.testing.assert_allclose(aggregate(r, "max"), [-0.6, 0.3, np.nan, -0.4])
    with pytest.raises(ValueError, match="unknown layer_agg 'median'; use one of 'mean', 'max', 'mean0'"):
        aggregate(r, "median")


def test_maximum_takes_the_first_of_equals_and_any_number_before_none():
    r = np.array([[0.4, np.nan, 0.2, np.nan], [-0.4, -0.1, np.nan, 0.0], [0.4, 0.1, -0.2, np.nan]])
    before = r.copy()
    np.testing.assert_array_equal(aggregate(r, "max"), [0.4, -0.1, 0.2, 0.0])
    np.testing.assert_array_equal(r, before)


def test_values_at_the_largest_correlation_match_a_loop():
    rng = np.random.default_rng(0)
    r = np.round(rng.uniform(-1, 1, (4, 6, 7)), 1)
    r[rng.random(r.shape) < 0.3] = np.nan
    r[:, 0, 0] = [np.nan, 0.0, np.nan, 0.0]
    values = rng.normal(size=r.shape)
    got = at_largest(r, values)
    assert got.shape == (6, 7)
    for i, j in np.ndindex(6, 7):
        sizes = [(abs(r[p, i, j]), -p) for p in range(4) if not np.isnan(r[p, i, j])]
        if sizes:
            place = -max(sizes)[1]
            assert got[i, j] == values[place, i, j]
            assert r[place, i, j] == aggregate(r, "max")[i, j]
    assert got[0, 0] == values[1, 0, 0]


def test_columns_are_constant_up_to_roundings_of_their_mean():
    eps = 2.0**-20
    mean = np.array([1.0, -1.0, 4.0, 1.0, 0.0, 0.0])
    spread = np.array([32 * eps, 32 * eps, 128 * eps, 33 * eps, 0.0, 1e-300])
    found = constant_columns(mean, 16 * spread**2, 16, eps)
    np.testing.assert_array_equal(found, [True, True, True, False, True, True])  # 1e-300 squared is 0
    np.testing.assert_array_equal(constant_columns(mean[4:], np.array([0.0, 1e-20]), 16, eps), [True, False])
    assert constant_columns(np.zeros(2), np.zeros(2), 0, eps).all()


def test_correlations_stay_within_one():
    inverse = inverse_norms(np.array([4.0, 0.25, 0.0]), np.array([False, False, True]))
    np.testing.assert_array_equal(inverse, [0.5, 2.0, np.nan])
    cross = np.array([[[8.1, -8.1], [0.5, 0.1]]])
    found = correlation(cross, inverse[None, :2], inverse[None, :2])
    np.testing.assert_allclose(found, [[[1.0, -1.0], [0.5, 0.4]]])
    np.testing.assert_array_equal(cross, [[[8.1, -8.1], [0.5, 0.1]]])


def layers(rng, pairs=3, nodes=4, n=30):
    """Deviations (P, N, n), of which one is constant at one pair, and another at all."""
    x = rng.exponential(size=(pairs, nodes, n))
    x[1, 2] = x[:, 3] = 0.5
    constant = np.zeros((pairs, nodes), bool)
    constant[1, 2] = constant[:, 3] = True
    return x - x.mean(-1, keepdims=True), constant


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_products_across_the_pairs_match_a_loop(scale):
    d, constant = layers(np.random.default_rng(0))
    d = d * scale
    norm = np.sqrt((d**2).sum(-1))
    second = np.einsum("pib,qib->ipq", d, d)
    i, j = np.triu_indices(3)
    third = np.einsum("pib,qib,sib->ipqs", d, d, d)[:, i, j]
    rho, thirds = layer_correlation(second, constant), layer_thirds(third, (d**2).sum(-1), constant)
    for node in range(4):
        unit = [np.zeros(30) if constant[p, node] else d[p, node] / norm[p, node] for p in range(3)]
        for p in range(3):
            for q in range(3):
                assert rho[node, p, q] == pytest.approx(unit[p] @ unit[q], abs=1e-12)
        for row, (p, q) in enumerate(zip(i, j, strict=True)):
            for s in range(3):
                assert thirds[node, row, s] == pytest.approx((unit[p] * unit[q] * unit[s]).sum(), abs=1e-12)
    assert (rho[3] == 0).all()
    assert (np.einsum("npp->np", rho)[:3] == ~constant.T[:3]).all()


def test_products_across_the_pairs_of_columns_without_any_spread():
    """Not marked as constant, but nothing is left of their squares."""
    nothing = np.zeros((1, 2), bool)
    rho = layer_correlation(np.zeros((2, 1, 1)), nothing)
    np.testing.assert_array_equal(rho, np.ones((2, 1, 1)))
    for sign in (1.0, -1.0):  # rounding left more than 1
        tiny = layer_correlation(np.array([[[0.25, sign / 2], [sign / 2, 0.5]]]), np.zeros((2, 1), bool))
        np.testing.assert_array_equal(tiny, [[[1.0, sign], [sign, 1.0]]])
    assert (layer_thirds(np.ones((2, 1, 1)), np.zeros((1, 2)), nothing) == 0).all()


def test_ridge_is_added_to_the_covariance_of_the_parents():
    x, y, parents = problem()
    ridge = 0.3
    got = solve(x, y, parents, ridge=ridge)
    for j, s in enumerate(parents):
        joint = np.cov(np.vstack([x, y[j : j + 1]]), bias=True)
        inner = np.linalg.inv(joint[np.ix_(s, s)] + ridge * np.eye(len(s)))
        rest = joint - joint[:, s] @ inner @ joint[s]
        for i in range(len(x)):
            if i != j and i not in s:
                want = rest[i, -1] / np.sqrt(rest[i, i] * rest[-1, -1])
                assert got[i, j] == pytest.approx(want, abs=1e-10)


def test_some_targets_alone():
    x, y, parents = problem()
    x[3] = 1.0
    y[4] = 2.0
    dx, dy = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    union = np.unique(np.concatenate(parents))
    some = slice(2, 6)
    ss_x, ss_y = (dx**2).sum(1), (dy**2).sum(1)
    got = partial_correlation(
        dx @ dy[some].T, dx[union] @ dx.T, ss_x, ss_y[some], x.shape[1], parents[some], union,
        ridge=0.0, constant_x=ss_x == 0, constant_y=ss_y[some] == 0, eps=EPS, first=2,
    )  # fmt: skip
    want = solve(x, y, parents)[:, some]
    np.testing.assert_allclose(got, want, atol=1e-12)
    # A node with itself, a constant node, a constant target, a parent: undefined. All else is not.
    undefined = {(j, j) for j in range(7)} | {(3, j) for j in range(7)} | {(i, 4) for i in range(7)}
    undefined |= {(int(i), j) for j, s in enumerate(parents) for i in s}
    for i, j in np.ndindex(7, 4):
        assert np.isnan(got[i, j]) == ((i, j + 2) in undefined)


def test_whitening_inverts_what_can_be_inverted():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 3, 3))
    sigma = root @ root.transpose(0, 2, 1)
    np.testing.assert_allclose(
        _whiten(sigma).transpose(0, 2, 1) @ _whiten(sigma), np.linalg.inv(sigma), rtol=1e-8, atol=1e-8
    )
    flat = np.stack([np.ones((3, 3)), np.diag([2.0, 0.0, 0.5]), np.zeros((3, 3)), np.diag([1.0, 4.0, 9.0])])
    found = _whiten(flat).transpose(0, 2, 1) @ _whiten(flat)
    np.testing.assert_allclose(found, [np.linalg.pinv(m) for m in flat], atol=1e-12)


def test_what_the_parents_nearly_explain_is_kept_where_digits_are_left():
    """A thousandth of the spread of x is noise: far above rounding, and it correlates with y."""
    rng = np.random.default_rng(1)
    parent, noise = rng.normal(size=(2, 200))
    x = np.stack([parent, parent + 1e-3 * noise, noise])
    y = np.stack([parent, noise, parent + noise])
    parents = [np.array([0]), np.array([], int), np.array([0])]
    got = solve(x, y, parents)
    np.testing.assert_allclose(got[1, 2], regressed(x, y, parents)[1, 2], atol=1e-8)
    assert got[1, 2] > 0.99
    # In single precision nothing of a ten-thousandth would be left.
    x[1] = parent + 1e-4 * noise
    assert np.isnan(solve(x, y, parents, eps=float(np.finfo(np.float32).eps))[1, 2])
    assert not np.isnan(solve(x, y, parents)[1, 2])


def test_partial_correlations_stay_within_one():
    """Of variables that are the same once the parent is regressed out, where rounding leaves a little more than 1."""
    rng = np.random.default_rng(4)
    parent, own = rng.normal(size=(2, 200, 12))
    for sign in (1, -1):
        found = []
        for p, v in zip(parent, own, strict=True):
            x = np.stack([p, v, p + v])
            found.append(solve(x, np.stack([v, p, sign * (2 * v - p)]), [np.array([0])] * 3)[1, 2])
        assert (np.abs(found) <= 1).all()
        np.testing.assert_allclose(found, sign)


@pytest.mark.parametrize("scale", [2.0**-100, 1.0, 2.0**100])
def test_whitening_of_a_singular_matrix_knows_no_units(scale):
    sigma = np.array([[[4.0, 4.0, 0.0], [4.0, 4.0, 0.0], [0.0, 0.0, 1e-3]]])
    found = _whiten(sigma * scale)
    np.testing.assert_allclose(found.transpose(0, 2, 1) @ found * scale, np.linalg.pinv(sigma), rtol=1e-9, atol=1e-9)
