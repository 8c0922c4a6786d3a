"""A map from labels of drugs, phosphosites and antibodies to species, and the scales of doses."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import DataError, did_you_mean, unknown_option
from gsnn.io.table import read_table
from gsnn.io.text import counted, listed, read_text

EFFECTS = {"inhibits": -1, "activates": 1, "measures": 0}
SCALES = ("none", "log", "sqrt")
COLUMNS = ("label", "species", "effect", "site", "scale", "note")
_NEEDED = COLUMNS[:3]


@dataclass(frozen=True)
class Scale:
    """The scale on which the doses of a treatment enter the model; 0 and signs are kept.

    Attributes:
        kind: ``none`` for the doses d themselves, ``log`` for log10(1 + d / unit), ``sqrt`` for sqrt(d / unit).
        unit: The dose that counts as one; None: the smallest dose in the data.

    Example:
        >>> Scale("log").of(np.array([0.0, 1.5, 13.5])).apply(np.array([0.0, 1.5, 13.5])).round(3).tolist()
        [0.0, 0.301, 1.0]
        >>> Scale.parse("sqrt:4").apply(np.array([16.0, -4.0])).tolist()
        [2.0, -1.0]
    """

    kind: str = "none"
    unit: float | None = None

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Read ``log``, ``sqrt`` or ``none``, optionally with a unit: ``log:1.5``.

        Raises:
            ValueError: If there is no such scale, or the unit is not a number above 0.
        """
        kind, _, unit = text.strip().casefold().partition(":")
        if (kind or "none") not in SCALES:
            raise unknown_option("scale", kind, SCALES)
        try:
            value = float(unit) if unit else None
        except ValueError:
            value = math.nan
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"the unit of a scale must be a number above 0, got {unit!r}")
        return cls(kind or "none", value)

    def of(self, doses: npt.NDArray[np.floating]) -> Scale:
        """The scale with its unit fixed to the smallest dose that is not 0, or to 1 if there is none."""
        if self.kind == "none" or self.unit is not None:
            return self
        applied = np.abs(doses[doses != 0])
        return Scale(self.kind, float(applied.min()) if len(applied) else 1.0)

    def apply(self, doses: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Doses on this scale."""
        values = np.asarray(doses, dtype=np.float64)
        if self.kind == "none":
            return values
        share = np.abs(values) / (self.unit or 1.0)
        scaled: npt.NDArray[np.float64] = np.sign(values) * (np.log10(1 + share) if self.kind == "log" else share**0.5)
        return scaled

    def __str__(self) -> str:
        """The text that :meth:`parse` reads."""
        return self.kind if self.unit is None else f"{self.kind}:{self.unit:.6g}"


@dataclass(frozen=True)
class NameMap:
    """The species of a network that labels of data stand for.

    Attributes:
        treatments: Label -> the species it acts on, with -1 (inhibits) or 1 (activates).
        readouts: Label -> the species it measures.
        scales: Label of a treatment -> the scale of its doses.
        sites: Label of a readout -> the site, such as ``S473``; a note that the model does not use.
        path: The file.
        sha256: Hex digest of its content.
    """

    treatments: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    readouts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    scales: Mapping[str, Scale] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    sha256: str | None = None


def read_name_map(path: str | os.PathLike[str]) -> NameMap:
    """Read a table with the columns ``label,species,effect`` and optionally ``site``, ``scale`` and ``note``.

    A label may have several rows: a drug with several targets, an antibody for several proteins. A row without a
    species means that the species is unknown, as if the row were missing. ``effect`` is ``inhibits``, ``activates``
    or ``measures``.

    Args:
        path: CSV or TSV.

    Returns:
        The map, with labels without ``TR:`` and ``DV:``.

    Raises:
        DataError: If a column is missing or unknown, an effect or a scale is invalid, or rows of a label disagree.
    """
    text = read_text(path, "map of names")
    table = read_table(text, "map of names")
    header = [name.casefold() for name in table.header]
    lacking = [name for name in _NEEDED if name not in header]
    if lacking:
        raise DataError(f"{text.path} must have the columns label, species and effect, and lacks {listed(lacking)}")
    for name in header:
        if name not in COLUMNS:
            hint = did_you_mean(name, COLUMNS)
            raise DataError(f"{text.path}: unknown column '{name}'{hint}; a map has {listed(COLUMNS)}")
    treatments: dict[str, list[tuple[str, int]]] = {}
    readouts: dict[str, list[str]] = {}
    scales: dict[str, Scale] = {}
    sites: dict[str, str] = {}
    for cells, line in zip(table.rows, table.lines, strict=True):
        row = dict(zip(header, cells, strict=True))
        label, species, effect = row["label"], row["species"], row["effect"].casefold()
        where = f"{text.path}, {table.unit} {line}"
        if not label:
            raise DataError(f"{where}: the label is empty; write the name of a treatment or readout of the data")
        if effect not in EFFECTS:
            raise DataError(f"{where}: {unknown_option('effect', row['effect'], EFFECTS)}")
        measures = effect == "measures"
        bare = label.removeprefix("DV:" if measures else "TR:")
        if row.get("scale"):
            _note_scale(scales, bare, row["scale"], measures, where)
        if row.get("site"):
            sites[bare] = row["site"]
        if not species:
            continue
        if measures:
            readouts.setdefault(bare, [])
            if species not in readouts[bare]:
                readouts[bare].append(species)
            continue
        own = treatments.setdefault(bare, [])
        if (species, -EFFECTS[effect]) in own:
            raise DataError(f"{where}: {label!r} both inhibits and activates {species!r}; keep one of the two")
        if (species, EFFECTS[effect]) not in own:
            own.append((species, EFFECTS[effect]))
    return NameMap(treatments, readouts, scales, sites, text.path, text.sha256)


def _note_scale(scales: dict[str, Scale], label: str, text: str, measures: bool, where: str) -> None:
    """Store the scale of a treatment, which must be the same in all rows of its label."""
    if measures:
        raise DataError(f"{where}: a readout has no dose; leave its scale empty")
    try:
        scale = Scale.parse(text)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if scales.setdefault(label, scale) != scale:
        raise DataError(f"{where}: {label!r} has two scales, {scales[label]} and {scale}; keep one of them")


def map_notes(names: NameMap, treatments: Sequence[str], readouts: Sequence[str]) -> list[str]:
    """A warning about labels of a map that the data do not have, if there are any."""
    unused = [name for name in names.treatments if name not in treatments]
    unused += [name for name in names.readouts if name not in readouts]
    if not unused:
        return []
    return [f"the map has {counted(len(unused), 'label')} that the data do not have: {listed(unused, 5)}"]
