"""Choose samples of a table by the values in its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gsnn.base.errors import DataError, closest, did_you_mean
from gsnn.base.wording import asked
from gsnn.io.table import Table
from gsnn.io.text import listed


def same_value(cell: str, value: str) -> bool:
    """Whether a cell and a value are the same text or the same number.

    Example:
        >>> same_value("1.0", "1"), same_value("TRUE", "true"), same_value("A", "a"), same_value("", "0")
        (True, True, False, False)
    """
    one, other = cell.strip(), value.strip()
    if one == other:
        return True
    try:
        return _number(one) == _number(other)
    except ValueError:
        return False


def _number(word: str) -> float:
    """A word as a number; TRUE (of R) and True (of pandas) are 1."""
    return float({"true": "1", "false": "0"}.get(word.casefold(), word))


def conditions(where: Mapping[str, str | Sequence[str]] | Sequence[str] | None) -> dict[str, list[str]]:
    """The values to keep of each column; ``where`` is that of :func:`gsnn.io.read_responses`.

    Raises:
        DataError: If a condition has no ``=``.

    Example:
        >>> conditions(["cell=A", "batch=1", "cell=B"]), conditions({"batch": 2})
        ({'cell': ['A', 'B'], 'batch': ['1']}, {'batch': ['2']})
    """
    values: dict[str, list[str]] = {}
    if isinstance(where, Mapping):
        for name, value in where.items():
            several = not isinstance(value, str) and hasattr(value, "__iter__")
            values[str(name)] = [str(v) for v in value] if several else [str(value)]
        return values
    for condition in [where] if isinstance(where, str) else where or ():
        name, equals, value = str(condition).partition("=")
        if not equals or not name.strip():
            raise DataError(f'{asked("where", "--where")} must be "column=value", got {condition!r}')
        values.setdefault(name.strip(), []).append(value.strip())
    return values


def chosen_rows(table: Table, where: Mapping[str, Sequence[str]]) -> NDArray[np.bool_]:
    """Which rows have, in each column, one of its values; (rows,) booleans.

    Raises:
        DataError: If a column or a value does not exist, or no row is left.
    """
    keep = np.ones(len(table), bool)
    for name, values in where.items():
        if name not in table.header:
            raise unknown_column(str(table.path), name, [h for h in table.header if h])
        keep &= holds(str(table.path), name, table.column(table.header.index(name)), values)
    check_left(str(table.path), keep, where)
    return keep


def holds(path: str, name: str, cells: Sequence[str], values: Sequence[str]) -> NDArray[np.bool_]:
    """Which cells of a column have one of some values; DataError for a value that no cell has."""
    keep = np.zeros(len(cells), bool)
    for value in values:
        hit = np.array([same_value(cell, value) for cell in cells], dtype=bool)
        if not hit.any():
            held = list(dict.fromkeys(cells))
            raise DataError(
                f"{path}: no row has {value!r} in column {name!r}{did_you_mean(value, held)}; it holds "
                f"{listed(held, 8)}"
            )
        keep |= hit
    return keep


def unknown_column(path: str, name: str, columns: Sequence[str]) -> DataError:
    """The error for an unknown column in ``where``."""
    near = closest(name, columns, 1)
    return DataError(
        f"{path} has no column {name!r} to choose samples by ({asked('where=', '--where')})"
        + (f"; did you mean {near[0]!r}?" if near else f"; it has {listed(columns, 12)}")
    )


def check_left(path: str, keep: NDArray[np.bool_], where: Mapping[str, Sequence[str]]) -> None:
    """Raise a DataError if no sample is left."""
    if not keep.any():
        asked_for = ", ".join(f"{name}={' or '.join(values)}" for name, values in where.items())
        raise DataError(f"{path}: no sample has {asked_for}; leave one of these conditions out")
