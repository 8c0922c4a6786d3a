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
    """What a part asks of its data."""

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
        data: Where they are read from.
        codes: (M,) the part of each sample; None takes all samples.
        code: Which part this is.
        standardiser: What the readouts are brought to one scale by.
        counts: (S,) samples of the part in each stretch; None if they were not counted.
        observed: Whether any of them has a measured readout that training has seen.
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
            mine = codes == self.code
            if mine.any():
                yield x[mine], self.standardiser.transform(y[mine]).astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[Pair]:
        return self.chunks()

    def __len__(self) -> int:
        if self.counts is None:
            raise TypeError("the samples of this part were not counted")
        return int(self.counts.sum())

    def whole(self) -> Pair:
        """All of them at once."""
        graph = self.data.graph
        found = np.empty((0, graph.I), np.float32), np.empty((0, graph.O), np.float32)
        for chunk in self.chunks():
            found = joined_pairs(found, chunk)
        return found


class Rebatched:
    """Samples of a part in the order of the file, in batches of one size; may be gone through again and again.

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
