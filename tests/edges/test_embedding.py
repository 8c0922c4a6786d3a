"""The embedding: mining, weights of the walk graph, loss, training."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.edges import DirectedMagnitudeEdgeKGE, MagnitudeEdgeInferer, MagnitudeEdgeKGE
from gsnn.edges.embedding.mining import mine_edges
from gsnn.edges.embedding.skipgram import cell_loss, skip_gram_loss, train_epoch
from gsnn.edges.embedding.walks import WalkGraph, random_walks, window_pairs

from .test_walks import probabilities
from .worlds import gsnn, samples, small_graph

N = 12
NAMES = [f"f{i}" for i in range(N)]
KNOWN = [("f0", "f1"), ("f1", "f2"), ("f2", "f3"), ("f4", "f4")]
BOTH = [MagnitudeEdgeKGE, DirectedMagnitudeEdgeKGE]


def inferer(seed=0, n=500):
    """A fitted inferer's public surface, with scores and q-values made up."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(-1, 1, (N, N))
    q = np.where(score > 0.7, 1e-3, 0.9)
    score[5, 6] = np.nan
    index = {name: i for i, name in enumerate(NAMES)}
    known = np.zeros((N, N), bool)
    for a, b in KNOWN:
        known[index[a], index[b]] = True
    q[known] = np.nan
    i, j = np.nonzero(~np.eye(N, dtype=bool))
    table = pd.DataFrame(
        {
            "src_func": pd.Categorical.from_codes(i, NAMES),
            "dst_func": pd.Categorical.from_codes(j, NAMES),
            "src_idx": i.astype(np.int32),
            "dst_idx": j.astype(np.int32),
            "corr": score[i, j],
            "has_edge": known[i, j],
            "q_value": q[i, j],
        }
    ).sort_values("corr", ascending=False, kind="stable")
    asked = []

    def evaluate(**options):
        asked.append(options)
        return table

    return SimpleNamespace(
        n=n, N=N, function_nodes=NAMES, edges=KNOWN, evaluate=evaluate, asked=asked, score=score, q=q, known=known
    )


def cells(heads, tails):
    return set(zip(heads.tolist(), tails.tolist(), strict=True))


def test_mines_what_is_significant_and_nothing_known_or_excluded():
    mei = inferer()
    kge = MagnitudeEdgeKGE(mei, exclude_edges=[("f0", "f5"), ("f7", "f8")], top_k_per_target=0)
    expected = {
        (i, j)
        for i in range(N)
        for j in range(N)
        if i != j and not mei.known[i, j] and mei.q[i, j] <= 0.05 and not np.isnan(mei.score[i, j])
    } - {(0, 5), (7, 8)}
    assert cells(kge.inferred_heads, kge.inferred_tails) == expected
    assert cells(kge.true_heads, kge.true_tails) == {(0, 1), (1, 2), (2, 3)}
    assert cells(kge.pos_heads, kge.pos_tails) == expected | {(0, 1), (1, 2), (2, 3)}
    assert kge.pos_mask.sum() == len(kge.pos_heads)
    assert kge.pos_mask[kge.pos_heads, kge.pos_tails].all()
    assert mei.asked == [{"layer_agg": "max", "score": "corr", "exclude_self": True}]


@pytest.mark.parametrize("k", [1, 3, 100])
def test_mines_the_best_sources_of_each_target(k):
    mei = inferer()
    kge = MagnitudeEdgeKGE(mei, mining_strategy="topk_per_target", top_k_per_target=k, exclude_edges=[("f0", "f5")])
    expected = set()
    for j in range(N):
        sources = [
            i for i in range(N) if i != j and not mei.known[i, j] and not np.isnan(mei.score[i, j]) and (i, j) != (0, 5)
        ]
        expected |= {(i, j) for i in sorted(sources, key=lambda i: -mei.score[i, j])[:k]}
    assert cells(kge.inferred_heads, kge.inferred_tails) == expected


def test_mining_leaves_out_a_missing_q():
    table = pd.DataFrame(
        {"src_idx": [0, 1], "dst_idx": [2, 2], "corr": [0.9, 0.8], "has_edge": False, "q_value": [np.nan, 0.05]}
    )
    assert mine_edges(table, "corr", "fdr")["src_idx"].tolist() == [1]


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("kept", [None, 0.25])
@pytest.mark.parametrize("undirected", [True, False])
def test_walk_weights(alpha, kept, undirected):
    mei = inferer()
    kge = MagnitudeEdgeKGE(
        mei,
        mining_strategy="topk_per_target",
        top_k_per_target=3,
        walk_alpha=alpha,
        kept_edge_weight=kept,
        walk_undirected=undirected,
    )
    mined = cells(kge.inferred_heads, kge.inferred_tails)
    weight = {(i, j): max(mei.score[i, j], 0) ** alpha if alpha else 1.0 for i, j in mined}
    strongest = max(weight.values())
    for edge in [(0, 1), (1, 2), (2, 3)]:
        own = max(mei.score[edge], 0) ** alpha if alpha else 1.0
        weight[edge] = kept if kept is not None else max(own, strongest)
    matrix = np.zeros((N, N))
    for (i, j), w in weight.items():
        for a, b in [(i, j), (j, i)] if undirected else [(i, j)]:
            matrix[a, b] = max(matrix[a, b], w)
    total = matrix.sum(1, keepdims=True)
    expected = np.divide(matrix, total, out=np.zeros_like(matrix), where=total > 0)
    np.testing.assert_allclose(probabilities(kge._walk_graph), expected, atol=1e-12)


def test_unweighted_is_alpha_zero_and_known_edges_alone_are_equal():
    mei = inferer()
    one = MagnitudeEdgeKGE(mei, walk_corr_weighted=False, walk_alpha=2.0)
    two = MagnitudeEdgeKGE(mei, walk_alpha=0.0)
    assert torch.equal(one._walk_graph.reach, two._walk_graph.reach)
    alone = MagnitudeEdgeKGE(mei, fdr_alpha=0.0)
    assert len(alone.inferred_heads) == 0
    assert probabilities(alone._walk_graph)[1].tolist()[:3] == [0.5, 0, 0.5]


@pytest.mark.parametrize("n_nodes", [3, 40])
@pytest.mark.parametrize("same", [True, False])
def test_loss_is_the_written_one(n_nodes, same):
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(n_nodes, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    t = s if same else torch.randn(n_nodes, 5, generator=generator, dtype=torch.float64)
    pos, neg = (
        torch.randint(n_nodes, (2, 30), generator=generator),
        torch.randint(n_nodes, (2, 90), generator=generator),
    )
    expected = torch.zeros(())
    for pairs, sign in ((pos, 1), (neg, -1)):
        for h, k in pairs.T.tolist():
            expected = expected - torch.log(torch.sigmoid(sign * (s[h] @ t[k]))) / pairs.shape[1]
    loss = skip_gram_loss(s, t, tuple(pos), tuple(neg))
    counts = torch.zeros(2, n_nodes, n_nodes, dtype=torch.float64)
    for kind, pairs in enumerate((pos, neg)):
        for h, k in pairs.T.tolist():
            counts[kind, h, k] += 1
    by_cell = cell_loss(s, t, *counts)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(by_cell, expected)
    wanted = torch.autograd.grad(expected, s)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, s)[0], wanted)
    torch.testing.assert_close(torch.autograd.grad(by_cell, s)[0], wanted)
    torch.testing.assert_close(
        cell_loss(s, t, counts[0], 0 * counts[1]), skip_gram_loss(s, t, tuple(pos), tuple(neg[:, :0]))
    )
    assert torch.isfinite(skip_gram_loss(s, t, tuple(pos), tuple(neg[:, :0])))


def test_constructor_takes_the_inferer_of_this_package():
    x, y = samples(200)
    graph = small_graph()
    mei = MagnitudeEdgeInferer(gsnn(), graph)
    with pytest.raises(RuntimeError, match="at least 3"):
        MagnitudeEdgeKGE(mei)
    mei.fit([(x, y)], verbose=False)
    kge = MagnitudeEdgeKGE(mei, embedding_dim=8)
    loss = kge.fit(n_epochs=3, verbose=False)["train_loss"]
    assert len(loss) == 3
    table = kge.evaluate()
    assert list(table.columns) == ["src_func", "dst_func", "src_idx", "dst_idx", "score", "has_edge"]
    assert len(table) == kge.N * (kge.N - 1)
    assert len(kge.evaluate(exclude_self=False)) == kge.N**2
    assert table["score"].is_monotonic_decreasing
    assert table["has_edge"].sum() == len(set(mei.edges) - {("e", "e")})
    matrix = kge.score_matrix()
    np.testing.assert_array_equal(table["score"], matrix[table["src_idx"], table["dst_idx"]])
    MagnitudeEdgeKGE(mei, p_method="uncorrected", score="partial")


@pytest.mark.parametrize("cls", BOTH)
def test_table_size_symmetry_and_device_of_the_rest(cls):
    kge = cls(inferer(), embedding_dim=7)
    assert isinstance(kge, torch.nn.Module)
    assert sum(p.numel() for p in kge.parameters()) == N * 7 * (1 if cls is MagnitudeEdgeKGE else 2)
    kge.double().fit(n_epochs=5, verbose=False)
    score = kge.score_matrix()
    assert np.array_equal(score, score.T) == (cls is MagnitudeEdgeKGE)
    assert {kge.pos_heads.device.type, kge.pos_mask.device.type} == {"cpu"}


@pytest.mark.parametrize("cls", BOTH)
def test_seed_fixes_everything_and_touches_nothing_global(cls):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    kge, other = cls(inferer()), cls(inferer())
    first = kge.fit(n_epochs=4, verbose=False, seed=3)
    once = kge.score_matrix()
    assert first == kge.fit(n_epochs=4, verbose=False, seed=3)
    np.testing.assert_array_equal(kge.score_matrix(), once)
    assert first == other.fit(n_epochs=4, verbose=False, seed=torch.Generator().manual_seed(3))
    assert first != other.fit(n_epochs=4, verbose=False, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("cls", BOTH)
def test_every_epoch_walks_anew(cls, monkeypatch):
    walked = []

    def record(*given):
        walked.append(random_walks(*given))
        return walked[-1]

    monkeypatch.setattr("gsnn.edges.embedding.inferer.random_walks", record)
    kge = cls(inferer(), walk_undirected=False)
    assert kge.n_pairs == 0
    kge.fit(n_epochs=3, verbose=False, seed=3)
    assert len(walked) == 3
    assert not any(torch.equal(a, b) for a, b in [walked[:2], walked[1:]])
    assert kge.pairs_per_epoch == [len(window_pairs(w, 5, both_ways=cls is MagnitudeEdgeKGE)) for w in walked]
    assert len(set(kge.pairs_per_epoch)) > 1
    assert kge.n_pairs == kge.pairs_per_epoch[-1]
    again = [w.clone() for w in walked]
    walked.clear()
    kge.fit(n_epochs=2, verbose=False, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(walked, again[:2], strict=True)), "the seed fixes them"


@pytest.mark.parametrize("batch_size", [7, 64])
def test_an_epoch_is_the_loop_over_batches(batch_size):
    """Pairs or cells, batches drawn together or apart: the steps are those of the plain loop."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(6, (150, 2), generator=generator)
    start = torch.randn(6, 3, generator=generator, dtype=torch.float64)

    def draw(positives):
        # Negatives that follow from the positives, so that grouping cannot change them.
        row = torch.arange(len(positives)).repeat_interleave(2)
        return row, torch.stack([positives[row, 0], (positives[row, 1] + torch.arange(len(row)) % 2 + 1) % 6], 1)

    table = start.clone().requires_grad_()
    loss = train_epoch(
        pairs, draw, 2, lambda: (table, table), torch.optim.SGD([table], lr=0.1), batch_size, generator.manual_seed(1)
    )
    plain, losses = start.clone().requires_grad_(), 0.0
    optimiser = torch.optim.SGD([plain], lr=0.1)
    for batch in pairs[torch.randperm(150, generator=generator.manual_seed(1))].split(batch_size):
        optimiser.zero_grad()
        value = skip_gram_loss(plain, plain, tuple(batch.T), tuple(draw(batch)[1].T))
        value.backward()
        optimiser.step()
        losses += value.item() * len(batch)
    torch.testing.assert_close(table, plain)
    assert loss == pytest.approx(losses / 150)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("how", ["cells", pytest.param("pairs", marks=pytest.mark.slow)])
def test_loss_falls(cls, how):
    kge = cls(inferer(), mining_strategy="topk_per_target", top_k_per_target=2)
    batch_size = 2048 if how == "cells" else 16
    loss = kge.fit(n_epochs=2 if how == "pairs" else 40, batch_size=batch_size, verbose=False)["train_loss"]
    assert loss[-1] < loss[0] < 2 * np.log(2) + 0.05


def test_ablations_through_the_positives_take_effect():
    mei = inferer()
    joint = MagnitudeEdgeKGE(mei)
    joint.fit(n_epochs=5, verbose=False)
    kept = MagnitudeEdgeKGE(mei)
    kept.pos_heads, kept.pos_tails = kept.true_heads, kept.true_tails
    kept.pos_mask = torch.zeros(N, N, dtype=torch.bool)
    kept.pos_mask[kept.pos_heads, kept.pos_tails] = True
    kept._build_adjacency()
    np.testing.assert_array_equal(
        probabilities(kept._walk_graph) > 0, (mei.known | mei.known.T) & ~np.eye(N, dtype=bool)
    )
    kept.fit(n_epochs=5, verbose=False)
    assert np.abs(joint.score_matrix() - kept.score_matrix()).max() > 1e-3
    only = MagnitudeEdgeKGE(mei, fdr_alpha=0.0)
    only.fit(n_epochs=5, verbose=False)
    np.testing.assert_allclose(only.score_matrix(), kept.score_matrix(), atol=1e-6)


@pytest.mark.parametrize("cls", BOTH)
def test_validation_and_best_epoch(cls):
    mei = inferer()
    held = [("f3", "f9"), ("f8", "f2")]
    kge = cls(mei, exclude_edges=[*held, ("f10", "f11")])
    history = kge.fit(n_epochs=8, validation_edges=held, verbose=False)
    assert len(history["val_auc"]) == len(history["train_loss"]) == 8
    positive = np.zeros((N, N), bool)
    positive[[3, 8], [9, 2]] = True
    negative = ~(positive | mei.known | np.eye(N, dtype=bool))
    negative[10, 11] = False

    def auc(score):
        p, q = score[positive][:, None], score[negative][None]
        return ((p > q) + 0.5 * (p == q)).mean()

    assert history["val_auc"][-1] == pytest.approx(auc(kge.score_matrix()))
    kge.load_best()
    assert auc(kge.score_matrix()) == pytest.approx(max(history["val_auc"]))
    kge.fit(n_epochs=1, verbose=False)
    with pytest.raises(RuntimeError, match="validation_edges"):
        kge.load_best()


def test_directed_tells_direction():
    mei = inferer()
    ring = torch.arange(N)
    kge = DirectedMagnitudeEdgeKGE(mei, embedding_dim=16, window_size=1, walks_per_node=50)
    kge.pos_heads, kge.pos_tails = ring, (ring + 1) % N
    kge.pos_mask = torch.zeros(N, N, dtype=torch.bool)
    kge.pos_mask[kge.pos_heads, kge.pos_tails] = True
    kge.true_heads, kge.true_tails = kge.pos_heads, kge.pos_tails
    kge.fit(n_epochs=60, batch_size=256, verbose=False)
    score = kge.score_matrix()
    assert (score[ring, (ring + 1) % N] > score[(ring + 1) % N, ring] + 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mining_strategy": "all"}, "fdr"),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"walk_length": 1}, "walk_length"),
        ({"mining_strategy": "topk_per_target", "top_k_per_target": 0}, "top_k_per_target"),
        ({"walk_alpha": -1.0}, "walk_alpha"),
        ({"fdr_alpha": float("nan")}, "fdr_alpha"),
        ({"exclude_edges": [("f0", "f99")]}, "f99"),
        ({"exclude_edges": ["f0"]}, "pairs"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        MagnitudeEdgeKGE(inferer(), **options)


def test_bad_calls():
    with pytest.raises(RuntimeError, match="2 samples"):
        MagnitudeEdgeKGE(inferer(n=2))
    kge = MagnitudeEdgeKGE(inferer())
    for edges, message in (([("f0", "f1")], "known"), ([("f3", "f3")], "self"), ([], "empty"), ([("q", "f1")], "'q'")):
        with pytest.raises(ValueError, match=message):
            kge.fit(n_epochs=1, validation_edges=edges, verbose=False)
    with pytest.raises(ValueError, match="n_epochs"):
        kge.fit(n_epochs=0, verbose=False)
    kge.pos_heads = kge.pos_tails = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="no edge to walk"):
        kge.fit(n_epochs=1, verbose=False)


def test_walk_graph_is_the_one_of_the_module():
    assert isinstance(MagnitudeEdgeKGE(inferer())._walk_graph, WalkGraph)
