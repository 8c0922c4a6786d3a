"""Edge tables without a header: how to recognise and read them; adjacency matrices, which are refused."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gsnn.base.errors import DataError
from gsnn.base.wording import asked
from gsnn.io.names import is_number
from gsnn.io.signs import sign_of
from gsnn.io.table import Table

_READ = 1000  # rows that are examined


def advice(rows: Sequence[Sequence[str]]) -> str:
    """How to read rows of cells as edges by the numbers of their columns; the end of an error message.

    Example:
        >>> advice([["EGF", "1950", "EGFR", "1956"], ["RAS", "3265", "RAF", "5894"]])[:81]
        'it looks like a table without a header, with sources in column 1 and targets in 3'
    """
    width = min(map(len, rows[:_READ]))
    columns = [[row[j] for row in rows[:_READ]] for j in range(width)]
    ends = _ends(columns)
    if ends is None:
        return "number its columns from 1: " + asked("source='1', target='2'", "--source-column 1 --target-column 2")
    source, target = ends[0] + 1, ends[1] + 1
    signs = [
        j
        for j, column in enumerate(columns)
        if j not in ends
        and all(map(is_sign, column))
        and any(not is_number(cell) or float(cell) < 0 for cell in column)
    ]
    python = f"source='{source}', target='{target}'" + (f", sign='{signs[0] + 1}'" if signs else "")
    flags = f"--source-column {source} --target-column {target}" + (f" --sign-column {signs[0] + 1}" if signs else "")
    return (
        f"it looks like a table without a header, with sources in column {source} and targets in {target}: "
        f"read it with {asked(python, flags)}"
    )


def _ends(columns: list[list[str]]) -> tuple[int, int] | None:
    """The first two columns of names, or else of whole numbers that do not just count the rows."""
    others = [(j, column) for j, column in enumerate(columns) if not all(map(is_sign, column))]
    names = [j for j, column in others if not all(map(is_number, column))]
    if len(names) < 2:
        whole = [j for j, column in others if all(re.fullmatch(r"\d+", c) for c in column) and not _counts(column)]
        names = sorted({*names, *whole})
    return (names[0], names[1]) if len(names) > 1 else None


def _counts(column: list[str]) -> bool:
    first = int(column[0])
    return first in (0, 1) and len(column) > 1 and column == [str(first + i) for i in range(len(column))]


def refuse_matrix(table: Table) -> None:
    """Refuse an adjacency matrix, which does not say whether its rows or its columns are the sources.

    Raises:
        DataError: If rows and columns have the same names, or all cells of a square are 0, 1 or -1.
    """
    header, rows = table.header, table.rows
    n = len(rows)
    if n < 2 or len(header) not in (n, n + 1, n + 2):
        return
    names = [row[0] for row in rows if row]
    named = len(header) == n + 1 and set(names) == set(header[1:]) and all(is_number(cell) for cell in rows[0][1:])
    lines = [header, *rows]
    bare = len(header) == len(lines) > 2 and all(is_plain_sign(cell) for line in lines for cell in line)
    if named or bare:
        what = "" if named else " without names"
        raise DataError(
            f"network file '{table.path}' is an adjacency matrix{what}, which does not say whether its rows act on its "
            "columns or the other way round; write a table of its edges with the columns source,target,sign"
        )


def is_plain_sign(word: str) -> bool:
    """Whether a word is +1, -1 or 0, however it is written."""
    return word in {"+", "-"} or (is_number(word) and float(word) in {-1.0, 0.0, 1.0})


def is_sign(word: str) -> bool:
    """Whether a word is +1, -1 or 0, or a known word for a sign; other numbers are not."""
    return is_plain_sign(word) or (not is_number(word) and sign_of(word) is not None)


def first_row_is_data(table: Table) -> bool:
    """Whether the header of a table holds numbers, or names that are in its rows too."""
    cells = {cell for row in table.rows for cell in row}
    return any(is_number(name) or name in cells for name in table.header if name)
