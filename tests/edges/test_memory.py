"""What a memory budget bounds, and that it changes no score."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.base import memory as memory_module
from gsnn.base.memory import available_memory, check_fits, memory_bytes
from gsnn.edges import FunctionEdgeInferer, GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.edges import pairs as pairs_module
from gsnn.edges.gradient.blocks import principal_components
from gsnn.edges.gradient.regressed import Regressors, _basis_of_samples, regressed_norms
from gsnn.edges.significance import Significance
from gsnn.edges.stats import PairMoments, false_discovery, upper_tail
from gsnn.edges.stats import moments as moments_module
from gsnn.nn import keep_freed_memory

from .worlds import batches, gsnn, samples, small_graph

FF = small_graph().edge_index_dict["function", "to", "function"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("4GB", 4 * 10**9), ("0.5 GiB", 2**29), ("300mb", 3 * 10**8), ("7000", 7000), (2**31, 2**31), (1e6, 10**6)],
)
def test_budgets_are_read(given, expected):
    assert memory_bytes(given) == expected


@pytest.mark.parametrize("wrong", ["", "GB", "-4GB", "4 gibberish", 0, -1, float("nan"), float("inf"), True])
def test_what_is_no_amount_is_refused(wrong):
    with pytest.raises(ValueError, match="memory_budget must be a positive number of bytes"):
        memory_bytes(wrong)


def test_the_default_is_half_of_what_there_is():
    half = available_memory() / 2
    assert memory_bytes(None) == pytest.approx(max(half, 2**28), rel=0.5)


def test_a_container_counts_by_its_limit(tmp_path, monkeypatch):
    limit, used = tmp_path / "max", tmp_path / "current"
    limit.write_text("5000000\n")
    used.write_text("2000000\n")
    monkeypatch.setattr(memory_module, "_CGROUPS", ((limit, used),))
    assert available_memory() == 3_000_000
    limit.write_text("max\n")
    assert available_memory() > 3_000_000


def test_without_proc_the_whole_memory_stands_in(monkeypatch):
    def no_file(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(memory_module, "_CGROUPS", ())
    monkeypatch.setattr(memory_module, "open", no_file, raising=False)
    assert available_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.delattr(os, "sysconf")
    assert available_memory() == 2 * memory_module._LEAST


def test_freed_memory_goes_back_where_the_c_library_can(monkeypatch):
    asked = []
    monkeypatch.setattr(
        memory_module.ctypes, "CDLL", lambda _: SimpleNamespace(gnu_get_libc_version=0, malloc_trim=asked.append)
    )
    memory_module.trim_freed_memory()
    assert asked == [0]

    def other_system(_):
        raise OSError("libc.so.6: no such file")

    monkeypatch.setattr(memory_module.ctypes, "CDLL", other_system)
    memory_module.trim_freed_memory()
    assert keep_freed_memory() is False
    assert asked == [0]
    with pytest.raises(ValueError, match=r"bytes_kept must be between 0 and 2\*\*31 - 1, got -1"):
        keep_freed_memory(-1)


def test_too_little_says_how_much():
    check_fits(10, 10, "ten", "use nine")
    graph = small_graph()
    with pytest.raises(ValueError, match=r"memory_budget is 50 bytes, but the scores of \d+ nodes take at least"):
        MagnitudeEdgeInferer(gsnn(), graph, memory_budget=50)
    with pytest.raises(ValueError, match="fewer layers"):
        GradientEdgeInferer(gsnn(), graph, memory_budget=50)
    x, y = samples(60)
    with pytest.raises(ValueError, match=r"180 observations of 8 nodes .*estimate=True"):
        FunctionEdgeInferer(gsnn(), None, FF, memory_budget=1000).fit(x, y)


def make(x, y, **options):
    inferer = MagnitudeEdgeInferer(gsnn(), small_graph(), **options)
    inferer.fit(batches(x, y, 16), verbose=False)
    return inferer


@pytest.mark.parametrize("score", ["corr", "partial"])
@pytest.mark.parametrize("agg", ["mean", "mean0", "max"])
def test_sums_that_are_put_off_change_nothing(agg, score, monkeypatch):
    x, y = samples(60)
    expected = make(x, y).evaluate(agg, score=score)
    monkeypatch.setattr(moments_module, "_DEFERRED_BYTES", 0)
    inferer = make(x, y)
    pd.testing.assert_frame_equal(inferer.evaluate(agg, score=score), expected, rtol=1e-9, atol=1e-9)
    top = inferer.top_edges(5, layer_agg=agg, score=score)
    assert inferer._moments.put_off
    assert inferer._moments._sums is None
    rows = inferer.evaluate(agg, score=score).query("~has_edge").head(5).reset_index(drop=True)
    pd.testing.assert_frame_equal(top, rows, rtol=1e-9, atol=1e-12)


def test_sums_are_made_once_samples_have_to_go(monkeypatch):
    x, y = samples(60)
    expected = make(x, y).score_matrix()
    monkeypatch.setattr(moments_module, "_DEFERRED_BYTES", 0)
    inferer = make(x[:40], y[:40])
    inferer.score_matrix()
    assert inferer._moments.put_off
    inferer.update(x[40:], y[40:])
    np.testing.assert_allclose(inferer.score_matrix(), expected, atol=1e-9)
    assert inferer._moments._sums is not None
    parts = make(x[:25], y[:25]), make(x[25:], y[25:])
    parts[1].score_matrix()
    merged = parts[0].merge(parts[1])
    np.testing.assert_allclose(merged.score_matrix(), expected, atol=1e-9)
    np.testing.assert_allclose(parts[1].score_matrix(), make(x[25:], y[25:]).score_matrix(), atol=1e-9)


def test_sums_in_a_file_change_nothing():
    x, y = samples(100)
    values = torch.rand(2, 3, 5, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    held, filed = (
        PairMoments(3, 5, torch.float64, condition_on=torch.tensor([1, 3]), buffer_rows=16, memory_bytes=bytes_)
        for bytes_ in (None, 500)
    )
    for moments in (held, filed):
        moments.update(*values)
    assert filed._in_file
    torch.testing.assert_close(filed.cross, held.cross, rtol=0, atol=0)
    torch.testing.assert_close(filed.within, held.within, rtol=0, atol=0)
    # A budget between the scores and the sums.
    small = make(x, y, memory_budget=1500)
    assert small._moments._in_file
    assert small._moments.buffer_rows < make(x, y)._moments.buffer_rows
    np.testing.assert_allclose(small.score_matrix(), make(x, y).score_matrix(), atol=1e-9)


def test_a_full_disk_is_found_out_in_time(monkeypatch):
    monkeypatch.setattr(moments_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    moments = PairMoments(3, 5, torch.float64, memory_bytes=500)
    with pytest.raises(RuntimeError, match=r"sums of 600 bytes do not fit .* 100 bytes free"):
        moments.update(*torch.rand(2, 3, 5, 20, dtype=torch.float64))


@pytest.mark.parametrize("score", ["corr", "partial"])
@pytest.mark.parametrize("agg", ["mean", "mean0", "max"])
def test_single_precision_of_large_networks(agg, score, monkeypatch):
    x, y = samples(60)
    expected = make(x, y).evaluate(agg, score=score).set_index(["src_idx", "dst_idx"])
    monkeypatch.setattr(memory_module, "SINGLE_ABOVE", 2)
    inferer = make(x, y)
    assert inferer.scored(layer_agg=agg, score=score).score.dtype == np.float32
    table = inferer.evaluate(agg, score=score)
    got = table.set_index(["src_idx", "dst_idx"]).loc[expected.index]
    for name in ("corr", "p_value", "q_value"):
        np.testing.assert_allclose(got[name], expected[name], rtol=2e-5, atol=1e-6)
    top = inferer.top_edges(4, layer_agg=agg, score=score)
    pd.testing.assert_frame_equal(top, table.query("~has_edge").head(4).reset_index(drop=True))


@pytest.mark.parametrize("score", ["regressed", "normalised", "explained"])
def test_single_precision_of_first_order_scores(score, monkeypatch):
    x, y = samples(60)

    def fitted():
        inferer = GradientEdgeInferer(gsnn(), small_graph())
        inferer.fit(batches(x, y, 16), verbose=False)
        return inferer

    expected = fitted().evaluate(score=score).set_index(["src_idx", "dst_idx"])
    monkeypatch.setattr(memory_module, "SINGLE_ABOVE", 2)
    inferer = fitted()
    assert inferer.scored(score=score).score.dtype == np.float32
    table = inferer.evaluate(score=score)
    got = table.set_index(["src_idx", "dst_idx"]).loc[expected.index]
    np.testing.assert_allclose(got["score"], expected["score"], atol=1e-6)
    for name in ("p_value", "q_value"):
        np.testing.assert_allclose(got[name], expected[name], rtol=2e-4)
    top = inferer.top_edges(4, score=score)
    pd.testing.assert_frame_equal(top, table.query("~has_edge").head(4).reset_index(drop=True))


def test_the_best_pairs_of_blocks_are_those_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    inferer = make(*samples(60))
    scored = inferer.scored()
    n = inferer.N
    for trial in range(20):
        # Many ties, some undefined.
        score = rng.integers(0, 4, (n, n)).astype([np.float64, np.float32][trial % 2])
        score[rng.random((n, n)) < 0.2] = np.nan
        pairs = pairs_module.ScoredPairs(scored.prior, score, "score")
        masked = np.where(np.isnan(score), -np.inf, score)
        np.fill_diagonal(masked, -np.inf)
        masked[scored.prior.pairs[0], scored.prior.pairs[1]] = -np.inf
        order = np.argsort(-masked.ravel(), kind="stable")
        order = order[masked.ravel()[order] > -np.inf]
        few = [row for row in order if (order[: list(order).index(row)] % n == row % n).sum() < 2]
        for chunk in (1, n + 1, 1 << 22):
            monkeypatch.setattr(pairs_module, "_CHUNK", chunk)
            for k in (0, 1, 5, None):
                np.testing.assert_array_equal(pairs.top_rows(k), order[:k])
                np.testing.assert_array_equal(pairs.top_rows(k, per_target=2), few[:k])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_q_values_from_blocks(dtype, monkeypatch):
    from gsnn.edges import significance as significance_module

    monkeypatch.setattr(significance_module, "_BLOCK", 100)
    rng = np.random.default_rng(0)
    z = (rng.standard_normal((40, 40)) + 0.3).astype(dtype)
    candidates = rng.random((40, 40)) < 0.9
    expected = false_discovery(upper_tail(z.astype(np.float64)), candidates).ravel()
    for rows in (np.argsort(-z.ravel())[:3], np.argsort(-z.ravel())[:60], rng.choice(1600, 50, replace=False)):
        np.testing.assert_allclose(Significance(z, candidates).q_value(rows), expected[rows], rtol=1e-12)


def odd_scores(case):
    """Scores of 40 x 40 pairs, candidates, and the rows to look at."""
    z = np.random.default_rng(0).standard_normal((40, 40))
    candidates, rows = np.ones((40, 40), dtype=bool), np.arange(5)
    if case == "an undefined score":
        z[0, 3] = np.nan
    elif case == "nothing below":
        candidates[:] = False
        candidates.ravel()[rows] = True
        z.ravel()[rows] = 5.0
    elif case == "far below":
        z[:] = -9.0
        z.ravel()[rows] = 0.3
    elif case == "no candidate":
        rows, candidates = np.arange(3), candidates & (np.arange(1600).reshape(40, 40) >= 3)
    return z, candidates, rows


@pytest.mark.parametrize("case", ["an undefined score", "nothing below", "far below", "no candidate"])
def test_q_values_of_few_rows_of_odd_scores(case):
    z, candidates, rows = odd_scores(case)
    expected = false_discovery(upper_tail(z), candidates).ravel()[rows]
    np.testing.assert_allclose(Significance(z, candidates).q_value(rows), expected, rtol=1e-12)


def test_more_regressors_than_samples():
    values = torch.randn(30, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values -= values.mean(1, keepdim=True)
    at = torch.stack([torch.arange(20), torch.arange(10, 30)])
    valid = torch.ones(2, 20, dtype=torch.bool)
    valid[1, 15:] = False
    basis, freedom = _basis_of_samples(values, at, valid, 1e-6)
    for q, tr, rows, real in zip(basis, freedom, at, valid, strict=True):
        w = values[rows[real]]
        expected = w.T @ torch.linalg.solve(w @ w.T + 1e-6 * torch.eye(len(w), dtype=torch.float64), w)
        torch.testing.assert_close(q.T @ q, expected, atol=1e-8, rtol=0)
        assert float(tr) == pytest.approx(float(expected.trace()), abs=1e-8)


@pytest.mark.parametrize("working", [1, 5000, 30_000])
def test_chunks_of_regressed_scores_change_nothing(working):
    generator = torch.Generator().manual_seed(0)
    n, m = 12, 20
    nodes = torch.arange(n).repeat_interleave(3)
    source, target = (
        principal_components(torch.randn(3 * n, m, generator=generator, dtype=torch.float64), nodes, n)
        for _ in range(2)
    )
    # Node 0 has 8 parents, so 27 regressors for 20 samples.
    pairs = np.array([[1, 2, 3, 4, 5, 6, 7, 8, 0, 2, 5, 6], [0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 9]])
    regressors = Regressors.of(pairs, n)
    whole, taken = regressed_norms(source, target, regressors, 1e-6, 2**30)
    again = regressed_norms(source, target, regressors, 1e-6, working)
    # Of 20 centred samples 27 regressors leave nothing, so node 0 is undefined or rounding.
    np.testing.assert_allclose(again[0][:, 1:], whole[:, 1:], atol=1e-9)
    np.testing.assert_allclose(again[1], taken, atol=1e-9)
    assert torch.isnan(whole[:, 0]).all()
    assert torch.isnan(again[0][:, 0]).all()
