"""Responses in two arrays: memory-mapped ``.npy`` files, or arrays in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from gsnn.base.errors import DataError
from gsnn.io.stream import StreamedResponses, checked_names, even_stretches

STRETCH_ROWS = 1024
Source = str | os.PathLike[str] | npt.NDArray[Any]


class ArrayResponses(StreamedResponses):
    """Treatments and readouts in two arrays of numbers with a row per sample.

    Files are mapped for each chunk, so that rows which were read do not stay in memory. Arrays are sliced as they are.

    Args:
        inputs: (M, I) treatments: an ``.npy`` file, or an array.
        outputs: (M, O) readouts likewise; NaN where nothing was measured.
        treatments: Names of the I columns, which an array does not have.
        readouts: Names of the O columns.
        stretch: Samples in a stretch.

    Raises:
        DataError: If a file is no matrix of numbers stored by rows, the numbers of rows differ, or names do not fit.

    Example:
        >>> x, y = np.eye(3), np.arange(6.0).reshape(3, 2)
        >>> responses = ArrayResponses(x, y, treatments=["a", "b", "c"], readouts=["d", "e"], stretch=2)
        >>> [part.tolist() for _, part in responses.read(0, 2)], responses.stretches()
        ([[[0.0, 1.0], [2.0, 3.0]]], [(0, 2), (2, 3)])
    """

    def __init__(
        self,
        inputs: Source,
        outputs: Source,
        *,
        treatments: Sequence[str],
        readouts: Sequence[str],
        stretch: int = STRETCH_ROWS,
    ) -> None:
        super().__init__()
        if isinstance(stretch, bool) or not isinstance(stretch, int) or stretch < 1:
            raise DataError(f"stretch must be an integer of at least 1, got {stretch!r}")
        roles = ("inputs", "outputs")
        for role, given in zip(roles, (inputs, outputs), strict=True):
            if not isinstance(given, str | os.PathLike | np.ndarray):
                raise TypeError(
                    f"{role} must be an array or a path of .npy, got {type(given).__name__}; a data frame is read by "
                    "gsnn.io.Responses, its values by numpy.ascontiguousarray(frame)"
                )
        self._sources = [s if isinstance(s, np.ndarray) else Path(s) for s in (inputs, outputs)]
        shapes = [_shape(source, role) for source, role in zip(self._sources, roles, strict=True)]
        if shapes[0][0] != shapes[1][0]:
            raise DataError(f"inputs have {shapes[0][0]} rows and outputs {shapes[1][0]}; give one per sample in both")
        self._n, self._stretch = shapes[0][0], stretch
        if not self._n:
            raise DataError("inputs and outputs have no rows")
        self.treatments = checked_names(treatments, shapes[0][1], "treatments")
        self.readouts = checked_names(readouts, shapes[1][1], "readouts")
        self.paths = {role: s for role, s in zip(roles, self._sources, strict=True) if isinstance(s, Path)}

    def __len__(self) -> int:
        return self._n

    def stretches(self) -> list[tuple[int, int]]:
        """Stretches of ``stretch`` rows each."""
        return even_stretches(self._n, self._stretch)

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file or array, by role."""
        digests = super().digests()
        for role, source in zip(("inputs", "outputs"), self._sources, strict=True):
            if isinstance(source, np.ndarray) and role not in digests:
                digest = hashlib.sha256(str((source.dtype, source.shape)).encode())
                for start, stop in even_stretches(self._n, 4096):
                    digest.update(np.ascontiguousarray(source[start:stop]).tobytes())
                digests[role] = digest.hexdigest()
        return digests

    def _read(
        self, start: int, stop: int, size: int, sides: tuple[bool, bool]
    ) -> Iterator[tuple[NDArray[Any] | None, NDArray[Any] | None]]:
        for a in range(start, stop, size):
            b = min(a + size, stop)
            x, y = (self._rows(side, a, b) if sides[side] else None for side in (0, 1))
            yield x, y

    def _rows(self, side: int, start: int, stop: int) -> NDArray[np.float32]:
        source, columns = self._sources[side], self._columns[side]
        # The mapping is released with the rows, or the whole file would count as memory of this process in the end.
        array = np.load(source, mmap_mode="r", allow_pickle=False) if isinstance(source, Path) else source
        rows = array[start:stop] if columns is None else array[start:stop, columns]
        with np.errstate(over="ignore"):  # refused later as infinite, with its position
            values: NDArray[np.float32] = np.array(rows, dtype=np.float32)
        return values


def _shape(source: Path | NDArray[Any], role: str) -> tuple[int, int]:
    if isinstance(source, Path):
        try:
            array: NDArray[Any] = np.load(source, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise DataError(f"{role} file '{source}' does not exist; check the path") from error
        except (ValueError, OSError, EOFError) as error:
            raise DataError(
                f"{role} file '{source}' is not a .npy file that can be mapped ({str(error).splitlines()[0]}); "
                "write it with numpy.save"
            ) from error
        what = f"{role} file '{source}'"
    else:
        array, what = source, role
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "biuf":
        kind = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise DataError(f"{what} must be a matrix of numbers, a row per sample; got {kind}")
    if array.shape[0] > 1 and array.shape[1] > 1 and array.strides[0] < array.strides[1]:
        raise DataError(
            f"{what} is stored by columns, so its rows cannot be read in blocks; "
            "store it by rows (numpy.ascontiguousarray)"
        )
    return int(array.shape[0]), int(array.shape[1])
