"""Perturbation responses: what was done to the cells, and what was measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gsnn.base.errors import DataError
from gsnn.base.wording import asked
from gsnn.io.names import parses_as_number
from gsnn.io.text import counted, listed

FORMATS = ("midas", "matrix", "h5ad")
ONE_SIDED = "only one of the two tables has sample identifiers; rows were paired in order"


@dataclass(frozen=True, eq=False)
class Responses:
    """Treatments and readouts of the same samples.

    Attributes:
        treatments: (M, I) numbers, a column per treatment, named without ``TR:``.
        readouts: (M, O) numbers, a column per readout, named without ``DV:``; NaN where nothing was measured.
        kinds: ``"stimulus"`` or ``"inhibitor"`` for the treatments for which the file says so
            (``TR:mek12:Inhibitors`` is column ``mek12i`` here); for the others the name decides.
        warnings: What a user should know about the files.
        paths: The files by role: ``data``, or ``inputs`` and ``outputs``.
        sha256: Hex digest of each file, by the same roles.
        times: The times that were kept, in ascending order; empty if the file has none.
        n_baseline: How many rows at time 0 were left out.
        n_other_times: How many rows at other times than those kept were left out.
        other_names: Other names of the readouts, by column of ``var``.
        labels: Whether the treatments are labels that a separator can still split.
        categories: Whether they are labels at all.

    Rows are paired by the index of the two tables if both have one; labels in another order are aligned. In a table
    without an index, a first column of text, or of the same whole numbers in both tables, becomes the index.

    Raises:
        TypeError: If one of them is no data frame.
        DataError: If the tables have different numbers of rows, or different labels, or columns without names.
    """

    treatments: pd.DataFrame
    readouts: pd.DataFrame
    kinds: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    paths: dict[str, Path] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    n_baseline: int = 0
    n_other_times: int = 0
    other_names: dict[str, list[str]] = field(default_factory=dict)
    labels: bool = False
    categories: bool = False

    def __post_init__(self) -> None:
        sides = (("treatments", "TR:", "DV:"), ("readouts", "DV:", "TR:"))
        if not self.paths:  # the readers have done this
            tables = [_table(getattr(self, what), what) for what, _, _ in sides]
            labelled = _labelled(tables[0], tables[1])
            taken = [table.columns[0] for table, rest in zip(tables, labelled, strict=True) if table is not rest]
            if len(taken) == 2 and not any(isinstance(table.index[0], str) for table in labelled):
                note = f"the first columns ({listed(taken)}) hold the same whole numbers and were taken for identifiers"
                object.__setattr__(self, "warnings", [*self.warnings, note])
            for (what, prefix, other), table in zip(sides, labelled, strict=True):
                object.__setattr__(self, what, _named(table, what, prefix, other))
        if len(self.treatments) != len(self.readouts):
            raise DataError(
                f"treatments have {len(self.treatments)} rows and readouts {len(self.readouts)}; "
                "give one row per sample in both"
            )
        ours, theirs = self.treatments.index, self.readouts.index
        if ours.equals(theirs):
            return
        counts = [isinstance(index, pd.RangeIndex) and index.name is None for index in (ours, theirs)]
        if any(counts) and not all(pd.api.types.is_integer_dtype(index.dtype) for index in (ours, theirs)):
            if not all(counts):
                object.__setattr__(self, "warnings", [*self.warnings, ONE_SIDED])
            return  # one of them has no labels of its own
        for what, index in (("treatments", ours), ("readouts", theirs)):
            if index.has_duplicates:
                twice = list(dict.fromkeys(index[index.duplicated()]))
                raise DataError(
                    f"the rows of treatments and readouts have different labels, and those of {what} stand more than "
                    f"once ({listed(twice)}); make them unique, or drop the index of both (reset_index(drop=True))"
                )
        if len(ours.intersection(theirs)) < len(ours):
            raise DataError(
                f"the rows of treatments and readouts have different labels ({listed(ours.difference(theirs), 3)} "
                f"against {listed(theirs.difference(ours), 3)}); give both the same samples, or drop the index of both "
                "(reset_index(drop=True)) if they stand in the same order"
            )
        object.__setattr__(self, "readouts", self.readouts.loc[ours])

    @property
    def name(self) -> str:
        """How messages call the data: the paths of its files."""
        return " and ".join(str(p) for p in self.paths.values()) or "responses"

    def __repr__(self) -> str:
        return f"Responses({str(self).splitlines()[0]})"

    def __str__(self) -> str:
        """The counts on one line, then one line per warning."""
        n_missing = int(self.readouts.isna().to_numpy().sum())
        head = (
            f"{self.name}: {counted(len(self.treatments), 'sample')}, "
            f"{counted(self.treatments.shape[1], 'treatment')}, {counted(self.readouts.shape[1], 'readout')}, "
            f"{counted(n_missing, 'missing value')}"
        )
        if self.times:
            head += f", time {', '.join(f'{t:g}' for t in self.times)}"
        if self.n_baseline:
            head += f" ({counted(self.n_baseline, 'baseline row')} left out)"
        return "\n".join([head, *(f"  note: {w}" for w in self.warnings)])


def check_one_or_two(path: object, inputs: object, outputs: object) -> None:
    """Raise a DataError unless either one file or two (treatments and readouts) are given."""
    if (path is None) == (inputs is None and outputs is None) or (inputs is None) != (outputs is None):
        raise DataError(
            f"give either one response file, or both {asked('inputs= and outputs=', '--inputs and --outputs')}"
        )


def _table(table: object, what: str) -> pd.DataFrame:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"{what} must be a pandas DataFrame with a row per sample and a column per species, got "
            f"{type(table).__name__}; pandas.DataFrame(values, columns=[...]) makes one"
        )
    return table


def _named(table: pd.DataFrame, what: str, prefix: str, other: str) -> pd.DataFrame:
    """The table with names of species as columns: text, without a prefix that all of them have."""
    columns: pd.Index[Any] = table.columns
    if isinstance(columns, pd.RangeIndex) and table.shape[1]:
        raise DataError(f"the columns of {what} have no names; name each after its species (columns=[...])")
    names = []
    titles: list[Any] = list(table.columns)
    for name in titles:
        if isinstance(name, bool) or not isinstance(name, str | int | np.integer):
            raise DataError(f"the columns of {what} must be named by text, got {name!r}")
        names.append(str(name).strip())
    if names and all(name.upper().startswith(other) for name in names):
        raise DataError(f"all columns of {what} begin with {other}; are treatments and readouts swapped?")
    if names and all(name.upper().startswith(prefix) for name in names):
        names = [name[len(prefix) :].strip() for name in names]
    return table if names == list(table.columns) else table.set_axis(pd.Index(names, dtype=object), axis="columns")


def _labelled(treatments: pd.DataFrame, readouts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables with identifiers in their first columns moved to the index."""
    tables = (treatments, readouts)
    first = [_first_column(table) for table in tables]
    texts = [column is not None and isinstance(column.iloc[0], str) for column in first]
    same = all(column is not None and column.is_unique for column in first) and set(first[0]) == set(first[1])  # type: ignore[arg-type]
    ours, theirs = (
        table.iloc[:, 1:].set_axis(pd.Index(column, name=table.columns[0]))
        if column is not None and (is_text or same)
        else table
        for table, column, is_text in zip(tables, first, texts, strict=True)
    )
    return ours, theirs


def _first_column(table: pd.DataFrame) -> pd.Series | None:
    """The first column, if it may hold identifiers: words or whole numbers."""
    if table.shape[1] < 2 or not len(table) or not isinstance(table.index, pd.RangeIndex):
        return None
    column = table.iloc[:, 0]
    if pd.api.types.is_integer_dtype(column.dtype):
        return column
    if pd.api.types.is_numeric_dtype(column.dtype) or not all(isinstance(value, str) for value in column):
        return None
    return None if any(not cell.strip() or parses_as_number(cell) for cell in column) else column
