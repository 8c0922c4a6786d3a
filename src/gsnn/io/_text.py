"""From a path to text, or to an error a user can act on."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsnn.errors import DataError, closest

_MAGIC = (
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook; export the sheet as CSV"),
    (b"\x89HDF", "an HDF5 file; export the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; export the sheet as CSV"),
    (b"%PDF", "a PDF"),
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Text:
    """A decoded file: line ends are single line feeds, the byte order mark is gone.

    Attributes:
        path: The file.
        content: Its text.
        sha256: Hex digest of the bytes that were read.
    """

    path: Path
    content: str
    sha256: str


def listed(names: Iterable[object], limit: int = 5) -> str:
    """Quote names for a message, the first few of them.

    Args:
        names: What to list.
        limit: How many to write out.

    Returns:
        For instance ``'a', 'b' and 3 more``.

    Example:
        >>> listed("abcde", limit=2)
        "'a', 'b' and 3 more"
    """
    quoted = [repr(str(name)) for name in names]
    if len(quoted) <= limit:
        return ", ".join(quoted)
    return ", ".join(quoted[:limit]) + f" and {len(quoted) - limit} more"


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "row"), counted(2, "species", "species")
        ('1 row', '2 species')
    """
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def read_text(path: str | os.PathLike[str], what: str) -> Text:
    """Read and decode a text file.

    UTF-8 with or without byte order mark, and UTF-16 with one (as spreadsheets write "Unicode text"), are
    understood; nothing else is guessed, because a wrong guess silently changes names.

    Args:
        path: The file.
        what: What it should hold, for the messages ("network", "responses").

    Returns:
        The text with normalised line ends, and its fingerprint.

    Raises:
        DataError: If the file is missing, unreadable, a folder, empty, binary or not UTF-8.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{what} file '{path}' does not exist{_neighbours(path)}") from error
    except IsADirectoryError as error:
        raise DataError(f"{what} file '{path}' is a folder; name a file in it{_some_files(path)}") from error
    except OSError as error:
        if path.is_dir():  # some systems answer a folder with "permission denied"
            raise DataError(f"{what} file '{path}' is a folder; name a file in it{_some_files(path)}") from error
        raise DataError(f"{what} file '{path}' cannot be read: {error.strerror or error}") from error
    content = _decode(data, path, what).replace("\r\n", "\n").replace("\r", "\n")
    if not content.strip():
        raise DataError(f"{what} file '{path}' is empty")
    return Text(path, content, hashlib.sha256(data).hexdigest())


def clean_name(name: str, path: Path, line: int) -> str:
    """Refuse a name that cannot be shown on one line.

    Args:
        name: The name, already stripped.
        path: The file it stands in.
        line: Its line, from 1.

    Returns:
        The name.

    Raises:
        DataError: If it is empty or holds control characters.
    """
    if not name:
        raise DataError(f"{path}, line {line}: a species name is empty; fill it in or delete the line")
    if _CONTROL.search(name):
        raise DataError(f"{path}, line {line}: the name {name!r} holds a control character; remove it")
    return name


def check_names(names: Sequence[str], lines: Sequence[int], path: Path) -> None:
    """Apply :func:`clean_name` to many names, at the cost of one search over all of them."""
    if "" in names or _CONTROL.search("".join(names)):
        for name, line in zip(names, lines, strict=True):
            clean_name(name, path, line)


def _decode(data: bytes, path: Path, what: str) -> str:
    for magic, meaning in _MAGIC:
        if data.startswith(magic):
            raise DataError(f"{what} file '{path}' is {meaning}")
    encoding = "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in data:
        raise DataError(f"{what} file '{path}' is binary, not text; give a text table (CSV, TSV or SIF)")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{what} file '{path}', line {line}: byte 0x{data[error.start]:02x} is not valid "
            f"{'UTF-16' if encoding == 'utf-16' else 'UTF-8'}; save the file as UTF-8"
        ) from error


def _files(folder: Path) -> list[str]:
    try:
        return sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    except OSError:
        return []


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; nor does the folder '{path.parent}'"
    near = closest(path.name, _files(path.parent))
    return f"; beside it: {listed(near)}" if near else "; check the path"


def _some_files(path: Path) -> str:
    names = _files(path)
    return f" ({listed(names)})" if names else ""
