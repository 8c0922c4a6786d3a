"""The precision to expect of a list of candidates, from the ranks of edges that were hidden."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from gsnn.base.arrays import BoolArray, FloatArray

# The density of the first ranks is measured up to this many hidden edges found.
_HEAD = 5
# An expected precision with a wider interval is not given.
WIDEST = 0.5
# Tables up to this long get exact quantiles.
_EXACT = 512


def found_share(ranks: npt.ArrayLike, weights: npt.ArrayLike, at: npt.ArrayLike) -> FloatArray:
    """Share of the hidden edges that are among the k best, estimated without a bias at the head.

    Let r be the rank by which 5 hidden edges are found. For k of at least r the estimate is the share found, which is
    right on average. At smaller k that share is nearly always 0, so the density of the first r ranks is taken: by
    inverse sampling (Haldane, 1945) it is (5 - 1) / (r - 1) edges a rank, right on average as far as these ranks are
    alike. Both together are the unbiased estimate of a sequence of trials that goes on until there are k trials and 5
    successes (Girshick, Mosteller and Savage, 1946). A curve forced to be concave (Grenander, 1956) is too high at the
    head however many edges there are: its slope at the origin is that of the steepest chord (Woodroofe and Sun, 1993).

    Args:
        ranks: (m,) ranks, from 1.
        weights: (m,) weights, 1 for an edge that was hidden once; an edge that was hidden n times counts 1 / n each.
        at: (K,) numbers of places k, at least 1.

    Returns:
        (K,), from 0 to 1; NaN without ranks.

    Example:
        >>> found_share([2, 4, 5, 7, 9, 30], [1] * 6, [1, 8, 9, 30]).round(3).tolist()
        [0.083, 0.667, 0.833, 1.0]
    """
    places = np.asarray(at, dtype=np.float64)
    rank, total = _found_by(ranks, weights)
    if not len(rank):
        return np.full(places.shape, np.nan)
    found: FloatArray = total[np.searchsorted(rank, places, side="right")] / total[-1]
    enough = min(_HEAD, total[-1])
    # Sums of thirds may fall short of a whole number.
    head = rank[min(int(np.searchsorted(total, enough - 1e-9)), len(rank)) - 1]
    if enough > 1 and head > 1:
        # Everything found up to this rank, ties included.
        n = total[np.searchsorted(rank, head, side="right")]
        found = np.where(places < head, np.minimum(1.0, places * (n - 1) / (head - 1) / total[-1]), found)
    return found


def _found_by(ranks: npt.ArrayLike, weights: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Ranks in order (m,), and how many edges the first 0 to m of them stand for (m + 1,)."""
    rank, weight = np.asarray(ranks, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    order = np.argsort(rank, kind="stable")
    return rank[order], np.concatenate([[0.0], np.cumsum(weight[order])])


def false_shares(
    ranks: npt.ArrayLike, weights: npt.ArrayLike, missing: float, at: npt.ArrayLike, n_candidates: int
) -> FloatArray:
    r"""The smallest share of false edges that a list can be said to have which holds the candidate of each place.

    If H edges are missing, as hard to find as those that were hidden, then of the k best candidates about H T(k) are
    edges, T(k) being the share of the hidden edges that rank so high. So a list of k has a false discovery rate of

    .. math:: 1 - \frac{H}{k} \frac{\max(F(k) - 1, 0)}{m}

    where F(k) of m hidden edges are found. The 1 is subtracted because the end of the list is chosen where it looks
    best, and one edge found by luck must not carry it. A candidate may stand in any list that ends at its place or
    later, so its share is the least over these lists; a list with a stated rate holds the candidates whose share is at
    most that rate.

    Args:
        ranks: (m,) ranks of hidden edges, each alone among the candidates that were never known.
        weights: (m,), 1 for an edge that was hidden once; 1 / n for each time of one that was hidden n times.
        missing: H.
        at: (K,) places, at least 1.
        n_candidates: Lists end there at the latest.

    Returns:
        (K,), from 0 to 1, rising with the place; NaN without ranks.

    Example:
        >>> false_shares([1, 2, 3, 4, 90], [1] * 5, 5.0, [1, 4, 5, 90], 100).round(2).tolist()
        [0.25, 0.25, 0.4, 0.96]
    """
    places = np.asarray(at, dtype=np.float64)
    rank, total = _found_by(ranks, weights)
    if not len(rank) or not np.isfinite(missing):
        return np.full(places.shape, np.nan)

    def share(k: FloatArray) -> FloatArray:
        found = total[np.searchsorted(rank, k, side="right")]
        false: FloatArray = 1 - missing / k * np.maximum(found - 1, 0.0) / total[-1]
        return np.clip(false, 0.0, 1.0)

    # Between two hidden edges the share rises with the place, so that the best ends are places of hidden edges.
    ends = rank[rank <= n_candidates]
    later = np.minimum.accumulate(share(ends)[::-1])[::-1] if len(ends) else np.zeros(0)
    best = np.append(later, 1.0)[np.searchsorted(ends, places, side="left")]
    return np.minimum(share(places), best)


def estimable(low: npt.ArrayLike, high: npt.ArrayLike, widest: float = WIDEST) -> BoolArray:
    """Whether an interval is narrow enough for an expected precision to be stated.

    Args:
        low: (K,) lower ends.
        high: (K,) upper ends.
        widest: The largest width that is narrow enough.

    Returns:
        (K,); False where the interval is undefined.

    Example:
        >>> estimable([0.0, 0.25], [1.0, 0.5]).tolist()
        [False, True]
    """
    # A width of exactly a half, as two of four places give, must not depend on rounding.
    return np.subtract(high, low, dtype=np.float64) <= widest + 1e-9


def precision_interval(
    recall: npt.ArrayLike, n_hidden: float, missing: float, k: npt.ArrayLike, level: float = 0.95
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Expected precision among the k best candidates, and an interval for the precision that will be found.

    The expectation is right on average, at the head too; but where the interval is wide (see
    :meth:`gsnn.discovery.SelfCheck.precision`) a single self-check says nothing. It is cut at 1, so it is rather too
    low at the first ranks of a good ranking.

    If H edges are missing and each is among the k best with probability T, the k best hold H T of them. But T is known
    from edges that were ranked in addition to the H. When such an edge is taken out of the k best, the next candidate
    takes its place, and that is an edge with a probability of about the precision p = H T / k. So T (H + p) / k is
    expected.

    For the interval, T has the posterior Beta(1/2 + m T^, 1/2 + m (1 - T^)) after m hidden edges of which a share T^
    was found (Jeffreys), so the number found among H is beta-binomial; it cannot exceed k. The interval of that number
    covers both the doubt about T and the luck of the H edges.

    Args:
        recall: (K,), T^ by k.
        n_hidden: m, how many distinct edges were hidden and could be found.
        missing: H, how many such edges are assumed to be missing; rounded for the interval.
        k: (K,) numbers of places.
        level: Coverage.

    Returns:
        Expected precision, low, high: (K,) each, NaN where ``recall`` is.

    Example:
        >>> expected, low, high = precision_interval([0.8], 40, 50.0, [50])
        >>> expected.round(2).tolist(), low.round(2).tolist(), high.round(2).tolist()
        ([0.81], [0.62], [0.94])
    """
    share, places = np.asarray(recall, dtype=np.float64), np.asarray(k, dtype=np.float64)
    a, b = 0.5 + n_hidden * share, 0.5 + n_hidden * (1 - share)
    count = max(round(missing), 1) if missing > 0 else 0
    tail = (1 - level) / 2
    defined = np.isfinite(share)
    expected, low, high = (np.full(share.shape, np.nan) for _ in range(3))
    plain = np.minimum(1.0, missing * share[defined] / places[defined])
    expected[defined] = np.minimum(1.0, share[defined] * (missing + plain) / places[defined])
    if count:
        for bound, q, side in ((low, tail, "left"), (high, 1 - tail, "right")):
            number = _quantile(q, count, a[defined], b[defined], side)
            bound[defined] = np.minimum(1.0, number / places[defined])
    else:
        low[defined] = high[defined] = 0.0
    low, high = np.minimum(low, expected), np.maximum(high, expected)
    return expected, low, high


def _quantile(q: float, count: int, a: FloatArray, b: FloatArray, side: str) -> FloatArray:
    """Quantiles of the beta-binomial for many a with a + b constant.

    The quantile rises with a, so in a long table that of the next grid point on the safe ``side`` bounds it, at a
    hundredth of the time.
    """
    if len(a) <= _EXACT:
        return np.asarray(stats.betabinom(count, a, b).ppf(q), dtype=np.float64)
    total = float(a[0] + b[0])
    # Denser towards the ends, where the quantile moves most for a small step.
    grid = 0.5 + (total - 1) * (1 - np.cos(np.linspace(0, np.pi, _EXACT))) / 2
    quantiles = np.asarray(stats.betabinom(count, grid, total - grid).ppf(q), dtype=np.float64)
    place = np.searchsorted(grid, a, side="right") - 1 if side == "left" else np.searchsorted(grid, a, side="left")
    return quantiles[np.clip(place, 0, _EXACT - 1)]
