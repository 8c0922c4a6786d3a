"""Model, batches and inferers: what must not matter does not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from gsnn.data import PerturbationData
from gsnn.edges import GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.nn import GSNN
from gsnn.nn.losses import masked_mse
from gsnn.training import Batches

from .strategies import dense_graphs, examples, seeds, split_points


def made(graph, seed, dtype=torch.float64, samples=10, **options):
    """A model on a graph, with inputs and targets."""
    options = {"channels": 2, "layers": 3, "norm": "none", "dropout": 0.0} | options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GSNN.from_graph(graph, **options).to(dtype).eval()
        return model, torch.randn(samples, graph.I, dtype=dtype), torch.randn(samples, graph.O, dtype=dtype)


def fitted(kind, model, graph, x, y, parts=(slice(None),), crit=None):
    inferer = kind(model, graph)
    loader = [(x[part], y[part]) for part in parts if len(x[part])]
    inferer.fit(loader, crit, verbose=False, loss_reduction="mean")
    return inferer


def assert_scores(a, b, tolerance=1e-9):
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


norms = st.sampled_from(["none", "layer", "batch", "groupbatch", "softmax", "rms", "ema"])


@examples()
@given(dense_graphs(), seeds, norms, st.data())
def test_a_row_is_predicted_alone(graph, seed, norm, data):
    model, x, _ = made(graph, seed, norm=norm)
    with torch.no_grad():
        whole = model(x)
        parts = [model(x[part]) for part in data.draw(split_points(10)) if len(x[part])]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=1e-12)


@examples()
@given(dense_graphs(), seeds, st.randoms(use_true_random=False))
def test_order_of_rows_goes_through(graph, seed, random):
    model, x, _ = made(graph, seed)
    order = list(range(len(x)))
    random.shuffle(order)
    with torch.no_grad():
        torch.testing.assert_close(model(x[order]), model(x)[order], rtol=1e-12, atol=1e-12)


@examples()
@given(dense_graphs(), seeds, norms)
def test_single_precision_follows_double(graph, seed, norm):
    model, x, _ = made(graph, seed, norm=norm)
    with torch.no_grad():
        exact = model(x)
        single = model.float()(x.float()).double()
    assert (single - exact).abs().max() <= 1e-4 * (1 + exact.abs().max())


@examples()
@given(dense_graphs(), seeds)
def test_outputs_see_the_inputs_that_reach_them(graph, seed):
    import networkx as nx

    layers = 3
    model, x, _ = made(graph, seed, layers=layers, add_function_self_edges=False, residual=False)
    G = graph.to_networkx()
    for i, name in enumerate(graph.inputs):
        changed = x.clone()
        changed[:, i] += 1
        with torch.no_grad():
            moved = (model(changed) != model(x)).any(0)
        for o, output in enumerate(graph.outputs):
            if not nx.has_path(G, name, output):
                assert not moved[o], f"{output} follows {name} without a path"


@examples()
@given(st.integers(1, 30), st.integers(1, 12), st.one_of(st.none(), st.integers(0, 99)), st.integers(0, 5))
def test_batches_part_the_samples(samples, size, seed, epoch):
    x = torch.arange(float(samples))[:, None]
    batches = Batches(x, x, size, seed=seed)
    batches.epoch = epoch
    drawn = [part.ravel().tolist() for part, _ in batches]
    assert sorted(row for part in drawn for row in part) == list(range(samples))
    assert len(drawn) == len(batches)
    assert all(len(part) <= size + 1 for part in drawn)
    assert samples == 1 or size == 1 or all(len(part) > 1 for part in drawn)


@examples()
@given(st.integers(4, 40), st.integers(1, 4), st.integers(4, 12), seeds)
def test_processes_share_every_batch(samples, processes, size, seed):
    x = torch.arange(float(samples))[:, None]
    size = min(size, samples)
    assume(size >= processes)

    def parts(rank):
        batches = Batches(x, x, size, seed=seed)
        batches.share(rank, processes)
        return [part.ravel().tolist() for part, _ in batches]

    shared = [parts(rank) for rank in range(processes)]
    assert len({len(each) for each in shared}) == 1
    for together in zip(*shared, strict=True):
        assert all(together), "every process has a row of every batch"
    assert sorted(v for each in shared for part in each for v in part) == list(range(samples))


@examples()
@given(dense_graphs(), seeds, st.floats(0.1, 0.4), st.floats(0.1, 0.4), st.integers(4, 25), st.integers(0, 99))
def test_splits_part_the_samples_and_keep_conditions_together(graph, seed, test, validation, samples, split_seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, size=(samples, graph.I)).astype(float)
    data = PerturbationData(
        graph,
        pd.DataFrame(x, columns=graph.inputs),
        pd.DataFrame(rng.normal(size=(samples, graph.O)), columns=graph.outputs),
    )
    try:
        split = data.split(seed=split_seed, test=test, validation=validation)
    except ValueError:
        return
    parts = [split.train, split.validation, split.test]
    assert sorted(int(i) for part in parts for i in part) == list(range(samples))
    assert all(len(part) for part in parts)
    if split.by == "condition":
        seen = [{tuple(x[i]) for i in part} for part in parts]
        assert sum(map(len, seen)) == len(set().union(*seen))


# ---------------------------------------------------------------- inferers


@examples(0.5)
@given(dense_graphs(), seeds, st.data())
def test_magnitude_scores_forget_the_batches(graph, seed, data):
    model, x, y = made(graph, seed)
    whole = fitted(MagnitudeEdgeInferer, model, graph, x, y)
    parts = fitted(MagnitudeEdgeInferer, model, graph, x, y, data.draw(split_points(10)))
    assert_scores(parts.score_matrix(), whole.score_matrix())


@examples(0.5)
@given(dense_graphs(), seeds, st.randoms(use_true_random=False))
def test_scores_forget_the_order_of_samples(graph, seed, random):
    model, x, y = made(graph, seed)
    order = list(range(10))
    random.shuffle(order)
    for kind, options in ((MagnitudeEdgeInferer, {}), (GradientEdgeInferer, {"score": "explained"})):
        first, second = fitted(kind, model, graph, x, y), fitted(kind, model, graph, x[order], y[order])
        assert_scores(second.score_matrix(**options), first.score_matrix(**options))


@examples(0.5)
@given(dense_graphs(), seeds, st.data())
def test_gradient_scores_forget_the_batches(graph, seed, data):
    model, x, y = made(graph, seed)
    parts = data.draw(split_points(10))
    for options in ({"score": "explained", "layer_agg": "rss"}, {"score": "regressed"}):
        found = [fitted(GradientEdgeInferer, model, graph, x, y, cut) for cut in ((slice(None),), parts)]
        assert_scores(*(inferer.score_matrix(**options) for inferer in found), tolerance=1e-7)


@examples(0.5)
@given(dense_graphs(), seeds, st.sampled_from([1e-12, 1e-6, 3.0, 1e9]))
def test_units_of_the_loss_do_not_matter(graph, seed, factor):
    model, x, y = made(graph, seed)
    plain = fitted(MagnitudeEdgeInferer, model, graph, x, y, crit=masked_mse).score_matrix()
    scaled = fitted(MagnitudeEdgeInferer, model, graph, x, y, crit=lambda p, t: masked_mse(p, t) * factor)
    assert_scores(scaled.score_matrix(), plain)


@examples(0.5)
@given(dense_graphs(), seeds, st.lists(st.integers(0, 10), min_size=2, max_size=2).map(sorted))
def test_merging_inferers_is_associative(graph, seed, cuts):
    model, x, y = made(graph, seed)
    parts = [part for part in (slice(0, cuts[0]), slice(cuts[0], cuts[1]), slice(cuts[1], 10)) if len(x[part])]
    assume(len(parts) == 3)
    whole = fitted(MagnitudeEdgeInferer, model, graph, x, y).score_matrix()

    def of(k):
        return fitted(MagnitudeEdgeInferer, model, graph, x, y, [parts[k]])

    assert_scores(of(0).merge(of(1)).merge(of(2)).score_matrix(), whole)
    assert_scores(of(2).merge(of(1).merge(of(0))).score_matrix(), whole)


@examples(0.5)
@given(dense_graphs(), seeds)
def test_scores_are_correlations_of_candidates(graph, seed):
    model, x, y = made(graph, seed)
    score = fitted(MagnitudeEdgeInferer, model, graph, x, y).score_matrix()
    seen = score[~np.isnan(score)]
    assert (np.abs(seen) <= 1 + 1e-12).all()
    assert score.shape == (graph.N, graph.N)
