"""First-order scores once the regressors of each target, its known parents and itself, are regressed out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gsnn.base.arrays import IntArray
from gsnn.base.progress import track
from gsnn.edges.gradient.blocks import Components, fold, runs, slot_counts, squared_norms

# A residual counts as 0 when its share of the variance is at most this many times the ridge and the rounding.
_RESIDUAL = 16
# Gathered rows that are used at once stay in cache.
_CACHE_BYTES = 2**20
_BLOCK_TARGETS = 64
_GRAM_ROWS = 1024


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

    def within(self, targets: range) -> Regressors:
        """Those of some targets, counted from the first of these."""
        indptr = self.indptr[targets.start : targets.stop + 1]
        return Regressors(indptr - indptr[0], self.nodes[indptr[0] : indptr[-1]])

    def of_targets(self, targets: IntArray) -> tuple[IntArray, IntArray]:
        """All regressors of some targets: the nodes, and for each the index into ``targets``."""
        owner, place = runs(self.indptr[targets + 1] - self.indptr[targets])
        return self.nodes[self.indptr[targets][owner] + place], owner


def regressed_norms(
    source: Components, target: Components, regressors: Regressors, ridge: float, working_bytes: int
) -> tuple[Tensor, npt.NDArray[np.float64]]:
    r"""As the cosine of :func:`pair_norms`, once the regressors of j are regressed out of z_i and g_j alike.

    With W the components of the regressors, H = W' (W W' + ridge I)^-1 W, and the residual forms
    :math:`\langle a, b\rangle_H = a (I - H) b^\top`:

    .. math:: \| Z_i (I - H) G_j^\top \|_F \big/ \sqrt{\operatorname{tr} Z_i (I - H) Z_i^\top
        \operatorname{tr} G_j (I - H) G_j^\top}

    Only g_j is residualised for the numerator. The denominator of z_i needs only its products with the regressors;
    these come from the products of the sources with each other, which all targets share.

    Args:
        source: Components of the sources; the regressors are some of them.
        target: Components of the targets.
        regressors: The regressors of each target.
        ridge: Added to W W', where every node has a variance of 1.
        working_bytes: Approximate limit of the memory of the blocks.

    Returns:
        (N, T), [i, j]; NaN where z_i or g_j is constant or has no residual, and where i is a regressor of j. And (T,)
        the degrees of freedom that the regressors of each target take, tr H.
    """
    n_nodes, n_targets, item = len(source.rank), len(target.rank), source.values.element_size()
    out = source.values.new_full((n_nodes, n_targets), torch.nan)
    used_freedom = np.zeros(n_targets)
    least = _RESIDUAL * (torch.finfo(source.values.dtype).eps + ridge)
    n_rows = len(source.values)
    width = np.add.reduceat(source.rank[regressors.nodes], regressors.indptr[:-1])
    alive = np.flatnonzero(target.rank > 0)
    alive = alive[np.argsort(width[alive], kind="stable")]
    shared = _gram(source.values) if item * n_rows**2 <= working_bytes // 2 else None
    spare = working_bytes - (item * n_rows**2 if shared is not None else 0)
    back = torch.from_numpy(source.position).to(out.device)
    constant = torch.from_numpy(source.rank == 0).to(out.device)
    few = width[alive] <= source.values.shape[1]
    blocks = [
        block[np.argsort(-target.rank[block], kind="stable")]
        for part in (alive[few], alive[~few])
        for block in _target_blocks(part, width, source, target, spare)
    ]
    narrow = [block for block in blocks if width[block].max() <= source.values.shape[1]]
    in_chunks = _explained_in_chunks(source, regressors, narrow, width, ridge, spare) if shared is None else iter(())
    for nodes in track(blocks, "blocks of targets", show=None):
        counts = slot_counts(target.rank[nodes])
        regressor, owner = regressors.of_targets(nodes)
        at, valid = _regressor_rows(source, regressor, owner, len(nodes))
        if at.shape[1] > source.values.shape[1]:
            basis, freedom = _basis_of_samples(source.values, at, valid, ridge)
            parts = [fold((q @ source.values.T).square_(), source.counts, n_nodes).sum(0) for q in basis]
            explained = torch.stack(parts)
        else:
            basis, inverse = _basis(source.values, at, valid, ridge)
            # tr H = tr K^-1 (K - ridge I), with K = W W' + ridge I.
            freedom = valid.sum(1) - ridge * inverse.square().sum((1, 2)) if len(source.values) else valid.sum(1) * 0.0
            if shared is None:
                explained = next(in_chunks)
            else:
                explained = fold(_explained(shared, at, inverse), source.counts, n_nodes)
        used_freedom[nodes] = freedom.cpu().numpy()
        residual, left = _residuals(target, nodes, basis)
        share = 1.0 - explained
        squared = squared_norms(residual @ source.values.T, counts, len(nodes), source)
        scores = (squared / (share * left[:, None].to(share))).sqrt_().clamp_(max=1.0)
        undefined = (share <= least) | (left <= least).to(share.device)[:, None]
        scores = torch.where(undefined, torch.nan, scores)[:, back]
        scores[:, constant] = torch.nan
        scores[torch.from_numpy(owner), torch.from_numpy(regressor)] = torch.nan
        out[:, torch.from_numpy(nodes).to(out.device)] = scores.T
    return out, used_freedom


def _target_blocks(
    alive: IntArray, width: IntArray, source: Components, target: Components, spare: int
) -> Iterator[IntArray]:
    """Blocks of targets of similar numbers of regressors that fit in memory; at least one target each."""
    n_rows, n_samples = source.values.shape
    item, slots = source.values.element_size(), len(target.counts)
    w = np.minimum(width[alive], n_samples)
    # Gathered products and their squares, regressors in float64 and as a basis, gradients, products.
    each = item * n_rows * (w * 2 + 2 * slots) + n_samples * (w * (16 + item) + 4 * item * slots)
    start = 0
    while start < len(alive):
        block = each[start : start + _BLOCK_TARGETS]
        end = start + max(1, int((block * np.arange(1, len(block) + 1) <= spare).sum()))
        yield alive[start:end]
        start = end


def _explained_in_chunks(
    source: Components, regressors: Regressors, blocks: list[IntArray], width: IntArray, ridge: float, spare: int
) -> Iterator[Tensor]:
    """What the regressors explain of every source, (T, N) by position for each block of targets.

    For sources whose products with each other do not fit into memory: these are computed chunk by chunk, once for as
    many blocks of targets as fit. A quarter of the memory is for the products, half for the blocks.
    """
    n_rows, n_nodes, item = len(source.values), len(source.rank), source.values.element_size()
    step = max(1, spare // 4 // max(1, item * n_rows))
    chunks = [
        (offset + start, start, min(step, count - start))
        for offset, count in zip(source.offsets.tolist(), source.counts, strict=False)
        for start in range(0, count, step)
    ]
    sizes = [item * len(block) * (int(width[block].max()) ** 2 + n_nodes) for block in blocks]
    ends = np.cumsum(sizes)
    first = 0
    while first < len(blocks):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + spare // 2, side="right")))
        solved, totals = [], []
        for nodes in blocks[first:last]:
            at, valid = _regressor_rows(source, *regressors.of_targets(nodes), len(nodes))
            solved.append((at, _basis(source.values, at, valid, ridge)[1].to(source.values.dtype)))
            totals.append(source.values.new_zeros(len(nodes), n_nodes))
        for row, place, count in chunks:
            products = source.values @ source.values[row : row + count].T
            for (at, inverse), total in zip(solved, totals, strict=True):
                total[:, place : place + count] += _explained(products, at, inverse)
        yield from totals
        first = last


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
        rows = products.index_select(0, at[chunk].flatten()).view(-1, width, products.shape[1])
        torch.sum(torch.bmm(inverse[chunk].to(products.dtype), rows).square_(), 1, out=out[chunk])
    return out


def _regressor_rows(source: Components, nodes: IntArray, owner: IntArray, n_targets: int) -> tuple[Tensor, Tensor]:
    """Rows of the components of the regressors of each target, :func:`_padded`, on the device of the sources."""
    rows, of = source.rows_of(nodes)
    at, valid = _padded(rows, owner[of], n_targets)
    return at.to(source.values.device), valid.to(source.values.device)


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
    regressors = values[at].double()
    regressors *= valid[:, :, None]
    gram = regressors @ regressors.transpose(1, 2)
    gram.diagonal(dim1=1, dim2=2).add_(torch.where(valid, ridge, 1.0))
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    inverse = torch.linalg.solve_triangular(torch.linalg.cholesky(gram), eye.expand_as(gram), upper=False)
    # Padding has rows of 0 in Q; its columns of L^-1 must not multiply row 0, which it points to.
    return (inverse @ regressors).to(values.dtype), inverse * valid[:, None, :]


def _basis_of_samples(values: Tensor, at: Tensor, valid: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Q (T, M, M) with Q'Q = H and tr H (T,), for more regressors than samples: from W'W, then the smaller product."""
    bases, freedom = [], []
    for rows, real in zip(at, valid, strict=True):
        regressors = values[rows[real]].double()
        sizes, vectors = torch.linalg.eigh(regressors.T @ regressors)
        share = sizes.clamp(min=0)
        share = share / (share + ridge)
        bases.append((share.sqrt()[:, None] * vectors.T).to(values.dtype))
        freedom.append(share.sum())
    return torch.stack(bases), torch.stack(freedom)


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
