"""Read the elements of an AnnData file (``.h5ad``) on demand.

The layout is AnnData's documented on-disk format. It is read with h5py, so that a matrix larger than memory can be
read in blocks of rows, and so that this package needs no particular version of AnnData or pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsnn.base.errors import DataError, did_you_mean, require
from gsnn.io.hdf5_heaps import check_heaps
from gsnn.io.limits import TEXT_BYTES, as_data_error, check_growth
from gsnn.io.text import HDF5, listed, read_start

ANNDATA = "an AnnData file"
# The parts that are read; others are ignored.
READ = ("obs", "var", "X", "layers", "obsm")


def open_file(path: Path, what: str) -> Any:  # noqa: ANN401 - a h5py.File
    """Open an AnnData file for reading; ``what`` it should hold is for the messages.

    Raises:
        DataError: If the file is missing, truncated, damaged, not HDF5 or not AnnData, or refers to other files.
        MissingExtraError: If h5py is not installed.
    """
    h5py = require("h5py", extra="anndata")
    if not read_start(path, what).startswith(HDF5):
        raise DataError(
            f"{what} file '{path}' is not HDF5, which AnnData's .h5ad is; it is another format, renamed: give it its "
            "own extension (.csv, .tsv, .parquet)"
        )
    check_heaps(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{what} file '{path}' cannot be opened as HDF5 ({_reason(error)}); copy it again") from error
    try:
        with as_data_error(path, ANNDATA):
            kind = _other_kind(file, path)
            if kind:
                raise DataError(f"{what} file '{path}' is {kind}")
            for name in ("obs", "var"):
                if name not in file:
                    raise DataError(f"{what} file '{path}' is HDF5 without '{name}', so it is no AnnData file")
            for name in READ:
                if name in file:
                    _check_link(h5py, file, name, path)
            for name in ("layers", "obsm"):
                if name in file and not hasattr(file[name], "keys"):
                    raise DataError(f"{what} file '{path}': '{name}' is no group, so it is no AnnData file")
            for name in ("obs", "var"):
                if not hasattr(file[name], "keys"):
                    raise DataError(
                        f"{what} file '{path}' was written by an AnnData older than 0.7; open and write it with AnnData"
                    )
    except BaseException:
        file.close()
        raise
    return file


def _other_kind(file: Any, path: Path) -> str:  # noqa: ANN401 - a h5py.File
    """The kind of an HDF5 file that is not AnnData, and how to convert it; empty if it may be AnnData."""
    if file.attrs.get("encoding-type", "") in ("MuData", b"MuData") or ("mod" in file and hasattr(file["mod"], "keys")):
        parts = [str(name) for name in file["mod"]] if "mod" in file else []
        one = parts[0] if parts else "rna"
        return (
            f"MuData, which holds several AnnData ({listed(parts) or 'none'}); write the one that was measured: "
            f"mudata.read_h5mu('{path.name}').mod['{one}'].write_h5ad('{one}.h5ad'), with the column of 'obs' that "
            "says what was done"
        )
    if {"row_attrs", "col_attrs"} <= set(file):
        return "Loom; write it as AnnData: anndata.io.read_loom(path).write_h5ad('data.h5ad')"
    if "matrix" in file and "obs" not in file:
        return "the output of a counter of reads; write it as AnnData: scanpy.read_10x_h5(path).write_h5ad('data.h5ad')"
    if "obs" not in file and any("pandas_type" in file[name].attrs for name in list(file)[:20]):
        return "a table that pandas wrote as HDF5; write it as CSV or Parquet: pandas.read_hdf(path).to_parquet(...)"
    return ""


def check_element(element: Any, path: Path, seen: set[Any] | None = None) -> None:  # noqa: ANN401 - a h5py object
    """Refuse an element with data in other files, or far larger than this file can hold; groups with all they contain.

    Args:
        element: A group or a dataset.
        path: The file, for messages.
        seen: Addresses of the groups checked so far, since groups may contain each other.
    """
    h5py = require("h5py", extra="anndata")
    if isinstance(element, h5py.Dataset):
        if element.external or element.is_virtual:
            raise DataError(
                f"{path}: {element.name} is stored in another file, which is refused; copy it into this one"
            )
        kind = element.dtype.kind
        needed = (element.size or 0) * (TEXT_BYTES if kind == "O" else element.dtype.itemsize)
        check_growth(needed, element.file.id.get_filesize(), path, str(element.name))
    elif isinstance(element, h5py.Group):
        seen = set() if seen is None else seen
        address = h5py.h5o.get_info(element.id).addr
        if address not in seen:
            seen.add(address)
            for name in element:
                _check_link(h5py, element, name, path, seen)


def _check_link(h5py: Any, group: Any, name: str, path: Path, seen: set[Any] | None = None) -> None:  # noqa: ANN401
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise DataError(
            f"{path}: '{name}' is a link, which may lead to any other file and is refused; copy what it leads to"
        )
    check_element(group[name], path, seen)


@dataclass(frozen=True)
class Column:
    """A column of ``obs`` or ``var``: categories, which text is too, or numbers.

    Attributes:
        codes: Index of each row's category, -1 where it has none; shape (M,), empty for numbers.
        categories: Their names.
        values: Numbers, shape (M,), NaN where missing; None for categories.
        truth: Whether the numbers stand for true and false.
    """

    codes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    categories: list[str] = field(default_factory=list)
    values: NDArray[np.float64] | None = None
    truth: bool = False


def index_of(frame: Any, path: Path, where: str) -> Any:  # noqa: ANN401 - h5py objects
    """The element with the row names of ``obs`` or ``var``; :func:`text` reads it."""
    name = frame.attrs.get("_index", "_index")
    if name not in frame:
        raise DataError(f"{path}: '{where}' has no index; write the file again with AnnData")
    return frame[name]


def length(element: Any) -> int:  # noqa: ANN401 - a h5py object
    """The number of entries of a column."""
    if hasattr(element, "keys"):
        return len(element["codes" if "codes" in element else "values"])
    return len(element)


def text(element: Any, rows: slice = slice(None)) -> list[str]:  # noqa: ANN401 - a h5py object
    """Entries of a column of text, which may be stored with a mask or as categories."""
    if hasattr(element, "keys"):
        if "codes" in element:
            categories = text(element["categories"])
            return [categories[code] if code >= 0 else "" for code in element["codes"][rows]]
        values = text(element["values"], rows)
        return ["" if gone else v for v, gone in zip(values, element["mask"][rows], strict=True)]
    if element.ndim != 1:
        raise DataError(
            f"{element.file.filename}: {element.name} has {element.ndim} dimensions, where a column has one"
        )
    if element.dtype.kind in "OS":
        return [str(value) for value in element.asstr()[rows]]
    return [str(value) for value in element[rows].tolist()]


def read_column(file: Any, where: str, name: str, path: Path) -> Column:  # noqa: ANN401 - a h5py.File
    """Read a column of a table (``where``, such as ``"obs"``) in an open file or a group of it.

    Raises:
        DataError: If there is no such column or it holds neither text nor numbers.
    """
    frame = file[where]
    column = _column(file, frame, where, name, path)
    rows = length(index_of(frame, path, where))
    if (column.codes if column.values is None else column.values).shape != (rows,):
        raise DataError(f"{path}: column '{name}' of '{where}' has not one value for each of the {rows} rows")
    return column


def _column(file: Any, frame: Any, where: str, name: str, path: Path) -> Column:  # noqa: ANN401
    names = columns(frame)
    if name not in names:
        other = "var" if where == "obs" else "obs"
        if other in file and name in columns(file[other]):
            raise DataError(
                f"{path}: '{where}' has no column '{name}', and '{other}' has it: are the rows the genes? Samples must "
                "be the rows; turn it round and write it again: adata.T.copy().write_h5ad('data.h5ad')"
            )
        raise DataError(
            f"{path}: '{where}' has no column '{name}'{did_you_mean(name, names)}; it has {listed(names, 12) or 'none'}"
        )
    element = frame[name]
    masked = hasattr(element, "keys")
    if masked and "codes" in element:
        return _without_blanks(integers(element["codes"], path), text(element["categories"]))
    if not masked and "categories" in element.attrs:  # as AnnData 0.7 wrote them
        categories = file[element.attrs["categories"]]
        check_element(categories, path)
        return _without_blanks(integers(element, path), text(categories))
    stored = element["values"] if masked else element
    if stored.dtype.kind in "OS":
        codes, words = pd.factorize(np.array(text(element), dtype=object))
        return _without_blanks(codes.astype(np.int64), [str(word) for word in words])
    if stored.dtype.kind not in "biuf":
        raise DataError(f"{path}: column '{name}' of '{where}' holds {stored.dtype}, neither text nor numbers")
    values: NDArray[np.float64] = stored[:].astype(np.float64)
    if masked:
        values = np.where(element["mask"][:], np.nan, values)
    return Column(values=values, truth=stored.dtype.kind == "b")


def _without_blanks(codes: NDArray[np.int64], categories: list[str]) -> Column:
    """A column of categories; a blank category counts as missing."""
    blank = [k for k, category in enumerate(categories) if not category.strip()]
    if blank:
        codes = np.where(np.isin(codes, blank), -1, codes)
    return Column(codes, categories)


def integers(element: Any, path: Path) -> NDArray[np.int64]:  # noqa: ANN401 - a h5py.Dataset
    """All of a dataset of integers; DataError if it holds anything else."""
    if element.dtype.kind not in "biu":
        raise DataError(f"{path}: {element.name} holds {element.dtype}, where AnnData keeps integers; write it again")
    values: NDArray[np.int64] = element[:].astype(np.int64)
    return values


def columns(frame: Any) -> list[str]:  # noqa: ANN401 - a h5py.Group
    """The column names of ``obs``, ``var`` or a table in ``obsm``."""
    return [str(name) for name in frame.attrs.get("column-order", [])]


class Matrix:
    """A dense or sparse matrix in the file, read some rows at a time.

    Args:
        element: The dataset or group.
        path: The file, for messages.
        name: The matrix, for messages: ``X``, ``layers['counts']``.

    Raises:
        DataError: If it is no matrix of numbers.
    """

    def __init__(self, element: Any, path: Path, name: str) -> None:  # noqa: ANN401 - a h5py object
        self._element, self._path, self._name = element, path, name
        self._indptr: NDArray[np.int64] | None = None
        self._by_column = False
        if hasattr(element, "keys"):
            if not {"data", "indices", "indptr"} <= set(element.keys()):
                raise DataError(f"{path}: {name} is a table or a list, not a matrix")
            self._by_column = "csc" in str(element.attrs.get("encoding-type", element.attrs.get("h5sparse_format", "")))
            shape = tuple(int(n) for n in element.attrs.get("shape", element.attrs.get("h5sparse_shape", ())))
            self._indptr = integers(element["indptr"], path)
            dtype = element["data"].dtype
            n = shape[self._by_column] if len(shape) == 2 else -1
            steps = np.diff(self._indptr)
            stored = len(element["data"])
            if len(self._indptr) != n + 1 or (steps < 0).any() or self._indptr[-1] != stored:
                raise DataError(f"{path}: {name} is a sparse matrix whose parts do not fit together; write it again")
        else:
            shape, dtype = element.shape, element.dtype
        if len(shape) != 2 or dtype.kind not in "biuf":
            raise DataError(f"{path}: {name} holds {dtype} of shape {shape}; it must be a matrix of numbers")
        self.shape = (int(shape[0]), int(shape[1]))

    @property
    def streams(self) -> bool:
        """Whether some rows can be read without reading the whole matrix."""
        return not self._by_column

    @property
    def stored_rows(self) -> int:
        """Rows of a block in which a dense matrix is stored; 1 without blocks."""
        chunks = None if self._indptr is not None else self._element.chunks
        return int(chunks[0]) if chunks else 1

    def rows(self, start: int, stop: int, keep: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
        """Some rows, dense.

        Args:
            start: The first row.
            stop: The row after the last.
            keep: Which columns, or None for all.

        Returns:
            Array of shape (stop - start, columns).

        Raises:
            DataError: If a value is infinite or the matrix is damaged.
        """
        try:
            values = self._element[start:stop] if self._indptr is None else self._sparse(start, stop, keep)
        except OSError as error:
            raise DataError(f"{self._path}: rows of {self._name} cannot be read ({_reason(error)})") from error
        if keep is not None and self._indptr is None:
            values = values[:, keep]
        with np.errstate(over="ignore"):  # refused below, as infinite
            values = values.astype(np.float32, copy=False)
        wrong = np.argwhere(np.isinf(values))
        if len(wrong):
            i, j = wrong[0]
            column = j if keep is None else keep[j]
            raise DataError(
                f"{self._path}: {self._name} is infinite in row {start + i + 1}, column {column + 1} (from 1); "
                "write NaN where nothing was measured"
            )
        return values

    def _sparse(self, start: int, stop: int, keep: NDArray[np.intp] | None) -> NDArray[Any]:
        import scipy.sparse as sp

        assert self._indptr is not None  # only called then
        first, last = (0, len(self._indptr) - 1) if self._by_column else (start, stop)
        a, b = self._indptr[first], self._indptr[last]
        width = self.shape[0] if self._by_column else self.shape[1]
        indices = self._element["indices"][a:b]
        if len(indices) and (indices.min() < 0 or indices.max() >= width):
            raise DataError(f"{self._path}: {self._name} is a sparse matrix with indices outside its shape")
        parts = (self._element["data"][a:b], indices, self._indptr[first : last + 1] - a)
        if self._by_column:
            matrix = sp.csc_array(parts, shape=self.shape).tocsr()[start:stop]
        else:
            matrix = sp.csr_array(parts, shape=(stop - start, width))
        dense: NDArray[Any] = (matrix if keep is None else matrix[:, keep]).toarray()
        return dense


def runs(rows: NDArray[np.intp]) -> Sequence[tuple[int, int]]:
    """The consecutive runs of ascending distinct rows, as (first, one past the last).

    Example:
        >>> runs(np.array([0, 1, 2, 7, 8]))
        [(0, 3), (7, 9)]
    """
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    return [(int(part[0]), int(part[-1]) + 1) for part in np.split(rows, breaks) if len(part)]


def _reason(error: OSError) -> str:
    return str(error).strip().split("\n")[0]
