"""The AUC of edges among weighted negatives, with an interval that allows for pairs that share a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.metrics.scores import as_scores

# Degrees are compared exactly while they are small and in classes of about a third of their size after that.
_DEGREE_STEPS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024])
# Probability with which a control shows an AUC of the size that is named.
_POWER = 0.8


@dataclass(frozen=True)
class Placements:
    """Where some positives stand among weighted negatives.

    Attributes:
        share_below: (P,), for each positive the share of the weight of the negatives below it, ties counting half.
            Their mean is the AUC.
        negative_variance: Part of the variance of the AUC that comes from the negatives; pairs that share a node
            depend on each other.
    """

    share_below: FloatArray
    negative_variance: float

    @property
    def auc(self) -> float:
        """Area under the ROC curve; NaN without positives or negatives."""
        return float(self.share_below.mean()) if len(self.share_below) else float("nan")


def place(
    scores: FloatArray, positives: IntArray, negatives: BoolArray, weights: FloatArray | None = None
) -> Placements:
    """Where each positive stands among all negatives.

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
    weight = np.ones(len(others)) if weights is None else weights[source, target]
    if not len(others) or not len(own) or weight.sum() <= 0:
        return Placements(np.full(len(own), np.nan), float("nan"))
    weight = weight / weight.sum()
    share = beaten_share(own, others, None if weights is None else weight)
    # Share of the positives that stand above each negative.
    ranked = np.sort(own)
    above = 1 - (np.searchsorted(ranked, others, "left") + np.searchsorted(ranked, others, "right")) / 2 / len(own)
    effect = weight * (above - share.mean())
    return Placements(share, dyadic_variance(np.stack([source, target]), effect, len(values)))


def beaten_share(own: FloatArray, others: FloatArray, weight: FloatArray | None = None) -> FloatArray:
    """(P,): for each score the share of the weight of the others below it, ties counting half.

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
    effects (Aronow, Samii and Assenova, 2015), but at least the variance of independent pairs.

    Args:
        pairs: (2, n), each pair once.
        effects: (n,), centred.
        n_nodes: N.
    """
    by_node = np.bincount(pairs.ravel(), weights=np.tile(effects, 2), minlength=n_nodes)
    low, high = pairs.min(axis=0), pairs.max(axis=0)
    # Both directions of a couple of nodes share two nodes, and were counted once for each.
    couple = low * n_nodes + high
    if n_nodes**2 > 8 * len(effects):  # few pairs of many nodes: number only the couples that occur
        couple = np.unique(couple, return_inverse=True)[1]
    by_couple = np.bincount(couple, weights=effects)
    shared = float((by_node**2).sum() - (by_couple**2).sum())
    return max(shared, float((effects**2).sum()))


def auc_interval(
    edges: Sequence[tuple[str, str]], share_below: FloatArray, negative_variance: float, level: float = 0.95
) -> tuple[float, float, float]:
    """An AUC pooled over repeats, with its interval.

    The AUC is the mean placement. Its variance is that of the mean over distinct positives, where those that share a
    node depend on each other, plus the part of the negatives. The interval uses Student's t with one degree of freedom
    less than there are distinct positives.

    Args:
        edges: The positive of each placement; one that was hidden in several repeats comes several times.
        share_below: (n,) placements.
        negative_variance: Part of the negatives.
        level: Coverage of the interval.

    Returns:
        AUC, low, high; the bounds are NaN with fewer than 3 distinct positives.
    """
    auc, low, high = _mean_interval(edges, share_below, negative_variance, level)
    return auc, float(np.maximum(0.0, low)), float(np.minimum(1.0, high))


def auc_difference(
    edges: Sequence[tuple[str, str]],
    share_below: FloatArray,
    other_below: FloatArray,
    negative_variance: float,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """An AUC less another one of the same positives, with its interval.

    It is paired over the positives, as in :func:`auc_interval`. The negatives are the same too, but what they have in
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
    return _mean_interval(edges, share_below - other_below, negative_variance, level)


def least_visible(
    edges: Sequence[tuple[str, str]], share_below: FloatArray, negative_variance: float, level: float = 0.95
) -> float:
    """The smallest AUC above 0.5 that these positives would show, as :func:`auc_interval` judges it.

    Such an AUC keeps 0.5 out of the interval in 80 % of cases, if its error is that of the one found. A control that
    shows nothing says only that there is nothing larger.

    Args:
        edges: As for :func:`auc_interval`.
        share_below: As there.
        negative_variance: As there.
        level: Coverage of the interval.

    Returns:
        Above 0.5, 1 at most; NaN with fewer than 3 distinct positives.
    """
    _, error, df = _mean_error(edges, share_below, negative_variance)
    visible = 0.5 + (stats.t.ppf((1 + level) / 2, df) + stats.t.ppf(_POWER, df)) * error
    return float(np.minimum(1.0, visible))


def _mean_interval(
    edges: Sequence[tuple[str, str]], values: FloatArray, negative_variance: float, level: float
) -> tuple[float, float, float]:
    """Mean of the values of edges, and the ends of its interval."""
    mean, error, df = _mean_error(edges, values, negative_variance)
    half = float(stats.t.ppf((1 + level) / 2, df) * error)
    return mean, mean - half, mean + half


def _mean_error(
    edges: Sequence[tuple[str, str]], values: FloatArray, negative_variance: float
) -> tuple[float, float, int]:
    """Mean of the values of edges, its standard error and degrees of freedom; NaN and 0 where it has none."""
    defined = np.isfinite(values)
    edges = [edge for edge, ok in zip(edges, defined.tolist(), strict=True) if ok]
    values = values[defined]
    if not len(values):
        return float("nan"), float("nan"), 0
    mean = float(values.mean())
    distinct = list(dict.fromkeys(edges))
    if len(distinct) < 3:
        return mean, float("nan"), 0
    number = {edge: i for i, edge in enumerate(distinct)}
    effect = np.bincount([number[edge] for edge in edges], weights=values - mean) / len(values)
    nodes = {name: i for i, name in enumerate(dict.fromkeys(end for edge in distinct for end in edge))}
    pairs = np.array([[nodes[s], nodes[t]] for s, t in distinct], dtype=np.int64).T
    variance = dyadic_variance(pairs, effect, len(nodes)) * len(distinct) / (len(distinct) - 1)
    return mean, float(np.sqrt(variance + np.nan_to_num(negative_variance))), len(distinct) - 1


def degree_weights(known: IntArray, positives: IntArray, negatives: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Weights that give the negatives the degrees of the positives.

    They are the average over draws of negatives whose source has the out-degree, and whose target the in-degree, of a
    positive's, without the noise of a draw. Degrees are those of the known graph, which is what a method sees.

    Args:
        known: (2, E) known edges.
        positives: (2, P).
        negatives: (S, T), True for negatives.

    Returns:
        (S, T) weights that add up to the number of negatives, 0 elsewhere; and (P,) which positives have a negative of
        their degrees.

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
    taken = np.cumsum(weight[order])[ends]
    if not len(hits) or hits[-1] <= 0:
        return float("nan")
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    return float(np.sum(np.diff(hits, prepend=0.0) / hits[-1] * precision))
