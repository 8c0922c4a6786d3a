"""Members that predict together, and the errors of their predictions in conditions that they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import DataError
from gsnn.data import PerturbationData, Split, Standardiser
from gsnn.graph import Graph
from gsnn.training.loop import predict as predict_standardised

if TYPE_CHECKING:
    from torch import nn

    from gsnn.training.members import Member


MAKE_MEMBERS = (
    "gsnn train --members 5 gives intervals, where the data are not streamed (with --resume it adds members to a run)"
)
"""How to get intervals."""

LEVEL = 0.9
"""Share of measured responses that an interval holds, unless another one is asked for."""

LEAST_NOISE = 0.1
"""Least share of the mean squared error of a readout that counts as noise, even if members differ by all of it."""


class TrainedRun(Protocol):
    """What an ensemble needs of a run; :class:`gsnn.runs.Run` is one."""

    def data(self) -> PerturbationData:
        """What it was trained on."""

    def split(self) -> Split:
        """Its parts."""

    def standardiser(self) -> Standardiser:
        """Of its responses."""

    def model(self) -> nn.Module:
        """Its model."""

    def members(self) -> list[Member]:
        """Its members."""


@dataclass(frozen=True, eq=False)
class Calibration:
    r"""The errors of the mean of members in conditions that they have not seen.

    A response differs from the mean of m members by what their spread explains and by what it does not: replicates
    differ, and all members miss something. So the variance of the error is modelled as

    .. math:: \sigma_o^2 + s_o^2(x) / m

    with s², the variance of the members' predictions for condition x, and σ², the noise of each readout. The errors in
    units of its root are pooled over all readouts; an interval takes a quantile of them. All is measured on training
    conditions, each predicted by the members that did not have it in their bags (the jackknife+ after bootstrap of
    Kim, Xu and Barber, 2020, studentised).

    Attributes:
        noise: (O,) σ², of standardised responses; NaN for a readout that was never measured.
        ratios: Absolute errors in units of the uncalibrated standard deviation.
    """

    noise: FloatArray
    ratios: FloatArray

    def raw(self, spread: FloatArray, members: int, measured: int = 1) -> FloatArray:
        """Uncalibrated standard deviations.

        Args:
            spread: (..., O) variances s² of what members predict.
            members: How many there are.
            measured: Number of independent responses: 1, or 2 for the difference of two.
        """
        return np.sqrt(measured * self.noise + spread / members)

    @property
    def scale(self) -> float:
        """Calibrated over uncalibrated standard deviation: the root mean square of the ratios."""
        return float(np.sqrt(np.mean(self.ratios**2)))

    def quantile(self, level: float) -> float:
        """Half of the interval that is to hold this share of the responses, over the uncalibrated deviation."""
        return float(np.quantile(self.ratios, level))


def calibrate(predictions: FloatArray, times: IntArray, y: FloatArray) -> Calibration:
    """Measure the errors of members in the conditions that were out of their bags.

    Args:
        predictions: (K, M, O) predictions of each member for the training samples.
        times: (K, M) how often each member was trained on each of them.
        y: (M, O) standardised responses, NaN where nothing was measured.

    Raises:
        DataError: If no response was measured that a member has not seen.
    """
    out = times == 0
    m = out.sum(axis=0)[:, None]
    weight = out[:, :, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (predictions * weight).sum(axis=0) / m
        spread = (weight * (predictions - np.where(m, mean, 0)) ** 2).sum(axis=0) / (m - 1)
    error = y - np.where(m, mean, np.nan)
    # A single member has no spread; the mean of the others stands in.
    spread[m[:, 0] < 2] = spread[m[:, 0] > 1].mean(axis=0) if (m > 1).any() else predictions.var(axis=0, ddof=1).mean(0)
    share = spread / np.maximum(m, 1)
    seen = np.isfinite(error)
    n = np.maximum(seen.sum(axis=0), 1)
    square, explained = (np.where(seen, part, 0).sum(axis=0) / n for part in (error**2, share))
    noise = np.where(seen.any(axis=0), np.maximum(square - explained, LEAST_NOISE * square), np.nan)
    variance = noise + share
    rated = seen & (variance > 0)
    if not rated.any():
        raise DataError("no response was measured in a condition that a member has not seen; train more members")
    return Calibration(noise, np.abs(error[rated]) / np.sqrt(variance[rated]))


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A model and its members, which predict together.

    Attributes:
        graph: Their graph.
        model: Trained on all conditions of the training part.
        members: K models, each trained on a bootstrap of them; none for a run without members.
        standardiser: Of the responses.
        x: (M, I) the training inputs.
        y: (M, O) the training responses in the data's units, NaN where nothing was measured.
        times: (K, M) how often each member was trained on each of them.
    """

    graph: Graph
    model: nn.Module
    members: Sequence[nn.Module]
    standardiser: Standardiser
    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    times: IntArray

    @classmethod
    def of(cls, run: TrainedRun) -> Ensemble:
        """The model of a run and its members, with their last weights, which usually predict better than early ones.

        Raises:
            RunError: If training is not complete, or the data cannot be read again.
        """
        data, members, train = run.data(), run.members(), run.split().train
        return cls(
            data.graph,
            run.model(),
            [member.model for member in members],
            run.standardiser(),
            data.x[train],
            data.y[train],
            np.array([member.times for member in members], np.int64).reshape(len(members), len(train)),
        )

    def __post_init__(self) -> None:
        if len(self.members) == 1:
            raise DataError("an ensemble needs at least two members, or none")
        if self.times.shape != (len(self.members), len(self.x)):
            raise DataError(f"times must have shape {(len(self.members), len(self.x))}, got {self.times.shape}")

    def predict(self, x: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray | None]:
        """Standardised predictions for inputs (B, I), and their uncalibrated standard deviations.

        The prediction is the mean of two: that of the model, and the mean of the members. It has the lowest error on
        most problems of ``benchmarks/members.py``.

        Returns:
            (B, O) each; None instead of the latter without members.
        """
        alone = predict_standardised(self.model, x)
        if self.calibration is None:
            return alone, None
        each = np.stack([predict_standardised(member, x) for member in self.members])
        return (alone + each.mean(axis=0)) / 2, self.calibration.raw(each.var(axis=0, ddof=1), len(each))

    @cached_property
    def calibration(self) -> Calibration | None:
        """From the conditions that were out of the bags; None without members."""
        if not self.members:
            return None
        y = np.asarray(self.standardiser.transform(self.y), dtype=np.float64)
        return calibrate(np.stack([predict_standardised(member, self.x) for member in self.members]), self.times, y)
