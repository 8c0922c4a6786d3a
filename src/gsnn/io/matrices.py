"""Two plain matrices, of treatments and of readouts, paired by sample."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from gsnn.base.errors import DataError
from gsnn.base.wording import asked
from gsnn.io.names import parses_as_number
from gsnn.io.responses import ONE_SIDED
from gsnn.io.table import Table
from gsnn.io.text import clean_name, listed


def read_matrices(
    inputs: Table, outputs: Table, species: Collection[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Pair the rows of two tables.

    Args:
        inputs: Samples by treatments.
        outputs: Samples by readouts.
        species: Names of the network; a column with such a name does not hold identifiers.

    Returns:
        Treatments, readouts (rows in the order of ``inputs``), and notes for the user.

    Raises:
        DataError: If the tables do not hold the same samples, or a cell is not a number.
    """
    _refuse_turned(inputs, outputs)
    shared = inputs.header[0] not in species and shared_ids(inputs, outputs)
    treatments = read_matrix(inputs, "TR:", "treatment", shared, missing=False)
    readouts = read_matrix(outputs, "DV:", "readout", shared, missing=True)
    notes: list[str] = []
    named = [shared or _first_is_ids(table) for table in (inputs, outputs)]
    if all(named):
        return treatments, _aligned(treatments, readouts, inputs, outputs, notes), notes
    if len(treatments) != len(readouts):
        raise DataError(
            f"{inputs.path} has {len(treatments)} rows and {outputs.path} {len(readouts)}; give both the same rows, "
            "or a first column of sample identifiers"
        )
    if any(named):
        index = treatments.index if named[0] else readouts.index
        table, other = (inputs, outputs) if named[0] else (outputs, inputs)
        counts = _row_numbers(other)
        if counts is not None and sorted(index) == sorted(counts):
            # pandas stores only the bounds of a plain index; its numbers are identifiers like any other.
            if named[0]:
                return treatments, readouts.set_axis(counts).loc[index].set_axis(index), notes
            return treatments.set_axis(counts), readouts.loc[counts], notes
        if _permuted(index):
            raise DataError(
                f"the identifiers of {table.path} are row numbers in another order, and {other.path} has none; give "
                f"both the same identifiers, or remove them from {table.path} if both have the same order of rows"
            )
        notes.append(ONE_SIDED)
        treatments.index, readouts.index = index, index
    else:
        readouts.index = treatments.index
    return treatments, readouts, notes


def read_matrix(table: Table, prefix: str, kind: str, shared: bool = False, *, missing: bool) -> pd.DataFrame:
    """One matrix, with the identifiers or lines of the samples as index; see :func:`matrix_columns`.

    Raises:
        DataError: If it has no columns of numbers, or a cell is not a number, or is missing where that is not allowed.
    """
    columns, names, has_ids = matrix_columns(table, prefix, kind, shared)
    values = table.numbers(columns, missing=missing)
    index = pd.Index(table.lines, name=table.unit)
    if has_ids:
        index = pd.Index(table.names(0), dtype=object, name=table.header[0] or "sample")
    return pd.DataFrame(values, index, pd.Index(names, dtype=object))


def shared_ids(inputs: Table, outputs: Table, *, whole: bool = True) -> bool:
    """Whether the first columns of both tables are identifiers of the same samples.

    They are if both have the same header or the same values, each once, unless the values may be those of a treatment
    or a readout: repeated ones, or numbers with decimals.

    Args:
        inputs: The table of treatments.
        outputs: The table of readouts.
        whole: Whether these are all rows, so that the values can be compared.
    """
    if min(len(inputs.header), len(outputs.header)) < 2:
        return False
    one, other = (table.column(0) for table in (inputs, outputs))
    if any(not _is_label(cell) for cell in (*one, *other)):
        return False
    unique = len(set(one)) == len(one) > 1 and len(set(other)) == len(other)
    same_header = bool(inputs.header[0]) and inputs.header[0].casefold() == outputs.header[0].casefold()
    if not unique or same_header or not whole:
        return unique and same_header
    return set(one) == set(other) or _same_numbers(one, other) is not None


def _is_label(cell: str) -> bool:
    return bool(cell) and (not parses_as_number(cell) or (float(cell).is_integer() and "e" not in cell.casefold()))


def _same_numbers(one: Sequence[str] | pd.Index, other: Sequence[str] | pd.Index) -> tuple[list[int], list[int]] | None:
    """Identifiers as whole numbers; None if one is no number, two become the same, or the two sides differ.

    1, 01 and 1.0 are the same identifier, written by different programs.
    """
    if not all(_is_label(name) and parses_as_number(name) for name in (*one, *other)):
        return None
    first, second = ([int(float(name)) for name in names] for names in (one, other))
    same = len(set(first)) == len(first) and len(set(second)) == len(second) and set(first) == set(second)
    return (first, second) if same else None


def _refuse_turned(inputs: Table, outputs: Table) -> None:
    """Refuse two tables with swapped prefixes, or with the samples as columns of one or both."""
    for table, prefix in ((inputs, "DV:"), (outputs, "TR:")):
        if all(name.upper().startswith(prefix) for name in table.header[1:]) and len(table.header) > 1:
            raise DataError(
                f"all columns of {table.path} begin with {prefix}; are "
                f"{asked('inputs= and outputs=', '--inputs and --outputs')} swapped?"
            )
    one, other = (set(table.header[1:]) for table in (inputs, outputs))
    rows = [set(table.column(0)) for table in (inputs, outputs)]
    turned = []
    if len(one) > 1 and len(rows[1]) > 1 and one == rows[1] and not rows[0] & one:
        turned = [inputs]
    elif len(other) > 1 and len(rows[0]) > 1 and other == rows[0] and not rows[1] & other:
        turned = [outputs]
    elif len(one) > 2 and one == other and not rows[0] & rows[1] and not any(map(parses_as_number, rows[0] | rows[1])):
        turned = [inputs, outputs]
    if turned:
        paths = " and ".join(str(table.path) for table in turned)
        raise DataError(
            f"{paths} {'is' if len(turned) == 1 else 'are'} transposed: the samples are the columns; write them as "
            "rows (pandas: frame.T.to_csv(path))"
        )


def matrix_columns(table: Table, prefix: str, kind: str, shared: bool = False) -> tuple[list[int], list[str], bool]:
    """The columns of numbers of a matrix.

    Args:
        table: The matrix, or its first rows.
        prefix: The prefix that all names may have.
        kind: What the columns are ("treatment", "readout").
        shared: Whether the first column is known to name the samples.

    Returns:
        Their positions, their names, and whether the first column of the table names the samples.

    Raises:
        DataError: If there are none, or one has no name.
    """
    has_ids = shared or _first_is_ids(table)
    columns = list(range(1 if has_ids else 0, len(table.header)))
    names = [table.header[j] for j in columns]
    if not names:
        raise DataError(f"{table.path} has no {kind} columns, only {listed(table.header)}; check the delimiter")
    unnamed = [j + 1 for j, name in zip(columns, names, strict=True) if not name]
    if unnamed:
        raise DataError(f"{table.path}: column {unnamed[0]} has no name; name it after a species")
    if all(name.upper().startswith(prefix) for name in names):
        names = [name[len(prefix) :].strip() for name in names]
    for name in names:
        clean_name(name, table.path, 1)
    return columns, names, has_ids


def _first_is_ids(table: Table) -> bool:
    """Whether the first column names the samples: it has no name or one for samples, or holds only text.

    A column of numbers with one typing error does not name samples: the error must be reported.
    """
    header = table.header[0].casefold()
    if header in {"", "sample", "sample_id", "sampleid", "samples", "id", "condition", "condition_id", "index"}:
        return True
    return not any(map(parses_as_number, table.column(0)))


def _aligned(
    treatments: pd.DataFrame, readouts: pd.DataFrame, inputs: Table, outputs: Table, notes: list[str]
) -> pd.DataFrame:
    if list(treatments.index) == list(readouts.index):
        if treatments.index.has_duplicates:
            notes.append(
                f"the identifiers of the samples repeat ({listed(dict.fromkeys(treatments.index), 3)}) and stand in "
                "the same order in both tables; rows were paired in order"
            )
        return readouts
    if set(treatments.index) != set(readouts.index):
        numbers = _same_numbers(treatments.index, readouts.index)
        if numbers is not None:
            return readouts.set_axis(numbers[1]).loc[numbers[0]].set_axis(treatments.index)
    for table, frame in ((inputs, treatments), (outputs, readouts)):
        if frame.index.has_duplicates:
            twice = list(dict.fromkeys(frame.index[frame.index.duplicated()]))
            raise DataError(f"{table.path}: sample identifiers {listed(twice)} stand more than once; make them unique")
    ours, theirs = treatments.index, readouts.index
    alone = [(ours.difference(theirs, sort=False), inputs), (theirs.difference(ours, sort=False), outputs)]
    parts = [f"{len(names)} only in {table.path} ({listed(names)})" for names, table in alone if len(names)]
    if parts:
        raise DataError(f"the two tables hold different samples: {'; '.join(parts)}; give both the same identifiers")
    return readouts.loc[treatments.index]


def _row_numbers(table: Table) -> list[str] | None:
    """The row numbers that pandas stored in the file instead of an index, as text."""
    numbers = getattr(table, "row_numbers", None)
    return None if numbers is None else [str(number) for number in numbers]


def _permuted(index: pd.Index) -> bool:
    """Whether identifiers are row numbers, from 0 or 1, in another order."""
    names = list(map(str, index))
    if not all(name.isdecimal() for name in names):
        return False
    numbers = [int(name) for name in names]
    return numbers != sorted(numbers) and sorted(numbers) in ([*range(len(numbers))], [*range(1, len(numbers) + 1)])
