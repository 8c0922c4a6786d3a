"""The three classifiers of the stacked inferer, whose probabilities make one score; and a logistic model alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gsnn.base.arrays import FloatArray
from gsnn.base.torch_state import in_turn, usual_threads
from gsnn.discovery.stacked.features import Feature, FloatMatrix

Learnt = Callable[[npt.NDArray[np.float32]], FloatArray]

# Least probability: a 0 from a forest is no certainty, and its logarithm would be minus infinity.
_LEAST = 1e-4
# Inverse penalty of the logistic model that is used alone, and the masked edges from which it applies in full.
_LINEAR_C, _MANY = 0.05, 250


def learn_pairs(x: npt.NDArray[np.float32], label: npt.NDArray[np.bool_], seed: int, n_trees: int = 300) -> Learnt:
    """Fit extremely randomised trees, boosted trees and a logistic model to tell masked pairs from others.

    Args:
        x: (K, F) features of pairs.
        label: (K,) True for a masked edge.
        seed: Fixes the trees.
        n_trees: Number of extremely randomised trees; there are 120 boosted ones.

    Returns:
        A function of features (Q, F) that returns (Q,) the mean logarithm of the three probabilities.

    Raises:
        ValueError: If all labels are the same.
    """
    _check_both(label)
    # Deferred: importing scikit-learn takes a second.
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models: list[Any] = [
        ExtraTreesClassifier(
            n_estimators=n_trees,
            min_samples_leaf=3,
            max_features=0.3,
            n_jobs=usual_threads(),
            random_state=seed,
        ),
        HistGradientBoostingClassifier(
            max_iter=120,
            learning_rate=0.05,
            max_leaf_nodes=15,
            min_samples_leaf=20,
            l2_regularization=10.0,
            early_stopping=False,
            random_state=seed,
        ),
        make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=500, tol=1e-4)),
    ]
    with in_turn():  # scikit-learn changes the warning filters of the process temporarily
        for model in models:
            model.fit(x, label)
    # Each tree has its own seed, on any thread; but the order in which threads add up predictions is not fixed.
    models[0].set_params(n_jobs=1)

    def opinion(pairs: npt.NDArray[np.float32]) -> FloatArray:
        total = np.zeros(len(pairs))
        with in_turn():
            for model in models:
                total += np.log(np.maximum(model.predict_proba(pairs)[:, 1], _LEAST))
        return total / len(models)

    return opinion


@dataclass(frozen=True)
class Linear:
    """A logistic model of pairs.

    Attributes:
        weights: By name of the feature.
        constant: The logarithm of the odds where all features are 0.
    """

    weights: dict[str, float]
    constant: float


def learn_linear(x: FloatMatrix, names: Sequence[str], label: npt.NDArray[np.bool_]) -> Linear:
    """Fit a logistic model with a strong penalty to tell masked pairs from others.

    The fewer masked edges, the stronger the penalty: a few tell little about missing edges, and are much alike.

    Args:
        x: (K, F) features of pairs.
        names: Names of the features.
        label: (K,) True for a masked edge.

    Raises:
        ValueError: If all labels are the same.
    """
    _check_both(label)
    from sklearn.linear_model import LogisticRegression

    mean, spread = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    spread[spread <= 1e-6 * np.abs(mean)] = np.inf  # constant: no weight
    with in_turn():
        strength = _LINEAR_C * min(1.0, int(label.sum()) / _MANY)
        model = LogisticRegression(C=strength, solver="newton-cholesky").fit((x - mean) / spread, label)
    weights = model.coef_[0] / spread
    return Linear(dict(zip(names, weights.tolist(), strict=True)), float(model.intercept_[0] - weights @ mean))


def log_odds(models: Sequence[Linear], features: Iterable[Feature], n: int) -> list[FloatArray]:
    """Logarithms of the odds of all pairs, (N, N) for each logistic model, in one pass over the features.

    A model ignores the features that it does not know.
    """
    odds = [np.full((n, n), model.constant) for model in models]
    for name, values in features:
        for model, total in zip(models, odds, strict=True):
            if name in model.weights:
                total += np.float32(model.weights[name]) * values
    return odds


def log_probability(odds: FloatArray) -> FloatArray:
    """Logarithms of probabilities, from logarithms of odds."""
    return -np.logaddexp(0.0, -odds)


def _check_both(label: npt.NDArray[np.bool_]) -> None:
    if label.all() or not label.any():
        raise ValueError(f"label must hold both masked and other pairs, got {int(label.sum())} of {len(label)} masked")


def sample_alike(
    hidden: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.int64],
    kind: npt.NDArray[np.int64],
    n: int,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw other pairs, with the same share of each kind as among the hidden ones.

    So the kind does not tell whether a pair was hidden.

    Args:
        hidden: Hidden pairs.
        candidates: Pairs to draw from, none of them hidden.
        kind: Kind of every pair, by its number.
        n: How many to draw, at most.
        rng: Generator of the draw.

    Returns:
        The hidden pairs of a kind that has candidates, and the pairs drawn, sorted; fewer than ``n`` where a kind has
        too few.

    Example:
        >>> kind = np.array([0, 0, 0, 0, 1, 1])
        >>> rng = np.random.default_rng(0)
        >>> kept, others = sample_alike(np.array([0]), np.array([1, 2, 3, 4, 5]), kind, 10, rng)
        >>> kept.tolist(), others.tolist()
        ([0], [1, 2, 3])
    """
    of_kind = {int(k): candidates[kind[candidates] == k] for k in np.unique(kind[hidden])}
    kept = hidden[np.array([len(of_kind[int(k)]) > 0 for k in kind[hidden]], dtype=bool)]
    counts = {k: int((kind[kept] == k).sum()) for k in of_kind if len(of_kind[k])}
    total = min([float(n), *(len(of_kind[k]) * len(kept) / count for k, count in counts.items())])
    drawn = [np.zeros(0, dtype=np.int64)]
    for k, count in counts.items():
        # A little more than the product, which rounding can leave just below a whole number.
        take = max(1, int(total * count / len(kept) + 1e-9))
        drawn.append(rng.choice(of_kind[k], size=take, replace=False))
    return kept, np.sort(np.concatenate(drawn))
