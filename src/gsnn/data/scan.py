"""One pass over streamed data: how many samples each part has, and the scale of the readouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import DataError
from gsnn.data.matching import odd_columns
from gsnn.data.sanity import odd_network, odd_samples
from gsnn.data.split import PARTS, TRAIN, UNUSED, StreamedSplit
from gsnn.data.standardiser import Standardiser
from gsnn.data.stream import StreamedData, StreamedPart
from gsnn.io.text import counted

_BLOCK = 1024  # rows that stay in the cache
FloatArray = npt.NDArray[np.floating[Any]]


class ColumnMoments:
    r"""Count, mean and sum of squared deviations of columns with gaps, from chunks of rows.

    Chunks are joined by the update of Chan, Golub and LeVeque (1979),
    :math:`S = S_a + S_b + (\bar x_b - \bar x_a)^2 n_a n_b / (n_a + n_b)`, in float64.

    Attributes:
        count: (K,) observed values.
        mean: (K,), 0 where there are none.
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
        self.mean, self.squares = np.zeros(n_columns), np.zeros(n_columns)
        self.low, self.high = np.full(n_columns, np.inf), np.full(n_columns, -np.inf)

    def update(self, values: FloatArray) -> None:
        """Add rows; NaN is a gap.

        Args:
            values: (B, K).
        """
        for start in range(0, len(values), _BLOCK):
            self._add(np.array(values[start : start + _BLOCK], dtype=np.float64))

    def _add(self, values: npt.NDArray[np.float64]) -> None:
        """Add a block, which is overwritten."""
        self.low = np.fmin(self.low, np.fmin.reduce(values, axis=0))
        self.high = np.fmax(self.high, np.fmax.reduce(values, axis=0))
        gaps = np.isnan(values)
        some = bool(gaps.any())
        n = len(values) - gaps.sum(0)
        n_or_1 = np.maximum(n, 1)
        mean = np.zeros(len(n))
        for _ in range(2):  # the first pass rounds; the residuals say by how much
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
        step = mean - self.mean
        self.squares += squares + step**2 * self.count * share
        self.mean += step * share
        self.count = total

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """(K,) whether a column has values and all are the same."""
        return self.low == self.high

    def standardiser(self) -> Standardiser:
        """Mean and scale as :meth:`gsnn.data.Standardiser.fit` defines them."""
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = np.sqrt(self.squares / (self.count - 1)) + 1e-8
        none = self.count == 0
        scale = np.where(self.constant, 1.0, np.where(none, np.nan, scale))
        return Standardiser(np.where(self.constant, self.low, np.where(none, np.nan, self.mean)), scale)


@dataclass(frozen=True, eq=False)
class Scan:
    """What one pass over the data found.

    Attributes:
        data: The data.
        split: How they were cut up.
        counts: (S, 4) samples of each part in each stretch; the last column counts those left out.
        standardiser: From the training part.
        observed: (4,) whether a part has a measured readout that training has seen.
        warnings: What a user should know.
    """

    data: StreamedData
    split: StreamedSplit
    counts: npt.NDArray[np.int64]
    standardiser: Standardiser
    observed: npt.NDArray[np.bool_]
    warnings: list[str]

    def part(self, name: str) -> StreamedPart:
        """The samples of ``train``, ``validation`` or ``test``."""
        code = PARTS.index(name)
        return StreamedPart(
            self.data, self.split, code, self.standardiser, self.counts[:, code], bool(self.observed[code])
        )


def scan(data: StreamedData, split: StreamedSplit) -> Scan:
    """Count the samples and fit the standardiser, in one pass.

    Args:
        data: The data.
        split: The parts.

    Returns:
        What was found.

    Raises:
        DataError: If nothing can be trained on.
    """
    graph = data.graph
    counts = np.zeros((len(data.responses.stretches()), UNUSED + 1), np.int64)
    train, everything, inputs = ColumnMoments(graph.O), ColumnMoments(graph.O), ColumnMoments(graph.I)
    seen = np.zeros((UNUSED + 1, graph.O), bool)
    unmeasured = untreated = 0
    for number, codes, x, y in data.chunks(split):
        counts[number] += np.bincount(codes, minlength=UNUSED + 1)
        used = ~np.isnan(y).all(1)
        unmeasured += int((~used).sum())
        untreated += int((x[used] == 0).all(axis=1).sum())
        train.update(y[codes == TRAIN])
        everything.update(y)
        inputs.update(x[used])
        for code in range(UNUSED):
            seen[code] |= (~np.isnan(y[codes == code])).any(0)
    total = int(counts[:, :UNUSED].sum())
    if total < 3 or not counts[:, TRAIN].sum():
        raise DataError(
            f"{data.responses.name} holds {counted(total, 'usable sample')}, {counts[:, TRAIN].sum()} of them to train "
            "on; at least 3 are needed, one each to train, validate and test"
        )
    standardiser = train.standardiser()
    unseen = np.isnan(standardiser.mean)
    also = ", or with a treatment that was dropped," if data.responses.dropped else ""
    warnings = [f"{counted(unmeasured, 'sample')} without any measured readout{also} left out"] if unmeasured else []

    def names(nodes: tuple[str, ...], chosen: npt.NDArray[np.bool_]) -> list[str]:
        return [nodes[i] for i in np.flatnonzero(chosen)]

    none = everything.count == 0
    warnings += odd_columns(
        names(graph.inputs, inputs.constant), names(graph.outputs, none), names(graph.outputs, everything.constant)
    )
    flat = names(graph.outputs, everything.constant & (everything.count > 1))
    warnings += odd_samples(untreated, total, flat) + odd_network(graph)
    lost = names(graph.outputs, unseen & ~none)
    if lost:
        warnings.append(f"measured in no training sample and left out of all figures: {', '.join(lost)}")
    observed = np.asarray(np.logical_and(seen, ~unseen).any(axis=1))
    return Scan(data, split, counts, standardiser, observed, warnings)
