"""Whatever an inferer is asked, and however that ends, the model and the process are as they were."""

from __future__ import annotations

import gc
import logging
import random
import signal
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from gsnn.base.files import read_tensors, write_tensors
from gsnn.base.torch_state import one_thread
from gsnn.edges import GradientEdgeInferer, MagnitudeEdgeInferer, MagnitudeEdgeKGE
from gsnn.edges.capture import isolated
from gsnn.training import TrainConfig, train_model

from ..edges.registry import ENTRIES, quickly
from ..edges.worlds import batches, gsnn, samples, small_graph

MSE = torch.nn.MSELoss()
# Entries that differ in their score alone read the model in the same way.
KINDS = list({entry.name.split("-")[0]: entry for entry in ENTRIES}.values())


def of_model(model):
    """Everything of a model that a call could leave changed."""
    hooks = [
        {name: list(kept) for name, kept in vars(module).items() if name.endswith("_hooks") and kept}
        for module in model.modules()
    ]
    return {
        "parameters": {k: v.detach().numpy().tobytes() for k, v in model.named_parameters()},
        "identity": {k: (id(v), v.data_ptr(), v.dtype) for k, v in model.named_parameters()},
        "buffers": {k: (v.numpy().tobytes(), v.dtype) for k, v in model.named_buffers()},
        "grads": {k: None if v.grad is None else v.grad.numpy().tobytes() for k, v in model.named_parameters()},
        "requires_grad": {k: v.requires_grad for k, v in model.named_parameters()},
        "parameter hooks": {k: len(v._backward_hooks or ()) for k, v in model.named_parameters()},
        "modes": [module.training for module in model.modules()],
        "hooks": hooks,
        "attributes": [sorted(vars(module)) for module in model.modules()],
    }


def of_process():
    """The state that a process has once."""
    # A handler that a library adds to its own logger when it is imported is no business of the call.
    root = logging.getLogger()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002 - the state that must stay
        "python": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "numpy errors": np.geterr(),
        "warnings": list(warnings.filters),
        "logging": (root.level, list(root.handlers), logging.getLogger("gsnn").handlers, logging.root.disabled),
        "interrupt": signal.getsignal(signal.SIGINT),
    }


def assert_same(before, after):
    for name, value in before.items():
        assert after[name] == value, f"{name} changed"


def used_model():
    """In use: gradients there, some modules in eval mode, some parameters frozen, a hook of the user's."""
    x, y = samples(24)
    model = gsnn(norm="groupbatch")
    model.train()
    model.blocks[1].eval()
    MSE(model(x), y).backward()
    for k, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(k % 3 != 0)
    model.register_forward_hook(lambda module, arguments, output: None)
    return model, x, y


class Stop(RuntimeError):
    pass


def stopping(after, error):
    """A criterion that draws random numbers and stops at one of its calls."""
    calls = []

    def crit(prediction, target):
        calls.append(torch.rand(2))
        if len(calls) > after:
            raise error
        return MSE(prediction, target)

    return crit


# Ways to fail: (x, y, calls of the criterion before it fails) -> loader, criterion.


def crit_raises_midway(x, y, after):
    return batches(x, y, 6), stopping(after, Stop())


def interrupted_in_crit(x, y, after):
    return batches(x, y, 6), stopping(after, KeyboardInterrupt())


def interrupted_in_loader(x, y, after):
    def loader():
        yield from batches(x, y, 6)[:2]
        raise KeyboardInterrupt

    return loader(), MSE


def wrong_width(x, y, after):
    return [*batches(x, y, 6)[: after // 2 - 1], (x[:6, :2], y[:6])], MSE


def not_finite(x, y, after):
    spoilt = y.clone()
    spoilt[-1] = float("inf")
    return batches(x, spoilt, 6), MSE


def run(entry, model, graph, loader, crit):
    inferer = entry.make(model, graph)
    inferer.fit(loader, crit, verbose=False)
    return entry.score(inferer)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_model_and_process_are_untouched(entry):
    model, x, y = used_model()
    run(entry, model, small_graph(), batches(x, y, 6), MSE)  # imports and caches
    before = of_model(model), of_process()
    run(entry, model, small_graph(), batches(x, y, 6), MSE)
    assert_same(before[0], of_model(model))
    assert_same(before[1], of_process())


@pytest.mark.parametrize("entry", KINDS, ids=lambda e: e.name.split("-")[0])
@pytest.mark.parametrize(
    "failure",
    [crit_raises_midway, interrupted_in_crit, interrupted_in_loader, wrong_width, not_finite],
    ids=lambda f: f.__name__,
)
def test_model_and_process_are_untouched_by_a_failure(entry, failure):
    if entry.name.endswith("structure"):
        pytest.skip("reads neither the samples nor the model, so nothing of this reaches it")
    if entry.name == "measured" and failure in (crit_raises_midway, interrupted_in_crit, not_finite):
        pytest.skip("takes no loss")
    # The first batch takes four calls, three of them to find out how the loss scales; the dense ones have one batch.
    after = 2 if entry.name.startswith(("function", "rank")) else 5
    model, x, y = used_model()
    before = of_model(model), of_process()
    with pytest.raises((Stop, KeyboardInterrupt, ValueError)):
        run(entry, model, small_graph(), *failure(x, y, after))
    assert_same(before[0], of_model(model))
    assert_same(before[1], of_process())


# ---------------------------------------------------------------- threads


def at_once(jobs):
    """Results of functions that begin at the same time, each on a thread of its own."""
    gate = threading.Barrier(len(jobs))

    def begin(job):
        gate.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(timeout=300) for future in [pool.submit(begin, job) for job in jobs]]


@pytest.mark.parametrize("entry", quickly(KINDS, {"regressor", "embedding"}), ids=lambda e: e.name.split("-")[0])
@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["one model", "two models"])
def test_two_threads_get_what_one_gets(entry, shared):
    graph = small_graph()
    x, y = samples(40)
    first = gsnn(norm="groupbatch").train()
    second = first if shared else gsnn(norm="groupbatch", seed=1).train()
    work = [(first, x, y), (second, x.flip(0) * 2, y.flip(0))]
    expected = [run(entry, model, graph, batches(a, b, 5), MSE) for model, a, b in work]
    before = [of_model(model) for model, *_ in work], of_process()
    jobs = [lambda w=w: run(entry, w[0], graph, batches(w[1], w[2], 5), MSE) for w in work * 2]
    for got, wanted in zip(at_once(jobs), expected * 2, strict=True):
        np.testing.assert_array_equal(got, wanted)
    for (model, *_), state in zip(work, before[0], strict=True):
        assert_same(state, of_model(model))
    assert_same(before[1], of_process())


def test_threads_that_draw_leave_the_generator_alone():
    """Each inferer draws in its criterion; with states put back out of turn the generator would have moved."""
    x, y = samples(40)
    graph, model = small_graph(), gsnn()
    before = torch.get_rng_state()

    def job():
        for _ in range(3):
            inferer = MagnitudeEdgeInferer(model, graph)
            inferer.fit(batches(x, y, 4), lambda p, t: MSE(p, t) + 0 * torch.rand(1, dtype=p.dtype), verbose=False)

    at_once([job] * 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_modes_come_back_out_of_turn():
    """The naive way, modes remembered by each thread for itself, leaves a model in eval mode."""
    model = torch.nn.Dropout(0.5).train()
    inside, leave = threading.Event(), threading.Event()

    def naive():
        before = model.training
        model.eval()
        inside.set()
        leave.wait(10)
        model.train(before)

    first = threading.Thread(target=naive)
    first.start()
    inside.wait(10)
    remembered = model.training  # by a second thread that comes while the first is inside
    leave.set()
    first.join()
    model.train(remembered)
    assert not model.training, "the naive way fails"

    model.train()

    def ours():
        for _ in range(200):
            with isolated(model):
                assert not model.training

    at_once([ours] * 4)
    assert model.training


def test_number_of_threads_comes_back_out_of_turn():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        inside, leave = threading.Event(), threading.Event()

        def longer():
            with one_thread():
                inside.set()
                leave.wait(10)

        def shorter():
            inside.wait(10)
            with one_thread(), one_thread():
                assert torch.get_num_threads() == 1
            leave.set()
            return torch.get_num_threads()

        assert at_once([longer, shorter])[1] == 2
        assert at_once([torch.get_num_threads] * 2) == [2, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_two_trainings_on_threads_end_as_one():
    """Dropout draws from the one generator of torch, so two loops must not draw in turns."""
    config = TrainConfig(epochs=3, channels=2, layers=2, batch_size=8, dropout=0.4, seed=3, norm="layer")
    x, y = samples(32, dtype=torch.float32)

    models = [gsnn(dtype=torch.float32, norm="layer", dropout=0.4) for _ in range(4)]

    def train(model):
        train_model(model, (x.numpy(), y.numpy()), None, config)
        return torch.cat([p.detach().ravel() for p in model.parameters()])

    expected, before = train(models[0]), of_process()
    for got in at_once([lambda m=m: train(m) for m in models[1:]]):
        assert torch.equal(got, expected)
    assert_same(before, of_process())


@pytest.mark.slow
def test_nothing_stays_alive():
    """Tensors, hooks and graphs of a fit go with the inferer."""
    graph, model = small_graph(), gsnn()
    x, y = samples(30)

    def count():
        gc.collect()
        return sum(1 for item in gc.get_objects() if type(item) in (torch.Tensor, torch.nn.Parameter))

    def work():
        for kind in (MagnitudeEdgeInferer, GradientEdgeInferer):
            inferer = kind(model, graph)
            inferer.fit(batches(x, y, 10), verbose=False)
            inferer.score_matrix()
        mei = MagnitudeEdgeInferer(model, graph)
        mei.fit(batches(x, y, 10), verbose=False)
        MagnitudeEdgeKGE(mei, embedding_dim=4, layer_agg="mean0").fit(n_epochs=2, verbose=False)

    work()
    before = count()
    for _ in range(3):
        work()
    assert count() == before


@pytest.mark.slow
def test_models_that_were_loaded_leave_nothing_behind(tmp_path):
    """A handle of safetensors on a file keeps two numbers of every tensor for ever, here a kilobyte a load."""
    path = tmp_path / "many.safetensors"
    write_tensors(path, {f"w{i}": torch.zeros(20, 30) for i in range(20)}, {"a": "b"})
    for _ in range(20):
        read_tensors(path)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            read_tensors(path)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 200 * 100
    finally:
        tracemalloc.stop()
