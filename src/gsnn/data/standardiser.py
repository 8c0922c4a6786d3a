"""Targets on one scale, missing values left missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gsnn.io.text import counted, listed

if TYPE_CHECKING:
    from gsnn.graph import Graph

FloatArray = npt.NDArray[np.floating[Any]]

_BLOCK = 1024  # rows that stay in the cache


class ColumnMoments:
    r"""Count, mean and sum of squared deviations of columns with gaps, from chunks of rows.

    Chunks are joined by the update of Chan, Golub and LeVeque (1979),
    :math:`S = S_a + S_b + (\bar x_b - \bar x_a)^2 n_a n_b / (n_a + n_b)`, in float64.

    Attributes:
        count: (K,) observed values.
        squares: (K,) sums of squared deviations from the mean.
        low: (K,) smallest value, infinity where there is none.
        high: (K,) largest value likewise.

    Example:
        >>> moments = ColumnMoments(1)
        >>> for chunk in ([[1.0], [3.0]], [[np.nan], [5.0]]):
        ...     moments.update(np.array(chunk))
        >>> moments.count.tolist(), moments.mean.tolist(), moments.squares.tolist()
        ([3], [3.0], [8.0])
    """

    def __init__(self, n_columns: int) -> None:
        self.count = np.zeros(n_columns, np.int64)
        self._mean, self.squares = np.zeros(n_columns), np.zeros(n_columns)
        self.low, self.high = np.full(n_columns, np.inf), np.full(n_columns, -np.inf)

    def update(self, values: FloatArray) -> None:
        """Add rows; NaN is a gap.

        Args:
            values: (B, K).
        """
        for start in range(0, len(values), _BLOCK):
            self._add(np.array(values[start : start + _BLOCK], dtype=np.float64))

    def _add(self, values: npt.NDArray[np.float64]) -> None:
        """Add a block; the array is overwritten."""
        self.low = np.fmin(self.low, np.fmin.reduce(values, axis=0))
        self.high = np.fmax(self.high, np.fmax.reduce(values, axis=0))
        gaps = np.isnan(values)
        some = bool(gaps.any())
        n = len(values) - gaps.sum(0)
        n_or_1 = np.maximum(n, 1)
        mean = np.zeros(len(n))
        for _ in range(2):  # the second pass corrects the rounding of the first
            if some:
                values[gaps] = 0.0
            step = values.sum(0) / n_or_1
            values -= step
            mean += step
        if some:
            values[gaps] = 0.0
        squares = np.einsum("ij,ij->j", values, values)
        total = self.count + n
        share = n / np.maximum(total, 1)
        step = mean - self._mean
        self.squares += squares + step**2 * self.count * share
        self._mean += step * share
        self.count = total

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """(K,) means, NaN where there are none."""
        return np.where(self.constant, self.low, np.where(self.count > 0, self._mean, np.nan))

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """(K,) whether a column has values and all are the same."""
        return self.low == self.high


def odd_columns(graph: Graph, inputs: ColumnMoments, outputs: ColumnMoments) -> list[str]:
    """Warnings about inputs that never change, and outputs that were never measured or never change."""
    notes = (
        (graph.inputs, inputs.constant, "input", "the same in every sample, so that nothing can be learnt about it"),
        (graph.outputs, outputs.count == 0, "output", "never measured"),
        (graph.outputs, outputs.constant, "output", "the same wherever it was measured"),
    )
    odd = [([nodes[i] for i in np.flatnonzero(mask)], kind, what) for nodes, mask, kind, what in notes]
    return [f"{counted(len(names), kind)} {what}: {listed(names)}" for names, kind, what in odd if names]


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Subtracts a mean and divides by a scale, per column; missing values stay missing.

    Attributes:
        mean: (O,), NaN for a column without any value.
        scale: (O,), the unbiased standard deviation + 1e-8. A column that never varies gets 1 instead of 1e-8, so
            that a new value does not become a hundred million; a column without values gets NaN.

    Example:
        >>> standardiser = Standardiser.fit(np.array([[1.0, 5.0], [3.0, np.nan], [np.nan, 5.0]]))
        >>> standardiser.transform(np.array([[3.0, 6.0]])).round(4)
        array([[0.7071, 1. ]])
    """

    mean: FloatArray
    scale: FloatArray

    def __post_init__(self) -> None:
        if np.shape(self.mean) != np.shape(self.scale) or np.ndim(self.mean) != 1:
            raise ValueError(
                f"mean and scale must be vectors of one length, got shapes {np.shape(self.mean)} and "
                f"{np.shape(self.scale)}"
            )

    @classmethod
    def fit(cls, y: npt.ArrayLike) -> Standardiser:
        """Take mean and scale from training targets.

        Args:
            y: (M, O), NaN where missing.

        Raises:
            ValueError: If ``y`` is not a matrix.
        """
        values = np.asarray(y, dtype=np.float64)
        if values.ndim != 2:
            raise ValueError(f"y must have shape (M, O), got {values.shape}; reshape a single target to (M, 1)")
        moments = ColumnMoments(values.shape[1])
        moments.update(values)
        return cls.from_moments(moments)

    @classmethod
    def from_moments(cls, moments: ColumnMoments) -> Standardiser:
        """Take mean and scale from the moments of training targets."""
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = np.sqrt(moments.squares / (moments.count - 1)) + 1e-8
        return cls(moments.mean, np.where(moments.constant, 1.0, np.where(moments.count == 0, np.nan, scale)))

    def transform(self, y: npt.ArrayLike) -> FloatArray:
        """Standardise targets.

        Args:
            y: (..., O).

        Returns:
            (y - mean) / scale, in the floating type of ``y`` (float64 for integers).
        """
        return self._apply(y, lambda v: (v - self.mean) / self.scale)

    def inverse_transform(self, y: npt.ArrayLike) -> FloatArray:
        """Bring standardised values, such as predictions, back to the units of the data.

        Args:
            y: (..., O).

        Returns:
            y * scale + mean.
        """
        return self._apply(y, lambda v: v * self.scale + self.mean)

    def to_dict(self) -> dict[str, list[float | None]]:
        """Mean and scale as JSON-able lists, None for NaN.

        Example:
            >>> Standardiser(np.array([1.0, np.nan]), np.array([2.0, np.nan])).to_dict()
            {'mean': [1.0, None], 'scale': [2.0, None]}
        """
        return {
            name: [None if np.isnan(v) else float(v) for v in values]
            for name, values in (("mean", self.mean), ("scale", self.scale))
        }

    @classmethod
    def from_dict(cls, values: dict[str, Sequence[float | None]]) -> Standardiser:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: If ``mean`` or ``scale`` is missing.
        """
        if not {"mean", "scale"} <= set(values):
            raise ValueError(f"a standardiser needs 'mean' and 'scale', got {listed(values)}")
        mean, scale = (
            np.array([np.nan if v is None else v for v in values[name]], dtype=np.float64) for name in ("mean", "scale")
        )
        return cls(mean, scale)

    def _apply(self, y: npt.ArrayLike, change: Callable[[FloatArray], FloatArray]) -> FloatArray:
        values = np.asarray(y)
        if values.ndim == 0 or values.shape[-1] != len(self.mean):
            raise ValueError(f"y must have {len(self.mean)} columns, got shape {values.shape}")
        dtype = values.dtype if np.issubdtype(values.dtype, np.floating) else np.dtype(np.float64)
        result: FloatArray = change(values.astype(np.float64)).astype(dtype)
        return result


def standardise(y_train: npt.ArrayLike, *others: npt.ArrayLike) -> tuple[FloatArray, ...]:
    """Standardise targets with the mean and unbiased standard deviation (+ 1e-8) of the training targets.

    Args:
        y_train: (M, O), NaN where missing.
        *others: Further (M', O) targets, brought to the same scale.

    Returns:
        ``y_train`` and the others, standardised.

    Example:
        >>> train, test = standardise(np.array([[0.0], [2.0]]), np.array([[1.0]]))
        >>> train.round(4).ravel().tolist(), test.ravel().tolist()
        ([-0.7071, 0.7071], [0.0])
    """
    standardiser = Standardiser.fit(y_train)
    return tuple(standardiser.transform(y) for y in (y_train, *others))
