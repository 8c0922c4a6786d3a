"""Means and sums over samples are told apart, and every other loss is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gsnn.edges import MagnitudeEdgeInferer
from gsnn.edges.capture import capture
from gsnn.edges.loss_scale import LossScale
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.nn.losses import MaskedMSELoss, masked_mse

MSE = torch.nn.MSELoss()
OUTPUTS = 3
WEIGHTS = torch.tensor([0.2, 1.0, 5.0])


def sentinel_mean(prediction, target):
    """A masked error as users write it: over what is observed, -9 standing for what is not."""
    return (prediction - target).square()[target != -9].mean()


def pearson(prediction, target):
    a, b = (v - v.mean(0) for v in (prediction, target))
    return 1 - ((a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0))).mean()


def classes(target):
    return torch.softmax(target, dim=1)


# Means over samples, whatever they do within one.
MEANS = {
    "mse": MSE,
    "l1": F.l1_loss,
    "huber": torch.nn.HuberLoss(delta=0.3),
    "smooth l1": F.smooth_l1_loss,
    "log cosh": lambda p, t: torch.log(torch.cosh(p - t)).mean(),
    "binary cross entropy": lambda p, t: F.binary_cross_entropy_with_logits(p, t.sigmoid()),
    "cross entropy": lambda p, t: F.cross_entropy(p, classes(t)),
    "cross entropy, class numbers": lambda p, t: F.cross_entropy(p, t.argmax(1)),
    "kl, batchmean": lambda p, t: F.kl_div(torch.log_softmax(p, 1), classes(t), reduction="batchmean"),
    "poisson": lambda p, t: F.poisson_nll_loss(p, t.exp()),
    "cosine": lambda p, t: 1 - F.cosine_similarity(p, t, dim=1).mean(),
    "readouts weighted": lambda p, t: ((p - t).square() * WEIGHTS.to(p)).mean(),
    "tiny": lambda p, t: MSE(p, t) * 1e-12,
    "huge": lambda p, t: MSE(p, t) * 1e12,
    "negative": lambda p, t: -MSE(p, t),
    "mean of predictions": lambda p, t: p.mean(),
    "constant added": lambda p, t: MSE(p, t) + 1 / len(p),
    "roots of samples": lambda p, t: ((p - t).square().mean(1) + 1).sqrt().mean(),
    "float32 inside": lambda p, t: MSE(p.float(), t.float()),
    "ours": masked_mse,
    "our module": MaskedMSELoss(),
}
SUMS = {
    "squares": torch.nn.MSELoss(reduction="sum"),
    "absolute": torch.nn.L1Loss(reduction="sum"),
    "fixed divisor": lambda p, t: (p - t).square().sum() / 64,
    "masked sum": lambda p, t: (p - t).square()[t != -9].sum(),
    "cross entropy, weighted": lambda p, t: F.cross_entropy(p, t.argmax(1), weight=WEIGHTS.to(p), reduction="sum"),
    "sum of predictions": lambda p, t: p.sum(),
    "value always 0": lambda p, t: (p - p.detach()).sum(),
}
NEITHER = {
    "rmse": lambda p, t: MSE(p, t).sqrt(),
    "rmse of each readout": lambda p, t: (p - t).square().mean(0).sqrt().mean(),
    "pearson": pearson,
    "r2": lambda p, t: ((p - t).square().sum(0) / (t - t.mean(0)).square().sum(0)).mean(),
    "largest": lambda p, t: (p - t).square().max(),
    "median": lambda p, t: (p - t).square().mean(1).median(),
    "squared mean": lambda p, t: MSE(p, t).square(),
    "log of the mean": lambda p, t: MSE(p, t).log(),
    "sum over root n": lambda p, t: (p - t).square().sum() / len(p) ** 0.5,
    "masked mean": sentinel_mean,
    "cross entropy, weighted": lambda p, t: F.cross_entropy(p, t.argmax(1), weight=WEIGHTS.to(p)),
    "variance of errors": lambda p, t: (p - t).var(0).mean(),
    "variance penalty": lambda p, t: MSE(p, t) + 0.01 * p.var(0).mean(),
    "order of samples": lambda p, t: MSE(p, t) + (p[1:] - p[:-1]).square().sum(),
    "weights by position": lambda p, t: ((p - t).square().mean(1) * torch.arange(1.0, len(p) + 1).to(p)).mean(),
    "divided by itself": lambda p, t: MSE(p, t) / MSE(p, t).detach(),
    "random": lambda p, t: MSE(p + torch.randn_like(p), t),
}


def batch(n, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    prediction, target = (torch.randn(n, OUTPUTS, generator=generator).to(dtype) for _ in range(2))
    return prediction, target


def gappy(n, dtype=torch.float64, seed=0):
    """As :func:`batch`, a third of the first sample missing, by the sentinel."""
    prediction, target = batch(n, dtype, seed)
    target[0, 0] = -9
    return prediction, target


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", MEANS)
def test_means(name, dtype):
    for n in (2, 3, 5, 8, 64, 201):
        scale = LossScale()
        assert scale.factor(MEANS[name], *batch(n, dtype, seed=n)) == n
        assert scale.reduction == "mean"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", SUMS)
def test_sums(name, dtype):
    for n in (2, 3, 5, 8, 64, 201):
        scale = LossScale()
        assert scale.factor(SUMS[name], *gappy(n, dtype, seed=n)) == 1.0
        assert scale.reduction == "sum"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NEITHER)
def test_all_others_are_refused(name, dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for n in (5, 8, 64, 201):
            with pytest.raises(ValueError, match=r"neither a mean nor a sum over samples.*loss_reduction="):
                LossScale().factor(NEITHER[name], *gappy(n, dtype, seed=n))


@settings(deadline=None, max_examples=60)
@given(n=st.integers(2, 40), seed=st.integers(0, 10**6), name=st.sampled_from(sorted(MEANS) + sorted(SUMS)))
def test_the_factor_gives_each_sample_its_own_gradient(n, seed, name):
    """The oracle: the loss of each row alone."""
    crit = MEANS.get(name) or SUMS[name]
    prediction, target = batch(n, seed=seed)
    factor = LossScale().factor(crit, prediction, target)

    def gradient(rows):
        leaf = prediction[rows].clone().requires_grad_()
        return torch.autograd.grad(crit(leaf, target[rows]), leaf)[0]

    alone = torch.cat([gradient(slice(b, b + 1)) for b in range(n)])
    torch.testing.assert_close(factor * gradient(slice(None)), alone, rtol=2e-6, atol=1e-12 * float(alone.abs().max()))


@settings(deadline=None, max_examples=40)
@given(n=st.integers(3, 60), seed=st.integers(0, 10**6))
def test_a_root_is_refused_whatever_the_batch(n, seed):
    with pytest.raises(ValueError, match="neither"):
        LossScale().factor(NEITHER["rmse"], *batch(n, torch.float32, seed))


def test_parts_with_the_same_error_do_not_let_a_root_pass():
    """Halves of equal error, in any order of the rows, make a root of a mean look like a mean over samples."""
    target = torch.zeros(8, 1)
    for errors in ([1.0, 2, 3, 4, 1, 2, 3, 4], [1.0, 1, 2, 2, 3, 3, 4, 4], [1.0, 2, 1, 2, 1, 2, 1, 2]):
        prediction = torch.tensor(errors)[:, None]
        halves = [NEITHER["rmse"](prediction[rows], target[rows]) for rows in (slice(0, 4), slice(4, 8))]
        whole = NEITHER["rmse"](prediction, target)
        assert abs(sum(halves) / 2 - whole) < 0.2 * whole
        with pytest.raises(ValueError, match="neither"):
            LossScale().factor(NEITHER["rmse"], prediction, target)


def test_every_batch_is_looked_at():
    """Whole batches make a mean over the observed values a mean over samples; a later batch with a gap shows it."""
    scale = LossScale()
    assert scale.factor(sentinel_mean, *batch(6)) == 6.0
    with pytest.raises(ValueError, match=r"neither a mean nor a sum over samples, as in earlier batches.*a mean"):
        scale.factor(sentinel_mean, *gappy(6))
    # Rows of equal error are no proof either.
    ones = torch.ones(6, 1)
    scale = LossScale()
    assert scale.factor(NEITHER["rmse"], ones, 0 * ones) == 6.0
    with pytest.raises(ValueError, match="earlier batches"):
        scale.factor(NEITHER["rmse"], torch.arange(6.0)[:, None], 0 * ones)


def test_a_batch_without_gradient_tells_nothing():
    zero, one = torch.zeros(4, 1), torch.ones(4, 1)
    scale = LossScale()
    assert scale.factor(MSE, zero, zero) is None
    assert scale.factor(lambda p, t: torch.zeros(()), one, zero) is None
    assert scale.reduction is None
    assert scale.factor(MSE, zero, one) == 4.0
    assert scale.factor(MSE, zero, zero) is None
    assert scale.factor(MSE, one[:1], zero[:1]) == 1.0


def test_half_precision_is_looked_at_in_single():
    for dtype in (torch.float16, torch.bfloat16):
        prediction, target = batch(9, dtype)
        assert LossScale().factor(MSE, prediction, target) == 9.0
        with pytest.raises(ValueError, match="neither"):
            LossScale().factor(NEITHER["rmse"], prediction, target)


def test_a_root_at_0_is_named():
    target = torch.zeros(4, 1)
    with pytest.raises(ValueError, match=r"infinite or NaN.*a root of 0"):
        LossScale().factor(lambda p, t: (p - t).square().sum(1).sqrt().mean(), target, target)


def test_a_loss_for_one_size_of_batch_says_so():
    fixed = torch.ones(6, OUTPUTS, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"crit failed on 2 of the 6 rows.*loss_reduction="):
        LossScale().factor(lambda p, t: ((p - t).square() * fixed).mean(), *batch(6))


@pytest.fixture
def model():
    graph = Graph.from_edges(
        [("x0", "a"), ("x1", "b"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "y0"), ("b", "y1"), ("a", "y2")],
        input_nodes=["x0", "x1"],
        function_nodes=["a", "b", "c"],
        output_nodes=["y0", "y1", "y2"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GSNN.from_graph(graph, channels=2, layers=3), graph


def test_scores_follow_no_batch_size(model):
    """What passes gives the same scores in batches of any size; what would not is refused."""
    model, graph = model
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(1))
    _, y = batch(60, torch.float32)

    def scores(crit, size, **options):
        inferer = MagnitudeEdgeInferer(model, graph)
        inferer.fit(zip(x.split(size), y.split(size), strict=True), crit, verbose=False, **options)
        return torch.as_tensor(inferer.score_matrix()).nan_to_num()

    for crit in (F.l1_loss, SUMS["absolute"], MEANS["huber"]):
        torch.testing.assert_close(scores(crit, 60), scores(crit, 7), rtol=1e-4, atol=1e-4)
    for name in ("rmse", "pearson"):
        with pytest.raises(ValueError, match=r"batch 0: crit is neither"):
            scores(NEITHER[name], 20)
    # What the refusal is for.
    apart = (
        scores(NEITHER["rmse"], 60, loss_reduction="mean") - scores(NEITHER["rmse"], 2, loss_reduction="mean")
    ).abs()
    assert float(apart.max()) > 100 * 1e-4


def test_a_loss_cut_off_from_the_prediction_is_refused(model):
    model, _ = model
    x, (_, y) = torch.randn(6, 2, generator=torch.Generator().manual_seed(1)), batch(6, torch.float32)
    for crit in (
        lambda p, t: (p.argmax(1) != t.argmax(1)).float().mean() + 1,
        lambda p, t: MSE(p.detach(), t),
        lambda p, t: torch.tensor((p - t).abs().mean().item()),
        lambda p, t: t.square().mean(),
    ):
        with pytest.raises(ValueError, match="without a gradient by the prediction; use a criterion"):
            capture(model, x, y, crit)
    # A batch that holds nothing to lose is none of these.
    seen = capture(model, x, y, lambda p, t: torch.zeros(()))
    assert not any(g.any() for g in seen.gradients)
    # Steps are differentiable, with a gradient of 0.
    seen = capture(model, x, y, lambda p, t: torch.sign(p - t).sum() + 0.5)
    assert not any(g.any() for g in seen.gradients)
