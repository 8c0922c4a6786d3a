"""How far to trust what was learnt from hidden edges, measured on hidden edges that were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.discovery.stacked.features import FloatMatrix
from gsnn.discovery.stacked.learners import learn_linear
from gsnn.discovery.stacked.lessons import Lesson
from gsnn.edges.pairs import PriorEdges

# Hidden edges in the exam of a lesson, at most, and rivals of each.
_EDGES, _RIVALS = 300, 64
# Largest weight of the odds.
_MOST = 1.5
# Largest slope: beyond it nothing changes any more.
_STEEPEST = 1e4


@dataclass(frozen=True)
class Exam:
    """Hidden edges of a lesson, each with rivals: other pairs with the same target that are no known edges.

    Attributes:
        rows: (R,) pairs, i * N + j; each hidden edge is followed by its rivals.
        starts: (K,) places of the hidden edges in ``rows``.
    """

    rows: IntArray
    starts: IntArray


def exam(lesson: Lesson, prior: PriorEdges) -> Exam:
    """Draw rivals of the hidden edges of a lesson.

    Args:
        lesson: The lesson.
        prior: All known edges, including the hidden ones.

    Returns:
        The exam; a hidden edge without a rival is left out.
    """
    n, rng = prior.N, np.random.default_rng((lesson.seed, 1))
    candidates = prior.candidates()
    parts: list[IntArray] = []
    for row in rng.permutation(lesson.rows[lesson.label])[:_EDGES].tolist():
        target = row % n
        rivals = rng.permutation(np.flatnonzero(candidates[:, target]))[:_RIVALS]
        if len(rivals):
            parts.append(np.concatenate([[row], rivals * n + target]))
    starts = np.cumsum([0, *map(len, parts)])[:-1]
    return Exam(np.concatenate([np.zeros(0, dtype=np.int64), *parts]), starts.astype(np.int64))


def odds_left_out(
    taught: Sequence[tuple[FloatMatrix, BoolArray]], asked: Sequence[FloatMatrix], names: Sequence[str]
) -> list[FloatArray]:
    """Logarithms of the odds of the pairs of each exam, by a logistic model that has learnt from the other lessons.

    Args:
        taught: For each lesson (K, F) features and (K,) labels.
        asked: For each lesson (R, F) features of the pairs of its exam.
        names: Names of the features.

    Returns:
        (R,) for each lesson; 0 where the other lessons hold nothing to learn from.
    """
    odds = []
    for left_out, rows in enumerate(asked):
        others = [each for k, each in enumerate(taught) if k != left_out]
        if not len(rows) or not any(label.any() for _, label in others):
            odds.append(np.zeros(len(rows)))
            continue
        x, label = (np.concatenate(parts) for parts in zip(*others, strict=True))
        model = learn_linear(x, names, label)
        odds.append(rows @ np.array([model.weights[name] for name in names]) + model.constant)
    return odds


def fitted_slope(odds: FloatArray, starts: IntArray) -> tuple[float, float]:
    r"""Fit a conditional logistic model with one slope b >= 0; the first pair of each group is the hidden one.

    It maximises the mean over the groups of :math:`b s_1 - \log \sum_k e^{b s_k}`.

    Args:
        odds: (R,) s, group by group.
        starts: (K,) where each group begins.

    Returns:
        b, and by how much the mean exceeds that of b = 0, in nats; 0 and 0 where b would be below 0.

    Example:
        >>> b, gain = fitted_slope(np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0]), np.array([0, 2, 4]))
        >>> round(b, 4), round(gain, 4)
        (0.6931, 0.0566)
    """
    if not len(starts):
        return 0.0, 0.0
    sizes = np.diff(np.append(starts, len(odds)))

    def slopes_and_value(b: float) -> tuple[float, float]:
        z = b * odds
        top = np.maximum.reduceat(z, starts)
        share = np.exp(z - np.repeat(top, sizes))
        total = np.add.reduceat(share, starts)
        mean = np.add.reduceat(share * odds, starts) / total
        return float((odds[starts] - mean).sum()), float((z[starts] - top - np.log(total)).mean())

    def slope(b: float) -> float:
        return slopes_and_value(b)[0]

    if slope(0.0) <= 0:
        return 0.0, 0.0
    high = 1.0
    while slope(high) > 0 and high < _STEEPEST:
        high *= 2
    b = high if slope(high) > 0 else float(brentq(slope, 0.0, high))
    return b, slopes_and_value(b)[1] - slopes_and_value(0.0)[1]


def weight(odds: Sequence[FloatArray], topology: Sequence[FloatArray], exams: Sequence[Exam]) -> float:
    r"""The weight of the odds relative to the score of a trained model.

    .. math:: w = \min(b, 1.5) \min(1, g_t / g)^2

    with b and g of :func:`fitted_slope` for the odds, g_t for those of topology alone. Odds that do not put a left out
    edge before its rivals count nothing. Nor does what only an untrained network tells, since the trained one knows it
    better.

    Args:
        odds: (R,) for each exam, from :func:`odds_left_out`.
        topology: The same by topology alone.
        exams: The exams.

    Returns:
        w, from 0 to 1.5.
    """
    first = np.cumsum([0, *(len(each.rows) for each in exams)])[:-1]
    starts = np.concatenate([each.starts + k for each, k in zip(exams, first, strict=True)])
    b, gain = fitted_slope(np.concatenate(odds), starts)
    alone = fitted_slope(np.concatenate(topology), starts)[1]
    return min(b, _MOST) * min(1.0, alone / gain) ** 2 if gain > 0 else 0.0
