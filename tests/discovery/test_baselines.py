"""Baselines against loops and networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from gsnn.discovery import prior_scores
from gsnn.discovery.baselines import (
    common_neighbours,
    degree_product,
    jaccard,
    random_scores,
    residual_correlation,
    spectral_embedding,
)

from .conftest import random_graph


@pytest.fixture(params=range(3))
def graph(request):
    return random_graph(seed=request.param)


def functions_of(graph):
    G = nx.DiGraph()
    G.add_nodes_from(graph.functions)
    G.add_edges_from(edge for edge in graph.function_edges if edge[0] != edge[1])
    return G


def test_degrees_and_neighbours(graph):
    G = functions_of(graph)
    beside = {node: set(G.predecessors(node)) | set(G.successors(node)) for node in G}
    degrees, shared, share = degree_product(graph), common_neighbours(graph), jaccard(graph)
    for i, a in enumerate(graph.functions):
        for j, b in enumerate(graph.functions):
            both, either = beside[a] & beside[b], beside[a] | beside[b]
            assert degrees[i, j] == G.out_degree(a) * G.in_degree(b)
            assert shared[i, j] == len(both)
            assert share[i, j] == pytest.approx(len(both) / len(either) if either else 0)


def test_spectral_embedding_is_the_best_low_rank_approximation(graph):
    A = nx.to_numpy_array(functions_of(graph), nodelist=graph.functions)
    singular = np.linalg.svd(A, compute_uv=False)
    for rank in (1, 3, 100):
        left = np.linalg.norm(A - spectral_embedding(graph, rank))
        assert left == pytest.approx(np.sqrt((singular[rank:] ** 2).sum()), abs=1e-9)
    with pytest.raises(ValueError, match="rank must be at least 1"):
        spectral_embedding(graph, 0)


def test_the_order_of_the_nodes_does_not_matter():
    # Two equal components: equal singular values, whose vectors no order of the nodes may choose.
    half = (np.random.default_rng(0).random((6, 6)) < 0.4) * (1 - np.eye(6))
    A = np.kron(np.eye(2), half)
    order = np.random.default_rng(1).permutation(12)
    for rank in (None, 1, 2, 3, 5):
        moved = spectral_embedding(A[np.ix_(order, order)], rank)
        np.testing.assert_allclose(moved, spectral_embedding(A, rank)[np.ix_(order, order)], atol=1e-9)


def test_large_graphs_give_the_same_embedding_by_iteration():
    rng = np.random.default_rng(0)
    A = (rng.random((520, 520)) < 0.02) * (1 - np.eye(520))
    A[:30, 30:60] = 1  # a gap after the first singular value
    u, s, vt = np.linalg.svd(A)
    np.testing.assert_allclose(spectral_embedding(A, 1), s[0] * np.outer(u[:, 0], vt[0]), atol=1e-6)


def test_residual_correlation_against_paths(graph):
    rng = np.random.default_rng(0)
    x, left = rng.normal(size=(12, graph.I)), rng.normal(size=(12, graph.O))
    left[0, 0] = np.nan
    left[:, 1] = 3.0
    G = graph.to_networkx()
    scores = residual_correlation(graph, x, left)
    for i, a in enumerate(graph.functions):
        for j, b in enumerate(graph.functions):
            squares = []
            for p, source in enumerate(graph.inputs):
                for o, sink in enumerate(graph.outputs):
                    if o != 1 and nx.has_path(G, source, a) and nx.has_path(G, b, sink):
                        seen = ~np.isnan(left[:, o])
                        squares.append(np.corrcoef(x[seen, p], left[seen, o])[0, 1] ** 2)
            expected = np.sqrt(np.mean(squares)) if squares else np.nan
            np.testing.assert_allclose(scores[i, j], expected, atol=1e-12)


def test_scale_of_residuals_does_not_matter(graph):
    rng = np.random.default_rng(0)
    x, left = rng.normal(size=(12, graph.I)), rng.normal(size=(12, graph.O))
    np.testing.assert_allclose(
        residual_correlation(graph, x, 1e-9 * left + 1e-6), residual_correlation(graph, x, left), rtol=1e-5
    )
    with pytest.raises(ValueError, match="x and residual must be"):
        residual_correlation(graph, x.T, left)


def test_all_of_them(graph):
    some = prior_scores(graph, seed=3)
    assert list(some) == ["random", "degree product", "common neighbours", "jaccard", "spectral embedding"]
    assert (some["random"] == random_scores(graph, 3)).all()
    more = prior_scores(graph, x=np.zeros((4, graph.I)), residual=np.zeros((4, graph.O)))
    assert np.isnan(more["residual correlation"]).all()
    assert all(scores.shape == (graph.N, graph.N) for scores in more.values())


def test_readouts_that_were_hardly_seen_say_nothing(graph):
    rng = np.random.default_rng(0)
    x, residual = rng.normal(size=(9, graph.I)), rng.normal(size=(9, graph.O))
    whole = residual_correlation(graph, x, residual)
    residual[2:, 0] = np.nan  # a correlation of two samples is 1 or -1
    without = residual_correlation(graph, x, residual)
    residual[:, 0] = 3.0
    assert np.array_equal(without, residual_correlation(graph, x, residual), equal_nan=True)
    assert not np.array_equal(without, whole, equal_nan=True)


def test_empty_graph():
    nothing = np.zeros((3, 3))
    assert all((scores == 0).all() for name, scores in prior_scores(nothing).items() if name != "random")
    with pytest.raises(ValueError, match="square"):
        degree_product(np.zeros((2, 3)))
