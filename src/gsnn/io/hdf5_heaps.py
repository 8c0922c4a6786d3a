"""Global heaps of an HDF5 file, where texts of varying length are kept: the HDF5 library trusts them, this does not."""

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
# A file of more bytes is not searched: it would take longer than reading what was asked for.
MOST_SEARCHED = 2**30


def check_heaps(path: Path) -> None:
    """Refuse a file with a heap that the HDF5 library would go round in for ever.

    The library walks the objects of a heap by their sizes. A free one of size 0 keeps it in its place, in C, where no
    signal of Python is heard (seen with HDF5 2.0.0). In a whole heap every object is at least its own header long and
    ends within the heap.

    Args:
        path: A file of HDF5; one larger than `MOST_SEARCHED` is not searched.

    Raises:
        DataError: If a heap is damaged.
    """
    with path.open("rb") as file:
        end = file.seek(0, 2)
        if end > MOST_SEARCHED:
            return
        for start in _found(file):
            file.seek(start + len(_START))
            size = int.from_bytes(file.read(8), "little")
            # What is longer than the file is no heap but other bytes, or the library refuses it.
            if size <= end - start and not _ends(file, start, size):
                raise DataError(
                    f"{path} cannot be read as HDF5 (the global heap at byte {start} does not end); it is damaged: "
                    "write or copy it again"
                )


def _found(file: BinaryIO) -> Iterator[int]:
    """Where heaps start; the file is read in blocks that overlap."""
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
    """Whether a walk over the objects of a heap comes to its end."""
    place, end = start + _HEADER, start + size
    while place + _OBJECT.size <= end:
        file.seek(place)
        index, _, _, length = _OBJECT.unpack(file.read(_OBJECT.size))
        # The size of what is free, index 0, includes its header; the others are padded to 8 bytes.
        step = length if index == 0 else _OBJECT.size + -(-length // 8) * 8
        if step < _OBJECT.size or place + step > end:
            return False
        place += step
    return True
