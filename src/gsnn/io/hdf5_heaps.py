"""Check the global heaps of an HDF5 file, which hold texts of varying length and which the HDF5 library trusts."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gsnn.base.errors import DataError

# HDF5 file format 3.0, III.E: signature, version 1, three zeros, size of the collection; then its objects.
_START = b"GCOL\1\0\0\0"
_OBJECT = struct.Struct("<HHIQ")  # index, reference count, reserved, size
_HEADER = 16
_BLOCK = 2**24
# A larger file is not searched: that would take longer than reading the data.
MOST_SEARCHED = 2**30


def check_heaps(path: Path) -> None:
    """Refuse a file with a heap on which the HDF5 library would loop for ever.

    The library walks the objects of a heap by their sizes. On a free object of size 0 it does not advance, in C, where
    Python handles no signals (seen with HDF5 2.0.0). In an intact heap every object is at least as long as its header
    and ends within the heap.

    Args:
        path: A file of HDF5; one larger than `MOST_SEARCHED` is not searched.

    Raises:
        DataError: If a heap is damaged.
    """
    with path.open("rb") as file:
        end = file.seek(0, 2)
        if end > MOST_SEARCHED:
            return
        for start in _starts(file):
            file.seek(start + len(_START))
            size = int.from_bytes(file.read(8), "little")
            # Bytes that claim a size beyond the file are no heap, or the library refuses them.
            if size <= end - start and not _ends(file, start, size):
                raise DataError(
                    f"{path} cannot be read as HDF5 (the global heap at byte {start} does not end); it is damaged: "
                    "write or copy it again"
                )


def _starts(file: BinaryIO) -> Iterator[int]:
    """Positions of the heaps; the file is read in overlapping blocks."""
    place = 0
    while True:
        file.seek(place)
        block = file.read(_BLOCK)
        at = block.find(_START)
        while at >= 0:
            yield place + at
            at = block.find(_START, at + 1)
        if len(block) < _BLOCK:
            return
        place += _BLOCK - len(_START) + 1


def _ends(file: BinaryIO, start: int, size: int) -> bool:
    """Whether a walk over the objects of a heap reaches its end."""
    place, end = start + _HEADER, start + size
    while place + _OBJECT.size <= end:
        file.seek(place)
        index, _, _, length = _OBJECT.unpack(file.read(_OBJECT.size))
        # The size of a free object (index 0) includes its header; other objects are padded to 8 bytes.
        step = length if index == 0 else _OBJECT.size + -(-length // 8) * 8
        if step < _OBJECT.size or place + step > end:
            return False
        place += step
    return True
