"""Partial correlations and aggregation against regressions and loops."""

from __future__ import annotations

import numpy as np
import pytest

from gsnn.stats import aggregate, partial_correlation


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
    monkeypatch.setattr("gsnn.stats._correlation._BLOCK_BYTES", 1)
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
