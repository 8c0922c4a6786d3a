"""What a model must beat: the mean and ridge on the perturbations, and the figures to compare them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "ALPHAS",
    "FitReport",
    "GroupMeanBaseline",
    "MeanBaseline",
    "RidgeBaseline",
    "fit_report",
    "left_out_correlations",
    "pooled_correlation",
    "pooled_r2",
    "readout_metrics",
]

ALPHAS = np.logspace(-3, 3, 25)
_MAX_FOLDS, _FEW_FOLDS, _LARGE = 200, 10, 100_000


@dataclass(frozen=True)
class MeanBaseline:
    """Predicts each readout's mean over the training samples, whatever the perturbation.

    Attributes:
        mean: (O,), NaN for a readout that was never observed.

    Example:
        >>> y = np.array([[1.0, np.nan], [3.0, 4.0]])
        >>> MeanBaseline.fit(np.zeros((2, 1)), y).predict(np.zeros((1, 1)))
        array([[2., 4.]])
    """

    mean: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray) -> MeanBaseline:
        """Take the means of the observed values.

        Args:
            x: (M, I), not used.
            y: (M, O), NaN is missing.

        Returns:
            The baseline.
        """
        _check(x, y)
        return cls(_nanmean(np.asarray(y, dtype=np.float64)))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The means, once per row of ``x``: (M, O)."""
        return np.repeat(self.mean[None], len(x), axis=0)


@dataclass(frozen=True)
class GroupMeanBaseline:
    """Predicts the mean of the training samples that agree on one treatment: given (not 0) or not.

    The treatment is the one that splits the training samples most evenly, such as a background stimulus that half of
    the conditions share; of equals the first. Without one that splits them, and for a readout that was never observed
    in a group, it is the mean of all.

    Attributes:
        treatment: Index of the treatment, or None.
        mean: (2, O), without and with it.

    Example:
        >>> x = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
        >>> y = np.array([[0.0], [4.0], [5.0], [6.0]])
        >>> group = GroupMeanBaseline.fit(x, y)
        >>> group.treatment, group.predict(x).ravel().tolist()
        (0, [3.3333333333333335, 3.3333333333333335, 5.0, 3.3333333333333335])
    """

    treatment: int | None
    mean: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray) -> GroupMeanBaseline:
        """Choose the treatment and take the means.

        Args:
            x: (M, I).
            y: (M, O), NaN is missing.

        Returns:
            The baseline.
        """
        _check(x, y)
        given, y = np.asarray(x) != 0, np.asarray(y, dtype=np.float64)
        smaller = np.minimum(given.sum(0), (~given).sum(0))
        if not smaller.size or smaller.max() == 0:
            return cls(None, np.repeat(_nanmean(y)[None], 2, axis=0))
        treatment = int(smaller.argmax())
        means = [_nanmean(y[given[:, treatment] == side]) for side in (False, True)]
        return cls(treatment, np.where(np.isnan(means), _nanmean(y), means))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The mean of the group of each row of ``x``: (M, O)."""
        side = np.zeros(len(x), dtype=np.int64) if self.treatment is None else (x[:, self.treatment] != 0).astype(int)
        predicted: np.ndarray = self.mean[side]
        return predicted


@dataclass(frozen=True)
class RidgeBaseline:
    r"""Ridge regression of each readout on the perturbation inputs, in closed form.

    .. math:: \min_{w, b} \sum_m (y_m - x_m w - b)^2 + \alpha \lVert w \rVert^2

    over the samples in which the readout was observed; the intercept b is not penalised. Every readout gets the
    alpha with the smallest mean squared leave-one-out error on its training samples, which is exact and needs no
    refitting: residual / (1 - leverage). Of equal alphas the largest is taken. A readout with one observed value
    is predicted by it, one with none by NaN.

    Attributes:
        weights: (I, O).
        intercept: (O,).
        alphas: The alpha chosen for each readout, (O,); NaN where there was nothing to choose by.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(50, 2))
        >>> ridge = RidgeBaseline.fit(x, x @ np.array([[2.0], [-1.0]]) + 3.0)
        >>> ridge.predict(np.zeros((1, 2))).round(2)
        array([[3.]])
    """

    weights: np.ndarray
    intercept: np.ndarray
    alphas: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, alphas: Sequence[float] | np.ndarray = ALPHAS) -> RidgeBaseline:
        """Solve for every readout.

        Args:
            x: (M, I), finite.
            y: (M, O), NaN is missing.
            alphas: The penalties to choose from, all above 0.

        Returns:
            The baseline.

        Raises:
            ValueError: If the shapes differ, x has missing values, or an alpha is not above 0.
        """
        _check(x, y)
        grid = np.sort(np.asarray(alphas, dtype=np.float64))[::-1]  # largest first, so that argmin prefers it
        if grid.ndim != 1 or len(grid) == 0 or not (np.isfinite(grid) & (grid > 0)).all():
            raise ValueError(f"alphas must be finite numbers above 0, at least one, got {alphas!r}")
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if not np.isfinite(x).all():
            raise ValueError("x must be finite; perturbation inputs cannot be missing")
        readouts = y.shape[1]
        weights = np.zeros((x.shape[1], readouts))
        intercept = np.full(readouts, np.nan)
        chosen = np.full(readouts, np.nan)
        # Readouts that miss the same samples share one decomposition.
        patterns, member = np.unique(~np.isnan(y), axis=1, return_inverse=True)
        for index, pattern in enumerate(patterns.T):
            columns = np.flatnonzero(member.ravel() == index)
            if pattern.any():
                solved = _ridge(x[pattern], y[np.ix_(pattern, columns)], grid)
                weights[:, columns], intercept[columns], chosen[columns] = solved
        return cls(weights, intercept, chosen)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predictions (M, O) of the inputs (M, I)."""
        return np.asarray(x, dtype=np.float64) @ self.weights + self.intercept


def _ridge(x: np.ndarray, y: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (I, O), intercepts and chosen alphas of complete data."""
    x_mean, y_mean = x.mean(0), y.mean(0)
    if len(x) == 1:
        return np.zeros((x.shape[1], y.shape[1])), y_mean, np.full(y.shape[1], np.nan)
    u, s, vt = np.linalg.svd(x - x_mean, full_matrices=False)
    uty = u.T @ (y - y_mean)
    shrink = s[:, None] ** 2 / (s[:, None] ** 2 + grid)  # (rank, A)
    leverage = u**2 @ shrink + 1 / len(x)  # (M, A); the intercept leaves 1 / M of every sample to itself
    fitted = np.einsum("mk,ka,ko->amo", u, shrink, uty)
    left_out = (y - y_mean - fitted) / np.maximum(1 - leverage, 1e-12).T[:, :, None]
    best = (left_out**2).mean(1).argmin(0)
    weights = vt.T @ ((s[:, None] / (s[:, None] ** 2 + grid[best])) * uty)
    return weights, y_mean - x_mean @ weights, grid[best]


def readout_metrics(y: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
    """Figures of each readout over its observed values.

    R2 = 1 - SSE / SST with SST around the mean of the values of ``y`` themselves. It is NaN for a readout with
    fewer than two values, without variance, or without a prediction.

    Args:
        y: (M, O), NaN is missing.
        prediction: (M, O).

    Returns:
        Arrays (O,): ``n``, ``mse``, ``r2``, and the sums ``sse`` and ``sst``.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> y = np.array([[0.0, 1.0], [2.0, np.nan]])
        >>> readout_metrics(y, y)["r2"]
        array([ 1., nan])
    """
    y, prediction = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if y.ndim != 2 or y.shape != prediction.shape:
        raise ValueError(f"y and prediction must have the same shape (M, O), got {y.shape} and {prediction.shape}")
    seen = ~np.isnan(y)
    n = seen.sum(0)
    sse = (np.where(seen, y - prediction, 0) ** 2).sum(0)
    mean = _nanmean(y)
    sst = (np.where(seen, y - mean, 0) ** 2).sum(0)
    # What rounding leaves of a constant readout is not variance.
    constant = sst <= 1e-20 * np.where(seen, y**2, 0).sum(0)
    sst = np.where(constant, 0.0, sst)
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where((n >= 2) & ~constant, 1 - sse / sst, np.nan)
        mse = np.where(n > 0, sse / n, np.nan)
    return {"n": n, "mse": mse, "r2": r2, "sse": sse, "sst": sst}


def pooled_r2(y: np.ndarray, prediction: np.ndarray) -> float:
    """1 - total SSE / total SST over every observed value, each readout around its own mean; NaN without variance.

    Args:
        y: (M, O) in units that make readouts comparable; NaN is missing.
        prediction: (M, O).

    Returns:
        The pooled R2.

    Example:
        >>> pooled_r2(np.array([[0.0], [2.0]]), np.array([[0.0], [1.0]]))
        0.5
    """
    figures = readout_metrics(y, prediction)
    total = figures["sst"].sum()
    return float(1 - figures["sse"].sum() / total) if total > 0 else float("nan")


def pooled_correlation(y: np.ndarray, prediction: np.ndarray) -> float:
    """Pearson's r over every observed value of every readout; NaN without variance.

    The readouts' own means count here, so a constant per readout can reach a good r: compare with the baselines.

    Args:
        y: (M, O) in the units of the data; NaN is missing.
        prediction: (M, O).

    Returns:
        r.

    Example:
        >>> round(pooled_correlation(np.array([[0.0, 1.0], [2.0, np.nan]]), np.array([[1.0, 2.0], [3.0, 9.0]])), 9)
        1.0
    """
    y, prediction = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    both = np.isfinite(y) & np.isfinite(prediction)
    first, second = y[both], prediction[both]
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def left_out_correlations(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Pooled r of the baselines when each condition (distinct row of ``x``) is predicted from all others.

    Above 200 conditions, or for large data, ten groups of conditions are left out instead, drawn with a fixed seed.

    Args:
        x: (M, I).
        y: (M, O) in the units of the data; NaN is missing.

    Returns:
        r of ``ridge``, ``group mean`` and ``mean``, and the number of ``folds``. NaN below two conditions.

    Example:
        >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> found = left_out_correlations(x, 2 * x + 1)
        >>> round(found["ridge"], 3), found["folds"]
        (1.0, 4.0)
    """
    _check(x, y)
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    _, fold = np.unique(x, axis=0, return_inverse=True)
    fold = fold.reshape(-1)
    n = int(fold.max()) + 1
    if n > _MAX_FOLDS or x.size > _LARGE:
        fold = (np.random.default_rng(0).permutation(n) % _FEW_FOLDS)[fold]
        n = min(n, _FEW_FOLDS)
    makers: dict[str, Any] = {"ridge": RidgeBaseline, "group mean": GroupMeanBaseline, "mean": MeanBaseline}
    predicted = {name: np.full(y.shape, np.nan) for name in makers}
    for k in range(n if n > 1 else 0):
        out = fold == k
        for name, maker in makers.items():
            predicted[name][out] = maker.fit(x[~out], y[~out]).predict(x[out])
    return {name: pooled_correlation(y, found) for name, found in predicted.items()} | {"folds": float(n)}


@dataclass(frozen=True)
class FitReport:
    """How well a model and the baselines fit held-out samples, in standardised units.

    Attributes:
        readouts: A row per readout: readout, n (observed held-out values), and for each predictor P of
            ``predictors`` the columns ``P_r2`` and ``P_mse``.
        summary: A row per predictor (index): ``pooled_r2``, ``mean_r2`` (uniform average over the readouts whose R2
            is defined) and ``mse`` (over all observed values).
        samples: Held-out samples.
        correlation: Pooled r (:func:`pooled_correlation`) on the held-out samples, in the units of the data, by
            predictor; ``group mean`` among them.
        left_out: Pooled r of the baselines over all samples, see :func:`left_out_correlations`.
    """

    readouts: pd.DataFrame
    summary: pd.DataFrame
    samples: int
    correlation: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, float] = field(default_factory=dict)

    @property
    def predictors(self) -> list[str]:
        """Names of what was compared, the model first."""
        return [str(name) for name in self.summary.index]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; NaN becomes None."""
        return {
            "samples": self.samples,
            "readouts": [_plain(row) for row in self.readouts.to_dict("records")],
            "summary": {str(name): _plain(row) for name, row in self.summary.to_dict("index").items()},
            "correlation": _plain(self.correlation),
            "left_out": _plain(self.left_out),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FitReport:
        """The inverse of :meth:`to_dict`."""
        if not all(isinstance(row, Mapping) for row in (*values["readouts"], *values["summary"].values())):
            raise ValueError("readouts must be a list of tables, and summary a table of them")
        readouts = pd.DataFrame(list(values["readouts"]))
        summary = pd.DataFrame.from_dict(dict(values["summary"]), orient="index")
        figures = [column for column in readouts if column not in ("readout", "n")]
        # Runs made before there were correlations have none.
        r = [
            {name: float("nan") if value is None else float(value) for name, value in values.get(what, {}).items()}
            for what in ("correlation", "left_out")
        ]
        return cls(readouts.astype(dict.fromkeys(figures, float)), summary.astype(float), int(values["samples"]), *r)


def fit_report(y: np.ndarray, predictions: Mapping[str, np.ndarray], readouts: Sequence[str]) -> FitReport:
    """Compare predictions of the same held-out samples.

    Args:
        y: (M, O), standardised; NaN is missing.
        predictions: Name of each predictor and its (M, O), the model first.
        readouts: Names of the O readouts.

    Returns:
        The report.

    Raises:
        ValueError: If there is no predictor or a shape does not fit.

    Example:
        >>> y = np.array([[0.0], [2.0]])
        >>> report = fit_report(y, {"model": y, "mean": np.ones((2, 1))}, ["DV:a"])
        >>> report.summary["pooled_r2"].to_dict()
        {'model': 1.0, 'mean': 0.0}
    """
    if not predictions:
        raise ValueError("predictions must name at least one predictor")
    if np.ndim(y) != 2 or len(readouts) != np.shape(y)[1]:
        raise ValueError(f"readouts must name the columns of y, got {len(readouts)} names for shape {np.shape(y)}")
    table: dict[str, Any] = {"readout": [str(name) for name in readouts]}
    summary: dict[str, dict[str, float]] = {}
    for name, prediction in predictions.items():
        figures = readout_metrics(y, prediction)
        table.setdefault("n", figures["n"])
        table[f"{name}_r2"], table[f"{name}_mse"] = figures["r2"], figures["mse"]
        values = figures["n"].sum()
        defined = figures["r2"][~np.isnan(figures["r2"])]
        summary[name] = {
            "pooled_r2": pooled_r2(y, prediction),
            "mean_r2": float(defined.mean()) if len(defined) else float("nan"),
            "mse": float(figures["sse"].sum() / values) if values else float("nan"),
        }
    return FitReport(pd.DataFrame(table), pd.DataFrame.from_dict(summary, orient="index"), len(y))


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in row.items():
        item = value.item() if isinstance(value, np.generic) else value
        plain[str(name)] = None if isinstance(item, float) and not np.isfinite(item) else item
    return plain


def _nanmean(y: np.ndarray) -> np.ndarray:
    seen = ~np.isnan(y)
    n = seen.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n > 0, np.where(seen, y, 0).sum(0) / n, np.nan)


def _check(x: np.ndarray, y: np.ndarray) -> None:
    if np.ndim(x) != 2 or np.ndim(y) != 2 or len(x) != len(y) or len(x) == 0:
        raise ValueError(f"x and y must be (M, I) and (M, O) with the same M > 0, got {np.shape(x)} and {np.shape(y)}")
