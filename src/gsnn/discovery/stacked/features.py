"""Features of each ordered pair of functions: of the graph, of the scores of a method, and of responses.

A feature has a name and values that broadcast to (N, N), [i, j] for the edge i -> j, in float32. Every function here
depends on its arguments alone, so that pairs of different graphs can be compared. Where ``free`` is asked for, it is
(N, N), True for candidates; other pairs take no rank. Names of features begin with ``name``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.stats import rankdata

from gsnn.base.arrays import BoolArray, FloatArray
from gsnn.graph.checks import EDGE_TYPES
from gsnn.graph.kinds import edge_pairs

FloatMatrix = npt.NDArray[np.float32]
Feature = tuple[str, npt.NDArray[np.floating]]

# Longer paths count as none: a signal travels no further than a model has layers.
MAX_HOPS = 12
# Rows ranked at a time: ranking takes several times their memory.
_ROWS = 256
# In logarithms, scores below this share of the largest are raised to it.
FLOOR = 1e-3
# Responses are features where at least this share of the pairs has an input and an output of its own.
LEAST_DESIGN = 0.1


def structural_features(data: Any) -> Iterator[Feature]:  # noqa: ANN401 - anything HeteroData-like
    """Features of all pairs that know the graph alone, one after the other: together they would fill the memory.

    They are degrees; what reaches the ends and what they reach; counts of short paths in every direction (A A^T A,
    A A^T, A^T A, A^2, A^3 of the adjacency matrix A); shortest distances; shared inputs and outputs. None tells whether
    a function has children or parents at all: that would tell where an edge was hidden, not where one is missing.

    Args:
        data: HeteroData-like with N functions; missing input or output edges count as none.

    Yields:
        Name and feature, float32 of shape (N, N), (N, 1) or (1, N).

    Example:
        >>> from gsnn.graph import Graph
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> dict(structural_features(graph))["distance"][0].tolist()
        [0.0, 1.0]
    """
    n = len(data.node_names_dict["function"])
    edges = edge_pairs(data, EDGE_TYPES[0])
    edges = edges[:, edges[0] != edges[1]]
    A = np.zeros((n, n), dtype=np.float32)
    A[edges[0], edges[1]] = 1.0
    fed, read = edge_pairs(data, ("input", "to", "function")), edge_pairs(data, ("function", "to", "output"))
    above, below = (
        spread(sparse.csr_matrix(step), nodes, members, int(members.max(initial=-1)) + 1)
        for step, nodes, members in ((A.T, fed[1], fed[0]), (A, read[0], read[1]))
    )
    out, into = A.sum(1), A.sum(0)
    n_fed, n_read = np.bincount(fed[1], minlength=n), np.bincount(read[0], minlength=n)
    of_nodes: dict[str, npt.NDArray[Any]] = {
        "out_degree": np.log1p(out),
        "in_degree": np.log1p(into),
        "fed": n_fed,
        "read": n_read,
        "inputs": np.log1p(above.sum(1)),
        "outputs": np.log1p(below.sum(1)),
        "from_input": _hops(A.T, n_fed > 0),
        "to_output": _hops(A, n_read > 0),
        "child_in_degree": np.log1p(_mean(A, into)),
        "parent_out_degree": np.log1p(_mean(A.T, out)),
    }
    sides = {}
    for name, values in of_nodes.items():
        column = np.asarray(values, dtype=np.float32)
        sides[f"source_{name}"], sides[f"target_{name}"] = column[:, None], column[None, :]
    yield from sides.items()
    yield "path_length", sides["source_from_input"] + sides["target_to_output"]
    yield "degree_product", sides["source_out_degree"] + sides["target_in_degree"]
    yield "reverse", A.T.copy()
    shared = A @ A.T
    yield "same_targets", np.log1p(shared)
    # Shares, so that hubs do not win by their size alone.
    yield "same_targets_cosine", shared / np.sqrt(np.maximum(np.outer(out, out), 1))
    squares = shared @ A
    yield "square", np.log1p(squares)
    squares /= np.maximum(out, 1)[:, None]
    squares /= np.maximum(into, 1)[None, :]
    yield "square_share", squares
    del squares
    shared = A.T @ A
    yield "same_sources", np.log1p(shared)
    yield "same_sources_cosine", shared / np.sqrt(np.maximum(np.outer(into, into), 1))
    shared = A @ A
    yield "two_steps", np.log1p(shared)
    yield "two_steps_back", np.log1p(shared.T)
    yield "three_steps", np.log1p(shared @ A)
    del shared
    far = distances(A)
    yield "distance", far
    yield "distance_back", far.T.copy()
    yield "distance_undirected", distances(np.maximum(A, A.T))
    del A, far
    for name, marks in (("inputs", above), ("outputs", below)):
        shared, size = marks @ marks.T, marks.sum(1)
        either = size[:, None] + size[None, :] - shared
        yield f"{name}_jaccard", np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
        # What an edge would add: inputs new to the target, outputs new to the source.
        own, lacks = (size[:, None], size[:, None] - shared) if name == "inputs" else (size[None, :], size - shared)
        yield f"new_{name}", lacks / np.maximum(own, 1)


def score_features(name: str, scores: FloatArray, free: BoolArray) -> Iterator[Feature]:
    """Features of the scores of a method, on scales that do not depend on the model.

    They are the logarithm; the same less the means of its source and its target; the share of the best of the target;
    and the ranks within target and within source. The scores (N, N) are not negative; NaN counts as 0.

    Example:
        >>> found = dict(score_features("s", np.array([[0.0, 1.0], [4.0, 0.0]]), ~np.eye(2, dtype=bool)))
        >>> found["s_of_target"].tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    score = np.where(free, np.maximum(np.nan_to_num(scores, nan=0.0), 0.0), 0.0)
    best = score.max(initial=0.0)
    log = np.log(np.maximum(score, FLOOR * best)) if best > 0 else np.zeros_like(score)
    if free.any():
        log -= np.median(log[free])
    rows, columns = (
        np.divide((log * free).sum(axis, keepdims=True), np.maximum(free.sum(axis, keepdims=True), 1))
        for axis in (1, 0)
    )
    yield f"{name}_log", log.astype(np.float32)
    log -= rows
    log -= columns
    yield f"{name}_centred", log.astype(np.float32)
    del log
    top = score.max(0, keepdims=True)
    yield f"{name}_of_target", (score / np.where(top > 0, top, 1.0)).astype(np.float32)
    yield from end_ranks(name, score, free)
    yield f"{name}_target_level", columns.astype(np.float32)
    yield f"{name}_source_level", rows.astype(np.float32)


def end_ranks(name: str, score: FloatArray, free: BoolArray) -> Iterator[Feature]:
    """Logarithmic ranks of a score (N, N) among the pairs of the same target and of the same source, largest first."""
    negative = np.where(free, -score, np.inf)
    yield f"{name}_rank_in_target", log_ranks(negative.T).T
    yield f"{name}_rank_in_source", log_ranks(negative)


def response_scores(data: Any, x: FloatArray, responses: Mapping[str, FloatArray]) -> dict[str, FloatArray]:  # noqa: ANN401
    """How outputs that read j respond to inputs that feed i, for designs that perturb and measure most functions.

    It is the root of the sum of squared Pearson correlations over the inputs fed directly into i and the outputs read
    directly from j. With one input and one output for every function, this ranks by the effect of a knock-out.

    Args:
        data: HeteroData-like with N functions, I inputs and O outputs.
        x: (M, I) inputs.
        responses: (M, O) by name, such as the responses and their residuals; NaN is missing.

    Returns:
        (N, N) by name; empty if fewer than a tenth of the pairs have an input and an output of their own.

    Example:
        >>> from gsnn.graph import Graph
        >>> edges = [("x", "a"), ("a", "b"), ("b", "y")]
        >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"])
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> response_scores(graph, x, {"response": 2 * x})["response"].tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """
    n = len(data.node_names_dict["function"])
    fed, read = edge_pairs(data, ("input", "to", "function")), edge_pairs(data, ("function", "to", "output"))
    into = np.zeros((n, x.shape[1]))
    into[fed[1], fed[0]] = 1.0
    found = {}
    for name, values in responses.items():
        out = np.zeros((n, values.shape[1]))
        out[read[0], read[1]] = 1.0
        if into.any(1).mean() * out.any(1).mean() < LEAST_DESIGN:
            return {}
        seen = np.isfinite(values)
        count = seen.sum(0)
        y = np.where(seen, values, 0.0)
        # Moments over the samples in which an output was observed.
        n_seen = np.maximum(count, 1)
        mean_y, mean_x = y.sum(0) / n_seen, (x.T @ seen) / n_seen
        covariance = (x.T @ y) / n_seen - mean_x * mean_y
        var_x = np.maximum((x.T**2) @ seen / n_seen - mean_x**2, 0.0)
        var_y = np.maximum((y**2).sum(0) / n_seen - mean_y**2, 0.0)
        scale = np.sqrt(var_x * var_y)
        defined = (scale > 1e-9 * np.sqrt(((x**2).mean(0))[:, None] * (y**2).mean(0))) & (count >= 3)
        squared = np.divide(covariance, scale, out=np.zeros_like(scale), where=defined) ** 2
        found[name] = np.sqrt(into @ squared @ out.T)
    return found


def stack(features: Iterable[Feature], rows: npt.NDArray[np.int64], n: int) -> tuple[list[str], FloatMatrix]:
    """The names of features, and (K, F) their values for the pairs ``rows`` (K,), i * N + j."""
    source, target = np.divmod(rows, n)
    names, columns = [], []
    for name, values in features:
        names.append(name)
        columns.append(np.broadcast_to(values, (n, n))[source, target].astype(np.float32))
    return names, np.stack(columns, axis=1)


def spread(
    step: sparse.csr_matrix, nodes: npt.NDArray[np.int64], members: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.float32]:
    """(N, size), 0 or 1: the members of each node and of all nodes that it leads to by ``step``."""
    found = np.zeros((step.shape[0], size), dtype=np.float32)
    found[nodes, members] = 1.0
    while True:
        more = np.minimum(found + step @ found, 1.0)
        if (more == found).all():
            return found
        found = more.astype(np.float32)


def _hops(step: npt.NDArray[np.float32], ends: BoolArray) -> npt.NDArray[np.float32]:
    """Steps from each node to the nearest of some ends, at most ``MAX_HOPS``."""
    far = np.full(len(ends), MAX_HOPS, dtype=np.float32)
    far[ends] = 0
    for hop in range(1, MAX_HOPS):
        reached = (step @ (far == hop - 1)) > 0
        far[reached & (far > hop)] = hop
    return far


def distances(A: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Length of the shortest path from each node to each other, at most ``MAX_HOPS``."""
    far = np.full(A.shape, MAX_HOPS, dtype=np.float32)
    np.fill_diagonal(far, 0.0)
    step, front = sparse.csr_matrix(A), np.eye(len(A), dtype=np.float32)
    for hop in range(1, MAX_HOPS):
        new = (step @ front > 0) & (far == MAX_HOPS)
        if not new.any():
            break
        far[new] = hop
        front = new.astype(np.float32)
    return far


def log_ranks(score: FloatArray) -> FloatMatrix:
    """Logarithms of the ranks within each row, scaled to (0, 1); the smallest first, ties get their mean rank."""
    ranks = np.empty(score.shape, dtype=np.float32)
    for start in range(0, len(score), _ROWS):
        some = slice(start, start + _ROWS)
        ranks[some] = np.log((rankdata(score[some], axis=1) - 0.5) / score.shape[1])
    return ranks


def _mean(step: npt.NDArray[np.float32], values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mean of a value over the nodes that each node leads to; 0 without any."""
    degree = step.sum(1)
    return np.divide(step @ values, degree, out=np.zeros_like(degree), where=degree > 0)
