"""Preparing a training on streamed data, and measuring it: passes over the file instead of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from gsnn.base.errors import DataError
from gsnn.data import Split, StreamedData, StreamedSplit
from gsnn.data.scan import ColumnMoments, Scan, scan
from gsnn.data.stream import StreamedPart
from gsnn.nn import GSNN
from gsnn.training.baselines import ALPHAS, FitReport, GroupMeanBaseline
from gsnn.training.config import TrainConfig
from gsnn.training.loop import predict
from gsnn.training.prepare import Prepared, check_samples, new_model

_BLOCK = 1024  # rows that stay in the cache
_MAX_INPUTS = 4096  # beyond which ridge's (I, I) matrices are no small matter


def prepare_streamed(data: StreamedData, config: TrainConfig, split: Split | StreamedSplit | None = None) -> Prepared:
    """Split, count and standardise streamed data: two passes over the file.

    Args:
        data: The data.
        config: The settings.
        split: The parts, if they are not to be drawn.

    Returns:
        What the training needs.

    Raises:
        DataError: If the data cannot be split or trained on.
    """
    try:
        if isinstance(split, StreamedSplit):
            parts = split
        elif split is not None:
            parts = StreamedSplit.from_lists(split, len(data))
        else:
            parts = data.split(**config.split_options())
    except DataError:
        raise
    except ValueError as error:
        raise DataError(str(error)) from error
    found = scan(data, parts)
    train, validation = found.part("train"), found.part("validation")
    check_samples(config, len(train), validation.observed)
    warnings = [*data.warnings, *parts.warnings, *found.warnings]
    report = partial(_report, found, warnings)
    return Prepared(new_model(data.graph, config), parts, found.standardiser, train, validation, report, warnings)


def _report(found: Scan, warnings: list[str], model: GSNN) -> FitReport:
    """The fit on the test part, beside the baselines of the training part; what cannot be had is NaN, with a note."""
    train, test = found.part("train"), found.part("test")
    if not len(test):
        warnings.append("no sample is in the test part, so the fit was not measured")
    ridge, why = ridge_baseline(train)
    if ridge is None:
        warnings.append(f"the ridge baseline is left out: {why}")
    group = _group_means(train)
    mean = _means(train)
    predictors = {
        "model": lambda x: predict(model, x),
        "ridge": lambda x: np.full((len(x), len(mean)), np.nan) if ridge is None else x @ ridge[0] + ridge[1],
        "mean": lambda x: np.repeat(mean[None], len(x), axis=0),
        "group mean": group.predict,
    }
    figures = {name: _Figures(len(mean)) for name in predictors}
    scale = found.standardiser
    for x, y in test.chunks():
        for name, predictor in predictors.items():
            prediction = np.asarray(predictor(x.astype(np.float64) if name == "ridge" else x), dtype=np.float64)
            figures[name].update(y, prediction, scale.mean, scale.scale)
    table: dict[str, object] = {"readout": list(found.data.graph.outputs), "n": figures["model"].target.count}
    summary = {}
    for name in ("model", "ridge", "mean"):
        r2, mse, row = figures[name].result()
        table[f"{name}_r2"], table[f"{name}_mse"] = r2, mse
        summary[name] = row
    return FitReport(
        pd.DataFrame(table),
        pd.DataFrame.from_dict(summary, orient="index"),
        len(test),
        correlation={name: each.correlation() for name, each in figures.items()},
    )


class _Figures:
    """Sums behind R2 per readout and the pooled correlation, from chunks."""

    def __init__(self, n_readouts: int) -> None:
        self.target = ColumnMoments(n_readouts)
        self.errors = np.zeros(n_readouts)
        self.squares = np.zeros(n_readouts)
        self.pooled = np.zeros(3)  # sums of squares and products around the means
        self.means = np.zeros(2)
        self.n = 0

    def update(self, y: np.ndarray, prediction: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> None:
        seen = ~np.isnan(y)
        self.target.update(y)
        self.errors += (np.where(seen, y - prediction, 0) ** 2).sum(0)
        self.squares += (np.where(seen, y, 0).astype(np.float64) ** 2).sum(0)
        both = seen & np.isfinite(prediction)
        if not both.any():
            return
        pairs = np.stack([(values * scale + mean)[both] for values in (y.astype(np.float64), prediction)])
        n, own = pairs.shape[1], pairs.mean(1)
        a, b = pairs - own[:, None]
        step, share = own - self.means, n / (self.n + n)
        joined = self.n * share
        self.pooled += (
            a @ a + step[0] ** 2 * joined,
            b @ b + step[1] ** 2 * joined,
            a @ b + step[0] * step[1] * joined,
        )
        self.means += step * share
        self.n += n

    def result(self) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        """R2 and mean squared error of each readout, as in :func:`readout_metrics`, and over all."""
        n, total = self.target.count, self.target.squares
        constant = total <= 1e-20 * self.squares
        total = np.where(constant, 0.0, total)
        with np.errstate(invalid="ignore", divide="ignore"):
            r2 = np.where((n >= 2) & ~constant, 1 - self.errors / total, np.nan)
            mse = np.where(n > 0, self.errors / n, np.nan)
        defined = r2[~np.isnan(r2)]
        everything = total.sum()
        over_all = {
            "pooled_r2": float(1 - self.errors.sum() / everything) if everything > 0 else float("nan"),
            "mean_r2": float(defined.mean()) if len(defined) else float("nan"),
            "mse": float(self.errors.sum() / n.sum()) if n.sum() else float("nan"),
        }
        return r2, mse, over_all

    def correlation(self) -> float:
        """Pearson's r over all values in the units of the data; NaN without variance."""
        a, b, product = self.pooled
        # What rounding leaves of a constant is not variance.
        floor = 1e-20 * self.n * self.means**2
        return float(product / np.sqrt(a * b)) if a > floor[0] and b > floor[1] else float("nan")


def _means(train: StreamedPart) -> np.ndarray:
    """Means of the standardised training readouts, NaN for one never observed."""
    moments = ColumnMoments(train.data.graph.O)
    for _, y in train.chunks():
        moments.update(y)
    return np.where(moments.count > 0, moments.mean, np.nan)


def _group_means(train: StreamedPart) -> GroupMeanBaseline:
    """What :meth:`GroupMeanBaseline.fit` finds, in one pass: sums with each treatment, and over all."""
    graph = train.data.graph
    given, sums, seen = np.zeros(graph.I), np.zeros((graph.I, graph.O)), np.zeros((graph.I, graph.O))
    n, total, observed = 0, np.zeros(graph.O), np.zeros(graph.O)
    for x, y in train.chunks():
        there, measured = (x != 0).astype(np.float64), (~np.isnan(y)).astype(np.float64)
        filled = np.where(np.isnan(y), 0, y).astype(np.float64)
        n += len(x)
        given += there.sum(0)
        sums += there.T @ filled
        seen += there.T @ measured
        total += filled.sum(0)
        observed += measured.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / observed
        smaller = np.minimum(given, n - given)
        if not smaller.size or smaller.max() == 0:
            return GroupMeanBaseline(None, np.repeat(mean[None], 2, axis=0))
        treatment = int(smaller.argmax())
        means = np.stack([(total - sums[treatment]) / (observed - seen[treatment]), sums[treatment] / seen[treatment]])
    return GroupMeanBaseline(treatment, np.where(np.isnan(means), mean, means))


def ridge_baseline(train: StreamedPart) -> tuple[tuple[np.ndarray, np.ndarray] | None, str]:
    r"""What :class:`gsnn.training.baselines.RidgeBaseline` finds on complete readouts, in three passes over the file.

    The first takes the means, the second the (I, I) and (I, O) sums of products around them, whose eigenvectors V and
    eigenvalues :math:`s^2` give the weights for every alpha; the third the exact leave-one-out errors, with the
    leverage :math:`1/M + \sum_k (x V)_k^2 / (s_k^2 + \alpha)`.

    Args:
        train: The training part.

    Returns:
        Weights (I, O) and intercepts (O,), or None and why.
    """
    n_inputs, n_readouts = train.data.graph.I, train.data.graph.O
    if n_inputs > _MAX_INPUTS:
        return None, f"with {n_inputs} inputs its matrices are too large ({_MAX_INPUTS} are allowed)"
    if len(train) < 2:
        return None, "it needs at least 2 training samples"
    moments = ColumnMoments(n_inputs + n_readouts)

    def rows() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for x, y in train.chunks():
            yield x.astype(np.float64), y.astype(np.float64)

    for x, y in rows():
        moments.update(np.concatenate([x, y], axis=1))
        if np.isnan(y).any():
            return None, "readouts are missing in some training samples, each of which would need sums of its own"
    x_mean, y_mean = moments.mean[:n_inputs], moments.mean[n_inputs:]
    gram, cross = np.zeros((n_inputs, n_inputs)), np.zeros((n_inputs, n_readouts))
    for x, y in rows():
        centred = x - x_mean
        gram += centred.T @ centred
        cross += centred.T @ (y - y_mean)
    values, vectors = np.linalg.eigh(gram)
    kept = values > values.max(initial=0.0) * n_inputs * np.finfo(np.float64).eps
    values, vectors = values[kept], vectors[:, kept]
    turned = vectors.T @ cross
    grid = np.sort(ALPHAS)[::-1]  # largest first, so that argmin prefers it
    errors = np.zeros((len(grid), n_readouts))
    slopes = [turned / (values + alpha)[:, None] for alpha in grid]
    shrink = 1 / (values[:, None] + grid)
    for x, y in rows():
        for start in range(0, len(x), _BLOCK):
            block = slice(start, start + _BLOCK)
            scores, target = (x[block] - x_mean) @ vectors, y[block] - y_mean
            rest = np.maximum(1 - scores**2 @ shrink - 1 / len(train), 1e-12)
            for a, slope in enumerate(slopes):
                residual = target - scores @ slope
                residual *= residual
                errors[a] += rest[:, a] ** -2.0 @ residual
    best = errors.argmin(0)
    weights = vectors @ (turned / (values[:, None] + grid[best]))
    return (weights, y_mean - x_mean @ weights), ""
