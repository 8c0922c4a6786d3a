"""The three classifiers of the stacked inferer, and how their opinions make one score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gsnn._turns import in_turn
from gsnn.errors import require

FloatArray = npt.NDArray[np.float64]
Learnt = Callable[[npt.NDArray[np.float32]], FloatArray]

# A probability of 0 from a forest is one tree short of a certainty, not minus infinity.
_LEAST = 1e-4

__all__ = ["learn_pairs", "sample_others"]


def learn_pairs(x: npt.NDArray[np.float32], label: npt.NDArray[np.bool_], seed: int, n_trees: int = 300) -> Learnt:
    """Fit extremely randomised trees, boosted trees and a logistic model to tell masked pairs from others.

    Args:
        x: (K, F) features of pairs.
        label: (K,) True for a masked edge.
        seed: Fixes the trees.
        n_trees: Extremely randomised trees; there are 120 boosted ones.

    Returns:
        A function of features (Q, F) that gives (Q,) the mean logarithm of the three probabilities.

    Raises:
        ValueError: If all labels are the same.
        MissingExtraError: If scikit-learn is not installed.
    """
    if label.all() or not label.any():
        raise ValueError(f"label must hold both masked and other pairs, got {int(label.sum())} of {len(label)} masked")
    ensemble = require("sklearn.ensemble", extra="sklearn")
    linear = require("sklearn.linear_model", extra="sklearn")
    preprocessing = require("sklearn.preprocessing", extra="sklearn")
    pipeline = require("sklearn.pipeline", extra="sklearn")
    models: list[Any] = [
        ensemble.ExtraTreesClassifier(
            n_estimators=n_trees, min_samples_leaf=3, max_features=0.3, n_jobs=1, random_state=seed
        ),
        ensemble.HistGradientBoostingClassifier(
            max_iter=120,
            learning_rate=0.05,
            max_leaf_nodes=15,
            min_samples_leaf=20,
            l2_regularization=10.0,
            early_stopping=False,
            random_state=seed,
        ),
        pipeline.make_pipeline(
            preprocessing.StandardScaler(), linear.LogisticRegression(C=0.02, max_iter=500, tol=1e-4)
        ),
    ]
    with in_turn():  # scikit-learn changes the warning filters of the process, for a while
        for model in models:
            model.fit(x, label)

    def opinion(pairs: npt.NDArray[np.float32]) -> FloatArray:
        total = np.zeros(len(pairs))
        with in_turn():
            for model in models:
                total += np.log(np.maximum(model.predict_proba(pairs)[:, 1], _LEAST))
        return total / len(models)

    return opinion


def sample_others(candidates: npt.NDArray[np.int64], n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """At most ``n`` of some rows, at random, in their order."""
    if len(candidates) <= n:
        return candidates
    return np.sort(rng.choice(candidates, size=n, replace=False))
