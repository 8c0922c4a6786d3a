"""Limits for files from strangers: the memory they may take, and the errors of libraries they provoke."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gsnn.base.errors import DataError, GsnnError

# A packed file may grow by this factor, or to this size, whichever is more; a table of 0 and 1 grows a hundredfold.
MOST_GROWTH = 1000
ALWAYS_ALLOWED = 2**28
# Memory of a text in Python, beside its characters.
TEXT_BYTES = 64
# The errors of the readers of binary formats on damaged bytes.
_PROVOKED = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def check_growth(needed: int, stored: int, path: Path, what: str) -> None:
    """Refuse a file that claims to hold far more than its size can, before anything is unpacked.

    Args:
        needed: Bytes of memory that its content takes, as the file states.
        stored: Bytes of the file.
        path: The file.
        what: The content that is so large, for the message.

    Raises:
        DataError: If it is more than `MOST_GROWTH` times the file and more than `ALWAYS_ALLOWED`.

    Example:
        >>> check_growth(10**6, 10, Path("t.parquet"), "the table")
        >>> check_growth(10**12, 1000, Path("t.parquet"), "the table")
        Traceback (most recent call last):
        ...
        gsnn.base.errors.DataError: t.parquet: the table takes 953674 MiB of memory from a file of 0.0 MiB, which is ...
    """
    if needed > max(ALWAYS_ALLOWED, MOST_GROWTH * stored):
        raise DataError(
            f"{path}: {what} takes {needed / 2**20:.0f} MiB of memory from a file of {stored / 2**20:.1f} MiB, which "
            "is refused, since files are made so to fill the memory; if it is meant, write it without compression"
        )


@contextmanager
def as_data_error(path: Path, what: str) -> Iterator[None]:
    """Turn the errors of a library on a damaged file into a DataError of one line that names the file.

    Args:
        path: The file.
        what: What it should be, for the message: "an AnnData file".
    """
    try:
        # A number that overflows must be an error, not a warning and infinity.
        with np.errstate(over="raise", invalid="raise"):
            yield
    except GsnnError:
        raise
    except _PROVOKED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} cannot be read as {what} ({reason}); it is damaged: write or copy it again") from error
