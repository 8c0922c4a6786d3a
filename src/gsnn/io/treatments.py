"""What was done to each sample of an AnnData file: from columns of ``obs`` or a matrix in ``obsm``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsnn.base.errors import DataError, closest
from gsnn.io.h5ad import Column, Matrix, columns, read_column
from gsnn.io.table import check_unique
from gsnn.io.text import clean_name, counted, listed

if TYPE_CHECKING:
    import scipy.sparse as sp

CONTROLS = frozenset(
    "control ctrl dmso vehicle untreated unperturbed mock none pbs non-targeting non_targeting".split()
)
"""Categories that mean "nothing was done", in any case."""


@dataclass
class Treatments:
    """Treatments of samples, of which some rows are made at a time.

    Attributes:
        names: A name per treatment.
        warnings: What a user should know.
    """

    names: list[str]
    warnings: list[str] = field(default_factory=list)
    _codes: list[tuple[NDArray[np.int64], sp.csr_array]] = field(default_factory=list)
    _dose: NDArray[np.float32] | None = None
    _numbers: NDArray[np.float32] | None = None
    _matrix: Matrix | None = None
    _where: str = ""

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Treatments of some samples.

        Args:
            start: The first sample.
            stop: The sample after the last.

        Returns:
            (stop - start, I) numbers.

        Raises:
            DataError: If a value is missing.
        """
        if self._matrix is not None:
            values = self._matrix.rows(start, stop)
            if np.isnan(values).any():
                row = start + int(np.argwhere(np.isnan(values))[0, 0])
                raise DataError(f"{self._where}: a treatment is missing in row {row + 1} (from 1); write 0 for none")
            return values
        parts = [member[codes[start:stop]].toarray() for codes, member in self._codes]
        if self._dose is not None:
            # A control has no dose to speak of, so that none is asked of it.
            parts = [np.where(part != 0, part * self._dose[start:stop, None], 0) for part in parts]
        if self._numbers is not None:
            parts.append(self._numbers[start:stop])
        joined: NDArray[np.float32] = np.concatenate(parts, axis=1, dtype=np.float32)
        return joined


def obs_treatments(
    file: Any,  # noqa: ANN401 - a h5py.File
    path: Path,
    perturbation: Sequence[str],
    dose: str | None,
    control: Collection[str] | None,
    separator: str | None,
) -> Treatments:
    """Treatments from columns of ``obs``: an indicator per category, or a number per numeric column.

    Args:
        file: The open file.
        path: Its path, for messages.
        perturbation: The columns.
        dose: A numeric column by which the indicators are multiplied, or None.
        control: Categories that are no treatment; None for those that usually mean it (:data:`CONTROLS`).
        separator: What joins several treatments in one category, such as ``+``, or None.

    Returns:
        The treatments.

    Raises:
        DataError: If a column is missing, a sample has no value in it, or names clash.
    """
    found = Treatments([])
    numbers: list[NDArray[np.float64]] = []
    numeric_names: list[str] = []
    for name in perturbation:
        column = read_column(file, "obs", name, path)
        if column.values is not None:
            numbers.append(_complete(column.values, name, path))
            numeric_names.append(name)
            continue
        names, member, left_out = _one_hot(column, name, path, control, separator)
        assert column.codes is not None  # a column holds numbers or codes
        found._codes.append((column.codes, member))
        found.names += names
        if left_out:
            found.warnings.append(f"'{name}': {listed(left_out)} taken for controls, without a treatment (control=)")
    if dose is not None:
        found._dose = _dose(file, path, dose, found)
    found.names += numeric_names
    if numbers:
        found._numbers = np.stack(numbers, axis=1).astype(np.float32)
    if not found.names:
        raise DataError(f"{path}: {listed(perturbation)} of 'obs' name controls only; nothing was done to any sample")
    check_unique(found.names, path, "treatment")
    return found


def obsm_treatments(
    file: Any,  # noqa: ANN401 - a h5py.File
    path: Path,
    key: str,
    names: Sequence[str] | None,
) -> Treatments:
    """Treatments from a matrix, or a table of numbers, in ``obsm``.

    Args:
        file: The open file.
        path: Its path, for messages.
        key: Its key.
        names: The names of its columns, which a matrix does not have.

    Returns:
        The treatments.

    Raises:
        DataError: If there is no such matrix, or its columns have no names.
    """
    there = list(file["obsm"]) if "obsm" in file else []
    if key not in there:
        near = closest(key, there, 1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise DataError(f"{path}: 'obsm' has no '{key}'{hint}; it has {listed(there, 12) or 'nothing'}")
    element, where = file["obsm"][key], f"obsm['{key}']"
    if hasattr(element, "keys") and "column-order" in element.attrs:
        if names is not None:
            raise DataError(f"{path}: {where} is a table and names its columns; leave treatment_names out")
        found = Treatments(columns(element))
        values = [read_column(file["obsm"], key, name, path) for name in found.names]
        wrong = [name for name, column in zip(found.names, values, strict=True) if column.values is None]
        if wrong:
            raise DataError(f"{path}: columns {listed(wrong)} of {where} hold text; a treatment is a number")
        complete = [
            _complete(c.values, n, path) for c, n in zip(values, found.names, strict=True) if c.values is not None
        ]
        found._numbers = np.stack(complete, axis=1).astype(np.float32)
    else:
        matrix = Matrix(element, path, where)
        if names is None:
            raise DataError(
                f"{path}: the {matrix.shape[1]} columns of {where} have no names; pass treatment_names=[...], or store "
                "it as a pandas table"
            )
        if len(names) != matrix.shape[1]:
            raise DataError(f"treatment_names has {len(names)} names for the {matrix.shape[1]} columns of {where}")
        found = Treatments([str(name) for name in names], _matrix=matrix, _where=f"{path}: {where}")
    for name in found.names:
        clean_name(name, path, 1, "header")
    check_unique(found.names, path, "treatment")
    return found


def _one_hot(
    column: Column, name: str, path: Path, control: Collection[str] | None, separator: str | None
) -> tuple[list[str], sp.csr_array, list[str]]:
    """Names of the treatments in a column, and which of them each category is; shape (categories, treatments)."""
    import scipy.sparse as sp

    assert column.codes is not None  # the caller has looked
    assert column.categories is not None
    if (column.codes < 0).any():
        row = int(np.flatnonzero(column.codes < 0)[0])
        raise DataError(
            f"{path}: column '{name}' of 'obs' is empty in row {row + 1} (from 1) and "
            f"{counted(int((column.codes < 0).sum()), 'row')} in all; name the treatment, or 'control'"
        )
    categories = column.categories
    if control is not None:
        lacking = [c for c in control if c not in categories]
        if lacking and not separator:
            near = closest(lacking[0], categories, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise DataError(f"{path}: column '{name}' of 'obs' has no control {listed(lacking)}{hint}")
    used = np.bincount(column.codes, minlength=len(categories)) > 0
    number: dict[str, int] = {}
    rows, treatments, left_out = [], [], {}
    for k, category in enumerate(categories):
        if not used[k]:
            continue
        for part in category.split(separator) if separator else [category]:
            treatment = part.strip()
            if treatment in control if control is not None else treatment.casefold() in CONTROLS:
                left_out[treatment] = True
                continue
            clean_name(treatment, path, k + 1, f"category of '{name}'")
            rows.append(k)
            treatments.append(number.setdefault(treatment, len(number)))
    ones = np.ones(len(rows), np.float32)
    member = sp.csr_array((ones, (rows, treatments)), shape=(len(categories), len(number)))
    member.data[:] = 1  # "A+A" is A once
    return list(number), member, list(left_out) if control is None else []


def _dose(file: Any, path: Path, name: str, found: Treatments) -> NDArray[np.float32]:  # noqa: ANN401
    values = read_column(file, "obs", name, path).values
    if values is None:
        raise DataError(f"{path}: dose column '{name}' of 'obs' holds text; a dose is a number")
    if not found._codes:
        raise DataError(f"{path}: dose='{name}' multiplies a column of categories, and none was given; leave it out")
    treated = np.zeros(len(values), bool)
    for codes, member in found._codes:
        treated |= (np.diff(member.indptr) > 0)[codes]
    wrong = np.flatnonzero(treated & ~np.isfinite(values))
    if len(wrong):
        raise DataError(
            f"{path}: dose column '{name}' of 'obs' has no number in the treated row {wrong[0] + 1} (from 1)"
        )
    return values.astype(np.float32)


def _complete(values: NDArray[np.float64], name: str, path: Path) -> NDArray[np.float64]:
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise DataError(
            f"{path}: treatment '{name}' is missing or infinite in row {wrong[0] + 1} (from 1); write 0 where it was "
            "not applied"
        )
    return values
