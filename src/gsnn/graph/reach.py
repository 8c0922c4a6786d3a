"""Classes of nodes that see the same inputs: reachability and hop profiles as bitsets.

Each node has a row of 64-bit words, with one bit for each member (an input, or an output with the edges reversed)
whose signal arrives there. Loops run over levels of a graph or over distances, never over nodes or edges.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from gsnn.base.arrays import IntArray

Bits = npt.NDArray[np.uint64]

# Words gathered at a time: bounds the working memory to 256 bytes an edge, whatever the number of members.
_BLOCK = 32


def member_bits(nodes: IntArray, members: IntArray, n_nodes: int, n_members: int) -> Bits:
    """Rows of bits from pairs (node, member).

    Args:
        nodes: Shape (n,).
        members: Shape (n,).
        n_nodes: N.
        n_members: Number of members, I or O.

    Returns:
        Shape (N, ceil(n_members / 64)).
    """
    bits = np.zeros((n_nodes, -(-n_members // 64)), np.uint64)
    np.bitwise_or.at(bits, (nodes, members // 64), np.uint64(1) << (members % 64).astype(np.uint64))
    return bits


def reach_classes(edges: IntArray, bits: Bits) -> IntArray:
    """Class of each node by the set of members that reach it.

    Nodes of one strongly connected component share their set, so the sweep runs over the acyclic graph of the
    components, level by level.

    Args:
        edges: Shape (2, E), from, to.
        bits: Shape (N, W), the members that enter at each node.

    Returns:
        Shape (N,), from 0 without gaps. The ids depend on the sets alone, so they follow a permutation of the nodes.
    """
    n_nodes = len(bits)
    adjacency = sparse.csr_matrix((np.ones(edges.shape[1], np.int8), (edges[0], edges[1])), shape=(n_nodes, n_nodes))
    n_parts, part = csgraph.connected_components(adjacency, directed=True, connection="strong")
    order = np.argsort(part, kind="stable")
    rows = _gather_or(bits, order, np.searchsorted(part[order], np.arange(n_parts)))
    source, target = part[edges[0]].astype(np.int64), part[edges[1]].astype(np.int64)
    keys = np.unique((source * n_parts + target)[source != target])
    source, target = keys // max(n_parts, 1), keys % max(n_parts, 1)
    for level in _levels(source, target, n_parts):
        heads, starts = np.unique(target[level], return_index=True)
        rows[heads] |= _gather_or(rows, source[level], starts)
    return _row_classes(rows)[part]


def hop_classes(edges: IntArray, bits: Bits, max_hops: int | None) -> IntArray:
    """Class of each node by its shortest distances from all members.

    Search from all members at once. Two nodes have the same distances if at every hop the same members arrive for the
    first time, so classes are split hop by hop and no matrix of distances is held.

    Args:
        edges: Shape (2, E), from, to.
        bits: Shape (N, W), the members at distance 1 of each node.
        max_hops: Distances above this count as no path; None: no cap.

    Returns:
        Shape (N,), from 0 without gaps. The ids depend on the distances alone, as in :func:`reach_classes`.
    """
    seen = bits.copy()
    by_source = np.argsort(edges[0], kind="stable")
    out_target = edges[1][by_source]
    first = np.searchsorted(edges[0][by_source], np.arange(len(bits) + 1))
    label = np.zeros(len(bits), np.int64)
    nodes = np.flatnonzero(bits.any(axis=1))
    arrived = bits[nodes]
    place = np.empty(len(bits), np.int64)
    hop = 1
    while nodes.size:
        mark = np.concatenate([label[nodes, None].astype(np.uint64), arrived], axis=1)
        label[nodes] = label.max() + 1 + _row_classes(mark)
        hop += 1
        if max_hops is not None and hop > max_hops:
            break
        place[nodes] = np.arange(len(nodes))
        leaving, count = _segments(first, nodes)
        target = out_target[leaving]
        order = np.argsort(target, kind="stable")
        heads, starts = np.unique(target[order], return_index=True)
        arrived = _gather_or(arrived, place[np.repeat(nodes, count)[order]], starts) & ~seen[heads]
        fresh = arrived.any(axis=1)
        nodes, arrived = heads[fresh], arrived[fresh]
        seen[nodes] |= arrived
    return np.unique(label, return_inverse=True)[1].astype(np.int64)


def _levels(source: IntArray, target: IntArray, n_nodes: int) -> Iterator[IntArray]:
    """Batches of the edges of an acyclic graph, by target, after all edges into the sources of the batch."""
    waiting = np.bincount(target, minlength=n_nodes)
    depth = np.zeros(n_nodes, np.int64)
    by_source = np.argsort(source, kind="stable")
    out_target = target[by_source]
    first = np.searchsorted(source[by_source], np.arange(n_nodes + 1))
    ready = np.flatnonzero(waiting == 0)
    level = 0
    while ready.size:
        depth[ready] = level
        heads, count = np.unique(out_target[_segments(first, ready)[0]], return_counts=True)
        waiting[heads] -= count
        ready = heads[waiting[heads] == 0]
        level += 1
    order = np.lexsort((target, depth[target]))
    bounds = np.searchsorted(depth[target[order]], np.arange(1, level + 1))
    for start, stop in pairwise(bounds.tolist()):
        yield order[start:stop]


def _segments(first: IntArray, nodes: IntArray) -> tuple[IntArray, IntArray]:
    """Positions of the edges that leave some nodes, and how many leave each."""
    count = first[nodes + 1] - first[nodes]
    skipped = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64)[: len(nodes)]
    return np.repeat(first[nodes] - skipped, count) + np.arange(count.sum()), count


def _gather_or(rows: Bits, index: IntArray, starts: IntArray) -> Bits:
    """Bitwise or of ``rows[index]`` over segments of the index, which begin at ``starts``."""
    merged = np.empty((len(starts), rows.shape[1]), np.uint64)
    if len(starts):
        for word in range(0, rows.shape[1], _BLOCK):
            block = slice(word, word + _BLOCK)
            merged[:, block] = np.bitwise_or.reduceat(rows[:, block][index], starts, axis=0)
    return merged


def _row_classes(rows: Bits) -> IntArray:
    """Class of each row by its content: shape (N,), from 0 without gaps."""
    if not rows.shape[1]:
        return np.zeros(len(rows), np.int64)
    packed = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1] * 8)))[:, 0]
    return np.unique(packed, return_inverse=True)[1].astype(np.int64)
