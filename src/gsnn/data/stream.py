"""Perturbation data that are read from their files in stretches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.base.errors import DataError, check_option
from gsnn.base.memory import trim_freed_memory
from gsnn.base.splitmix import mixed
from gsnn.base.wording import asked
from gsnn.data.matching import count_dropped, match
from gsnn.data.parts import Part, Rebatched
from gsnn.data.split import MIN_SAMPLES, PARTS, UNUSED, Codes, SampleArray, Split, conditions, draw_split
from gsnn.data.standardiser import Standardiser
from gsnn.graph import Graph
from gsnn.io import NameMap, Network
from gsnn.io.stream import StreamedResponses
from gsnn.io.text import counted, listed

if TYPE_CHECKING:
    from torch import Tensor

BUFFER_BYTES = 256 * 2**20
# Freed memory is returned to the system each time so many bytes of samples have been read.
_TRIMMED_EVERY = 32 * 2**20
# Groups of conditions from which a split draws if there are too many conditions for the memory.
_GROUPS = 2**16


@dataclass(frozen=True, eq=False)
class StreamedData:
    """Like :class:`gsnn.data.PerturbationData`, for samples that stay in their file; made by :func:`stream_data`.

    Attributes:
        graph: The prior network with an input per treatment and an output per readout.
        responses: The files of the samples; the columns are those of ``graph.inputs`` and ``graph.outputs``.
        warnings: What a user should know: about the files, the match, and the graph.
        buffer_bytes: Size of the samples, in single precision, that training may hold at a time.
    """

    graph: Graph
    responses: StreamedResponses
    warnings: list[str] = field(default_factory=list)
    buffer_bytes: int = BUFFER_BYTES

    def __len__(self) -> int:
        return len(self.responses)

    @property
    def buffer_rows(self) -> int:
        """Number of samples that fit in ``buffer_bytes``."""
        return max(1, self.buffer_bytes // (4 * (self.graph.I + self.graph.O)))

    def stretches(self) -> list[tuple[int, int]]:
        """First row of each stretch of the file, and the row after its last."""
        return self.responses.stretches()

    def chunks(
        self, codes: Codes | None = None, stretches: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Codes, SampleArray, SampleArray]]:
        """The samples of some stretches, a chunk at a time.

        Args:
            codes: (M,) the part of each sample, from :meth:`Split.codes`; None puts all samples into part 0.
            stretches: Numbers of the stretches; None for all.

        Yields:
            Number of the stretch; part of each sample (B,), 3 if nothing was measured; treatments (B, I); readouts
            (B, O).
        """
        places = self.stretches()
        passed = 0
        for number in range(len(places)) if stretches is None else stretches:
            start, stop = places[number]
            passed += 4 * (stop - start) * (self.graph.I + self.graph.O)
            if passed > _TRIMMED_EVERY:
                # Freed chunks of many sizes leave holes in the heap, which would grow with the number of samples.
                trim_freed_memory()
                passed = 0
            for x, y in self.responses.read(start, stop):
                part = np.int8(0) if codes is None else codes[start : start + len(x)]
                yield number, np.where(np.isnan(y).all(1), np.int8(UNUSED), part), x, y
                start += len(x)

    def batches(
        self,
        standardiser: Standardiser,
        batch_size: int = 256,
        *,
        split: Split | None = None,
        part: str = "train",
    ) -> Iterable[tuple[Tensor, Tensor]]:
        """Samples in the order of the file, for ``fit`` of an inferer; can be iterated repeatedly.

        Args:
            standardiser: Standardises the readouts.
            batch_size: Samples in a batch; the last one may have fewer.
            split: The split into parts; None takes all samples.
            part: ``"train"``, ``"validation"`` or ``"test"`` of a split.

        Returns:
            Pairs of treatments (B, I) and readouts (B, O), float32.

        Raises:
            ValueError: If there is no such part, or ``batch_size`` is below 1.
        """
        check_option("part", part, PARTS)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        codes = None if split is None else split.codes(len(self))
        return Rebatched(Part(self, codes, 0 if codes is None else PARTS.index(part), standardiser), batch_size)

    def split(self, seed: int | np.random.Generator = 0, test: float = 0.2, validation: float = 0.1) -> Split:
        """Set conditions aside as :meth:`gsnn.data.PerturbationData.split` does, in one pass over the samples.

        It draws the same parts as for these samples in memory, unless the distinct treatment rows need more than a
        quarter of ``buffer_bytes``; then it draws groups of conditions by a hash of the row.

        Args:
            seed: Seed or generator of the draw.
            test: Share for the test, in [0, 1); 0 leaves the part empty.
            validation: Share for the validation, likewise.

        Returns:
            The three parts; samples without any measured readout are in none.

        Raises:
            ValueError: If a share is out of range or nothing is left to train on.

        Example:
            >>> from gsnn.io import ArrayResponses, Network
            >>> x, y = np.repeat(np.arange(10.0), 3)[:, None], np.ones((30, 1))
            >>> responses = ArrayResponses(x, y, treatments=["a"], readouts=["b"])
            >>> split = stream_data(Network.from_edges([("a", "b")]), responses).split(seed=1)
            >>> len(split.train), len(split.validation), len(split.test)
            (21, 3, 6)
        """
        return draw_split(self._conditions(), seed, test, validation)

    def _conditions(self) -> npt.NDArray[np.int32]:
        """(M,) number of the condition of each sample, in sorted order of the rows; -1 where nothing was measured."""
        number = np.full(len(self), -1, np.int32)
        keys, rows = pd.Index([], dtype=np.uint64), list[SampleArray]()
        kept, start = True, 0
        for _, codes, x, _ in self.chunks():
            used = np.flatnonzero(codes != UNUSED)
            key = _row_keys(x[used])
            if kept:
                new, first = np.unique(key, return_index=True)
                first = first[keys.get_indexer(pd.Index(new)) < 0]
                if len(first):
                    keys = keys.append(pd.Index(key[first]))
                    rows.append(x[used[first]])
                kept = 16 * len(keys) * x.shape[1] <= self.buffer_bytes
                if not kept:
                    group = (keys.to_numpy() % _GROUPS).astype(np.int32)
                    rows, seen = [], number >= 0
                    number[seen] = group[number[seen]]
            number[start + used] = keys.get_indexer(pd.Index(key)) if kept else key % _GROUPS
            start += len(x)
        seen = number >= 0
        if rows:
            distinct = np.concatenate(rows)
            rows.clear()  # they take much memory
            number[seen] = conditions(distinct)[number[seen]]
        elif not kept:  # groups without a sample do not count
            number[seen] = (np.cumsum(np.bincount(number[seen]) > 0) - 1)[number[seen]]
        return number

    def digest(self) -> str:
        """Hex digest of the files, the columns, and what the order of the samples depends on."""
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def __str__(self) -> str:
        """The counts on one line."""
        return (
            f"{counted(len(self), 'sample')}, streamed, {counted(self.graph.I, 'input')}, "
            f"{counted(self.graph.N, 'function')}, {counted(self.graph.O, 'output')}"
        )


def stream_data(
    network: Network,
    responses: StreamedResponses,
    *,
    on_unmatched: str = "error",
    ignore_case: bool = False,
    names: NameMap | None = None,
    buffer_bytes: int = BUFFER_BYTES,
) -> StreamedData:
    """Put streamed responses on a prior network, by the rules of :func:`gsnn.data.build_data`.

    Only the columns that the network has are read. Samples without any measured readout are left out while reading.

    Args:
        network: The prior network.
        responses: Treatments and readouts; its columns are reduced to those that are kept.
        on_unmatched: What to do with treatments and readouts that are no species: ``"error"``, or ``"drop"`` them
            with a warning. The samples to which a dropped treatment was applied are dropped as well.
        ignore_case: As for :func:`gsnn.data.build_data`.
        names: As there, but without scales: the files must have the doses on the scale of the model.
        buffer_bytes: Size of the samples that training may hold, and shuffle, at a time.

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
    scaled = [label for label, scale in (names.scales if names else {}).items() if scale.kind != "none"]
    if scaled:
        raise DataError(
            f"the map has scales ({listed(scaled, 3)}), and samples that stay in their files are taken as they are; "
            f"write the doses on that scale, or pass {asked('stream=False', '--no-stream')}"
        )
    matched = match(network, responses, on_unmatched, ignore_case=ignore_case, names=names)
    if len(responses) < MIN_SAMPLES:
        raise DataError(
            f"{responses.name} holds {counted(len(responses), 'sample')}; at least {MIN_SAMPLES} are needed, one each "
            "to train, validate and test"
        )
    warnings = list(matched.warnings)
    responses.keep(matched.treatments, matched.readouts, matched.dropped)
    if responses.dropped:
        left = sum(len(x) for a, b in responses.stretches() for x, _ in responses.read(a, b, readouts=False))
        warnings.append(count_dropped(len(responses) - left, responses.dropped))
        if left < MIN_SAMPLES:
            raise DataError(
                f"{responses.name}: {warnings[-1]}; {counted(left, 'sample')} of {len(responses)} are left, and at "
                f"least {MIN_SAMPLES} are needed"
            )
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


def _row_keys(x: SampleArray) -> npt.NDArray[np.uint64]:
    """A hash (B,) of each row, equal for equal rows and evenly distributed; -0 is 0.

    Every value is hashed with a salt of its column, then the sum over the columns is hashed.
    """
    bits = (x + np.float32(0)).view(np.uint32).astype(np.uint64)
    return mixed(mixed(bits + mixed(np.arange(bits.shape[1], dtype=np.uint64))).sum(axis=1, dtype=np.uint64))
