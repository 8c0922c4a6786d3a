"""MIDAS: a table with treatments, times and readouts, told apart by the prefixes of the columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsnn.base.errors import DataError, did_you_mean
from gsnn.base.wording import asked, shell
from gsnn.io.choose import chosen_rows
from gsnn.io.responses import Responses
from gsnn.io.table import MISSING, Table, check_unique, is_number_or_missing
from gsnn.io.text import clean_name, counted, listed

_PREFIX = re.compile(r"(TR|DA|DV|ID)\s*:\s*(.*)", re.IGNORECASE | re.DOTALL)
_SUFFIX = re.compile(r"(.*?)\s*:\s*(CellLine|Stimul[a-z]+|Cytokines?|Ligands?|Inhibitors?)", re.IGNORECASE | re.DOTALL)
_CELL_LINE = re.compile(
    r"((TR|ID)\s*:\s*)?cell[\s_.-]?(lines?|types?|names?|s)?(\s*:\s*cell[\s_-]?line)?", re.IGNORECASE
)
_ANY_PREFIX = re.compile(r"\b(?:TR|DA|DV):", re.IGNORECASE)
_LATE = 20  # rows in which a late header is searched for
# Columns of CellNOpt's files that say "nothing was added".
_NOTHING = frozenset({"noinhib", "no-inhib", "nocyto", "no-cyto", "nolig", "no-lig"})


@dataclass
class Columns:
    """The columns of a prefixed table.

    Attributes:
        treatments: Positions of the treatment columns.
        treatment_names: Their names, without prefix; an explicit inhibitor's name ends in ``i``.
        kinds: The kinds of treatments that the file states, as in :class:`gsnn.io.Responses`.
        readouts: Positions of the readout columns.
        readout_names: Their names, without prefix.
        times: Position of the time column of each readout; ``ALL`` is the one for all.
        cell_lines: Positions of the cell line columns, by name.
        cell_column: Position of a column with the name of each row's cell line.
        ids: Position of a column of sample identifiers.
        warnings: Columns that were left out.
    """

    treatments: list[int] = field(default_factory=list)
    treatment_names: list[str] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    readouts: list[int] = field(default_factory=list)
    readout_names: list[str] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=dict)
    cell_lines: dict[str, int] = field(default_factory=dict)
    cell_column: int | None = None
    ids: int | None = None
    warnings: list[str] = field(default_factory=list)


def find_columns(table: Table, *, measured: bool = True) -> Columns:
    """Sort the columns of a table by their prefixes; ``measured`` is whether there must be readouts.

    Raises:
        DataError: If there is no treatment or no readout column, a time occurs twice, or a readout has no time.
    """
    columns = Columns()
    ignored: list[str] = []
    time_names: list[str] = []
    for j, header in enumerate(table.header):
        match = _PREFIX.fullmatch(header)
        if columns.cell_column is None and _CELL_LINE.fullmatch(header) and _are_lines(table, j):
            columns.cell_column = j
            continue
        kind, name = (match[1].upper(), match[2].strip()) if match else ("", header)
        if kind in {"TR", "DA", "DV"} and not name:
            raise DataError(f"{table.path}: column {j + 1} is '{header}' without a species; name it")
        if kind in {"TR", "DV"}:
            clean_name(name, table.path, 1)
        if kind == "TR":
            _treatment(columns, name, j)
        elif kind == "DV":
            columns.readouts.append(j)
            columns.readout_names.append(name)
        elif kind == "DA":
            time_names.append(name)
            columns.times["ALL" if name.upper() == "ALL" else name] = j
        elif kind == "ID" or (j == 0 and _are_names(table, j)):
            columns.ids = j if columns.ids is None else columns.ids
        else:
            ignored.append(header)
    _check(table, columns, time_names, measured)
    if ignored:
        columns.warnings.append(f"columns without TR:, DA: or DV: ignored: {listed(ignored)}")
    return columns


def read_midas(
    table: Table,
    columns: Columns,
    sha256: str,
    time: float | None = None,
    cell_line: str | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
) -> Responses:
    """The samples of a table; a blank treatment is 0, as the authors of the format read it.

    Args:
        table: The table.
        columns: Its columns.
        sha256: Hex digest of the file.
        time: The time to use, or None for the last of each readout.
        cell_line: The cell line to keep, or None for all.
        where: Column -> the values of it to keep.

    Raises:
        DataError: If a cell is not a number, a time is not in the file, or nothing is left.
    """
    warnings = list(columns.warnings)
    treatments = table.numbers(columns.treatments)
    blank = int(np.isnan(treatments).sum())
    if blank:
        treatments = np.nan_to_num(treatments)
        warnings.append(f"{counted(blank, 'blank treatment')} read as 0 (not applied)")
    readouts = table.numbers(columns.readouts)
    rows = np.arange(len(table))
    rows = rows[chosen_rows(table, where)] if where else rows
    rows = rows[_cell_line_rows(table, columns, cell_line, rows, warnings)]
    n_baseline = n_other_times = 0
    times: list[float] = []
    if columns.times and columns.readouts:
        when = _times(table, columns, readouts)[rows]
        baseline = np.all((when == 0) | np.isnan(when), axis=1)
        n_baseline = int(baseline.sum())
        keep, times = _choose_times(table, columns, when, time, treatments[rows], warnings)
        readouts[rows] = np.where(keep, readouts[rows], np.nan)
        n_other_times = len(rows) - n_baseline - int(keep.any(axis=1).sum())
        rows = rows[keep.any(axis=1)]
    index = _index(table, columns, rows, warnings)
    return Responses(
        pd.DataFrame(treatments[rows], index, pd.Index(columns.treatment_names, dtype=object)),
        pd.DataFrame(readouts[rows], index, pd.Index(columns.readout_names, dtype=object)),
        kinds=columns.kinds,
        warnings=warnings,
        paths={"data": table.path},
        sha256={"data": sha256},
        times=times,
        n_baseline=n_baseline,
        n_other_times=n_other_times,
    )


def _treatment(columns: Columns, name: str, j: int) -> None:
    match = _SUFFIX.fullmatch(name)
    suffix = match[2].casefold() if match else ""
    bare = match[1] if match else name
    if suffix == "cellline":
        columns.cell_lines[bare] = j
        return
    if bare.casefold() in _NOTHING:
        return
    if suffix.startswith("inhibitor"):
        bare += "i"
        columns.kinds[bare] = "inhibitor"
    elif suffix:
        columns.kinds[bare] = "stimulus"
    columns.treatments.append(j)
    columns.treatment_names.append(bare)


def _check(table: Table, columns: Columns, time_names: Sequence[str], measured: bool) -> None:
    path, header = table.path, listed([h for h in table.header if h], 12)
    if not columns.treatments or (measured and not columns.readouts):
        lacking = "treatment (TR:)" if columns.readouts else "readout (DV:)"
        if not columns.treatments and not columns.readouts:
            lacking = "treatment (TR:) and readout (DV:)"
        marked = [cell for cell in table.column(0) if _PREFIX.fullmatch(cell)]
        if 2 * len(marked) > len(table):
            raise DataError(
                f"{path} is transposed: its rows are the columns of responses ({listed(marked, 3)}); write samples as "
                "rows (pandas: frame.T.to_csv(path))"
            )
        if len(table.header) == 1 and len(_ANY_PREFIX.findall(header)) > 1:
            raise DataError(
                f"{path}: nothing separates the columns of its header ({header}); separate them by commas, tabs or "
                "semicolons"
            )
        marks = [sum(_PREFIX.fullmatch(cell) is not None for cell in row) for row in table.rows[:_LATE]]
        late = next((i for i, n in enumerate(marks) if n > 1), None)
        if late is not None:
            raise DataError(
                f"{path}: the names of the columns (TR:, DV:) stand in {table.unit} {table.lines[late]}; delete what "
                "stands before them"
            )
        raise DataError(
            f"{path} has no {lacking} columns; found {header}. Name treatments TR:<species> and readouts "
            f"DV:<species>, or give two tables, {asked('inputs= and outputs=', '--inputs and --outputs')}"
        )
    # Duplicated readouts are refused later, if the network has them.
    occurrences = Counter(columns.readout_names)
    check_unique([name for name in time_names if occurrences[name] < 2], path, "time")
    if columns.times and "ALL" not in columns.times:
        untimed = [n for n in columns.readout_names if n not in columns.times]
        if untimed:
            raise DataError(f"{path} has no time for the readouts {listed(untimed)}; add DA:<readout> or one DA:ALL")
    readouts = {*columns.readout_names, "ALL"}
    unread = [n for n in columns.times if n not in readouts]
    if unread:
        columns.warnings.append(f"times without a readout ignored: {listed(unread)}")


def _are_names(table: Table, j: int) -> bool:
    if not table.header[j]:
        return True
    try:
        table.numbers([j])
    except DataError:
        return True
    return False


def _are_lines(table: Table, j: int) -> bool:
    """Whether a column holds names of cell lines: words, or numbers (293), which under ``TR:`` are an indicator."""
    cells = {cell for cell in table.column(j) if cell.casefold() not in MISSING}
    words = not all(is_number_or_missing(cell) for cell in cells)
    return bool(cells) and (words or not table.header[j].upper().startswith("TR"))


def _cell_line_rows(
    table: Table, columns: Columns, cell_line: str | None, rows: NDArray[np.intp], warnings: list[str]
) -> NDArray[np.bool_] | slice:
    cells = {name: [table.column(j)[i] for i in rows] for name, j in columns.cell_lines.items()}
    varying = [name for name, column in cells.items() if len(set(column)) > 1]
    of = {name: [c.casefold() not in MISSING and c not in {"0", "0.0"} for c in cells[name]] for name in cells}
    if columns.cell_column is not None:
        column = table.column(columns.cell_column)
        words = [column[i] for i in rows]
        lines = list(dict.fromkeys(words))
        of |= {line: [word == line for word in words] for line in lines}
        varying += lines if len(lines) > 1 else []
    if cell_line is not None:
        if cell_line not in of:
            raise DataError(
                f"{table.path} has no cell line '{cell_line}'; it has {listed(of, 12) or 'none'}"
                f"{did_you_mean(cell_line, of)}"
            )
        kept = np.array(of[cell_line])
        if not kept.any():
            raise DataError(f"{table.path}: no row is of cell line '{cell_line}'")
        return kept
    if varying:
        # A cell line acts on no node of the network, so it cannot be an input.
        warnings.append(
            f"several cell lines ({listed(varying)}) are pooled, since no node stands for a cell line; "
            f"choose one with {asked('cell_line=', '--cell-line')}"
        )
    return slice(None)


def _times(table: Table, columns: Columns, readouts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (rows, readouts) times, with NaN only where nothing was measured either."""
    if "ALL" in columns.times and not any(n in columns.times for n in columns.readout_names):
        positions = [columns.times["ALL"]] * len(columns.readouts)
    else:
        common = columns.times.get("ALL", -1)
        positions = [columns.times.get(name, common) for name in columns.readout_names]
    distinct = sorted(set(positions))
    values = table.numbers(distinct)
    when = values[:, np.searchsorted(distinct, positions)]
    untimed = np.argwhere(np.isnan(when) & ~np.isnan(readouts))
    if len(untimed):
        i, k = untimed[0]
        raise DataError(f"{table.where(i, positions[k])}: the time of a measured value is missing; write it")
    return when


def _choose_times(
    table: Table,
    columns: Columns,
    when: NDArray[np.float64],
    time: float | None,
    treatments: NDArray[np.float64],
    warnings: list[str],
) -> tuple[NDArray[np.bool_], list[float]]:
    later = np.where(when > 0, when, np.nan)
    present = np.unique(later[~np.isnan(later)])
    shown = ", ".join(f"{t:g}" for t in present)
    if not len(present):
        raise DataError(
            f"{table.path}: every row is at time 0, which is the baseline; if DA: is no time, pass "
            + asked("format='matrix'", "--data-format matrix")
        )
    if time is not None and time not in present:
        raise DataError(f"{table.path} has no rows at time {time:g}; its times after 0: {shown}")
    last = np.full(later.shape[1], time if time is not None else np.nan)
    if time is None:
        timed = ~np.isnan(later).all(axis=0)
        last[timed] = np.nanmax(later[:, timed], axis=0)
    keep = later == last
    times = [float(t) for t in np.unique(last[keep.any(axis=0)])]
    if time is None and len(times) > 1:
        warnings.append(
            f"readouts end at different times; each one's last is used: {', '.join(f'{t:g}' for t in times)}"
        )
    unused = int(((~np.isnan(later)).any(axis=1) & ~keep.any(axis=1)).sum())
    if unused:
        warnings.append(f"{counted(unused, 'row')} at other times left out (times in the file: {shown})")
        timely = ~np.isnan(later)
        lost = _distinct(treatments[timely.any(axis=1)]) - _distinct(treatments[keep.any(axis=1)])
        if lost:
            warnings.append(f"{counted(len(lost), 'condition')} without a row at the chosen time left out")
    return keep, times


def _distinct(treatments: NDArray[np.float64]) -> set[tuple[float, ...]]:
    return {tuple(row) for row in treatments.tolist()}


def _index(table: Table, columns: Columns, rows: NDArray[np.intp], warnings: list[str]) -> pd.Index:
    if columns.ids is not None:
        cells = table.names(columns.ids)
        names = [cells[i] for i in rows]
        title = table.header[columns.ids]
        if len(set(names)) == len(names) and "" not in names:
            return pd.Index(names, dtype=object, name=title or "sample")
        if 1 < len(set(names)) < len(names) and title:
            chosen = asked(f"where={{{title!r}: {names[0]!r}}}", f"--where {shell(f'{title}={names[0]}')}")
            warnings.append(
                f"column {title!r} says the same in several rows ({listed(dict.fromkeys(names), 3)}), so it names no "
                f"samples and is ignored; {chosen} chooses rows by it"
            )
    return pd.Index([table.lines[i] for i in rows], name=table.unit)
