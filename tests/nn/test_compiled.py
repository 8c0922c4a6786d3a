"""The compiled kernels against the dense oracle and against the torch path, on the same stacks."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import sys

import numpy as np
import pytest
import torch
from tests.nn.test_fused import dense, make
from torch.nn import functional as F

from gsnn.nn import GSNN, fused
from gsnn.nn import model as model_module
from gsnn.nn.between import Between
from gsnn.nn.block import Recorder
from gsnn.nn.fast import compiled as compiled_module
from gsnn.nn.fused import elu_stack, step_by_step
from gsnn.nn.norms import NORMS

pytestmark = pytest.mark.skipif(not compiled_module.available(), reason="needs numba")


def as_double(parameters):
    return [None if p is None else p.detach().double().requires_grad_() for p in parameters]


@pytest.fixture
def by_torch(monkeypatch):
    """Switches the kernels off from the moment it is called."""
    return lambda: monkeypatch.setattr(fused, "available", lambda: False)


@pytest.mark.parametrize("channels", [[3, 3, 3, 3], [1, 9, 2, 4], [8, 8, 8, 8], [13, 5, 17, 1]])
@pytest.mark.parametrize(("blocks", "batch"), [(1, 3), (2, 1), (3, 16), (4, 33)])
@pytest.mark.parametrize(("bias", "residual"), [(True, True), (False, True), (True, False)])
def test_agrees_with_dense_matrices_in_double_precision(channels, blocks, batch, bias, residual):
    stack, x, parameters = make(channels, blocks, batch, dtype=torch.float32, bias=bias, residual=residual)
    exact = as_double([x, *parameters])
    out, wanted = elu_stack(stack, x, parameters), dense(stack, exact[0], exact[1:])
    scale = float(wanted.detach().abs().max())
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-5 * scale)
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    leaves, twins = ([p for p in group if p is not None] for group in ([x, *parameters], exact))
    mine = torch.autograd.grad(out, leaves, weights)
    for a, b in zip(mine, torch.autograd.grad(wanted, twins, weights.double()), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5 * max(float(b.abs().max()), 1e-3))


@pytest.mark.parametrize("channels", [[3, 3, 3, 3], [1, 9, 2, 4], [8, 8, 8, 8]])
@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
@pytest.mark.parametrize("residual", [True, False])
def test_nothing_is_read_that_was_not_written(channels, blocks, residual, monkeypatch):
    empty = np.empty

    def poisoned(shape, dtype=float, *args, **kwargs):
        array = empty(shape, dtype, *args, **kwargs)
        if array.dtype == np.float32:
            array.fill(np.nan)
        return array

    stack, x, parameters = make(channels, blocks, 5, dtype=torch.float32, residual=residual)
    leaves = [p for p in (x, *parameters) if p is not None]
    monkeypatch.setattr(np, "empty", poisoned)
    out = elu_stack(stack, x, parameters)
    found = torch.autograd.grad(out.sum(), leaves)
    monkeypatch.undo()
    wanted = step_by_step(stack, x, *parameters)
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4 * float(wanted.detach().abs().max()))
    for a, b in zip(found, torch.autograd.grad(wanted.sum(), leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * max(float(b.abs().max()), 1e-3))


@pytest.mark.parametrize("seed", range(4))
def test_whole_models_agree_with_the_torch_path(kit, seed, by_torch):
    model = GSNN(*kit.random_graph(seed), 8, 5, norm="none", share_layers=bool(seed % 2))
    kit.shake(model)
    x = torch.randn(37, model.I, generator=torch.Generator().manual_seed(seed))
    results = []
    for _ in range(2):
        model.zero_grad()
        out = model(x)
        (out**2).sum().backward()
        results.append([out.detach(), *(p.grad for p in model.parameters())])
        by_torch()
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * max(float(b.abs().max()), 1e-3))


@pytest.mark.parametrize("chosen", range(11))
def test_only_what_is_asked_for_gets_a_gradient(chosen):
    stack, x, parameters = make([2, 2, 2, 2], 2, 3, dtype=torch.float32)
    leaves = [x, *parameters]
    for number, leaf in enumerate(leaves):
        leaf.requires_grad_(number == chosen)
    (wanted,) = torch.autograd.grad(step_by_step(stack, *leaves).sum(), leaves[chosen])
    elu_stack(stack, leaves[0], leaves[1:]).sum().backward()
    assert [leaf.grad is not None for leaf in leaves] == [number == chosen for number in range(11)]
    torch.testing.assert_close(leaves[chosen].grad, wanted)


@pytest.mark.slow
def test_threads_do_the_same_work_side_by_side(monkeypatch):
    stack, x, parameters = make([8, 8, 8, 8], 3, 64, dtype=torch.float32)
    monkeypatch.setattr(compiled_module, "WORTH_A_THREAD", 1)
    numba = pytest.importorskip("numba")
    before, results = torch.get_num_threads(), []
    of_numba = numba.get_num_threads()
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            out = elu_stack(stack, x, parameters)
            results.append([out, *torch.autograd.grad(out.sum(), [x, *parameters])])
    finally:
        torch.set_num_threads(before)
    assert numba.get_num_threads() == of_numba
    for other in results[1:]:
        for number, (a, b) in enumerate(zip(results[0], other, strict=True)):
            if number >= 2 and number % 5 == 1:  # the residual's gradient is a sum over the parts
                torch.testing.assert_close(a, b, rtol=1e-5, atol=0)
            else:
                assert torch.equal(a, b)


def test_second_derivatives_come_from_the_separate_steps():
    stack, x, parameters = make([2, 2, 2, 2], 2, 4, dtype=torch.float32)
    (first,) = torch.autograd.grad(elu_stack(stack, x, parameters).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), parameters[0])
    (wanted,) = torch.autograd.grad(step_by_step(stack, x, *parameters).sum(), x, create_graph=True)
    (wanted,) = torch.autograd.grad(wanted.square().sum(), parameters[0])
    torch.testing.assert_close(second, wanted, rtol=1e-4, atol=1e-5)


def test_elu_kernel_is_exact_to_rounding_and_keeps_what_is_not_finite():
    from gsnn.nn.fast import between as between_module

    special = torch.tensor([0.0, -0.0, -1e-8, 1e-8, float("inf"), -float("inf"), float("nan"), -1e30, 3e38])
    z = torch.cat([torch.linspace(-120, 20, 20_001), torch.linspace(-1e-3, 1e-3, 1001), special])
    mine = z.clone()
    between_module.elu(mine.numpy(), 0, mine.numel())
    torch.testing.assert_close(mine, F.elu(z), rtol=1e-6, atol=1.2e-7, equal_nan=True)
    part = z.clone()
    between_module.elu(part.numpy(), 5, 9)
    assert torch.equal(part[:5], z[:5])
    assert torch.equal(part[9:20_000], z[9:20_000])


def test_kernels_need_no_place_for_their_machine_code():
    from gsnn.nn.fast import between as between_module

    made = {}
    exec("def twice(x):\n    return 2 * x", made)  # of no file, so that numba finds no place for a cache
    assert between_module.compiled(made["twice"])(21) == 42


def test_without_a_pool_for_every_thread_kernels_take_one(monkeypatch):
    for name in ("omppool", "tbbpool"):
        monkeypatch.setitem(sys.modules, f"numba.np.ufunc.{name}", None)
    monkeypatch.setattr(compiled_module, "_has_pool", compiled_module._has_pool.__wrapped__)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert compiled_module._threads() == 1


def test_what_is_not_a_number_stays_in_its_sample():
    stack, x, parameters = make([8, 8, 8, 8], 3, 20, dtype=torch.float32)
    clean = elu_stack(stack, x, parameters)
    with torch.no_grad():
        x[0, 3] = float("nan")
    out = elu_stack(stack, x, parameters)
    assert bool(out[:, 3].isnan().any())
    others = [column for column in range(20) if column != 3]
    assert torch.equal(out[:, others], clean[:, others])


def test_graphs_that_are_alive_together_do_not_share_memory():
    stack, x, parameters = make([8, 8, 8, 8], 3, 16, dtype=torch.float32)
    one = elu_stack(stack, x, parameters)
    wanted = torch.autograd.grad(one.sum(), parameters, retain_graph=True)
    two = elu_stack(stack, x.detach() * 2, parameters)
    torch.autograd.grad(two.sum(), parameters)
    three = elu_stack(stack, x.detach() * 3, parameters)
    for a, b in zip(wanted, torch.autograd.grad(one.sum(), parameters), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(two, three)


def test_memory_comes_back_for_the_next_step_and_no_copy_takes_it_along():
    stack, x, parameters = make([8, 8, 8, 8], 3, 16, dtype=torch.float32)
    elu_stack(stack, x, parameters).sum().backward()
    (kept,) = stack.plan(False).states._spare
    elu_stack(stack, x, parameters).sum().backward()
    assert stack.plan(False).states._spare[0] is kept
    for twin in (copy.deepcopy(stack.plan(False)), pickle.loads(pickle.dumps(stack.plan(False)))):
        assert not twin.states._spare


def test_what_reaches_no_output_is_left_out_and_counts_nothing():
    stack, _, _ = make([2, 2, 2, 2], 3, 4, dtype=torch.float32)
    plan = stack.plan(False)
    written = [wiring[-1] for wiring in plan.wiring]
    # In the last block functions 0 and 2 act (edges 6 and 7), so only edges into these are needed before it.
    assert (written[-1] >= 0).nonzero()[0].tolist() == [6, 7]
    assert (written[-2] >= 0).nonzero()[0].tolist() == [0, 1, 3, 4, 6, 7, 8, 10]
    assert (written[0] >= 0).all()


def _child(stack, x, parameters, queue):
    queue.put(float(elu_stack(stack, x, parameters).sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(monkeypatch):
    stack, x, parameters = make([8, 8, 8, 8], 3, 64, dtype=torch.float32)
    monkeypatch.setattr(compiled_module, "WORTH_A_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.no_grad():
            wanted = float(elu_stack(stack, x, parameters).sum())
            context = multiprocessing.get_context("fork")
            queue = context.Queue()
            child = context.Process(target=_child, args=(stack, x, parameters, queue))
            child.start()
            assert queue.get(timeout=60) == wanted
            child.join()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_predictions_without_gradients_are_the_same_and_hold_two_states(blocks):
    stack, x, parameters = make([8, 8, 8, 8], blocks, 20, dtype=torch.float32)
    wanted = elu_stack(stack, x, parameters).detach()
    with torch.no_grad():
        assert torch.equal(elu_stack(stack, x, parameters), wanted)
    twin = copy.deepcopy(stack.plan(False))
    groups = [parameters[at : at + 5] for at in range(0, len(parameters), 5)]
    plain, no_norm = [Between()] * blocks, [(None, None)] * blocks
    assert torch.equal(twin.forward(x, plain, groups, no_norm, keep=False, taps=False)[0], wanted)
    assert twin.states._spare[0].size == (twin.n_channels + min(2, blocks) * max(twin.rows)) * 32


KERNEL_NORMS = ("none", "groupbatch", "layer", "rms", "softmax", "batch")


def shaken(kit, norm, channels=5, dropout=0.0, **options):
    """A model off its start, whose running statistics are not 0 and 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        edges = kit.random_graph(3)
        model = kit.shake(GSNN(*edges, channels, 4, norm=norm, dropout=dropout, **options))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
        return model, torch.randn(37, model.I)


def pass_of(model, x, seed=1):
    """Predictions, gradients and running statistics of a pass."""
    torch.manual_seed(seed)
    out = model(x)
    out.square().sum().backward()
    found = {"out": out.detach()} | {name: p.grad for name, p in model.named_parameters()}
    return found | {name: b for name, b in model.named_buffers() if "running" in name or "tracked" in name}


def assert_agree(mine, exact, tolerance=1e-4):
    assert mine.keys() == exact.keys()
    largest = max(float(v.abs().max()) for name, v in exact.items() if v is not None and "running" not in name)
    for name, value in mine.items():
        assert (value is None) == (exact[name] is None), name
        if value is not None:
            scale = max(float(exact[name].abs().max()), 1e-3 * largest)
            torch.testing.assert_close(value.double(), exact[name].double(), rtol=0, atol=tolerance * scale, msg=name)


@pytest.fixture
def served(monkeypatch):
    """How often the kernels were taken."""
    calls = []
    real = model_module.compiled_stack
    monkeypatch.setattr(model_module, "compiled_stack", lambda *a, **k: calls.append(1) or real(*a, **k))
    return calls


@pytest.mark.parametrize("norm", KERNEL_NORMS)
@pytest.mark.parametrize("channels", [5, 1, 16, "ragged"])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("training", [True, False])
def test_every_norm_agrees_with_the_modules_in_double_precision(
    kit, served, norm, channels, norm_first, dropout, training
):
    if channels == "ragged":
        channels = [1 + i % 4 for i in range(6)]
    model, x = shaken(kit, norm, channels, dropout, norm_first=norm_first, share_layers=norm == "rms")
    exact = copy.deepcopy(model).double()
    for one in (model, exact):
        one.train(training)
    mine = pass_of(model, x)
    assert served == [1]
    wanted, tolerance = pass_of(exact, x.double()), 1e-4
    if training and (norm == "batch" or (norm == "groupbatch" and channels == 1)):
        # Before a norm over each row a bias has no effect: its gradient is what rounding leaves of large numbers.
        mine, wanted = ({k: v for k, v in found.items() if "lin_in.bias" not in k} for found in (mine, wanted))
        tolerance = 2e-3
    assert_agree(mine, wanted, tolerance)
    assert served == [1], "double precision goes step by step"


@pytest.mark.parametrize("norm", KERNEL_NORMS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_both_taps_and_gradients_by_them_agree_with_the_modules(kit, served, norm, dropout):
    model, x = shaken(kit, norm, dropout=dropout)
    model.train(dropout > 0)
    fast, slow = (Recorder(), Recorder()), (Recorder(), Recorder())
    for (pre, post), hide in ((fast, lambda tap: tap), (slow, lambda tap: lambda *a: tap(*a))):
        twin = copy.deepcopy(model)
        torch.manual_seed(2)
        out = twin.forward_with_taps(x, pre=hide(pre), post=hide(post), detach_parameters=True)
        handles = [*pre.handles, *post.handles]
        pre.found = [out, *pre.values, *post.values, *torch.autograd.grad(out.square().sum(), handles)]
    assert served == [1]
    assert len(fast[0].found) == 1 + 4 * 4
    for a, b in zip(fast[0].found, slow[0].found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * max(float(b.detach().abs().max()), 1e-3))


@pytest.mark.parametrize("norm", ["groupbatch", "layer", "batch"])
def test_second_derivatives_with_a_norm_and_a_dropout(kit, served, norm):
    model, x = shaken(kit, norm, 3, 0.3)
    exact = copy.deepcopy(model).double()

    def second(one, x):
        torch.manual_seed(3)
        by = torch.autograd.grad(one(x).square().sum(), [*one.parameters()], create_graph=True, allow_unused=True)
        total = sum(g.square().sum() for g in by if g is not None)
        return torch.autograd.grad(total, [*one.parameters()], allow_unused=True)

    mine, wanted = second(model, x), second(exact, x.double())
    assert served == [1]
    largest = max(float(b.abs().max()) for b in wanted if b is not None)
    for a, b in zip(mine, wanted, strict=True):
        if b is not None:
            torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-4 * largest)


def test_running_statistics_follow_once_and_also_without_gradients(kit, served):
    model, x = shaken(kit, "groupbatch")
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model(x)
    twin(x).sum().backward()
    assert served == [1, 1]
    for (name, a), b in zip(model.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(a, b), name
    before = [b.clone() for b in model.buffers()]
    model.eval()(x)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


def test_threads_do_the_same_with_a_norm_and_a_dropout(kit, monkeypatch):
    monkeypatch.setattr(compiled_module, "WORTH_A_THREAD", 1)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(pass_of(*shaken(kit, "groupbatch", 8, 0.3)))
    finally:
        torch.set_num_threads(before)
    for name, value in results[0].items():
        if name.endswith("residual_weight"):  # a sum over the parts
            torch.testing.assert_close(value, results[1][name], rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(value, results[1][name]), name


@pytest.mark.parametrize("norm", ["groupbatch", "layer"])
def test_with_norms_nothing_is_read_that_was_not_written(kit, norm, monkeypatch):
    empty, empty_of_torch = np.empty, torch.empty

    def poisoned(*args, **options):
        array = empty(*args, **options)
        return np.full_like(array, np.nan) if array.dtype == np.float32 else array

    def poisoned_of_torch(*args, **options):
        tensor = empty_of_torch(*args, **options)
        return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

    model, x = shaken(kit, norm, 3, 0.3)
    twin = copy.deepcopy(model)
    monkeypatch.setattr(np, "empty", poisoned)
    monkeypatch.setattr(torch, "empty", poisoned_of_torch)
    mine = pass_of(model, x)
    monkeypatch.undo()
    assert all(v is None or bool(v.isfinite().all()) for v in mine.values())
    assert_agree(mine, pass_of(twin, x), 1e-6)


def test_a_norm_that_the_kernels_do_not_know_goes_step_by_step(kit, served):
    for norm in set(NORMS) - set(KERNEL_NORMS):
        model, x = shaken(kit, norm)
        model(x)
    model, x = shaken(kit, "batch")
    model.blocks[1].norm.momentum = None
    model(x)
    assert not served
