"""Baselines that an edge inferer must beat: scores of the prior graph alone, and one that also reads the data.

Each function takes a graph, as :func:`adjacency` does, and returns scores of all ordered pairs, (N, N), [i, j] for the
edge i -> j. Known edges are scored like all other pairs, so an evaluator must leave them out as it does for a method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import linalg

from gsnn.base.arrays import FloatArray
from gsnn.discovery.stacked.features import spread
from gsnn.edges.pairs import PriorEdges
from gsnn.graph import EDGE_TYPES, Graph
from gsnn.graph.kinds import FUNCTION_EDGES, INPUT_EDGES, OUTPUT_EDGES

_FF, _IF, _FO = EDGE_TYPES
_DENSE = 500  # nodes up to which all singular values are computed


def adjacency(graph: Any) -> sparse.csr_matrix:  # noqa: ANN401 - a Graph, anything like it, or a matrix
    """The function -> function edges as a sparse (N, N) matrix of 0 and 1, without self-edges.

    Args:
        graph: A :class:`gsnn.graph.Graph` or HeteroData-like object, or a square matrix (sparse or not) whose nonzero
            entries are edges.

    Returns:
        float64, shape (N, N).

    Raises:
        ValueError: If a matrix is not square.
    """
    if sparse.issparse(graph) or isinstance(graph, np.ndarray):
        nonzero: Any = graph != 0
        matrix = sparse.csr_matrix(nonzero, dtype=np.float64)
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"graph must be a square matrix (N, N), got shape {matrix.shape}")
    else:
        index = np.asarray(graph.edge_index_dict[_FF])
        n = len(graph.node_names_dict["function"])
        matrix = sparse.csr_matrix((np.ones(index.shape[1]), (index[0], index[1])), shape=(n, n))
        matrix.data[:] = 1.0
    matrix = sparse.csr_matrix(matrix - sparse.diags(matrix.diagonal()))
    matrix.eliminate_zeros()
    return matrix


def random_scores(graph: Any, seed: int | np.random.Generator = 0) -> FloatArray:  # noqa: ANN401
    """Uniform random scores, from a seed or a generator."""
    n = adjacency(graph).shape[0]
    return np.random.default_rng(seed).random((n, n))


def degree_product(graph: Any) -> FloatArray:  # noqa: ANN401
    """Out-degree of i times in-degree of j (preferential attachment).

    Example:
        >>> degree_product(np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0]]))
        array([[0., 2., 4.],
               [0., 1., 2.],
               [0., 0., 0.]])
    """
    edges = adjacency(graph)
    out, into = (np.asarray(edges.sum(axis=axis), dtype=np.float64).ravel() for axis in (1, 0))
    return np.outer(out, into)


def common_neighbours(graph: Any) -> FloatArray:  # noqa: ANN401
    """Number of nodes that are neighbours of both i and j, regardless of the direction of edges.

    Example:
        >>> common_neighbours(np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]]))[0, 1]
        np.float64(1.0)
    """
    edges = adjacency(graph)
    neighbours = sparse.csr_matrix(edges + edges.T)
    neighbours.data[:] = 1.0
    return np.asarray((neighbours @ neighbours).todense(), dtype=np.float64)


def jaccard(graph: Any) -> FloatArray:  # noqa: ANN401
    """Share of common neighbours among the neighbours of i or j, regardless of direction; 0 without neighbours.

    Example:
        >>> jaccard(np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]]))[0, 1]
        np.float64(1.0)
    """
    shared = common_neighbours(graph)
    degree = np.diagonal(shared)
    either = degree[:, None] + degree[None, :] - shared
    return np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)


def spectral_embedding(graph: Any, rank: int | None = None) -> FloatArray:  # noqa: ANN401
    """The best approximation of low rank to the adjacency matrix, at each pair.

    A = U S V^T is truncated to the largest singular values. This gives each node a source and a target embedding,
    learnt from the graph alone, whose products complete the matrix.

    Args:
        graph: As for :func:`adjacency`.
        rank: Number of singular values kept; None: N / 8, but at most 16 (a higher rank only repeats the known edges).
            Equal singular values are kept or dropped together, because the order of their vectors is arbitrary.

    Returns:
        Shape (N, N).

    Raises:
        ValueError: If ``rank`` is below 1.

    Example:
        >>> A = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
        >>> spectral_embedding(A, rank=1).round(1)[:2]
        array([[0. , 0. , 0.9, 1.1],
               [0. , 0. , 0.9, 1.1]])
    """
    if rank is not None and rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    edges = adjacency(graph)
    n = edges.shape[0]
    most = max(1, min(16, n // 8)) if rank is None else min(rank, n)
    if n < 2 or not edges.nnz:
        return np.zeros((n, n))
    if n <= _DENSE:
        u, s, vt = np.linalg.svd(edges.toarray())
    else:
        # A fixed start makes the iteration repeatable; the sign of its vectors cancels in the product.
        u, s, vt = linalg.svds(edges, k=min(most + 8, n - 1), v0=np.ones(n))
        u, s, vt = u[:, ::-1], s[::-1], vt[::-1]
    gaps = np.append(s[1:], 0.0) < s * (1 - 1e-6)
    ends = np.flatnonzero(gaps) + 1
    below = ends[ends <= most]
    kept = int(below[-1]) if len(below) else int(ends[0]) if len(ends) else len(s)
    return np.asarray((u[:, :kept] * s[:kept]) @ vt[:kept], dtype=np.float64)


def residual_correlation(
    graph: Graph, x: npt.ArrayLike, residual: npt.ArrayLike, kind: str = FUNCTION_EDGES
) -> FloatArray:
    """How inputs that reach i correlate with the residuals of the outputs reachable from j.

    It is the root mean square, over the inputs p that reach i and the outputs o reachable from j, of the Pearson
    correlation between x_p and the residual of o (over the samples in which o was observed). It needs the residuals of
    a fitted model, but nothing from inside the model.

    Args:
        graph: The prior graph, with its inputs and outputs.
        x: (M, I) inputs.
        residual: (M, O), observed minus predicted; NaN is missing.
        kind: The kind of the edges; an input reaches itself, and so does an output.

    Returns:
        Shape (S, T); NaN where no input reaches i, no output is reachable from j, or no correlation is defined.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> edges = [("x", "a"), ("a", "b"), ("b", "y")]
        >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"])
        >>> residual_correlation(graph, [[0.0], [1.0], [2.0]], [[0.0], [2.0], [4.0]])[0, 1].round(6)
        np.float64(1.0)
    """
    inputs, errors = np.asarray(x, dtype=np.float64), np.asarray(residual, dtype=np.float64)
    if inputs.ndim != 2 or inputs.shape[1] != graph.I or errors.shape != (len(inputs), graph.O):
        raise ValueError(
            f"x and residual must be (M, {graph.I}) and (M, {graph.O}), got {inputs.shape} and {errors.shape}"
        )
    squared = _correlations(inputs, errors) ** 2
    above, below = reach_masks(graph)
    if kind == INPUT_EDGES:
        above = np.eye(graph.I)
    elif kind == OUTPUT_EDGES:
        below = np.eye(graph.O)
    defined = np.isfinite(squared)
    total = above @ np.where(defined, squared, 0.0) @ below.T
    count = above @ defined.astype(np.float64) @ below.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.where(count > 0, total / count, np.nan))


def reach_masks(graph: Graph) -> tuple[FloatArray, FloatArray]:
    """Which inputs reach each function, (N, I), and which outputs are reachable from it, (N, O), as 0 and 1."""
    edges = adjacency(graph)
    fed, read = (graph.edge_index_dict[kind].numpy() for kind in (_IF, _FO))
    above = spread(sparse.csr_matrix(edges.T), fed[1], fed[0], graph.I)
    below = spread(edges, read[0], read[1], graph.O)
    return above.astype(np.float64), below.astype(np.float64)


def _correlations(x: FloatArray, y: FloatArray) -> FloatArray:
    """Pearson correlations (I, O) over the samples in which each column of y is observed; NaN where undefined."""
    result = np.full((x.shape[1], y.shape[1]), np.nan)
    for column in range(y.shape[1]):
        seen = np.isfinite(y[:, column])
        if seen.sum() < 3:
            continue
        a, b = x[seen] - x[seen].mean(axis=0), y[seen, column] - y[seen, column].mean()
        norm_a, norm_b = np.sqrt((a**2).sum(axis=0)), np.sqrt((b**2).sum())
        varies = norm_a > 1e-12 * np.sqrt((x[seen] ** 2).sum(axis=0))
        if norm_b > 1e-12 * np.sqrt((y[seen, column] ** 2).sum()):
            with np.errstate(invalid="ignore", divide="ignore"):
                result[:, column] = np.where(varies, (a.T @ b) / (norm_a * norm_b), np.nan)
    return result


PRIOR_BASELINES: Mapping[str, Callable[[Any], FloatArray]] = {
    "degree product": degree_product,
    "common neighbours": common_neighbours,
    "jaccard": jaccard,
    "spectral embedding": spectral_embedding,
}


def prior_scores(
    graph: Any,  # noqa: ANN401 - as for adjacency
    *,
    seed: int | np.random.Generator = 0,
    x: npt.ArrayLike | None = None,
    residual: npt.ArrayLike | None = None,
    y: npt.ArrayLike | None = None,
    kind: str = FUNCTION_EDGES,
) -> dict[str, FloatArray]:
    """Every baseline by name.

    Args:
        graph: As for :func:`adjacency`; a Graph if ``residual`` is given, or for another kind.
        seed: Seed or generator of the random scores.
        x: (M, I) inputs, with ``residual``.
        residual: (M, O) residuals of a model; without them the baseline that needs them is left out.
        y: (M, O) responses, for the correlation that needs no model; used only for other kinds.
        kind: The kind of the edges.

    Returns:
        Scores (S, T) by name. Between functions: ``random``, the :data:`PRIOR_BASELINES` and, with ``x`` and
        ``residual``, ``residual correlation``. For other kinds: ``random``, ``degree product`` and, with what they
        need, ``residual correlation`` and ``response correlation``.
    """
    if kind != FUNCTION_EDGES:
        prior = PriorEdges(graph, kind)
        shape = len(prior.sources), len(prior.targets)
        out, into = (np.bincount(side, minlength=n) for side, n in zip(prior.pairs, shape, strict=True))
        scores = {
            "random": np.random.default_rng(seed).random(shape),
            "degree product": np.outer(out, into).astype(np.float64),
        }
        for name, values in (("residual correlation", residual), ("response correlation", y)):
            if x is not None and values is not None:
                scores[name] = residual_correlation(graph, x, values, kind)
        return scores
    edges = adjacency(graph)
    scores = {"random": random_scores(edges, seed)}
    scores |= {name: score(edges) for name, score in PRIOR_BASELINES.items()}
    if x is not None and residual is not None:
        scores["residual correlation"] = residual_correlation(graph, x, residual)
    return scores
