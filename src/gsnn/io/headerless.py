"""Edges in a table without a header: what it looks like, and how to read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gsnn.base.errors import DataError
from gsnn.base.wording import asked
from gsnn.io.names import is_number
from gsnn.io.signs import sign_of

_READ = 1000  # rows that are looked at


def advice(rows: Sequence[Sequence[str]]) -> str:
    """How to read rows of cells as edges, with the numbers of the columns.

    Returns:
        What to say after a semicolon.

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
        if j not in ends and _is_sign(column) and any(not is_number(cell) or float(cell) < 0 for cell in column)
    ]
    python = f"source='{source}', target='{target}'" + (f", sign='{signs[0] + 1}'" if signs else "")
    flags = f"--source-column {source} --target-column {target}" + (f" --sign-column {signs[0] + 1}" if signs else "")
    return (
        f"it looks like a table without a header, with sources in column {source} and targets in {target}: "
        f"read it with {asked(python, flags)}"
    )


def _ends(columns: list[list[str]]) -> tuple[int, int] | None:
    """The first two columns of names; of a table of numbers, of whole ones that do not only count the rows."""
    names = [j for j, c in enumerate(columns) if not all(map(is_number, c)) and not _is_sign(c)]
    if len(names) < 2:
        whole = [j for j, c in enumerate(columns) if all(map(_whole, c)) and not _is_sign(c) and not _counts(c)]
        names = sorted({*names, *whole})
    return (names[0], names[1]) if len(names) > 1 else None


def _whole(cell: str) -> bool:
    return re.fullmatch(r"\d+", cell) is not None


def _is_sign(column: list[str]) -> bool:
    return all(is_plain_sign(c) or (not is_number(c) and sign_of(c) is not None) for c in column)


def _counts(column: list[str]) -> bool:
    first = int(column[0])
    return first in (0, 1) and len(column) > 1 and column == [str(first + i) for i in range(len(column))]


def refuse_matrix(header: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> None:
    """Refuse an adjacency matrix: nothing in it says whether its rows or its columns are the sources.

    Raises:
        DataError: If rows and columns have the same names, or all cells of a square are 0, 1 or -1.
    """
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
            f"network file '{path}' is an adjacency matrix{what}, which does not say whether its rows act on its "
            "columns or the other way round; write a table of its edges with the columns source,target,sign"
        )


def is_plain_sign(word: str) -> bool:
    """Whether a word is +1, -1 or 0, however it is written."""
    return word in {"+", "-"} or (is_number(word) and float(word) in {-1.0, 0.0, 1.0})


def first_row_is_data(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether what was taken for a header holds numbers, or names that stand in the rows too."""
    if any(is_number(cell) for cell in header if cell):
        return True
    below = {cell for row in rows for cell in row}
    return any(cell in below for cell in header if cell)
