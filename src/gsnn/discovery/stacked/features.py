"""What the stacked inferer knows of each ordered pair of functions: features of the graph, and of a method's scores.

Every function here returns features by name, each broadcastable to (N, N) with [i, j] for the edge i -> j, and looks
at nothing but its arguments, so that pairs of different graphs can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph
from scipy.stats import rankdata

from gsnn.graph.checks import EDGE_TYPES
from gsnn.graph.kinds import edge_pairs

FloatArray = npt.NDArray[np.float64]
Features = dict[str, npt.NDArray[np.floating]]

# Distances beyond this count as no path: a signal does not travel further than a model has layers.
MAX_HOPS = 12
# Scores this far below the largest are all the same in logarithms.
FLOOR = 1e-3
# Responses are features where at least this share of the pairs has an input and an output of its own.
LEAST_DESIGN = 0.1

__all__ = ["FLOOR", "Features", "response_scores", "score_features", "stack", "structural_features"]


def structural_features(data: Any) -> Features:  # noqa: ANN401 - anything HeteroData-like
    """Features of all pairs that know the graph alone.

    Degrees, what reaches the ends and what they reach; counts of short paths in every direction (A A^T A, A A^T, A^T A,
    A^2, A^3 of the adjacency matrix A); shortest distances; shared inputs and outputs. Nothing asks whether a function
    has children or parents at all: that would tell where an edge was taken away, not where one is missing.

    Args:
        data: HeteroData-like with N functions; missing input or output edges count as none.

    Returns:
        Features by name, shape (N, N), (N, 1) or (1, N).

    Example:
        >>> from gsnn.graph import Graph
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> structural_features(graph)["distance"][0].tolist()
        [0.0, 1.0]
    """
    n = len(data.node_names_dict["function"])
    edges = edge_pairs(data, EDGE_TYPES[0])
    edges = edges[:, edges[0] != edges[1]]
    A = np.zeros((n, n), dtype=np.float32)
    A[edges[0], edges[1]] = 1.0
    fed, read = edge_pairs(data, ("input", "to", "function")), edge_pairs(data, ("function", "to", "output"))
    above, below = (
        _spread(sparse.csr_matrix(step), nodes, members)
        for step, nodes, members in ((A.T, fed[1], fed[0]), (A, read[0], read[1]))
    )
    out, into = A.sum(1), A.sum(0)
    n_fed, n_read = np.bincount(fed[1], minlength=n), np.bincount(read[0], minlength=n)
    above_n, below_n = above.sum(1), below.sum(1)
    found: Features = {}
    for name, values in (
        ("out_degree", np.log1p(out)),
        ("in_degree", np.log1p(into)),
        ("fed", n_fed),
        ("read", n_read),
        ("inputs", np.log1p(above_n)),
        ("outputs", np.log1p(below_n)),
        ("from_input", _hops(A.T, n_fed > 0)),
        ("to_output", _hops(A, n_read > 0)),
        ("child_in_degree", np.log1p(_mean(A, into))),
        ("parent_out_degree", np.log1p(_mean(A.T, out))),
    ):
        column = np.asarray(values, dtype=np.float32)
        found[f"source_{name}"], found[f"target_{name}"] = column[:, None], column[None, :]
    found["path_length"] = found["source_from_input"] + found["target_to_output"]
    found["degree_product"] = found["source_out_degree"] + found["target_in_degree"]
    AAt, AtA, A2 = A @ A.T, A.T @ A, A @ A
    found["reverse"] = A.T.copy()
    for name, counts in (
        ("same_targets", AAt),
        ("same_sources", AtA),
        ("square", AAt @ A),
        ("two_steps", A2),
        ("three_steps", A2 @ A),
        ("two_steps_back", A2.T),
    ):
        found[name] = np.log1p(counts)
    # Shares, so that hubs do not win by their size alone.
    found["square_share"] = (AAt @ A) / (np.maximum(out, 1)[:, None] * np.maximum(into, 1)[None, :])
    found["same_targets_cosine"] = AAt / np.sqrt(np.maximum(np.outer(out, out), 1))
    found["same_sources_cosine"] = AtA / np.sqrt(np.maximum(np.outer(into, into), 1))
    graph = sparse.csr_matrix(A)
    far = _capped(csgraph.shortest_path(graph, unweighted=True))
    found["distance"], found["distance_back"] = far, far.T.copy()
    found["distance_undirected"] = _capped(csgraph.shortest_path(graph, directed=False, unweighted=True))
    for name, marks in (("inputs", above), ("outputs", below)):
        shared = marks @ marks.T
        size = marks.sum(1)
        either = size[:, None] + size[None, :] - shared
        found[f"{name}_jaccard"] = np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
        # What an edge would bring that is not there: inputs new to the target, outputs new to the source.
        own, lacks = (size[:, None], size[:, None] - shared) if name == "inputs" else (size[None, :], size - shared)
        found[f"new_{name}"] = np.divide(lacks, own, out=np.zeros_like(shared), where=np.broadcast_to(own > 0, (n, n)))
    return {name: np.asarray(values, dtype=np.float32) for name, values in found.items()}


def score_features(scores: Mapping[str, FloatArray], known: npt.NDArray[np.bool_]) -> Features:
    """What the scores of several methods say of each pair, on scales that do not depend on the model.

    For each method: the logarithm; the same less the means of its source and its target; the share of the best of the
    target; and the ranks within target and within source.

    Args:
        scores: (N, N) of non-negative scores by name; NaN counts as 0.
        known: (N, N), True where a pair is no candidate; such pairs take no rank.

    Returns:
        Features by name, shape (N, N).

    Example:
        >>> found = score_features({"s": np.array([[0.0, 1.0], [4.0, 0.0]])}, np.eye(2, dtype=bool))
        >>> found["s_of_target"].tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    found: Features = {}
    closed = known | np.eye(len(known), dtype=bool)
    free = ~closed
    for name, given in scores.items():
        score = np.where(closed, 0.0, np.maximum(np.nan_to_num(given, nan=0.0), 0.0))
        best = score.max() if score.size else 0.0
        log = np.log(np.maximum(score, FLOOR * best)) if best > 0 else np.zeros_like(score)
        log = log - np.median(log[free]) if free.any() else log
        rows, columns = (
            np.divide((log * free).sum(axis, keepdims=True), np.maximum(free.sum(axis, keepdims=True), 1))
            for axis in (1, 0)
        )
        found[f"{name}_log"] = log
        found[f"{name}_centred"] = log - rows - columns
        top = score.max(0, keepdims=True)
        found[f"{name}_of_target"] = np.divide(score, top, out=np.zeros_like(score), where=top > 0)
        ranked = np.where(closed, -np.inf, score)
        for axis, side in ((0, "target"), (1, "source")):
            found[f"{name}_rank_in_{side}"] = np.log((rankdata(-ranked, axis=axis) - 0.5) / len(score))
        found[f"{name}_target_level"], found[f"{name}_source_level"] = columns, rows
    return {name: np.asarray(values, dtype=np.float32) for name, values in found.items()}


def response_scores(data: Any, x: FloatArray, responses: Mapping[str, FloatArray]) -> dict[str, FloatArray]:  # noqa: ANN401
    """How outputs that read j respond to inputs that feed i, for designs that perturb and measure most functions.

    The root of the sum of squared Pearson correlations over the inputs fed directly into i and the outputs read
    directly from j; with one input and one output for every function, this is what ranking by a knock-out's
    effect does.

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


def stack(features: Features, rows: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.float32]:
    """The features of some pairs as a matrix.

    Args:
        features: By name.
        rows: (K,) pairs, i * N + j.
        n: N.

    Returns:
        (K, F), columns in the order of ``features``.
    """
    source, target = np.divmod(rows, n)
    out = np.empty((len(rows), len(features)), dtype=np.float32)
    for column, values in enumerate(features.values()):
        full = np.broadcast_to(values, (n, n))
        out[:, column] = full[source, target]
    return out


def _spread(
    step: sparse.csr_matrix, nodes: npt.NDArray[np.int64], members: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Members of each node and of all that it leads to by ``step``: (N, members), 0 or 1."""
    found = np.zeros((step.shape[0], int(members.max(initial=-1)) + 1), dtype=np.float32)
    found[nodes, members] = 1.0
    while True:
        more = np.minimum(found + step @ found, 1.0)
        if (more == found).all():
            return found
        found = more.astype(np.float32)


def _hops(step: npt.NDArray[np.float32], ends: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Steps from each node to the nearest of some ends, capped."""
    far = np.full(len(ends), MAX_HOPS, dtype=np.float32)
    far[ends] = 0
    for hop in range(1, MAX_HOPS):
        reached = (step @ (far == hop - 1)) > 0
        far[reached & (far > hop)] = hop
    return far


def _capped(distance: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.minimum(distance, MAX_HOPS).astype(np.float32)


def _mean(step: npt.NDArray[np.float32], values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mean of a value over the nodes that each leads to; 0 without any."""
    degree = step.sum(1)
    return np.divide(step @ values, degree, out=np.zeros_like(degree), where=degree > 0)
