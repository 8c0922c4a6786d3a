"""The fused stack of blocks and the CPU kernels against dense matrices and against the separate steps."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune

from gsnn.nn import GSNN, keep_freed_memory, load_model, save_model
from gsnn.nn import model as model_module
from gsnn.nn.block import Block, SparseLinear
from gsnn.nn.fused import Stack, elu_, elu_stack, step_by_step
from gsnn.nn.sparse import FEW_VALUES, EdgeChannelPattern, _levels

# Edges: 4 function -> function (two of them parallel), 2 input -> function, 2 function -> output, 3 loops; node 3 idle.
TARGET = torch.tensor([0, 0, 1, 2, 0, 1, -1, -1, 0, 1, 2])
SOURCE = torch.tensor([1, 1, 2, 0, -1, -1, 2, 0, 0, 1, 2])
FIRST, LAST = slice(4, 6), slice(6, 8)


def make(channels, blocks, batch, dtype=torch.float64, bias=True, residual=True):
    generator = torch.Generator().manual_seed(0)
    channels = torch.tensor(channels)
    lin_in, lin_out = EdgeChannelPattern(TARGET, channels), EdgeChannelPattern(SOURCE, channels)
    stack = Stack(lin_in, lin_out, TARGET, SOURCE, channels, FIRST, LAST, blocks)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    parameters = []
    for _ in range(blocks):
        parameters += [draw(lin_in.nnz), draw(lin_in.n_channels) if bias else None]
        parameters += [draw(lin_out.nnz), draw(lin_out.n_edges) if bias else None]
        parameters += [torch.tensor(0.7, dtype=dtype, requires_grad=True) if residual else None]
    return stack, draw(2, batch), parameters


def dense(stack, x, parameters):
    def matrix(pattern, values):
        edge, channel = pattern.positions()
        return values.new_zeros(pattern.n_edges, pattern.n_channels).index_put((edge, channel), values)

    state = torch.zeros(11, x.shape[1], dtype=x.dtype).index_put((torch.arange(4, 6),), x)
    for at in range(0, len(parameters), 5):
        weight_in, bias_in, weight_out, bias_out, residual = parameters[at : at + 5]
        z = matrix(stack.lin_in, weight_in).T @ state
        z = z if bias_in is None else z + bias_in[:, None]
        out = matrix(stack.lin_out, weight_out) @ F.elu(z)
        out = out if bias_out is None else out + bias_out[:, None]
        state = out if residual is None else out + residual.relu() * state
    return state[LAST]


@pytest.mark.parametrize("channels", [[3, 3, 3, 3], [1, 3, 2, 1]])
@pytest.mark.parametrize(("blocks", "batch"), [(1, 3), (2, 1), (3, 4)])
@pytest.mark.parametrize(("bias", "residual"), [(True, True), (False, True), (True, False)])
def test_stack_agrees_with_dense_matrices(channels, blocks, batch, bias, residual):
    stack, x, parameters = make(channels, blocks, batch, bias=bias, residual=residual)
    leaves = [x, *(p for p in parameters if p is not None)]
    out, wanted = elu_stack(stack, x, parameters), dense(stack, x, parameters)
    torch.testing.assert_close(out, wanted, rtol=1e-10, atol=1e-12)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    mine = torch.autograd.grad(out, leaves, weights)
    # Weights of lin_out that no output reads are in no dense graph either: both give 0.
    for a, b in zip(mine, torch.autograd.grad(wanted, leaves, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_first_and_second_derivatives():
    stack, x, parameters = make([2, 2, 2, 2], 2, 2)
    assert torch.autograd.gradcheck(lambda *a: elu_stack(stack, a[0], list(a[1:])), (x, *parameters))
    assert torch.autograd.gradgradcheck(
        lambda *a: elu_stack(stack, a[0], list(a[1:])), (x, *parameters), fast_mode=True
    )


@pytest.mark.parametrize("chosen", range(11))
def test_only_what_is_asked_for_gets_a_gradient(chosen):
    stack, x, parameters = make([2, 2, 2, 2], 2, 3)
    leaves = [x, *parameters]
    for number, leaf in enumerate(leaves):
        leaf.requires_grad_(number == chosen)
    (wanted,) = torch.autograd.grad(step_by_step(stack, *leaves).sum(), leaves[chosen])
    elu_stack(stack, leaves[0], leaves[1:]).sum().backward()
    assert [leaf.grad is not None for leaf in leaves] == [number == chosen for number in range(11)]
    torch.testing.assert_close(leaves[chosen].grad, wanted)


def test_runs_are_bit_identical_and_a_graph_can_be_kept():
    stack, x, parameters = make([2, 2, 2, 2], 3, 64, dtype=torch.float32)
    out = elu_stack(stack, x, parameters)
    first = torch.autograd.grad(out.sum(), parameters, retain_graph=True)
    second = torch.autograd.grad(out.sum(), parameters)
    assert torch.equal(out, elu_stack(stack, x, parameters))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_closed_residual_has_no_gradient():
    stack, x, parameters = make([2, 2, 2, 2], 2, 3)
    for value in (-1.0, 0.0):
        parameters[4] = torch.tensor(value, dtype=x.dtype, requires_grad=True)
        elu_stack(stack, x, parameters).sum().backward()
        assert parameters[4].grad == 0


def test_elu_in_single_precision():
    z = torch.cat([torch.linspace(-120, 20, 10_001), torch.tensor([0.0, -1e-8, float("inf"), -float("inf")])])
    torch.testing.assert_close(elu_(z.clone()), F.elu(z), rtol=1e-6, atol=1.2e-7)
    assert elu_(torch.tensor([float("nan")])).isnan().all()
    assert elu_(torch.empty(0)).numel() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grouped_products_on_a_graph_above_the_small_path(dtype):
    generator = torch.Generator().manual_seed(1)
    # Degrees from 0 (function 299) to hundreds; every seventh edge has no part in the map.
    function = (torch.rand(3000, generator=generator) ** 3 * 299).long()
    function[::7] = -1
    pattern = EdgeChannelPattern(function, torch.full((300,), 4))
    assert pattern.nnz > FEW_VALUES
    assert len(pattern.groups) > 1
    x = torch.randn(3000, 5, generator=generator, dtype=dtype)
    h = torch.randn(1200, 5, generator=generator, dtype=dtype)
    edge, channel = pattern.positions()
    torch.testing.assert_close(pattern.sampled(x, h), (x[edge] * h[channel]).sum(1))
    # A place that only fills up a group repeats the function's own edge: what is infinite elsewhere stays elsewhere.
    x[1] = float("inf")
    assert torch.equal(pattern.sampled(x, h).isfinite(), (edge != 1))


def test_levels_cost_least():
    counts = torch.tensor([1] * 500 + [2] * 400 + [3] * 3 + [900])
    levels = _levels(counts)
    assert levels[-1] == 900
    assert bool((levels.diff() > 0).all())
    assert _levels(torch.tensor([5, 5, 5])).tolist() == [5]
    assert _levels(torch.tensor([], dtype=torch.int64)).tolist() == []


def fused_calls(monkeypatch):
    """A list that grows with every pass that runs as one operation."""
    calls = []
    for name in ("elu_stack", "compiled_stack"):
        real = getattr(model_module, name)
        monkeypatch.setattr(model_module, name, lambda *a, real=real, **k: calls.append(1) or real(*a, **k))
    return calls


def test_the_model_takes_the_fused_path_only_where_nobody_looks(kit, monkeypatch):
    calls = fused_calls(monkeypatch)
    model = GSNN(*kit.random_graph(1), 3, 2, norm="none")
    x = torch.ones(2, 3)
    wanted = model(x)
    assert len(calls) == 1
    for run in (
        lambda: model.forward_with_taps(x, pre=lambda layer, z: None),
        lambda: model(x, edge_mask=torch.ones(model.E)),
        lambda: model(x, node_mask=torch.ones(model.N)),
        lambda: model(x, e0=torch.zeros(2, model.E)),
    ):
        torch.testing.assert_close(run(), wanted)
    for module in (model.blocks[1], model.blocks[0].lin_in, model.blocks[0].pre_tap, model.blocks[1].nonlin):
        seen = []
        with module.register_forward_hook(lambda *_, seen=seen: seen.append(1)):
            torch.testing.assert_close(model(x), wanted)
        assert seen
    assert len(calls) == 1
    assert GSNN(*kit.random_graph(1), 3, 2, norm="ema")(x).shape == wanted.shape
    assert len(calls) == 1


class Doubling(SparseLinear):
    """A user's own map."""

    def forward(self, x, detach=False):
        return 2 * super().forward(x, detach)


class Halving(torch.nn.Module):
    """A parametrisation, or a layer in the place of another."""

    def forward(self, value, memo=None):
        return value / 2


class OwnBlock(Block):
    def forward(self, x, *args, **options):
        return super().forward(x, *args, **options) / 2


def doubled(layer):
    own = Doubling(
        layer.pattern, layer.weight.detach().clone(), into_channels=layer.into_channels, bias=layer.bias is not None
    )
    own.load_state_dict(layer.state_dict())
    return own


def own_block(model):
    model.blocks[0].__class__ = OwnBlock


def set_forward(layer, factor):
    plain = layer.forward
    layer.forward = lambda *args, **options: factor * plain(*args, **options)


def other_pattern(model):
    block, layout = model.blocks[1], model.layout
    pattern = EdgeChannelPattern(layout.source_functions(), torch.full((model.N,), 3))
    block.lin_in = SparseLinear(pattern, torch.ones(pattern.nnz), into_channels=True, bias=True)


# What a user may do to a model, by name; each changes what it computes.
CHANGES = {
    "subclass of lin_in": lambda m: setattr(m.blocks[0], "lin_in", doubled(m.blocks[0].lin_in)),
    "subclass of lin_out": lambda m: setattr(m.blocks[1], "lin_out", doubled(m.blocks[1].lin_out)),
    "map of other edges": other_pattern,
    "subclass of the block": own_block,
    "another norm": lambda m: setattr(m.blocks[1], "norm", Halving()),
    "another edge norm": lambda m: setattr(m.blocks[1], "edge_norm", Halving()),
    "another nonlinearity": lambda m: setattr(m.blocks[1], "nonlin", torch.nn.ReLU()),
    "another alpha": lambda m: setattr(m.blocks[1].nonlin, "alpha", 0.5),
    "another tap": lambda m: setattr(m.blocks[1], "pre_tap", Halving()),
    "another dropout": lambda m: setattr(m.blocks[1], "dropout", Halving()),
    "node MLP put in": lambda m: setattr(m.blocks[1], "mlp", Halving()),
    "parametrised weight": lambda m: parametrize.register_parametrization(m.blocks[0].lin_in, "weight", Halving()),
    "parametrised residual": lambda m: parametrize.register_parametrization(m.blocks[0], "residual_weight", Halving()),
    "torch's pruning": lambda m: prune.random_unstructured(m.blocks[1].lin_out, "weight", 0.5),
    "hook on a map": lambda m: m.blocks[1].lin_in.register_forward_hook(lambda module, inputs, out: 2 * out),
    "hook on a norm": lambda m: m.blocks[1].norm.register_forward_hook(lambda module, inputs, out: 2 * out),
    "hook before a block": lambda m: m.blocks[1].register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],)),
    "forward of a map": lambda m: set_forward(m.blocks[0].lin_in, 2),
    "forward of a block": lambda m: set_forward(m.blocks[0], 2),
    "one block less": lambda m: m.blocks.__delitem__(1),
    "one block more": lambda m: m.blocks.append(copy.deepcopy(m.blocks[0])),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_model_that_a_user_changed_is_computed_step_by_step(kit, name):
    """The oracle: the path with taps, which calls every module."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kit.shake(GSNN(*kit.random_graph(1), 3, 2, norm="none", share_layers=False))
        x = torch.randn(5, 3)
        plain = model(x)
        CHANGES[name](model)
        changed = model.forward_with_taps(x, pre=lambda layer, z: None)
        assert not torch.allclose(changed, plain)
        assert torch.equal(model(x), changed)


def test_a_dropout_may_be_in_training_mode_alone(kit):
    model, x = GSNN(*kit.random_graph(1), 3, 2, norm="none").eval(), torch.ones(5, 3)
    plain = model(x)
    model.blocks[0].dropout.p = 1.0
    model.blocks[0].dropout.train()
    changed = model.forward_with_taps(x, pre=lambda layer, z: None)
    assert not torch.allclose(changed, plain)
    torch.testing.assert_close(model(x), changed)


def test_modules_of_other_types_may_stand_in_the_place_of_a_block(kit):
    class Whole(torch.nn.Module):
        def forward(self, x, **options):
            return x + 1

    model = GSNN(*kit.random_graph(1), 3, 2, norm="none")
    model.blocks[1] = Whole()
    x = torch.ones(2, 3)
    assert torch.equal(model(x), model.forward_with_taps(x, pre=lambda layer, z: None))


def test_hooks_on_all_modules_are_called(kit):
    model, seen = GSNN(*kit.random_graph(1), 3, 2, norm="none"), []
    with torch.nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module))):
        model(torch.ones(2, 3))
    assert seen.count(SparseLinear) == 4


def test_copies_and_loaded_models_still_take_the_fused_path(kit, monkeypatch, tmp_path):
    calls = fused_calls(monkeypatch)
    for share in (True, False):
        model = GSNN(*kit.random_graph(1), 3, 2, norm="none", dropout=0.5, share_layers=share).eval()
        save_model(model, tmp_path / "m")
        pruned = copy.deepcopy(model)
        pruned.prune(0.2)
        for twin in (
            model,
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(model)),
            load_model(tmp_path / "m"),
            pruned,
        ):
            calls.clear()
            twin(torch.ones(2, 3))
            assert calls


def test_keep_freed_memory_refuses_what_it_cannot_set():
    with pytest.raises(ValueError, match="bytes_kept must be between"):
        keep_freed_memory(-1)
