r"""Sums of quadratic forms when samples are permuted: three exact moments, and a distribution that has them.

A node is a stack of P centred matrices :math:`Z_1..Z_P` (C, n). For two nodes Z and G and one random permutation
:math:`\Pi` of the n samples, the same for all p, this module treats

.. math:: Q = \sum_p \| Z_p \Pi G_p^\top \|_F^2 = \sum_p \langle A_p, \Pi B_p \Pi^\top \rangle,
    \qquad A_p = Z_p^\top Z_p, \quad B_p = G_p^\top G_p.

The r-th moment of Q is a sum over the ways in which the 2 r indices of r matrices can coincide: over set partitions
:math:`\sigma`, the sum of the entries of A with exactly these coincidences, times the same of B, divided by the number
n (n - 1) ... of placements. (For one form: Mielke 1979; Kazi-Aoual, Hitier, Sabatier and Lebreton 1995, for the RV
coefficient.) Sums with exactly these coincidences follow from sums with at least these by Moebius inversion; the latter
vanish if an index coincides with no other, because the matrices are centred. Only 3 kinds are left for two matrices and
16 for three; each is a number of one node, so that the moments of all pairs of nodes are products of two matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from math import factorial

import numpy as np
import scipy.special
import torch
from torch import Tensor

from gsnn.base.arrays import BoolArray, FloatArray, IntArray

_Partition = tuple[tuple[int, ...], ...]
# A variance of less than this share of the squared mean is rounding.
_NO_VARIANCE = 1e-11


@dataclass(frozen=True)
class FormSums:
    """The sums of N nodes that the moments need.

    Attributes:
        first: (N, P) traces of the A_p.
        second: (N, P, P, 3) sums over two of them, in the order of ``PAIR_KINDS``.
        third: (N, T, 16) sums over three, in the order of ``TRIPLE_KINDS``, for the T = P (P + 1) (P + 2) / 6 triples
            p <= q <= r of :func:`triples`; T = 0 if they were not computed.
    """

    first: FloatArray
    second: FloatArray
    third: FloatArray

    def scaled(self, factor: FloatArray) -> FormSums:
        """Those of A_p times a factor (N, P)."""
        third = self.third
        if third.shape[1]:
            p, q, r = triples(self.first.shape[1])
            third = third * (factor[:, p] * factor[:, q] * factor[:, r])[..., None]
        return FormSums(self.first * factor, self.second * (factor[:, :, None] * factor[:, None])[..., None], third)

    def of(self, nodes: slice | IntArray, blocks: BoolArray | None = None) -> FormSums:
        """Those of some nodes, and of the A_p of some p (P,) alone."""
        if blocks is None:
            return FormSums(self.first[nodes], self.second[nodes], self.third[nodes])
        whole: BoolArray | slice = slice(None)
        if self.third.shape[1]:
            whole = np.all([blocks[k] for k in triples(len(blocks))], axis=0)
        return FormSums(
            self.first[nodes][:, blocks],
            self.second[nodes][:, blocks][:, :, blocks],
            self.third[nodes][:, whole],
        )


@lru_cache(64)
def triples(n_blocks: int) -> tuple[IntArray, IntArray, IntArray]:
    """All p <= q <= r below P."""
    p, q, r = np.array([(p, q, r) for p in range(n_blocks) for q in range(p, n_blocks) for r in range(q, n_blocks)]).T
    return p, q, r


def form_sums(units: Tensor, *, third: bool = True) -> FormSums:
    """Sums over coincidences of each node.

    Args:
        units: (N, P, C, n) float64, centred over samples; 0 where a node has fewer channels or nothing varies.
        third: Whether to compute sums over three matrices, which takes most of the time.

    Raises:
        ValueError: If the units have another shape.
    """
    if units.ndim != 4:
        raise ValueError(f"units must have the shape (nodes, blocks, channels, samples), got {tuple(units.shape)}")
    n_nodes, n_blocks, c, n = units.shape
    size = units.square().sum(2)
    trace = size.sum(2).numpy()
    stacked = units.reshape(n_nodes, n_blocks * c, n)
    gram = (stacked @ stacked.transpose(1, 2)).view(n_nodes, n_blocks, c, n_blocks, c).transpose(2, 3)
    squares = gram.square().sum((3, 4)).numpy()
    diagonals = (size @ size.transpose(1, 2)).numpy()
    second = np.stack([trace[:, :, None] * trace[:, None], squares, diagonals], -1)
    if not third:
        return FormSums(trace, second, np.zeros((n_nodes, 0, len(TRIPLE_KINDS))))
    # Sums over samples of |z_p|^2 z_q, and of |z_r|^2 z_p' (Z_p Z_q') z_q.
    pulled = torch.einsum("npm,nqcm->npqc", size, units)
    middle = torch.einsum("npqc,nrqc->nqpr", pulled, pulled).numpy()
    weighted = np.empty((n_nodes, n_blocks, n_blocks, n_blocks))
    for p in range(n_blocks):
        products = ((gram[:, p] @ units) * units[:, p : p + 1]).sum(2)
        weighted[:, :, p] = (size @ products.transpose(1, 2)).numpy()
    p_of, q_of, r_of = triples(n_blocks)
    cyclic, cubes, diagonal = (units.new_empty(n_nodes, len(p_of)) for _ in range(3))
    start = 0
    for p in range(n_blocks):
        for q in range(p, n_blocks):
            these = slice(start, start + n_blocks - q)
            product = gram[:, p, q, None] @ gram[:, q, q:]
            cyclic[:, these] = (product * gram[:, p, q:]).sum((2, 3))
            both = (units[:, p, :, None] * units[:, q, None]).view(n_nodes, c * c, n)
            cubed = both @ units[:, q:].reshape(n_nodes, -1, n).transpose(1, 2)
            cubes[:, these] = cubed.square().view(n_nodes, c * c, -1, c).sum((1, 3))
            diagonal[:, these] = torch.einsum("nm,nrm->nr", size[:, p] * size[:, q], size[:, q:])
            start = these.stop
    orders = ((p_of, q_of, r_of), (q_of, p_of, r_of), (r_of, p_of, q_of))
    kinds = [trace[:, p_of] * trace[:, q_of] * trace[:, r_of]]
    kinds += [trace[:, one] * squares[:, two, three] for one, two, three in orders]
    kinds += [cyclic.numpy()]
    kinds += [trace[:, one] * diagonals[:, two, three] for one, two, three in orders]
    kinds += [weighted[:, one, two, three] for one, two, three in orders]
    kinds += [cubes.numpy()]
    kinds += [middle[:, one, two, three] for one, two, three in orders]
    kinds += [diagonal.numpy()]
    return FormSums(trace, second, np.stack(kinds, -1))


def joined(parts: list[FormSums]) -> FormSums:
    """The sums of several groups of nodes, one after the other."""
    return FormSums(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("first", "second", "third")))


# Two matrices: both traces; all entries squared; both diagonals. Partitions are of the index positions (0, 1) of the
# first matrix and (2, 3) of the second.
PAIR_KINDS = ("traces", "squares", "diagonals")
# Three: traces; one trace and squares of the others; the cyclic product; one trace and two diagonals; one diagonal and
# the product of the others; entrywise products; one matrix between the diagonals of the others; three diagonals. The
# number is that of the matrix that differs from the other two.
TRIPLE_KINDS = (
    "traces",
    *(f"trace {k}, squares" for k in range(3)),
    "cyclic",
    *(f"trace {k}, diagonals" for k in range(3)),
    *(f"diagonal {k}" for k in range(3)),
    "cubes",
    *(f"middle {k}" for k in range(3)),
    "diagonals",
)


def _kind(partition: _Partition) -> str:
    """The kind of sum of a partition of the index positions without singletons."""
    sizes = sorted(len(block) for block in partition)
    owners = [[position // 2 for position in block] for block in partition]
    traces = [block[0] for block in owners if len(block) == 2 and block[0] == block[1]]
    if sizes == [4] or sizes == [6]:
        return "diagonals"
    if sizes == [2, 2]:
        return "traces" if traces else "squares"
    if sizes == [2, 2, 2]:
        return {3: "traces", 1: f"trace {(traces or [0])[0]}, squares", 0: "cyclic"}[len(traces)]
    if sizes == [2, 4]:
        two = next(block for block in owners if len(block) == 2)
        return f"trace {two[0]}, diagonals" if traces else f"diagonal {3 - sum(two)}"
    first = owners[0]
    alone = [k for k in range(3) if first.count(k) == 1]
    return "cubes" if len(alone) == 3 else f"middle {alone[0]}"


def _partitions(size: int) -> Iterator[list[list[int]]]:
    """All set partitions of 0 .. size - 1."""
    if size == 0:
        yield []
        return
    for blocks in _partitions(size - 1):
        for k in range(len(blocks)):
            yield [*blocks[:k], [*blocks[k], size - 1], *blocks[k + 1 :]]
        yield [*blocks, [size - 1]]


@cache
def _moebius(n_matrices: int) -> list[tuple[int, list[int]]]:
    """For each partition its number of blocks, and the factor of each kind in its sum of exact coincidences."""
    kinds = PAIR_KINDS if n_matrices == 2 else TRIPLE_KINDS
    every = [tuple(tuple(block) for block in blocks) for blocks in _partitions(2 * n_matrices)]
    kept = [blocks for blocks in every if min(len(block) for block in blocks) > 1]
    out = []
    for fine in every:
        factors = [0] * len(kinds)
        for coarse in kept:
            where = {position: k for k, block in enumerate(coarse) for position in block}
            homes = [{where[position] for position in block} for block in fine]
            if any(len(home) > 1 for home in homes):
                continue
            parts = np.bincount([home.pop() for home in homes])
            sign = np.prod([(-1) ** (k - 1) * factorial(k - 1) for k in parts.tolist()])
            factors[kinds.index(_kind(coarse))] += int(sign)
        out.append((len(fine), factors))
    return out


@lru_cache(16)
def form_weights(n: int, n_matrices: int) -> FloatArray:
    """The matrix W that makes sums of one node and of another into a moment, sums @ W @ sums.

    Args:
        n: Number of samples.
        n_matrices: 2 or 3, the order of the moment.

    Returns:
        (3, 3) or (16, 16), computed in exact fractions.
    """
    partitions = _moebius(n_matrices)
    size = len(partitions[0][1])
    total = [[Fraction(0)] * size for _ in range(size)]
    for n_blocks, factors in partitions:
        if n_blocks > n:
            continue  # no placement
        placements = factorial(n) // factorial(n - n_blocks)
        some = [(k, factor) for k, factor in enumerate(factors) if factor]
        for a, first in some:
            for b, second in some:
                total[a][b] += Fraction(first * second, placements)
    return np.array([[float(value) for value in row] for row in total])


def form_moments(
    z: FormSums, g: FormSums, n: int, defined: BoolArray | None = None, *, third: bool = True
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Expectation, variance and skewness of Q for all pairs of nodes, all three exact.

    Args:
        z: Sums of R nodes.
        g: Sums of T nodes.
        n: Number of samples.
        defined: (P, R, T) which forms the sum of a pair includes; None for all.
        third: Whether to compute the skewness, which needs the sums over three; else it is 0.

    Returns:
        Three (R, T); variance and skewness are 0 where Q does not vary.

    Example:
        One sample of 5 sticks out on both sides: Q is 1 with probability 1/5, and 1/16 otherwise.

        >>> one = torch.tensor([4.0, -1, -1, -1, -1], dtype=torch.float64).view(1, 1, 1, 5) / 20**0.5
        >>> [v.round(4).item() for v in form_moments(form_sums(one), form_sums(one), 5)]
        [0.25, 0.1406, 1.5]
    """
    mean, variance, skewness = _moments(z, g, n, third)
    if defined is None:
        return mean, variance, skewness
    usual = np.stack([np.outer(a > 0, b > 0) for a, b in zip(z.first.T, g.first.T, strict=True)])
    differs = (defined & usual != usual).any(0)
    # Where a regression leaves nothing at some blocks; there are few patterns of such blocks.
    patterns = np.unique(defined[:, differs].T, axis=0)
    for pattern in patterns:
        at = differs & (defined == pattern[:, None, None]).all(0)
        rows, columns = np.flatnonzero(at.any(1)), np.flatnonzero(at.any(0))
        inside = at[np.ix_(rows, columns)]
        if pattern.any():
            some = _moments(z.of(rows, pattern), g.of(columns, pattern), n, third)
        else:
            some = (np.zeros(inside.shape),) * 3
        for whole, part in zip((mean, variance, skewness), some, strict=True):
            whole[at] = part[inside]
    return mean, variance, skewness


def _moments(z: FormSums, g: FormSums, n: int, third: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    mean = z.first @ g.first.T / (n - 1)
    second = (z.second @ form_weights(n, 2)).reshape(len(mean), -1) @ g.second.reshape(mean.shape[1], -1).T
    variance = second - np.square(mean)
    varies = variance > _NO_VARIANCE * np.square(mean)
    variance[~varies] = 0.0
    if not third:
        return mean, variance, np.zeros_like(mean)
    p, q, r = triples(z.first.shape[1])
    times = np.array([1, 3, 6])[(p != q).astype(int) + (q != r)]
    cubed = (z.third @ form_weights(n, 3)) * times[:, None]
    central = cubed.reshape(len(mean), -1) @ g.third.reshape(mean.shape[1], -1).T
    central -= mean * (3 * second - 2 * np.square(mean))
    scale = np.where(varies, variance, 1.0)
    return mean, variance, np.where(varies, central / (scale * np.sqrt(scale)), 0.0)


def form_covariance(z: FormSums, g: FormSums, n: int, p: int, q: int) -> FloatArray:
    """Covariance of the forms p and q of all pairs of nodes, exact: (R, T)."""
    second = z.second[:, p, q] @ form_weights(n, 2) @ g.second[:, p, q].T
    product = np.outer(z.first[:, p] * z.first[:, q], g.first[:, p] * g.first[:, q])
    return second - product / (n - 1) ** 2


def pearson3_tail(score: FloatArray, skewness: FloatArray) -> FloatArray:
    """P(X >= score) of a gamma variable of this skewness, standardised (Pearson's type III).

    Args:
        score: (...) deviations from the mean, in standard deviations.
        skewness: (...); mirrored where it is negative, normal where it is 0.

    Returns:
        (...) probabilities.

    Example:
        >>> pearson3_tail(np.array([0.0, 2.0, 2.0, 2.0]), np.array([2.0, 2.0, 0.0, -1.0])).round(4)
        array([0.3679, 0.0498, 0.0228, 0.    ])
    """
    size = np.maximum(np.abs(skewness), 1e-3)
    shape = 4.0 / np.square(size)
    up = skewness >= 0
    at = np.maximum(shape + np.where(up, score, -score) * np.sqrt(shape), 0.0)
    out: FloatArray = scipy.special.gammaincc(shape, at)
    if not up.all():
        out = np.where(up, out, scipy.special.gammainc(shape, at))
    return out
