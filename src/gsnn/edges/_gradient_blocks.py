r"""First-order scores of one adjacent pair of blocks: pure functions on matrices (rows, M) of samples.

Everything here rests on one fact: the Frobenius norm of :math:`Z_i G_j^\top` does not change when the channels of a
node are rotated. So each node's channels are replaced by their principal components, scaled to a total variance of 1.
Components that hold no more than rounding are dropped, which loses nothing and saves most of the work: before its
nonlinearity a node spans no more directions than it has in-edges.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]

# A node counts as constant when its spread is this many roundings of its mean, a component as nothing when its
# standard deviation is this many roundings of the node's.
_ROUNDINGS = 32
# A residual counts as nothing when its share of the variance is this many times the ridge and the rounding.
_RESIDUAL = 16
_CHUNK_BYTES = 16 * 2**20
# Gathered rows that are used at once stay in cache.
_CACHE_BYTES = 2**20
_BLOCK_TARGETS = 64
_GRAM_ROWS = 1024


@dataclass(frozen=True)
class Components:
    """Principal components of every node, slot by slot: first the first components of all nodes, then the second, ...

    Nodes stand in an order of falling numbers of components, so that slot c holds the first ``counts[c]`` of them and
    sums over a node's components are sums of slices.

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

    def chance(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        r"""Sum of squares t of each node's rows, and :math:`\| Z Z^\top \|_F^2 / t^2`, from 1 / rank to 1: both (N,).

        They decide what a permutation of samples gives; 0 for a constant node.
        """
        owner = np.concatenate([self.order[:c] for c in self.counts] or [np.zeros(0, np.int64)])
        square = self.sd.numpy() ** 2
        total = np.bincount(owner, square, len(self.rank)).astype(np.float64)
        fourth = np.bincount(owner, square**2, len(self.rank))
        return total, np.divide(fourth, total**2, out=np.zeros_like(total), where=total > 0)

    def rows_of(self, nodes: IntArray) -> tuple[IntArray, IntArray]:
        """Rows of all components of some nodes, node by node.

        Args:
            nodes: (K,) nodes, in any order, also repeatedly.

        Returns:
            The rows, and for each the index into ``nodes`` it belongs to.
        """
        rank = self.rank[nodes]
        owner = np.repeat(np.arange(len(nodes)), rank)
        slot = np.arange(len(owner)) - np.repeat(np.cumsum(rank) - rank, rank)
        return self.offsets[slot] + self.position[nodes][owner], owner


def principal_components(values: Tensor, channel_node: Tensor, n_nodes: int, tolerance: float = 0.0) -> Components:
    """Principal components of every node's channels over samples.

    Args:
        values: (channels, M) float32 or float64.
        channel_node: (channels,) int64, the node of each channel; the channels of a node are contiguous.
        n_nodes: N.
        tolerance: Components with a standard deviation of at most this share of the node's largest are dropped; never
            less than rounding. Dropping changes a normalised score by at most about twice this.

    Returns:
        The components, in the dtype of ``values``; moments are taken in float64.

    Example:
        >>> values = torch.tensor([[1.0, -1.0, 0.0], [2.0, -2.0, 0.0], [5.0, 5.0, 5.0]])
        >>> found = principal_components(values, torch.tensor([0, 0, 1]), 2)
        >>> found.rank, found.values.square().sum().round(decimals=5).item()
        (array([1, 0]), 1.0)
    """
    n_samples = values.shape[1]
    eps = torch.finfo(values.dtype).eps
    # Variances come out of float64 with half its digits in the standard deviation.
    tolerance = max(tolerance, _ROUNDINGS * eps, 4 * torch.finfo(torch.float64).eps ** 0.5)
    node_of = channel_node.cpu().numpy()
    channels = np.bincount(node_of, minlength=n_nodes)
    first = np.concatenate([[0], np.cumsum(channels)])
    widest = int(channels.max(initial=0))
    raw, scale = torch.zeros(n_nodes, dtype=torch.float64), torch.zeros(n_nodes, dtype=torch.float64)
    sd = torch.zeros(n_nodes, widest, dtype=torch.float64)
    turns = torch.zeros(n_nodes, widest, widest, dtype=torch.float64)
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
        found, vectors = torch.linalg.eigh(gram.cpu() / torch.where(alive, ss, 1.0)[:, None, None])
        k = found.shape[1]
        sd[start:end, :k] = found.flip(1).clamp(min=0).sqrt() * alive[:, None]
        turns[start:end, :k, :k] = vectors.flip(2).transpose(1, 2)
    rank = ((sd > tolerance * sd[:, :1]) & (sd > 0)).sum(1).numpy()
    order = np.argsort(-rank, kind="stable")
    position = np.empty_like(order)
    position[order] = np.arange(n_nodes)
    counts = [int((rank > c).sum()) for c in range(widest)]
    counts = counts[: int(rank.max(initial=0))]
    shape = Components(values, order, position, counts, sd, scale, raw, rank)
    out = values.new_empty(sum(counts), n_samples)
    for start, end in chunks:
        nodes = np.arange(start, end)
        rows, owner = shape.rows_of(nodes)
        if not len(rows):
            continue
        centred, _ = centred_channels(values[first[start] : first[end]], channels[start:end])
        k = centred.shape[1]
        inverse = torch.where(scale[start:end] > 0, 1.0 / scale[start:end], 0.0)
        turned = (turns[start:end, :k, :k] * inverse[:, None, None]).to(centred.device) @ centred
        slot = np.arange(len(owner)) - np.searchsorted(owner, owner, side="left")
        out[torch.from_numpy(rows)] = turned[torch.from_numpy(owner), torch.from_numpy(slot)].to(out.dtype)
    by_row = torch.cat([sd[order[:count], c] for c, count in enumerate(counts)] or [sd.new_zeros(0)])
    return Components(out, order, position, counts, by_row, scale, raw, rank)


def leading(components: Components, n_slots: int, floor: float) -> Components:
    """The first components of each node, each scaled to a sum of squares of 1: whitened.

    Args:
        components: All of them.
        n_slots: How many to keep at most.
        floor: Components with a standard deviation below this share of the largest of any node are dropped.

    Returns:
        The whitened components.
    """
    owner = np.concatenate([components.order[:c] for c in components.counts] or [np.zeros(0, np.int64)])
    absolute = components.sd.numpy() * components.scale.numpy()[owner]
    keep = absolute >= floor * absolute.max(initial=0.0)
    keep[components.offsets[min(n_slots, len(components.counts))] :] = False
    rank = np.bincount(owner[keep], minlength=len(components.rank))
    order = np.argsort(-rank, kind="stable")
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    counts = [int((rank > c).sum()) for c in range(int(rank.max(initial=0)))]
    rows = [components.offsets[c] + components.position[order[:count]] for c, count in enumerate(counts)]
    taken = torch.from_numpy(np.concatenate(rows)) if rows else torch.zeros(0, dtype=torch.int64)
    sd = components.sd[taken]
    values = components.values[taken]
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
    """Sums of squares over the components of each target and source.

    Args:
        products: (R_targets, R_sources); overwritten.
        target_counts: Number of targets in each slot of rows.
        n_targets: T.
        source: Layout of the columns.

    Returns:
        (T, N), sources by position.
    """
    folded = fold(products.square_(), source.counts, len(source.rank))
    out = folded.new_zeros(n_targets, folded.shape[1])
    start = 0
    for count in target_counts:
        out[:count] += folded[start : start + count]
        start += count
    return out


def slot_counts(rank: IntArray) -> list[int]:
    """Number of nodes in each slot, for ranks that fall."""
    return [int((rank > c).sum()) for c in range(int(rank.max(initial=0)))]


def pair_norms(source: Components, target: Components, working_bytes: int) -> Tensor:
    r"""Frobenius norm of :math:`Z_i G_j^\top` for all sources i and targets j, in blocks of targets.

    Args:
        source: Components of the sources.
        target: Components of the targets.
        working_bytes: About what the blocks may take.

    Returns:
        (N, N), [i, j]; 0 where either is constant.
    """
    n_nodes = len(source.rank)
    out = source.values.new_zeros(n_nodes, n_nodes)
    item = source.values.element_size()
    n_alive = int((target.rank > 0).sum())
    per_target = max(len(target.counts), 1) * item * (2 * len(source.values) + target.values.shape[1] + n_nodes)
    step = int(max(1, min(n_alive, working_bytes // max(per_target, 1), 512)))
    # Columns are gathered to the order of the nodes once per block.
    back = torch.from_numpy(source.position).to(out.device)
    for start in range(0, n_alive, step):
        nodes = target.order[start : min(start + step, n_alive)]
        counts = slot_counts(target.rank[nodes])
        block = torch.cat(
            [target.values[o + start : o + start + c] for o, c in zip(target.offsets, counts, strict=False)]
        )
        found = squared_norms(block @ source.values.T, counts, len(nodes), source)
        out[:, torch.from_numpy(nodes).to(out.device)] = found.sqrt_()[:, back].T
    return out


@dataclass(frozen=True)
class Regressors:
    """For each target the nodes whose activations are regressed out: its known parents and itself.

    Attributes:
        indptr: (N + 1,) bounds of each target's part of ``nodes``.
        nodes: (K,) node indices.
    """

    indptr: IntArray
    nodes: IntArray

    @staticmethod
    def of(pairs: IntArray, n_nodes: int) -> Regressors:
        """From the known edges (2, E); every target has itself."""
        itself = np.arange(n_nodes)
        keys = np.unique(np.concatenate([pairs[1] * n_nodes + pairs[0], itself * n_nodes + itself]))
        targets, nodes = np.divmod(keys, n_nodes)
        return Regressors(np.searchsorted(targets, np.arange(n_nodes + 1)), nodes)

    def of_targets(self, targets: IntArray) -> tuple[IntArray, IntArray]:
        """All regressors of some targets: the nodes, and for each the index into ``targets``."""
        size = self.indptr[targets + 1] - self.indptr[targets]
        owner = np.repeat(np.arange(len(targets)), size)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size)
        return self.nodes[self.indptr[targets][owner] + within], owner


def regressed_norms(
    source: Components, target: Components, regressors: Regressors, ridge: float, working_bytes: int
) -> tuple[Tensor, npt.NDArray[np.float64]]:
    r"""As the cosine of :func:`pair_norms`, once the regressors of j are taken out of z_i and g_j alike.

    With W the components of the regressors, H = W' (W W' + ridge I)^-1 W, and the residual forms
    :math:`\langle a, b\rangle_H = a (I - H) b^\top`:

    .. math:: \| Z_i (I - H) G_j^\top \|_F \big/ \sqrt{\operatorname{tr} Z_i (I - H) Z_i^\top
        \operatorname{tr} G_j (I - H) G_j^\top}

    Only g_j is residualised for the numerator. The denominator of z_i needs its products with the regressors alone;
    these come from the products of the sources among each other, which targets share.

    Args:
        source: Components of the sources, of which the regressors are some.
        target: Components of the targets.
        regressors: What to take out for each target.
        ridge: Added to W W', where every node has a variance of 1.
        working_bytes: About what the blocks may take.

    Returns:
        (N, N), [i, j]; NaN where z_i or g_j is constant or nothing is left of it, and where i is a regressor of j. And
        (N,) the degrees of freedom that the regressors of each target take, tr H.
    """
    n_nodes, item = len(source.rank), source.values.element_size()
    out = source.values.new_full((n_nodes, n_nodes), torch.nan)
    taken_freedom = np.zeros(n_nodes)
    least = _RESIDUAL * (torch.finfo(source.values.dtype).eps + ridge)
    n_rows = len(source.values)
    width = np.add.reduceat(source.rank[regressors.nodes], regressors.indptr[:-1])
    alive = np.flatnonzero(target.rank > 0)
    alive = alive[np.argsort(width[alive], kind="stable")]
    shared = _gram(source.values) if item * n_rows**2 <= working_bytes // 2 else None
    spare = working_bytes - (item * n_rows**2 if shared is not None else 0)
    back = torch.from_numpy(source.position).to(out.device)
    constant = torch.from_numpy(source.rank == 0).to(out.device)
    for block in _target_blocks(alive, width, source, target, spare, shared is None):
        nodes = block[np.argsort(-target.rank[block], kind="stable")]
        counts = slot_counts(target.rank[nodes])
        given, owner = regressors.of_targets(nodes)
        at, valid = _padded(*_regressor_rows(source, given, owner), len(nodes))
        at, valid = at.to(out.device), valid.to(out.device)
        basis, inverse = _basis(source.values, at, valid, ridge)
        # tr H = tr K^-1 (K - ridge I), with K = W W' + ridge I.
        freedom = valid.sum(1) - ridge * inverse.square().sum((1, 2)) if len(source.values) else valid.sum(1) * 0.0
        taken_freedom[nodes] = freedom.cpu().numpy()
        residual, left = _residuals(target, nodes, basis)
        if shared is None:
            some, place = torch.unique(at, return_inverse=True)
            taken = _explained(source.values[some] @ source.values.T, place, inverse)
        else:
            taken = _explained(shared, at, inverse)
        share = 1.0 - fold(taken, source.counts, n_nodes)
        found = squared_norms(residual @ source.values.T, counts, len(nodes), source)
        found = (found / (share * left[:, None].to(share))).sqrt_().clamp_(max=1.0)
        nothing = (share <= least) | (left <= least).to(share.device)[:, None]
        found = torch.where(nothing, torch.nan, found)[:, back]
        found[:, constant] = torch.nan
        found[torch.from_numpy(owner), torch.from_numpy(given)] = torch.nan
        out[:, torch.from_numpy(nodes).to(out.device)] = found.T
    return out, taken_freedom


def _target_blocks(
    alive: IntArray, width: IntArray, source: Components, target: Components, spare: int, own_products: bool
) -> Iterator[IntArray]:
    """Blocks of targets of similar numbers of regressors that fit in memory; at least one target each."""
    n_rows, n_samples = source.values.shape
    item, slots = source.values.element_size(), len(target.counts)
    w = width[alive]
    # Gathered products and their squares, regressors in float64 and as a basis, gradients, products.
    each = item * n_rows * (w * (2 + own_products) + 2 * slots) + n_samples * (w * (16 + item) + 4 * item * slots)
    start = 0
    while start < len(alive):
        fits = (
            each[start : start + _BLOCK_TARGETS] * np.arange(1, len(each[start : start + _BLOCK_TARGETS]) + 1) <= spare
        )
        end = start + max(1, int(fits.sum()))
        yield alive[start:end]
        start = end


def _gram(values: Tensor) -> Tensor:
    """``values @ values.T``, one half of it computed."""
    out = values.new_empty(len(values), len(values))
    for start in range(0, len(values), _GRAM_ROWS):
        end = start + _GRAM_ROWS
        torch.mm(values[start:end], values[start:].T, out=out[start:end, start:])
        out[end:, start:end] = out[start:end, end:].T
    return out


def _explained(products: Tensor, at: Tensor, inverse: Tensor) -> Tensor:
    """Sum of squares of L^-1 W Z' over the regressors of each target, (T, R), from products W Z' (K, R)."""
    n_targets, width = at.shape
    out = products.new_empty(n_targets, products.shape[1])
    step = max(1, _CACHE_BYTES // max(1, width * products.shape[1] * products.element_size()))
    for start in range(0, n_targets, step):
        chunk = slice(start, start + step)
        taken = products.index_select(0, at[chunk].flatten()).view(-1, width, products.shape[1])
        torch.sum(torch.bmm(inverse[chunk].to(products.dtype), taken).square_(), 1, out=out[chunk])
    return out


def _regressor_rows(source: Components, given: IntArray, owner: IntArray) -> tuple[IntArray, IntArray]:
    rows, of = source.rows_of(given)
    return rows, owner[of]


def _padded(rows: IntArray, owner: IntArray, n_owners: int) -> tuple[Tensor, Tensor]:
    """Rows by owner (ascending), padded with row 0: (T, w) indices, and which of them are real."""
    size = np.bincount(owner, minlength=n_owners)
    width = max(int(size.max(initial=0)), 1)
    at = np.zeros((n_owners, width), dtype=np.int64)
    valid = np.arange(width) < size[:, None]
    at[valid] = rows
    return torch.from_numpy(at), torch.from_numpy(valid)


def _basis(values: Tensor, at: Tensor, valid: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Q (T, w, M) with Q'Q = H, in the dtype of the values, and L^-1 (T, w, w) with Q = L^-1 W, in float64."""
    if not len(values):
        return values.new_zeros(*at.shape, values.shape[1]), values.new_zeros(*at.shape, at.shape[1]).double()
    given = values[at].double()
    given *= valid[:, :, None]
    gram = given @ given.transpose(1, 2)
    gram.diagonal(dim1=1, dim2=2).add_(torch.where(valid, ridge, 1.0))
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    inverse = torch.linalg.solve_triangular(torch.linalg.cholesky(gram), eye.expand_as(gram), upper=False)
    # Padding has rows of 0 in Q; its columns of L^-1 must not meet the row that stands in for it.
    return (inverse @ given).to(values.dtype), inverse * valid[:, None, :]


def _residuals(target: Components, nodes: IntArray, basis: Tensor) -> tuple[Tensor, Tensor]:
    """G (I - H) of some targets slot by slot (R_T, M), and the share of the variance that is left (T,), float64."""
    rows, owner = target.rows_of(nodes)
    at, valid = _padded(rows, owner, len(nodes))
    gradient = target.values[at.to(basis.device)]
    gradient *= valid.to(basis.device)[:, :, None]
    residual = torch.baddbmm(gradient, (gradient @ basis.transpose(1, 2)), basis, alpha=-1.0)
    left = (gradient * residual).sum(2).double().sum(1)
    counts = slot_counts(target.rank[nodes])
    return torch.cat([residual[:count, c] for c, count in enumerate(counts)]), left


def node_chunks(channels: IntArray, n_samples: int) -> Iterator[tuple[int, int]]:
    """Ranges of nodes whose channels, padded to the most of any, fit in a chunk of float64.

    Args:
        channels: (N,) number of channels of each node.
        n_samples: M.

    Yields:
        First and last but one.
    """
    widest = max(int(channels.max(initial=0)), 1)
    step = max(1, _CHUNK_BYTES // (8 * widest * max(n_samples, 1)))
    for start in range(0, len(channels), step):
        yield start, min(start + step, len(channels))


def centred_channels(values: Tensor, channels: IntArray) -> tuple[Tensor, Tensor]:
    """Deviations of some nodes from their means, node by node.

    Args:
        values: (channels, M) of n nodes.
        channels: (n,) number of channels of each.

    Returns:
        (n, C, M) float64, padded with zeros, and the means (n, C).
    """
    widest = int(channels.max(initial=0))
    exact = values.double()
    if not (channels == widest).all():
        padded = exact.new_zeros(len(channels) * widest, exact.shape[1])
        slot = np.arange(len(exact)) - np.repeat(np.cumsum(channels) - channels, channels)
        padded[torch.from_numpy(np.repeat(np.arange(len(channels)), channels) * widest + slot)] = exact
        exact = padded
    exact = exact.view(len(channels), widest, -1)
    mean = exact.mean(2)
    exact = exact - mean[:, :, None]
    # What rounding left of the mean matters where the mean is large and the spread tiny.
    rest = exact.mean(2)
    exact -= rest[:, :, None]
    return exact, mean + rest
