"""Contributions of edges: against derivatives taken by hand, as a flow, and complete."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from gsnn.ask import explain
from gsnn.ask.flows import edge_flows, edge_numbers, restored
from gsnn.base.errors import DataError

from .worlds import model_of, world

START, END = np.array([0.0, 0.5], np.float32), np.array([2.0, 1.0], np.float32)
OPTIONS = [
    {},
    {"norm": "none", "residual": False},
    {"norm": "edgebatch", "node_mlp": True, "share_layers": True},
    {"channels": [1, 2, 3, 4, 2, 1], "norm": "layer", "add_function_self_edges": False},
]


def with_more_read(model, x, block, edge, more):
    """Predictions if one block reads more of one edge than it holds; blocks must have maps of their own."""

    def add(module, args):
        z = args[0].clone()
        z[edge] += more
        return (z, *args[1:])

    handle = model.blocks[block].lin_in.register_forward_pre_hook(add)
    try:
        with torch.no_grad():
            return model(x)
    finally:
        handle.remove()


def test_contributions_are_what_blocks_read_times_derivatives_taken_by_hand():
    data, _ = world()
    model = model_of(data).double()
    steps, output, tiny = 200, 1, 1e-5
    alpha = (torch.arange(steps) + 0.5).unsqueeze(1) / steps
    line = lambda a: torch.from_numpy(START).double() + a * torch.from_numpy(END - START).double()  # noqa: E731
    states = []
    for block in range(model.L):
        seen = []
        handle = model.blocks[block].lin_in.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            model(line(torch.linspace(0, 1, steps + 1).double().unsqueeze(1)))
        handle.remove()
        states.append(seen[0])
    expected = np.zeros(model.E)
    for edge in range(model.E):
        for block in range(model.L):
            up, down = (with_more_read(model, line(alpha.double()), block, edge, t)[:, output] for t in (tiny, -tiny))
            expected[edge] += float(((up - down) / (2 * tiny) * states[block][edge].diff()).sum())
    found = edge_flows(model, START, END, output)
    inner = np.delete(np.arange(model.E), np.arange(model.E)[model.layout.output_edges])
    np.testing.assert_allclose(found[inner], expected[inner], atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("options", OPTIONS)
def test_they_are_a_flow_from_the_inputs_to_the_output(options):
    data, _ = world()
    model = model_of(data, **options)
    layout = model.layout
    with torch.no_grad():
        first, last = model(torch.from_numpy(np.stack([START, END]))).double().numpy()
    for output in range(model.O):
        flow = edge_flows(model, START, END, output)
        change = last[output] - first[output]
        assert flow[layout.output_edges].sum() == pytest.approx(change, abs=1e-5)
        assert flow[layout.input_edges].sum() == pytest.approx(change, rel=0.01, abs=1e-5)
        source, target = layout.edge_index.numpy()
        into, out = (np.bincount(ends, flow, minlength=model.N + model.I + model.O) for ends in (target, source))
        np.testing.assert_allclose(into[: model.N], out[: model.N], atol=5e-3 * np.abs(flow).max() + 1e-5)


def test_an_input_contributes_its_integrated_gradient():
    captum = pytest.importorskip("captum.attr")
    data, _ = world()
    model = model_of(data)
    flow = edge_flows(model, START, END, 0)
    by_input = np.bincount(model.input_source.numpy(), flow[model.layout.input_edges])
    found = captum.IntegratedGradients(model).attribute(
        torch.from_numpy(END)[None], torch.from_numpy(START)[None], target=0, n_steps=500
    )
    np.testing.assert_allclose(by_input, found[0].detach().numpy(), atol=1e-3)


def test_edges_that_are_left_out_hold_what_they_hold_in_the_reference():
    data, _ = world()
    model = model_of(data)
    number = edge_numbers(model)
    kept = np.random.default_rng(0).random((6, number.max() + 1)) < 0.5
    kept[:2] = [[False], [True]]
    found = restored(model, START, END, kept, 1)
    # By hand: each block reads, and passes on, the reference's state of those edges.
    states = []
    state = torch.zeros(model.E, 1)
    state[model.layout.input_edges, 0] = torch.from_numpy(START)[model.input_source]
    with torch.no_grad():
        for block in model.blocks:
            states.append(state)
            state = block(state)
        states.append(state)
        for row, expected in zip(kept, found, strict=True):
            free = torch.from_numpy((number < 0) | row[number])[:, None]
            state = torch.zeros(model.E, 1)
            state[model.layout.input_edges, 0] = torch.from_numpy(END)[model.input_source]
            for block, reference in zip(model.blocks, states, strict=False):
                state = block(torch.where(free, state, reference))
            state = torch.where(free, state, states[-1])
            y = state[model.layout.output_edges, 0][model.output_target == 1].sum()
            y = y / (float(model.output_degree[1]) * model.L) ** 0.5
            assert expected == pytest.approx(y.item(), abs=1e-5)


def test_the_subnetwork_carries_nine_tenths(tmp_path):
    data, standardiser = world()
    model = model_of(data)
    found = explain([model], data, standardiser, "a=2+b", "f")
    with torch.no_grad():
        y = standardiser.inverse_transform(model(torch.tensor([[0.0, 0.0], [2.0, 1.0]])).double().numpy())[:, 1]
    assert found.difference == pytest.approx(y[1] - y[0], abs=1e-5)
    assert found.inputs["contribution"].sum() == pytest.approx(found.difference, rel=0.01)
    rows = found.edges[found.edges["target"] == "DV:f"]
    assert rows["contribution"].sum() == pytest.approx(found.difference, rel=1e-4)
    assert abs(found.carried - 1) <= 0.1 + 1e-6
    assert 0 < len(found.subnetwork) < len(found.edges)
    files = found.write(tmp_path)
    assert [path.name for path in files] == ["explain.csv", "explain.graphml", "explain.json"]
    drawn = nx.read_graphml(tmp_path / "explain.graphml")
    assert set(drawn.edges) == set(zip(found.subnetwork["source"], found.subnetwork["target"], strict=True))


def test_members_are_averaged():
    data, standardiser = world()
    models = [model_of(data, seed) for seed in range(3)]
    each = [explain([model], data, standardiser, "a", "c").edges.set_index(["source", "target"]) for model in models]
    found = explain(models, data, standardiser, "a", "c").edges.set_index(["source", "target"])
    mean = sum(one["contribution"].reindex(found.index) for one in each) / 3
    np.testing.assert_allclose(found["contribution"], mean, atol=1e-6)
    assert (found["low"] <= found["high"]).all()


@pytest.mark.parametrize(
    ("condition", "readout", "words"),
    [
        ("a", "cc", ["no readout 'cc'", "'c'"]),
        ("aa", "c", ["'aa'", "did you mean 'a'"]),
        ("99", "c", ["rows 0 to 29"]),
        ("a=x", "c", ["dose of 'a'"]),
        ("untreated", "c", ["both untreated"]),
    ],
)
def test_it_refuses(condition, readout, words):
    data, standardiser = world()
    with pytest.raises(DataError) as refused:
        explain([model_of(data)], data, standardiser, condition, readout)
    for word in words:
        assert word in str(refused.value)
