"""The treatments of the samples of an AnnData file, from columns of ``obs`` or a matrix in ``obsm``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsnn.base.errors import DataError, did_you_mean
from gsnn.base.wording import asked, shell
from gsnn.io.h5ad import Column, Matrix, columns, read_column
from gsnn.io.table import check_unique
from gsnn.io.text import clean_name, counted, listed

if TYPE_CHECKING:
    import scipy.sparse as sp

CONTROLS = frozenset(
    "control ctrl dmso vehicle untreated unperturbed mock none pbs non-targeting non_targeting".split()
)
"""Categories that mean "nothing was done", in upper or lower case."""
UNKNOWN = frozenset("none nan na n/a unassigned unknown undetermined ambiguous negative doublet multiplet".split())
"""Categories that mean "unknown" if there is another control, in upper or lower case."""


@dataclass
class Treatments:
    """Treatments of samples, computed some rows at a time.

    Attributes:
        names: A name per treatment.
        warnings: What a user should know.
        excluded: (M,) samples with a label that was excluded; None if none was.
    """

    names: list[str]
    warnings: list[str] = field(default_factory=list)
    excluded: NDArray[np.bool_] | None = None
    _codes: list[tuple[NDArray[np.int64], sp.csr_array]] = field(default_factory=list)
    _dose: NDArray[np.float32] | None = None
    _numbers: NDArray[np.float32] | None = None
    _matrix: Matrix | None = None
    _where: str = ""

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Treatments of some samples.

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
            # A control needs no dose.
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
    exclude: Collection[str] = (),
    chosen: NDArray[np.bool_] | None = None,
) -> Treatments:
    """Treatments from columns of ``obs``: an indicator per category, or a number per numeric column.

    Args:
        file: The open file.
        path: Its path, for messages.
        perturbation: The columns.
        dose: A numeric column by which the indicators are multiplied, or None. With a separator it may be text with a
            dose for each component, in their order: ``1.5+60``.
        control: Categories that are no treatment; None for the usual ones (:data:`CONTROLS`).
        separator: Separator of several treatments in one category, such as ``+``, or None.
        exclude: Labels of samples that are left out.
        chosen: (M,) the samples that were chosen by other columns, or None for all.

    Raises:
        DataError: If a column is missing, a sample has no value in it, or names clash.
    """
    treatments = Treatments([])
    numbers: list[NDArray[np.float64]] = []
    numeric_names: list[str] = []
    categorical: list[tuple[Column, list[str]]] = []
    for name in perturbation:
        column = read_column(file, "obs", name, path)
        if column.values is not None:
            numbers.append(_complete(column.values, name, path))
            numeric_names.append(name)
            continue
        column, gone = _without_labels(column, name, path, exclude, separator, chosen)
        if gone is not None:
            treatments.excluded = gone if treatments.excluded is None else treatments.excluded | gone
        names, member, left_out, unlike = _one_hot(column, name, path, control, separator)
        categorical.append((column, names))
        treatments._codes.append((column.codes, member))
        treatments.names += names
        if left_out:
            treatments.warnings.append(
                f"'{name}': {listed(left_out)} taken for controls, without a treatment "
                f"({asked('control=', '--control')})"
            )
        if unlike:
            treatments.warnings.append(
                f"'{name}': {listed(unlike)} may stand for samples of which nobody knows what was done; leave them out "
                f"with {asked(f'exclude={unlike}', ' '.join(f'--exclude-label {shell(u)}' for u in unlike))}"
            )
    if dose is not None:
        doses = read_column(file, "obs", dose, path)
        if doses.values is None and separator and len(categorical) == 1:
            treatments._codes = [_component_doses(doses, dose, path, *categorical[0], separator, treatments.excluded)]
        else:
            treatments._dose = _dose(doses.values, path, dose, treatments)
            if separator and any(np.diff(member.indptr).max(initial=0) > 1 for _, member in treatments._codes):
                treatments.warnings.append(
                    f"in combinations every component gets the one dose of '{dose}'; if each had its own, write them "
                    f"in the order of the components, joined by {separator!r}: 1.5{separator}60"
                )
    treatments.names += numeric_names
    if numbers:
        treatments._numbers = np.stack(numbers, axis=1).astype(np.float32)
    if not treatments.names:
        raise DataError(f"{path}: {listed(perturbation)} of 'obs' name controls only; nothing was done to any sample")
    check_unique(treatments.names, path, "treatment")
    return treatments


def obsm_treatments(
    file: Any,  # noqa: ANN401 - a h5py.File
    path: Path,
    key: str,
    names: Sequence[str] | None,
) -> Treatments:
    """Treatments from a matrix, whose columns need names, or from a table of numbers in ``obsm``.

    Raises:
        DataError: If there is no such matrix, or its columns have no names.
    """
    keys = list(file["obsm"]) if "obsm" in file else []
    if key not in keys:
        hint = did_you_mean(key, keys)
        raise DataError(f"{path}: 'obsm' has no '{key}'{hint}; it has {listed(keys, 12) or 'nothing'}")
    element, where = file["obsm"][key], f"obsm['{key}']"
    if hasattr(element, "keys") and "column-order" in element.attrs:
        if names is not None:
            raise DataError(f"{path}: {where} is a table and names its columns; leave "
                            f"{asked('treatment_names', '--treatment-names')} out")  # fmt: skip
        treatments = Treatments(columns(element))
        values = [read_column(file["obsm"], key, name, path) for name in treatments.names]
        wrong = [name for name, column in zip(treatments.names, values, strict=True) if column.values is None]
        if wrong:
            raise DataError(f"{path}: columns {listed(wrong)} of {where} hold text; a treatment is a number")
        complete = [
            _complete(c.values, n, path) for c, n in zip(values, treatments.names, strict=True) if c.values is not None
        ]
        treatments._numbers = np.stack(complete, axis=1).astype(np.float32)
    else:
        matrix = Matrix(element, path, where)
        if names is None:
            raise DataError(
                f"{path}: the {matrix.shape[1]} columns of {where} have no names; pass "
                + asked("treatment_names=[...]", "--treatment-names names.txt (one name a line)")
                + ", or store it as a pandas table"
            )
        if len(names) != matrix.shape[1]:
            raise DataError(
                f"{asked('treatment_names', '--treatment-names')} has {len(names)} names for the "
                f"{matrix.shape[1]} columns of {where}"
            )
        treatments = Treatments([str(name) for name in names], _matrix=matrix, _where=f"{path}: {where}")
    for name in treatments.names:
        clean_name(name, path, 1, "header")
    check_unique(treatments.names, path, "treatment")
    return treatments


def _one_hot(
    column: Column, name: str, path: Path, control: Collection[str] | None, separator: str | None
) -> tuple[list[str], sp.csr_array, list[str], list[str]]:
    """The treatments in a column of categories.

    Returns:
        Their names, an indicator matrix (categories, treatments), the categories taken for controls by their names,
        and the labels that probably mean "unknown".
    """
    import scipy.sparse as sp

    if (column.codes < 0).any():
        row = int(np.flatnonzero(column.codes < 0)[0])
        option = asked("exclude='nan'", "--exclude-label nan")
        raise DataError(
            f"{path}: column '{name}' of 'obs' is empty in row {row + 1} (from 1) and "
            f"{counted(int((column.codes < 0).sum()), 'row')} in all; name the treatment, or 'control', or leave these "
            f"samples out with {option}"
        )
    categories = column.categories
    parts = [_parts(category, separator) for category in categories]
    if control is not None:
        known = {treatment for several in parts for treatment in several}
        lacking = [each for each in control if each not in known]
        if lacking:
            hint = did_you_mean(lacking[0], categories)
            raise DataError(f"{path}: column '{name}' of 'obs' has no control {listed(lacking)}{hint}")
    used = np.unique(column.codes).tolist()
    number: dict[str, int] = {}
    rows, treatments, left_out, unlike = [], [], {}, {}
    has_control = any(treatment.casefold() in CONTROLS - UNKNOWN for k in used for treatment in parts[k])
    for k in used:
        for treatment in parts[k]:
            word = treatment.casefold()
            # "none" is a control, unless another word says "control".
            unknown = control is None and word in UNKNOWN and (has_control or word not in CONTROLS)
            if unknown:
                unlike[treatment] = True
            if treatment in control if control is not None else word in CONTROLS and not unknown:
                left_out[treatment] = True
                continue
            clean_name(treatment, path, k + 1, f"category of '{name}'")
            rows.append(k)
            treatments.append(number.setdefault(treatment, len(number)))
    ones = np.ones(len(rows), np.float32)
    member = sp.csr_array((ones, (rows, treatments)), shape=(len(categories), len(number)))
    member.data[:] = 1  # "A+A" is A once
    return list(number), member, list(left_out) if control is None else [], list(unlike)


def _parts(label: str, separator: str | None) -> list[str]:
    return [part.strip() for part in (label.split(separator) if separator else [label])]


def _without_labels(
    column: Column,
    name: str,
    path: Path,
    exclude: Collection[str],
    separator: str | None,
    chosen: NDArray[np.bool_] | None,
) -> tuple[Column, NDArray[np.bool_] | None]:
    """The column with a label that is kept in place of excluded ones, and which samples are left out."""
    gone = None if chosen is None else ~chosen
    if exclude:
        labels = [{c, *(_parts(c, separator) if separator else ())} for c in column.categories]
        lacking = [e for e in exclude if not any(e in own for own in labels)]
        # pandas calls a missing value NaN or NA.
        missing = {e for e in lacking if e.casefold() in ("nan", "na", "") and (column.codes < 0).any()}
        lacking = [e for e in lacking if e not in missing]
        if lacking:
            hint = did_you_mean(lacking[0], column.categories)
            raise DataError(f"{path}: column '{name}' of 'obs' has no label {listed(lacking)} to exclude{hint}")
        bad = np.array([bool(own & set(exclude)) for own in labels] + [bool(missing)])
        gone = bad[column.codes] if gone is None else gone | bad[column.codes]
    if gone is None or not gone.any():
        return column, gone
    if gone.all():
        raise DataError(f"{path}: no sample is left after the labels {listed(exclude)} were excluded")
    codes = np.where(gone, column.codes[~gone][0], column.codes)
    return Column(codes, column.categories), gone


def _component_doses(
    doses: Column,
    name: str,
    path: Path,
    column: Column,
    treatments: Sequence[str],
    separator: str,
    excluded: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.int64], sp.csr_array]:
    """A row of doses for each pair of a category and a text of doses, and the number of the row of each sample.

    Args:
        doses: Column of texts such as ``1.5+60``.
        name: Its name.
        path: The file.
        column: Column of treatments.
        treatments: Their names; other parts of the column are controls.
        separator: Separator of components and of doses.
        excluded: Samples that are left out, whose doses do not matter.
    """
    import scipy.sparse as sp

    place = {treatment: i for i, treatment in enumerate(treatments)}
    pairs, which = np.unique(column.codes * (len(doses.categories) + 1) + doses.codes + 1, return_inverse=True)
    first = np.unique(which, return_index=True)[1]
    rows, columns, values = [], [], []
    for row, pair in enumerate(pairs.tolist()):
        code, text = divmod(pair, len(doses.categories) + 1)
        if excluded is not None and excluded[which == row].all():
            continue
        parts = _parts(column.categories[code], separator)
        numbers = [] if text == 0 else _parts(doses.categories[text - 1], separator)
        treated = [part for part in parts if part in place]
        if not treated:
            continue
        if len(numbers) == len(treated):  # a control needs no dose
            parts = treated
        where = f"{path}: dose column '{name}' of 'obs', row {first[row] + 1} (from 1)"
        if len(numbers) != len(parts):
            raise DataError(
                f"{where}: {listed(parts)} need {counted(len(parts), 'dose')}, joined by {separator!r}, got "
                f"{'nothing' if text == 0 else repr(doses.categories[text - 1])}"
            )
        for part, number in zip(parts, numbers, strict=True):
            if part not in place:
                continue
            try:
                value = float(number)
            except ValueError:
                value = np.nan
            if not np.isfinite(value):
                raise DataError(f"{where}: the dose of {part!r} must be a number, got {number!r}")
            rows.append(row)
            columns.append(place[part])
            values.append(value)
    shape = len(pairs), len(treatments)
    return which.astype(np.int64), sp.csr_array((np.array(values, np.float32), (rows, columns)), shape=shape)


def _dose(values: NDArray[np.float64] | None, path: Path, name: str, treatments: Treatments) -> NDArray[np.float32]:
    if values is None:
        raise DataError(
            f"{path}: dose column '{name}' of 'obs' holds text; a dose is a number, or with "
            f"{asked('separator=', '--separator')} several, joined as the treatments are"
        )
    if not treatments._codes:
        option = asked(f"dose='{name}'", f"--dose {shell(name)}")
        raise DataError(f"{path}: {option} multiplies a column of categories, and none was given; leave it out")
    treated = np.zeros(len(values), bool)
    for codes, member in treatments._codes:
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
