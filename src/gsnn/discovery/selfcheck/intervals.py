"""The arithmetic of a self-check: weighted metrics, an interval for an AUC, and one for a precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.metrics.scores import as_scores

# Degrees are compared exactly while they are small and in classes of about a third of their size after that.
_DEGREE_STEPS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024])
# The density of the first ranks is measured up to this many hidden edges found.
_HEAD = 5
# An expected precision with a wider interval is not given.
WIDEST = 0.5
# Probability with which a control shows an effect of the size that is named.
POWER = 0.8
# Tables up to this long get exact quantiles.
_EXACT = 512


@dataclass(frozen=True)
class Placements:
    """Where some positives stand among weighted negatives.

    Attributes:
        share_below: For each positive the weight of the negatives it beats, ties counting half: (P,), in [0, 1]. Their
            mean is the AUC.
        negative_variance: Part of the variance of the AUC that comes from the negatives, pairs of one node together.
    """

    share_below: FloatArray
    negative_variance: float

    @property
    def auc(self) -> float:
        """Area under the ROC curve; NaN without positives or negatives."""
        return float(self.share_below.mean()) if len(self.share_below) else float("nan")


def place(
    scores: FloatArray, positives: IntArray, negatives: npt.NDArray[np.bool_], weights: FloatArray | None = None
) -> Placements:
    """Compare each positive with all negatives.

    Args:
        scores: (N, N); NaN ranks below every number.
        positives: (2, P), from, to.
        negatives: (N, N), True for the negatives.
        weights: (N, N) weights of the negatives, at least 0; None weighs all alike.

    Example:
        >>> scores = np.array([[0.0, 0.9, 0.1], [0.2, 0.0, 0.3], [0.8, 0.5, 0.0]])
        >>> negatives = ~np.eye(3, dtype=bool)
        >>> negatives[0, 1] = negatives[1, 2] = False
        >>> place(scores, np.array([[0, 1], [1, 2]]), negatives).auc
        0.75
    """
    values = as_scores(scores)
    own = values[positives[0], positives[1]]
    source, target = np.nonzero(negatives)
    others = values[source, target]
    weight = np.ones(len(others)) if weights is None else np.asarray(weights, dtype=np.float64)[source, target]
    if not len(others) or not len(own) or weight.sum() <= 0:
        return Placements(np.full(len(own), np.nan), float("nan"))
    weight = weight / weight.sum()
    share = beaten_share(own, others, None if weights is None else weight)
    mine = np.sort(own)
    beaten = 1 - (np.searchsorted(mine, others, "left") + np.searchsorted(mine, others, "right")) / 2 / len(mine)
    effect = weight * (beaten - share.mean())
    return Placements(share, dyadic_variance(np.stack([source, target]), effect, len(values)))


def beaten_share(own: FloatArray, others: FloatArray, weight: FloatArray | None = None) -> FloatArray:
    """The weight of the others that each score beats, ties counting half, as a share: (P,).

    Args:
        own: (P,) scores.
        others: (n,) scores to compare with, at least one.
        weight: (n,), at least 0; None weighs all alike.
    """
    if weight is None:
        ranked, total = np.sort(others), np.arange(len(others) + 1.0)
    else:
        order = np.argsort(others, kind="stable")
        ranked, total = others[order], np.concatenate([[0.0], np.cumsum(weight[order])])
    total /= total[-1]
    below, upto = (total[np.searchsorted(ranked, own, side=side)] for side in ("left", "right"))
    return np.asarray((below + upto) / 2)


def dyadic_variance(pairs: IntArray, effects: FloatArray, n_nodes: int) -> float:
    """Variance of the sum of effects of pairs, where pairs that share a node depend on each other.

    The sum over all ordered couples of pairs with a node in common (each with itself too) of the products of their
    effects (Aronow, Samii and Assenova, 2015), but at least what independent pairs would give.

    Args:
        pairs: (2, n), each pair once.
        effects: (n,), centred.
        n_nodes: N.
    """
    by_node = np.bincount(pairs.ravel(), weights=np.tile(effects, 2), minlength=n_nodes)
    low, high = pairs.min(axis=0), pairs.max(axis=0)
    # Both directions of a couple of nodes share two nodes, and were counted once for each.
    couple = low * n_nodes + high
    if n_nodes**2 > 8 * len(effects):  # few pairs of many nodes: number those that are there
        couple = np.unique(couple, return_inverse=True)[1]
    by_couple = np.bincount(couple, weights=effects)
    shared = float((by_node**2).sum() - (by_couple**2).sum())
    return max(shared, float((effects**2).sum()))


def auc_interval(
    edges: Sequence[tuple[str, str]], share_below: FloatArray, negative_variance: float, level: float = 0.95
) -> tuple[float, float, float]:
    """An AUC pooled over repeats, with its interval.

    The AUC is the mean placement. Its variance is the one of the mean over distinct positives, where those that share
    a node depend on each other, plus the part of the negatives; the interval uses Student's t with one degree of
    freedom less than there are distinct positives.

    Args:
        edges: The positive of each placement; one that was hidden in several repeats comes several times.
        share_below: (n,) placements.
        negative_variance: Part of the negatives.
        level: Coverage of the interval.

    Returns:
        AUC, low, high; the bounds are NaN with fewer than 3 distinct positives.
    """
    auc, error, df = _auc_error(edges, share_below, negative_variance)
    half = float(stats.t.ppf((1 + level) / 2, df) * error) if df > 1 else float("nan")
    return (auc, max(0.0, auc - half), min(1.0, auc + half)) if np.isfinite(half) else (auc, half, half)


def auc_difference(
    edges: Sequence[tuple[str, str]],
    share_below: FloatArray,
    other_below: FloatArray,
    negative_variance: float,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """An AUC less another one of the same hidden edges, with its interval.

    Paired over the positives, as :func:`auc_interval` takes them. The negatives are the same too, but what they have in
    common is not known here: their parts are added up, which makes the interval rather too wide.

    Args:
        edges: The positive of each placement.
        share_below: (n,) placements by the one score.
        other_below: (n,) placements by the other.
        negative_variance: Parts of the negatives of both, added up.
        level: Coverage of the interval.

    Returns:
        Difference, low, high; the bounds are NaN with fewer than 3 distinct positives.

    Example:
        >>> edges = [("a", "b"), ("c", "d"), ("e", "f")]
        >>> auc_difference(edges, np.array([0.9, 0.8, 0.7]), np.array([0.5, 0.5, 0.5]), 0.0)[0].__round__(9)
        0.3
    """
    less = np.asarray(share_below, dtype=np.float64) - np.asarray(other_below, dtype=np.float64)
    difference, error, df = _auc_error(edges, less, negative_variance)
    half = float(stats.t.ppf((1 + level) / 2, df) * error) if df > 1 else float("nan")
    return difference, difference - half, difference + half


def least_visible(
    edges: Sequence[tuple[str, str]], share_below: FloatArray, negative_variance: float, level: float = 0.95
) -> float:
    """The smallest AUC above 0.5 that these positives would show, as :func:`auc_interval` judges it.

    An AUC so large keeps 0.5 out of the interval in 80 % of cases, if its error is that of the one found. A control
    that shows nothing says only that there is nothing larger.

    Args:
        edges: As for :func:`auc_interval`.
        share_below: As there.
        negative_variance: As there.
        level: Coverage of the interval.

    Returns:
        Above 0.5, 1 at most; NaN with fewer than 3 distinct positives.
    """
    _, error, df = _auc_error(edges, share_below, negative_variance)
    if df < 2:
        return float("nan")
    return min(1.0, 0.5 + float(stats.t.ppf((1 + level) / 2, df) + stats.t.ppf(POWER, df)) * error)


def _auc_error(
    edges: Sequence[tuple[str, str]], share_below: FloatArray, negative_variance: float
) -> tuple[float, float, int]:
    """An AUC, its standard error and degrees of freedom; NaN and 0 where it has none."""
    defined = np.isfinite(share_below)
    edges = [edge for edge, ok in zip(edges, defined.tolist(), strict=True) if ok]
    values = np.asarray(share_below, dtype=np.float64)[defined]
    if not len(values):
        return float("nan"), float("nan"), 0
    auc = float(values.mean())
    distinct = list(dict.fromkeys(edges))
    if len(distinct) < 3:
        return auc, float("nan"), 0
    of_edge = {edge: i for i, edge in enumerate(distinct)}
    effect = np.bincount([of_edge[edge] for edge in edges], weights=values - auc) / len(values)
    nodes = {name: i for i, name in enumerate(dict.fromkeys(end for edge in distinct for end in edge))}
    pairs = np.array([[nodes[s], nodes[t]] for s, t in distinct], dtype=np.int64).T
    variance = dyadic_variance(pairs, effect, len(nodes)) * len(distinct) / (len(distinct) - 1)
    return auc, float(np.sqrt(variance + np.nan_to_num(negative_variance))), len(distinct) - 1


def degree_weights(
    known: IntArray, positives: IntArray, negatives: npt.NDArray[np.bool_]
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Weights that give the negatives the degrees of the positives.

    What drawing, for each positive, negatives of the same out-degree of the source and in-degree of the target gives on
    average, without the noise of a draw. Degrees are those of the known graph, which is what a method sees.

    Args:
        known: (2, E) known edges.
        positives: (2, P).
        negatives: (S, T), True for negatives.

    Returns:
        (S, T) weights, with the sum of the number of negatives, 0 elsewhere; and which positives have a negative
        of their degrees, (P,).

    Example:
        >>> negatives = ~np.eye(3, dtype=bool)
        >>> negatives[0, 1] = False
        >>> weights, matched = degree_weights(np.array([[0], [1]]), np.array([[0], [2]]), negatives)
        >>> matched.tolist(), weights[2].tolist()
        ([True], [0.0, 0.0, 0.0])
    """
    out, into = (
        np.searchsorted(_DEGREE_STEPS, np.bincount(known[side], minlength=n), side="right")
        for side, n in enumerate(negatives.shape)
    )
    width = len(_DEGREE_STEPS) + 1
    of_pair = out[:, None] * width + into[None, :]
    n_negative = np.bincount(of_pair[negatives], minlength=width**2)
    free = negatives.copy()
    free[positives[0], positives[1]] = False
    classes = of_pair[positives[0], positives[1]]
    matched = n_negative[classes] > 0
    n_positive = np.bincount(classes[matched], minlength=width**2)
    ratio = np.divide(n_positive, n_negative, out=np.zeros(width**2), where=n_negative > 0)
    weights = np.where(free, ratio[of_pair], 0.0)
    total = weights.sum()
    return (weights * (free.sum() / total) if total > 0 else weights), matched


def weighted_average_precision(scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """Average precision where each candidate counts with a weight; tied scores form one threshold.

    Args:
        scores: (n,); NaN ranks below every number.
        labels: (n,), True for positives.
        weights: (n,), at least 0.

    Returns:
        Up to 1; NaN without positives of any weight.

    Example:
        >>> weighted_average_precision([0.9, 0.8, 0.1], [1, 0, 1], [1, 2, 1])
        0.75
    """
    values, truth, weight = as_scores(scores), np.asarray(labels, dtype=bool), np.asarray(weights, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    hits = np.cumsum((weight * truth)[order])[ends]
    all_ = np.cumsum(weight[order])[ends]
    if not len(hits) or hits[-1] <= 0:
        return float("nan")
    precision = np.divide(hits, all_, out=np.zeros_like(hits), where=all_ > 0)
    return float(np.sum(np.diff(hits, prepend=0.0) / hits[-1] * precision))


def found_share(ranks: npt.ArrayLike, weights: npt.ArrayLike, at: npt.ArrayLike) -> FloatArray:
    """Share of the hidden edges that are among the k best, estimated without a bias at the head.

    From the rank r on by which 5 hidden edges are found it is the share found, which is right on average. At smaller k
    that share is nearly always 0, so the density of the first r ranks is taken: by inverse sampling (Haldane, 1945) it
    is (5 - 1) / (r - 1) edges a rank, right on average as far as these ranks are alike. Both together are the unbiased
    estimate of a sequence of trials that goes on until there are k and 5 successes (Girshick, Mosteller and Savage,
    1946). A curve forced to be concave (Grenander, 1956) is too high at the head however many edges there are: its
    slope at the origin is that of the steepest chord (Woodroofe and Sun, 1993).

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

    with F(k) of m hidden edges found; the 1 is taken off because the end of the list is chosen where it looks best, so
    that one edge found by luck must not carry it. A candidate may stand in any list that ends there or later, hence
    the least over these: what is selected at a stated rate is all that has at most this share.

    Args:
        ranks: (m,) ranks of hidden edges, each by itself among the candidates that were never known.
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


def estimable(low: npt.ArrayLike, high: npt.ArrayLike, widest: float = WIDEST) -> npt.NDArray[np.bool_]:
    """Whether an interval says enough for an expected precision to be told: it is no wider than a half.

    Args:
        low: (K,) lower ends.
        high: (K,) upper ends.
        widest: The largest width that says enough.

    Returns:
        (K,); False where the interval is undefined.

    Example:
        >>> estimable([0.0, 0.25], [1.0, 0.5]).tolist()
        [False, True]
    """
    # A width of exactly a half, as two of four places give, is not to depend on rounding.
    width = np.asarray(high, dtype=np.float64) - np.asarray(low, dtype=np.float64)
    found: npt.NDArray[np.bool_] = width <= widest + 1e-9
    return found


def precision_interval(
    recall: npt.ArrayLike, n_hidden: float, missing: float, k: npt.ArrayLike, level: float = 0.95
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Expected precision among the k best candidates, and an interval for the precision that will be found.

    The expectation is right on average, at the head too; but where the interval is wide (see
    :meth:`gsnn.discovery.SelfCheck.precision`) a single self-check says nothing. It is cut at 1, so at the first ranks
    of a good ranking it is rather too low.

    If H edges are missing and each is among the k best with probability T, the k best hold H T of them. But T is known
    from edges that were ranked in addition to the H: taken out again, an edge among the k best makes room for the next
    candidate, which is an edge with a probability of about the precision p = H T / k. So T (H + p) / k is expected.

    For the interval, T has the posterior Beta(1/2 + m T^, 1/2 + m (1 - T^)) after m hidden edges of which a share T^
    was found (Jeffreys), so the number found among H is beta-binomial; it cannot exceed k. The interval is of that
    number: it holds both the doubt about T and the luck of the H edges.

    Args:
        recall: (K,), T^ by k.
        n_hidden: m, how many distinct edges were hidden and could be found.
        missing: H, how many such edges are taken to be missing; rounded for the interval.
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
    """Quantiles of the beta-binomial for many a with a + b constant; between grid points the safer neighbour's.

    The quantile rises with a, so for a long table a grid bounds it, at a hundredth of the time.
    """
    if len(a) <= _EXACT:
        return np.asarray(stats.betabinom(count, a, b).ppf(q), dtype=np.float64)
    total = float(a[0] + b[0])
    # Denser towards the ends, where the quantile moves most for a small step.
    grid = 0.5 + (total - 1) * (1 - np.cos(np.linspace(0, np.pi, _EXACT))) / 2
    found = np.asarray(stats.betabinom(count, grid, total - grid).ppf(q), dtype=np.float64)
    if side == "left":
        return found[np.clip(np.searchsorted(grid, a, side="right") - 1, 0, _EXACT - 1)]
    return found[np.clip(np.searchsorted(grid, a, side="left"), 0, _EXACT - 1)]
