"""What a model must beat: the mean and ridge on the perturbations, and the figures for the comparison."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd

from gsnn.base.files import plain
from gsnn.data.parts import Pair
from gsnn.data.standardiser import ColumnMoments, Standardiser

__all__ = [
    "ALPHAS",
    "Baseline",
    "Figures",
    "FitReport",
    "GroupMeanBaseline",
    "MeanBaseline",
    "RidgeBaseline",
    "fit_report",
    "pooled_correlation",
    "pooled_r2",
    "readout_metrics",
]

ALPHAS = np.logspace(-3, 3, 25)
_MAX_INPUTS = 4096  # with more, ridge's (I, I) matrices take too much memory
_BLOCK, _FEW_ROWS = 2**18, 1024  # residuals, and rows, that are in memory at a time


class Baseline(ABC):
    """Predicts the readouts without a network."""

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray) -> Self:
        """Fit to training samples.

        Args:
            x: (M, I), finite.
            y: (M, O), NaN is missing.

        Raises:
            ValueError: If the shapes do not fit, or x has missing values.
        """
        _check(x, y)
        return cls.from_chunks([(x, y)])

    @classmethod
    @abstractmethod
    def from_chunks(cls, chunks: Iterable[Pair]) -> Self:
        """The same from chunks of the samples, which are read more than once.

        Args:
            chunks: Pairs of x (B, I) and y (B, O).
        """

    @abstractmethod
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predictions (M, O) of the inputs (M, I)."""


@dataclass(frozen=True)
class MeanBaseline(Baseline):
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
    def from_chunks(cls, chunks: Iterable[Pair]) -> Self:
        """Take the means of the observed values, in one pass."""
        moments = ColumnMoments(_widths(chunks)[1])
        for _, y in chunks:
            moments.update(y)
        return cls(moments.mean)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The means, once per row of ``x``: (M, O)."""
        return np.repeat(self.mean[None], len(x), axis=0)


@dataclass(frozen=True)
class GroupMeanBaseline(Baseline):
    """Predicts the mean of the training samples that agree on one treatment: given (not 0) or not.

    The treatment is the one that splits the training samples most evenly, such as a background stimulus that half of
    the conditions share; of equal ones the first. Without one that splits them, and for a readout that was never
    observed in a group, the mean of all samples is predicted.

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
    def from_chunks(cls, chunks: Iterable[Pair]) -> Self:
        """Choose the treatment in one pass, and take the means in another."""
        n_inputs, n_readouts = _widths(chunks)
        n, treated = 0, np.zeros(n_inputs, np.int64)
        for x, _ in chunks:
            n, treated = n + len(x), treated + (x != 0).sum(0)
        smaller = np.minimum(treated, n - treated)
        treatment = int(smaller.argmax()) if smaller.size and smaller.max() else None
        everything, without, with_it = (ColumnMoments(n_readouts) for _ in range(3))
        for x, y in chunks:
            side = _side(x, treatment)
            everything.update(y)
            without.update(y[~side])
            with_it.update(y[side])
        means = np.stack([without.mean, with_it.mean])
        return cls(treatment, np.where(np.isnan(means), everything.mean, means))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The mean of the group of each row of ``x``: (M, O)."""
        predicted: np.ndarray = self.mean[_side(x, self.treatment).astype(np.int64)]
        return predicted


def _side(x: np.ndarray, treatment: int | None) -> np.ndarray:
    """Whether each row has the treatment; without one no row has it."""
    return np.zeros(len(x), dtype=bool) if treatment is None else x[:, treatment] != 0


@dataclass(frozen=True)
class RidgeBaseline(Baseline):
    r"""Ridge regression of each readout on the perturbation inputs, in closed form.

    .. math:: \min_{w, b} \sum_m (y_m - x_m w - b)^2 + \alpha \lVert w \rVert^2

    over the samples in which the readout was observed; the intercept b is not penalised. Every readout gets the
    alpha with the smallest mean squared leave-one-out error on its training samples, which is exact and needs no
    refit: residual / (1 - leverage). Of equally good alphas the largest is taken. The prediction of a readout with one
    observed value is that value, and NaN without any.

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
    def fit(cls, x: np.ndarray, y: np.ndarray, alphas: Sequence[float] | np.ndarray = ALPHAS) -> Self:
        """Solve for every readout.

        Args:
            x: (M, I), finite.
            y: (M, O), NaN is missing.
            alphas: The penalties to choose from, all above 0.

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
                solved = _ridge([(x[pattern], y[np.ix_(pattern, columns)])], grid)
                weights[:, columns], intercept[columns], chosen[columns] = solved
        return cls(weights, intercept, chosen)

    @classmethod
    def from_chunks(cls, chunks: Iterable[Pair]) -> Self:
        """Solve for readouts that are observed in all samples, in three passes.

        Raises:
            ValueError: If a readout is missing somewhere, or there are too many inputs.
        """
        n_inputs, _ = _widths(chunks)
        if n_inputs > _MAX_INPUTS:
            raise ValueError(f"with {n_inputs} inputs its matrices are too large ({_MAX_INPUTS} are allowed)")
        return cls(*_ridge(chunks, np.sort(ALPHAS)[::-1]))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predictions (M, O) of the inputs (M, I)."""
        return np.asarray(x, dtype=np.float64) @ self.weights + self.intercept


def _ridge(chunks: Iterable[Pair], grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Weights (I, O), intercepts and chosen alphas of complete data.

    The first pass takes the means. The second takes the products of x and y around them, and the triangle R of
    x = Q R, which has the singular values s and the right singular vectors V of x. These give the weights for every
    alpha. The third takes the exact leave-one-out errors, with the leverage
    :math:`1/M + \sum_k (x V)_k^2 / (s_k^2 + \alpha)`.
    """
    n_inputs, n_readouts = _widths(chunks)
    n, x_mean, y_mean = 0, np.zeros(n_inputs), np.zeros(n_readouts)
    for x, y in chunks:
        if np.isnan(y).any():
            raise ValueError("readouts are missing in some training samples, each of which would need sums of its own")
        n, x_mean, y_mean = n + len(x), x_mean + x.sum(0, dtype=np.float64), y_mean + y.sum(0, dtype=np.float64)
    x_mean, y_mean = x_mean / n, y_mean / n
    if n == 1:
        return np.zeros((n_inputs, n_readouts)), y_mean, np.full(n_readouts, np.nan)
    cross, rows = np.zeros((n_inputs, n_readouts)), list[np.ndarray]()
    for x, y in chunks:
        centred = x - x_mean
        cross += centred.T @ (y - y_mean)
        rows.append(centred)
        if sum(map(len, rows)) >= max(2 * n_inputs, _FEW_ROWS):
            rows = [np.asarray(np.linalg.qr(np.concatenate(rows), mode="r"))]
    _, s, vt = np.linalg.svd(np.concatenate(rows), full_matrices=False)
    kept = s > s.max(initial=0.0) * max(n, n_inputs) * np.finfo(np.float64).eps
    s, vt = s[kept], vt[kept]
    shrink = 1 / (s[:, None] ** 2 + grid)  # (K, A)
    turned = vt @ cross
    slopes = shrink.T[:, :, None] * turned  # (A, K, O)
    errors = np.zeros((len(grid), n_readouts))
    size = max(1, _BLOCK // (len(grid) * n_readouts))
    for x, y in chunks:
        for start in range(0, len(x), size):
            block = slice(start, start + size)
            scores, target = (x[block] - x_mean) @ vt.T, y[block] - y_mean
            rest = np.maximum(1 - scores**2 @ shrink - 1 / n, 1e-12)
            residual = (target - scores @ slopes) / rest.T[:, :, None]  # (A, B, O)
            errors += np.einsum("abo,abo->ao", residual, residual)
    best = errors.argmin(0)
    weights = vt.T @ (turned * shrink[:, best])
    return weights, y_mean - x_mean @ weights, grid[best]


def _widths(chunks: Iterable[Pair]) -> tuple[int, int]:
    """Numbers of inputs and of readouts; there is at least one chunk."""
    x, y = next(iter(chunks))
    return x.shape[1], y.shape[1]


class Figures:
    """The figures of a predictor, from chunks of samples: R2 of each readout and Pearson's r over all values.

    Args:
        n_readouts: O.
        standardiser: Brings values back to the units of the data for r; None if they are in these units.
    """

    def __init__(self, n_readouts: int, standardiser: Standardiser | None = None) -> None:
        self.n = 0
        self._standardiser = standardiser
        self._target = ColumnMoments(n_readouts)
        self._errors, self._squares = np.zeros(n_readouts), np.zeros(n_readouts)
        self._pairs, self._means, self._products = 0, np.zeros(2), np.zeros((2, 2))

    @classmethod
    def of(cls, y: np.ndarray, prediction: np.ndarray) -> Self:
        """The figures of all samples at once, in their units."""
        figures = cls(np.shape(y)[-1] if np.ndim(y) else 0)
        figures.update(y, prediction)
        return figures

    def update(self, y: np.ndarray, prediction: np.ndarray) -> None:
        """Add samples.

        Args:
            y: (B, O), NaN is missing.
            prediction: (B, O), NaN where there is none.

        Raises:
            ValueError: If the shapes differ.
        """
        y, prediction = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
        if y.ndim != 2 or y.shape != prediction.shape:
            raise ValueError(f"y and prediction must have the same shape (M, O), got {y.shape} and {prediction.shape}")
        self.n += len(y)
        self._target.update(y)
        seen = ~np.isnan(y)
        self._errors += (np.where(seen, y - prediction, 0) ** 2).sum(0)
        self._squares += (np.where(seen, y, 0) ** 2).sum(0)
        if self._standardiser is not None:
            y, prediction = map(self._standardiser.inverse_transform, (y, prediction))
        both = np.isfinite(y) & np.isfinite(prediction)
        if not both.any():
            return
        pairs = np.stack([y[both], prediction[both]])
        n, own = pairs.shape[1], pairs.mean(1)
        pairs -= own[:, None]
        step, share = own - self._means, n / (self._pairs + n)
        self._products += pairs @ pairs.T + np.outer(step, step) * self._pairs * share
        self._means += step * share
        self._pairs += n

    def readouts(self) -> dict[str, np.ndarray]:
        """As :func:`readout_metrics`."""
        n, sse, sst = self._target.count, self._errors, self._target.squares
        # The rounding errors of a constant readout are not variance.
        constant = sst <= 1e-20 * self._squares
        sst = np.where(constant, 0.0, sst)
        with np.errstate(invalid="ignore", divide="ignore"):
            r2 = np.where((n >= 2) & ~constant, 1 - sse / sst, np.nan)
            mse = np.where(n > 0, sse / n, np.nan)
        return {"n": n, "mse": mse, "r2": r2, "sse": sse, "sst": sst}

    def summary(self) -> dict[str, float]:
        """The row of ``summary`` in a :class:`FitReport`."""
        figures = self.readouts()
        n, sse, sst = (float(figures[name].sum()) for name in ("n", "sse", "sst"))
        defined = figures["r2"][~np.isnan(figures["r2"])]
        return {
            "pooled_r2": 1 - sse / sst if sst > 0 else float("nan"),
            "mean_r2": float(defined.mean()) if len(defined) else float("nan"),
            "mse": sse / n if n else float("nan"),
        }

    def correlation(self) -> float:
        """As :func:`pooled_correlation`."""
        squares = np.diag(self._products)
        # The rounding errors of a constant are not variance.
        if not (squares > 1e-20 * self._pairs * self._means**2).all():
            return float("nan")
        return float(self._products[0, 1] / np.sqrt(squares.prod()))


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
    return Figures.of(y, prediction).readouts()


def pooled_r2(y: np.ndarray, prediction: np.ndarray) -> float:
    """1 - total SSE / total SST over every observed value, each readout around its own mean; NaN without variance.

    Args:
        y: (M, O) in units that make readouts comparable; NaN is missing.
        prediction: (M, O).

    Example:
        >>> pooled_r2(np.array([[0.0], [2.0]]), np.array([[0.0], [1.0]]))
        0.5
    """
    return Figures.of(y, prediction).summary()["pooled_r2"]


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
    return Figures.of(y, prediction).correlation()


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
        left_out: Pooled r of the baselines over all samples, see
            :func:`gsnn.training.left_out.left_out_correlations`.
    """

    readouts: pd.DataFrame
    summary: pd.DataFrame
    samples: int
    correlation: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"FitReport({self.samples} samples, R2: {self.summary['pooled_r2'].round(3).to_dict()})"

    @property
    def predictors(self) -> list[str]:
        """Names of what was compared, the model first."""
        return [str(name) for name in self.summary.index]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; NaN becomes None."""
        return {
            "samples": self.samples,
            "readouts": plain(self.readouts.to_dict("records")),
            "summary": plain(self.summary.to_dict("index")),
            "correlation": plain(self.correlation),
            "left_out": plain(self.left_out),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FitReport:
        """The inverse of :meth:`to_dict`."""
        if not all(isinstance(row, Mapping) for row in (*values["readouts"], *values["summary"].values())):
            raise ValueError("readouts must be a list of tables, and summary a table of them")
        readouts = pd.DataFrame(list(values["readouts"]))
        summary = pd.DataFrame.from_dict(dict(values["summary"]), orient="index")
        figures = [column for column in readouts if column not in ("readout", "n")]
        # Older runs have no correlations.
        r = [
            {name: float("nan") if value is None else float(value) for name, value in values.get(field, {}).items()}
            for field in ("correlation", "left_out")
        ]
        return cls(readouts.astype(dict.fromkeys(figures, float)), summary.astype(float), int(values["samples"]), *r)


def fit_report(figures: Mapping[str, Figures], readouts: Sequence[str]) -> FitReport:
    """Compare predictors on the same held-out samples.

    Args:
        figures: The figures of each by name, the model first.
        readouts: Names of the O readouts.

    Raises:
        ValueError: If there is no predictor or the names do not fit.

    Example:
        >>> y = np.array([[0.0], [2.0]])
        >>> report = fit_report({"model": Figures.of(y, y), "mean": Figures.of(y, np.ones((2, 1)))}, ["DV:a"])
        >>> report.summary["pooled_r2"].to_dict()
        {'model': 1.0, 'mean': 0.0}
    """
    if not figures:
        raise ValueError("figures must name at least one predictor")
    metrics = {name: each.readouts() for name, each in figures.items()}
    n = next(iter(metrics.values()))["n"]
    if len(readouts) != len(n):
        raise ValueError(f"readouts must name the columns of y, got {len(readouts)} names for {len(n)} columns")
    table: dict[str, Any] = {"readout": [str(name) for name in readouts], "n": n}
    for name, each in metrics.items():
        table |= {f"{name}_r2": each["r2"], f"{name}_mse": each["mse"]}
    summary = {name: each.summary() for name, each in figures.items()}
    samples = next(iter(figures.values())).n
    return FitReport(pd.DataFrame(table), pd.DataFrame.from_dict(summary, orient="index"), samples)


def _check(x: np.ndarray, y: np.ndarray) -> None:
    if np.ndim(x) != 2 or np.ndim(y) != 2 or len(x) != len(y) or len(x) == 0:
        raise ValueError(f"x and y must be (M, I) and (M, O) with the same M > 0, got {np.shape(x)} and {np.shape(y)}")
