"""The benchmark graph: the deterministic counts of the acceptance sheet."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from gsnn.graph import Graph, nx2pyg
from gsnn.simulation import convergence_graph, held_out_edges, simulate, split_held_out
from gsnn.simulation.benchmark import held_out_roles


@pytest.mark.parametrize(
    ("n", "functions", "edges", "held", "kept", "non_edges", "candidates", "partial", "split"),
    [(12, 24, 33, 16, 17, 519, 535, 41, (8, 8)), (25, 50, 72, 35, 37, 2378, 2413, 87, (17, 18))],
)
def test_counts(n, functions, edges, held, kept, non_edges, candidates, partial, split):
    G, inputs, names, outputs, function_edges = convergence_graph(n)
    hidden = held_out_edges(n)
    assert (len(inputs), len(names), len(outputs)) == (n, functions, n)
    assert len(function_edges) == edges
    assert len(hidden) == len(set(hidden)) == held
    assert set(hidden) <= set(function_edges)
    pairs = functions * (functions - 1)
    assert pairs - edges == non_edges
    graph = nx2pyg(G, inputs, names, outputs).without_edges(hidden)
    assert len(graph.function_edges) == kept
    assert pairs - kept == candidates
    assert graph.E == partial
    assert tuple(map(len, split_held_out(n))) == split
    assert Graph.from_networkx(G).summary().warnings == []


def test_structure():
    n = 6
    G, inputs, functions, outputs, _ = convergence_graph()
    assert inputs == [f"in{i}" for i in range(n)]
    assert functions == [f"f{i}" for i in range(2 * n)]
    assert outputs == [f"o{i}" for i in range(n)]
    assert all(list(G.predecessors(f"f{i}")) == [f"in{i}"] for i in range(n))
    assert all(list(G.predecessors(f"f{n + k}")) == [f"f{k}", f"f{k + 1}"] for k in range(n - 1))
    assert list(G.predecessors("f11")) == [f"f{n + k}" for k in range(n - 1)]
    assert all(list(G.predecessors(f"o{k}")) == [f"f{n + k}"] for k in range(n))


def test_roles_and_stride():
    assert held_out_roles(5, stride=3) == {
        ("f1", "f6"): "merge",
        ("f2", "f7"): "merge",
        ("f3", "f8"): "merge",
        ("f5", "f9"): "sink",
        ("f8", "f9"): "sink",
    }
    assert held_out_edges(5, stride=3) == list(held_out_roles(5, stride=3))


def test_split_follows_its_rule():
    rng = np.random.default_rng(0)
    merge = [(f"f{k}", f"f{25 + k}") for k in range(1, 24)]
    sink = [(f"f{25 + k}", "f49") for k in range(0, 24, 2)]
    rng.shuffle(merge)
    rng.shuffle(sink)
    validation, test = split_held_out(25)
    assert validation == merge[:11] + sink[:6]
    assert test == merge[11:] + sink[6:]
    assert split_held_out(25, seed=np.random.default_rng(0)) == (validation, test)
    assert split_held_out(25, seed=1) != (validation, test)


def test_too_small():
    with pytest.raises(ValueError, match=r"n_tier_a must be at least 2.*got 1"):
        convergence_graph(1)
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        held_out_edges(5, stride=0)
    assert len(convergence_graph(2)[-1]) == 3


@pytest.mark.parametrize(("n", "noise", "lowest"), [(25, 0.15, 0.503), (12, 0.15, 0.483), (25, 0.25, 0.538)])
def test_lowest_possible_error_of_the_partial_graph(n, noise, lowest):
    """No model of the kept graph can beat the regression of each output on the inputs that still reach it."""
    G, inputs, _, outputs, _ = convergence_graph(n)
    x, _, y, _ = simulate(G, 20_000, 0, inputs, outputs, noise_scale=noise, seed=0)
    y = (y - y.mean(0)) / y.std(0, ddof=1)
    kept = G.copy()
    kept.remove_edges_from(held_out_edges(n))
    errors = []
    for column, output in enumerate(outputs):
        reaching = x[:, [i for i, name in enumerate(inputs) if nx.has_path(kept, name, output)]]
        weights = np.linalg.lstsq(reaching, y[:, column], rcond=None)[0]
        errors.append(np.mean((y[:, column] - reaching @ weights) ** 2))
    assert np.mean(errors) == pytest.approx(lowest, abs=0.006)
