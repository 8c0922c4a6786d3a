"""Parquet files as tables."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsnn.base.errors import DataError, require
from gsnn.io.limits import ALWAYS_ALLOWED, TEXT_BYTES, as_data_error, check_growth
from gsnn.io.table import Table
from gsnn.io.text import PARQUET, Raw


@dataclass(frozen=True)
class ParquetTable(Table):
    """A table of typed columns, which are converted to text or to numbers on demand.

    Attributes:
        arrays: The columns, as Arrow arrays.
        stored: The names of the columns in the file; the header has no name for an unnamed index.
        row_numbers: The row numbers that pandas stored instead of an index, or None.
    """

    arrays: list[Any] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    row_numbers: range | None = None

    def column(self, j: int) -> list[str]:
        """The cells of column ``j`` as text, empty where a value is missing."""
        with as_data_error(self.path, "a table"):  # Python cannot represent every time
            return ["" if value is None else str(value) for value in self.arrays[j].to_pylist()]

    def with_cells(self, changed: Callable[[str], str]) -> ParquetTable:
        """The table with a function applied to each cell of its columns of text."""
        arrow = require("pyarrow", extra="parquet")
        arrays = [
            arrow.array([None if v is None else changed(v) for v in array.to_pylist()])
            if str(array.type).startswith(("string", "large_string"))
            else array
            for array in self.arrays
        ]
        return replace(self, arrays=arrays)

    def names(self, j: int) -> list[str]:
        """The names in column ``j``, which must hold text or integers."""
        kind = str(self.arrays[j].type)
        if not kind.startswith(("string", "large_string", "int", "uint")):
            raise DataError(
                f"{self.path}: column {self.header[j]!r} holds {kind}, where names must be text; "
                "convert it before it is saved (frame[column].astype(str))"
            )
        return [cell.strip() for cell in self.column(j)]

    def numbers(self, columns: Sequence[int], *, missing: bool = True) -> NDArray[np.float64]:
        """Columns as numbers; see :meth:`Table.numbers`."""
        typed = [j for j in columns if str(self.arrays[j].type).startswith(("int", "uint", "float", "double", "bool"))]
        if len(typed) < len(columns):
            return super().numbers(columns, missing=missing)
        # A masked value and a stored NaN are both missing, as they are in pandas.
        values = np.empty((len(self), len(columns)))
        for k, j in enumerate(columns):
            values[:, k] = self.arrays[j].to_numpy(zero_copy_only=False).astype(np.float64)
        if np.isinf(values).any() or (not missing and np.isnan(values).any()):
            return super().numbers(columns, missing=missing)  # raises an error that says where
        return values


def read_parquet(raw: Raw, what: str) -> ParquetTable:
    """The table in a Parquet file; an index that pandas wrote comes first, without a name if it had none.

    Raises:
        DataError: If the file is not Parquet, truncated, or has no rows.
        MissingExtraError: If pyarrow is not installed.
    """
    return parquet_table(read_arrow(raw, what), raw.path, what)


@contextmanager
def complete_parquet(path: Path, what: str) -> Iterator[None]:
    """Turn errors of pyarrow about a damaged file into a DataError."""
    pyarrow = require("pyarrow", extra="parquet")
    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{what} file '{path}' is not a complete Parquet file ({reason}); it may be truncated: write it again"
        ) from error


def read_arrow(raw: Raw, what: str) -> Any:  # noqa: ANN401 - pyarrow has no types to name
    """The Arrow table in a Parquet file, with categories replaced by their values.

    Raises:
        DataError: If the file is no complete Parquet, or declares far more data than its size can hold.
    """
    if not raw.data.startswith(PARQUET):
        raise DataError(
            f"{what} file '{raw.path}' is called Parquet and is not; give it the extension of what it is (.csv, .tsv), "
            "or write it again"
        )
    with complete_parquet(raw.path, what):
        return _read_arrow(raw)


def _read_arrow(raw: Raw) -> Any:  # noqa: ANN401
    parquet = require("pyarrow.parquet", extra="parquet")
    described = parquet.ParquetFile(io.BytesIO(raw.data))
    about, schema = described.metadata, described.schema
    texts = [i for i in range(about.num_columns) if schema.column(i).physical_type == "BYTE_ARRAY"]
    unpacked = sum(about.row_group(g).total_byte_size for g in range(about.num_row_groups))
    cells = about.num_rows * (8 * (about.num_columns - len(texts)) + TEXT_BYTES * len(texts))
    check_growth(max(unpacked, cells), len(raw.data), raw.path, "the table")
    # One thread: a table of a network is small, and the caller may be one of many processes. Repeated texts are read
    # as a dictionary, so that their size is checked before they are written out.
    names = [schema.column(i).path for i in texts]
    table = parquet.ParquetFile(io.BytesIO(raw.data), read_dictionary=names).read(use_threads=False)
    for j, array in enumerate(table.columns):
        if str(array.type).startswith(("dictionary<values=string", "dictionary<values=large", "dictionary<values=bin")):
            check_growth(_repeated(array), len(raw.data), raw.path, "a column of text")
        table = table.set_column(j, table.field(j).name, _plain(array))
    return table


def _repeated(array: Any) -> int:  # noqa: ANN401
    """Bytes of a column of categories after each is written out in its rows."""
    compute = require("pyarrow.compute", extra="parquet")
    total = 0
    for chunk in array.chunks:
        longest = compute.max(compute.binary_length(chunk.dictionary)).as_py()
        if longest and longest * len(chunk) > ALWAYS_ALLOWED:
            total += compute.sum(compute.take(compute.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0
    return total


def parquet_table(table: Any, path: Path, what: str) -> ParquetTable:  # noqa: ANN401 - pyarrow has no types to name
    """An Arrow table, of all or some rows of a file, as a :class:`ParquetTable` with an index of pandas first.

    Raises:
        DataError: If it has no columns or no rows.
    """
    stored = [str(name) for name in table.column_names]
    arrays = [_plain(array) for array in table.columns]
    if not stored:
        raise DataError(f"{what} file '{path}' has no columns")
    if not table.num_rows:
        raise DataError(f"{what} file '{path}' holds a header and no rows")
    index = _index_column(table.schema.metadata or {}, stored)
    if index is not None:
        stored.insert(0, stored.pop(index))
        arrays.insert(0, arrays.pop(index))
    header = list(stored)
    if index is not None and header[0].startswith("__index_level_"):
        header[0] = ""
    numbers = _row_numbers(table.schema.metadata or {})
    return ParquetTable(path, header, [], range(1, table.num_rows + 1), "", "row", arrays, stored, numbers)


def _plain(array: Any) -> Any:  # noqa: ANN401
    """An array with categories replaced by their values."""
    return array.cast(array.type.value_type) if str(array.type).startswith("dictionary") else array


def _index_columns(metadata: dict[bytes, bytes]) -> list[Any]:
    """The metadata of pandas about the index: names of columns, or the bounds of row numbers."""
    try:
        described = json.loads(metadata.get(b"pandas", b"{}"))
        columns = described.get("index_columns", []) if isinstance(described, dict) else []
    except (ValueError, RecursionError):
        return []
    return columns if isinstance(columns, list) else []


def _row_numbers(metadata: dict[bytes, bytes]) -> range | None:
    columns = _index_columns(metadata)
    noted = columns[0] if len(columns) == 1 and isinstance(columns[0], dict) else {}
    start, stop, step = (noted.get(key) for key in ("start", "stop", "step"))
    if noted.get("kind") != "range" or not all(isinstance(each, int) for each in (start, stop, step)) or not step:
        return None
    return range(int(start or 0), int(stop or 0), int(step))


def _index_column(metadata: dict[bytes, bytes], header: list[str]) -> int | None:
    """The column with the index of pandas, if there is exactly one."""
    columns = _index_columns(metadata)
    stored = [name for name in columns if isinstance(name, str) and name in header]
    return header.index(stored[0]) if len(stored) == 1 else None
