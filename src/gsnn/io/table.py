"""Delimited tables, read as text; cells are converted to numbers on demand."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gsnn.base.errors import DataError
from gsnn.base.wording import asked
from gsnn.io.names import is_number
from gsnn.io.text import Text, counted, listed, suffix_of

MISSING = frozenset({"", "na", "nan", "n/a", "#n/a", "<na>"})
_CELL = re.compile(r'"[^"]*"(?=\s|$)|\S+')  # between blanks
_SNIFFED_ROWS = 20
MOST_EDGE_COLUMNS = 10_000
_SHORT = 6  # equal cells shorter than this share one string, which takes more than 50 bytes
_DELIMITER_NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
_CONVERTED = "(networkx.write_graphml(networkx.read_{}(path), 'network.graphml') converts it)"
# How files in other languages begin.
_LANGUAGES = {
    "XML": ("<?xml", "<graphml"),
    "HTML": ("<!DOCTYPE", "<html"),
    "JSON": ('{"', "{\n", "[{", "[\n"),
    f"GML {_CONVERTED.format('gml')}": ("graph [", "graph\n[", 'Creator "'),
    "DOT, a language for drawings": ("digraph ", "strict digraph ", "digraph{", "graph {"),
    f"Pajek {_CONVERTED.format('pajek')}": ("*Vertices", "*vertices"),
}


@dataclass(frozen=True)
class Table:
    """A rectangular table of stripped cells.

    Attributes:
        path: The file.
        header: One name per column; the first may be empty (row names).
        rows: The cells, one list per row.
        lines: The line on which each row starts, from 1, as an editor shows it.
        delimiter: What separates the cells.
        unit: What ``lines`` counts, for messages.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: Sequence[int]
    delimiter: str
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, j: int) -> list[str]:
        """The cells of column ``j``."""
        return [row[j] for row in self.rows]

    def names(self, j: int) -> list[str]:
        """The names in column ``j``."""
        return self.column(j)

    def where(self, i: int, j: int) -> str:
        """How a message names a cell."""
        name = repr(self.header[j]) if self.header[j] else "without a name"
        return f"{self.path}, {self.unit} {self.lines[i]}, column {name} (column {j + 1})"

    def numbers(self, columns: Sequence[int], *, missing: bool = True) -> NDArray[np.float64]:
        """Columns as numbers, with NaN where a cell is missing (empty, NA, N/A or NaN in any case).

        Args:
            columns: Which columns, in order.
            missing: Whether missing cells are allowed.

        Returns:
            Array of shape (rows, columns).

        Raises:
            DataError: If a cell is neither a finite number nor missing, or is missing where it may not be.
        """
        values = np.empty((len(self), len(columns)))
        for k, j in enumerate(columns):
            cells = self.column(j)
            try:
                values[:, k] = [float(c) for c in cells]
            except ValueError:
                try:
                    values[:, k] = [math.nan if c.casefold() in MISSING else float(c) for c in cells]
                except ValueError:
                    self._refuse(columns)
            # Python's float() also reads "1_000" and "inf", which are mistakes in a data file.
            if np.isinf(values[:, k]).any() or "_" in "".join(cells):
                self._refuse(columns)
        if not missing and np.isnan(values).any():
            i, k = np.argwhere(np.isnan(values))[0]
            more = int(np.isnan(values).sum()) - 1
            raise DataError(
                f"{self.where(i, columns[k])}: a treatment is missing; write 0 where it was not applied{_others(more)}"
            )
        return values

    def _refuse(self, columns: Sequence[int]) -> None:
        bad = sorted((i, j) for j in columns for i, cell in enumerate(self.column(j)) if not is_number_or_missing(cell))
        i, j = bad[0]
        cell = self.column(j)[i]
        hint = "write a number, or leave the cell empty where the value is missing"
        comma = asked("decimal=','", "--decimal ,")
        if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", cell):
            hint = f"take the commas out if they part thousands, or pass {comma} if they are decimal commas"
        elif is_number_or_missing(cell.replace(",", ".")):
            hint = f"use a decimal point, or pass {comma}"
        elif is_number_or_missing(cell.replace("\u2212", "-")):
            hint = "write the minus as '-'"
        raise DataError(f"{self.where(i, j)}: {listed([cell])} is not a number; {hint}{_others(len(bad) - 1)}")


def read_table(text: Text, what: str, delimiters: str | None = None, *, header: bool = True) -> Table:
    r"""Parse a delimited text by the rules of CSV (quoted fields, doubled quotes).

    A first line ``sep=;``, as Excel writes it, gives the delimiter. Lines that begin with ``#`` before the header are
    comments, except a last one with as many fields as the first row, which is the header. A header one field shorter
    than every row, as R writes it for row names, gets an empty first name. Blank lines are skipped, and so are columns
    without name and content.

    Args:
        text: The file.
        what: What it should hold, for the messages.
        delimiters: The characters to choose the delimiter from; by default by the extension, then tab,
            comma, semicolon, bar.
        header: Whether the first row names the columns; otherwise they are numbered from 1.

    Raises:
        DataError: If quotes do not close, rows differ in length, or nothing follows the header.

    Example:
        >>> table = read_table(Text(Path("t.csv"), "a;b\n1;x\n", ""), "table")
        >>> table.header, table.rows, table.lines
        (['a', 'b'], [['1', 'x']], [2])
    """
    path = text.path
    lines = text.content.split("\n")
    # Excel's own way to state the delimiter.
    stated = re.fullmatch(r'"?sep=(.)"?', lines[0].strip("\ufeff ").casefold()) if lines else None
    if stated:
        lines[0], delimiters = "", stated[1]
    elif lines and lines[0].strip("\ufeff ").casefold() in ("sep=", "sep=\t"):
        lines[0], delimiters = "", "\t"
    language = language_of(text)
    if language:
        raise DataError(f"{what} file '{path}' is {language}, not a table; export it as CSV, TSV or SIF")
    skipped = 0
    while skipped < len(lines) and (not lines[skipped].strip() or lines[skipped].startswith("#")):
        skipped += 1
    candidates = delimiters or _candidates(path)
    last = skipped - 1
    if header and last >= 0 and lines[last].startswith("#"):
        body = lines[skipped : skipped + 1]
        for delimiter in candidates:
            fields = lines[last].count(delimiter)
            if fields and (not body or fields == body[0].count(delimiter)):
                skipped = last
                break
    if skipped == len(lines):
        raise DataError(f"{what} file '{path}' holds only comments")
    delimiter = _sniff(lines[skipped:], candidates)
    rows, starts = _parse(lines, skipped, delimiter, path)
    if not header:
        return _numbered(path, rows, starts, delimiter)
    names, rows, starts = rows[0], rows[1:], starts[1:]
    while rows and not any(rows[-1]):
        del rows[-1], starts[-1]
    if not rows:
        raise DataError(f"{what} file '{path}' holds a header and no rows")
    if _shorter_by_one([names, *rows]):
        names = ["", *names]
    _square(names, rows, starts, delimiter, path)
    return _without_empty_columns(Table(path, names, rows, starts, delimiter))


def language_of(text: Text) -> str:
    """The language of a file that is no table, by its beginning; empty if it may be a table."""
    start = text.content[:1000].lstrip()
    return next((language for language, openings in _LANGUAGES.items() if start.startswith(openings)), "")


def check_edge_columns(n: int, path: Path) -> None:
    """Raise a DataError if a table has too many columns for one of edges."""
    if n > MOST_EDGE_COLUMNS:
        raise DataError(f"{path} has {n} columns, where a table of edges has a few; is it a matrix of responses?")


def check_unique(names: Sequence[str], path: Path | str, kind: str) -> None:
    """Raise a DataError that lists the names of columns that occur more than once, if there are any."""
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise DataError(f"{path}: duplicated {kind} columns {listed(twice, 20)}; rename or remove all but one of each")


def read_blanks(text: Text, *, header: bool = True) -> Table | None:
    """Parse a table whose cells are separated by blanks; None if its rows differ in length. See :func:`read_table`."""
    numbered = [(n, line) for n, line in enumerate(text.content.split("\n"), 1) if line.strip()]
    rows = [(n, [unquoted(cell) for cell in _CELL.findall(line)]) for n, line in numbered if not line.startswith("#")]
    cells, lines = [row for _, row in rows], [n for n, _ in rows]
    if _shorter_by_one(cells):
        cells[0] = ["", *cells[0]]
        if not header:
            cells, lines = cells[1:], lines[1:]
    if len({len(row) for row in cells}) != 1 or len(cells) <= header:
        return None
    if header:
        return Table(text.path, cells[0], cells[1:], lines[1:], " ")
    return _numbered(text.path, cells, lines, " ")


def _shorter_by_one(rows: list[list[str]]) -> bool:
    """Whether all rows but the first have one more field, not always empty, as R writes row names."""
    width = len(rows[0]) + 1
    return len(rows) > 1 and all(len(row) == width for row in rows[1:]) and any(row[-1] for row in rows[1:])


def unquoted(cell: str) -> str:
    """A cell without double quotes around it."""
    return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _numbered(path: Path, rows: list[list[str]], lines: list[int], delimiter: str) -> Table:
    """A table without a header."""
    filled = [(n, row) for n, row in zip(lines, rows, strict=True) if any(row)]
    lines, rows = [n for n, _ in filled], [row for _, row in filled]
    if _shorter_by_one(rows):  # a header after all: R does not name the column of row names
        lines, rows = lines[1:], rows[1:]
    header = [str(j) for j in range(1, len(rows[0]) + 1)]
    _square(header, rows, lines, delimiter, path)
    return Table(path, header, rows, lines, delimiter)


def _shown(error: csv.Error) -> str:
    return str(error).replace("\t", "\\t")


def _others(more: int) -> str:
    return f" ({more} more such cell{'s' if more > 1 else ''})" if more > 0 else ""


def is_number_or_missing(cell: str) -> bool:
    """Whether a cell is a finite number, or missing."""
    return cell.casefold() in MISSING or (is_number(cell) and math.isfinite(float(cell)))


def _candidates(path: Path) -> str:
    first = {".csv": ",;", ".tsv": "\t", ".tab": "\t"}.get(suffix_of(path), "")
    return first + "".join(d for d in "\t,;|" if d not in first)


def _sniff(lines: list[str], candidates: str) -> str:
    """The first delimiter that gives the first rows equal lengths, or else the most frequent one in the header."""
    sample = [line for line in lines[: 2 * _SNIFFED_ROWS] if line.strip()][:_SNIFFED_ROWS]
    most, best = 0, candidates[0]
    for delimiter in candidates:
        try:
            counts = [len(row) for row in csv.reader(sample, delimiter=delimiter, skipinitialspace=True)]
        except csv.Error:
            continue
        if counts[0] > 1 and (len(set(counts)) == 1 or set(counts[1:]) == {counts[0] + 1}):
            return delimiter
        if counts[0] - 1 > most:
            most, best = counts[0] - 1, delimiter
    return best


def _parse(lines: list[str], skipped: int, delimiter: str, path: Path) -> tuple[list[list[str]], list[int]]:
    ended = (f"{line}\n" for line in itertools.islice(lines, skipped, None))
    reader = csv.reader(ended, delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[list[str]] = []
    starts: list[int] = []
    start = skipped + 1
    shared = dict[str, str]().setdefault
    try:
        for row in reader:
            if row:
                rows.append([shared(cell, cell) if len(cell) < _SHORT else cell for cell in map(str.strip, row)])
                starts.append(start)
            start = skipped + reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {start}: the quotes do not close ({_shown(error)}); "
            'write a literal quote as "" inside a quoted field'
        ) from error
    return rows, starts


def _square(header: list[str], rows: list[list[str]], starts: list[int], delimiter: str, path: Path) -> None:
    width = len(header)
    for i, row in enumerate(rows):
        if len(row) == width:
            continue
        if len(row) > width and not any(row[width:]):
            del row[width:]
            continue
        raise DataError(
            f"{path}, line {starts[i]}: {counted(len(row), 'field')} where the header has {width} "
            f"(separated by {_DELIMITER_NAMES.get(delimiter, repr(delimiter))}); make every row as long as the header"
        )


def _without_empty_columns(table: Table) -> Table:
    keep = [j for j, name in enumerate(table.header) if name or any(row[j] for row in table.rows)]
    if len(keep) == len(table.header):
        return table
    rows = [[row[j] for j in keep] for row in table.rows]
    return replace(table, header=[table.header[j] for j in keep], rows=rows)
