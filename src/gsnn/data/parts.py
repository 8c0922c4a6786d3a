"""The samples of one part of a split, a chunk at a time; data in memory are one chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gsnn.data.split import Codes, SampleArray
from gsnn.data.standardiser import Standardiser
from gsnn.graph import Graph

Pair = tuple[SampleArray, SampleArray]


class Chunked(Protocol):
    """The interface of data that a part reads."""

    @property
    def graph(self) -> Graph:
        """The network."""

    @property
    def buffer_rows(self) -> int:
        """Samples that may be held at a time."""

    def chunks(
        self, codes: Codes | None = None, stretches: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Codes, SampleArray, SampleArray]]:
        """The samples of some stretches, a chunk at a time."""


@dataclass(frozen=True, eq=False)
class Part:
    """The samples of one part, with standardised readouts.

    Attributes:
        data: The data with the samples.
        codes: (M,) the part of each sample; None takes all samples.
        code: The code of this part.
        standardiser: Standardises the readouts.
        counts: (S,) samples of the part in each stretch; None if they were not counted.
        observed: Whether a sample has a measured readout that training has seen.
    """

    data: Chunked
    codes: Codes | None
    code: int
    standardiser: Standardiser
    counts: npt.NDArray[np.int64] | None = None
    observed: bool = True

    def chunks(self, stretches: Sequence[int] | None = None) -> Iterator[Pair]:
        """Treatments (B, I) and standardised readouts (B, O) of some stretches; all, if None."""
        for _, codes, x, y in self.data.chunks(self.codes, stretches):
            rows = codes == self.code
            if rows.any():
                yield x[rows], self.standardiser.transform(y[rows]).astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[Pair]:
        return self.chunks()

    def __len__(self) -> int:
        if self.counts is None:
            raise TypeError("the samples of this part were not counted")
        return int(self.counts.sum())

    def whole(self) -> Pair:
        """All samples at once."""
        graph = self.data.graph
        samples = np.empty((0, graph.I), np.float32), np.empty((0, graph.O), np.float32)
        for chunk in self.chunks():
            samples = joined_pairs(samples, chunk)
        return samples


class Rebatched:
    """Samples of a part in the order of the file, in batches of equal size; can be iterated repeatedly.

    Args:
        part: The samples; they need not have been counted.
        batch_size: Rows of a batch; the last one may have fewer.
    """

    def __init__(self, part: Part, batch_size: int) -> None:
        self.part, self.batch_size = part, batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rest: Pair | None = None
        for chunk in self.part.chunks():
            x, y = joined_pairs(rest, chunk)
            whole = len(x) - len(x) % self.batch_size
            for start in range(0, whole, self.batch_size):
                rows = slice(start, start + self.batch_size)
                yield torch.from_numpy(x[rows]), torch.from_numpy(y[rows])
            rest = x[whole:], y[whole:]
        if rest is not None and len(rest[0]):
            yield torch.from_numpy(rest[0]), torch.from_numpy(rest[1])


def joined_pairs(first: Pair | None, second: Pair) -> Pair:
    """The rows of two chunks as one; the first may be missing."""
    if first is None or not len(first[0]):
        return second
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
