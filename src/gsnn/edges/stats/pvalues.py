"""One-sided p-values of (aggregated) correlations and their correction for multiple testing."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import scipy.special
import scipy.stats

from gsnn.base.arrays import BoolArray, FloatArray
from gsnn.edges.stats.order import descending

# Grid of the tabulated conditional exceedance: thresholds in standard deviations, and sqrt(1 - |rho|).
_T_MAX, _T_STEPS, _S_STEPS = 12.0, 241, 129


def fisher_z(r: FloatArray, df: npt.ArrayLike) -> FloatArray:
    """Standard normal score atanh(r) * sqrt(df) of a correlation; df = n - 3 - (number conditioned on).

    Args:
        r: Correlations, NaN where undefined.
        df: Degrees of freedom, broadcast against ``r``.

    Returns:
        Scores; NaN where ``r`` is NaN or ``df`` < 2.

    Example:
        >>> fisher_z(np.array([0.0, 0.5, np.nan]), 97).round(3)
        array([0.  , 5.41,  nan])
    """
    degrees = np.asarray(df, dtype=np.float64)
    root = np.sqrt(np.where(degrees < 2, np.nan, degrees))
    with np.errstate(divide="ignore"):
        return np.arctanh(r) * root


def upper_tail(z: FloatArray) -> FloatArray:
    """P(Z > z) of a standard normal, accurate in the tail; NaN becomes 1, nothing tested.

    Example:
        >>> upper_tail(np.array([0.0, 10.0, np.nan]))
        array([5.00000000e-01, 7.61985302e-24, 1.00000000e+00])
    """
    # scipy.stats.norm.sf computes the same, with slow checks of millions of arguments.
    p = scipy.special.ndtr(-z)
    return np.where(np.isnan(p), 1.0, p)


def mean_variance(rho_x: FloatArray, rho_y: FloatArray) -> FloatArray:
    r"""Variance of the mean of the defined correlations of (i, j), in units of the variance of a single one.

    When the rows of y are permuted against those of x, the same permutation at every pair, the correlations
    r_1..r_P of (i, j) have covariance K / (n - 1) with K_mn = rho_x,i(m, n) * rho_y,j(m, n): exactly so. The mean
    over the D defined pairs then has variance 1'K1 / D^2.

    Args:
        rho_x: (R, P, P) cross-layer correlations of the sources, 0 where constant (diagonal included).
        rho_y: (N, P, P) the same of the targets.

    Returns:
        (R, N); NaN where no pair is defined.

    Example:
        >>> mean_variance(np.eye(4)[None], np.ones((1, 4, 4)))
        array([[0.25]])
    """
    total = rho_x.reshape(len(rho_x), -1) @ rho_y.reshape(len(rho_y), -1).T
    defined = np.einsum("npp->np", rho_x) @ np.einsum("npp->np", rho_y).T
    return variance_of_mean(total, defined)


def variance_of_mean(squares: FloatArray, defined: FloatArray) -> FloatArray:
    """:func:`mean_variance` from 1'K1 (...) and the number of defined pairs (...)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = squares / np.square(defined)
    # 1'K1 is a quadratic form of a positive matrix; only rounding can take it to 0 or below.
    return np.maximum(variance, 1e-12, out=variance)


def sum_skewness(third_x: FloatArray, third_y: FloatArray, rho_x: FloatArray, rho_y: FloatArray, n: int) -> FloatArray:
    r"""Skewness of the sum (or mean) of the defined correlations of (i, j) when samples are permuted.

    With unit-norm deviations u^p of the source and v^p of the target and one permutation at all pairs, the sum has

    .. math:: E S^3 = \frac{n}{(n - 1)(n - 2)} \sum_{pqs} \Big(\sum_b u^p_b u^q_b u^s_b\Big)
        \Big(\sum_b v^p_b v^q_b v^s_b\Big), \qquad E S^2 = \frac{1'K1}{n - 1},

    both exactly (for one pair of variables: Pitman 1937), with K as in :func:`mean_variance`.

    Args:
        third_x: (R, P (P + 1) / 2, P) the first inner sums, p <= q as in ``np.triu_indices``; 0 where constant.
        third_y: (N, P (P + 1) / 2, P) the second.
        rho_x: (R, P, P) as for :func:`mean_variance`.
        rho_y: (N, P, P) as for :func:`mean_variance`.
        n: Number of samples, at least 3.

    Returns:
        (R, N); 0 where nothing is defined.

    Example:
        One sample of 5 sticks out on both sides: the correlation is 1 with probability 1/5, and -1/4 otherwise.

        >>> u = np.array([4.0, -1, -1, -1, -1]) / 20**0.5
        >>> one = np.ones((1, 1, 1))
        >>> sum_skewness((u**3).sum().reshape(1, 1, 1), (u**3).sum().reshape(1, 1, 1), one, one, 5)
        array([[1.5]])
    """
    first, second = np.triu_indices(rho_x.shape[1])
    times = np.where(first == second, 1.0, 2.0)[:, None]
    cubes = (third_x * times).reshape(len(third_x), -1) @ third_y.reshape(len(third_y), -1).T
    squares = rho_x.reshape(len(rho_x), -1) @ rho_y.reshape(len(rho_y), -1).T
    return skewness_of_sum(cubes, squares, n)


def skewness_of_sum(cubes: FloatArray, squares: FloatArray, n: int) -> FloatArray:
    """:func:`sum_skewness` from the triple sum (...) and 1'K1 (...)."""
    # As in variance_of_mean, only rounding can take these to 0; there is no third moment there.
    scale = np.sqrt(np.maximum(squares, 1e-12))
    scale *= np.square(scale)
    skewness = cubes * (n * np.sqrt(n - 1) / (n - 2))
    skewness /= scale
    skewness[squares <= 1e-12] = 0.0
    return skewness


def skewed_score(z: FloatArray, skewness: FloatArray, n: int) -> FloatArray:
    r"""Standard normal score of a statistic whose null distribution is skewed, and no larger than n samples support.

    The tail is that of a gamma variable of this skewness (Pearson's type III, the usual approximation to permutation
    distributions), by the cube root of Wilson and Hilferty (1931); without skewness the score is ``z``. With negative
    skewness a gamma variable has an upper end; beyond half of it scores rise with slope 1.

    A score is capped where its p-value would be below :func:`least_p_value`.

    Args:
        z: (...) scores, NaN where undefined.
        skewness: (...) skewness under permutation.
        n: Number of samples.

    Returns:
        (...) scores, increasing in ``z``.

    Example:
        >>> skewed_score(np.array([0.0, 3.0, 3.0, 9.0]), np.array([0.0, 0.0, 0.9, 0.9]), 45).round(2)
        array([0.  , 3.  , 2.35, 4.86])
    """
    flat = np.abs(skewness) < 1e-6
    g = np.where(flat, 1.0, skewness) if flat.any() else np.asarray(skewness)
    score = _wilson_hilferty(z, g)
    below = (g < 0) & (g * z < -1.0)
    if below.any():
        bend = -1.0 / g[below]
        score[below] = _wilson_hilferty(np.minimum(z[below], bend), g[below]) + np.maximum(z[below] - bend, 0.0)
    score[flat] = z[flat]
    high = score > -scipy.special.ndtri(1.0 / n)
    if high.any():
        score[high] = np.minimum(score[high], -scipy.special.ndtri_exp(_least_log_p(skewness[high], n)))
    return score


def _wilson_hilferty(z: FloatArray, g: FloatArray) -> FloatArray:
    score = g * z
    score *= 0.5
    score += 1.0
    np.cbrt(score, out=score)
    score -= 1.0
    score *= 6.0
    score /= g
    score += g * (1.0 / 6.0)
    return score


def least_p_value(skewness: FloatArray, n: int) -> FloatArray:
    r"""The least p-value that permuting n samples can give, as far as the skewness of the statistic tells.

    If m of n samples are high and the others low, on both sides, only C(n, m) arrangements differ, and the best of
    them has the probability 1 / C(n, m). The correlation of two such variables has the skewness
    ``g^2 sqrt(n - 1) / (n - 2)`` under permutation, where ``g = (1 - 2 m/n) / sqrt(m/n (1 - m/n))`` is theirs; this
    function solves for m. More distinct values allow smaller p-values, down to 1 / n!, but second and third moments do
    not distinguish them from two values, so the larger bound is taken; without skewness, or with a negative one, it is
    that of halves, 1 / C(n, n/2).

    Args:
        skewness: (...) of the correlation, or of the mean of several, under permutation.
        n: Number of samples, at least 3.

    Returns:
        (...) p-values.

    Example:
        >>> [f"{p:.2g}" for p in least_p_value(np.array([0.0, 23 / 24**0.5]), 25)]
        ['1.9e-07', '0.04']
    """
    return np.exp(_least_log_p(skewness, n))


def _least_log_p(skewness: FloatArray, n: int) -> FloatArray:
    g2 = np.maximum(skewness, 0.0) * (n - 2) / np.sqrt(n - 1)
    share = (1.0 - np.sqrt(g2 / (4.0 + g2))) / 2.0
    m = np.maximum(share * n, 1.0)
    ln = scipy.special.gammaln
    return np.asarray(ln(m + 1.0) + ln(n - m + 1.0) - ln(n + 1.0), dtype=np.float64)


def max_upper_tail(z: FloatArray, rho_adjacent: FloatArray, defined: BoolArray) -> FloatArray:
    r"""P(T >= z) for T the signed value of the largest of P correlated standard normal scores.

    T is symmetric about 0, so ``P(T >= z) = P(max|Z_k| > z) / 2`` for z > 0, and 1 minus that of -z for z < 0. The
    probability of the maximum follows from the first-order product (Glaz and Johnson 1984)
    ``P(max <= t) = P(|Z_1| <= t) prod_k P(|Z_k| <= t given |Z_{k-1}| <= t)`` over adjacent pairs.

    Args:
        z: (...) signed scores of largest absolute value, NaN where undefined.
        rho_adjacent: (P - 1, ...) correlation of the scores of pairs k - 1 and k under the null.
        defined: (P, ...) which pairs are defined.

    Returns:
        (...) p-values; 1 where ``z`` is NaN.

    Example:
        >>> one = np.ones((2, 1), dtype=bool)
        >>> max_upper_tail(np.array([1.96]), np.array([[1.0]]), one).round(4)
        array([0.025])
        >>> max_upper_tail(np.array([1.96]), np.array([[0.0]]), one).round(4)
        array([0.0487])
    """
    t = np.abs(z)
    single = np.minimum(2.0 * scipy.special.ndtr(-t), 1.0 - 1e-16)
    log_below = np.zeros_like(t)
    seen = np.zeros(t.shape, dtype=bool)
    for k, known in enumerate(defined):
        if k == 0:
            follows = np.zeros_like(known)
            conditional = single
        else:
            follows = known & defined[k - 1]
            conditional = conditional_exceedance(t, rho_adjacent[k - 1])
        # Exceeding at k without exceeding before: a (1 - kappa) / (1 - a); a for the first, or after a gap.
        fresh = np.where(follows, single * (1.0 - conditional) / (1.0 - single), single)
        log_below += np.where(known, np.log1p(-fresh), 0.0)
        seen |= known
    half = 0.0 - 0.5 * np.expm1(log_below)  # a vanishing p is 0, not -0
    p = np.where(z > 0, half, 1.0 - half)
    return np.where(seen & ~np.isnan(z), p, 1.0)


def conditional_exceedance(t: FloatArray, rho: FloatArray) -> FloatArray:
    """``kappa(t, rho) = P(|Z2| > t given |Z1| > t)`` of two normal scores with correlation rho, from a table.

    Args:
        t: (...) thresholds >= 0; beyond 12 the value at 12 is taken.
        rho: (...) correlations; only their size matters.

    Returns:
        (...) probabilities, linear between the nodes of the table.

    Example:
        >>> conditional_exceedance(np.array([2.0]), np.array([1.0]))
        array([1.])
    """
    table = _exceedance_table()
    u = np.minimum(np.nan_to_num(t), _T_MAX) * ((_T_STEPS - 1) / _T_MAX)
    v = np.sqrt(1.0 - np.minimum(np.abs(rho), 1.0)) * (_S_STEPS - 1)
    i = np.minimum(u.astype(np.int32), _T_STEPS - 2)
    j = np.minimum(v.astype(np.int32), _S_STEPS - 2)
    u -= i
    v -= j
    flat = i * _S_STEPS + j
    low = table[flat] * (1.0 - v) + table[flat + 1] * v
    high = table[flat + _S_STEPS] * (1.0 - v) + table[flat + _S_STEPS + 1] * v
    result: FloatArray = low * (1.0 - u) + high * u
    return result


@cache
def _exceedance_table() -> FloatArray:
    """Kappa on the grid, flattened, thresholds slow, sqrt(1 - rho) fast; by quadrature over the tail's quantile."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    level = (nodes + 1) / 2
    t = np.linspace(0, _T_MAX, _T_STEPS)
    rho = 1 - np.square(np.linspace(0, 1, _S_STEPS))
    spread = np.sqrt(1 - rho**2)[:, None]
    table = np.empty((_T_STEPS, _S_STEPS))
    for row, threshold in enumerate(t):
        z = scipy.stats.norm.isf(scipy.stats.norm.sf(threshold) * level)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = scipy.special.ndtr((rho[:, None] * z - threshold) / spread)
            inside += scipy.special.ndtr(-(rho[:, None] * z + threshold) / spread)
        table[row] = inside @ (weights / 2)
    table[:, 0] = 1.0
    return np.clip(table, 0.0, 1.0).ravel()


def false_discovery(p: FloatArray, candidates: BoolArray) -> FloatArray:
    """Benjamini-Hochberg q-values over the candidates alone.

    Args:
        p: (...) p-values; NaN where there is none.
        candidates: (...) bool, the family that is tested.

    Returns:
        (...) q-values, NaN outside the candidates and where ``p`` is NaN.

    Example:
        >>> false_discovery(np.array([0.01, 0.02, 0.5]), np.array([True, True, False]))
        array([0.02, 0.02,  nan])
    """
    q = np.full(p.shape, np.nan)
    family = candidates & ~np.isnan(p)
    if family.any():
        tested = p[family]
        order = descending(-tested)
        # Scipy sorts again, which is fast for sorted values and would otherwise take most of the time.
        tested[order] = scipy.stats.false_discovery_control(tested[order])
        q[family] = tested
    return q
