"""Which edges are hidden, and the two nulls."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np
import pytest

from gsnn.errors import DataError
from gsnn.graph import Graph
from gsnn.protocols import mask_edges, permute_samples, rewire
from gsnn.protocols._masking import _shares

from .conftest import random_graph, simulated


def reachable(graph, start):
    return set().union(*(nx.descendants(graph, node) | {node} for node in start))


def live(graph):
    G = graph.to_networkx()
    return reachable(G, graph.inputs), reachable(G.reverse(), graph.outputs)


@pytest.mark.parametrize("seed", range(6))
def test_every_promise_on_random_graphs(seed):
    graph = random_graph(n=20, density=0.1, seed=seed)
    down, up = live(graph)
    eligible = {(s, t) for s, t in graph.function_edges if s != t and s in down and t in up}
    masking = mask_edges(graph, 0.4, seed=seed)
    hidden = set(masking.hidden)
    assert hidden <= eligible
    assert (masking.n_eligible, masking.n_pathless) == (len(eligible), len(graph.function_edges) - len(eligible))
    assert len(hidden) <= round(0.4 * len(eligible))
    assert masking.graph.equals(graph.without_edges(masking.hidden))
    below, above = live(masking.graph)
    assert below & set(graph.outputs) == down & set(graph.outputs)
    assert set(masking.testable) == {(s, t) for s, t in hidden if s in below and t in above}
    assert not set(masking.testable) & set(masking.cut_off)


def test_the_draw_is_seeded_and_not_always_the_same():
    graph = simulated(8).graph
    assert mask_edges(graph, 0.3, 1).hidden == mask_edges(graph, 0.3, 1).hidden
    assert len({tuple(mask_edges(graph, 0.3, seed).hidden) for seed in range(5)}) == 5


def test_an_output_is_never_lost():
    edges = [("x", "a"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "y")]
    graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b", "c"], output_nodes=["y"])
    for seed in range(10):
        masking = mask_edges(graph, 0.99, seed)
        assert masking.graph.unreached_outputs == []
        # Without b -> c, a -> b leads nowhere: cut off. Without a -> b, b -> c has no signal.
        assert set(masking.hidden) in ({("a", "c")}, {("a", "b"), ("b", "c")})
        assert set(masking.testable) == ({("a", "c")} if ("a", "c") in masking.hidden else set())


def test_nothing_can_be_hidden():
    chain = Graph.from_edges(
        [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
    )
    with pytest.raises(DataError, match="none of the 1 known edges can be hidden"):
        mask_edges(chain, 0.5)
    with pytest.raises(DataError, match="no function -> function edge lies on a path"):
        mask_edges(chain.without_edges([("a", "b")]).with_edges([("b", "a")]).without_edges([("x", "a")]), 0.5)


def test_roles_get_their_share():
    graph = simulated(12).graph
    roles = {edge: "sink" for edge in graph.function_edges if edge[1] == "f23"}
    masking = mask_edges(graph, 0.3, 0, "role", roles)
    count = Counter(masking.strata.values())
    assert set(count) == {"sink", "other"}
    assert len(masking.hidden) == 10
    assert count["sink"] == round(10 * len(roles) / 33)


def test_degree_strata_get_their_share():
    masking = mask_edges(simulated(12).graph, 0.5, 0, "degree")
    assert sum(Counter(masking.strata.values()).values()) == len(masking.hidden)
    assert set(masking.strata.values()) <= {"low degree", "middle degree", "high degree"}


def test_shares_by_largest_remainder():
    assert _shares(["a"] * 7 + ["b"] * 2 + ["c"], 5) == {"a": 4, "b": 1, "c": 0}
    assert sum(_shares(["a", "b", "c"], 2).values()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0}, "fraction must be between 0 and 1"),
        ({"stratify": "degre"}, "did you mean 'degree'"),
        ({"stratify": "role"}, "needs roles"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        mask_edges(simulated(4).graph, **options)


@pytest.mark.parametrize("seed", range(4))
def test_rewiring_keeps_degrees_and_outputs(seed):
    graph = random_graph(n=20, density=0.15, seed=seed)
    new = rewire(graph, seed)
    for end in (0, 1):
        assert Counter(e[end] for e in new.function_edges) == Counter(e[end] for e in graph.function_edges)
    assert all(s != t for s, t in new.function_edges if (s, t) not in graph.function_edges)
    assert len(set(new.function_edges) & set(graph.function_edges)) < 0.6 * len(graph.function_edges)
    assert live(new)[0] & set(graph.outputs) == live(graph)[0] & set(graph.outputs)
    assert rewire(graph, seed).equals(new)


def test_a_single_edge_has_none_to_swap_with():
    graph = Graph.from_edges(
        [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
    )
    assert rewire(graph, 0).equals(graph)


def test_signs_stay_with_their_source():
    edges = [("x", "a"), ("a", "b", -1), ("c", "d", 1), ("x", "c"), ("b", "y"), ("d", "y")]
    graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=list("abcd"), output_nodes=["y"])
    table, _ = rewire(graph, 0).to_pandas()
    assert dict(zip(table["source"], table["sign"], strict=True))["a"] == -1


def test_permuted_samples_are_the_same_rows():
    data = simulated(4)
    new = permute_samples(data, 0)
    assert (new.x == data.x).all()
    assert not (new.y == data.y).all()
    assert sorted(map(tuple, new.y)) == sorted(map(tuple, data.y))
    assert np.array_equal(permute_samples(data, 0).y, new.y)
