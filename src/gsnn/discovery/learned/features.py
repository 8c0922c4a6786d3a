"""Features of each ordered pair of functions that read the data, on scales that can be compared between problems.

Features, ``free`` and ``name`` are as in :mod:`gsnn.discovery.stacked.features`. No feature is a raw number of a model:
all are ranks, shares, logarithms of ratios, correlations or multiples of their value by chance, so that what was learnt
on one problem holds on another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsnn.base.arrays import BoolArray, FloatArray
from gsnn.discovery.stacked.features import MAX_HOPS, Feature, FloatMatrix, distances, end_ranks, log_ranks
from gsnn.graph.checks import EDGE_TYPES
from gsnn.graph.kinds import edge_pairs

# Beginnings of the names of features that know the data.
OF_DATA = (
    "likely", "above_chance", "combined", "both", "magnitude", "regressed", "normalised", "explained", "blocks",
    "measured", "halves", "activation", "gradient", "residual", "response", "direct", "of_problem_samples",
    "of_problem_weight",
)  # fmt: skip
# A source is compared with so many parents of its target at most.
_KIN = 64


def graph_facts(data: Any, n: int) -> Iterator[Feature]:  # noqa: ANN401 - anything HeteroData-like
    """Features that are the same for all pairs of a graph of N functions: its size, and the shares read and fed."""
    fed, read = edge_pairs(data, ("input", "to", "function"))[1], edge_pairs(data, ("function", "to", "output"))[0]
    facts = {
        "functions": np.log(n),
        "edges_a_function": np.log(max(edge_pairs(data, EDGE_TYPES[0]).shape[1], 1) / n),
        "share_read": len(np.unique(read)) / n,
        "share_fed": len(np.unique(fed)) / n,
    }
    for name, value in facts.items():
        yield f"of_problem_{name}", np.full((1, 1), value, np.float32)


def opinion_features(name: str, log: FloatArray, free: BoolArray) -> Iterator[Feature]:
    """Features of a logarithm of odds or of a score: less its median, and its ranks among all and within both ends.

    The logarithms (N, N) are larger for likelier edges; NaN counts as the least.

    Example:
        >>> found = dict(opinion_features("s", np.array([[0.0, 1.0], [3.0, 0.0]]), ~np.eye(2, dtype=bool)))
        >>> found["s_log"].tolist()
        [[-1.0, -1.0], [1.0, -1.0]]
    """
    least = np.nanmin(log[free]) if free.any() and np.isfinite(log[free]).any() else 0.0
    value = np.where(free, np.nan_to_num(log, nan=least), least)
    if free.any():
        value = value - np.median(value[free])
    yield f"{name}_log", value.astype(np.float32)
    yield f"{name}_rank", log_ranks(np.where(free, -value, np.inf).reshape(1, -1)).reshape(value.shape)
    yield from end_ranks(name, value, free)


def block_features(pairs: Iterable[npt.NDArray[Any]], free: BoolArray) -> Iterator[Feature]:
    """The ranks of a pair within its target at all pairs of blocks: their mean, the best, and their SD.

    ``pairs`` has the scores (N, N) of every pair of blocks; NaN counts as 0.
    """
    total, squares, best = np.zeros((3, *free.shape), np.float32)
    count = 0
    for score in pairs:
        rank = log_ranks(np.where(free, -np.nan_to_num(score), np.inf).T).T
        total += rank
        squares += rank**2
        np.minimum(best, rank, out=best)
        count += 1
    total /= max(count, 1)
    yield "blocks_mean", total
    yield "blocks_best", best
    squares /= max(count, 1)
    squares -= total**2
    yield "blocks_sd", np.sqrt(np.maximum(squares, 0.0))


def residual_features(
    data: Any,  # noqa: ANN401 - anything HeteroData-like
    reach: tuple[FloatArray, FloatArray],
    x: FloatArray,
    responses: Mapping[str, FloatArray],
    free: BoolArray,
) -> Iterator[Feature]:
    r"""How strongly responses below j correlate with inputs above i, beyond chance: an edge could explain it.

    The squared correlations of M samples of each input a and each output b, times M, are about 1 by chance. Their sum
    :math:`S_{ij} = \sum_{a \uparrow i, b \downarrow j} M r_{ab}^2` over the inputs that reach i and the outputs that j
    reaches, K pairs, gives :math:`z = (S - K) / \sqrt{2 K}`. It is taken three times: over all of them, with half the
    weight for every step that an input or output is away, and over the pairs that no path of the graph connects.

    Args:
        data: HeteroData-like with N functions.
        reach: (N, I) inputs that reach each function, and (N, O) outputs that each reaches.
        x: (M, I) inputs.
        responses: (M, O) by name, such as responses and residuals; NaN is missing.
        free: (N, N) candidates.

    Yields:
        The signed root of z, the logarithm of the mean of M r^2, and the ranks of both.
    """
    above, below = reach
    near_above, near_below = near(data, len(free))
    fed = edge_pairs(data, ("input", "to", "function"))
    paths = np.zeros((x.shape[1], below.shape[1]))
    np.maximum.at(paths, fed[0], below[fed[1]])
    unconnected = paths == 0
    for name, values in responses.items():
        share = _times_chance(x, values)
        defined = np.isfinite(share)
        ways = {"_unconnected": (above, below, defined & unconnected)}
        if name != "response":  # the graph explains the others of it already
            ways = {"": (above, below, defined), "_near": (near_above, near_below, defined), **ways}
        for where, (up, down, mask) in ways.items():
            total = up @ np.where(mask, np.nan_to_num(share), 0.0) @ down.T
            count = up @ mask.astype(np.float64) @ down.T
            spread = np.sqrt(2 * (up**2 @ mask.astype(np.float64) @ (down**2).T))
            z = np.divide(total - count, spread, out=np.zeros_like(total), where=count > 1e-6)
            yield f"{name}{where}_z", (np.sign(z) * np.sqrt(np.abs(z))).astype(np.float32)
            mean = np.divide(total, count, out=np.ones_like(total), where=count > 1e-6)
            yield f"{name}{where}_mean", np.log(np.maximum(mean, 0.05)).astype(np.float32)
            yield from end_ranks(f"{name}{where}_z", z, free)
            yield from end_ranks(f"{name}{where}_mean", mean, free)


def kin_features(alike: FloatMatrix, name: str, kin: Sequence[npt.NDArray[np.int64]]) -> Iterator[Feature]:
    """Likeness of each pair, and of each source to that known parent of its target which is most like it.

    Args:
        alike: (N, N) absolute correlations of a signal of the functions.
        name: The names of the features begin with it.
        kin: For each node its known parents (or children, of the transposed pair).

    Yields:
        ``alike``, ``mimic``, and the first less the second.
    """
    yield f"{name}_alike", alike
    mimic = np.zeros_like(alike)
    for j, relatives in enumerate(kin):
        if len(relatives):
            mimic[:, j] = alike[:, relatives[:_KIN]].max(1)
    yield f"{name}_mimic", mimic
    yield f"{name}_new", alike - mimic


def near(data: Any, n: int) -> tuple[FloatArray, FloatArray]:  # noqa: ANN401 - anything HeteroData-like
    """As ``reach_masks``, but half as much for every step from a function that is fed or to one that is read.

    Example:
        >>> from gsnn.graph import Graph
        >>> edges = [("x", "a"), ("a", "b"), ("b", "y"), ("c", "y")]
        >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b", "c"], output_nodes=["y"])
        >>> above, below = near(graph, 3)
        >>> above.ravel().tolist(), below.ravel().tolist()
        ([1.0, 0.5, 0.0], [0.5, 1.0, 1.0])
    """
    edges = edge_pairs(data, EDGE_TYPES[0])
    adjacency = np.zeros((n, n), np.float32)
    adjacency[edges[0], edges[1]] = 1.0
    far = distances(adjacency)
    weight = np.where(far < MAX_HOPS, 0.5**far, 0.0)
    fed, read = edge_pairs(data, ("input", "to", "function")), edge_pairs(data, ("function", "to", "output"))
    above, below = (np.zeros((len(data.node_names_dict[kind]), n)) for kind in ("input", "output"))
    np.maximum.at(above, fed[0], weight[fed[1]])
    np.maximum.at(below, read[1], weight.T[read[0]])
    return above.T, below.T


def correlations(signal: FloatMatrix) -> FloatMatrix:
    """(N, N) absolute correlations of the rows of (N, M); 0 where a row does not vary."""
    centred = signal - signal.mean(1, keepdims=True)
    norm = np.sqrt((centred**2).sum(1, keepdims=True))
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    return np.abs(unit @ unit.T).astype(np.float32)


def _times_chance(x: FloatArray, y: FloatArray) -> FloatArray:
    """(I, O): M r^2 of each input and output, about 1 by chance; NaN where either does not vary."""
    seen = np.isfinite(y)
    count = np.maximum(seen.sum(0), 1)
    y = np.where(seen, y, 0.0)
    mean_x, mean_y = (x.T @ seen) / count, y.sum(0) / count
    covariance = (x.T @ y) / count - mean_x * mean_y
    var_x = (x.T**2) @ seen / count - mean_x**2
    var_y = (y**2).sum(0) / count - mean_y**2
    defined = (var_x > 1e-9) & (var_y > 1e-9) & (count > 3)
    return np.divide(count * covariance**2, var_x * var_y, out=np.full_like(covariance, np.nan), where=defined)
