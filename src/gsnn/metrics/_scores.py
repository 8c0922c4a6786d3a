"""Metrics of a list of scores with labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


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


def roc_auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting one half.

    AUC = (R - P(P + 1)/2) / (P Q), with R the sum of the average ranks of the P positives among Q negatives
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
    values, truth = _checked(scores, labels)
    positives = int(truth.sum())
    negatives = truth.size - positives
    if not positives or not negatives:
        return float("nan")
    total = rankdata(values)[truth].sum()
    return float((total - positives * (positives + 1) / 2) / positives / negatives)


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
    values, truth = _checked(scores, labels)
    positives = int(truth.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), values.size - 1)  # last place of each tie
    hits = np.cumsum(truth[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) / positives * hits / (ends + 1)))


def _hits(values: FloatArray, truth: BoolArray, k: int) -> float:
    """Expected positives among the k best where ties come in random order."""
    threshold = np.partition(values, values.size - k)[values.size - k]
    above, tied = values > threshold, values == threshold
    return float(truth[above].sum() + (k - above.sum()) * truth[tied].mean())


def _at_k(scores: npt.ArrayLike, labels: npt.ArrayLike, k: int) -> tuple[float, int, int]:
    """Expected hits, how many places there are, and positives."""
    values, truth = _checked(scores, labels)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    places = min(int(k), values.size)
    return (_hits(values, truth, places) if places else 0.0), places, int(truth.sum())


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
    hits, places, _ = _at_k(scores, labels, k)
    return hits / places if places else float("nan")


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
    hits, _, positives = _at_k(scores, labels, k)
    return hits / positives if positives else float("nan")


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
