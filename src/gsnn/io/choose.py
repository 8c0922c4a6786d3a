"""Which samples of a table are wanted, by what stands in its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gsnn.base.errors import DataError, closest
from gsnn.base.wording import asked
from gsnn.io.table import Table
from gsnn.io.text import listed


def same_value(cell: str, value: str) -> bool:
    """Whether a cell holds a value: the same text, or the same number.

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
    """A word as a number; R writes TRUE, pandas True, and others 1."""
    return float({"true": "1", "false": "0"}.get(word.casefold(), word))


def conditions(where: Mapping[str, str | Sequence[str]] | Sequence[str] | None) -> dict[str, list[str]]:
    """Which values of which columns are wanted.

    Args:
        where: As :func:`gsnn.io.read_responses` takes it.

    Returns:
        Column -> values.

    Raises:
        DataError: If a condition has no ``=``.

    Example:
        >>> conditions(["cell=A", "batch=1", "cell=B"]), conditions({"batch": 2})
        ({'cell': ['A', 'B'], 'batch': ['1']}, {'batch': ['2']})
    """
    found: dict[str, list[str]] = {}
    if isinstance(where, Mapping):
        for name, value in where.items():
            found[str(name)] = [str(v) for v in ([value] if isinstance(value, str) or not hasattr(value, "__iter__")
                                                 else value)]  # fmt: skip
        return found
    for condition in [where] if isinstance(where, str) else where or ():
        name, equals, value = str(condition).partition("=")
        if not equals or not name.strip():
            raise DataError(f'{asked("where", "--where")} must be "column=value", got {condition!r}')
        found.setdefault(name.strip(), []).append(value.strip())
    return found


def chosen_rows(table: Table, where: Mapping[str, Sequence[str]]) -> NDArray[np.bool_]:
    """The rows in which every column has one of the values asked for.

    Args:
        table: The table.
        where: Column -> values.

    Returns:
        (rows,) booleans.

    Raises:
        DataError: If a column or a value is not there, or no row is left.
    """
    keep = np.ones(len(table), bool)
    for name, values in where.items():
        if name not in table.header:
            raise unknown_column(str(table.path), name, [h for h in table.header if h])
        keep &= holds(str(table.path), name, table.column(table.header.index(name)), values)
    check_left(str(table.path), keep, where)
    return keep


def holds(path: str, name: str, cells: Sequence[str], values: Sequence[str]) -> NDArray[np.bool_]:
    """Which cells of a column have one of some values; DataError for a value that none has."""
    found = np.zeros(len(cells), bool)
    for value in values:
        hit = np.array([same_value(cell, value) for cell in cells], dtype=bool)
        if not hit.any():
            there = list(dict.fromkeys(cells))
            near = closest(value, there, 1)
            raise DataError(
                f"{path}: no row has {value!r} in column {name!r}"
                + (f" (did you mean {near[0]!r}?)" if near else "")
                + f"; it holds {listed(there, 8)}"
            )
        found |= hit
    return found


def unknown_column(path: str, name: str, there: Sequence[str]) -> DataError:
    """The error for a column to choose by that is not there."""
    near = closest(name, there, 1)
    return DataError(
        f"{path} has no column {name!r} to choose samples by ({asked('where=', '--where')})"
        + (f"; did you mean {near[0]!r}?" if near else f"; it has {listed(there, 12)}")
    )


def check_left(path: str, keep: NDArray[np.bool_], where: Mapping[str, Sequence[str]]) -> None:
    """Refuse a choice that leaves nothing."""
    if not keep.any():
        asked_for = ", ".join(f"{name}={' or '.join(values)}" for name, values in where.items())
        raise DataError(f"{path}: no sample has {asked_for}; leave one of these conditions out")
