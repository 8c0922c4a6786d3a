"""Perturbation data that stay in their file; public as part of :mod:`gsnn.data.perturbation`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from gsnn.base.errors import DataError, unknown_option
from gsnn.base.memory import trim_freed_memory
from gsnn.data.matching import count_dropped, match
from gsnn.data.split import N_KEYS, PARTS, UNUSED, Codes, FloatArray, Keys, StreamedSplit, condition_keys, sample_keys
from gsnn.data.standardiser import Standardiser
from gsnn.graph import Graph
from gsnn.io import Network
from gsnn.io.stream import StreamedResponses
from gsnn.io.text import counted

if TYPE_CHECKING:
    from torch import Tensor


BUFFER_BYTES = 256 * 2**20
# Bytes of samples that are read between two times that freed memory is given back.
_TRIMMED_EVERY = 32 * 2**20
# Up to so many distinct conditions the shares of a split are exact, as they are in memory.
EXACT = 100_000
_MIN_CONDITIONS, _MIN_SAMPLES = 5, 3


@dataclass(frozen=True, eq=False)
class StreamedData:
    """What :class:`gsnn.data.PerturbationData` is, for samples that stay in their file; made by :func:`stream_data`.

    Attributes:
        graph: The prior network with an input per treatment and an output per readout.
        responses: Where the samples are read from; its columns are those of ``graph.inputs`` and ``graph.outputs``.
        warnings: What a user should know: about the files, the match, and the graph.
        buffer_bytes: How much of the samples, in single precision, training may hold at a time.
    """

    graph: Graph
    responses: StreamedResponses
    warnings: list[str] = field(default_factory=list)
    buffer_bytes: int = BUFFER_BYTES

    def __len__(self) -> int:
        return len(self.responses)

    @property
    def buffer_rows(self) -> int:
        """Samples that ``buffer_bytes`` hold."""
        return max(1, self.buffer_bytes // (4 * (self.graph.I + self.graph.O)))

    def chunks(
        self, split: StreamedSplit | None = None, stretches: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Codes, FloatArray, FloatArray]]:
        """The samples of some stretches, a chunk at a time.

        Args:
            split: Tells the parts; None puts all samples that can be used into the first one.
            stretches: Which, by number; None for all.

        Yields:
            Number of the stretch, part of each sample (B,) as :meth:`StreamedSplit.codes_of` has it, 3 also where
            nothing was measured; treatments (B, I), readouts (B, O).
        """
        places = self.responses.stretches()
        passed = 0
        for number in range(len(places)) if stretches is None else stretches:
            start, stop = places[number]
            passed += 4 * (stop - start) * (self.graph.I + self.graph.O)
            if passed > _TRIMMED_EVERY:
                # Freed chunks of many sizes leave holes in the heap, which would grow with the samples.
                trim_freed_memory()
                passed = 0
            for x, y in self.responses.read(start, stop):
                codes = np.zeros(len(x), np.int8) if split is None else split.codes_of(x, start)
                yield number, np.where(np.isnan(y).all(1), np.int8(UNUSED), codes), x, y
                start += len(x)

    def batches(
        self,
        standardiser: Standardiser,
        batch_size: int = 256,
        *,
        split: StreamedSplit | None = None,
        part: str = "train",
    ) -> Iterable[tuple[Tensor, Tensor]]:
        """Samples in the order of the file, for ``fit`` of an inferer; may be gone through again and again.

        Args:
            standardiser: Brings the readouts to one scale.
            batch_size: Samples in a batch; the last one may have fewer.
            split: Tells the parts; None takes all samples.
            part: ``"train"``, ``"validation"`` or ``"test"`` of a split.

        Returns:
            Pairs of treatments (B, I) and readouts (B, O), float32.

        Raises:
            ValueError: If there is no such part, or ``batch_size`` is below 1.
        """
        if part not in PARTS:
            raise unknown_option("part", part, PARTS)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        return Rebatched(StreamedPart(self, split, 0 if split is None else PARTS.index(part), standardiser), batch_size)

    def split(self, seed: int = 0, test: float = 0.2, validation: float = 0.1) -> StreamedSplit:
        """Set conditions aside, in one pass over the treatments.

        The shares are shares of the distinct rows, rounded, at least one each; above 100,000 distinct rows each is in
        a part with that probability instead. The draw is another one than that of data in memory.

        Args:
            seed: Fixes the draw.
            test: Share for the test, in [0, 1); 0 leaves the part empty.
            validation: Share for the validation, likewise.

        Returns:
            The rule.

        Raises:
            ValueError: If a share is out of range or nothing is left to train on.

        Example:
            >>> from gsnn.io import ArrayResponses, Network
            >>> x, y = np.repeat(np.arange(10.0), 3)[:, None], np.ones((30, 1))
            >>> responses = ArrayResponses(x, y, treatments=["a"], readouts=["b"])
            >>> data = stream_data(Network.from_edges([("a", "b")]), responses)
            >>> np.bincount(np.concatenate([codes for _, codes, _, _ in data.chunks(data.split(seed=1))])).tolist()
            [21, 3, 6]
        """
        for name, share in (("test", test), ("validation", validation)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} must be a share in [0, 1), got {share}")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed must be an integer of at least 0 where the data are streamed, got {seed!r}")
        keys, by, warnings = self._distinct(int(seed)), "condition", []
        if keys is not None and len(keys) < _MIN_CONDITIONS:
            warnings.append(
                f"only {counted(len(keys), 'distinct treatment row')}: split by sample, so the test shows how well "
                "repeats are predicted, not new conditions"
            )
            by = "sample"
            keys = np.sort(sample_keys(0, len(self), int(seed))) if len(self) <= EXACT else None
        if keys is None:
            bounds = int(test * N_KEYS), int((test + validation) * N_KEYS)
            lost = test + validation >= 1
        else:
            n = len(keys)
            n_test, n_validation = (max(1, int(np.floor(s * n + 0.5))) if s else 0 for s in (test, validation))
            lost = n_test + n_validation >= n
            bounds = (0, 0) if lost else (int(keys[n_test]), int(keys[n_test + n_validation]))
            bounds = (bounds[0] if n_test else 0, bounds[1] if n_test + n_validation else 0)
        if lost:
            what = "samples" if by == "sample" else "conditions"
            raise ValueError(
                f"test={test} and validation={validation} of {len(self) if keys is None else len(keys)} {what} "
                "leave nothing to train on; lower them"
            )
        return StreamedSplit(by, int(seed), bounds, warnings=warnings)

    def _distinct(self, seed: int) -> Keys | None:
        """Sorted keys of the conditions, or None where there are too many to keep."""
        found: Keys = np.zeros(0, np.uint64)
        for start, stop in self.responses.stretches():
            for x, _ in self.responses.read(start, stop, readouts=False):
                found = np.union1d(found, condition_keys(x, seed))
                if len(found) > EXACT:
                    return None
        return found

    def digest(self) -> str:
        """Hex digest of the samples as they will be read: the files, the columns, and what the order depends on."""
        described = {
            "files": self.responses.digests(),
            "treatments": self.responses.treatments,
            "readouts": self.responses.readouts,
            "stretches": hashlib.sha256(repr(self.responses.stretches()).encode()).hexdigest(),
            "buffer": self.buffer_bytes,
        }
        if self.responses.dropped:
            described["dropped"] = self.responses.dropped
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        """The counts on one line."""
        return (
            f"{counted(len(self), 'sample')}, streamed, {counted(self.graph.I, 'input')}, "
            f"{counted(self.graph.N, 'function')}, {counted(self.graph.O, 'output')}"
        )


@dataclass(frozen=True, eq=False)
class StreamedPart:
    """The samples of one part, with standardised readouts.

    Attributes:
        data: Where they are read from.
        split: Tells the parts; None takes all samples.
        code: Which part: 0 train, 1 validation, 2 test.
        standardiser: What the readouts are brought to one scale by.
        counts: (S,) samples of the part in each stretch; None if they were not counted.
        observed: Whether any of them has a measured readout that training has seen.
    """

    data: StreamedData
    split: StreamedSplit | None
    code: int
    standardiser: Standardiser
    counts: npt.NDArray[np.int64] | None = None
    observed: bool = True

    def chunks(self, stretches: Sequence[int] | None = None) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Treatments (B, I) and standardised readouts (B, O) of some stretches; all, if None."""
        for _, codes, x, y in self.data.chunks(self.split, stretches):
            mine = codes == self.code
            if mine.any():
                yield x[mine], self.standardiser.transform(y[mine]).astype(np.float32, copy=False)

    def __len__(self) -> int:
        if self.counts is None:
            raise TypeError("the samples of this part were not counted")
        return int(self.counts.sum())


def stream_data(
    network: Network,
    responses: StreamedResponses,
    *,
    on_unmatched: str = "error",
    ignore_case: bool = False,
    buffer_bytes: int = BUFFER_BYTES,
) -> StreamedData:
    """Put responses that stay in their file on a prior network, by the rules of :func:`gsnn.data.build_data`.

    Only the columns that the network has are read. Samples without any measured readout are left out when they come.

    Args:
        network: The prior network.
        responses: Treatments and readouts; its columns are reduced to those that are kept.
        on_unmatched: What to do with treatments and readouts that are no species: ``"error"``, or ``"drop"`` them
            with a warning. With a treatment go the samples to which it was applied.
        ignore_case: As for :func:`gsnn.data.build_data`.
        buffer_bytes: How much of the samples training may hold, and shuffle, at a time.

    Returns:
        The data.

    Raises:
        DataError: If identifiers do not match, or there are fewer than 3 samples.

    Example:
        >>> from gsnn.io import ArrayResponses, Network
        >>> responses = ArrayResponses(np.eye(4, 3), np.ones((4, 1)), treatments=["a", "x", "b"], readouts=["b"])
        >>> data = stream_data(Network.from_edges([("a", "b")]), responses, on_unmatched="drop")
        >>> data.graph.inputs, data.warnings[0]
        (('TR:a', 'TR:b'), "not in the network and left out: 1 of 3 treatments ('x')")
    """
    if isinstance(buffer_bytes, bool) or not isinstance(buffer_bytes, int) or buffer_bytes < 1:
        raise ValueError(f"buffer_bytes must be a number of bytes, at least 1, got {buffer_bytes!r}")
    if not isinstance(responses, StreamedResponses):
        raise TypeError(
            f"responses must come from gsnn.io.stream_responses, got {type(responses).__name__}; build_data takes "
            "tables in memory"
        )
    matched = match(network, responses, on_unmatched, responses.treatments, responses.readouts, ignore_case=ignore_case)
    if len(responses) < _MIN_SAMPLES:
        raise DataError(
            f"{responses.name} holds {counted(len(responses), 'sample')}; at least {_MIN_SAMPLES} are needed, one each "
            "to train, validate and test"
        )
    warnings = list(matched.warnings)
    responses.keep(matched.treatments, matched.readouts, matched.dropped)
    if responses.dropped:
        left = sum(len(x) for a, b in responses.stretches() for x, _ in responses.read(a, b, readouts=False))
        told = count_dropped(len(responses) - left, responses.dropped)
        if left < _MIN_SAMPLES:
            raise DataError(f"{responses.name}: {told}; {counted(left, 'sample')} of {len(responses)} are left, and at "
                            f"least {_MIN_SAMPLES} are needed")  # fmt: skip
        warnings.append(told)
    graph = matched.graph(warnings)
    warnings += graph.summary().warnings
    data = StreamedData(graph, responses, warnings, buffer_bytes)
    largest = max(stop - start for start, stop in responses.stretches())
    if largest > data.buffer_rows:
        warnings.append(
            f"the file has stretches of up to {largest} samples that must be read in order, and the buffer holds "
            f"{data.buffer_rows}: samples that stand near each other will be trained on together; write the file in "
            f"smaller row groups (row_group_size={max(1, min(10_000, data.buffer_rows // 8))}), or shuffled"
        )
    return data


Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


class Rebatched:
    """Samples of a part in the order of the file, in batches of one size; may be gone through again and again.

    Args:
        part: The samples; they need not have been counted.
        batch_size: Rows of a batch; the last one may have fewer.
    """

    def __init__(self, part: StreamedPart, batch_size: int) -> None:
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
