"""The sign of an edge: orienting nodes whose channels have arbitrary signs.

Which activity of a node is "up" is a convention, since flipping a hidden node and all its edges changes nothing. Here
the measured nodes nearest to it in the prior graph, inputs that reach it or outputs it reaches, orient a node, along
paths whose edges count with their known signs, an unknown sign as positive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from gsnn.graph.kinds import edge_pairs

FED, INNER, READ = ("input", "to", "function"), ("function", "to", "function"), ("function", "to", "output")


def reference_weights(data: Any, n_nodes: int, n_inputs: int, n_outputs: int) -> sparse.csr_matrix:  # noqa: ANN401
    """Which inputs and outputs orient each function node, and how.

    Args:
        data: HeteroData-like prior graph, with or without signs in ``edge_sign_dict``.
        n_nodes: N.
        n_inputs: I.
        n_outputs: O.

    Returns:
        (N, I + O): for each node the signed number of shortest paths from the nearest inputs, or, where outputs are
        nearer, to the nearest outputs; a row of zeros where neither is connected.

    Example:
        >>> from gsnn.graph import Graph
        >>> edges = [("x", "a", 1), ("a", "b", -1), ("b", "c", 1), ("c", "y", 1)]
        >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b", "c"], output_nodes=["y"])
        >>> reference_weights(graph, 3, 1, 1).toarray().tolist()
        [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]
    """
    source, target, sign = _edges(data, INNER)
    inner = sparse.csr_matrix((sign, (target, source)), shape=(n_nodes, n_nodes))
    source, target, sign = _edges(data, FED)
    above = sparse.csr_matrix((sign, (target, source)), shape=(n_nodes, n_inputs))
    source, target, sign = _edges(data, READ)
    below = sparse.csr_matrix((sign, (source, target)), shape=(n_nodes, n_outputs))
    from_inputs, hops_in = _nearest(inner, above)
    to_outputs, hops_out = _nearest(inner.T.tocsr(), below)
    by_input = sparse.diags((hops_in <= hops_out).astype(float))
    by_output = sparse.diags((hops_out < hops_in).astype(float))
    return sparse.hstack([by_input @ from_inputs, by_output @ to_outputs]).tocsr()


def references(weights: sparse.csr_matrix, x: Tensor, y: Tensor) -> Tensor:
    """The signal that orients each node, (N, M) in the dtype of ``x``.

    Weights are those of :func:`reference_weights`. Inputs x (I, M) and targets y (O, M), NaN where missing, count in
    units of their standard deviations.
    """
    measured = torch.cat([x, y.to(x.dtype)]).double()
    measured = measured - measured.nanmean(1, keepdim=True)
    measured = torch.nan_to_num(measured)
    size = measured.square().mean(1, keepdim=True).sqrt()
    measured = torch.where(size > 0, measured / size, 0.0)
    return torch.from_numpy(weights @ measured.numpy()).to(x.dtype)


def orientation(values: Tensor, reference: Tensor, channel_node: Tensor) -> Tensor:
    """The direction (channels,) in which each node's channels move as its reference (N, M) rises.

    It has unit norm for each node, and is 0 where nothing moves.
    """
    centred = values - values.double().mean(1, keepdim=True).to(values.dtype)
    moved = torch.linalg.vecdot(centred, reference[channel_node]).double()
    size = torch.zeros(len(reference), dtype=torch.float64).index_add_(0, channel_node, moved.square()).sqrt_()
    return torch.where(size[channel_node] > 0, moved / size[channel_node], 0.0).to(values.dtype)


def along(values: Tensor, direction: Tensor, channel_node: Tensor, scale: Tensor) -> Tensor:
    """Deviations of each node along its direction, in units of ``scale``: (channels, M) -> (N, M)."""
    factor = torch.where(scale > 0, 1.0 / scale, 0.0)[channel_node] * direction
    weighted = (values - values.double().mean(1, keepdim=True).to(values.dtype)) * factor.to(values.dtype)[:, None]
    return values.new_zeros(len(scale), values.shape[1]).index_add_(0, channel_node, weighted)


def _edges(data: Any, kind: tuple[str, str, str]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:  # noqa: ANN401
    """Sources, targets and signs of one type; an unknown sign is +1."""
    pairs = edge_pairs(data, kind)
    signs = (getattr(data, "edge_sign_dict", None) or {}).get(kind)
    sign = np.ones(pairs.shape[1]) if signs is None else np.asarray(signs.cpu(), dtype=np.float64)
    return pairs[0], pairs[1], np.where(sign == 0, 1.0, sign)


def _nearest(step: sparse.csr_matrix, direct: sparse.csr_matrix) -> tuple[sparse.csr_matrix, npt.NDArray[np.float64]]:
    """Signed counts of shortest paths to the nearest measured nodes, and the lengths of the paths."""
    n_nodes = step.shape[0]
    hops = np.full(n_nodes, np.inf)
    hops[np.diff(direct.indptr) > 0] = 1
    plain = abs(step)
    counts, frontier, length = direct, direct, 1
    while True:
        length += 1
        touched = plain @ (hops == length - 1).astype(float) > 0
        fresh = touched & np.isinf(hops)
        if not fresh.any():
            return counts.tocsr(), hops
        hops[fresh] = length
        frontier = sparse.diags(fresh.astype(float)) @ (step @ frontier)
        counts = counts + frontier
