"""Correlation, partial correlation and their aggregation over adjacent pairs, from centred sums of products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.base.errors import check_option

AGGREGATIONS = ("mean", "max", "mean0")
# A column is constant when its spread is at most this many roundings of its own mean, whatever the scale of the loss.
_CONSTANT_ROUNDINGS = 32
# Least share of a variance that a regression on the parents must leave, in roundings of the products' dtype.
_RESIDUAL_ROUNDINGS = 16
# A block of whitened parents stays in cache.
_BLOCK_BYTES = 4 * 2**20


def constant_columns(mean: FloatArray, ss: FloatArray, n: int, eps: float) -> BoolArray:
    """Which variables do not vary beyond the rounding of the dtype they were computed in.

    Args:
        mean: (..., N) means.
        ss: (..., N) sums of squared deviations, over ``n`` samples.
        n: Number of samples.
        eps: Rounding of that dtype.

    Returns:
        (..., N) bool.

    Example:
        >>> constant_columns(np.full(2, 1e-9), np.array([0.0, 1e-20]), 10, np.finfo(np.float32).eps)
        array([ True, False])
    """
    constant: BoolArray = np.sqrt(ss / max(n, 1)) <= _CONSTANT_ROUNDINGS * eps * np.abs(mean)
    return constant


def inverse_norms(ss: FloatArray, constant: BoolArray) -> FloatArray:
    """1 / sqrt(ss), NaN for constant variables."""
    return 1.0 / np.sqrt(np.where(constant, np.nan, ss))


def correlation(cross: FloatArray, inverse_x: FloatArray, inverse_y: FloatArray) -> FloatArray:
    """Pearson correlations from centred sums of products.

    Args:
        cross: (..., R, N) sums of products of deviations.
        inverse_x: (..., R) inverse norms of the rows, NaN where constant.
        inverse_y: (..., N) inverse norms of the columns.

    Returns:
        (..., R, N) correlations within [-1, 1], NaN where a variable is constant.

    Example:
        >>> x = np.array([[-1.0, 0.0, 1.0]])
        >>> y = np.array([[1.0, -2.0, 1.0], [-1.0, 0.0, 1.0]])
        >>> correlation(x @ y.T, 1 / np.linalg.norm(x, axis=1), 1 / np.linalg.norm(y, axis=1)).round(3)
        array([[0., 1.]])
    """
    r = cross * inverse_x[..., :, None]
    r *= inverse_y[..., None, :]
    return np.clip(r, -1.0, 1.0, out=r)


def layer_correlation(layers: FloatArray, constant: BoolArray) -> FloatArray:
    """Correlation of each variable with itself across the pairs.

    Args:
        layers: (N, P, P) sums of products of deviations.
        constant: (P, N) bool.

    Returns:
        (N, P, P); 0, not NaN, where a variable is constant, so that it adds nothing to a variance.
    """
    squares = np.einsum("npp->np", layers)
    scale = 1.0 / np.sqrt(np.where(constant.T | (squares <= 0), np.inf, squares))
    rho = np.clip(layers * scale[:, :, None] * scale[:, None, :], -1.0, 1.0)
    np.einsum("npp->np", rho)[...] = ~constant.T
    return rho


def layer_thirds(thirds: FloatArray, squares: FloatArray, constant: BoolArray) -> FloatArray:
    """Sums of products of three unit-norm deviations of each variable across the pairs.

    Args:
        thirds: (N, P (P + 1) / 2, P) sums of products of three deviations, the first two at p <= q.
        squares: (P, N) sums of squared deviations.
        constant: (P, N) bool.

    Returns:
        (N, P (P + 1) / 2, P); 0 where a variable is constant.
    """
    first, second = np.triu_indices(len(squares))
    scale = 1.0 / np.sqrt(np.where(constant | (squares <= 0), np.inf, squares)).T
    return thirds * (scale[:, first] * scale[:, second])[:, :, None] * scale[:, None, :]


def partial_correlation(
    cross: FloatArray,
    within: FloatArray,
    ss_x: FloatArray,
    ss_y: FloatArray,
    n: int,
    parents: Sequence[IntArray],
    condition_on: IntArray,
    *,
    ridge: float,
    constant_x: BoolArray,
    constant_y: BoolArray,
    eps: float,
    first: int = 0,
) -> FloatArray:
    r"""Correlation of x_i with y_j once x_S, S the parents of j, is regressed out of both.

    By the Schur complement of the joint population covariance of (x_S, x_i, y_j):

    .. math:: \Sigma_{ab \cdot S} = \Sigma_{ab} - \Sigma_{aS} (\Sigma_{SS} + \text{ridge}\, I)^{-1} \Sigma_{Sb}

    Targets with equally many parents are solved together; a target without parents gets the plain correlation.

    Args:
        cross: (N, N) centred sums of products x_i y_j.
        within: (U, N) centred sums of products x_u x_i for u in ``condition_on``.
        ss_x: (N,) sums of squared deviations of x.
        ss_y: (N,) the same of y.
        n: Number of samples.
        parents: For each target j the ``(|S_j|,)`` indices of its parents, all of them in ``condition_on``.
        condition_on: (U,) nodes, the rows of ``within``.
        ridge: Added to the diagonal of Sigma_SS.
        constant_x: (N,) bool, which x are constant.
        constant_y: (N,) bool, which y are constant.
        eps: Rounding of the dtype of the products; bounds the residual variance that is rounding alone.
        first: Index of the first target, if ``cross``, ``ss_y``, ``parents`` and ``constant_y`` are of some only.

    Returns:
        (N, N); NaN where x_i or y_j is constant or explained by the parents, for i in S_j and for i = j.
    """
    n_nodes = len(ss_x)
    result = correlation(cross, inverse_norms(ss_x, constant_x), inverse_norms(ss_y, constant_y))
    row_of = np.zeros(n_nodes, dtype=np.int64)
    row_of[condition_on] = np.arange(len(condition_on))
    sizes = np.array([len(s) for s in parents])
    for size in np.unique(sizes[sizes > 0]).tolist():
        targets = np.flatnonzero(sizes == size)
        step = max(1, _BLOCK_BYTES // (8 * size * n_nodes))
        for start in range(0, len(targets), step):
            j = targets[start : start + step]
            s = np.stack([parents[k] for k in j])
            columns = _schur(cross, within, ss_x, ss_y, n, s, row_of[s], j, ridge, eps)
            columns[:, constant_x] = np.nan
            columns[constant_y[j]] = np.nan
            np.put_along_axis(columns, s, np.nan, axis=1)
            result[:, j] = columns.T
    itself = np.arange(len(ss_y))
    result[itself + first, itself] = np.nan
    return result


def _schur(
    cross: FloatArray,
    within: FloatArray,
    ss_x: FloatArray,
    ss_y: FloatArray,
    n: int,
    s: IntArray,
    rows: IntArray,
    j: IntArray,
    ridge: float,
    eps: float,
) -> FloatArray:
    """(T, N) partial correlations of T targets with |S| parents each: s and rows (T, |S|), j (T,)."""
    sigma_ss = within[rows[:, :, None], s[:, None, :]] / n
    # The product is symmetric only up to the rounding of the model's dtype.
    sigma_ss = (sigma_ss + sigma_ss.transpose(0, 2, 1)) / 2 + ridge * np.eye(s.shape[1])
    whiten = _whiten(sigma_ss) / n
    x = whiten @ within[rows]
    y = whiten @ cross[s, j[:, None]][:, :, None]
    covariance = cross[:, j].T / n - (y.transpose(0, 2, 1) @ x)[:, 0]
    var_x, var_y = ss_x / n, (ss_y[j] / n)[:, None]
    rest_x = var_x - np.einsum("tsn,tsn->tn", x, x)
    rest_y = var_y - np.square(y).sum(1)
    undefined = (rest_x <= _RESIDUAL_ROUNDINGS * eps * var_x) | (rest_y <= _RESIDUAL_ROUNDINGS * eps * var_y)
    # Two roots, since the product underflows with a small loss.
    scale = np.sqrt(np.where(undefined, np.nan, rest_x)) * np.sqrt(np.maximum(rest_y, 0))
    return np.clip(covariance / scale, -1.0, 1.0)


def _whiten(sigma: FloatArray) -> FloatArray:
    """W with W' W the inverse of each matrix (T, |S|, |S|), or the pseudo-inverse of a singular one."""
    try:
        inverse: FloatArray = np.linalg.inv(np.linalg.cholesky(sigma))
    except np.linalg.LinAlgError:
        # Parents that are collinear or constant span fewer directions than their number.
        values, vectors = np.linalg.eigh(sigma)
        floor = np.finfo(np.float64).eps * sigma.shape[-1] * np.maximum(values[:, -1:], 0)
        scale = 1.0 / np.sqrt(np.where(values > floor, values, np.inf))
        inverse = scale[:, :, None] * vectors.transpose(0, 2, 1)
    return inverse


def residual_directions(samples: FloatArray, regressors: IntArray, ridge: float, defined: BoolArray) -> FloatArray:
    """Unit-norm deviations of each variable once some are regressed out, sample by sample.

    Args:
        samples: (P, N, m) deviations from the mean.
        regressors: (k,) the variables regressed out, at each of the P blocks those of the same block.
        ridge: Added to the diagonal of their covariance.
        defined: (P, N) bool; the others become 0.

    Returns:
        (P, N, m).

    Example:
        >>> x = np.array([[[1.0, -1.0, 1.0, -1.0], [2.0, 0.0, 0.0, -2.0]]])
        >>> residual_directions(x, np.array([0]), 0.0, np.array([[False, True]]))[0, 1]
        array([ 0.5,  0.5, -0.5, -0.5])
    """
    m = samples.shape[-1]
    chosen = samples[:, regressors]
    basis = _whiten(chosen @ chosen.transpose(0, 2, 1) / m + ridge * np.eye(len(regressors))) @ chosen / np.sqrt(m)
    residual = samples - (samples @ basis.transpose(0, 2, 1)) @ basis
    norm = np.sqrt(np.einsum("pnb,pnb->pn", residual, residual))
    residual *= np.where(defined & (norm > 0), 1.0 / np.where(norm > 0, norm, 1.0), 0.0)[:, :, None]
    return residual


def at_largest(r: FloatArray, values: FloatArray) -> FloatArray:
    """``values`` (P, ...) at the pair that ``aggregate(r, 'max')`` takes of the correlations r (P, ...): (...)."""
    best = np.argmax(np.where(np.isnan(r), -1.0, np.abs(r)), axis=0)[None]
    chosen: FloatArray = np.take_along_axis(values, best, axis=0)[0]
    return chosen


def aggregate(r: FloatArray, how: str) -> FloatArray:
    """One score from the correlations of P adjacent pairs.

    ``'mean'`` averages the defined pairs, ``'mean0'`` counts an undefined pair as 0, ``'max'`` takes the signed
    value of the largest absolute correlation, the first of equals.

    Args:
        r: (P, ...) correlations, NaN where undefined.
        how: One of ``AGGREGATIONS``.

    Returns:
        (...) scores; NaN where no pair is defined, except 0 for ``'mean0'``.

    Raises:
        ValueError: If ``how`` is unknown; the options are listed.

    Example:
        >>> r = np.array([0.2, np.nan, -0.6])
        >>> [round(float(aggregate(r, how)), 3) for how in AGGREGATIONS]
        [-0.2, -0.6, -0.133]
    """
    if how == "max":
        best = r[0].copy()
        for values in r[1:]:
            better = (np.abs(values) > np.abs(best)) | (np.isnan(best) & ~np.isnan(values))
            best = np.where(better, values, best)
        return best
    check_option("layer_agg", how, AGGREGATIONS)
    # Pair by pair, several times faster than nanmean over a strided axis.
    total, defined = np.zeros(r.shape[1:]), np.zeros(r.shape[1:])
    for values in r:
        known = values == values
        total += np.where(known, values, 0.0)
        defined += known
    if how == "mean0":
        return total / len(r)
    with np.errstate(invalid="ignore"):
        mean: FloatArray = total / defined
    return mean
