"""Which edges are hidden, and the two nulls."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np
import pytest

from gsnn.base.errors import DataError
from gsnn.discovery import mask_edges
from gsnn.discovery.hiding import FEWEST, _quotas, holes
from gsnn.discovery.selfcheck.controls import permute_samples, rewire
from gsnn.graph import Graph

from .conftest import random_graph, simulated


def reachable(graph, start):
    return set().union(*(nx.descendants(graph, node) | {node} for node in start))


def live(graph):
    G = graph.to_networkx()
    return reachable(G, graph.inputs), reachable(G.reverse(), graph.outputs)


def bare(graph):
    """Functions without another function as child, and without one as parent."""
    functions = nx.DiGraph(edge for edge in graph.function_edges if edge[0] != edge[1])
    functions.add_nodes_from(graph.functions)
    return {v for v in functions if not functions.out_degree(v)}, {v for v in functions if not functions.in_degree(v)}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fraction", [0.15, 0.9])
def test_every_promise_on_random_graphs(seed, fraction):
    graph = random_graph(n=20, density=0.12, seed=seed)
    down, up = live(graph)
    on_path = {(s, t) for s, t in graph.function_edges if s != t and s in down and t in up}
    children, parents = (Counter(e[end] for e in graph.function_edges if e[0] != e[1]) for end in (0, 1))
    eligible = {(s, t) for s, t in on_path if children[s] > 1 and parents[t] > 1}
    assert len(eligible) >= 10
    masking = mask_edges(graph, fraction, seed=seed)
    hidden = set(masking.hidden)
    assert hidden <= eligible
    n = len(graph.function_edges)
    found = (masking.n_eligible, masking.n_pathless, masking.n_last)
    assert found == (len(eligible), n - len(on_path), len(on_path) - len(eligible))
    assert len(hidden) <= round(fraction * len(eligible))
    assert masking.graph.equals(graph.without_edges(masking.hidden))
    below, above = live(masking.graph)
    assert below & set(graph.outputs) == down & set(graph.outputs)
    assert set(masking.testable) == {(s, t) for s, t in hidden if s in below and t in above}
    assert not set(masking.testable) & set(masking.cut_off)
    # All together, not one by one: with nearly all hidden every source keeps a child and every target a parent.
    childless, orphaned = bare(masking.graph)
    assert not any(s in childless or t in orphaned for s, t in hidden)
    assert masking.holes == []
    if fraction > 0.5:
        assert masking.n_protected > 0


@pytest.mark.parametrize("seed", range(6))
def test_where_few_can_be_hidden_without_a_hole_others_are_told_apart(seed):
    graph = simulated(5).graph
    children, parents = (Counter(e[end] for e in graph.function_edges) for end in (0, 1))
    assert sum(children[s] > 1 and parents[t] > 1 for s, t in graph.function_edges) < FEWEST
    masking = mask_edges(graph, 0.4, seed)
    childless, orphaned = bare(masking.graph)
    assert masking.holes == [(s, t) for s, t in masking.testable if s in childless or t in orphaned]
    assert masking.n_last == 0
    assert masking.n_eligible == len(graph.function_edges)


def test_a_self_edge_is_no_child_and_no_parent():
    childless, orphaned = holes(np.array([[0, 1, 2], [1, 1, 2]]), 3)
    assert childless.tolist() == [False, True, True]
    assert orphaned.tolist() == [True, False, True]


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
    roles = {edge: "first" for edge in graph.function_edges if edge[0] in ("f0", "f1", "f2", "f3", "f4", "f5")}
    masking = mask_edges(graph, 0.3, 0, "role", roles)
    children, parents = (Counter(e[end] for e in graph.function_edges) for end in (0, 1))
    eligible = [e for e in graph.function_edges if children[e[0]] > 1 and parents[e[1]] > 1]
    n = sum(edge in roles for edge in eligible)
    assert 0 < n < len(eligible) == masking.n_eligible
    count = Counter(masking.strata.values())
    assert set(count) == {"first", "other"}
    assert len(masking.hidden) == round(0.3 * len(eligible))
    assert abs(count["first"] - 0.3 * n) <= 1


def test_degree_strata_get_their_share():
    masking = mask_edges(simulated(12).graph, 0.5, 0, "degree")
    assert sum(Counter(masking.strata.values()).values()) == len(masking.hidden)
    assert set(masking.strata.values()) <= {"low degree", "middle degree", "high degree"}


def test_shares_by_largest_remainder():
    assert _quotas(["a"] * 7 + ["b"] * 2 + ["c"], 5) == {"a": 4, "b": 1, "c": 0}
    assert sum(_quotas(["a", "b", "c"], 2).values()) == 2


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
