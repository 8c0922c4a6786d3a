"""Which edges of a pool a model misses most, beside a forward pass written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gsnn.discovery.refinement.joint import DROPS, WATCHED, largest_ablation_cost
from gsnn.nn import GSNN

from ..conftest import random_graph

POOL = 6


def problem(seed, **options):
    graph = random_graph(10, 0.3, seed)
    torch.manual_seed(seed)
    model = GSNN.from_graph(graph, channels=2, layers=4, norm="none", dropout=0.5, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(50, graph.I)))
    y = torch.from_numpy(np.where(rng.random((50, graph.O)) < 0.1, np.nan, rng.normal(size=(50, graph.O))))
    return graph, model, x, y


def dense(layer, n):
    """The matrix and the bias of a sparse layer, from what it makes of unit vectors."""
    with torch.no_grad():
        bias = layer(torch.zeros(n, 1, dtype=torch.float64))
        return (layer(torch.eye(n, dtype=torch.float64)) - bias).numpy(), bias.numpy()


def loss(model, graph, x, y, muted, copies):
    """The forward pass in numpy, in which the muted edges are read as their means over the samples."""
    index = model.layout.edge_index.numpy()
    n_edges, functions = index.shape[1], graph.N
    state = np.zeros((n_edges, len(x)))
    for edge in range(n_edges):
        if functions <= index[0, edge] < functions + graph.I:
            state[edge] = x[:, index[0, edge] - functions].numpy()
    names = graph.functions
    rows = [
        edge
        for edge in range(copies * len(graph.function_edges))
        if (names[index[0, edge]], names[index[1, edge]]) in muted
    ]
    assert len(rows) == copies * len(muted)
    for block in model.blocks:
        read = state.copy()
        read[rows] = state[rows].mean(1, keepdims=True)
        into, bias = dense(block.lin_in, n_edges)
        z = into @ read + bias
        h = np.where(z > 0, z, np.expm1(np.minimum(z, 0)))
        out, bias = dense(block.lin_out, len(h))
        state = out @ h + bias + max(0.0, block.residual_weight.item()) * state
    prediction = np.zeros(y.shape)
    for edge in range(n_edges):
        if index[1, edge] >= functions + graph.I:
            prediction[:, index[1, edge] - functions - graph.I] += state[edge]
    degree = [(index[1] == functions + graph.I + output).sum() for output in range(graph.O)]
    prediction /= np.sqrt(np.array(degree) * len(model.blocks))
    with torch.no_grad():
        if not muted:
            np.testing.assert_allclose(model(x).numpy(), prediction, atol=1e-9)
    return np.nansum((prediction - y.numpy()) ** 2) / y.numel()


def worth(graph, model, x, y, pool, n, copies):
    """Steps in which the cheapest are dropped, by loops."""
    kept, gone = list(pool), []
    for step in range(DROPS):
        n_out = (len(kept) - n) // (DROPS - step)
        cost = {edge: loss(model, graph, x, y, {*gone, edge}, copies) for edge in kept}
        out = sorted(reversed(kept), key=cost.get)[:n_out]
        gone += out
        kept = [edge for edge in kept if edge not in out]
    return kept


@pytest.mark.parametrize(
    ("seed", "options"),
    [(0, {}), (1, {}), (2, {"edge_channels": 3}), (3, {"share_layers": True}), (4, {"share_layers": False})],
)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_as_a_forward_pass_by_hand(seed, options, n):
    graph, model, x, y = problem(seed, **options)
    model.eval()
    copies = options.get("edge_channels", 1)
    whole = loss(model, graph, x, y, set(), copies)
    # Edges that carry nothing are as good as one another but for rounding.
    pool = [e for e in graph.function_edges if abs(loss(model, graph, x, y, {e}, copies) - whole) > 1e-9][-POOL:]
    assert len(pool) == POOL
    expected = worth(graph, model, x, y, pool, n, copies)
    batches = list(zip(x.split(7), y.split(7), strict=True))
    assert largest_ablation_cost(model, graph, pool, batches, n) == expected


def test_the_model_is_as_it_was_and_only_the_last_samples_count():
    graph, model, x, y = problem(0)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pool = list(graph.function_edges)[:POOL]
    alone = largest_ablation_cost(model, graph, pool, [(x, y)], 2)
    many = torch.cat([x + 9, *[x] * -(-WATCHED // len(x))])[-WATCHED - 50 :], torch.cat([y] * (WATCHED // len(y) + 2))
    assert largest_ablation_cost(model, graph, pool, [(many[0], many[1][-len(many[0]) :])], 2) is not None
    assert model.training
    assert not any(block.lin_in._forward_pre_hooks for block in model.blocks)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    ahead = torch.cat([x + 9, x.repeat(-(-WATCHED // len(x)), 1)[-WATCHED:]])
    y_ahead = torch.cat([y, y.repeat(-(-WATCHED // len(y)), 1)[-WATCHED:]])
    rest = largest_ablation_cost(model, graph, pool, [(ahead[len(x) :], y_ahead[len(x) :])], 2)
    assert largest_ablation_cost(model, graph, pool, [(ahead, y_ahead)], 2) == rest
    assert len(alone) == 2


def test_of_edges_that_carry_nothing_the_first_stay():
    graph, model, x, y = problem(0)
    with torch.no_grad():
        for block in model.blocks:
            block.lin_in.weight.zero_()
    pool = list(graph.function_edges)[:POOL]
    assert largest_ablation_cost(model, graph, pool, [(x, y)], 2) == pool[:2]
