from __future__ import annotations

import warnings
from collections import Counter
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.edges import FunctionEdgeInferer, GradientEdgeInferer, MagnitudeEdgeInferer, alias_groups
from gsnn.graph import Graph, nx2pyg
from gsnn.graph.reach import hop_classes, member_bits, reach_classes
from gsnn.simulation import convergence_graph, held_out_edges

from .worlds import gsnn, samples, small_graph


def random_graph(seed, n=14, n_edges=20, n_inputs=4, n_outputs=5, acyclic=False):
    """Cycles, self-edges, isolated nodes and several terminals, all by chance."""
    rng = np.random.default_rng(seed)
    functions, inputs, outputs = (
        [f"{c}{i}" for i in range(k)] for c, k in (("f", n), ("x", n_inputs), ("y", n_outputs))
    )
    pairs = {tuple(pair) for pair in rng.integers(0, n, (n_edges, 2)).tolist()}
    if acyclic:
        pairs = {(min(p), max(p)) for p in pairs if p[0] != p[1]}
    edges = [(functions[i], functions[j]) for i, j in sorted(pairs)]
    edges += [(inputs[k], functions[rng.integers(n)]) for k in range(n_inputs)]
    edges += [(functions[rng.integers(n)], outputs[k]) for k in range(n_outputs)]
    return Graph.from_edges(edges, input_nodes=inputs, function_nodes=functions, output_nodes=outputs)


def profiles(graph, alias_by, max_hops):
    """What each function sees as a source and as a target, by networkx."""
    G = graph.to_networkx()
    if alias_by == "reach":
        source = [frozenset(nx.ancestors(G, f) & set(graph.inputs)) for f in graph.functions]
        target = [frozenset(nx.descendants(G, f) & set(graph.outputs)) for f in graph.functions]
        return source, target
    cap = np.inf if max_hops is None else max_hops
    down = {x: nx.single_source_shortest_path_length(G, x) for x in graph.inputs}
    up = {f: nx.single_source_shortest_path_length(G, f) for f in graph.functions}

    def seen(distance):
        return distance if distance is not None and distance <= cap else None

    source = [tuple(seen(down[x].get(f)) for x in graph.inputs) for f in graph.functions]
    target = [tuple(seen(up[f].get(y)) for y in graph.outputs) for f in graph.functions]
    return source, target


def candidates(graph):
    known = set(graph.function_edges)
    names = graph.functions
    n = range(len(names))
    return [(i, j) for i in n for j in n if i != j and (names[i], names[j]) not in known]


def same_partition(a, b):
    """Whether two labellings of the same things group them alike."""
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


@pytest.mark.parametrize("options", [("reach", None), ("hops", None), ("hops", 2), ("hops", 1)])
@pytest.mark.parametrize("n_edges", [0, 6, 20, 45])
@pytest.mark.parametrize("seed", range(4))
def test_groups_and_sizes_match_networkx(seed, n_edges, options):
    graph = random_graph(seed, n_edges=n_edges)
    groups = alias_groups(graph, *options)
    source, target = profiles(graph, *options)
    pairs = candidates(graph)
    expected = [(source[i], target[j]) for i, j in pairs]
    index = np.array(pairs).T
    ids, sizes = groups.group(*index), groups.size(*index)
    count = Counter(expected)
    assert same_partition(ids.tolist(), expected)
    assert sizes.tolist() == [count[e] for e in expected]
    # Few rows are looked up in another way than many.
    table = pd.DataFrame({"src_idx": index[0], "dst_idx": index[1], "score": 0.5})
    for part in (table, table.iloc[:3], table.iloc[:0]):
        got = groups.attach(part)
        assert list(got.columns) == ["src_idx", "dst_idx", "score", "alias_group", "alias_size"]
        assert got["alias_group"].tolist() == ids[: len(part)].tolist()
        assert got["alias_size"].tolist() == sizes[: len(part)].tolist()
    pd.testing.assert_frame_equal(groups.attach(got), got)
    assert groups.n_candidates == len(pairs)
    assert groups.n_groups == len(count)
    assert groups.share_aliased == pytest.approx(sum(count[e] > 1 for e in expected) / len(pairs))
    assert groups.largest_share == pytest.approx(max(count.values()) / len(pairs))
    size, number = groups.size_histogram
    assert dict(zip(size.tolist(), number.tolist(), strict=True)) == Counter(count.values())
    np.testing.assert_array_equal(groups.matrix()[index[0], index[1]], ids)


def test_a_known_edge_has_a_group_of_which_it_is_no_member():
    edges = [("x", "a"), ("a", "b"), ("x", "c"), ("b", "y"), ("c", "y")]
    graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b", "c"], output_nodes=["y"])
    groups = alias_groups(graph)
    assert groups.size(0, 1).item() == 9 - 3 - 1
    assert alias_groups(graph, exclude_known=False).size(0, 1).item() == 6
    assert alias_groups(graph, exclude_self=False).size(0, 1).item() == 8
    everything = alias_groups(graph, exclude_known=False, exclude_self=False)
    assert (everything.size(0, 1).item(), everything.n_candidates) == (9, 9)


def test_every_inferers_table_takes_them():
    graph, model = small_graph(), gsnn()
    x, y = samples(30)
    groups = alias_groups(graph, "hops", model.L)
    for kind in (MagnitudeEdgeInferer, GradientEdgeInferer):
        inferer = kind(model, graph)
        inferer.fit([(x, y)], verbose=False)
        table, few = groups.attach(inferer.evaluate()), groups.attach(inferer.top_edges(5))
        assert table["alias_group"].tolist() == groups.group(table["src_idx"], table["dst_idx"]).tolist()
        assert len(few) == 5
        head = table[~table["has_edge"]].head(5).reset_index(drop=True)
        pd.testing.assert_frame_equal(few[["src_func", "alias_group"]], head[["src_func", "alias_group"]])
    dense = FunctionEdgeInferer(model, torch.nn.MSELoss(), graph.edge_index_dict["function", "to", "function"])
    dense.fit(x, y)
    assert (groups.attach(dense.evaluate())["alias_size"] >= 0).all()
    with pytest.raises(ValueError, match="columns src_idx and dst_idx"):
        groups.attach(pd.DataFrame({"source": ["a"]}))
    with pytest.raises(ValueError, match="has 8; pass the graph and the kind of the inferer"):
        groups.attach(pd.DataFrame({"src_idx": [8], "dst_idx": [0]}))


def test_one_component_is_one_class_by_reach_and_not_by_hops():
    n = 9
    ring = [(f"f{i}", f"f{(i + 1) % n}") for i in range(n)]
    nodes = {"input_nodes": ["x"], "function_nodes": [f"f{i}" for i in range(n)], "output_nodes": ["y"]}
    graph = Graph.from_edges([("x", "f0"), *ring, ("f4", "y")], **nodes)
    reach, hops, capped = (alias_groups(graph, *o) for o in [("reach",), ("hops",), ("hops", 3)])
    assert (reach.n_groups, reach.largest_share) == (1, 1.0)
    assert "by 'reach'), so groups say little here; grouping by 'hops'" in reach.warnings[0]
    assert (hops.n_source_classes, hops.n_target_classes, hops.warnings) == (n, n, [])
    assert capped.n_source_classes == 4


def test_unreached_and_dead_end_functions_are_classes_of_their_own():
    edges = [("x", "a"), ("a", "y"), ("a", "end"), ("start", "a")]
    functions = ["a", "end", "start", "alone", "alone too"]
    graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=functions, output_nodes=["y"])
    for options in [("reach",), ("hops",), ("hops", 2)]:
        groups = alias_groups(graph, *options)
        source, target = groups.source_class, groups.target_class
        assert source[2] == source[3] == source[4] != source[0]
        assert target[1] == target[3] == target[4] != target[0]


@pytest.mark.parametrize("options", [("reach", None), ("hops", None), ("hops", 2)])
def test_permuting_the_functions_permutes_the_groups(options):
    graph = random_graph(7, n_edges=25)
    order = np.random.default_rng(0).permutation(graph.N)
    moved = Graph.from_edges(
        [(s, t) for kind in graph.edge_index_dict for s, t in graph._named(kind, graph.edge_index_dict[kind].numpy())][
            ::-1
        ],
        input_nodes=graph.inputs,
        function_nodes=[graph.functions[i] for i in order],
        output_nodes=graph.outputs,
    )
    groups, permuted = alias_groups(graph, *options), alias_groups(moved, *options)
    np.testing.assert_array_equal(permuted.matrix(), groups.matrix()[np.ix_(order, order)])
    n = np.arange(graph.N)
    np.testing.assert_array_equal(permuted.size(n[:, None], n), groups.size(n[:, None], n)[np.ix_(order, order)])


@pytest.mark.parametrize("seed", range(5))
def test_uncapped_hops_split_the_groups_of_reach(seed):
    graph = random_graph(seed, n_edges=30)
    reach, hops = (alias_groups(graph, by).matrix().ravel().tolist() for by in ("reach", "hops"))
    assert len(set(zip(reach, hops, strict=True))) == len(set(hops)) >= len(set(reach))


@pytest.mark.parametrize("acyclic", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_aliases_are_the_edges_that_move_the_same_outputs_by_the_same_inputs(seed, acyclic):
    # In a linear system z = W'z + B'x, y = C'z an edge i -> j changes the map from x to y, to first order, by
    # (column of i of the map x -> z) times (row of j of the map z -> y). Positive weights cannot cancel, and a sum of
    # powers in place of the inverse keeps zeros exact.
    graph = random_graph(seed, acyclic=acyclic, n_edges=16)
    rng = np.random.default_rng(seed)
    weights = []
    for index, shape in zip(
        graph.edge_index_dict.values(), [(graph.N, graph.N), (graph.I, graph.N), (graph.N, graph.O)], strict=True
    ):
        dense = np.zeros(shape)
        dense[tuple(index.numpy())] = rng.uniform(0.1, 0.2, index.shape[1])
        weights.append(dense)
    within, fed, read = weights
    total = sum(np.linalg.matrix_power(within, k) for k in range(graph.N))
    into, out_of = fed @ total, total @ read
    groups = alias_groups(graph).matrix()
    effect = {}
    for i, j in candidates(graph):
        support = np.outer(into[:, i], out_of[j]) > 0
        if support.any():
            effect[i, j] = support.tobytes()
    assert effect
    assert same_partition([groups[pair].item() for pair in effect], list(effect.values()))


@pytest.mark.parametrize(
    ("n", "n_candidates", "n_groups", "n_true", "n_alias"), [(25, 2413, 674, 35, 78), (12, 535, 167, 16, 33)]
)
def test_figures_of_the_benchmark(n, n_candidates, n_groups, n_true, n_alias):
    G, inputs, functions, outputs, _ = convergence_graph(n)
    held = held_out_edges(n)
    G.remove_edges_from(held)
    graph = nx2pyg(G, inputs, functions, outputs)
    groups = alias_groups(graph)
    place = {name: i for i, name in enumerate(graph.functions)}
    index = np.array([(place[s], place[t]) for s, t in held]).T
    true_groups = set(groups.group(*index).tolist())
    negatives = np.array([p for p in candidates(graph) if p not in set(zip(*index.tolist(), strict=True))]).T
    assert (groups.n_candidates, groups.n_groups, len(true_groups)) == (n_candidates, n_groups, n_true)
    assert np.isin(groups.group(*negatives), list(true_groups)).sum() == n_alias
    # Nearly every candidate has an alias, yet groups are small: no reason to warn.
    assert groups.share_aliased > 0.95
    assert groups.warnings == []


def test_many_words_long_chains_and_wide_blocks():
    # More members than one block of words, and as many levels as nodes.
    n, n_members = 60, 64 * 40
    rng = np.random.default_rng(0)
    chain = np.stack([np.arange(n - 1), np.arange(1, n)])
    nodes = rng.integers(0, n, n_members)
    bits = member_bits(nodes, np.arange(n_members), n, n_members)
    first = np.array([[nodes[m] <= v for m in range(n_members)] for v in range(n)])
    assert same_partition(reach_classes(chain, bits).tolist(), [row.tobytes() for row in first])
    distance = np.arange(n)[:, None] - nodes
    profile = [np.where((row >= 0) & (row < 7), row, -1).tobytes() for row in distance]
    assert same_partition(hop_classes(chain, bits, 7).tolist(), profile)


def test_without_members_everything_is_one_class():
    edges = np.array([[0, 1], [1, 0]])
    bits = member_bits(np.zeros(0, np.int64), np.zeros(0, np.int64), 3, 0)
    assert reach_classes(edges, bits).tolist() == hop_classes(edges, bits, None).tolist() == [0, 0, 0]


def test_takes_anything_like_hetero_data():
    graph = random_graph(1)
    data = SimpleNamespace(edge_index_dict=graph.edge_index_dict, node_names_dict=graph.node_names_dict)
    np.testing.assert_array_equal(alias_groups(data).matrix(), alias_groups(graph).matrix())


def test_errors_say_what_came_and_what_there_is():
    graph = random_graph(1)
    with pytest.raises(ValueError, match=r"unknown alias_by 'hop'.*did you mean 'hops'"):
        alias_groups(graph, "hop")
    with pytest.raises(ValueError, match=r"max_hops must be at least 1 .*got 0"):
        alias_groups(graph, "hops", 0)


def test_single_function_has_no_candidates():
    graph = Graph.from_edges([("x", "a"), ("a", "y")], input_nodes=["x"], function_nodes=["a"], output_nodes=["y"])
    groups = alias_groups(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (groups.n_candidates, groups.n_groups, groups.warnings) == (0, 0, [])
        assert np.isnan([groups.share_aliased, groups.largest_share]).all()
        assert groups.size([0], [0]).tolist() == [0]
