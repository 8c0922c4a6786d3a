r"""What first-order scores are when the gradients are permuted against the activations: p-values, and chance levels.

A squared score is a quadratic form :math:`Q_p = \| Z_{ip} \Pi G_{jp}^\top \|_F^2` with a random permutation of the M
samples, the same for all pairs p of blocks. For centred rows and many samples the entries of :math:`Z \Pi G^\top` are
normal with covariance :math:`\Sigma_i \otimes \Sigma_j`, so that

.. math:: E Q_p = t_{ip} t_{jp} / f, \qquad
    \operatorname{Cov}(Q_p, Q_q) = 2 \| Z_{ip} Z_{iq}^\top \|_F^2 \| G_{jp} G_{jq}^\top \|_F^2 / f^2

with t the sums of squares and f = M - 1. A sum of the Q_p is taken for a gamma
variable of its mean and variance, which is exact for nodes of one direction; a sum of their roots for the root of one.

The expectation holds exactly for any number of samples. Once a regression has taken d degrees of freedom out of both
sides, f = M - 1 - d is what is left of them (to first order: the residual of a permuted gradient varies itself).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import scipy.special
import torch

from gsnn._budget import matrix_dtype
from gsnn.edges._gradient_blocks import centred_channels, node_chunks
from gsnn.edges._sample_store import SampleStore

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_CHUNK = 1 << 16


def cross_moments(store: SampleStore, keys: list[int], channels: IntArray, scale: FloatArray) -> FloatArray:
    r"""Squared Frobenius norms of :math:`Z_{ip} Z_{iq}^\top` of unit-norm Z, for each node and two pairs of blocks.

    Args:
        store: Where the samples are.
        keys: The P matrices (channels, M) in it.
        channels: (N,) number of channels of each node.
        scale: (P, N) norm of each node's deviations, 0 where it is constant.

    Returns:
        (N, P, P); 0 where either is constant.
    """
    n_nodes, n_pairs = len(channels), len(keys)
    first = np.concatenate([[0], np.cumsum(channels)])
    inverse = torch.from_numpy(np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0))
    out = np.zeros((n_nodes, n_pairs, n_pairs))
    for start, end in node_chunks(channels, n_pairs * store.n):
        rows = slice(int(first[start]), int(first[end]))
        sides = [centred_channels(store.read(key, rows), channels[start:end])[0] for key in keys]
        units = torch.stack(sides, 1) * inverse[:, start:end].T[:, :, None, None]
        n, _, c, m = units.shape
        stacked = units.reshape(n, n_pairs * c, m)
        gram = (stacked @ stacked.transpose(1, 2)).reshape(n, n_pairs, c, n_pairs, c)
        out[start:end] = gram.square().sum((2, 4)).numpy()
    return out


def p_values(pairs: list[npt.NDArray[np.floating]], aggregate: str, z: FloatArray, g: FloatArray, n: int) -> FloatArray:
    """P(score >= the one found) of every pair of nodes, for scores that add up over the pairs of blocks.

    Args:
        pairs: P matrices (N, N) of normalised scores, NaN where undefined: these count as 0.
        aggregate: ``'mean0'`` or ``'rss'``.
        z: (N, P, P) cross moments of the sources.
        g: (N, P, P) cross moments of the targets.
        n: Number of samples.

    Returns:
        (N, N); 1 where nothing is defined.

    Example:
        >>> one = np.ones((1, 1, 1))
        >>> p_values([np.array([[0.2]])], "rss", one, one, 101).round(4)
        array([[0.0455]])
    """
    out = np.ones((len(z), len(g)))
    for rows, p in _p_blocks(pairs, aggregate, z, g, n):
        out[rows] = p
    return out


def normal_scores(
    pairs: list[npt.NDArray[np.floating]], aggregate: str, z: FloatArray, g: FloatArray, n: int
) -> npt.NDArray[np.float32]:
    """Standard normal scores with the p-values of :func:`p_values`, for networks too large for those.

    In single precision: p-values come back to 1e-4 of themselves at worst, and none below 1e-300.
    """
    out = np.empty((len(z), len(g)), np.float32)
    for rows, p in _p_blocks(pairs, aggregate, z, g, n):
        out[rows] = -scipy.special.ndtri(np.maximum(p, 1e-300))
    return out


def _p_blocks(
    pairs: list[npt.NDArray[np.floating]], aggregate: str, z: FloatArray, g: FloatArray, n: int
) -> Iterator[tuple[slice, FloatArray]]:
    step = max(1, _CHUNK // max(1, len(g)))
    for start in range(0, len(z), step):
        rows = slice(start, start + step)
        # In units of its expectation each form has covariance 2 z g with another.
        forms = [np.nan_to_num(np.square(matrix[rows], dtype=np.float64)) * (n - 1) for matrix in pairs]
        shape, ratio = (_rss if aggregate == "rss" else _mean0)(forms, z[rows], g)
        defined = np.any([np.isfinite(matrix[rows]) for matrix in pairs], axis=0)
        yield rows, np.where(defined, scipy.special.gammaincc(shape, shape * ratio), 1.0)


def combined(pairs: list[npt.NDArray[np.floating]], aggregate: str) -> npt.NDArray[np.floating]:
    """The mean (``'mean0'``) or the root of the sum of squares (``'rss'``) of P scores (N, N), NaN counting as 0."""
    n_nodes, n_targets = pairs[0].shape
    out = np.empty((n_nodes, n_targets), matrix_dtype(n_nodes))
    step = max(1, _CHUNK // max(1, n_targets))
    for start in range(0, n_nodes, step):
        rows = slice(start, start + step)
        known = [np.nan_to_num(matrix[rows].astype(np.float64), nan=0.0) for matrix in pairs]
        out[rows] = sum(known) / len(pairs) if aggregate == "mean0" else np.sqrt(sum(np.square(k) for k in known))
    return out


@dataclass(frozen=True)
class Chance:
    """The squared scores of one pair of blocks by chance: expectation and spread, as products of vectors.

    Attributes:
        second: (N,) of sources and (N,) of targets; their product is the expectation of the squared score.
        own: (N,) and (N,); twice their product is the squared coefficient of variation of the squared score.
    """

    second: tuple[FloatArray, FloatArray]
    own: tuple[FloatArray, FloatArray]


def excess(pairs: list[npt.NDArray[np.floating]], aggregate: str, chances: list[Chance]) -> npt.NDArray[np.floating]:
    r"""Scores less their medians under permutation, so that a chance score is as often above 0 as below.

    A score is never negative, so that sums over more pairs of blocks where it is defined, or of fewer degrees of
    freedom, are larger by chance. The median is subtracted and not the mean because it is what decides whether one of
    two chance scores is the larger as often as not, whatever their spreads; for the same reason ``'rss'`` subtracts
    under the root. Medians are those of gamma variables; for ``'rss'`` of one whose terms rise and fall together.

    Args:
        pairs: P matrices (N, N) of scores, NaN where undefined: these count as 0.
        aggregate: ``'mean0'``, the mean over the pairs of blocks of scores less medians, or ``'rss'``, the root of the
            sum of squares less its median, with its sign.
        chances: The P chance levels.

    Returns:
        (N, N); 0 where nothing is defined. float32 above 4,096 nodes.

    Example:
        >>> one = np.ones(1)
        >>> chance = Chance((one, one / 100), (one, one))
        >>> excess([np.array([[0.2]])], "mean0", [chance]).round(4)
        array([[0.1326]])
    """
    n_nodes, n_targets = pairs[0].shape
    out = np.zeros((n_nodes, n_targets), matrix_dtype(n_nodes))
    step = max(1, _CHUNK // max(1, n_targets))
    for start in range(0, n_nodes, step):
        rows = slice(start, start + step)
        found, mean, deviation = (np.zeros((len(out[rows]), n_targets)) for _ in range(3))
        for matrix, chance in zip(pairs, chances, strict=True):
            score = matrix[rows].astype(np.float64)
            defined = np.isfinite(score)
            second, own = (np.outer(z[rows], g) for z, g in (chance.second, chance.own))
            own[own <= 0] = 1.0
            if aggregate == "mean0":
                found += np.where(defined, score - np.sqrt(second * _median(0.5 / own)), 0.0)
            else:
                found += np.where(defined, np.square(score), 0.0)
                mean += np.where(defined, second, 0.0)
                deviation += np.where(defined, second * np.sqrt(2.0 * own), 0.0)
        if aggregate == "mean0":
            out[rows] = found / len(pairs)
        else:
            some = deviation > 0
            shape = np.square(np.divide(mean, deviation, out=np.ones_like(mean), where=some))
            beyond = np.where(some, found - mean * _median(shape), 0.0)
            out[rows] = np.sign(beyond) * np.sqrt(np.abs(beyond))
    return out


def _covariance(z: FloatArray, g: FloatArray, p: int, q: int) -> FloatArray:
    return np.outer(z[:, p, q], g[:, p, q])


def _rss(forms: list[FloatArray], z: FloatArray, g: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shape of the gamma variable that stands for the sum of the forms, and the sum over its expectation."""
    n_pairs, total = len(forms), np.sum(forms, axis=0)
    mean = sum((_covariance(z, g, p, p) > 0).astype(float) for p in range(n_pairs))
    variance = 2 * (z.reshape(len(z), -1) @ g.reshape(len(g), -1).T)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.square(mean) / variance, total / mean


def _mean0(forms: list[FloatArray], z: FloatArray, g: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same for the square of the sum of the roots of the forms."""
    mean, variance, total = (np.zeros_like(forms[0]) for _ in range(3))
    spread = []
    for p, form in enumerate(forms):
        own = _covariance(z, g, p, p)
        known = own > 0
        own = np.where(known, own, 1.0)
        root = np.where(known, _root_mean(0.5 / own), 0.0)
        mean += root
        total += np.sqrt(form)
        spread.append(np.sqrt(np.where(known, 1.0 - np.square(root), 0.0) / own))
    for p in range(len(forms)):
        for q in range(len(forms)):
            # Roots are as correlated as the forms, to first order.
            variance += spread[p] * spread[q] * _covariance(z, g, p, q)
    with np.errstate(invalid="ignore", divide="ignore"):
        second = np.square(mean) + variance
        return _shape_of(np.square(mean) / second), np.square(total) / second


@cache
def _root_table() -> tuple[FloatArray, FloatArray]:
    """Log of the shape of a gamma variable of expectation 1, and the expectation of its root; the latter rises."""
    shape = np.logspace(-1, 4, 4001)
    root = np.exp(scipy.special.gammaln(shape + 0.5) - scipy.special.gammaln(shape)) / np.sqrt(shape)
    return np.log(shape), root


@cache
def _median_table() -> tuple[FloatArray, FloatArray]:
    """Log of the shape of a gamma variable of expectation 1, and its median."""
    shape = np.logspace(-1, 4, 4001)
    return np.log(shape), scipy.special.gammaincinv(shape, 0.5) / shape


def _median(shape: FloatArray) -> FloatArray:
    log_shape, median = _median_table()
    return np.interp(np.log(shape), log_shape, median)


def _root_mean(shape: FloatArray) -> FloatArray:
    log_shape, root = _root_table()
    return np.interp(np.log(shape), log_shape, root)


def _shape_of(root_mean_squared: FloatArray) -> FloatArray:
    log_shape, root = _root_table()
    return np.exp(np.interp(np.sqrt(root_mean_squared), root, log_shape))
