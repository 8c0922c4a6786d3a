"""Graphs: nothing is lost on the way out and back, and what is said of them is what a plain search finds."""

from __future__ import annotations

import time
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gsnn.base.errors import DataError
from gsnn.discovery import mask_edges
from gsnn.discovery.selfcheck.controls import rewire
from gsnn.edges import alias_groups
from gsnn.graph import Graph

from .strategies import examples, graphs, names, seeds


@examples()
@given(graphs())
def test_networkx_round_trip(graph):
    assert Graph.from_networkx(graph.to_networkx()).equals(graph)


@examples()
@given(graphs())
def test_pandas_round_trip(graph):
    edges, nodes = graph.to_pandas()
    assert Graph.from_pandas(edges, nodes).equals(graph)


@examples()
@given(graphs())
def test_pyg_round_trip(graph):
    pytest.importorskip("torch_geometric")
    assert Graph.from_pyg(graph.to_pyg()).equals(graph)


@examples()
@given(graphs())
def test_dictionaries_round_trip(graph):
    parts = graph.edge_index_dict, graph.node_names_dict, graph.edge_weight_dict, graph.edge_sign_dict
    assert Graph(*parts).equals(graph)


@examples()
@given(graphs(signed=False), st.data())
def test_edges_taken_out_and_put_back(graph, data):
    inner = graph.function_edges
    taken = data.draw(st.lists(st.sampled_from(inner), unique=True)) if inner else []
    less = graph.without_edges(taken)
    assert set(less.function_edges) == set(inner) - set(taken)
    assert less.node_names_dict == graph.node_names_dict
    back = less.with_edges(taken)
    assert set(back.function_edges) == set(inner)
    assert back.E == graph.E


@examples()
@given(graphs(signed=False))
def test_repeated_edges_are_one(graph):
    edges = [(a, b) for a, b in graph.to_networkx().edges]
    parts = {"input_nodes": graph.inputs, "function_nodes": graph.functions, "output_nodes": graph.outputs}
    once, twice = Graph.from_edges(edges, **parts), Graph.from_edges(edges * 2, **parts)
    assert twice.equals(once)
    assert set(twice.duplicated_edges) == set(edges)


@examples()
@given(graphs())
def test_reach_is_that_of_a_search(graph):
    G = graph.to_networkx()
    fed = set().union(*(nx.descendants(G, name) for name in graph.inputs))
    assert graph.unreached_functions == [f for f in graph.functions if f not in fed]
    ends = [f for f in graph.functions if not nx.descendants(G, f) & set(graph.outputs)]
    assert graph.dead_end_functions == ends
    assert graph.unfed_outputs == [name for name in graph.outputs if not G.in_degree(name)]
    assert graph.unreached_outputs == [name for name in graph.outputs if G.in_degree(name) and name not in fed]
    assert graph.unused_inputs == [name for name in graph.inputs if not G.out_degree(name)]


@examples()
@given(graphs(), st.randoms(use_true_random=False))
def test_order_of_nodes_changes_no_count(graph, random):
    shuffled = [list(each) for each in (graph.inputs, graph.functions, graph.outputs)]
    for each in shuffled:
        random.shuffle(each)
    other = Graph.from_networkx(graph.to_networkx(), *shuffled)
    assert set(other.function_edges) == set(graph.function_edges)
    for what in ("unreached_functions", "dead_end_functions", "unreached_outputs", "self_edges", "unused_inputs"):
        assert sorted(getattr(other, what)) == sorted(getattr(graph, what)), what
    mine, theirs = alias_groups(graph), alias_groups(other)
    np.testing.assert_equal((theirs.n_groups, theirs.share_aliased), (mine.n_groups, mine.share_aliased))


@examples()
@given(graphs())
def test_aliases_part_the_candidates(graph):
    groups = alias_groups(graph)
    known = {(graph.functions.index(a), graph.functions.index(b)) for a, b in graph.function_edges}
    pairs = [(i, j) for i in range(graph.N) for j in range(graph.N) if i != j and (i, j) not in known]
    assert groups.n_candidates == len(pairs)
    if not pairs:
        return
    source, target = np.array(pairs).T
    of = groups.group(source, target)
    sizes = Counter(of.tolist())
    assert groups.size(source, target).tolist() == [sizes[g] for g in of.tolist()]
    assert groups.n_groups == len(sizes)
    # Two candidates alias if and only if the same inputs reach their sources, and the same outputs their targets.
    G = graph.to_networkx()
    above = {f: frozenset(i for i in graph.inputs if f in nx.descendants(G, i)) for f in graph.functions}
    below = {f: frozenset(nx.descendants(G, f) & set(graph.outputs)) for f in graph.functions}
    key = [(above[graph.functions[i]], below[graph.functions[j]]) for i, j in pairs]
    for k in range(len(pairs)):
        for m in range(k):
            assert (key[k] == key[m]) == (of[k] == of[m])


@examples()
@given(graphs(signed=False), seeds, st.floats(0.05, 0.9))
def test_hidden_edges_were_there_and_cut_nothing_off(graph, seed, fraction):
    try:
        masking = mask_edges(graph, fraction, seed)
    except (DataError, ValueError):
        assume(False)
    hidden = set(masking.hidden)
    assert hidden
    assert hidden <= set(graph.function_edges)
    assert set(masking.graph.function_edges) == set(graph.function_edges) - hidden
    assert masking.graph.unreached_outputs == graph.unreached_outputs
    assert masking.graph.node_names_dict == graph.node_names_dict
    assert mask_edges(graph, fraction, seed).hidden == masking.hidden


@examples()
@given(graphs(signed=False, loops=False), seeds)
def test_rewiring_keeps_degrees_and_ends(graph, seed):
    other = rewire(graph, seed)
    for end in range(2):
        counts = [Counter(edge[end] for edge in g.function_edges) for g in (graph, other)]
        assert counts[0] == counts[1]
    assert not other.self_edges
    assert other.E == graph.E


@examples()
@given(st.lists(names, min_size=1, max_size=6, unique=True), st.data())
def test_a_repeated_name_is_refused_and_named(called, data):
    called = [*called, data.draw(st.sampled_from(called))]
    with pytest.raises(DataError) as caught:
        Graph.from_edges([(called[0], "out")], input_nodes=["in"], function_nodes=called, output_nodes=["out"])
    twice = [name for name, count in Counter([*called, "in", "out"]).items() if count > 1]
    assert any(repr(name) in str(caught.value) for name in twice)


@examples(0.1)
@given(seeds)
def test_a_hundred_thousand_nodes(seed):
    n = 100_000
    rng = np.random.default_rng(seed)
    source, target = rng.integers(0, n, (2, 2 * n))
    begin = time.process_time()
    index = {
        ("function", "to", "function"): np.stack([source, target]),
        ("input", "to", "function"): np.array([[0], [int(source[0])]]),
        ("function", "to", "output"): np.array([[int(target[-1])], [0]]),
    }
    called = {"input": ["in"], "function": [f"f{i}" for i in range(n)], "output": ["out"]}
    graph = Graph(index, called)
    lost = len(graph.unreached_functions)
    assert graph.N == n
    assert len(graph.self_edges) == len(set(source[source == target].tolist()))
    seen, front = {int(source[0])}, [int(source[0])]
    after: dict[int, list[int]] = {}
    for a, b in zip(source.tolist(), target.tolist(), strict=True):
        after.setdefault(a, []).append(b)
    while front:
        new = {b for a in front for b in after.get(a, ())} - seen
        seen |= new
        front = list(new)
    assert lost == n - len(seen)
    assert time.process_time() - begin < 30
