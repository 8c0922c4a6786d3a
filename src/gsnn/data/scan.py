"""One pass over the data: the samples of each part, the scale of the readouts, and warnings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import DataError
from gsnn.data.parts import Part
from gsnn.data.perturbation import PerturbationData
from gsnn.data.sanity import odd_network, odd_samples
from gsnn.data.split import MIN_SAMPLES, PARTS, TRAIN, UNUSED, Codes, Split
from gsnn.data.standardiser import ColumnMoments, Standardiser, odd_columns
from gsnn.data.stream import StreamedData
from gsnn.io.text import counted


@dataclass(frozen=True, eq=False)
class Scan:
    """The result of one pass over the data.

    Attributes:
        data: The data.
        codes: (M,) the part of each sample.
        counts: (S, 4) samples of each part in each stretch; the last column counts those left out.
        standardiser: From the training part.
        observed: (4,) whether each part has a measured readout that training has seen.
        warnings: What a user should know.
    """

    data: PerturbationData | StreamedData
    codes: Codes
    counts: npt.NDArray[np.int64]
    standardiser: Standardiser
    observed: npt.NDArray[np.bool_]
    warnings: list[str]

    def part(self, name: str) -> Part:
        """The samples of ``train``, ``validation`` or ``test``."""
        code = PARTS.index(name)
        counts, observed = self.counts[:, code], bool(self.observed[code])
        return Part(self.data, self.codes, code, self.standardiser, counts, observed)


def scan(data: PerturbationData | StreamedData, split: Split) -> Scan:
    """Count the samples and fit the standardiser, in one pass.

    Raises:
        ValueError: If the split does not fit these samples.
        DataError: If there is nothing to train on.
    """
    graph = data.graph
    everything = split.codes(len(data))
    counts = np.zeros((len(data.stretches()), UNUSED + 1), np.int64)
    train, readouts, inputs = ColumnMoments(graph.O), ColumnMoments(graph.O), ColumnMoments(graph.I)
    seen = np.zeros((UNUSED + 1, graph.O), bool)
    unmeasured = untreated = 0
    for number, codes, x, y in data.chunks(everything):
        counts[number] += np.bincount(codes, minlength=UNUSED + 1)
        # In a stream, samples without a measurement are in no part.
        lost = (codes == UNUSED) & np.isnan(y).all(1)
        unmeasured += int(lost.sum())
        untreated += int((x[~lost] == 0).all(axis=1).sum())
        train.update(y[codes == TRAIN])
        readouts.update(y)
        inputs.update(x[~lost])
        for code in range(UNUSED):
            seen[code] |= (~np.isnan(y[codes == code])).any(0)
    total = int(counts[:, :UNUSED].sum())
    if total < MIN_SAMPLES or not counts[:, TRAIN].sum():
        name = data.responses.name if isinstance(data, StreamedData) else "the data"
        raise DataError(
            f"{name} holds {counted(total, 'usable sample')}, {counts[:, TRAIN].sum()} of them to train on; at least "
            f"{MIN_SAMPLES} are needed, one each to train, validate and test"
        )
    standardiser = Standardiser.from_moments(train)
    unseen = train.count == 0
    if unseen.all():
        raise DataError("no readout was measured in any training sample; there is nothing to learn from")
    also = (
        ", or with a treatment that was dropped," if isinstance(data, StreamedData) and data.responses.dropped else ""
    )
    warnings = [f"{counted(unmeasured, 'sample')} without any measured readout{also} left out"] if unmeasured else []
    warnings += odd_columns(graph, inputs, readouts)
    flat = [graph.outputs[i] for i in np.flatnonzero(readouts.constant & (readouts.count > 1))]
    warnings += odd_samples(untreated, len(data) - unmeasured, flat) + odd_network(graph)
    absent = [graph.outputs[i] for i in np.flatnonzero(unseen & (readouts.count > 0))]
    if absent:
        warnings.append(f"measured in no training sample and left out of all figures: {', '.join(absent)}")
    observed = np.asarray(np.logical_and(seen, ~unseen).any(axis=1))
    return Scan(data, everything, counts, standardiser, observed, warnings)
