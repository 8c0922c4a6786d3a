"""Perturbation responses: what was done to the cells, and what was measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from gsnn.base.errors import DataError
from gsnn.io.text import counted, listed

FORMATS = ("midas", "matrix", "h5ad")


@dataclass(frozen=True, eq=False)
class Responses:
    """Treatments and readouts of the same samples.

    Attributes:
        treatments: (M, I) numbers, a column per treatment, named without ``TR:``.
        readouts: (M, O) numbers, a column per readout, named without ``DV:``; NaN where nothing was measured.
        kinds: ``"stimulus"`` or ``"inhibitor"`` for the treatments of which the file says so
            (``TR:mek12:Inhibitors`` is column ``mek12i`` here); for the others the name decides.
        warnings: What a user should know about the files.
        paths: The files by role: ``data``, or ``inputs`` and ``outputs``.
        sha256: Hex digest of each file, by the same roles.
        times: The times that were kept, in ascending order; empty where the file has none.
        n_baseline: How many rows at time 0 were left out.
        n_other_times: How many rows at other times than those kept were left out.
        other_names: What else the readouts could be called: names by column of ``var``.
        labels: Whether the treatments are made of labels, which a separator can cut.

    Rows are paired by the index of the two tables where both have one: labels in another order are aligned.

    Raises:
        DataError: If the tables have different numbers of rows, or different labels.
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

    def __post_init__(self) -> None:
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
