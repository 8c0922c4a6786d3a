"""Samples kept in memory up to a bound and in a temporary file beyond it."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from typing import IO, Any, cast

import torch
from torch import Tensor

# A batch in memory, or its place in the file: one tensor or (offset, dtype) per key.
_Held = list[Tensor]
_Spilled = list[tuple[int, torch.dtype]]


class SampleStore:
    """Batches of samples, one matrix (R_k, B) per key, that are read back key by key over all samples.

    Args:
        sizes: R_k for each key k.
        memory_bytes: Limit of memory; later batches go to an unnamed temporary file, which is removed with this object.

    Example:
        >>> store = SampleStore([2], memory_bytes=0)
        >>> store.append([torch.ones(2, 3)])
        >>> store.append([torch.zeros(2, 1)])
        >>> store.read(0)
        tensor([[1., 1., 1., 0.],
                [1., 1., 1., 0.]])
    """

    def __init__(self, sizes: Sequence[int], memory_bytes: int) -> None:
        self.sizes, self.memory_bytes = list(sizes), memory_bytes
        self.n = 0
        self.bytes_in_memory = 0
        self._batches: list[tuple[int, _Held | _Spilled]] = []
        self._file: IO[bytes] | None = None

    def append(self, parts: Sequence[Tensor]) -> None:
        """Add one batch.

        Args:
            parts: A tensor (R_k, B) for each key; not copied if it is on the CPU, so it must not change afterwards.

        Raises:
            ValueError: If a part has the wrong shape.
        """
        width = parts[0].shape[1]
        shapes = [tuple(p.shape) for p in parts]
        if shapes != [(rows, width) for rows in self.sizes]:
            raise ValueError(f"parts must have {self.sizes} rows and equally many columns, got {shapes}")
        held = [p.detach().cpu().contiguous() for p in parts]
        size = sum(p.numel() * p.element_size() for p in held)
        if self.bytes_in_memory + size <= self.memory_bytes:
            self._batches.append((width, held))
            self.bytes_in_memory += size
        else:
            self._batches.append((width, self._spill(held)))
        self.n += width

    def extend(self, other: SampleStore) -> None:
        """Add the samples of another store, which stays as it is.

        Raises:
            ValueError: If its matrices have other numbers of rows.
        """
        if self.sizes != other.sizes:
            raise ValueError("other differs in its numbers of channels, inputs or outputs")
        for index in range(len(other._batches)):
            self.append(other.batch(index))

    @property
    def widths(self) -> list[int]:
        """Number of samples of each batch."""
        return [width for width, _ in self._batches]

    def batch(self, index: int) -> list[Tensor]:
        """One batch: a tensor (R_k, B) for each key."""
        width, held = self._batches[index]
        return [self._load(held, key, width) for key in range(len(self.sizes))]

    def read(self, key: int, rows: slice = slice(None)) -> Tensor:
        """All samples of one key, in the order in which they came.

        Args:
            key: Number of the key.
            rows: Which rows of it, without a step.

        Returns:
            (R, M).
        """
        start_row, stop_row, _ = rows.indices(self.sizes[key])
        dtype = torch.float32
        for _, batch in self._batches:
            entry = batch[key]
            dtype = torch.promote_types(dtype, entry.dtype if isinstance(entry, Tensor) else entry[1])
        out = torch.empty(stop_row - start_row, self.n, dtype=dtype)
        start = 0
        for width, batch in self._batches:
            out[:, start : start + width] = self._load(batch, key, width, start_row, stop_row)
            start += width
        return out

    def _spill(self, held: _Held) -> _Spilled:
        if self._file is None:
            self._file = cast(IO[bytes], tempfile.TemporaryFile(prefix="gsnn-"))
            weakref.finalize(self, self._file.close)
        places: _Spilled = []
        offset = self._file.seek(0, 2)
        for part in held:
            places.append((offset, part.dtype))
            offset += self._file.write(part.numpy().data if part.numel() else b"")
        return places

    def _load(self, batch: _Held | _Spilled, key: int, width: int, start: int = 0, stop: int | None = None) -> Tensor:
        stop = self.sizes[key] if stop is None else stop
        entry = batch[key]
        if isinstance(entry, Tensor):
            return entry[start:stop]
        offset, dtype = entry
        out = torch.empty(stop - start, width, dtype=dtype)
        if out.numel() and self._file is not None:
            self._file.seek(offset + start * width * out.element_size())
            view = out.numpy().data.cast("B")
            if self._file.readinto(view) != len(view):  # type: ignore[attr-defined]  # an io.BufferedRandom
                raise RuntimeError("the temporary file of samples was cut short; was the disk full?")
        return out

    def __getstate__(self) -> dict[str, Any]:
        """Everything in memory, since the file cannot be pickled."""
        keys = range(len(self.sizes))
        batches = [(width, [self._load(batch, key, width) for key in keys]) for width, batch in self._batches]
        return self.__dict__ | {"_batches": batches, "_file": None}
