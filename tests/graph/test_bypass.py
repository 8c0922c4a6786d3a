"""Bypasses against networkx, one edge at a time."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from gsnn.graph import Graph
from gsnn.graph.bypass import bypass_count, routed
from gsnn.io import read_network


def graph_of(made):
    names = [f"f{i}" for i in made.nodes]
    edges = [("x", "f0"), ("f1", "y"), *((f"f{s}", f"f{t}") for s, t in made.edges)]
    return Graph.from_edges(edges, input_nodes=["x"], function_nodes=names, output_nodes=["y"])


@pytest.mark.parametrize("seed", range(4))
def test_against_networkx(seed):
    made = nx.gnp_random_graph(12, 0.12 + 0.04 * seed, seed=seed, directed=True)
    made.add_edge(3, 3)
    graph, want = graph_of(made), 0
    edges = [edge for edge in made.edges if edge[0] != edge[1]]
    for edge in edges:
        without = made.copy()
        without.remove_edge(*edge)
        want += nx.has_path(without, *edge)
    assert bypass_count(graph) == (want, len(edges))
    assert bypass_count(graph) == (want, len(edges)), "nothing of the graph was changed"
    pairs = [(a, b) for a in range(12) for b in range(12) if a != b]
    assert routed(graph, [(f"f{a}", f"f{b}") for a, b in pairs]) == [nx.has_path(made, a, b) for a, b in pairs]


def test_of_many_a_sample():
    graph = graph_of(nx.complete_graph(9, create_using=nx.DiGraph))
    assert bypass_count(graph, most=20, seed=1) == (20, 20)
    ring = graph_of(nx.cycle_graph(30, create_using=nx.DiGraph))
    assert bypass_count(ring, most=10) == (0, 10)


def test_of_no_edge():
    assert bypass_count(graph_of(nx.empty_graph(3, create_using=nx.DiGraph))) == (0, 0)
    assert np.all(np.equal(routed(graph_of(nx.empty_graph(2)), []), []))


def test_two_thirds_of_the_melanoma_network_have_one(gsnn_data):
    folder = gsnn_data / "melanoma_cellbox"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    edges = read_network(folder / "network.csv").edges
    pairs = list(zip(edges["source"], edges["target"], strict=True))
    names = sorted({name for pair in pairs for name in pair})
    graph = Graph.from_edges(
        [("in", names[0]), (names[0], "out"), *pairs], input_nodes=["in"], function_nodes=names, output_nodes=["out"]
    )
    assert bypass_count(graph) == (79, 120)
