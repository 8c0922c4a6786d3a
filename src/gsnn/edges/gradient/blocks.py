r"""First-order scores of one adjacent pair of blocks: pure functions on matrices (rows, M) of samples.

The Frobenius norm of :math:`Z_i G_j^\top` does not change when the channels of a node are rotated. So each node's
channels are replaced by their principal components, scaled to a total variance of 1. Components that hold only rounding
are dropped, which loses nothing and saves most of the work: before its nonlinearity a node spans no more directions
than it has in-edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gsnn.base.arrays import IntArray
from gsnn.base.progress import track
from gsnn.edges.sample_store import SampleStore

# A node counts as constant when its spread is this many roundings of its mean, a component as absent when its standard
# deviation is this many roundings of the node's.
_ROUNDINGS = 32
_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Components:
    """Principal components of every node, slot by slot: first the first components of all nodes, then the second, ...

    Nodes are ordered by their number of components, largest first, so that slot c holds the first ``counts[c]`` of them
    and sums over a node's components are sums of slices.

    Attributes:
        values: (R, M), centred; the squares of a node's rows add up to 1.
        order: (N,) node at each position.
        position: (N,) the inverse of ``order``.
        counts: Number of nodes in each slot; R is their sum.
        sd: (R,) root of the sum of squares of each row.
        scale: (N,) root of the sum of squares of the node's centred channels, by node; 0 for a constant node.
        raw: (N,) the same without centring.
        rank: (N,) number of components by node; 0 for a constant node.
    """

    values: Tensor
    order: IntArray
    position: IntArray
    counts: list[int]
    sd: Tensor
    scale: Tensor
    raw: Tensor
    rank: IntArray

    @property
    def offsets(self) -> IntArray:
        """First row of each slot."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    def rows_of(self, nodes: IntArray) -> tuple[IntArray, IntArray]:
        """Rows of all components of ``nodes`` (K,), in their order, and for each its index into ``nodes``."""
        owner, slot = runs(self.rank[nodes])
        return self.offsets[slot] + self.position[nodes][owner], owner


def runs(sizes: IntArray) -> tuple[IntArray, IntArray]:
    """The run that each entry of consecutive runs of these sizes belongs to, and its place in the run."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def principal_components(values: Tensor, channel_node: Tensor, n_nodes: int, tolerance: float = 0.0) -> Components:
    """Principal components of every node's channels over samples.

    Args:
        values: (channels, M) float32 or float64.
        channel_node: (channels,) int64, the node of each channel; the channels of a node are contiguous.
        n_nodes: N.
        tolerance: Components with a standard deviation of at most this share of the node's largest are dropped; at
            least rounding. Dropping changes a normalised score by at most about twice this.

    Returns:
        The components, in the dtype of ``values``; moments are taken in float64.

    Example:
        >>> values = torch.tensor([[1.0, -1.0, 0.0], [2.0, -2.0, 0.0], [5.0, 5.0, 5.0]])
        >>> components = principal_components(values, torch.tensor([0, 0, 1]), 2)
        >>> components.rank, components.values.square().sum().round(decimals=5).item()
        (array([1, 0]), 1.0)
    """
    n_samples = values.shape[1]
    eps = torch.finfo(values.dtype).eps
    # A standard deviation from a variance in float64 has half of its digits.
    tolerance = max(tolerance, _ROUNDINGS * eps, 4 * torch.finfo(torch.float64).eps ** 0.5)
    node_of = channel_node.cpu().numpy()
    channels = np.bincount(node_of, minlength=n_nodes)
    first = np.concatenate([[0], np.cumsum(channels)])
    widest = int(channels.max(initial=0))
    raw, scale = torch.zeros(n_nodes, dtype=torch.float64), torch.zeros(n_nodes, dtype=torch.float64)
    sd = torch.zeros(n_nodes, widest, dtype=torch.float64)
    rotations = torch.zeros(n_nodes, widest, widest, dtype=torch.float64)
    chunks = list(node_chunks(channels, n_samples))
    for start, end in chunks:
        centred, mean = centred_channels(values[first[start] : first[end]], channels[start:end])
        gram = centred @ centred.transpose(1, 2)
        ss = gram.diagonal(dim1=1, dim2=2).sum(1).cpu()
        level = mean.square().sum(1).cpu() * n_samples
        alive = ss > level * (_ROUNDINGS * eps) ** 2
        raw[start:end] = (ss + level).sqrt()
        scale[start:end] = torch.where(alive, ss, 0.0).sqrt()
        # Dividing by the trace keeps tiny gradients away from the smallest numbers.
        variances, vectors = torch.linalg.eigh(gram.cpu() / torch.where(alive, ss, 1.0)[:, None, None])
        k = variances.shape[1]
        sd[start:end, :k] = variances.flip(1).clamp(min=0).sqrt() * alive[:, None]
        rotations[start:end, :k, :k] = vectors.flip(2).transpose(1, 2)
    rank = ((sd > tolerance * sd[:, :1]) & (sd > 0)).sum(1).numpy()
    order, position, counts = _layout(rank)
    shape = Components(values, order, position, counts, sd, scale, raw, rank)
    out = values.new_empty(sum(counts), n_samples)
    for start, end in chunks:
        rows, _ = shape.rows_of(np.arange(start, end))
        if not len(rows):
            continue
        centred, _ = centred_channels(values[first[start] : first[end]], channels[start:end])
        k = centred.shape[1]
        inverse = torch.where(scale[start:end] > 0, 1.0 / scale[start:end], 0.0)
        rotated = (rotations[start:end, :k, :k] * inverse[:, None, None]).to(centred.device) @ centred
        owner, slot = runs(rank[start:end])
        out[torch.from_numpy(rows)] = rotated[torch.from_numpy(owner), torch.from_numpy(slot)].to(out.dtype)
    by_row = torch.cat([sd[order[:count], c] for c, count in enumerate(counts)] or [sd.new_zeros(0)])
    return Components(out, order, position, counts, by_row, scale, raw, rank)


def leading(components: Components, n_slots: int, floor: float) -> Components:
    """At most ``n_slots`` first components of each node, each scaled to a sum of squares of 1: whitened.

    Components with a standard deviation below the share ``floor`` of the largest of any node are dropped.
    """
    owner = np.concatenate([components.order[:c] for c in components.counts] or [np.zeros(0, np.int64)])
    absolute = components.sd.numpy() * components.scale.numpy()[owner]
    keep = absolute >= floor * absolute.max(initial=0.0)
    keep[components.offsets[min(n_slots, len(components.counts))] :] = False
    rank = np.bincount(owner[keep], minlength=len(components.rank))
    order, position, counts = _layout(rank)
    rows = [components.offsets[c] + components.position[order[:count]] for c, count in enumerate(counts)]
    kept = torch.from_numpy(np.concatenate(rows)) if rows else torch.zeros(0, dtype=torch.int64)
    sd = components.sd[kept]
    values = components.values[kept]
    values /= sd[:, None].to(values)
    return Components(values, order, position, counts, torch.ones_like(sd), components.scale, components.raw, rank)


def fold(products: Tensor, counts: list[int], n_nodes: int) -> Tensor:
    """Sum the slots of columns: (rows, R) -> (rows, N), by position."""
    out = products.new_zeros(len(products), n_nodes)
    start = 0
    for count in counts:
        out[:, :count] += products[:, start : start + count]
        start += count
    return out


def squared_norms(products: Tensor, target_counts: list[int], n_targets: int, source: Components) -> Tensor:
    """Sums of squares over the components of each target and source: (T, N), sources by position.

    The rows of ``products`` (R_targets, R_sources), which is overwritten, have ``target_counts`` targets in each slot.
    """
    folded = fold(products.square_(), source.counts, len(source.rank))
    out = folded.new_zeros(n_targets, folded.shape[1])
    start = 0
    for count in target_counts:
        out[:count] += folded[start : start + count]
        start += count
    return out


def slot_counts(rank: IntArray) -> list[int]:
    """Number of nodes in each slot."""
    return [int((rank > c).sum()) for c in range(int(rank.max(initial=0)))]


def _layout(rank: IntArray) -> tuple[IntArray, IntArray, list[int]]:
    """``order``, ``position`` and ``counts`` of :class:`Components` of these ranks."""
    order = np.argsort(-rank, kind="stable")
    return order, np.argsort(order), slot_counts(rank)


def pair_norms(source: Components, target: Components, working_bytes: int) -> Tensor:
    r"""Frobenius norm (N, T) of :math:`Z_i G_j^\top` for all sources i and targets j; 0 where either is constant.

    It is computed in blocks of targets that take about ``working_bytes``.
    """
    n_nodes = len(source.rank)
    out = source.values.new_zeros(n_nodes, len(target.rank))
    item = source.values.element_size()
    n_alive = int((target.rank > 0).sum())
    per_target = max(len(target.counts), 1) * item * (2 * len(source.values) + target.values.shape[1] + n_nodes)
    step = int(max(1, min(n_alive, working_bytes // max(per_target, 1), 512)))
    # Columns are gathered to the order of the nodes once per block.
    back = torch.from_numpy(source.position).to(out.device)
    for start in track(range(0, n_alive, step), "blocks of targets", show=None):
        nodes = target.order[start : min(start + step, n_alive)]
        counts = slot_counts(target.rank[nodes])
        block = torch.cat(
            [target.values[o + start : o + start + c] for o, c in zip(target.offsets, counts, strict=False)]
        )
        squared = squared_norms(block @ source.values.T, counts, len(nodes), source)
        out[:, torch.from_numpy(nodes).to(out.device)] = squared.sqrt_()[:, back].T
    return out


def node_chunks(channels: IntArray, n_samples: int) -> Iterator[tuple[int, int]]:
    """Ranges (first, end) of nodes whose channels (N,), padded to the most of any node, fit in a chunk of float64."""
    widest = max(int(channels.max(initial=0)), 1)
    step = max(1, _CHUNK_BYTES // (8 * widest * max(n_samples, 1)))
    for start in range(0, len(channels), step):
        yield start, min(start + step, len(channels))


def centred_chunks(
    store: SampleStore, keys: Sequence[int], channels: IntArray
) -> Iterator[tuple[slice, list[tuple[Tensor, Tensor]]]]:
    """Some nodes at a time, and :func:`centred_channels` of theirs at each key of a store.

    Nodes have ``channels`` (N,) channels each, in matrices (channels, M) of the store.
    """
    first = np.concatenate([[0], np.cumsum(channels)])
    for start, end in node_chunks(channels, len(keys) * store.n):
        rows = slice(int(first[start]), int(first[end]))
        yield slice(start, end), [centred_channels(store.read(key, rows), channels[start:end]) for key in keys]


def centred_channels(values: Tensor, channels: IntArray) -> tuple[Tensor, Tensor]:
    """Deviations (n, C, M) of the channels of n nodes from their means, float64, padded with zeros; the means (n, C).

    ``values`` (channels, M) holds ``channels`` (n,) rows of each node.
    """
    widest = int(channels.max(initial=0))
    exact = values.double()
    if not (channels == widest).all():
        padded = exact.new_zeros(len(channels) * widest, exact.shape[1])
        owner, slot = runs(channels)
        padded[torch.from_numpy(owner * widest + slot)] = exact
        exact = padded
    exact = exact.view(len(channels), widest, -1)
    mean = exact.mean(2)
    exact = exact - mean[:, :, None]
    # The rest that rounding left of the mean matters where the mean is large and the spread tiny.
    rest = exact.mean(2)
    exact -= rest[:, :, None]
    return exact, mean + rest
