"""The null of magnitude correlations against every permutation, and the gate of all p-values in a quick form."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from gsnn.edges import MagnitudeEdgeInferer
from gsnn.edges.magnitude_null import PartialNull, PlainNull
from gsnn.edges.pair_correlations import PairCorrelations
from gsnn.edges.stats import PairMoments

from .worlds import batches, gsnn, naive_magnitudes, samples, small_graph

P, N, M = 2, 5, 6
PARENTS = [np.array([], dtype=np.int64), np.array([0]), np.array([0, 3]), np.array([1, 4]), np.array([2])]


def directions(x, given):
    """Unit-norm residuals (P, N, M) by least squares; NaN for what is given."""
    out = np.full(x.shape, np.nan)
    for p, i in np.ndindex(x.shape[:2]):
        if i not in given and np.ptp(x[p, i]) > 1e-9:
            design = np.column_stack([np.ones(x.shape[2]), *x[p, given]])
            rest = x[p, i] - design @ np.linalg.lstsq(design, x[p, i], rcond=None)[0]
            out[p, i] = rest / np.linalg.norm(rest)
    return out


@pytest.fixture(scope="module")
def enumerated():
    """Moments of streamed samples, u . v for every order of the samples (720, P, N, N), x, and the directions v."""
    rng = np.random.default_rng(2)
    x, y = rng.exponential(size=(P, N, M)) ** 1.5, rng.exponential(size=(P, N, M)) ** 2
    y[1, 2] = 1.0  # no gradient at the second pair
    moments = PairMoments(P, N, torch.float64, condition_on=torch.arange(N))
    moments.update(torch.from_numpy(x), torch.from_numpy(y))
    v = y - y.mean(-1, keepdims=True)
    v /= np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-300)
    orders = np.array(list(itertools.permutations(range(M))))
    products = np.full((len(orders), P, N, N), np.nan)
    for j in range(N):
        u = directions(x, PARENTS[j])
        for p in range(P):
            if (p, j) != (1, 2):
                products[:, p, :, j] = v[p, j][orders] @ u[p].T
    return moments, products, x, v


def nulls(moments, score, largest):
    pairs = PairCorrelations(moments, PARENTS, 0.0 if score == "partial" else None)
    if score == "corr":
        return pairs, PlainNull(pairs, moments)
    return pairs, PartialNull(pairs, moments, PARENTS, 0.0, largest=largest)


def places():
    """Pairs with a partial correlation that leaves the source some freedom."""
    return [(i, j) for i, j in np.ndindex(N, N) if i != j and i not in PARENTS[j]]


def test_moments_of_partial_means_are_exact_over_all_permutations(enumerated):
    moments, products, *_ = enumerated
    variance, skewness, _ = nulls(moments, "partial", False)[1].mean(slice(0, N))
    for i, j in places():
        defined = ~np.isnan(products[0, :, i, j])
        each = products[:, defined, i, j]
        assert variance[i, j] == pytest.approx(each.mean(1).var() * (M - 1), rel=1e-5)
        want = max(scipy.stats.skew(each.mean(1)), np.mean(scipy.stats.skew(each)))
        assert skewness[i, j] == pytest.approx(want, rel=1e-4, abs=1e-5)


def test_moments_of_the_largest_are_exact_over_all_permutations(enumerated):
    moments, products, x, v = enumerated
    pairs, null = nulls(moments, "partial", True)
    r = pairs.block(slice(0, N))
    skewness, _ = null.largest(slice(0, N), r)
    i, j = np.array(places()).T
    rho, defined = null.adjacent(i, j)
    for at, (a, b) in enumerate(places()):
        best = int(np.nanargmax(np.abs(r[:, a, b])))
        u = directions(x, PARENTS[b])[best, a]
        same = sum((np.maximum(s * u, 0) ** 3).sum() * (np.maximum(s * v[best, b], 0) ** 3).sum() for s in (1, -1))
        tail = M * np.sqrt(M - 1) / (M - 2) * same - 4 / np.pi / np.sqrt(M)
        want = scipy.stats.skew(products[:, best, a, b])
        if len(PARENTS[b]):
            want = max(want, tail)
        assert skewness[a, b] == pytest.approx(want, rel=1e-4, abs=1e-5)
        assert defined[:, at].tolist() == [True, b != 2]
        if b != 2:
            assert rho[0, at] == pytest.approx(np.corrcoef(products[:, 0, a, b], products[:, 1, a, b])[0, 1], rel=1e-4)


def test_sources_with_a_target_without_parents_have_the_plain_null(enumerated):
    moments, *_ = enumerated
    rows = slice(1, N)  # of a target with itself there is no partial correlation
    for largest in (False, True):
        (pairs, partial), (_, plain) = (nulls(moments, score, largest) for score in ("partial", "corr"))
        r = pairs.block(rows)
        if largest:
            found_all, wanted_all = partial.largest(rows, r), plain.largest(rows, r)
        else:
            found_all, wanted_all = partial.mean(rows), plain.mean(rows)
        for found, want in zip(found_all, wanted_all, strict=True):
            np.testing.assert_array_equal(found[:, 0], want[:, 0])


def test_residuals_with_large_samples_on_both_sides_have_long_tails():
    """The skewness is next to nothing; a correlation of .95 comes once in some 64 permutations all the same."""
    n, rng = 64, np.random.default_rng(5)
    parent, x, y = (rng.exponential(size=(1, n)) for _ in range(3))
    rest = 0.01 * rng.normal(size=(1, n))
    rest[0, :2] = 30.0, -30.0
    x = 40 + parent + rest
    y[0, 5] = 80.0
    moments = PairMoments(1, 3, torch.float64, condition_on=torch.arange(3))
    sides = np.stack([parent, x, y])[:, 0]
    moments.update(torch.from_numpy(sides[None]), torch.from_numpy(sides[None]))
    given = [np.array([], dtype=np.int64), np.array([], dtype=np.int64), np.array([0])]
    pairs = PairCorrelations(moments, given, 0.0)
    null = PartialNull(pairs, moments, given, 0.0, largest=True)
    skewness, _ = null.largest(slice(1, 2), pairs.block(slice(1, 2)))
    u = directions(sides[None], given[2])[0, 1]
    v = (y[0] - y[0].mean()) / np.linalg.norm(y[0] - y[0].mean())
    drawn = np.array([u[rng.permutation(n)] @ v for _ in range(4000)])
    assert abs(n * np.sqrt(n - 1) / (n - 2) * (u**3).sum() * (v**3).sum()) < 0.5
    assert (drawn > 0.6).mean() > 0.005  # of a normal one: 1e-6
    assert skewness[0, 2] > 2


def fitted(n=60, **options):
    x, y = samples(n)
    inferer = MagnitudeEdgeInferer(gsnn(**options), small_graph())
    inferer.fit(batches(x, y, 16), verbose=False)
    return inferer, x, y


@pytest.mark.parametrize("layers", [2, 4])
def test_p_values_of_partial_means_follow_from_the_residuals(layers):
    """From the samples: Fisher's z over the null's standard deviation, read from a gamma variable of its skewness."""
    inferer, x, y = fitted(layers=layers)
    n, n_pairs = len(x), layers - 1
    a, b = naive_magnitudes(gsnn(layers=layers), x, y)
    table = inferer.evaluate(score="partial")
    rows = table[np.isfinite(table["corr"]) & (table["n_cond"] > 0)]
    compared = 0
    for row in rows.itertuples():
        defined = [p for p in range(n_pairs) if np.isfinite(getattr(row, f"corr_a{p}_g{p + 1}"))]
        parents = list(inferer.parents_by_target[row.dst_idx])
        u = directions(a, parents)[defined, row.src_idx]
        v = b[defined, row.dst_idx] - b[defined, row.dst_idx].mean(1, keepdims=True)
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        outer = np.einsum("pb,pc->bc", u, v)  # the sum is that of one entry of each row and column
        second = np.square(outer).sum() / (n - 1)
        third = (outer**3).sum() * n / ((n - 1) * (n - 2))
        each = [(p**3).sum() * (q**3).sum() * n * np.sqrt(n - 1) / (n - 2) for p, q in zip(u, v, strict=True)]
        skewness = max(third / second**1.5, np.mean(each))
        z = np.arctanh(row.corr) * np.sqrt(n - 3 - row.n_cond) / np.sqrt(second * (n - 1) / len(defined) ** 2)
        if skewness > 4:
            assert np.isnan(row.p_value)
        else:
            # A null that leans to the other side is taken for a normal one, which this shape is near.
            shape = 4 / (1.2 * max(skewness, 0.01)) ** 2
            values = [1 / (n * (p**4).sum() - n * (p**3).sum() ** 2) for p in (*u, *v)]
            halves = [max(g, 0) / 2 + 2 / np.sqrt(n) for g in each]
            steps = [h * f * g for h, f, g in zip(halves, values[: len(u)], values[len(u) :], strict=True)]
            z -= np.mean(steps) * (second * (n - 1) / len(defined) ** 2) ** 2
            exact = scipy.stats.gamma.sf(shape + z * shape**0.5, shape)
            assert row.p_value == pytest.approx(exact, rel=0.1 if exact > 1e-6 else 0.2)
            compared += 1
    assert compared == len(rows) == (4 if layers == 2 else 13)


@pytest.mark.parametrize("score", ["corr", "partial"])
def test_mean0_has_the_p_values_of_mean_and_one_pair_of_blocks_those_of_both(score):
    inferer, *_ = fitted()
    columns = ["src_idx", "dst_idx", "p_value"]
    mean, mean0 = (inferer.evaluate(agg, score=score)[columns] for agg in ("mean", "mean0"))
    merged = mean.merge(mean0, on=columns[:2])
    np.testing.assert_array_equal(merged["p_value_x"], merged["p_value_y"])
    inferer, *_ = fitted(layers=2)
    mean, most = (inferer.evaluate(agg, score=score).sort_index()["p_value"] for agg in ("mean", "max"))
    np.testing.assert_allclose(mean, most, rtol=1e-4)


def test_no_p_value_where_a_few_samples_are_all():
    """One of 60 samples sticks out on both sides: a correlation of 1 is no evidence, and no p-value says how little."""
    inferer, *_ = fitted(layers=2)
    inferer._moments = PairMoments(1, 8, torch.float64)
    wide = torch.rand(1, 8, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wide[0, :3] = 0
    wide[0, :3, 7] = 1.0
    inferer._moments.update(wide, wide)
    inferer._last = None
    table = inferer.evaluate(exclude_self=False).set_index(["src_idx", "dst_idx"])
    assert table.loc[(0, 1), "corr"] == pytest.approx(1)
    spikes = [(i, j) for i in range(3) for j in range(3)]
    assert table.loc[spikes, ["p_value", "q_value"]].isna().all(axis=None)
    rest = table.drop(index=spikes)
    assert rest["p_value"].notna().all()
    tested = rest[rest["q_value"].notna()]
    np.testing.assert_allclose(tested["q_value"], scipy.stats.false_discovery_control(tested["p_value"]), rtol=1e-9)
    top = inferer.top_edges(40).set_index(["src_idx", "dst_idx"])
    np.testing.assert_array_equal(top["q_value"], table.loc[top.index, "q_value"])


# ------------------------------------------------------------------ the gate, in a quick form


@pytest.fixture(scope="module")
def harness():
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import null_pvalues
        import null_worlds
    finally:
        sys.path.remove(folder)
    return null_pvalues, null_worlds


@pytest.mark.parametrize(("world", "layers"), [("log-normal", 2), ("log-normal", 4), ("two-valued", 4)])
def test_p_values_hold_under_permuted_credit(harness, world, layers):
    pvalues, _ = harness
    found = pvalues.null_runs(pvalues.Cell(world, layers, 40), ["magnitude"], runs=30, pairs=1)
    assert (found["runs"] == 30).all()
    for row in found.to_dict("records"):
        assert row["p_values"] > 5000
        assert 0.0 < row["p<0.05"] < 0.07
        assert row["p<0.05"] > 0.02 or world == "two-valued"  # few values leave few p-values
        assert row["p<0.001"] < 3e-3
        assert row["p<0.0001"] < 6e-4
        assert row["any_q"] <= 0.2


def test_the_harness_sees_p_values_that_do_not_hold(harness):
    pvalues, worlds = harness
    world = worlds.make_world("log-normal", 4, 40)
    rng, tally = np.random.default_rng(0), pvalues.Tally()
    for _ in range(20):
        null = world.permuted(torch.from_numpy(rng.permutation(40)))
        inferer = MagnitudeEdgeInferer(null.model, null.graph)
        inferer.add(null.before)
        tally.add(pvalues.read_candidates(inferer.scored(score="partial", layer_agg="max", p_method="uncorrected")))
    assert tally.figures()["verdict"] == "fails"
