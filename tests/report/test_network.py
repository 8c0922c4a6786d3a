"""Which nodes are drawn, and where."""

from __future__ import annotations

import networkx as nx
import pytest

from gsnn.plot.layout import drawn_nodes, edges_around, layers, positions


def test_layers_are_distances_on_a_chain_with_a_treatment_in_the_middle():
    graph = nx.path_graph("abcde", create_using=nx.DiGraph)
    assert layers(graph, ["a", "c"]) == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}


def test_layers_survive_cycles_self_edges_and_isolated_nodes():
    graph = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "d"), ("u", "d"), ("v", "w")])
    graph.add_node("alone")
    found = layers(graph, ["a", "c"])
    assert set(found) == set(graph)
    assert found["a"] == found["c"] == 0
    assert found["d"] == 1
    assert found["u"] == 0
    assert layers(graph, []) | {"x": 0}
    assert layers(nx.DiGraph([("a", "b")]), ["not there"]) == {"a": 0, "b": 0} | {"a": 0, "b": 0}


def test_positions_are_distinct_within_bounds_and_repeatable():
    graph = nx.gnp_random_graph(60, 0.05, seed=1, directed=True)
    graph = nx.relabel_nodes(graph, str)
    place = positions(graph, ["0", "1"])
    assert place == positions(graph, ["0", "1"])
    assert len(set(place.values())) == len(graph)
    assert all(0 <= v <= 1 for point in place.values() for v in point)
    assert positions(nx.DiGraph(), []) == {}


def test_ordering_removes_crossings():
    # Two layers of a matching given in opposite order: a good order has no crossing at all.
    graph = nx.DiGraph()
    graph.add_nodes_from([f"a{i}" for i in range(8)] + [f"b{i}" for i in reversed(range(8))])
    graph.add_edges_from((f"a{i}", f"b{i}") for i in range(8))
    place = positions(graph, [f"a{i}" for i in range(8)])
    pairs = [(place[f"a{i}"][1], place[f"b{i}"][1]) for i in range(8)]
    assert sorted(pairs) == sorted(pairs, key=lambda p: p[1])


def test_of_too_many_edges_those_of_the_first_nodes_stay():
    graph = nx.DiGraph()
    graph.add_weighted_edges_from([("a", "b", 1), ("b", "c", -1), ("c", "d", 0), ("d", "a", 1)], weight="sign")
    assert edges_around(graph, ["unknown", "b", "d"], limit=3) == [("a", "b", 1), ("b", "c", -1), ("c", "d", 0)]
    assert edges_around(graph, ["b", "d"], limit=1) == [("a", "b", 1)]


@pytest.mark.parametrize("limit", [2, 20, 300])
def test_large_networks_keep_the_ends_of_the_best_edges(limit):
    graph = nx.relabel_nodes(nx.gnp_random_graph(2000, 0.002, seed=0, directed=True), str)
    proposed = [(str(i), str(1999 - i)) for i in range(100)]
    drawn = drawn_nodes(graph, proposed, limit=limit, around=limit)
    assert len(drawn) <= limit
    assert {"0", "1999"} <= set(drawn)
    assert drawn == [node for node in graph if node in set(drawn)]
    ends = {end for edge in proposed[: limit // 2] for end in edge}
    assert ends <= set(drawn)
