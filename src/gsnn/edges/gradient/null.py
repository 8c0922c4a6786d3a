r"""First-order scores under permutation of the gradients against the activations: p-values and chance levels.

A squared score is a quadratic form :math:`Q_p = \| Z_{ip} \Pi G_{jp}^\top \|_F^2` with a random permutation of the M
samples, the same for all pairs p of blocks. Mean, variance and skewness of a sum of the :math:`Q_p` are known exactly
(:mod:`gsnn.edges.stats.permutation_forms`), and the sum is approximated by the gamma variable that has all three. Two
moments are not enough: with a few directions of different weight, or with a few outlying samples, the tail of a gamma
variable that starts at 0 is far too light.

For medians, which are not in the tail, the gamma variable that starts at 0 and has the first two moments is better
(permuted scores exceed it in 48 to 53 % of the cases on real data, the one with three moments in up to 55 %).

A sum of the roots of the :math:`Q_p` has no such exact moments. Its median is taken from the root of a gamma variable:
each root has the mean and the variance of the root of a gamma variable with the mean and the variance of its
:math:`Q_p`, and roots are as correlated as the forms, to first order.

A regression that takes d degrees of freedom out of both sides leaves f = M - 1 - d of M - 1: expectations are larger by
(M - 1) / f, and the residual of a node is assumed to vary as the whole does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import scipy.special
import torch
from torch import Tensor

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.base.memory import matrix_dtype
from gsnn.edges.gradient.blocks import centred_chunks
from gsnn.edges.sample_store import SampleStore
from gsnn.edges.stats.permutation_forms import (
    FormSums,
    form_covariance,
    form_moments,
    form_sums,
    joined,
    pearson3_tail,
)

FloatMatrix = npt.NDArray[np.floating]

_CHUNK = 1 << 16
# Components of less than this share of a node's variance change no moment that matters, and take most of the time.
_SMALL = 1e-6


def node_sums(
    store: SampleStore,
    keys: Sequence[int],
    channels: IntArray,
    scale: FloatArray,
    rank: IntArray | None = None,
    *,
    third: bool = True,
) -> FormSums:
    """The sums over samples that the moments of N nodes under permutation need, from the P matrices at ``keys``.

    Args:
        store: The samples.
        keys: Of matrices (channels, M).
        channels: (N,) number of channels of each node.
        scale: (P, N) divides each node's deviations; 0 where it is constant.
        rank: (P, N) number of leading principal components to use, each with a sum of squares of 1; None for the
            deviations themselves.
        third: Whether third moments are needed.
    """
    inverse = torch.from_numpy(np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0))
    parts = []
    for nodes, sides in centred_chunks(store, keys, channels):
        units = torch.stack([centred for centred, _ in sides], 1) * inverse[:, nodes].T[:, :, None, None]
        components, widths = _rotated(units, None if rank is None else torch.from_numpy(rank[:, nodes].T))
        # Nodes with equally many components together, since the time grows with the third power of their number.
        order, lots = np.argsort(widths, kind="stable"), []
        for width in np.unique(widths):
            lot = torch.from_numpy(order[widths[order] == width])
            lots.append(form_sums(components[lot][:, :, : max(width, 1)], third=third))
        parts.append(joined(lots).of(np.argsort(order, kind="stable")))
    return joined(parts)


def _rotated(units: Tensor, rank: Tensor | None) -> tuple[Tensor, IntArray]:
    """Principal components (n, P, C, M), 0 beyond those that count, and the most that count at any block (n,)."""
    sizes, vectors = torch.linalg.eigh(units @ units.transpose(2, 3))
    sizes, vectors = sizes.flip(2), vectors.flip(3)
    if rank is None:
        keep = sizes > _SMALL * sizes.clamp(min=0).sum(2, keepdim=True)
        factor = keep.to(units)
    else:
        keep = torch.arange(units.shape[2]) < rank[:, :, None]
        factor = torch.where(keep, sizes.clamp(min=torch.finfo(sizes.dtype).tiny).rsqrt(), 0.0)
    return (vectors * factor[:, :, None]).transpose(2, 3) @ units, keep.sum(2).amax(1).numpy()


@dataclass(frozen=True)
class Chance:
    """What the scores of permuted samples depend on.

    Attributes:
        z: Sums of the N sources.
        g: Sums of the T targets.
        n: Number of samples.
    """

    z: FormSums
    g: FormSums
    n: int


def p_values(pairs: list[FloatMatrix], chance: Chance) -> FloatArray:
    """(N, T) P(sum of the squared scores >= the observed one); 1 where nothing is defined or nothing varies.

    ``pairs`` are P matrices (N, T) of scores, in which NaN counts as 0; ``chance`` needs third moments.
    """
    out = np.ones(pairs[0].shape)
    for rows, p in _p_blocks(pairs, chance):
        out[rows] = p
    return out


def normal_scores(pairs: list[FloatMatrix], chance: Chance) -> npt.NDArray[np.float32]:
    """Standard normal scores with the p-values of :func:`p_values`, for networks too large for those.

    In single precision: p-values come back to 1e-4 of themselves at worst, and none below 1e-300.
    """
    out = np.empty(pairs[0].shape, np.float32)
    for rows, p in _p_blocks(pairs, chance):
        out[rows] = -scipy.special.ndtri(np.maximum(p, 1e-300))
    return out


def _p_blocks(pairs: list[FloatMatrix], chance: Chance) -> Iterator[tuple[slice, FloatArray]]:
    for rows, scores, defined in _row_blocks(pairs):
        mean, variance, skewness = form_moments(chance.z.of(rows), chance.g, chance.n, defined)
        p = form_tail(np.square(scores).sum(0), mean, variance, skewness)
        yield rows, np.where((variance > 0) & defined.any(0), p, 1.0)


def form_tail(value: FloatArray, mean: FloatArray, variance: FloatArray, skewness: FloatArray) -> FloatArray:
    """P(X >= value) of the gamma variables of these three moments; without meaning where the variance is 0."""
    return pearson3_tail((value - mean) / np.sqrt(np.where(variance > 0, variance, 1.0)), skewness)


def _row_blocks(pairs: list[FloatMatrix]) -> Iterator[tuple[slice, FloatArray, BoolArray]]:
    """Some sources at a time: their scores (P, R, T), 0 where undefined, and where they are defined."""
    n_nodes, n_targets = pairs[0].shape
    step = max(1, _CHUNK // max(1, n_targets))
    for start in range(0, n_nodes, step):
        rows = slice(start, start + step)
        scores = np.stack([matrix[rows] for matrix in pairs]).astype(np.float64)
        defined = np.isfinite(scores)
        yield rows, np.where(defined, scores, 0.0), defined


def combined(pairs: list[FloatMatrix], aggregate: str) -> FloatMatrix:
    """The mean (``'mean0'``) or the root of the sum of squares (``'rss'``) of P scores (N, T), NaN counting as 0."""
    out = np.empty(pairs[0].shape, matrix_dtype(len(pairs[0])))
    for rows, scores, _ in _row_blocks(pairs):
        out[rows] = scores.mean(0) if aggregate == "mean0" else np.sqrt(np.square(scores).sum(0))
    return out


def excess(pairs: list[FloatMatrix], aggregate: str, chance: Chance) -> FloatMatrix:
    r"""Scores less their medians under permutation, so that a chance score is as often above 0 as below.

    A score is never negative, so that sums over more defined pairs of blocks, or of fewer degrees of freedom, are
    larger by chance. The median is subtracted, not the mean: then either of two chance scores is the larger equally
    often, whatever their spreads. For the same reason ``'rss'`` subtracts under the root.

    Args:
        pairs: P matrices (N, T) of scores, NaN where undefined: these count as 0.
        aggregate: ``'mean0'``, the mean over the pairs of blocks less its median, or ``'rss'``, the root of the sum of
            squares less its median, with its sign.
        chance: Sums; third moments are not needed.

    Returns:
        (N, T); 0 where nothing is defined. float32 above 4,096 nodes.

    Example:
        >>> sides = torch.tensor([-1.0, 0, 1, 0], dtype=torch.float64).view(1, 1, 1, 4) / 2**0.5
        >>> chance = Chance(form_sums(sides), form_sums(sides), 4)
        >>> excess([np.array([[0.9]])], "mean0", chance).round(4)
        array([[0.4074]])
    """
    out = np.zeros(pairs[0].shape, matrix_dtype(len(pairs[0])))
    for rows, scores, defined in _row_blocks(pairs):
        z = chance.z.of(rows)
        if aggregate == "mean0":
            beyond = scores.sum(0) - _median_of_roots(z, chance.g, chance.n, defined)
            out[rows] = np.where(defined.any(0), beyond, 0.0) / len(pairs)
        else:
            mean, variance = form_moments(z, chance.g, chance.n, defined, third=False)[:2]
            beyond = np.square(scores).sum(0) - mean * median_factor(mean, variance)
            beyond[~defined.any(0)] = 0.0
            out[rows] = np.sign(beyond) * np.sqrt(np.abs(beyond))
    return out


def _median_of_roots(z: FormSums, g: FormSums, n: int, defined: BoolArray) -> FloatArray:
    """Median of the sum over the defined p of the roots of the forms, (R, T)."""
    mean, variance = np.zeros((2, *defined.shape[1:]))
    spreads = []
    for p, known in enumerate(defined):
        expected = np.outer(z.first[:, p], g.first[:, p]) / (n - 1)
        own = form_covariance(z, g, n, p, p)
        known = known & (own > 1e-12 * np.square(expected))
        own = np.where(known, own, 1.0)
        root = np.where(known, _root_mean(np.where(known, np.square(expected), 1.0) / own), 1.0) * np.sqrt(expected)
        mean += np.where(defined[p], root, 0.0)
        # In units of the deviation of the form.
        spreads.append(np.where(known, np.sqrt(np.maximum(expected - np.square(root), 0.0) / own), 0.0))
    for p in range(len(defined)):
        for q in range(p, len(defined)):
            both = spreads[p] * spreads[q] * form_covariance(z, g, n, p, q)
            variance += both if p == q else 2 * both
    variance = np.maximum(variance, 0.0)
    second = np.square(mean) + variance
    shape = _shape_of(np.divide(np.square(mean), second, out=np.ones_like(second), where=second > 0))
    median: FloatArray = np.sqrt(second * _gamma_median(shape))
    return median


@cache
def _shapes() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log of the shape of a gamma variable of mean 1, the mean of its root, and its median; all three ascend."""
    shape = np.logspace(-2, 4, 6001)
    root = np.exp(scipy.special.gammaln(shape + 0.5) - scipy.special.gammaln(shape)) / np.sqrt(shape)
    return np.log(shape), root, scipy.special.gammaincinv(shape, 0.5) / shape


def median_factor(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Median over mean of gamma variables of these moments."""
    shape = np.divide(np.square(mean), variance, out=np.full_like(mean, 1e4), where=variance > 0)
    return _gamma_median(np.maximum(shape, 1e-2))


def _gamma_median(shape: FloatArray) -> FloatArray:
    """Median of gamma variables of these shapes and mean 1."""
    log_shape, _, median = _shapes()
    return np.interp(np.log(shape), log_shape, median)


def _root_mean(shape: FloatArray) -> FloatArray:
    log_shape, root, _ = _shapes()
    return np.interp(np.log(shape), log_shape, root)


def _shape_of(root_mean_squared: FloatArray) -> FloatArray:
    log_shape, root, _ = _shapes()
    return np.exp(np.interp(np.sqrt(root_mean_squared), root, log_shape))
