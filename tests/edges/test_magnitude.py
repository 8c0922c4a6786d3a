"""MagnitudeEdgeInferer against loops, and at its edges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from gsnn.discovery.methods import METHODS
from gsnn.edges import EdgeInferer, MagnitudeEdgeInferer
from gsnn.graph import Graph

from .worlds import (
    FUNCTIONS,
    batches,
    gsnn,
    naive_corr,
    naive_magnitudes,
    naive_partial,
    samples,
    small_graph,
)

MSE = torch.nn.MSELoss()


def make(model=None, n=60, **options):
    x, y = samples(n)
    inferer = MagnitudeEdgeInferer(gsnn() if model is None else model, small_graph(), **options)
    inferer.fit(batches(x, y, 16), verbose=False)
    return inferer


def per_pair(inferer, table):
    """(P, N, N) from the columns of a table."""
    out = np.full((inferer.n_pairs, inferer.N, inferer.N), np.nan)
    for p in range(inferer.n_pairs):
        out[p, table["src_idx"], table["dst_idx"]] = table[f"corr_a{p}_g{p + 1}"]
    return out


@pytest.mark.parametrize("reduction", ["l1", "l2"])
@pytest.mark.parametrize("pre", [True, False])
def test_correlations_match_a_loop_over_samples_and_pairs(reduction, pre):
    model = gsnn(norm="groupbatch")
    x, y = samples(60)
    inferer = make(model, reduction=reduction, use_pre_norm=pre)
    a, b = naive_magnitudes(model, x, y, reduction, "pre_tap" if pre else "post_tap")
    expected = naive_corr(a, b)
    assert np.isnan(expected).any()
    got = per_pair(inferer, inferer.evaluate(exclude_self=False))
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_partial_matches_regressing_both_sides():
    model = gsnn()
    x, y = samples(60)
    inferer = make(model)
    a, b = naive_magnitudes(model, x, y)
    parents = [list(s) for s in inferer.parents_by_target]
    expected = naive_partial(a, b, parents)
    table = inferer.evaluate(exclude_self=False, score="partial", ridge=1e-14)
    np.testing.assert_allclose(per_pair(inferer, table), expected, atol=1e-9)
    assert (table["n_cond"].to_numpy() == np.array([len(parents[j]) for j in table["dst_idx"]])).all()


def test_ridge_is_added_to_the_covariance_of_the_parents():
    model, ridge = gsnn(), 0.3
    x, y = samples(60)
    a, b = naive_magnitudes(model, x, y)
    inferer = make(model)
    got = per_pair(inferer, inferer.evaluate(score="partial", ridge=ridge))
    index = {name: i for i, name in enumerate(FUNCTIONS)}
    j, i = index["c"], index["d"]
    s = list(inferer.parents_by_target[j])
    for p in range(inferer.n_pairs):
        joint = np.cov(np.vstack([a[p, s], a[p, [i]], b[p, [j]]]), bias=True)
        k = len(s)
        schur = joint[k:, k:] - joint[k:, :k] @ np.linalg.inv(joint[:k, :k] + ridge * np.eye(k)) @ joint[:k, k:]
        if not np.isnan(got[p, i, j]):
            assert got[p, i, j] == pytest.approx(schur[0, 1] / np.sqrt(schur[0, 0] * schur[1, 1]), abs=1e-10)


def test_partial_is_nan_at_parents_and_self_and_plain_without_parents():
    inferer = make()
    partial, plain = inferer.score_matrix(score="partial"), inferer.score_matrix()
    for j, parents in enumerate(inferer.parents_by_target):
        assert np.isnan(partial[parents, j]).all()
        assert np.isnan(partial[j, j])
        if len(parents) == 0:
            others = np.arange(inferer.N) != j
            np.testing.assert_allclose(partial[others, j], plain[others, j], rtol=1e-12)


@pytest.mark.parametrize("agg", ["mean", "mean0", "max"])
def test_aggregation_matches_its_definition(agg):
    inferer = make()
    table = inferer.evaluate(agg)
    columns = table.filter(like="corr_a").to_numpy()
    for values, score in zip(columns, table["corr"], strict=True):
        known = values[~np.isnan(values)]
        if agg == "mean0":
            assert score == pytest.approx(np.nan_to_num(values).mean(), abs=1e-14)
        elif len(known) == 0:
            assert np.isnan(score)
        elif agg == "mean":
            assert score == pytest.approx(known.mean(), abs=1e-14)
        else:
            assert score == known[np.abs(known).argmax()]


def test_single_pair_uncorrected_p_values_match_scipy():
    x, y = samples(60)
    inferer = MagnitudeEdgeInferer(gsnn(layers=2), small_graph())
    inferer.fit([(x, y)], verbose=False)
    for agg in ("mean", "max"):
        for score in ("corr", "partial"):
            table = inferer.evaluate(agg, score=score, p_method="uncorrected")
            for row in table.itertuples():
                df = 60 - 3 - (row.n_cond if score == "partial" else 0)
                expected = 1.0 if np.isnan(row.corr) else scipy.stats.norm.sf(np.arctanh(row.corr) * df**0.5)
                assert row.p_value == pytest.approx(expected, rel=1e-9)


def test_uncorrected_p_values_take_the_aggregate_for_one_correlation():
    table = make().evaluate("max", p_method="uncorrected")
    expected = scipy.stats.norm.sf(np.arctanh(table["corr"]) * (60 - 3) ** 0.5)
    np.testing.assert_allclose(table["p_value"], np.where(np.isnan(expected), 1, expected), rtol=1e-9)


@pytest.mark.parametrize("score", ["corr", "partial"])
@pytest.mark.parametrize("agg", ["mean", "mean0", "max"])
def test_no_p_value_is_below_what_permuting_few_samples_supports(agg, score):
    # 4 of 17 conditions are alike and differ from the other 13: one of 2380 arrangements tells them apart so well.
    x = torch.zeros(17, 3, dtype=torch.float64)
    x[[2, 3, 8, 15]] = 2.0
    inferer = MagnitudeEdgeInferer(gsnn(), small_graph())
    inferer.fit([(x, x[:, :2] * 5)], verbose=False)
    table = inferer.evaluate(agg, score=score)
    assert table["corr"].max() > 0.999
    assert 0.9 / 2380 < table["p_value"].min() < 2 / 2380
    uncorrected = inferer.evaluate(agg, score=score, p_method="uncorrected")
    assert uncorrected["p_value"].min() < 1e-12


def test_too_few_degrees_of_freedom_give_p_one():
    x, y = samples(5)
    inferer = MagnitudeEdgeInferer(gsnn(), small_graph())
    inferer.update(x, y)
    table = inferer.evaluate(score="partial")
    assert (table.loc[5 - 3 - table["n_cond"] < 2, "p_value"] == 1).all()


def test_q_values_are_over_the_candidates():
    table = make().evaluate(exclude_self=False)
    own = table["src_idx"] == table["dst_idx"]
    outside = own | table["has_edge"]
    assert table.loc[outside, "q_value"].isna().all()
    expected = scipy.stats.false_discovery_control(table.loc[~outside, "p_value"])
    np.testing.assert_allclose(table.loc[~outside, "q_value"], expected, rtol=1e-12)


def test_table_shape_order_and_columns():
    inferer = make()
    table = inferer.evaluate()
    pairs = [f"corr_a{p}_g{p + 1}" for p in range(3)]
    head = ["src_func", "dst_func", "src_idx", "dst_idx", "corr", "has_edge"]
    assert list(table.columns) == [*head, *pairs, "p_value", "q_value"]
    assert list(inferer.evaluate(score="partial").columns) == [*head, "n_cond", *pairs, "p_value", "q_value"]
    assert isinstance(table["src_func"].dtype, pd.CategoricalDtype)
    assert len(table) == inferer.N * (inferer.N - 1)
    assert len(inferer.evaluate(exclude_self=False)) == inferer.N**2
    assert {(r.src_func, r.dst_func) for r in table[table["has_edge"]].itertuples()} == {
        e for e in inferer.edges if e[0] != e[1]
    }
    score = table["corr"].to_numpy()
    defined = score[~np.isnan(score)]
    assert (np.diff(defined) <= 0).all()
    assert np.isnan(score[len(defined) :]).all()
    flat = (table["src_idx"] * inferer.N + table["dst_idx"]).to_numpy()
    tied = np.isnan(score[1:]) & np.isnan(score[:-1])
    assert (np.diff(flat)[tied] > 0).all()
    assert [FUNCTIONS[i] for i in table["src_idx"]] == list(table["src_func"])


@pytest.mark.parametrize("agg", ["mean", "mean0", "max"])
@pytest.mark.parametrize("score", ["corr", "partial"])
@pytest.mark.parametrize("method", ["calibrated", "uncorrected"])
def test_top_edges_are_rows_of_the_table(agg, score, method):
    inferer = make()
    options = {"layer_agg": agg, "score": score, "p_method": method}
    table = inferer.evaluate(**options)
    for k in (0, 1, 7, 1000, None):
        inferer._last = None
        top = inferer.top_edges(k, **options)
        expected = table[~table["has_edge"] & table["corr"].notna()].head(len(table) if k is None else k)
        pd.testing.assert_frame_equal(top, expected.reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize("agg", ["mean0", "max"])
def test_several_threads_score_as_one_does(agg, monkeypatch):
    monkeypatch.setattr("gsnn.edges.magnitude._CHUNK_BYTES", 1)  # a block of sources is one source
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(make().top_edges(7, layer_agg=agg))
    finally:
        torch.set_num_threads(before)
    pd.testing.assert_frame_equal(*found, check_exact=True)


def test_top_edges_of_nodes_patterns_and_targets():
    inferer = make()
    table = inferer.evaluate("mean0")
    free = table[~table["has_edge"]]
    top = inferer.top_edges(per_target=2, layer_agg="mean0")
    for target, rows in free.groupby("dst_func", observed=True):
        expected = rows.head(2)[["src_idx", "corr", "q_value"]].to_numpy()
        np.testing.assert_array_equal(top.loc[top["dst_func"] == target, ["src_idx", "corr", "q_value"]], expected)
    assert top["corr"].is_monotonic_decreasing
    some = inferer.top_edges(3, sources=["a", "d*"], targets="b")
    assert set(some["src_func"]) <= {"a", "d", "dark"}
    assert set(some["dst_func"]) == {"b"}
    both = inferer.top_edges(exclude_known=False)
    assert both["has_edge"].any()
    assert (both["src_idx"] != both["dst_idx"]).all()
    with pytest.raises(ValueError, match=r"sources.*'lonely'.*'lone'"):
        inferer.top_edges(3, sources="lonely")
    with pytest.raises(ValueError, match="k must be"):
        inferer.top_edges(-1)


def test_score_matrix_is_a_copy_of_the_scores():
    inferer = make()
    matrix, table = inferer.score_matrix(), inferer.evaluate(exclude_self=False)
    np.testing.assert_array_equal(matrix[table["src_idx"], table["dst_idx"]], table["corr"])
    matrix[:] = 0
    assert inferer.score_matrix().any()


@pytest.mark.parametrize("agg", ["mean", "mean0", "max"])
@pytest.mark.parametrize("score", ["corr", "partial"])
def test_scores_alone_need_no_null(agg, score, monkeypatch):
    expected = make().scored(layer_agg=agg, score=score).score
    for name in ("PlainNull", "PartialNull", "Significance"):
        monkeypatch.setattr(f"gsnn.edges.magnitude.{name}", None)
    np.testing.assert_array_equal(make().score_matrix(layer_agg=agg, score=score), expected)
    with pytest.raises(TypeError):
        make().scored(layer_agg=agg, score=score)
    with pytest.raises(ValueError, match="layer_agg"):
        make().score_matrix(layer_agg="median")


def test_attributes():
    inferer = make()
    assert (inferer.N, inferer.L, inferer.n_pairs, inferer.n) == (8, 4, 3, 60)
    assert inferer.function_nodes == FUNCTIONS
    assert ("e", "e") in inferer.edges
    assert isinstance(inferer.edges, set)
    assert [FUNCTIONS[i] for i in inferer.parents_by_target[FUNCTIONS.index("d")]] == ["b", "c"]
    assert [FUNCTIONS[i] for i in inferer.parents_by_target[FUNCTIONS.index("e")]] == ["d", "dark"], "no self-edge"
    inferer.reset_stats()
    assert inferer.n == 0


def test_update_and_merge_equal_fit():
    x, y = samples(60)
    expected = make().score_matrix()
    streamed, other = (MagnitudeEdgeInferer(gsnn(), small_graph()) for _ in range(2))
    assert streamed.update(x[:10], y[:10]) == 10
    assert streamed.update(x[10:30], y[10:30]) == 30
    other.update(x[30:], y[30:], MSE)
    streamed.merge(other)
    np.testing.assert_allclose(streamed.score_matrix(), expected, atol=1e-11)
    streamed.update(x[:1], y[:1])
    assert streamed.n == 61
    assert np.nanmax(np.abs(streamed.score_matrix() - expected)) > 1e-6


def test_merge_refuses_what_cannot_be_added():
    inferer = make()
    with pytest.raises(ValueError, match="reduction"):
        inferer.merge(make(reduction="l2"))
    with pytest.raises(TypeError, match="MagnitudeEdgeInferer"):
        inferer.merge(3)


def test_missing_targets_are_left_out():
    x, y = samples(60)
    y[::3, 1] = torch.nan
    model = gsnn()
    inferer = MagnitudeEdgeInferer(model, small_graph())
    inferer.fit(batches(x, y, 16), verbose=False)
    model.eval()
    filled = torch.where(torch.isnan(y), model(x).detach(), y)
    a, b = naive_magnitudes(model, x, filled)
    np.testing.assert_allclose(per_pair(inferer, inferer.evaluate(exclude_self=False)), naive_corr(a, b), atol=1e-10)
    other = MagnitudeEdgeInferer(model, small_graph())
    other.fit(batches(x, y, 16), MSE, verbose=False)
    np.testing.assert_allclose(other.score_matrix(), inferer.score_matrix(), atol=1e-12)


def test_ragged_last_batch_shifts_a_naive_inferer_but_not_ours():
    """Gradients of the batch's mean loss depend on the size of the batch: the naive statistic moves, ours does not."""
    from gsnn.edges.capture import capture

    x, y = samples(34)
    model = gsnn()

    def naive(size):
        parts = [capture(model, a, b, loss_reduction="sum", crit=MSE) for a, b in batches(x, y, size)]
        act = torch.cat([p.node_norms(p.activations[1], "l1") for p in parts], 1)
        grad = torch.cat([p.node_norms(p.gradients[2], "l1") for p in parts], 1)
        return np.corrcoef(act[2], grad[3])[0, 1]

    assert abs(naive(32) - naive(34)) > 0.01
    scores = []
    for size in (32, 34):
        inferer = MagnitudeEdgeInferer(model, small_graph())
        inferer.fit(batches(x, y, size), MSE, verbose=False)
        scores.append(inferer.score_matrix())
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-12)


def test_constant_nodes_are_undefined_in_float32_too():
    x, y = samples(97, dtype=torch.float32)
    inferer = MagnitudeEdgeInferer(gsnn(dtype=torch.float32), small_graph())
    inferer.fit(batches(x, y, 13), verbose=False)
    score = inferer.score_matrix()
    for name in ("lone", "dark"):
        assert np.isnan(score[FUNCTIONS.index(name)]).all()
    for name in ("lone", "sink"):
        assert np.isnan(score[:, FUNCTIONS.index(name)]).all()
    table = inferer.evaluate()
    assert (table.loc[table["corr"].isna(), "p_value"] == 1).all()


def test_graph_without_function_edges():
    graph = Graph.from_edges(
        [("x0", "a"), ("x1", "b"), ("x2", "b"), ("a", "y0"), ("b", "y1")],
        input_nodes=["x0", "x1", "x2"],
        function_nodes=["a", "b"],
        output_nodes=["y0", "y1"],
    )
    x, y = samples(30)
    inferer = MagnitudeEdgeInferer(gsnn(graph), graph)
    inferer.fit([(x, y)], verbose=False)
    assert inferer.edges == set()
    for score in ("corr", "partial"):
        table = inferer.evaluate(score=score)
        assert len(table) == 2
        assert not table["has_edge"].any()


def test_fewer_than_three_samples():
    inferer = MagnitudeEdgeInferer(gsnn(), small_graph())
    x, y = samples(3)
    for call in (inferer.evaluate, inferer.score_matrix, inferer.top_edges):
        with pytest.raises(RuntimeError, match="at least 3 samples, got 0"):
            call()
    inferer.update(x[:2], y[:2])
    with pytest.raises(RuntimeError, match="at least 3 samples, got 2"):
        inferer.evaluate()
    inferer.update(x[2:], y[2:])
    assert (inferer.evaluate()["p_value"] == 1).all()


def test_errors_come_at_construction_or_call():
    graph = small_graph()
    with pytest.raises(RuntimeError, match="Need at least 2"):
        MagnitudeEdgeInferer(gsnn(layers=1), graph)
    with pytest.raises(ValueError, match=r"reduction 'l3'.*'l1', 'l2'"):
        MagnitudeEdgeInferer(gsnn(), graph, reduction="l3")
    with pytest.raises(ValueError, match="use_pre_norm=False needs norm"):
        MagnitudeEdgeInferer(gsnn(norm="layer"), graph, use_pre_norm=False)
    with pytest.raises(TypeError, match="forward_with_taps"):
        MagnitudeEdgeInferer(torch.nn.Linear(2, 2), graph)
    with pytest.raises(TypeError, match="HeteroData-like"):
        MagnitudeEdgeInferer(gsnn(), [("a", "b")])
    with pytest.raises(ValueError, match="different function nodes"):
        MagnitudeEdgeInferer(gsnn(), Graph.from_edges(
            [("x", "a"), ("a", "y")], input_nodes=["x"], function_nodes=["a"], output_nodes=["y"]
        ))  # fmt: skip
    inferer = MagnitudeEdgeInferer(gsnn(), graph)
    for name in ("layer_agg", "score", "p_method"):
        with pytest.raises(ValueError, match=f"unknown {name} 'nope'; use one of"):
            inferer.evaluate(**{name: "nope"})
    with pytest.raises(ValueError, match="ridge"):
        inferer.evaluate(ridge=-1)


def test_loader_errors_name_the_batch():
    inferer = MagnitudeEdgeInferer(gsnn(), small_graph())
    x, y = samples(8)
    good = (x, y)
    for bad, match in [
        ((x[:, :2], y), r"batch 1: x must have shape \(B, I\) = \(B, 3\), got \(8, 2\)"),
        ((x, y[:, :1]), r"batch 1: y must have shape"),
        ((x, y[:3]), "batch 1: x and y must have as many rows"),
        ((x, y * torch.inf), "batch 1: the loss is"),
    ]:
        with pytest.raises(ValueError, match=match):
            inferer.fit([good, bad], verbose=False)
        assert inferer.n == 0
    with pytest.raises(ValueError, match="dataloader is empty"):
        inferer.fit([], verbose=False)
    with pytest.raises(TypeError, match="batch 0 of dataloader must be"):
        inferer.fit([x], verbose=False)


def test_more_items_and_model_arguments():
    x, y = samples(30)
    model = gsnn()
    mask = torch.ones(30, len(FUNCTIONS), dtype=torch.float64)
    mask[:, 3] = 0
    plain = MagnitudeEdgeInferer(model, small_graph())
    plain.fit([(x, y, mask)], verbose=False)
    np.testing.assert_allclose(plain.score_matrix(), make(model, n=30).score_matrix(), atol=1e-12)
    masked = MagnitudeEdgeInferer(model, small_graph())
    masked.fit([(x, y, mask)], verbose=False, model_kwargs=lambda batch: {"node_mask": batch[2]})
    other = MagnitudeEdgeInferer(model, small_graph())
    other.fit([(x, y)], verbose=False, model_kwargs={"node_mask": mask})
    np.testing.assert_array_equal(masked.score_matrix(), other.score_matrix())
    assert not np.array_equal(masked.score_matrix(), plain.score_matrix(), equal_nan=True)


def test_compiled_model_is_unwrapped():
    model = gsnn()
    compiled = torch.compile(model, backend="eager")
    np.testing.assert_array_equal(make(compiled).score_matrix(), make(model).score_matrix())


def test_per_node_channel_counts():
    model = gsnn(channels=[1, 2, 3, 1, 2, 3, 1, 2])
    inferer = make(model)
    x, y = samples(60)
    model.eval()
    seen = {}
    prediction = model.forward_with_taps(x, pre=lambda layer, z: seen.setdefault(layer, z))
    ((prediction - y) ** 2).sum().backward(inputs=list(seen.values()))
    node = model.channel_node.numpy()
    a = np.stack([np.abs(seen[1].detach().numpy())[node == k].sum(0) for k in range(8)])
    b = np.stack([np.abs(seen[2].grad.numpy())[node == k].sum(0) for k in range(8)])
    got = per_pair(inferer, inferer.evaluate(exclude_self=False))[1]
    np.testing.assert_allclose(got, naive_corr(a[None], b[None])[0], atol=1e-10)


def test_target_ranking_by_corr_is_the_default():
    table = make().evaluate()
    detail, summary = MagnitudeEdgeInferer.evaluate_target_ranking(table, [("b", "a"), ("a", "d")], top_k=(1, 3))
    assert list(detail.columns)[:3] == ["src_func", "dst_func", "score"]
    for row in detail.itertuples():
        rivals = table[(table["dst_func"] == row.dst_func) & table["corr"].notna()]
        assert row.rank == 1 + (rivals["corr"] > row.score).sum()
        assert row.n_candidates == len(rivals)
    with pytest.raises(ValueError, match="nobody"):
        MagnitudeEdgeInferer.evaluate_target_ranking(table, [("nobody", "a")])
    assert {type(value) for value in summary.values()} == {float}
    assert f"{summary['mrr']:.3f} {summary['top@1']:.3f}"


def test_half_precision_of_the_training_script_is_not_taken_over():
    expected = make().score_matrix()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = make().score_matrix()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_registry_of_methods():
    for method in METHODS.values():
        assert issubclass(method.inferer, EdgeInferer)
        assert method.summary
    assert METHODS["magnitude"].inferer is MagnitudeEdgeInferer
