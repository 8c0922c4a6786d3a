"""Refinement on halves of the conditions, and how often an edge enters."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gsnn.discovery import StabilityEdgeInferer, stability
from gsnn.discovery.stability import halved, train_together
from gsnn.edges import GradientEdgeInferer
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.training import TrainConfig

from ..edges.worlds import batches, gsnn, samples, small_graph

QUICK = TrainConfig(epochs=4, batch_size=16, lr=1e-2)


def fitted(x, y, config=QUICK, model=None, **options):
    model = model or gsnn(norm="groupbatch", dtype=torch.float32)
    inferer = StabilityEdgeInferer(model, small_graph(), config, **({"subsamples": 4, "rounds": 2} | options))
    assert inferer.fit(batches(x, y, 25), verbose=False) == len(x)
    return inferer


@pytest.mark.parametrize("n", [4, 5, 20])
def test_halves_come_in_pairs_without_a_common_condition(n):
    condition = np.random.default_rng(0).permutation(np.r_[np.arange(n), np.arange(n), 0, 0])
    halves = halved(condition, 6, seed=1)
    assert len(halves) == 6
    assert len({half.tobytes() for half in halves}) == 6 or n < 6
    for first, second in zip(halves[::2], halves[1::2], strict=True):
        assert sorted([*first, *second]) == list(range(len(condition)))
        assert not set(condition[first]) & set(condition[second])
        assert {len(set(condition[first])), len(set(condition[second]))} == {n // 2, n - n // 2}


def test_counts_are_those_of_a_loop_over_the_subsamples():
    x, y = samples(60, dtype=torch.float32)
    inferer = fitted(x, y, per_round=2)
    graph, names = small_graph(), inferer.function_nodes
    entered, ranks = np.zeros((8, 8)), []
    halves = halved(np.unique(x.numpy(), axis=0, return_inverse=True)[1].ravel(), 4, 0)
    graphs = [graph] * 4
    for number in range(2):
        seed = int(np.random.SeedSequence((0, number, 0)).generate_state(1)[0])
        models = train_together(inferer._model, graphs, [(x[half], y[half]) for half in halves], QUICK, seed)
        for k, (model, half) in enumerate(zip(models, halves, strict=True)):
            explained = GradientEdgeInferer(model, graphs[k])
            explained.fit([(x[half], y[half])], verbose=False)
            table = explained.evaluate(score="explained")
            table = table[~table["has_edge"] & table["score"].notna()]
            if number == 0:
                share = table["score"].rank() / len(table)
                ranks.append(dict(zip(zip(table["src_func"], table["dst_func"], strict=True), share, strict=True)))
            best = table.drop_duplicates("dst_func").head(2)
            edges = list(zip(best["src_func"], best["dst_func"], strict=True))
            for source, target in edges:
                entered[names.index(source), names.index(target)] += 1
            graphs[k] = graphs[k].with_edges(edges)
    mean = {pair: sum(each.get(pair, 0.0) for each in ranks) / 4 for each in ranks for pair in each}
    found = inferer.evaluate()
    for row in found[~found["has_edge"]].itertuples():
        pair = row.src_func, row.dst_func
        count = entered[row.src_idx, row.dst_idx]
        assert row.entered == count / 4
        assert row.percentile == pytest.approx(mean.get(pair, 0.0), abs=1e-12)
        assert row.score == pytest.approx((count + mean.get(pair, 0.0)) / 5, abs=1e-12)
    assert entered.sum() == 4 * 2 * 2


def chain(n: int = 300) -> tuple[Graph, torch.Tensor, torch.Tensor]:
    """Six chains of a function each; the responses also want a function of a neighbour."""
    ids = range(6)
    edges = [(f"x{i}", f"f{i}") for i in ids] + [(f"f{i}", f"g{i}") for i in ids] + [(f"g{i}", f"y{i}") for i in ids]
    graph = Graph.from_edges(
        edges,
        input_nodes=[f"x{i}" for i in ids],
        function_nodes=[f"{kind}{i}" for i in ids for kind in "fg"],
        output_nodes=[f"y{i}" for i in ids],
    )
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
    y = x + torch.roll(x, 1, dims=1) * torch.tensor([1.0, 0, 1, 0, 1, 0])
    return graph, x, (y - y.mean(0)) / y.std(0)


@pytest.mark.slow
def test_planted_edges_enter_every_time_and_none_where_the_responses_are_permuted():
    graph, x, y = chain()
    model = GSNN.from_graph(graph, 4, 4, norm="groupbatch", share_layers=False)
    config = TrainConfig(epochs=30, lr=1e-2)
    inferer = StabilityEdgeInferer(model, graph, config, subsamples=10, rounds=1, per_round=3)
    inferer.fit([(x, y)], verbose=False)
    best = inferer.evaluate().head(3)
    assert {(s[1], t[1]) for s, t in zip(best["src_func"], best["dst_func"], strict=True)} == {
        ("5", "0"),
        ("1", "2"),
        ("3", "4"),
    }
    assert (best["entered"] >= 0.8).all()
    inferer.fit([(x, y[torch.randperm(len(y), generator=torch.Generator().manual_seed(1))])], verbose=False)
    assert inferer.evaluate()["entered"].max() <= 0.7


def test_models_that_train_together_learn_from_samples_of_their_own():
    graph, x, _ = chain(200)
    model = GSNN.from_graph(graph, 4, 4, norm="groupbatch", share_layers=False)
    config = TrainConfig(epochs=10, lr=1e-2)
    (same, turned), own = train_together(model, [graph] * 2, [(x, x), (x[:150], -x[:150])], config, 0), x[:50]
    with torch.no_grad():
        assert ((same(own) - own) ** 2).mean() < 0.3
        assert ((turned(own) + own) ** 2).mean() < 0.3


@pytest.mark.parametrize("workers", [1, 2])
def test_groups_and_processes_do_not_mix_subsamples(workers, monkeypatch):
    monkeypatch.setattr(stability, "_TOGETHER", 2)
    monkeypatch.setattr(stability, "workers_for", lambda *_: workers)
    x, y = samples(60, dtype=torch.float32)
    seen = fitted(x, y, subsamples=6).score_matrix()
    monkeypatch.setattr(stability, "workers_for", lambda *_: 0)
    np.testing.assert_array_equal(seen, fitted(x, y, subsamples=6).score_matrix())


def test_nothing_below_chance_enters():
    """Functions that reach no readout have no gradient: no edge into them is worth anything."""
    ids = range(7)
    edges = [("x", "a"), ("a", "b"), ("b", "y"), *[("a", f"d{i}") for i in ids]]
    graph = Graph.from_edges(
        edges, input_nodes=["x"], function_nodes=["a", "b", *[f"d{i}" for i in ids]], output_nodes=["y"]
    )
    x = torch.randn(60, 1, generator=torch.Generator().manual_seed(0))
    model = GSNN.from_graph(graph, 3, 4, norm="groupbatch", share_layers=False)
    inferer = StabilityEdgeInferer(model, graph, QUICK, subsamples=4, rounds=1)
    inferer.fit([(x, x.abs())], verbose=False)
    table = inferer.evaluate()
    assert (table.loc[table["dst_func"].str.startswith("d"), "entered"] == 0).all()


def test_signs_of_anything_like_a_graph_are_read():
    x, y = samples(40, dtype=torch.float32)
    index = small_graph().edge_index_dict
    signs = {kind: torch.full((ends.shape[1],), -1) for kind, ends in index.items()}
    signed = Graph(index, small_graph().node_names_dict, edge_sign_dict=signs)
    other = SimpleNamespace(
        edge_index_dict=index, node_names_dict=small_graph().node_names_dict, edge_sign_dict=signed.edge_sign_dict
    )
    model = gsnn(norm="groupbatch", dtype=torch.float32)
    first, second = (StabilityEdgeInferer(model, data, QUICK, subsamples=2, rounds=1) for data in (signed, other))
    for inferer in (first, second):
        inferer.fit([(x, y)], verbose=False)
    assert first.evaluate()["sign"].tolist() == second.evaluate()["sign"].tolist()


def test_the_same_seed_gives_the_same_and_another_does_not():
    x, y = samples(40, dtype=torch.float32)
    first, again, other = (fitted(x, y, seed=seed).score_matrix() for seed in (3, 3, 4))
    assert np.array_equal(first, again, equal_nan=True)
    assert not np.array_equal(first, other, equal_nan=True)


def test_models_that_share_weights_between_functions_are_trained_one_by_one():
    x, y = samples(24, dtype=torch.float32)
    model = gsnn(norm="none", dtype=torch.float32, node_mlp=True)
    assert np.nanmax(fitted(x, y, model=model, subsamples=2, rounds=1).evaluate()["entered"]) > 0


def test_missing_responses_and_halves_of_different_sizes():
    x, y = samples(31, dtype=torch.float32)
    x = torch.cat([x, x[:1].repeat(9, 1)])
    y = torch.cat([y, y[:1].repeat(9, 1)])
    y[::3, 0] = torch.nan
    assert np.isfinite(fitted(x, y).evaluate().loc[lambda t: ~t["has_edge"], "score"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subsamples": 3}, "subsamples must be even"),
        ({"subsamples": 0}, "subsamples must be an integer of at least 2"),
        ({"rounds": 0}, "rounds must be an integer of at least 1"),
        ({"per_round": True}, "per_round must be an integer"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        StabilityEdgeInferer(gsnn(), small_graph(), **options)


def test_too_few_conditions_are_refused():
    x, y = samples(3, dtype=torch.float32)
    inferer = StabilityEdgeInferer(gsnn(), small_graph(), QUICK)
    with pytest.raises(ValueError, match="there are 3 distinct treatments, and halves need at least 4"):
        inferer.fit([(x.repeat(5, 1), y.repeat(5, 1))], verbose=False)
    with pytest.raises(RuntimeError, match="not fitted"):
        inferer.scored()
    for n in (4, 5):
        x, y = samples(n, dtype=torch.float32)
        with pytest.raises(ValueError, match=f"half of {n} distinct treatments can be 2 samples; give at least 3"):
            inferer.fit([(x, y)], verbose=False)
