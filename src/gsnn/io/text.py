"""Read files as bytes or text, with errors that a user can act on."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsnn.base.errors import DataError, closest

PARQUET = b"PAR1"
HDF5 = b"\x89HDF"
NPY = b"\x93NUMPY"
_GZIP = b"\x1f\x8b"
_MAGIC = (
    (_GZIP, "a gzip archive in a gzip archive; unpack it first"),
    (PARQUET, "Parquet, where text is wanted; leave format out"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook; unpack it, or export the sheet as CSV"),
    (HDF5, "an HDF5 file; export the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; export the sheet as CSV"),
    (b"%PDF", "a PDF; find the table among the supplements of the article"),
    (
        NPY,
        "a numpy array, whose columns have no names; arrays are read as a pair of .npy, one of treatments and "
        "one of readouts, with a list of names for each",
    ),
    (b"RDX", "a file of R; write the table with write.csv"),
)
# Files in a Zarr store, of either version.
_ZARR = (".zgroup", ".zarray", ".zattrs", ".zmetadata", "zarr.json")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Protocols 2 to 5 begin with a mark and their number; protocol 0 with the name of a class to import.
_PICKLE = re.compile(rb"\x80[\x02-\x05]|c[A-Za-z_][\w.]*\r?\n\w+\r?\n")
# A packed text may grow by this factor, or to this size, whichever is more; tables of numbers grow less than tenfold.
_MOST_GROWTH, _ALWAYS_ALLOWED, _PIECE = 100, 2**25, 2**20
_LONGEST = 100  # characters of a name in a message
_PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".gpickle", ".p"})
_IN_MEMORY = "tables in memory go to Network.from_edges and to Responses"
_INSTEAD = {
    "network": "networkx.write_graphml(G, 'network.graphml'), or as a table, "
    "networkx.to_pandas_edgelist(G).to_csv('network.csv', index=False)",
}


@dataclass(frozen=True)
class Raw:
    """The bytes of a file, unpacked if it was gzip; ``sha256`` is the hex digest of the bytes on the disk."""

    path: Path
    data: bytes
    sha256: str

    @property
    def suffix(self) -> str:
        """The extension in lower case, the one before ``.gz`` if it is packed."""
        return suffix_of(self.path)

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet by its content or its extension."""
        return self.data.startswith(PARQUET) or self.suffix in {".parquet", ".pq"}


@dataclass(frozen=True)
class Text:
    """The text of a file, with line feeds as line ends and without byte order mark; ``sha256`` as in :class:`Raw`."""

    path: Path
    content: str
    sha256: str


def listed(names: Iterable[object], limit: int = 5) -> str:
    """Quote names for a message, at most ``limit`` of them.

    Example:
        >>> listed("abcde", limit=2)
        "'a', 'b' and 3 more"
    """
    return joined([repr(name if len(name) <= _LONGEST else name[:_LONGEST] + "...") for name in map(str, names)], limit)


def joined(parts: Sequence[str], limit: int) -> str:
    """Parts of a message between commas, at most ``limit`` of them, then how many more there are."""
    return ", ".join(parts[:limit]) + (f" and {len(parts) - limit} more" if len(parts) > limit else "")


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "row"), counted(2, "species", "species")
        ('1 row', '2 species')
    """
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def read_text(path: str | os.PathLike[str], what: str) -> Text:
    """Read and decode a text file.

    It may be UTF-8 with or without byte order mark, or UTF-16 with one (as spreadsheets write "Unicode text"). Other
    encodings are not guessed, because a wrong guess silently changes names.

    Args:
        path: The file.
        what: What it should hold, for the messages ("network", "responses").

    Raises:
        DataError: If the file is missing, unreadable, a folder, empty, binary or not UTF-8.
    """
    return decode(read_raw(path, what), what)


def read_raw(path: str | os.PathLike[str], what: str) -> Raw:
    """Read a file, unpack gzip, refuse pickles; ``what`` it should hold is for the messages.

    Raises:
        DataError: If the file is missing, unreadable, a folder, a pickle or a broken archive.
    """
    path = as_path(path, what)
    data = _bytes(path, what)
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(_GZIP):
        try:
            data = _unpacked(data, path)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{what} file '{path}' is a broken or truncated gzip archive ({error}); copy it again, or unpack it"
            ) from error
    if _PICKLE.match(data) or suffix_of(path) in _PICKLE_SUFFIXES:
        instead = _INSTEAD.get(what, "frame.to_csv('table.csv') or frame.to_parquet('table.parquet')")
        raise DataError(
            f"{what} file '{path}' is a Python pickle, which runs code when it is opened and is never read here; "
            f"where it was made, save it with {instead}"
        )
    return Raw(path, data, digest)


def _unpacked(data: bytes, path: Path) -> bytes:
    """The content of a gzip archive, read in pieces, so that one made to fill the memory is noticed in time."""
    parts, total = [], 0
    with gzip.open(io.BytesIO(data)) as archive:
        while part := archive.read(_PIECE):
            parts.append(part)
            total += len(part)
            if total > max(_ALWAYS_ALLOWED, _MOST_GROWTH * len(data)):
                raise DataError(
                    f"'{path}' unpacks to more than {_MOST_GROWTH} times its size, which is refused, since archives "
                    "are made so to fill the memory; if it is meant, unpack it first"
                )
    return b"".join(parts)


def as_path(path: object, what: str) -> Path:
    """The path; raises a TypeError for a table or anything else in memory."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"the {what} file must be a path, got {type(path).__name__}; {_IN_MEMORY}")
    return Path(path)


def read_start(path: str | os.PathLike[str], what: str, n: int = 100) -> bytes:
    """The first bytes of a file that may be too large to read, with the errors of :func:`read_raw`."""
    return _bytes(as_path(path, what), what, n)


def decode(raw: Raw, what: str) -> Text:
    """The text of a file; see :func:`read_text`."""
    content = _decode(raw.data, raw.path, what).replace("\r\n", "\n").replace("\r", "\n")
    if not content.strip():
        raise DataError(f"{what} file '{raw.path}' is empty")
    return Text(raw.path, content, raw.sha256)


def suffix_of(path: Path) -> str:
    """The extension in lower case; of a packed file, the one before ``.gz``.

    Example:
        >>> suffix_of(Path("a/prior.CSV")), suffix_of(Path("prior.sif.gz"))
        ('.csv', '.sif')
    """
    suffix = path.suffix.casefold()
    return Path(path.stem).suffix.casefold() if suffix == ".gz" else suffix


def has_control(name: str) -> bool:
    """Whether a name cannot be shown on one line or written as UTF-8; a tab is allowed, since tables can quote it."""
    return bool(_CONTROL.search(name.replace("\t", " "))) or any("\ud800" <= c <= "\udfff" for c in name)


def clean_name(name: str, path: Path, line: int, unit: str = "line") -> str:
    """A stripped name; DataError if it is empty or holds control characters. ``unit`` is what ``line`` counts."""
    if not name:
        raise DataError(f"{path}, {unit} {line}: a species name is empty; fill it in or delete the {unit}")
    if _CONTROL.search(name):
        raise DataError(f"{path}, {unit} {line}: the name {name!r} holds a control character; remove it")
    return name


def check_names(names: Sequence[str], lines: Sequence[int], path: Path, unit: str = "line") -> None:
    """Apply :func:`clean_name` to many names; one search over all of them if they are clean."""
    if "" in names or _CONTROL.search("".join(names)):
        for name, line in zip(names, lines, strict=True):
            clean_name(name, path, line, unit)


def _bytes(path: Path, what: str, n: int | None = None) -> bytes:
    """All of a file, or its first ``n`` bytes."""
    try:
        if n is None:
            return path.read_bytes()
        with path.open("rb") as handle:
            return handle.read(n)
    except FileNotFoundError as error:
        raise DataError(f"{what} file '{path}' does not exist{_neighbours(path)}") from error
    except IsADirectoryError as error:
        raise DataError(_folder(path, what)) from error
    except OSError as error:
        if path.is_dir():  # some systems say "permission denied" for a folder
            raise DataError(_folder(path, what)) from error
        raise DataError(f"{what} file '{path}' cannot be read: {error.strerror or error}") from error


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


def _folder(path: Path, what: str) -> str:
    """The message for a folder in place of a file: a Zarr store, or any other."""
    if any((path / name).is_file() for name in _ZARR) or path.suffix.casefold() == ".zarr":
        if what in ("network", "graph"):
            return (
                f"{what} file '{path}' is a Zarr store, which holds no network; give a table of edges, SIF or GraphML"
            )
        return (
            f"{what} file '{path}' is a Zarr store, which is not read; if it is AnnData, write it as one file: "
            "anndata.read_zarr(path).write_h5ad('data.h5ad')"
        )
    names = _files(path)
    return f"{what} file '{path}' is a folder; name a file in it" + (f" ({listed(names)})" if names else "")
