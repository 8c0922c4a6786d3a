"""Parquet files as tables."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsnn.errors import DataError, require
from gsnn.io._table import Table
from gsnn.io._text import Raw


@dataclass(frozen=True)
class ParquetTable(Table):
    """A table whose columns have types: turned into text, or into numbers, only where that is asked for.

    Attributes:
        arrays: The columns, as Arrow arrays.
    """

    arrays: list[Any] = field(default_factory=list)

    def column(self, j: int) -> list[str]:
        """The cells of column ``j`` as text, empty where a value is missing."""
        return ["" if value is None else str(value) for value in self.arrays[j].to_pylist()]

    def names(self, j: int) -> list[str]:
        """The cells of column ``j``, which holds names: text or integers."""
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
            return super().numbers(columns, missing=missing)  # which says where
        return values


def read_parquet(raw: Raw, what: str) -> ParquetTable:
    """Read a Parquet file.

    An index that pandas wrote beside the columns comes first, without a name if it had none.

    Args:
        raw: The file.
        what: What it should hold, for the messages.

    Returns:
        The table, with at least one row.

    Raises:
        DataError: If the file is not Parquet, truncated, or has no rows.
        MissingExtraError: If pyarrow is not installed.
    """
    pyarrow = require("pyarrow", extra="parquet")
    parquet = require("pyarrow.parquet", extra="parquet")
    try:
        # One thread: a table of a network is small, and the caller may be one of many processes.
        table = parquet.ParquetFile(io.BytesIO(raw.data)).read(use_threads=False)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{what} file '{raw.path}' is not a complete Parquet file ({reason}); it may be truncated: write it again"
        ) from error
    header = [str(name) for name in table.column_names]
    arrays = [_plain(array) for array in table.columns]
    if not header:
        raise DataError(f"{what} file '{raw.path}' has no columns")
    if not table.num_rows:
        raise DataError(f"{what} file '{raw.path}' holds a header and no rows")
    index = _index_column(table.schema.metadata or {}, header)
    if index is not None:
        header.insert(0, header.pop(index))
        arrays.insert(0, arrays.pop(index))
        if header[0].startswith("__index_level_"):
            header[0] = ""
    return ParquetTable(raw.path, header, [], range(1, table.num_rows + 1), "", "row", arrays)


def _plain(array: Any) -> Any:  # noqa: ANN401 - pyarrow has no types to name here
    """Categories as what they stand for."""
    return array.cast(array.type.value_type) if str(array.type).startswith("dictionary") else array


def _index_column(metadata: dict[bytes, bytes], header: list[str]) -> int | None:
    """The column in which pandas keeps an index, if there is one and only one."""
    try:
        described = json.loads(metadata.get(b"pandas", b"{}"))
    except ValueError:
        return None
    stored = [name for name in described.get("index_columns", []) if isinstance(name, str) and name in header]
    return header.index(stored[0]) if len(stored) == 1 else None
