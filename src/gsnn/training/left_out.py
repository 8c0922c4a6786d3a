"""The baselines on conditions that they were not fitted on: every condition is left out once, without a refit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.progress import now
from gsnn.data.split import conditions
from gsnn.training.baselines import ALPHAS, pooled_correlation

MOST_CONDITIONS = 5000  # of more conditions a sample is taken
_MOST_WORK = 2e11  # multiplications in all decompositions; of readouts that need more a sample is taken
_BLOCK = 2**22  # errors that are in memory at a time


def left_out_correlations(x: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, float]:
    """Pooled r of the baselines when each condition (distinct row of ``x``) is predicted from all others.

    Of more than 5,000 conditions 5,000 are drawn with a fixed seed, and the others are not looked at. Readouts that
    miss different samples need a decomposition each; if these are too many, only some of the readouts are taken.

    Args:
        x: (M, I), finite.
        y: (M, O) in the units of the data; NaN is missing.

    Returns:
        r of ``ridge``, ``group mean`` and ``mean``, and the number of ``folds``; if not all were taken, also the number
        of all conditions (``of``) and of the ``readouts`` that were taken. NaN below two conditions.

    Raises:
        ValueError: If the shapes do not fit, or x is not finite.

    Example:
        >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> r = left_out_correlations(x, 2 * x + 1)
        >>> round(r["ridge"], 3), r["folds"]
        (1.0, 4.0)
    """
    inputs, readouts = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if inputs.ndim != 2 or readouts.ndim != 2 or len(inputs) != len(readouts) or not len(inputs):
        raise ValueError(
            f"x and y must be (M, I) and (M, O) with the same M > 0, got {inputs.shape} and {readouts.shape}"
        )
    if not np.isfinite(inputs).all():
        raise ValueError("x must be finite; perturbation inputs cannot be missing")
    now("comparing with ridge")
    fold = conditions(inputs.astype(np.float32)).astype(np.int64)
    n = int(fold.max()) + 1
    taken: dict[str, float] = {}
    if n > MOST_CONDITIONS:
        chosen = np.random.default_rng(0).choice(n, MOST_CONDITIONS, replace=False)
        rows = np.isin(fold, chosen)
        inputs, readouts = inputs[rows], readouts[rows]
        fold = np.unique(fold[rows], return_inverse=True)[1].astype(np.int64)
        taken["of"], n = float(n), MOST_CONDITIONS
    some = _affordable(readouts, inputs.shape[1])
    if len(some) < readouts.shape[1]:
        readouts = readouts[:, some]
        taken["readouts"] = float(len(some))
    if n < 2:
        return {"ridge": np.nan, "group mean": np.nan, "mean": np.nan, "folds": float(n)}
    sums = _Sums(inputs, readouts, fold, n)
    predicted = {"ridge": left_out_ridge(inputs, readouts, fold), "group mean": sums.group_mean(), "mean": sums.mean()}
    r = {name: pooled_correlation(readouts, values[fold]) for name, values in predicted.items()}
    return r | {"folds": float(n)} | taken


def left_out_ridge(x: FloatArray, y: FloatArray, fold: IntArray, alphas: npt.ArrayLike = ALPHAS) -> FloatArray:
    r"""Predictions of ridge regression for each condition, fitted without it, from one decomposition.

    All samples of a condition have the same inputs, so that the block of the hat matrix between them holds one number

    .. math:: h = 1/M + \sum_k (x V)_k^2 / (s_k^2 + \alpha)

    for centred inputs with right singular vectors V and singular values s. Without the n samples of the condition the
    prediction is :math:`\hat y - h \sum_i (y_i - \hat y) / (1 - n h)`, which is exact, also for the intercept. The
    penalty of each readout and condition is the one with the smallest squared errors on the other conditions, each
    predicted without itself; of equal ones the largest.

    Args:
        x: (M, I).
        y: (M, O), NaN is missing.
        fold: (M,) the condition of each sample, from 0 to G - 1; samples of one have the same row of x.
        alphas: Penalties, above 0.

    Returns:
        (G, O); NaN where no other condition was observed.
    """
    n = int(fold.max()) + 1
    grid = np.sort(np.asarray(alphas, dtype=np.float64))[::-1]
    predicted = np.full((n, y.shape[1]), np.nan)
    patterns, member = np.unique(~np.isnan(y), axis=1, return_inverse=True)
    for index, seen in enumerate(patterns.T):
        columns = np.flatnonzero(member.ravel() == index)
        if seen.any():
            predicted[:, columns] = _complete(x, x[seen], y[np.ix_(seen, columns)], fold, fold[seen], n, grid)
    return predicted


def _complete(
    every: FloatArray, x: FloatArray, y: FloatArray, fold: IntArray, own: IntArray, n: int, grid: FloatArray
) -> FloatArray:
    """:func:`left_out_ridge` of readouts that were observed in the same samples ``x``, for all conditions.

    ``every`` and ``fold`` are the inputs and conditions of all samples, ``own`` those of ``x``.
    """
    mean_x, mean_y, m = x.mean(0), y.mean(0), len(x)
    centred, target = x - mean_x, y - mean_y
    first = np.unique(fold, return_index=True)[1]
    if x.shape[1] <= m:
        square, turn = np.linalg.eigh(centred.T @ centred)
    else:
        square, left = np.linalg.eigh(centred @ centred.T)
        turn = centred.T @ left / np.sqrt(np.maximum(square, 1e-300))
    kept = square > square.max(initial=0.0) * max(x.shape) * np.finfo(np.float64).eps
    square, turn = square[kept], turn[:, kept]
    scores = (every[first] - mean_x) @ turn  # (G, K)
    shrink = 1 / (square[:, None] + grid)  # (K, A)
    lever = 1 / m + scores**2 @ shrink  # (G, A)
    member = sparse.csr_array((np.ones(m), (own, np.arange(m))), shape=(n, m))
    count: FloatArray = np.asarray(member.sum(axis=1)).ravel()
    rest = np.maximum(1 - count[:, None] * lever, 1e-12)
    total, squares = member @ target, member @ target**2  # (G, O)
    cross = turn.T @ (centred.T @ target)  # (K, O)
    predicted = np.empty((n, y.shape[1]))
    size = max(1, _BLOCK // (len(grid) * n))
    for start in range(0, y.shape[1], size):
        block = slice(start, start + size)
        fitted = np.einsum("gk,ka,ko->gao", scores, shrink, cross[:, block], optimize=True)
        left_out = fitted - (lever / rest)[:, :, None] * (total[:, None, block] - count[:, None, None] * fitted)
        errors = squares[:, None, block] - 2 * left_out * total[:, None, block] + count[:, None, None] * left_out**2
        others = errors.sum(0)[None] - errors
        best = others.argmin(1)
        predicted[:, block] = np.take_along_axis(left_out, best[:, None], axis=1)[:, 0]
    predicted += mean_y
    predicted[count == m] = np.nan
    return predicted


class _Sums:
    """Sums over the samples of each condition, from which the means without one condition follow.

    Attributes:
        treated: (G, I) whether a treatment was given.
        size: (G,) samples of the conditions.
        count: (G, O) observed values.
        total: (G, O) their sums.
    """

    def __init__(self, x: FloatArray, y: FloatArray, fold: IntArray, n: int) -> None:
        member: Any = sparse.csr_array((np.ones(len(x)), (fold, np.arange(len(x)))), shape=(n, len(x)))
        seen = ~np.isnan(y)
        self.treated = x[np.unique(fold, return_index=True)[1]] != 0
        self.size = np.bincount(fold).astype(float)
        self.count: FloatArray = member @ seen
        self.total: FloatArray = member @ np.where(seen, y, 0.0)

    def mean(self) -> FloatArray:
        """The mean of all other conditions, (G, O)."""
        return _ratio(self.total.sum(0) - self.total, self.count.sum(0) - self.count)

    def group_mean(self) -> FloatArray:
        """What :class:`gsnn.training.baselines.GroupMeanBaseline` of all other conditions predicts, (G, O)."""
        samples = self.size.sum() - self.size
        treated = (self.size @ self.treated)[None] - self.size[:, None] * self.treated
        smaller = np.minimum(treated, samples[:, None] - treated)
        means = self.mean()
        if not smaller.size:
            return means
        treatment = np.where(smaller.max(1) > 0, smaller.argmax(1), -1)
        for chosen in np.unique(treatment[treatment >= 0]).tolist():
            side = self.treated[:, chosen]
            total, count = np.empty_like(self.total), np.empty_like(self.count)
            for value in (False, True):
                same = side == value
                total[same], count[same] = self.total[same].sum(0), self.count[same].sum(0)
            own = _ratio(total - self.total, count - self.count)
            rows = treatment == chosen
            means[rows] = np.where(np.isnan(own[rows]), means[rows], own[rows])
        return means


def _ratio(total: FloatArray, count: FloatArray) -> FloatArray:
    return np.where(count > 0.5, total / np.maximum(count, 1.0), np.nan)


def _affordable(y: FloatArray, n_inputs: int) -> IntArray:
    """Readouts whose decompositions together are not too much work; all, unless they miss many different samples."""
    patterns, member = np.unique(~np.isnan(y), axis=1, return_inverse=True)
    rows = patterns.sum(axis=0).astype(np.float64)
    work = rows * n_inputs * np.minimum(rows, n_inputs)
    if work.sum() <= _MOST_WORK:
        return np.arange(y.shape[1])
    order = np.random.default_rng(0).permutation(len(work))
    within = order[: max(1, int((np.cumsum(work[order]) <= _MOST_WORK).sum()))]
    return np.flatnonzero(np.isin(member.ravel(), within))
