"""Perturbation responses that stay in files and are read in stretches of samples on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsnn.base.errors import DataError
from gsnn.base.files import sha256
from gsnn.io.responses import Responses
from gsnn.io.text import counted, listed

Chunk = tuple[NDArray[np.float32], NDArray[np.float32]]

# Bytes of float32 in a chunk by default.
CHUNK_BYTES = 8 * 2**20


class StreamedResponses(ABC):
    """Treatments and readouts of the same samples, with one chunk in memory at a time.

    Letters: B samples in a chunk, M samples in all, I treatments, O readouts. The samples are divided into
    *stretches*: runs of rows that can be read without reading others, such as the row groups of Parquet. A stretch is
    read from its beginning, chunk by chunk.

    A subclass names its columns, sets ``paths``, and implements ``__len__``, ``stretches`` and ``_read``.

    Attributes:
        treatments: Names of the treatments.
        readouts: Names of the readouts.
        kinds: As in :class:`gsnn.io.Responses`.
        warnings: What a user should know about the files.
        paths: The files by role: ``data``, or ``inputs`` and ``outputs``; empty for arrays.
        other_names: As in :class:`gsnn.io.Responses`.
        labels: Likewise.
        categories: Likewise.
        dropped: Treatments that are left out; samples to which one was applied do not count.
    """

    def __init__(self) -> None:
        self.treatments: list[str] = []
        self.readouts: list[str] = []
        self.kinds: dict[str, str] = {}
        self.warnings: list[str] = []
        self.paths: dict[str, Path] = {}
        self._digests: dict[str, str] | None = None
        self.other_names: dict[str, list[str]] = {}
        self.labels = self.categories = False
        self.dropped: list[str] = []
        self._columns: tuple[NDArray[np.intp] | None, NDArray[np.intp] | None] = None, None

    @abstractmethod
    def __len__(self) -> int:
        """M."""

    @abstractmethod
    def stretches(self) -> list[tuple[int, int]]:
        """First row of each stretch, and the row after its last; together they cover all rows, in order."""

    @abstractmethod
    def _read(
        self, start: int, stop: int, size: int, sides: tuple[bool, bool]
    ) -> Iterator[tuple[NDArray[Any] | None, NDArray[Any] | None]]:
        """Treatments and readouts of a stretch in chunks of ``size`` rows; None for a side not in ``sides``."""

    @property
    def name(self) -> str:
        """How messages call the data: the paths of its files."""
        return " and ".join(str(path) for path in self.paths.values()) or "the responses"

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file, by role, computed once."""
        if self._digests is None:
            self._digests = {role: sha256(path) for role, path in self.paths.items()}
        return self._digests

    def trust(self, digests: Mapping[str, str]) -> None:
        """Accept the digests of the files from a caller who has just read them."""
        self._digests = {role: digests[role] for role in self.paths}

    def keep(self, treatments: Sequence[int], readouts: Sequence[int], dropped: Sequence[int] = ()) -> None:
        """Read only these columns from now on, in this order.

        Args:
            treatments: Positions in ``treatments``.
            readouts: Positions in ``readouts``.
            dropped: Positions of treatments that are left out, and with them the samples to which one was applied.
        """
        # Treatments that were dropped before are read after the others.
        known = [*self.treatments, *self.dropped]
        order = [*treatments, *dropped, *range(len(self.treatments), len(known))]
        x, y = (
            np.asarray(new, dtype=np.intp) if old is None else old[np.asarray(new, dtype=np.intp)]
            for old, new in zip(self._columns, (order, readouts), strict=True)
        )
        self._columns = x, y
        self.treatments = [known[i] for i in treatments]
        self.dropped = [known[i] for i in order[len(treatments) :]]
        self.readouts = [self.readouts[i] for i in readouts]
        self.kinds = {name: kind for name, kind in self.kinds.items() if name in set(self.treatments)}

    def chunk_rows(self) -> int:
        """Rows of a chunk by default."""
        width = max(1, len(self.treatments) + len(self.readouts))
        return max(64, CHUNK_BYTES // (4 * width))

    def read(self, start: int, stop: int, size: int | None = None, *, readouts: bool = True) -> Iterator[Chunk]:
        """The samples of a stretch, in order.

        Args:
            start: First row of the stretch.
            stop: The row after its last.
            size: Largest number of rows in a chunk; None takes some megabytes of them.
            readouts: False reads the treatments alone and leaves out samples of a dropped treatment; the second array
                of each pair then has no columns.

        Yields:
            Treatments (B, I) and readouts (B, O), NaN where nothing was measured or a dropped treatment was applied.

        Raises:
            DataError: If a treatment is missing, or a value is infinite or cannot be read.
        """
        row = start
        for x, y in self._read(start, stop, size or self.chunk_rows(), (True, readouts)):
            assert x is not None  # sides[0] is True
            treated = self._checked(x, row, [*self.treatments, *self.dropped], "treatment")
            applied = (treated[:, len(self.treatments) :] != 0).any(axis=1)
            treated = treated[:, : len(self.treatments)]
            row += len(x)
            if y is None:
                yield treated[~applied], np.empty((int((~applied).sum()), 0), dtype=np.float32)
                continue
            measured = self._checked(y, row - len(x), self.readouts, "readout")
            if applied.any():
                measured = np.where(applied[:, None], np.float32(np.nan), measured)
            yield treated, measured
        if row != stop:
            raise DataError(f"{self.name}: rows {row + 1} to {stop} are missing; the file may be truncated")

    def sample(self, rows: NDArray[np.int64]) -> Responses:
        """Some of the samples, in memory; stretches without any of them are not read.

        Args:
            rows: Their indices; each is taken once.

        Returns:
            The samples, in the order of the rows.

        Raises:
            DataError: As for :meth:`read`.
        """
        rows = np.unique(rows)
        none = [np.empty((0, len(names)), np.float32) for names in (self.treatments, self.readouts)]
        parts: list[Chunk] = [(none[0], none[1])]
        for start, stop in self.stretches():
            here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)]
            if not len(here):
                continue
            for x, y in self.read(start, stop):
                inside = here[(here >= start) & (here < start + len(x))] - start
                parts.append((x[inside], y[inside]))
                start += len(x)
        x, y = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        return Responses(
            pd.DataFrame(x, columns=self.treatments),
            pd.DataFrame(y, columns=self.readouts),
            dict(self.kinds),
            list(self.warnings),
            dict(self.paths),
            dict(self._digests or {}),
            other_names=self.other_names,
            labels=self.labels,
            categories=self.categories,
        )

    def _checked(self, values: NDArray[Any], row: int, names: Sequence[str], kind: str) -> NDArray[np.float32]:
        checked = values.astype(np.float32, copy=False)
        bad = ~np.isfinite(checked) if kind == "treatment" else np.isinf(checked)
        if bad.any():
            i, j = (int(k) for k in np.argwhere(bad)[0])
            what = "missing" if np.isnan(checked[i, j]) else "infinite, or too large for single precision"
            fix = "write 0 where it was not applied" if kind == "treatment" else "leave it empty where not measured"
            raise DataError(f"{self.name}: {kind} '{names[j]}' is {what} in row {row + i + 1} (from 1); {fix}")
        return checked

    def close(self) -> None:  # noqa: B027 - arrays have nothing to close
        """Close the files, if there are any."""

    def __str__(self) -> str:
        """The counts on one line."""
        return (
            f"{self.name}: {counted(len(self), 'sample')}, {counted(len(self.treatments), 'treatment')}, "
            f"{counted(len(self.readouts), 'readout')}, in {counted(len(self.stretches()), 'stretch', 'stretches')}"
        )


def even_stretches(n: int, rows: int) -> list[tuple[int, int]]:
    """Stretches of ``rows`` rows each, the last one possibly shorter.

    Example:
        >>> even_stretches(5, 2)
        [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]


def checked_names(names: Sequence[str], width: int, what: str) -> list[str]:
    """Names for the columns of an array, stripped.

    Raises:
        DataError: If their number is not that of the columns, or one is empty.
    """
    stripped = [str(name).strip() for name in names]
    if isinstance(names, str) or len(stripped) != width:
        raise DataError(f"{what} must name {counted(width, 'column')}, got {listed(stripped)} ({len(stripped)})")
    if "" in stripped:
        raise DataError(f"{what} must not be empty, got {listed(stripped)}")
    return stripped
