"""Capture: per-sample gradients whatever the loss and the batch, and no trace left behind."""

from __future__ import annotations

import pytest
import torch

from gsnn.edges.capture import capture, isolated, iterate_batches, node_norms, unwrap
from gsnn.graph import Graph
from gsnn.nn import GSNN

MSE = torch.nn.MSELoss()


def root_mean_square(prediction, target):
    return MSE(prediction, target).sqrt()


@pytest.fixture
def model():
    graph = Graph.from_edges(
        [("x0", "a"), ("x1", "b"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "y0"), ("b", "y1")],
        input_nodes=["x0", "x1"],
        function_nodes=["a", "b", "c"],
        output_nodes=["y0", "y1"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GSNN.from_graph(graph, channels=2, layers=3, norm="groupbatch", dropout=0.5).double()


def data(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, 2, generator=generator, dtype=torch.float64) for _ in range(2))


def one_by_one(model, x, y, crit, where="pre"):
    """Per-sample gradients by hooks on the block's identities, one sample at a time."""
    model.eval()
    rows = []
    for b in range(len(x)):
        kept = []

        def keep(_module, _inputs, output, kept=kept):
            output.retain_grad()
            kept.append(output)

        handles = [getattr(block, f"{where}_tap").register_forward_hook(keep) for block in model.blocks]
        crit(model(x[b : b + 1]), y[b : b + 1]).backward()
        for handle in handles:
            handle.remove()
        rows.append([(t.detach()[:, 0], t.grad[:, 0]) for t in kept])
    model.zero_grad(set_to_none=True)
    layers = range(len(rows[0]))
    return [[torch.stack([row[layer][side] for row in rows], 1) for layer in layers] for side in (0, 1)]


@pytest.mark.parametrize("where", ["pre", "post"])
@pytest.mark.parametrize(
    "crit",
    [
        MSE,
        torch.nn.MSELoss(reduction="sum"),
        torch.nn.SmoothL1Loss(),
        torch.nn.BCEWithLogitsLoss(),
        lambda p, t: (p * t).mean(),
    ],
)
def test_gradients_are_those_of_each_sample_alone(model, where, crit):
    x, y = data(9)
    y = y.sigmoid() if isinstance(crit, torch.nn.BCEWithLogitsLoss) else y
    seen = capture(model, x, y, crit, where=where)
    activations, gradients = one_by_one(model, x, y, crit, where)
    for got, expected in zip(seen.activations + seen.gradients, activations + gradients, strict=True):
        torch.testing.assert_close(got, expected)
    assert len(seen) == 9


def test_default_loss_is_the_mean_squared_error(model):
    x, y = data(6)
    for got, expected in zip(capture(model, x, y).gradients, capture(model, x, y, MSE).gradients, strict=True):
        torch.testing.assert_close(got, expected)


def test_without_rescaling_gradients_depend_on_the_batch(model):
    x, y = data(6)
    naive = capture(model, x, y, MSE, loss_reduction="sum").gradients[1][:, :2]
    small = capture(model, x[:2], y[:2], MSE, loss_reduction="sum").gradients[1]
    torch.testing.assert_close(small, naive * 3)
    ours = [capture(model, x[:n], y[:n], MSE).gradients[1][:, :2] for n in (2, 6)]
    torch.testing.assert_close(ours[0], ours[1])


@pytest.mark.parametrize("crit", [None, MSE, torch.nn.BCEWithLogitsLoss(), torch.nn.MSELoss(reduction="sum")])
def test_missing_targets_take_no_gradient(model, crit):
    x, y = data(5)
    y = y.sigmoid()
    y[1:4, 1] = torch.nan
    seen = capture(model, x, y, crit)
    elementwise = {
        torch.nn.BCEWithLogitsLoss: torch.nn.functional.binary_cross_entropy_with_logits,
    }.get(type(crit), torch.nn.functional.mse_loss)

    def masked(prediction, target):
        known = ~torch.isnan(target)
        total = elementwise(prediction[known], target[known], reduction="sum")
        return total if getattr(crit, "reduction", "mean") == "sum" else total / 2

    expected = one_by_one(model, x, y, masked)[1]
    for got, wanted in zip(seen.gradients, expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_all_targets_missing_is_a_zero_gradient(model):
    x, y = data(4)
    seen = capture(model, x, y * torch.nan, MSE)
    assert not any(g.any() for g in seen.gradients)


def test_a_declared_reduction_is_taken_at_its_word(model):
    x, y = data(8)
    rmse = capture(model, x, y, root_mean_square, loss_reduction="mean")
    own = capture(model, x, y, root_mean_square, loss_reduction="sum")
    for a, b in zip(rmse.gradients, own.gradients, strict=True):
        torch.testing.assert_close(a, 8 * b)
    with pytest.raises(ValueError, match=r"loss_reduction 'avg'.*'mean', 'sum'"):
        capture(model, x, y, MSE, loss_reduction="avg")


def test_bad_losses_and_batches_are_errors(model):
    x, y = data(4)
    with pytest.raises(TypeError, match="scalar"):
        capture(model, x, y, torch.nn.MSELoss(reduction="none"))
    with pytest.raises(TypeError, match="scalar"):
        capture(model, x, y, lambda p, t: 1.0)
    with pytest.raises(ValueError, match="the loss is nan"):
        capture(model, x, y, lambda p, t: MSE(p, t) * torch.nan)
    with pytest.raises(ValueError, match=r"\(B, I\) = \(B, 2\), got \(4, 1\)"):
        capture(model, x[:, :1], y)
    with pytest.raises(ValueError, match=r"\(B, O\)"):
        capture(model, x, y[:, 0])
    with pytest.raises(ValueError, match="no samples"):
        capture(model, x[:0], y[:0])
    with pytest.raises(ValueError, match="where 'mid'"):
        capture(model, x, y, where="mid")
    with pytest.raises(TypeError, match="GSNN"):
        capture(torch.nn.Linear(2, 2), x, y)


def test_model_arguments_reach_the_forward(model):
    x, y = data(4)
    mask = torch.ones(3, dtype=torch.float64)
    mask[1] = 0
    masked = capture(model, x, y, model_kwargs={"node_mask": mask})
    assert not torch.equal(masked.activations[2], capture(model, x, y).activations[2])


def test_model_arguments_may_be_lists_and_switches(model):
    x, y = data(4)
    with torch.inference_mode():
        errors = [torch.full((4, 6), 0.1 * (block + 1), dtype=x.dtype) for block in range(3)]
    found = capture(model, x, y, model_kwargs={"node_errs": errors, "ret_edge_out": False})
    wanted = MSE(model.eval()(x, node_errs=[error.clone() for error in errors]), y)
    assert found.loss == pytest.approx(wanted.item())
    assert found.loss != capture(model, x, y).loss


def test_targets_may_be_classes_and_gaps_need_their_shape(model):
    x, y = data(4)
    classes = torch.tensor([[0, 1]] * 4)
    found = capture(model, x, classes, lambda p, t: MSE(p, t.to(p.dtype)))
    wanted = capture(model, x, classes.double(), MSE)
    assert all(torch.equal(a, b) for a, b in zip(found.gradients, wanted.gradients, strict=True))
    with pytest.raises(ValueError, match="x and y must have as many rows, got 4 and 3"):
        capture(model, x, y[:3])


def test_isolated_restores_modes_and_random_state_after_an_exception(model):
    model.train()
    model.blocks[0].eval()
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()

    def fail():
        with isolated(model) as device:
            assert device.type == "cpu"
            assert torch.is_grad_enabled()
            assert not any(m.training for m in model.modules())
            torch.rand(3)
            raise KeyError

    with torch.no_grad():
        with pytest.raises(KeyError):
            fail()
        assert not torch.is_grad_enabled()
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_made_under_inference_mode_can_be_captured():
    graph = Graph.from_edges([("x", "a"), ("a", "y")], input_nodes=["x"], function_nodes=["a"], output_nodes=["y"])
    x = torch.ones(3, 1)
    with torch.inference_mode():
        model = GSNN.from_graph(graph, channels=2, layers=2)
        seen = capture(model, x * 1, x * 0)
    assert all(torch.isfinite(g).all() for g in seen.gradients)


def test_unwrap_finds_the_model_inside(model):
    assert unwrap(torch.compile(model, backend="eager")) is model
    assert unwrap(torch.nn.DataParallel(model)) is model


@pytest.mark.parametrize("reduction", ["l1", "l2"])
def test_node_norms_for_equal_and_unequal_channels(reduction):
    generator = torch.Generator().manual_seed(0)
    order = {"l1": 1, "l2": 2}[reduction]
    for counts in ([2, 2, 2], [1, 3, 2], [3, 0, 3], [1, 1, 4]):
        node = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
        values = torch.randn(6, 5, generator=generator, dtype=torch.float64) * 1e-30
        expected = torch.stack([torch.linalg.vector_norm(values[node == k], ord=order, dim=0) for k in range(3)])
        torch.testing.assert_close(node_norms(values, node, 3, reduction), expected, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="reduction 'l7'"):
        node_norms(values, node, 3, "l7")


def test_batches_of_more_items():
    x, y = torch.zeros(2, 1), torch.ones(2, 1)
    (batch,) = iterate_batches([(x, y, "id")], lambda items: {"name": items[2]})
    assert (batch.model_kwargs, batch.index) == ({"name": "id"}, 0)
    (batch,) = iterate_batches([[x, y, "id"]])
    assert batch.model_kwargs == {}
    with pytest.raises(TypeError, match=r"batch 1 of loader must be .* got tuple of \(Tensor, int\)"):
        list(iterate_batches([(x, y), (x, 3)], name="loader"))
