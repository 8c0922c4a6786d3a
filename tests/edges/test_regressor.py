"""The online regressor: the loop's order, its loss and optimum, and that nothing of it stays behind."""

from __future__ import annotations

import copy
import gc
import math
import weakref

import numpy as np
import pytest
import torch

from gsnn.edges import MagnitudeEdgeRegressor
from gsnn.edges.capture import capture

from .worlds import FUNCTIONS, batches, gsnn, samples, small_graph

MSE = torch.nn.MSELoss()
AGG = {
    "sum": lambda v: v.sum(1),
    "max": lambda v: v.max(1),
    "mean": lambda v: v.mean(1),
    "l2": lambda v: np.sqrt((v**2).sum(1)),
}


def step(regressor, model, x, y, optimiser=None, scale=1.0):
    regressor.pre_forward()
    loss = MSE(model(x), y) * scale
    regressor.arm_retained_grads()
    model.zero_grad()
    loss.backward()
    result = regressor.aux_step()
    if optimiser is not None:
        optimiser.step()
    return result


def hooks(model):
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_always_called")
    return sum(len(getattr(module, name)) for module in model.modules() for name in names)


def zscore(v):
    """(N, B) by row; constant rows become 0."""
    mean, sd = v.mean(1, keepdims=True), v.std(1, keepdims=True)
    spread = np.maximum(sd, 1e-4 * abs(mean))
    return np.divide(v - mean, spread, out=np.zeros_like(v), where=spread > 0)


def terms(model, x, y, aggregators, where="pre"):
    """[(x (B, N), y (B, N))] of every term, from the shared capture in eval mode."""
    seen = capture(model, x, y, MSE, where=where)
    shape = (model.N, -1, len(x))
    found = []
    for how in aggregators:
        for a, g in zip(seen.activations[:-1], seen.gradients[1:], strict=True):
            feature = AGG[how](np.abs(a.double().numpy()).reshape(shape))
            target = np.abs(g.double().numpy()).reshape(shape).sum(1)
            found.append((zscore(feature).T, zscore(target).T))
    return found


@pytest.mark.parametrize("aggregators", [("sum", "max"), ("mean",), ("l2", "sum", "max", "mean")])
@pytest.mark.parametrize("tap", ["pre", "post"])
@pytest.mark.parametrize("norm", ["none", "groupbatch"])
def test_loss_of_a_step_is_the_written_one(aggregators, tap, norm):
    x, y = samples(20)
    model = gsnn(norm=norm).eval()
    regressor = MagnitudeEdgeRegressor(
        model, small_graph(), aggregators=aggregators, use_pre_norm=tap == "pre", ridge=0.3
    ).double()
    w = regressor.W.detach().numpy().copy()
    expected = sum(((a @ w - b) ** 2).mean() for a, b in terms(model, x, y, aggregators, tap))
    result = step(regressor, model, x, y)
    assert result["n_terms"] == len(aggregators) * 3
    assert result["aux_loss"] == pytest.approx((expected + 0.3 * (w**2).sum()) / result["n_terms"], rel=1e-6)
    assert not np.array_equal(regressor.W.detach().numpy(), w)


@pytest.mark.slow
def test_gradient_of_w_vanishes_at_least_squares():
    x, y = samples(100)
    model = gsnn().eval()
    ridge = 0.05
    regressor = MagnitudeEdgeRegressor(model, small_graph(), ridge=ridge, lr=1e-3, weight_decay=0.0).double()
    pairs = terms(model, x, y, ("sum", "max"))
    n = regressor.N
    gram = sum(a.T @ a for a, _ in pairs) / (100 * n) + ridge * np.eye(n)
    best = np.linalg.solve(gram, sum(a.T @ b for a, b in pairs) / (100 * n))
    minimum = sum(((a @ best - b) ** 2).mean() for a, b in pairs) + ridge * (best**2).sum()
    regressor.fit([(x, y)], MSE, verbose=False, n_epochs=1)
    with torch.no_grad():
        regressor.W.copy_(torch.from_numpy(best))
    at_best = regressor.update(x, y, MSE)["aux_loss"] * regressor.n_terms
    assert at_best == pytest.approx(minimum, rel=1e-9)
    optimiser = regressor.optimizer.state[regressor.W]
    assert "exp_avg" in optimiser
    # From anywhere, many steps come to the same place.
    regressor.lr = 0.02
    regressor.fit([(x, y)], MSE, verbose=False, n_epochs=600)
    np.testing.assert_allclose(regressor.W.detach().numpy(), best, atol=5e-3)


def test_parameters_are_w_alone():
    model = gsnn()
    regressor = MagnitudeEdgeRegressor(model, small_graph())
    assert [(k, tuple(p.shape)) for k, p in regressor.named_parameters()] == [("W", (8, 8))]
    assert sum(p.numel() for p in regressor.parameters()) == regressor.N**2
    assert list(regressor.state_dict()) == ["W"]
    assert list(regressor.children()) == []
    regressor.eval()
    assert model.training
    bound = 0.1 * math.sqrt(6 / (2 * regressor.N))
    assert 0.8 * bound < regressor.W.abs().max() <= bound
    state = torch.get_rng_state()
    again = MagnitudeEdgeRegressor(model, small_graph())
    assert torch.equal(again.W, regressor.W)
    assert not torch.equal(MagnitudeEdgeRegressor(model, small_graph(), seed=1).W, regressor.W)
    assert torch.equal(torch.get_rng_state(), state)
    copy.deepcopy(regressor)


def train(model, with_regressors, steps=4):
    x, y = samples(40, dtype=torch.float32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    regressors = [MagnitudeEdgeRegressor(model, small_graph(), lr=lr) for lr in with_regressors]
    torch.manual_seed(0)
    for _ in range(steps):
        for r in regressors:
            r.pre_forward()
        loss = MSE(model(x), y)
        for r in regressors:
            r.arm_retained_grads()
        optimiser.zero_grad()
        loss.backward()
        for r in regressors:
            r.aux_step()
        optimiser.step()
    return [p.detach().clone() for p in model.parameters()], regressors


@pytest.mark.parametrize("checkpoint", [False, True])
def test_training_of_the_model_is_unchanged_and_regressors_are_independent(checkpoint):
    def model():
        return gsnn(dtype=torch.float32, norm="groupbatch", checkpoint=checkpoint, dropout=0.0)

    alone, _ = train(model(), ())
    watched, (one, two) = train(model(), (1e-2, 1e-1))
    # Watched, a model is computed step by step and not by the kernels: the same up to rounding.
    for a, b in zip(alone, watched, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    _, (single,) = train(model(), (1e-2,))
    assert torch.equal(single.W, one.W)
    assert not torch.equal(one.W, two.W)
    _, (plain,) = train(gsnn(dtype=torch.float32, norm="groupbatch", dropout=0.0), (1e-2,))
    torch.testing.assert_close(plain.W, one.W)


@pytest.mark.parametrize("frozen", ["all", "first"])
def test_frozen_parameters(frozen):
    x, y = samples(20)
    free, model = gsnn().eval(), gsnn().eval()
    parameters = list(model.parameters()) if frozen == "all" else list(model.blocks[0].parameters())
    for parameter in parameters:
        parameter.requires_grad_(False)
    one, two = (MagnitudeEdgeRegressor(m, small_graph()) for m in (free, model))
    assert step(one, free, x, y) == step(two, model, x, y)
    assert torch.equal(one.W, two.W)


def test_scale_of_the_loss_does_not_matter():
    x, y = samples(30, dtype=torch.float32)
    model = gsnn(dtype=torch.float32).eval()
    results = []
    for scale in (1.0, 1e-6, 1e4):
        regressor = MagnitudeEdgeRegressor(model, small_graph())
        results.append((step(regressor, model, x, y, scale=scale)["aux_loss"], regressor.W.detach().numpy()))
    for loss, w in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-5)
        np.testing.assert_allclose(w, results[0][1], atol=1e-4)


def test_order_of_the_calls():
    x, y = samples(10)
    model = gsnn()
    regressor = MagnitudeEdgeRegressor(model, small_graph())
    w = regressor.W.detach().clone()
    for call in (regressor.arm_retained_grads, regressor.aux_step):
        with pytest.raises(RuntimeError, match=r"pre_forward\(\) is missing"):
            call()
    regressor.pre_forward()
    for call in (regressor.arm_retained_grads, regressor.aux_step):
        with pytest.raises(RuntimeError, match=r"model\(x\) is missing"):
            call()
    loss = MSE(model(x), y)
    with pytest.raises(RuntimeError, match=r"arm_retained_grads\(\) is missing"):
        regressor.aux_step()
    regressor.arm_retained_grads()
    with pytest.raises(RuntimeError, match=r"loss.backward\(\) is missing"):
        regressor.aux_step()
    loss.backward()
    assert torch.equal(regressor.W, w)
    regressor.aux_step()
    with pytest.raises(RuntimeError, match=r"pre_forward\(\) is missing"):
        regressor.aux_step()
    # Backward before arming is as if it had not been.
    regressor.pre_forward()
    MSE(model(x), y).backward()
    regressor.arm_retained_grads()
    with pytest.raises(RuntimeError, match=r"loss.backward\(\) is missing"):
        regressor.aux_step()
    regressor.pre_forward()
    with torch.no_grad():
        model(x)
    with pytest.raises(RuntimeError, match="no_grad"):
        regressor.arm_retained_grads()
    assert hooks(model) == 0


def test_an_exception_leaks_no_hook_and_no_tensor():
    x, y = samples(10)
    model = gsnn()
    regressor = MagnitudeEdgeRegressor(model, small_graph())
    regressor.pre_forward()
    assert hooks(model) > 0
    with pytest.raises(ValueError, match="shape"):
        model(x[:, :1])
    assert hooks(model) == 0
    with pytest.raises(RuntimeError, match=r"model\(x\) is missing"):
        regressor.arm_retained_grads()

    held = []

    class Token:
        """Lives as long as the graph of the prediction."""

    def broken():
        regressor.pre_forward()
        out = model(x)
        out.grad_fn.next_functions[0][0].metadata["token"] = token = Token()
        held.append(weakref.ref(token))
        regressor.arm_retained_grads()
        raise KeyError

    with pytest.raises(KeyError):
        broken()
    gc.collect()
    assert hooks(model) == 0
    assert held[0]() is None
    regressor.pre_forward()
    regressor.abandon()
    assert hooks(model) == 0
    step(regressor, model, x, y)
    assert hooks(model) == 0
    assert regressor.W.grad is None


def test_a_bad_batch_leaves_w_alone():
    x, y = samples(10)
    regressor = MagnitudeEdgeRegressor(model := gsnn(), small_graph())
    w = regressor.W.detach().clone()
    with pytest.raises(ValueError, match="finite"):
        step(regressor, model, x, y, scale=float("inf"))
    assert torch.equal(regressor.W, w)


def test_columns_that_hardly_vary_are_not_blown_up():
    regressor = MagnitudeEdgeRegressor(gsnn(), small_graph())
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 8, 64, generator=generator)
    mean, std = torch.zeros(1, 8), torch.ones(1, 8)
    for tiny in (1e-20, 1.0):
        level = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])[None, :, None]
        spread = torch.tensor([0.0, 0.0, 1e-7, 1e-5, 1e-3, 0.1, 1.0, 2.0])[None, :, None]
        z = regressor._scaled(tiny * (level + spread * noise), mean, std)
        assert torch.isfinite(z).all()
        size = z.std(-1)[0]
        assert (size[:2] == 0).all()
        assert size[2] < 0.01
        assert (size[4:] > 0.9).all()


def test_running_statistics_serve_in_eval_mode():
    x, y = samples(60)
    model = gsnn().eval()
    regressor = MagnitudeEdgeRegressor(model, small_graph(), aggregators=("sum",), ema_momentum=0.25).double()
    for bx, by in batches(x, y, 25):
        step(regressor, model, bx, by)
    mean = sd = None
    for bx, by in batches(x, y, 25):
        seen = capture(model, bx, by, MSE)
        target = np.stack([g.abs().numpy().reshape(8, -1, len(bx)).sum(1) for g in seen.gradients[1:]])
        now = target.mean(-1), target.std(-1)
        mean, sd = now if mean is None else (0.75 * mean + 0.25 * now[0], 0.75 * sd + 0.25 * now[1])
    np.testing.assert_allclose(regressor.target_mean.numpy(), mean, rtol=1e-9)
    np.testing.assert_allclose(regressor.target_std.numpy(), sd, rtol=1e-9, atol=1e-15)
    regressor.eval()
    w, before = regressor.W.detach().clone(), regressor.target_mean.clone()
    whole = step(regressor, model, x, y)["aux_loss"]
    assert torch.equal(regressor.W, w)
    assert torch.equal(regressor.target_mean, before)
    # Running statistics do not depend on the batch, so the parts average to the whole.
    parts = [step(regressor, model, bx, by)["aux_loss"] * len(bx) for bx, by in batches(x, y, 25)]
    assert sum(parts) / 60 == pytest.approx(whole, rel=1e-9)


def test_table():
    regressor = MagnitudeEdgeRegressor(gsnn(), small_graph())
    table = regressor.evaluate()
    assert list(table.columns) == [
        "src_func", "dst_func", "src_idx", "dst_idx", "score", "has_edge", "p_value", "q_value",
    ]  # fmt: skip
    assert len(table) == 56
    assert len(regressor.evaluate(exclude_self=False)) == 64
    assert table[["p_value", "q_value"]].isna().all(axis=None)
    w = regressor.W.detach().double().numpy()
    for mode, expected in (("abs", abs(w)), ("relu", np.maximum(w, 0)), ("signed", w)):
        regressor.score_mode = mode
        np.testing.assert_array_equal(regressor.score_matrix(), expected)


@pytest.mark.parametrize("known_true", [None, [("b", "sink"), ("c", "a")]])
def test_evaluate_against(known_true):
    regressor = MagnitudeEdgeRegressor(gsnn(), small_graph(), seed=3)
    positives = [("a", "b"), ("e", "sink"), ("sink", "c")]
    result = regressor.evaluate_against(positives, known_true=known_true)
    assert set(result) == {"auc", "n_positives", "mrr", "top@1", "top@3", "top@5"}
    score, kept = regressor.score_matrix(), set(regressor.edges)
    negatives = [
        score[i, j]
        for i, a in enumerate(FUNCTIONS)
        for j, b in enumerate(FUNCTIONS)
        if i != j and (a, b) not in kept and (a, b) not in positives and (a, b) not in (known_true or [])
    ]
    cells = [score[FUNCTIONS.index(a), FUNCTIONS.index(b)] for a, b in positives]
    assert result["auc"] == pytest.approx(np.mean([[p > n for n in negatives] for p in cells]))
    ranks = [
        1 + sum(score[i, FUNCTIONS.index(b)] > s for i, a in enumerate(FUNCTIONS) if a != b)
        for (_, b), s in zip(positives, cells, strict=True)
    ]
    assert result["mrr"] == pytest.approx(np.mean([1 / r for r in ranks]))
    assert result["top@3"] == pytest.approx(np.mean([r <= 3 for r in ranks]))
    assert result["n_positives"] == 3
    with pytest.raises(ValueError, match="'q'"):
        regressor.evaluate_against([("a", "q")])
    with pytest.raises(ValueError, match="known_true"):
        regressor.evaluate_against(positives, known_true=[("a", "q")])
    with pytest.raises(ValueError, match="empty"):
        regressor.evaluate_against([])


@pytest.mark.parametrize("mode", ["max", "min"])
def test_best(mode):
    x, y = samples(20)
    model = gsnn()
    regressor = MagnitudeEdgeRegressor(model, small_graph())
    with pytest.raises(RuntimeError, match="maybe_save_best"):
        regressor.load_best()
    sign = 1 if mode == "max" else -1
    outcomes = []
    for metric in (None, float("nan"), 0.5, 0.5, 0.4, torch.tensor(0.7), 0.6):
        step(regressor, model, x, y, torch.optim.SGD(model.parameters(), lr=0.1))
        outcomes.append(regressor.maybe_save_best(metric if metric is None else sign * metric, mode=mode))
        if outcomes[-1]:
            best = regressor.W.detach().clone()
    assert outcomes == [False, False, True, False, False, True, False]
    weights = [p.detach().clone() for p in model.parameters()]
    regressor.load_best()
    assert torch.equal(regressor.W, best)
    for p, q in zip(model.parameters(), weights, strict=True):
        assert torch.equal(p, q)
    with pytest.raises(ValueError, match="max"):
        regressor.maybe_save_best(1.0, mode="best")


def test_unequal_channels():
    x, y = samples(15)
    model = gsnn(channels=[1, 2, 3, 4, 1, 2, 1, 3]).eval()
    for how in AGG:
        regressor = MagnitudeEdgeRegressor(model, small_graph(), aggregators=how, standardize=False).double()
        w = regressor.W.detach().numpy().copy()
        seen = capture(model, x, y, MSE)
        node = seen.channel_node.numpy()
        expected = []
        for a, g in zip(seen.activations[:-1], seen.gradients[1:], strict=True):
            f, t = (
                np.stack([AGG[k](abs(v.numpy()[node == i])[None])[0] for i in range(8)])
                for v, k in ((a, how), (g, "sum"))
            )
            expected.append(((f.T @ w - t.T) ** 2).mean())
        assert step(regressor, model, x, y)["aux_loss"] == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregators": ("sum", "median")}, "median"),
        ({"aggregators": ()}, "empty"),
        ({"score_mode": "best"}, "signed"),
        ({"loss_reduction": "none"}, "mean"),
        ({"dropout": 1.0}, "dropout"),
        ({"ema_momentum": 0.0}, "ema_momentum"),
        ({"ridge": -1.0}, "ridge"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        MagnitudeEdgeRegressor(gsnn(), small_graph(), **options)


def test_models_it_cannot_watch():
    with pytest.raises(RuntimeError, match="at least 2"):
        MagnitudeEdgeRegressor(gsnn(layers=1), small_graph())
    with pytest.raises(ValueError, match="use_pre_norm"):
        MagnitudeEdgeRegressor(gsnn(norm="layer"), small_graph(), use_pre_norm=False)
    with pytest.raises(ValueError, match="different function nodes"):
        MagnitudeEdgeRegressor(gsnn(), small_graph_of_others())


def small_graph_of_others():
    from gsnn.graph import Graph

    return Graph.from_edges([("x", "f"), ("f", "y")], input_nodes=["x"], function_nodes=["f"], output_nodes=["y"])


def test_dropout_is_of_w_and_only_while_training():
    x, y = samples(20)
    model = gsnn().eval()
    regressor = MagnitudeEdgeRegressor(model, small_graph(), dropout=0.5, lr=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        losses = {step(regressor, model, x, y)["aux_loss"] for _ in range(5)}
        assert len(losses) == 5
        regressor.eval()
        assert len({step(regressor, model, x, y)["aux_loss"] for _ in range(3)}) == 1


def test_lightning_callback_does_what_the_loop_does():
    lightning = pytest.importorskip("lightning")
    from gsnn.edges import EdgeRegressorCallback
    from gsnn.training import GSNNModule

    x, y = samples(48, dtype=torch.float32)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16)

    def fresh():
        model = gsnn(dtype=torch.float32, dropout=0.0)
        return model, MagnitudeEdgeRegressor(model, small_graph())

    model, by_hand = fresh()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    aucs = []
    held = [("a", "b"), ("e", "sink")]
    for _ in range(3):
        for bx, by in loader:
            step(by_hand, model, bx, by, optimiser)
        aucs.append(by_hand.evaluate_against(held)["auc"])
        by_hand.maybe_save_best(aucs[-1])
    by_hand.load_best()

    model, regressor = fresh()
    callback = EdgeRegressorCallback(regressor, held)
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback],
    )  # fmt: skip
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(GSNNModule(model, lr=1e-2, weight_decay=0.0, loss=MSE), loader)
    torch.testing.assert_close(regressor.W, by_hand.W)
    assert callback.history == pytest.approx(aucs)
    assert hooks(model) == 0
