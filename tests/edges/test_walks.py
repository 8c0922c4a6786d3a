"""Walks, windows and negatives against enumeration and exact probabilities."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from gsnn.edges.embedding.walks import ENDED, NegativeSampler, WalkGraph, random_walks, window_pairs

HEADS = torch.tensor([0, 0, 1, 3, 3])
TAILS = torch.tensor([1, 2, 2, 0, 1])
WEIGHTS = torch.tensor([1.0, 3.0, 0.5, 2.0, 1e-6], dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def transition_matrix(heads, tails, weights, n, undirected):
    """By the definition: the strongest of parallel edges, rows divided by their sum."""
    w = np.zeros((n, n))
    for h, t, x in zip(heads.tolist(), tails.tolist(), weights.tolist(), strict=True):
        for a, b in [(h, t), (t, h)] if undirected else [(h, t)]:
            if a != b:
                w[a, b] = max(w[a, b], x)
    total = w.sum(1, keepdims=True)
    return np.divide(w, total, out=np.zeros_like(w), where=total > 0)


def probabilities(graph):
    """What the arcs' intervals say."""
    p = np.zeros((graph.n_nodes, graph.n_nodes))
    for i in range(graph.n_nodes):
        low = float(i)
        for arc in range(int(graph.starts[i]), int(graph.starts[i + 1])):
            p[i, graph.targets[arc]] = float(graph.reach[arc]) - low
            low = float(graph.reach[arc])
    return p


@pytest.mark.parametrize("undirected", [True, False])
def test_transition_probabilities_are_exact(undirected):
    graph = WalkGraph.build(HEADS, TAILS, WEIGHTS, 5, undirected=undirected)
    expected = transition_matrix(HEADS, TAILS, WEIGHTS, 5, undirected)
    np.testing.assert_allclose(probabilities(graph), expected, atol=1e-14)


def test_tiny_and_huge_weights_keep_their_shares():
    rng = np.random.default_rng(0)
    heads, tails = torch.as_tensor(rng.integers(0, 40, (2, 500)))
    weights = torch.as_tensor(10.0 ** rng.uniform(-300, 300, 500))
    graph = WalkGraph.build(heads, tails, weights, 40)
    np.testing.assert_allclose(probabilities(graph), transition_matrix(heads, tails, weights, 40, True), atol=1e-12)


@pytest.mark.parametrize("undirected", [True, False])
def test_walks_have_the_frequencies_of_the_weights(undirected):
    weights = WEIGHTS.clone()
    weights[-1] = 0.7
    graph = WalkGraph.build(HEADS, TAILS, weights, 5, undirected=undirected)
    p = transition_matrix(HEADS, TAILS, weights, 5, undirected)
    walks = random_walks(graph, 4000, 6, generator(1)).numpy()
    before, after = walks[:, :-1].ravel(), walks[:, 1:].ravel()
    for node in range(5):
        seen = after[before == node]
        if not p[node].any():
            assert (seen == ENDED).all()
            continue
        counts = np.bincount(seen, minlength=5)
        possible = p[node] > 0
        assert counts[~possible].sum() == 0
        if possible.sum() > 1:
            assert chisquare(counts[possible], counts.sum() * p[node][possible]).pvalue > 1e-3


def test_walks_start_everywhere_and_follow_edges():
    graph = WalkGraph.build(HEADS, TAILS, WEIGHTS, 5)
    walks = random_walks(graph, 3, 7, generator())
    assert walks.shape == (15, 7)
    assert walks[:, 0].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    edges = {(a, b) for a, b in zip(HEADS.tolist(), TAILS.tolist(), strict=True)}
    for walk in walks.tolist():
        for a, b in pairwise(walk):
            assert b == ENDED or (a, b) in edges or (b, a) in edges
    assert (walks[12:, 1:] == ENDED).all()


@pytest.mark.parametrize("weights", [[0.0, 0.0], [float("nan"), -1.0]])
def test_a_graph_without_usable_edges_is_safe(weights):
    graph = WalkGraph.build(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor(weights), 3)
    walks = random_walks(graph, 2, 4, generator())
    assert (walks[:, 1:] == ENDED).all()
    assert len(window_pairs(walks, 3)) == 0
    assert random_walks(WalkGraph.build(*torch.zeros(2, 0).long(), torch.zeros(0), 0), 2, 4, generator()).shape == (
        0,
        4,
    )


def test_walks_depend_on_the_generator_alone():
    graph = WalkGraph.build(HEADS, TAILS, WEIGHTS, 5)
    before = torch.get_rng_state()
    one, same, other = (random_walks(graph, 9, 9, generator(s)) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("window", [1, 2, 5, 50])
@pytest.mark.parametrize("both", [True, False])
def test_windows_are_those_of_the_enumeration(window, both):
    walks = torch.randint(-1, 4, (20, 7), generator=generator(2))
    expected = []
    for walk in walks.tolist():
        for i, a in enumerate(walk):
            for j, b in enumerate(walk):
                if i != j and abs(i - j) <= window and a != b and ENDED not in (a, b) and (both or i < j):
                    expected.append((a, b))
    assert sorted(map(tuple, window_pairs(walks, window, both_ways=both).tolist())) == sorted(expected)


def test_negatives_are_uniform_among_the_allowed():
    blocked = torch.rand(12, 12, generator=generator(3)) < 0.4
    blocked[5] = True
    blocked[6] = True
    blocked[6, 2] = False
    nodes = torch.arange(12).repeat(300)
    row, drawn = NegativeSampler(blocked, generator()).draw(nodes, 20)
    heads = nodes[row]
    assert (row.diff() >= 0).all()
    assert not (heads == 5).any()
    assert (drawn[heads == 6] == 2).all()
    for node in range(12):
        allowed = (~blocked[node]).clone()
        allowed[node] = False
        if node == 5:
            continue
        counts = torch.bincount(drawn[heads == node], minlength=12)
        assert counts.sum() == 6000
        assert counts[~allowed].sum() == 0
        if allowed.sum() > 1:
            assert chisquare(counts[allowed].numpy()).pvalue > 1e-3


def test_no_negatives_asked_for():
    row, drawn = NegativeSampler(torch.zeros(3, 3).bool(), generator()).draw(torch.tensor([0, 1]), 0)
    assert len(row) == len(drawn) == 0


@pytest.mark.slow
def test_walks_on_a_large_graph_are_fast():
    import time

    heads, tails = torch.randint(5000, (2, 50_000), generator=generator())
    weights = torch.rand(50_000, generator=generator())
    start = time.process_time()
    walks = random_walks(WalkGraph.build(heads, tails, weights, 5000), 20, 10, generator())
    assert time.process_time() - start < 4
    assert walks.shape == (100_000, 10)
