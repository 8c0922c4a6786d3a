"""Parquet files as a stream of row groups."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsnn.base.errors import DataError, require
from gsnn.io.matrices import matrix_columns, shared_ids
from gsnn.io.midas import Columns, find_columns
from gsnn.io.parquet import ParquetTable, complete_parquet, parquet_table
from gsnn.io.responses import ONE_SIDED, check_one_or_two
from gsnn.io.stream import StreamedResponses
from gsnn.io.text import counted, listed, read_start

_HEAD_ROWS = 64  # rows by which columns are recognised
_READ_AHEAD = 2**18  # bytes of a column that are read at once
_NUMBERS = ("int", "uint", "float", "double", "bool", "halffloat")


class ParquetResponses(StreamedResponses):
    """Responses in one Parquet table with ``TR:`` and ``DV:`` columns, or in two of treatments and of readouts.

    Columns are recognised as by :func:`gsnn.io.read_responses`; other columns are not read. A row group is a stretch;
    it is decoded page by page, so it may be larger than memory. Rows of two tables are paired in order: both must
    have the same row groups, and if both name their samples, the same names in the same order.

    Args:
        path: The table; leave out if ``inputs`` and ``outputs`` are given.
        inputs: The table of treatments.
        outputs: The table of readouts.
        species: Names of the network; a first column of two tables with such a name does not hold identifiers.

    Raises:
        DataError: If a file is no complete Parquet, has times (``DA:``), or holds text where numbers must be.
        MissingExtraError: If pyarrow is not installed.

    Example:
        >>> import pandas as pd, tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "responses.parquet")
        ...     pd.DataFrame({"TR:a": [0.0, 1, 1], "DV:b": [0.5, None, 2]}).to_parquet(path, row_group_size=2)
        ...     responses = ParquetResponses(path)
        ...     chunks = [y.tolist() for start, stop in responses.stretches() for _, y in responses.read(start, stop)]
        ...     responses.close()
        >>> responses.treatments, responses.readouts, responses.stretches(), chunks
        (['a'], ['b'], [(0, 2), (2, 3)], [[[0.5], [nan]], [[2.0]]])
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        inputs: str | os.PathLike[str] | None = None,
        outputs: str | os.PathLike[str] | None = None,
        species: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._species = frozenset(species)
        check_one_or_two(path, inputs, outputs)
        paths = {"data": path, "inputs": inputs, "outputs": outputs}
        self.paths = {role: Path(p) for role, p in paths.items() if p is not None}
        self._files: dict[str, Any] = {}
        heads = {role: self._head(role) for role in self.paths}
        # Name of each column in its file, by side.
        self._names: list[list[str]] = [[], []]
        self._ids: list[str | None] = [None, None]
        if path is not None:
            self._one(heads["data"])
        else:
            self._two(heads["inputs"], heads["outputs"])
        metadata = [self._open(role).metadata for role in self.paths]
        sizes = [[m.row_group(i).num_rows for i in range(m.num_row_groups)] for m in metadata]
        if sum(sizes[0]) != sum(sizes[-1]):
            first, second = self.paths.values()
            raise DataError(
                f"{first} has {sum(sizes[0])} rows and {second} {sum(sizes[-1])}; give both the same samples"
            )
        if sizes[0] != sizes[-1]:
            raise DataError(
                f"{self.name} have different row groups (the first of {sizes[0][0]} and {sizes[-1][0]} rows), so they "
                "cannot be read side by side; write both with the same row_group_size"
            )
        self._groups = [i for i, n in enumerate(sizes[0]) if n]
        ends = np.cumsum([0, *(n for n in sizes[0] if n)]).tolist()
        self._stretches = list(pairwise(ends))

    def _one(self, head: ParquetTable) -> None:
        columns = find_columns(head)
        if columns.times:
            raise DataError(
                f"{head.path} has times (DA: columns), which cannot be streamed: the last time of a readout is known "
                "only at the end; write the rows of one time, without the DA: columns"
            )
        self._one_cell_line(head, columns)
        self.treatments, self.readouts = list(columns.treatment_names), list(columns.readout_names)
        self.kinds, self.warnings = dict(columns.kinds), list(columns.warnings)
        for side, positions in enumerate((columns.treatments, columns.readouts)):
            self._names[side] = _numeric(head, positions)

    def _one_cell_line(self, head: ParquetTable, columns: Columns) -> None:
        """Refuse a file with several cell lines; a column with equal cells has only one."""
        lines = dict(columns.cell_lines)
        if columns.cell_column is not None:
            lines[head.header[columns.cell_column]] = columns.cell_column
        varying = [name for name, j in lines.items() if len(np.unique(self._column("data", head.stored[j]))) > 1]
        if varying:
            raise DataError(
                f"{head.path} has several cell lines (in {listed(varying)}), which cannot be streamed; write the rows "
                "of one"
            )

    def _column(self, role: str, name: str) -> NDArray[np.uint64]:
        """A hash for each name in a column: 8 bytes a row."""
        parts = [np.zeros(0, np.uint64)]
        for batch in self._open(role).iter_batches(columns=[name], use_threads=False):
            words = ["" if value is None else str(value).strip() for value in batch.column(0).to_pylist()]
            parts.append(_hashed(words))
        return np.concatenate(parts)

    def _two(self, inputs: ParquetTable, outputs: ParquetTable) -> None:
        named = []
        shared = inputs.header[0] not in self._species and shared_ids(inputs, outputs, whole=False)
        numbers = [head.row_numbers for head in (inputs, outputs)]
        if not shared and inputs.header[0] not in self._species:
            shared = self._same_names(inputs, outputs)
        for side, (head, prefix, kind) in enumerate(((inputs, "TR:", "treatment"), (outputs, "DV:", "readout"))):
            positions, names, has_ids = matrix_columns(head, prefix, kind, shared)
            self._names[side] = _numeric(head, positions)
            self._ids[side] = head.stored[0] if has_ids else None
            named.append(names)
        self.treatments, self.readouts = named
        if self._ids.count(None) == 1:
            self._check_order(self._ids.index(None), numbers[self._ids.index(None)])
            self._ids = [None, None]

    def _same_names(self, inputs: ParquetTable, outputs: ParquetTable) -> bool:
        """Whether the first columns hold the same names, each once, under any headers."""
        for head in (inputs, outputs):
            kind = str(head.arrays[0].type)
            if len(head.header) < 2 or not kind.startswith(("string", "large_string", "int", "uint")):
                return False
            if len(set(head.column(0))) < len(head):  # indicators repeat in the first rows, names do not
                return False
        one, other = self._column("inputs", inputs.stored[0]), self._column("outputs", outputs.stored[0])
        return len(set(one)) == len(one) == len(other) and set(one) == set(other)

    def _check_order(self, bare: int, numbers: range | None) -> None:
        """Refuse identifiers in one table by which the rows of the other are in another order."""
        sides = ("inputs", "outputs")
        named = self._ids[1 - bare]
        assert named is not None  # one of the two has identifiers
        ids = self._column(sides[1 - bare], named)
        n = len(ids)
        for counts in (numbers or range(0), range(n), range(1, n + 1)):
            rows = _hashed([str(i) for i in counts])
            if not np.array_equal(ids, rows) and np.array_equal(np.sort(ids), np.sort(rows)):
                raise DataError(
                    f"the identifiers of {self.paths[sides[1 - bare]]} are row numbers in another order than those of "
                    f"{self.paths[sides[bare]]}; streamed tables must hold the same samples in the same order"
                )
        self.warnings.append(ONE_SIDED)

    def __len__(self) -> int:
        return int(self._stretches[-1][1])

    def stretches(self) -> list[tuple[int, int]]:
        """The row groups."""
        return list(self._stretches)

    def _read(
        self, start: int, stop: int, size: int, sides: tuple[bool, bool]
    ) -> Iterator[tuple[NDArray[Any] | None, NDArray[Any] | None]]:
        group = self._groups[self._stretches.index((start, stop))]
        chosen = [
            [stored[i] for i in columns] if columns is not None else stored
            for stored, columns in zip(self._names, self._columns, strict=True)
        ]
        # Both sides in one table are read together; names of samples are compared only if both sides are read.
        together = len(self.paths) == 1
        ids = [name if all(sides) and not together else None for name in self._ids]
        names = [(chosen[side] if sides[side] else []) for side in (0, 1)]
        plans = [names[0] + names[1]] if together else names
        streams = [
            self._batches(role, group, size, columns + ([name] if name else []))
            for role, columns, name in zip(self.paths, plans, ids, strict=False)
            if columns
        ]
        row = start
        for batches in zip(*streams, strict=True):
            parts = iter(batches * 2 if together else batches)
            by_side = [next(parts) if sides[side] else None for side in (0, 1)]
            self._same_samples(by_side, ids, row)
            row += len(batches[0])
            x, y = (None if batch is None else _matrix(batch, names[side]) for side, batch in enumerate(by_side))
            yield x, y

    def _same_samples(self, batches: Sequence[Any], ids: Sequence[str | None], row: int) -> None:
        if ids[0] is None or ids[1] is None:
            return
        one, other = (batch.column(name).to_pylist() for batch, name in zip(batches, ids, strict=True))
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            if str(a).strip() != str(b).strip():
                raise DataError(
                    f"row {row + i + 1} is sample {str(a)!r} in {self.paths['inputs']} and {str(b)!r} in "
                    f"{self.paths['outputs']}; streamed tables must hold the same samples in the same order"
                )

    def _batches(self, role: str, group: int, size: int, columns: list[str]) -> Iterator[Any]:
        arrow = require("pyarrow", extra="parquet")
        try:
            yield from self._open(role).iter_batches(
                batch_size=size, row_groups=[group], columns=columns, use_threads=False
            )
        except (arrow.ArrowException, OSError) as error:
            raise DataError(
                f"{self.paths[role]}: row group {group + 1} cannot be read ({str(error).strip().splitlines()[0]}); "
                "it may be damaged: write the file again"
            ) from error

    def _open(self, role: str) -> Any:  # noqa: ANN401 - a pyarrow ParquetFile
        if role not in self._files:
            parquet, path = require("pyarrow.parquet", extra="parquet"), self.paths[role]
            read_start(path, "responses")  # raises an error for a file that is missing
            with complete_parquet(path, "responses"):
                # Without these two options a whole row group is held in memory as it is stored.
                self._files[role] = parquet.ParquetFile(path, pre_buffer=False, buffer_size=_READ_AHEAD)
        return self._files[role]

    def _head(self, role: str) -> ParquetTable:
        arrow = require("pyarrow", extra="parquet")
        file = self._open(role)
        if not file.metadata.num_rows:
            raise DataError(f"responses file '{self.paths[role]}' holds a header and no rows")
        first = next(file.iter_batches(batch_size=_HEAD_ROWS, use_threads=False))
        return parquet_table(arrow.Table.from_batches([first], file.schema_arrow), self.paths[role], "responses")

    def close(self) -> None:
        """Close the files; they are opened again when they are read."""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()
        self._files = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}


def _hashed(words: list[str]) -> NDArray[np.uint64]:
    return np.asarray(pd.util.hash_array(np.array(words, dtype=object)), dtype=np.uint64)


def _numeric(head: ParquetTable, positions: Sequence[int]) -> list[str]:
    """The names in the file of columns that must hold numbers."""
    wrong = [head.header[j] for j in positions if not str(head.arrays[j].type).startswith(_NUMBERS)]
    if wrong:
        raise DataError(
            f"{head.path}: {counted(len(wrong), 'column')} {listed(wrong)} hold text or other values, and a stream "
            "takes numbers only; convert them before the table is saved (frame[column].astype(float))"
        )
    return [head.stored[j] for j in positions]


def _matrix(batch: Any, columns: Sequence[str]) -> NDArray[np.float32]:  # noqa: ANN401 - a pyarrow RecordBatch
    """Columns of a batch, NaN where a value is missing, infinite where single precision overflows."""
    matrix = np.empty((len(columns), len(batch)), dtype=np.float32)
    with np.errstate(over="ignore"):
        for k, name in enumerate(columns):
            column = batch.column(name)
            values = column.to_numpy(zero_copy_only=False)
            if values.dtype == object:  # booleans or integers with gaps
                values = np.array([np.nan if v is None else v for v in values.tolist()], dtype=np.float64)
            matrix[k] = values
    return np.ascontiguousarray(matrix.T)
