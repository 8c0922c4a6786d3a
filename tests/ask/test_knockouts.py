"""Knock-outs against clamping one node after the other in plain torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gsnn.ask import knockout
from gsnn.ask.clamps import clamps_of, predict_clamped
from gsnn.ask.conditions import Conditions
from gsnn.ask.ensemble import Calibration
from gsnn.base.errors import DataError
from gsnn.graph import Graph
from gsnn.nn import GSNN

from .worlds import channels_by_hand, clamped_by_hand, model_of, world

OPTIONS = [
    {},
    {"norm": "layer"},
    {"norm": "none", "residual": False, "share_layers": True},
    {"norm": "edgebatch", "node_mlp": True, "node_attn": True},
    {"channels": [1, 2, 3, 4, 2, 1], "norm": "rms", "add_function_self_edges": False},
]


def held_by_hand(model, data, x, to):
    """Of each node what is to be lowest, by condition, and its values (L, C) by condition, one node after the other."""
    h = channels_by_hand(model, x)
    graph, sign = data.graph, 1 if to == "lowest" else -1
    pairs = graph.edge_index_dict["function", "to", "output"].T.tolist()
    with torch.no_grad():
        edges = model(torch.as_tensor(x), ret_edge_out=True)[:, model.layout.output_edges].double().numpy()
    found = []
    for node in range(graph.N):
        own = [k for k, (source, _) in enumerate(pairs) if source == node]
        if own:
            degree = [sum(target == pairs[k][1] for _, target in pairs) for k in own]
            score = sum(edges[:, k] / np.sqrt(d) for k, d in zip(own, degree, strict=True))
        else:
            nowhere = np.zeros((1, graph.I), np.float32)
            mine = model.channel_node == node
            score = [clamped_by_hand(model, nowhere, node, h[:, mine, c]).mean().item() for c in range(len(x))]
        found.append((sign * np.asarray(score), [h[:, model.channel_node == node, c] for c in range(len(x))]))
    return found


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("to", ["lowest", "highest", "zero"])
def test_every_clamp_is_that_of_one_node_in_plain_torch(options, to):
    data, _ = world()
    model = model_of(data, **options)
    x = Conditions.of(data.x, data).x
    clamps = clamps_of(model, x, to)
    plain, found = predict_clamped(model, x, [(n,) for n in range(data.graph.N)], clamps)
    np.testing.assert_allclose(plain, model(torch.from_numpy(x)).detach().numpy(), atol=1e-6)
    for node in range(data.graph.N):
        if to == "zero":
            values = torch.zeros(model.L, int((model.channel_node == node).sum()))
            assert clamps.condition[node] == -1
        else:
            score, by_condition = held_by_hand(model, data, x, to)[node]
            chosen = clamps.condition[node]
            assert score[chosen] == pytest.approx(score.min(), abs=1e-5)  # some conditions are as low as others
            values = by_condition[chosen]
        np.testing.assert_allclose(found[node], clamped_by_hand(model, x, node, values), atol=2e-5)


def test_pairs_are_held_together_and_interact():
    data, standardiser = world()
    model = model_of(data)
    found = knockout([model], data, standardiser, ["c", "d"], pairs=True)
    assert found.names == ["c", "d", "c+d"]
    x = Conditions.of(data.x, data).x
    chosen = clamps_of(model, x, "lowest").condition
    values = [each[1][chosen[node]] for node, each in enumerate(held_by_hand(model, data, x, "lowest"))]
    c, d = (data.graph.functions.index(name) for name in "cd")

    def post(layer, h):
        h = h.clone()
        for node in (c, d):
            h[model.channel_node == node] = values[node][layer].unsqueeze(1)
        return h

    with torch.no_grad():
        both = model.forward_with_taps(torch.from_numpy(x), post=post).double().numpy()
    change = (both - model(torch.from_numpy(x)).detach().double().numpy()) * standardiser.scale
    np.testing.assert_allclose(found.effect[2], change, atol=1e-4)
    np.testing.assert_allclose(found.interaction[2], found.effect[2] - found.effect[0] - found.effect[1], atol=1e-6)
    assert np.isnan(found.interaction[:2]).all()
    frame = found.to_frame()
    assert list(frame.columns) == ["nodes", "condition", "readout", "effect", "interaction"]
    assert len(frame) == 3 * len(x) * 2
    one = frame[(frame["nodes"] == "c+d") & (frame["condition"] == found.conditions[1]) & (frame["readout"] == "f")]
    assert one["effect"].item() == pytest.approx(change[1, 1], abs=1e-4)


def test_what_reaches_nothing_changes_nothing():
    data, standardiser = world()
    found = knockout([model_of(data)], data, standardiser)
    effects = dict(zip(found.names, found.effect, strict=True))
    assert not effects["e"].any()
    assert all(effects[name].any() for name in "acdf")
    assert "no readout can be reached from e" in found.notes[0]
    assert found.notes[1].startswith("a, b, d have no readout of their own")
    assert "--members 5" in found.notes[2]
    assert found.half is None
    assert found.summary()["strength"].is_monotonic_decreasing


def test_members_give_means_and_calibrated_intervals():
    data, standardiser = world()
    models = [model_of(data, seed) for seed in range(3)]
    each = np.stack([knockout([model], data, standardiser, ["c", "d"], to="zero").effect for model in models])
    known = Calibration(noise=np.array([0.2, 0.05]), ratios=np.array([0.5, 1.0, 3.0]))
    options = {"to": "zero", "pairs": True, "calibration": known}
    found = knockout(models, data, standardiser, ["c", "d"], **options)
    np.testing.assert_allclose(found.effect[:2], each.mean(0), atol=1e-6)
    scale = np.asarray(standardiser.scale)
    for node, row, column in ((0, 3, 0), (1, 5, 1)):
        variance = np.var(each[:, node, row, column], ddof=1) / scale[column] ** 2 / 3 + 2 * known.noise[column]
        raw = variance**0.5 * scale[column]
        assert found.sd[node, row, column] == pytest.approx(raw * np.mean([0.25, 1.0, 9.0]) ** 0.5, rel=1e-5)
        assert found.half[node, row, column] == pytest.approx(raw * np.quantile([0.5, 1.0, 3.0], 0.9), rel=1e-5)
    assert found.half.shape == found.effect.shape == (3, len(found.conditions), 2)
    assert {"sd", "low", "high", "interaction"} <= set(found.to_frame().columns)
    assert not any("--members" in note for note in found.notes)
    assert knockout(models, data, standardiser, ["c"]).half is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nodes": ["cc"]}, ["no function 'cc'", "'c'"]),
        ({"nodes": []}, ["at least one node"]),
        ({"nodes": ["c"], "pairs": True}, ["at least two"]),
        ({"to": "lowst"}, ["'lowest'"]),
    ],
)
def test_it_refuses(options, words):
    data, standardiser = world()
    with pytest.raises(DataError) as refused:
        knockout([model_of(data)], data, standardiser, **options)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.slow
def test_all_singles_of_a_thousand_functions_are_quick():
    import time

    rng = np.random.default_rng(0)
    names = [f"f{k}" for k in range(1000)]
    inner = {(names[p], names[j]) for j in range(50, 1000) for p in rng.choice(j, size=3, replace=False)}
    outer = [(f"i{k}", names[k]) for k in range(50)] + [(names[k], f"o{k}") for k in range(0, 1000, 10)]
    graph = Graph.from_edges(
        [*outer[:50], *sorted(inner), *outer[50:]],
        input_nodes=[f"i{k}" for k in range(50)],
        function_nodes=names,
        output_nodes=[f"o{k}" for k in range(0, 1000, 10)],
    )
    model = GSNN.from_graph(graph, channels=8, layers=10, norm="groupbatch", share_layers=False).eval()
    x = rng.normal(size=(100, 50)).astype(np.float32)
    start = time.process_time()
    predict_clamped(model, x, [(n,) for n in range(1000)], clamps_of(model, x, "zero"))
    assert time.process_time() - start < 60  # half of it on a quiet machine
