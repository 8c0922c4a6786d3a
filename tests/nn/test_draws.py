"""Initial weights by name: what two models have in common starts alike, and is as random as it should be."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from gsnn.base.splitmix import mixed
from gsnn.nn import GSNN
from gsnn.nn.draws import KeyedDraws
from gsnn.nn.init import INITIALISERS
from gsnn.nn.layout import build_layout

FF = ("function", "to", "function")
U64 = (1 << 64) - 1


def splitmix(value):
    """One number, in Python integers: the finaliser of the published generator."""
    value = (value + 0x9E3779B97F4A7C15) & U64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & U64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & U64
    return value ^ (value >> 31)


def test_the_mixer_is_the_published_one():
    values = [0, 1, 2, 0x9E3779B97F4A7C15, U64]
    assert mixed(np.array(values, dtype=np.uint64)).tolist() == [splitmix(value) for value in values]
    assert splitmix(0) == 0xE220A8397B1DCDAF  # the first output of the reference implementation, seed 0


def by_name(model, lin):
    """{(source, target, copy, channel): weight / scale of degree_normalized}, block by block, by loops."""
    layout = model.layout
    names = [name for kind in ("function", "input", "output") for name in layout.names[kind]]
    edge, channel = getattr(model.blocks[0], lin).pattern.positions()
    pairs = layout.edge_index.T.tolist()
    seen, copies = {}, []
    for e, pair in enumerate(pairs):
        kind = "self" if e >= len(pairs) - layout.counts[3] else "data"
        key = (names[pair[0]], names[pair[1]], kind)
        copies.append((*key, seen.setdefault(key, 0)))
        seen[key] += 1
    first = {}
    found = []
    for block in model.blocks:
        weights = {}
        for k, (e, c) in enumerate(zip(edge.tolist(), channel.tolist(), strict=True)):
            node = int(model.channel_node[c])
            start = first.setdefault(node, int((model.channel_node < node).sum()))
            degree = sum(pair[1 if lin == "lin_in" else 0] == node for pair in pairs)
            width = int((model.channel_node == node).sum())
            weights[(*copies[e], c - start)] = getattr(block, lin).weight[k].item() * (degree * width) ** 0.5
        found.append(weights)
    return found


@pytest.mark.parametrize("options", [{}, {"edge_channels": 2}, {"share_layers": False}, {"channels": (2, 3, 1, 2, 3)}])
def test_models_that_differ_by_an_edge_share_every_common_weight_up_to_the_degrees(kit, options):
    edges, names = kit.random_graph(0, n=5)
    more = {**edges, FF: torch.cat([torch.tensor([[4], [0]]), edges[FF]], dim=1)}  # ahead of all others
    options = {"channels": 3, "layers": 3, **options}
    models = []
    for graph in (edges, more):
        torch.manual_seed(3)
        models.append(GSNN(graph, names, **options))
    for lin in ("lin_in", "lin_out"):
        small, large = (by_name(model, lin) for model in models)
        for before, after in zip(small, large, strict=True):
            assert len(after) > len(before)
            assert {key: pytest.approx(after[key], rel=1e-5) for key in before} == before
            assert len({round(value, 6) for value in after.values()}) == len(after)  # and no two are the same draw
        if not models[0].options["share_layers"]:
            assert not set(small[0].values()) & set(small[1].values())


def test_neither_the_order_of_nodes_nor_other_nodes_matter():
    names = {"input": ["x"], "function": ["f", "g", "h"], "output": ["y"]}
    turned = {"input": ["x"], "function": ["new", "h", "g", "f"], "output": ["y"]}
    found = []
    for given, pair in ((names, [[0], [1]]), (turned, [[3], [2]])):
        draws = KeyedDraws(build_layout({FF: torch.tensor(pair)}, given), seed=5)
        found.append(draws.uniform(torch.zeros(4, dtype=torch.long), torch.arange(4), block=1, which=0))
    assert torch.equal(*found)


def test_direction_parallel_edges_and_self_edges_are_told_apart():
    names = {"input": ["x"], "function": ["f", "g"], "output": ["y"]}
    layout = build_layout({FF: torch.tensor([[0, 1, 0, 0], [1, 0, 1, 0]])}, names)
    one = KeyedDraws(layout, seed=0).uniform(torch.arange(6), torch.zeros(6, dtype=torch.long), block=0, which=0)
    assert len(set(one.tolist())) == 6


def test_the_draws_are_uniform_and_independent():
    n, width = 400, 8
    names = {"input": ["x"], "function": [f"f{i}" for i in range(n)], "output": ["y"]}
    pairs = torch.stack([torch.arange(n).repeat(5), torch.randint(n, (5 * n,))])
    draws = KeyedDraws(build_layout({FF: pairs}, names, add_function_self_edges=False), seed=11)
    edge, channel = (part.flatten() for part in torch.meshgrid(torch.arange(5 * n), torch.arange(width), indexing="ij"))
    sets = [draws.uniform(edge, channel, block, which).numpy() for block in (0, 1) for which in (0, 1)]
    sets.append(KeyedDraws(build_layout({FF: pairs}, names, add_function_self_edges=False), seed=12)
                .uniform(edge, channel, 0, 0).numpy())  # fmt: skip
    for drawn in sets:
        assert stats.kstest(drawn, "uniform").pvalue > 1e-3
        table = drawn.reshape(-1, width)
        assert np.abs(np.corrcoef(table, rowvar=False) - np.eye(width)).max() < 5 / len(table) ** 0.5
        assert abs(np.corrcoef(drawn[:-width], drawn[width:])[0, 1]) < 5 / len(drawn) ** 0.5
    assert np.abs(np.corrcoef(sets) - np.eye(len(sets))).max() < 5 / len(sets[0]) ** 0.5


@pytest.mark.parametrize("init", INITIALISERS)
def test_the_seed_of_torch_decides(kit, init):
    def weights():
        return [p.detach().clone() for p in GSNN(*kit.random_graph(1), 3, 2, init=init).parameters()]

    torch.manual_seed(0)
    first, second = weights(), weights()
    torch.manual_seed(0)
    again = weights()
    assert all(map(torch.equal, first, again))
    assert (init == "zeros") == all(map(torch.equal, first, second))


@pytest.mark.slow
def test_another_process_draws_the_same():
    code = (
        "import torch; from gsnn.nn import GSNN; torch.manual_seed(0); n = {'input': ['x'], 'function': ['f', 'gé'], "
        "'output': ['y']}; e = {('input', 'to', 'function'): torch.tensor([[0], [0]])}; "
        "print(GSNN(e, n, 2, 1).blocks[0].lin_in.weight.tolist())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ,
            "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1
