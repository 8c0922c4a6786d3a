"""An accelerator agrees with the CPU; and without one, as far as can be told, nothing clings to the CPU."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch

from gsnn.base.torch_state import map_in_threads
from gsnn.edges import FunctionEdgeInferer, GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.edges import rank as rank_module
from gsnn.edges.rank_correlation import (
    _constant,
    _standardise_ranks,
    _standardise_values,
    _travelling,
    _unit,
    average_ranks,
    cross_correlation,
    sort_bytes,
)
from gsnn.edges.stats import PairMoments
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.nn.losses import masked_mse

needs_cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
NORMS = ("none", "batch", "groupbatch", "layer")


def world(n=60, seed=0, **options):
    """A sparse random network with a model and samples."""
    rng = np.random.default_rng(seed)
    functions = [f"f{i}" for i in range(n)]
    edges = [(f"x{i}", functions[i]) for i in range(6)] + [(functions[-1 - i], f"y{i}") for i in range(4)]
    edges += [(functions[i], functions[j]) for i, j in rng.integers(0, n, (5 * n, 2)) if i != j]
    graph = Graph.from_edges(
        list(dict.fromkeys(edges)),
        input_nodes=[f"x{i}" for i in range(6)],
        function_nodes=functions,
        output_nodes=[f"y{i}" for i in range(4)],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GSNN.from_graph(graph, channels=3, layers=4, **({"norm": "none"} | options))
    generator = torch.Generator().manual_seed(seed)
    return graph, model, torch.randn(200, 6, generator=generator), torch.randn(200, 4, generator=generator)


def trained_step(model, x, y):
    """Loss and weights after one step."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    loss = masked_mse(model(x), y)
    loss.backward()
    optimiser.step()
    return loss.detach().cpu(), [p.detach().cpu() for p in model.parameters()]


@pytest.mark.parametrize("threads", [1, 3])
def test_parts_are_worked_on_by_as_many_threads_as_torch_has(threads):
    before, seen = torch.get_num_threads(), threading.Barrier(threads, timeout=60)

    def work(part):
        seen.wait()  # goes on only once as many threads are in here
        assert torch.get_num_threads() == 1
        return part, threading.get_ident()

    try:
        torch.set_num_threads(threads)
        found = list(map_in_threads(work, range(threads * 2)))
    finally:
        torch.set_num_threads(before)
    assert [part for part, _ in found] == list(range(threads * 2))
    assert len({ident for _, ident in found}) == threads


def test_moments_stay_on_their_device():
    moments = PairMoments(2, 5, torch.float32, "meta", condition_on=torch.tensor([1]), buffer_rows=8)
    moments.update(*torch.empty(2, 2, 5, 20, device="meta"))
    assert {moments.cross.device.type, moments.within.device.type, moments.thirds_x.device.type} == {"meta"}


@pytest.mark.parametrize("segments", [1, 3])
@pytest.mark.parametrize("step", [1, 4, 7, 100])
@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_blocks_that_travel_change_nothing(method, step, segments):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(0, 9, (n, segments, 30), generator=generator).float() for n in (11, 6))
    expected = cross_correlation(x.clone(), y.clone(), method)
    standardise = _standardise_ranks if method == "spearman" else _standardise_values
    out = torch.empty(11, 6)
    _travelling(x.clone(), y.clone(), standardise, step, torch.device("cpu"), out)
    torch.testing.assert_close(out / segments, expected, atol=1e-6, rtol=0)


def test_ranks_by_sorting_are_those_of_the_cpu():
    values = torch.randint(0, 5, (6, 40), generator=torch.Generator().manual_seed(0)).float()
    values[2] = 3.0
    found = _unit(average_ranks(values), _constant(values.amin(1), values.amax(1)))
    _standardise_ranks(values)
    torch.testing.assert_close(found, values, atol=1e-6, rtol=0)
    assert not found[2].any()


def test_rows_travel_as_many_at_a_time_as_the_device_can_rank(monkeypatch):
    graph, model, _, _ = world()
    inferer = FunctionEdgeInferer(model, None, graph.edge_index_dict["function", "to", "function"])
    observed = torch.zeros(60, 3, 200)
    assert inferer._rows_at_a_time(observed) is None, "they are where they are worked on"
    inferer.device = "cuda"
    monkeypatch.setattr(rank_module, "free_on", lambda _: 2 * (sort_bytes(600) + 8 * 600 * 7))
    assert inferer._rows_at_a_time(observed) == 7
    monkeypatch.setattr(rank_module, "free_on", lambda _: 2**40)
    assert inferer._rows_at_a_time(observed) == 60
    monkeypatch.setattr(rank_module, "free_on", lambda _: 2**20)
    with pytest.raises(ValueError, match=r"device cuda has 1\.0 MB free, but ranking 600 observations takes"):
        inferer._rows_at_a_time(observed)


@pytest.mark.parametrize("norm", [pytest.param(norm, marks=needs_cuda) for norm in NORMS])
def test_a_training_step_on_cuda(norm):
    _, model, x, y = world(norm=norm)
    twin = copy.deepcopy(model).cuda()
    loss, weights = trained_step(model, x, y)
    got, moved = trained_step(twin, x.cuda(), y.cuda())
    torch.testing.assert_close(got, loss, rtol=1e-4, atol=1e-5)
    for a, b in zip(moved, weights, strict=True):
        # Adam divides by the size of a gradient: where that is rounding, its direction is rounding as well.
        assert float(((a - b).abs() > 1e-4).float().mean()) < 0.02


@pytest.mark.parametrize("score", [pytest.param(score, marks=needs_cuda) for score in ("corr", "partial")])
def test_magnitudes_on_cuda(score):
    graph, model, x, y = world()
    found = []
    for device in ("cpu", "cuda"):
        inferer = MagnitudeEdgeInferer(model, graph)
        inferer.fit([(x, y)], device=device, verbose=False)
        found.append(inferer.score_matrix(score=score))
    np.testing.assert_allclose(found[1], found[0], atol=2e-3)
    assert next(model.parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    "score", [pytest.param(score, marks=needs_cuda) for score in ("regressed", "normalised", "explained")]
)
def test_first_order_scores_on_cuda(score):
    graph, model, x, y = world()
    found = []
    for device in ("cpu", "cuda"):
        inferer = GradientEdgeInferer(model, graph)
        inferer.fit([(x, y)], device=device, verbose=False)
        found.append(inferer.score_matrix(score=score))
    np.testing.assert_allclose(found[1], found[0], atol=5e-3)


@pytest.mark.parametrize("room", [pytest.param(room, marks=needs_cuda) for room in (None, 2**27)])
def test_ranks_on_cuda(room, monkeypatch):
    graph, model, x, y = world()
    known = graph.edge_index_dict["function", "to", "function"]
    expected = FunctionEdgeInferer(model, None, known).fit(x, y)
    if room is not None:
        # Too little for the observations, so that rows travel.
        monkeypatch.setattr(rank_module, "free_on", lambda device: 0 if device.type == "cuda" else 2**62)
        monkeypatch.setattr(FunctionEdgeInferer, "_rows_at_a_time", lambda self, observed: 7)
    got = FunctionEdgeInferer(model, None, known, device="cuda").fit(x, y)
    np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize("norm", [pytest.param(norm, marks=needs_cuda) for norm in NORMS])
def test_deterministic_mode_on_cuda(norm, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _, model, x, y = world(norm=norm)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (trained_step(copy.deepcopy(model).cuda(), x.cuda(), y.cuda()) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first[0], second[0])
    for a, b in zip(first[1], second[1], strict=True):
        assert torch.equal(a, b)
