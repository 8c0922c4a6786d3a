"""Pooled rank correlation against scipy, one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr

import gsnn.edges.rank as function_module
from gsnn.edges import FunctionEdgeInferer, mrr
from gsnn.edges.capture import capture
from gsnn.edges.rank_correlation import average_ranks, cross_correlation

from .worlds import FUNCTIONS, gsnn, samples, small_graph

MSE = torch.nn.MSELoss()
FF = small_graph().edge_index_dict["function", "to", "function"]
CHANNEL = {"l1": np.abs, "l2": np.square, "none": lambda v: v}
AGG = {"sum": np.sum, "mean": np.mean, "max": np.max}


def observations(model, x, y, where="pre", norm="l1", agg="sum"):
    """(N, P, B) twice."""
    seen = capture(model, x, y, MSE, where=where)

    def side(blocks):
        values = np.stack([CHANNEL[norm](b.double().numpy().reshape(model.N, -1, len(x))) for b in blocks], 2)
        return AGG[agg](values, axis=1)

    return side(seen.activations[:-1]), side(seen.gradients[1:])


def naive(a, b, method):
    w = np.zeros((len(a), len(b)))
    for i in range(len(a)):
        for j in range(len(b)):
            if np.ptp(a[i]) > 1e-5 * abs(a[i]).max() and np.ptp(b[j]) > 1e-5 * abs(b[j]).max():
                w[i, j] = spearmanr(a[i], b[j])[0] if method == "spearman" else np.corrcoef(a[i], b[j])[0, 1]
    return w


@pytest.mark.parametrize("method", ["spearman", "pearson"])
@pytest.mark.parametrize("levels", [None, 3, 50])
def test_rank_correlation_with_ties(method, levels):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9, 200))
    if levels:
        x, y = (np.round(v * levels / 4) for v in (x, y))
    x[2], y[4], x[5] = 7.0, 0.0, np.where(x[5] > 0, 0.0, -0.0)
    x[6] *= 1e-30
    y[3] *= 1e20
    tensors = [torch.tensor(v, dtype=torch.float32)[:, None] for v in (x, y)]
    expected = naive(*(t[:, 0].double().numpy() for t in tensors), method)
    for chunk in (None, 1, 4):
        got = cross_correlation(tensors[0].clone(), tensors[1].clone(), method, row_chunk=chunk)
        np.testing.assert_allclose(got.numpy(), expected, atol=2e-6)
    assert (expected[2] == 0).all()
    assert (got[5] == 0).all()


def test_segments_are_correlated_apart_and_averaged():
    rng = np.random.default_rng(1)
    x, y = (torch.tensor(v, dtype=torch.float32) for v in rng.normal(size=(2, 4, 3, 50)))
    x[1, 2] = 3.0
    expected = np.mean([naive(x[:, s].double().numpy(), y[:, s].double().numpy(), "spearman") for s in range(3)], 0)
    np.testing.assert_allclose(cross_correlation(x, y, "spearman").numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 1000])
@pytest.mark.parametrize("n_rows", [1, 70])
def test_both_ways_of_ranking(n, n_rows):
    rng = np.random.default_rng(2)
    values = np.round(rng.normal(size=(n_rows, n)) * 3).astype(np.float32)
    expected = rankdata(values, axis=1) - (n + 1) / 2
    np.testing.assert_array_equal(average_ranks(torch.from_numpy(values)).numpy(), expected)
    norm = np.linalg.norm(expected, axis=1, keepdims=True)
    expected = np.divide(expected, norm, out=np.zeros_like(expected), where=norm > 0)
    np.testing.assert_allclose(cross_correlation_input(values), expected, atol=1e-6)


def cross_correlation_input(values):
    """What the CPU path makes of its rows: read off against unit vectors."""
    from gsnn.edges.rank_correlation import _rank_rows_numpy

    out = values.copy()
    _rank_rows_numpy(out)
    return out


def test_an_undefined_observation_makes_its_rows_undefined():
    x, y = torch.randn(2, 3, 1, 20, generator=torch.Generator().manual_seed(0))
    x[1, 0, 4], y[2, 0, 3] = torch.nan, -torch.nan
    got = cross_correlation(x, y, "spearman")
    assert got.isnan().tolist() == [[False, False, True], [True, True, True], [False, False, True]]


@pytest.mark.parametrize("norm", ["l1", "l2", "none"])
@pytest.mark.parametrize("agg", ["sum", "mean", "max"])
@pytest.mark.parametrize("use_prenorm", [True, False])
def test_scores_are_those_of_scipy(norm, agg, use_prenorm):
    x, y = samples(60)
    model = gsnn()
    a, b = observations(model, x, y, "pre" if use_prenorm else "post", norm, agg)
    for pool in (True, False):
        inferer = FunctionEdgeInferer(model, MSE, FF, use_prenorm=use_prenorm, norm=norm, agg=agg)
        got = inferer.fit(x, y, pool=pool)
        if pool:
            expected = naive(a.reshape(len(a), -1), b.reshape(len(b), -1), "spearman")
        else:
            expected = np.mean([naive(a[:, p], b[:, p], "spearman") for p in range(a.shape[1])], 0)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=2e-6)


def test_pearson_penalty_and_activity():
    x, y = samples(60)
    model = gsnn()
    a, b = (v.reshape(len(v), -1) for v in observations(model, x, y))
    expected = naive(a, b, "pearson")
    inferer = FunctionEdgeInferer(model, MSE, FF)
    np.testing.assert_allclose(inferer.fit(x, y, "pearson"), expected, atol=2e-6)
    scaled = inferer.fit(x, y, method="pearson", scale_by_act_mean=True)
    np.testing.assert_allclose(scaled, expected * a.mean(1)[:, None], atol=1e-5)
    known = {tuple(e) for e in FF.T.tolist()}
    for i in range(len(a)):
        for j in range(len(b)):
            expected[i, j] *= 0.7 ** sum(t == j for _, t in known) * 1.3 ** sum(s == i for s, _ in known)
    np.testing.assert_allclose(inferer.fit(x, y, "pearson", penalty_factor=0.3), expected, atol=5e-6)


def test_bootstrap_averages_over_seeded_draws():
    x, y = samples(40)
    model = gsnn()
    inferer = FunctionEdgeInferer(model, MSE, FF)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    got = inferer.fit(x, y, estimate=True, estimate_iters=3, estimate_n_samples=25, seed=5)
    rng = np.random.default_rng(5)
    expected = np.zeros_like(got)
    for _ in range(3):
        rows = rng.integers(0, 40, 25)
        a, b = (v.reshape(len(v), -1) for v in observations(model, x[rows], y[rows]))
        expected += naive(a.astype(np.float32), b.astype(np.float32), "spearman") / 3
    # Rows that were drawn twice are ties up to rounding of the model's product.
    np.testing.assert_allclose(got, expected, atol=2e-3)
    np.testing.assert_array_equal(
        inferer.fit(x, y, estimate=True, estimate_iters=3, estimate_n_samples=25, seed=5), got
    )
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize("crit", [MSE, torch.nn.MSELoss(reduction="sum"), None])
def test_passes_leave_no_trace(monkeypatch, crit):
    x, y = samples(31)
    inferer = FunctionEdgeInferer(gsnn(), crit, FF)
    whole = inferer.fit(x, y)
    monkeypatch.setattr(function_module, "_PASS_VALUES", 7 * inferer.N * 3 * inferer.L)
    np.testing.assert_allclose(inferer.fit(x, y), whole, atol=1e-6)
    np.testing.assert_allclose(inferer.fit(x.numpy(), y.numpy(), row_chunk=3), whole, atol=1e-6)


def test_profile_control_permutes_samples_within_layers():
    x, y = samples(50)
    model = gsnn()
    inferer = FunctionEdgeInferer(model, MSE, FF)
    fitted = inferer.fit(x, y)
    got = inferer.profile_control(x, y, seed=3)
    np.testing.assert_array_equal(inferer.W, fitted)
    a, b = observations(model, x, y)
    rng = np.random.default_rng(3)
    b = np.stack([b[:, p, rng.permutation(50)] for p in range(b.shape[1])], 1)
    np.testing.assert_allclose(got, naive(a.reshape(len(a), -1), b.reshape(len(b), -1), "spearman"), atol=2e-6)


def test_missing_targets_and_tables():
    x, y = samples(30)
    y[3, 0] = torch.nan
    inferer = FunctionEdgeInferer(gsnn(), MSE, FF)
    with pytest.raises(RuntimeError, match="fit"):
        inferer.evaluate()
    w = inferer.fit(x, y)
    assert np.isfinite(w).all()
    table = inferer.evaluate()
    assert list(table.columns) == ["src_func", "dst_func", "src_idx", "dst_idx", "score", "has_edge"]
    assert table["src_func"].cat.categories.tolist() == FUNCTIONS
    np.testing.assert_array_equal(table["score"].astype(np.float32), w[table["src_idx"], table["dst_idx"]])
    assert not inferer.top_edges(5)["has_edge"].any()
    w[:] = 0
    assert inferer.W.any()
    # The gradient of a node without a way to an output is constant, and constant is 0 here.
    assert (inferer.W[:, FUNCTIONS.index("lone")] == 0).all()


def test_mrr_against_brute_force():
    rng = np.random.default_rng(0)
    A = np.round(rng.normal(size=(15, 15)), 1)
    true = [(int(a), int(b)) for a, b in rng.integers(0, 15, (40, 2))]
    queries = true[:10]
    expected = []
    for s, d in queries:
        others = [A[s, j] for j in range(15) if (s, j) not in true]
        ranks = rankdata([-A[s, d], *(-v for v in others)])
        expected.append(1 / ranks[0])
    edges = [torch.tensor(e).T for e in (queries, true)]
    assert mrr(torch.tensor(A), *edges) == pytest.approx(np.mean(expected))
    assert mrr(A, *edges, query_chunk_size=3) == pytest.approx(np.mean(expected))
    assert np.isnan(mrr(A, torch.zeros(2, 0, dtype=torch.int64), edges[1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"norm": "l3"}, "l1"), ({"agg": "median"}, "max"), ({"edge_index": FF.T}, r"edge_index.T")],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        FunctionEdgeInferer(gsnn(), MSE, **({"edge_index": FF} | options))


def test_bad_calls():
    x, y = samples(10)
    inferer = FunctionEdgeInferer(gsnn(), MSE, FF)
    with pytest.raises(ValueError, match="spearman"):
        inferer.fit(x, y, method="kendall")
    with pytest.raises(ValueError, match="row_chunk"):
        inferer.fit(x, y, row_chunk=0)
    with pytest.raises(RuntimeError, match="3 samples"):
        inferer.fit(x[:2], y[:2])
    with pytest.raises(RuntimeError, match="at least 2"):
        FunctionEdgeInferer(gsnn(layers=1), MSE, FF)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_agrees_with_cpu():
    x, y = samples(60, dtype=torch.float32)
    model = gsnn(dtype=torch.float32)
    expected = FunctionEdgeInferer(model, MSE, FF).fit(x, y)
    got = FunctionEdgeInferer(model, MSE, FF, device="cuda").fit(x, y)
    np.testing.assert_allclose(got, expected, atol=1e-3)
