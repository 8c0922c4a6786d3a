"""Metrics of a list of scores with labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gsnn.base.arrays import BoolArray, FloatArray


def as_scores(scores: Any) -> FloatArray:  # noqa: ANN401 - an array, a series or a tensor
    """Scores as float64, undefined ones below every number."""
    if hasattr(scores, "detach"):
        scores = scores.detach().cpu().double().numpy()
    values = np.array(scores, dtype=np.float64)
    values[np.isnan(values)] = -np.inf
    return values


def _checked(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Scores and labels, flat, of one length."""
    values = as_scores(scores)
    truth = np.asarray(labels)
    if values.shape != truth.shape:
        raise ValueError(f"scores and labels must have one shape, got {values.shape} and {truth.shape}")
    if truth.dtype != np.bool_ and not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be 0 or 1 (or booleans); say which pairs are positives, e.g. labels > 0")
    return values.ravel(), truth.astype(bool).ravel()


class SortedScores:
    """Positives and negatives, each sorted, from which every metric follows without another pass over them.

    Sorting numbers is several times faster than sorting their places, which ranks of all of them would need.

    Args:
        positives: Shape (P,), without NaN.
        negatives: Shape (Q,), ascending, without NaN.
    """

    def __init__(self, positives: FloatArray, negatives: FloatArray) -> None:
        self.positives, self.negatives = np.sort(positives), negatives

    @classmethod
    def of(cls, scores: npt.ArrayLike, labels: npt.ArrayLike) -> SortedScores:
        """From scores with labels."""
        values, truth = _checked(scores, labels)
        return cls(values[truth], np.sort(values[~truth]))

    def roc_auc(self) -> float:
        """See :func:`roc_auc`."""
        pairs = self.positives.size * self.negatives.size
        if not pairs:
            return float("nan")
        below, upto = (np.searchsorted(self.negatives, self.positives, side) for side in ("left", "right"))
        return float(int(below.sum()) + int(upto.sum())) / 2 / pairs

    def average_precision(self) -> float:
        """See :func:`average_precision`."""
        n = self.positives.size
        if not n:
            return float("nan")
        # Recall is gained at the scores of positives alone.
        thresholds = np.unique(self.positives)[::-1]
        hits = n - np.searchsorted(self.positives, thresholds)
        places = hits + self.negatives.size - np.searchsorted(self.negatives, thresholds)
        return float(np.sum(np.diff(hits, prepend=0) * hits / places)) / n

    def at_k(self, k: int) -> tuple[float, int]:
        """Expected positives among the k best where ties come in random order, and how many places there are."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        sides = self.positives, self.negatives
        places = min(int(k), sum(side.size for side in sides))
        if not places:
            return 0.0, 0
        best = np.concatenate([side[max(0, side.size - places) :] for side in sides])
        threshold = np.partition(best, best.size - places)[best.size - places]
        above, upto = (
            [side.size - int(np.searchsorted(side, threshold, where)) for side in sides] for where in ("right", "left")
        )
        tied = [upto[i] - above[i] for i in range(2)]
        return above[0] + (places - sum(above)) * tied[0] / sum(tied), places

    def precision_at(self, k: int) -> float:
        """See :func:`precision_at_k`."""
        hits, places = self.at_k(k)
        return hits / places if places else float("nan")

    def recall_at(self, k: int) -> float:
        """See :func:`recall_at_k`."""
        hits, _ = self.at_k(k)
        return hits / self.positives.size if self.positives.size else float("nan")


def roc_auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting one half.

    AUC = (number of pairs of one of P positives and one of Q negatives with the positive above, a tie one half) / (P Q)
    (Mann and Whitney, 1947).

    Args:
        scores: Shape (n,); NaN ranks below every number.
        labels: Shape (n,), True for positives.

    Returns:
        From 0 (worst) to 1 (best), 0.5 for a constant score; NaN without positives or without negatives.

    Raises:
        ValueError: If the shapes differ or a label is not 0 or 1.

    Example:
        >>> roc_auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        0.75
    """
    return SortedScores.of(scores, labels).roc_auc()


def average_precision(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Average precision (AUPR): sum over thresholds of the gain in recall times the precision there.

    Tied scores form one threshold, as in scikit-learn, so a constant score gets the prevalence.

    Args:
        scores: Shape (n,); NaN ranks below every number.
        labels: Shape (n,), True for positives.

    Returns:
        Up to 1 (best); NaN without positives.

    Raises:
        ValueError: If the shapes differ or a label is not 0 or 1.

    Example:
        >>> average_precision([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]).__round__(4)
        0.8333
    """
    return SortedScores.of(scores, labels).average_precision()


def precision_at_k(scores: npt.ArrayLike, labels: npt.ArrayLike, k: int) -> float:
    """Share of positives among the k best scores.

    Where a tie crosses place k, its members share the places that are left: the expectation over random orders. So a
    constant score gets the prevalence.

    Args:
        scores: Shape (n,); NaN ranks below every number.
        labels: Shape (n,), True for positives.
        k: Number of places, at least 1; with fewer scores, all of them.

    Returns:
        From 0 to 1; NaN without scores.

    Raises:
        ValueError: If k is below 1, the shapes differ or a label is not 0 or 1.

    Example:
        >>> precision_at_k([3.0, 2.0, 2.0, 1.0], [1, 1, 0, 0], k=2)
        0.75
    """
    return SortedScores.of(scores, labels).precision_at(k)


def recall_at_k(scores: npt.ArrayLike, labels: npt.ArrayLike, k: int) -> float:
    """Share of the positives that are among the k best scores; ties as in :func:`precision_at_k`.

    Args:
        scores: Shape (n,); NaN ranks below every number.
        labels: Shape (n,), True for positives.
        k: Number of places, at least 1.

    Returns:
        From 0 to 1, k/n for a constant score; NaN without positives.

    Raises:
        ValueError: If k is below 1, the shapes differ or a label is not 0 or 1.

    Example:
        >>> recall_at_k([3.0, 2.0, 2.0, 1.0], [1, 1, 0, 0], k=1)
        0.5
    """
    return SortedScores.of(scores, labels).recall_at(k)


def collapse_groups(
    scores: npt.ArrayLike, labels: npt.ArrayLike, groups: npt.ArrayLike
) -> tuple[FloatArray, BoolArray]:
    """One score and one label for each group of candidates that the data cannot tell apart (GSNN spec 2.6).

    A group is scored by its best member and true if it holds a positive; any metric of this module applied to the
    result is the group-level one.

    Args:
        scores: Shape (n,); NaN ranks below every number (it comes back as -inf).
        labels: Shape (n,), True for positives.
        groups: Shape (n,), the group of each candidate.

    Returns:
        Scores and labels of the G groups, by ascending group.

    Raises:
        ValueError: If the shapes differ or a label is not 0 or 1.

    Example:
        >>> scores, labels = collapse_groups([0.1, 0.9, 0.5], [1, 0, 0], [7, 7, 8])
        >>> scores.tolist(), labels.tolist()
        ([0.9, 0.5], [True, False])
    """
    values, truth = _checked(scores, labels)
    members = np.asarray(groups).ravel()
    if members.shape != values.shape:
        raise ValueError(f"groups must have the shape of the scores, ({values.size},), got {np.shape(groups)}")
    _, group = np.unique(members, return_inverse=True)
    n_groups = int(group.max()) + 1 if group.size else 0
    best = np.full(n_groups, -np.inf)
    np.maximum.at(best, group, values)
    return best, np.bincount(group, weights=truth, minlength=n_groups) > 0
