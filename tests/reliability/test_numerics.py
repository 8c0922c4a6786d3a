"""How far the numbers can be trusted: bounds of float32, and the inputs on which the textbook formula fails."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from gsnn.data import PerturbationData, Standardiser
from gsnn.edges import GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.edges.stats import PairMoments, constant_columns, correlation, inverse_norms, upper_tail
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.nn.losses import masked_mse
from gsnn.runs import Run
from gsnn.training import TrainConfig, TrainingError, fit
from gsnn.training.checkpoint import SafetensorsCheckpointIO

from ..edges.worlds import batches, gsnn, samples, small_graph

# ---------------------------------------------------------------- float32 against float64

# What docs/reliability.md states.
FORWARD = 1e-5  # of the largest prediction
MAGNITUDE = 1e-4  # of a correlation
EXPLAINED = 1e-4  # of a share
# Of a correlation too, but of what is left of activations that nearly repeat one another: few digits of single ones.
REGRESSED, REGRESSED_OF_MOST = 0.1, 1e-3
MOVED = 0.01  # of the number of candidates, the mean change of a rank


@pytest.fixture(scope="module")
def larger():
    """40 functions, 6 inputs, 5 outputs, 300 samples, a model that has been trained a little; in float64."""
    rng = np.random.default_rng(5)
    functions = [f"f{i}" for i in range(40)]
    edges = [(functions[i], functions[j]) for i, j in rng.integers(0, 40, (120, 2)) if i != j]
    edges += [(f"x{i}", functions[j]) for i in range(6) for j in rng.integers(0, 40, 3)]
    edges += [(functions[j], f"y{i}") for i in range(5) for j in rng.integers(0, 40, 3)]
    names = {"input_nodes": [f"x{i}" for i in range(6)], "output_nodes": [f"y{i}" for i in range(5)]}
    graph = Graph.from_edges(edges, function_nodes=functions, **names)
    x = torch.from_numpy(rng.normal(size=(300, 6)))
    y = torch.tanh(x @ torch.from_numpy(rng.normal(size=(6, 5)))) + 0.1 * torch.from_numpy(rng.normal(size=(300, 5)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GSNN.from_graph(graph, channels=4, layers=5, norm="groupbatch", share_layers=False).double()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(20):
            optimiser.zero_grad()
            masked_mse(model(x), y).backward()
            optimiser.step()
    return graph, model.eval(), x, y


def in_both(larger, ask):
    """What a function of (graph, model, x, y) gives in float64 and in float32, as float64."""
    graph, model, x, y = larger
    single = GSNN.from_graph(graph, channels=4, layers=5, norm="groupbatch", share_layers=False)
    single.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in model.state_dict().items()})
    found = ask(graph, model, x, y), ask(graph, single.eval(), x.float(), y.float())
    return tuple(np.asarray(each, dtype=np.float64) for each in found)


def test_predictions_in_single_precision(larger):
    exact, single = in_both(larger, lambda graph, model, x, y: model(x).detach().numpy())
    assert np.abs(single - exact).max() <= FORWARD * np.abs(exact).max()


@pytest.mark.parametrize(
    ("kind", "options", "bound"),
    [
        (MagnitudeEdgeInferer, {}, MAGNITUDE),
        (GradientEdgeInferer, {"score": "explained", "layer_agg": "rss"}, EXPLAINED),
        (GradientEdgeInferer, {"score": "regressed"}, REGRESSED),
    ],
    ids=["magnitude", "explained", "regressed"],
)
def test_scores_in_single_precision(larger, kind, options, bound):
    def ask(graph, model, x, y):
        inferer = kind(model, graph)
        inferer.fit(batches(x, y, 64), masked_mse, verbose=False)
        return inferer.score_matrix(**options)

    exact, single = in_both(larger, ask)
    seen = ~np.isnan(exact)
    assert (np.isnan(single) == np.isnan(exact)).mean() > 0.99
    seen &= ~np.isnan(single)
    difference = np.abs(single - exact)[seen]
    assert difference.max() <= bound
    assert np.quantile(difference, 0.99) <= min(bound, REGRESSED_OF_MOST)
    ranks = [scipy.stats.rankdata(-each[seen]) for each in (exact, single)]
    assert np.abs(ranks[0] - ranks[1]).mean() <= MOVED * seen.sum()


# ---------------------------------------------------------------- where the textbook formula fails


def naive_correlation(x, y):
    """The one-pass formula: sums of products minus the product of the sums."""
    n = len(x)
    with np.errstate(all="ignore"):
        cross = (x * y).sum() - x.sum() * y.sum() / n
        spread = ((x**2).sum() - x.sum() ** 2 / n) * ((y**2).sum() - y.sum() ** 2 / n)
        return cross / np.sqrt(spread)


def ours(x, y, size=7):
    """The streaming one, in blocks; NaN where a side is constant."""
    moments = PairMoments(1, 1, torch.from_numpy(x).dtype, buffer_rows=size)
    for start in range(0, len(x), size):
        moments.update(*(torch.from_numpy(v[start : start + size])[None, None] for v in (x, y)))
    eps = float(torch.finfo(torch.from_numpy(x).dtype).eps)
    sides = [(moments.mean_x, moments.ss_x), (moments.mean_y, moments.ss_y)]
    constant = [constant_columns(mean.numpy()[0], ss.numpy()[0], len(x), eps) for mean, ss in sides]
    norms = [inverse_norms(ss.numpy()[0], c) for (_, ss), c in zip(sides, constant, strict=True)]
    return correlation(moments.cross.numpy()[0], *norms)[0, 0]


def correlated(n=200, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, 0.6 * x + 0.8 * rng.normal(size=n)


@pytest.mark.parametrize("offset", [1e8, -1e8])
def test_huge_offset(offset):
    x, y = correlated()
    expected = np.corrcoef(x, y)[0, 1]
    assert not abs(naive_correlation(x + offset, y + offset) - expected) < 0.01, "the naive formula fails"
    assert abs(ours(x + offset, y + offset) - expected) < 1e-7  # x + 1e8 itself keeps eight digits of x


def test_huge_offset_in_single_precision():
    x, y = correlated()
    a, b = (x + 1e3).astype(np.float32), (y + 1e3).astype(np.float32)
    expected = np.corrcoef(a.astype(np.float64), b.astype(np.float64))[0, 1]
    assert not abs(naive_correlation(a, b) - expected) < 0.01, "the naive formula fails"
    assert abs(ours(a, b) - expected) < 1e-4


def test_nearly_constant_column():
    x, y = correlated()
    near = 1 + 1e-9 * x
    expected = np.corrcoef(x, y)[0, 1]
    assert not abs(naive_correlation(near, y) - expected) < 0.01, "the naive formula fails"
    assert abs(ours(near, y) - expected) < 1e-6


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8, 1e-300])
def test_constant_column_is_undefined(value):
    """The mean of 0.1 is not 0.1: what rounding leaves must not pass for a variance."""
    _, y = correlated()
    x = np.full(200, value)
    assert np.isnan(ours(x, y))


@pytest.mark.parametrize("scale", [1e-12, 1e-100, 1e100])
def test_tiny_and_huge_units(scale):
    x, y = correlated()
    expected = np.corrcoef(x, y)[0, 1]
    if scale != 1e-12:
        assert not abs(naive_correlation(x * scale, y * scale) - expected) < 0.01, "the naive formula fails"
    assert abs(ours(x * scale, y * scale) - expected) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1e-12, 1e-24])
def test_tiny_losses(dtype, scale):
    x, y = samples(60, dtype=dtype)
    model, graph = gsnn(dtype=dtype), small_graph()

    def magnitudes(factor):
        inferer = MagnitudeEdgeInferer(model, graph)
        inferer.fit(batches(x, y, 20), lambda p, t: masked_mse(p, t) * factor, verbose=False, loss_reduction="mean")
        return inferer.score_matrix()

    expected, found = magnitudes(1.0), magnitudes(scale)
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 if dtype == torch.float64 else 1e-4)
    if dtype == torch.float32 and scale == 1e-24:
        gradient = torch.full((20,), scale, dtype=dtype)
        assert float((gradient**2).sum()) == 0, "the naive sum of squares underflows"


def test_standardising_far_from_zero():
    rng = np.random.default_rng(0)
    y = 1e8 + rng.normal(size=(50, 2))
    naive = (y**2).mean(0) - y.mean(0) ** 2
    assert not (np.abs(naive / y.var(0) - 1) < 0.01).all(), "the naive variance fails"
    z = Standardiser.fit(y).transform(y)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(0, ddof=1), 1, atol=1e-6)


@pytest.mark.parametrize("z", [9.0, 20.0, 37.0])
def test_far_tails(z):
    assert 1 - scipy.stats.norm.cdf(z) == 0, "the naive tail is 0"
    assert float(upper_tail(np.array([z]))[0]) == pytest.approx(scipy.stats.norm.sf(z), rel=1e-9)


# ---------------------------------------------------------------- losses that explode, responses that are missing


def problem(samples=40):
    graph = Graph.from_edges(
        [("x", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("b", "y"), ("c", "z")],
        input_nodes=["x"],
        function_nodes=["a", "b", "c"],
        output_nodes=["y", "z"],
    )
    rng = np.random.default_rng(1)
    x = rng.normal(size=(samples, 1))
    y = np.concatenate([np.tanh(x), x**2], 1) + 0.1 * rng.normal(size=(samples, 2))
    return PerturbationData(graph, pd.DataFrame(x, columns=["x"]), pd.DataFrame(y, columns=["y", "z"]))


@pytest.mark.slow
def test_a_loss_that_explodes_stops_and_keeps_the_last_good_state(tmp_path):
    data = problem()
    options = {"epochs": 30, "channels": 3, "layers": 3, "norm": "none", "batch_size": 8, "dropout": 0.0}
    options |= {"validation": 0.2, "patience": 30}  # a part that is watched, so that there is a loss of it to keep
    for number, lr in enumerate((10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)):
        config = TrainConfig(**options, lr=lr)
        run = Run.create(tmp_path / str(number), config=config, data=data)
        try:
            fit(data, config, run, progress=False)
        except TrainingError as error:
            if run.metrics_path.is_file():
                told = str(error)
                break
    else:
        pytest.fail("no learning rate made the loss explode after the first epoch")
    epochs = len(run.metrics())
    assert f"in epoch {epochs + 1}" in told
    assert "batch " in told or "weight" in told or "validation" in told
    assert "lower lr" in told
    again = Run.open(run.path)
    assert again.status == "training"
    assert np.isfinite(again.metrics()[["train_loss", "val_loss"]].to_numpy()).all()
    kept = SafetensorsCheckpointIO().load_checkpoint(run.checkpoint_path)
    assert all(bool(torch.isfinite(value).all()) for value in kept["state_dict"].values())
    # The naive loop goes on, and ends with a model of NaN.
    naive = torch.nn.Linear(1, 1)
    optimiser = torch.optim.SGD(naive.parameters(), lr=lr * 1e6)
    x = torch.tensor(data.x, dtype=torch.float32)
    for _ in range(60):
        optimiser.zero_grad()
        (naive(x) ** 2).mean().backward()
        optimiser.step()
    assert not torch.isfinite(naive.weight).all(), "the naive loop fails"


def test_a_readout_that_was_never_measured_changes_nothing_else():
    x, y = samples(60)
    model, graph = gsnn(), small_graph()
    missing = y.clone()
    missing[:, 1] = float("nan")
    assert torch.isnan(torch.nn.functional.mse_loss(model(x), missing)), "the naive loss fails"
    model.eval()
    known = y.clone()
    known[:, 1] = model(x)[:, 1].detach()  # nothing to learn from it

    def scores(target):
        inferer = MagnitudeEdgeInferer(model, graph)
        inferer.fit(batches(x, target, 16), verbose=False)
        return inferer.score_matrix()

    found = scores(missing)
    assert np.isfinite(found).any()
    np.testing.assert_allclose(found, scores(known), rtol=0, atol=1e-9)


def test_without_any_response_everything_is_undefined():
    x, y = samples(30)
    inferer = MagnitudeEdgeInferer(gsnn(), small_graph())
    inferer.fit(batches(x, y * float("nan"), 10), verbose=False, loss_reduction="mean")
    assert np.isnan(inferer.score_matrix(layer_agg="mean")).all()
    assert float(masked_mse(torch.zeros(3, 2), torch.full((3, 2), float("nan")))) == 0


def test_a_readout_without_values_has_no_figures(tmp_path):
    data = problem()
    outputs = data.outputs.copy()
    outputs["z"] = np.nan
    result = fit(
        PerturbationData(data.graph, data.inputs, outputs),
        TrainConfig(epochs=2, channels=2, layers=2, norm="layer"),
        progress=False,
    )
    figures = result.report.readouts.set_index("readout")
    assert figures.loc["z"].drop("n").isna().all()
    assert np.isfinite(result.history["train_loss"]).all()
    assert all(torch.isfinite(p).all() for p in result.model.parameters())
