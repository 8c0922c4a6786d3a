"""Tell SIF from other tables without a header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gsnn.base.errors import DataError
from gsnn.base.wording import asked
from gsnn.io.headerless import advice, is_plain_sign, is_sign
from gsnn.io.names import is_number
from gsnn.io.signs import is_passive, sign_of
from gsnn.io.text import listed

_NOTE = re.compile(r"pmid|pubmed|doi:|https?:", re.IGNORECASE)
_SEVERAL = 3  # lines from which a column with equal cells is no accident

Lines = Sequence[tuple[int, list[str]]]


def check_layout(lines: Lines, path: Path, *, as_is: bool = False) -> None:
    """Refuse a table that is not SIF, and say how to read it.

    Args:
        lines: Number and fields of every line with three fields or more.
        path: The file.
        as_is: Whether the user said that it is SIF, which decides in doubt.

    Raises:
        DataError: If relations are numbers other than 1, -1 and 0, or are not in the second field, or further targets
            are numbers or notes.
    """
    if not lines:
        return
    relations = {fields[1] for _, fields in lines}
    unknown = {word for word in relations if sign_of(word) is None}
    third = {fields[2] for _, fields in lines}
    if unknown == relations and max(len(fields) for _, fields in lines) == 3 and all(map(is_sign, third)):
        raise DataError(
            f"network file '{path}': the signs stand in the third field; SIF is source, sign, target. "
            "Swap the columns, or read it with "
            + asked("source='1', target='2', sign='3'", "--source-column 1 --target-column 2 --sign-column 3")
        )
    reason = (
        _numbers_for_relations(lines)
        or (_names_for_relations(lines, unknown) if unknown else "")
        or _numbers_for_targets(lines)
        or _notes_for_targets(lines, as_is)
    )
    if reason:
        rows = [fields for _, fields in lines]
        raise DataError(f"network file '{path}' is not SIF (source, relation, target): {reason}; {advice(rows)}")
    for n, fields in lines:
        word = next((t for t in fields[2:] if len(t) > 3 and t.islower() and sign_of(t) is not None), None)
        if word is not None and fields[1] in unknown:
            raise DataError(
                f"{path}, line {n}: '{word}' stands where a target is wanted, after the unknown relation "
                f"'{fields[1]}'; if both are one relation, separate the fields by tabs or write {fields[1]}_{word}"
            )
        if is_passive(fields[1]):
            raise DataError(
                f"{path}, line {n}: '{fields[1]}' says that '{fields[2]}' acts on '{fields[0]}', and SIF names the "
                "source first; swap the two and write the relation without 'by'"
            )


def _numbers_for_relations(lines: Lines) -> str:
    numbers = [(n, f[1]) for n, f in lines if _weight(f[1])]
    if not numbers:
        return ""
    n, word = numbers[0]
    return f"in line {n} the relation {word!r} is a number, and a relation is a word, 1 or -1"


def _weight(word: str) -> bool:
    return is_number(word) and not is_plain_sign(word)


def _names_for_relations(lines: Lines, unknown: set[str]) -> str:
    if 2 * sum(fields[1] in unknown for _, fields in lines) <= len(lines):
        return ""
    species = {f for _, fields in lines for i, f in enumerate(fields) if i != 1}
    names = [word for word in dict.fromkeys(fields[1] for _, fields in lines) if word in unknown & species]
    if names:
        return f"the second field holds names of species ({listed(names)})"
    scores = [fields[2] for _, fields in lines]
    if all(map(_weight, scores)) and not any(is_number(fields[0]) for _, fields in lines):
        return f"the third field holds numbers ({listed(scores, 2)})"
    return ""


def _numbers_for_targets(lines: Lines) -> str:
    """Reason: identifiers or scores beside names, fractions, or a column of whole numbers that are no species."""
    first = {fields[0] for _, fields in lines} | {fields[2] for _, fields in lines}
    extra = [(n, t) for n, fields in lines for t in fields[3:] if is_number(t)]
    if not any(map(is_number, first)):
        return _told(extra[0], "a further target") if extra else ""
    fraction = next((pair for pair in extra if not re.fullmatch(r"\d+", pair[1])), None)
    if fraction is not None:
        return _told(fraction, "a further target")
    # "EGF 1 1950 EGFR" and "EGF activates 0.9": the sources are names, and all first targets numbers.
    if not any(is_number(fields[0]) for _, fields in lines) and all(is_number(fields[2]) for _, fields in lines):
        n, fields = lines[0]
        if len(fields) > 3 or any("." in fields[2] for _, fields in lines):
            return _told((n, fields[2]), "a target")
    for j in _columns(lines, at_least=2):
        column = [fields[j] for _, fields in lines]
        if all(map(is_number, column)) and not set(column) & first:
            return _told((lines[0][0], column[0]), "a further target")
    return ""


def _notes_for_targets(lines: Lines, as_is: bool) -> str:
    """Reason: databases or articles, that is a column of few distinct words, none of them a species elsewhere."""
    noted = next(((n, t) for n, fields in lines for t in fields[3:] if _NOTE.search(t)), None)
    if noted is not None:
        return f"in line {noted[0]} {noted[1]!r} stands where a further target is wanted"
    first = {fields[0] for _, fields in lines} | {fields[2] for _, fields in lines}
    for j in () if as_is else _columns(lines, at_least=_SEVERAL):
        column = [fields[j] for _, fields in lines]
        if 2 * len(set(column)) <= len(column) and not set(column) & first:
            way = asked("format='sif'", "--graph-format sif")
            return (
                f"field {j + 1} says {listed(dict.fromkeys(column), 3)} again and again, which are species nowhere "
                f"else (if they are targets, pass {way})"
            )
    return ""


def _columns(lines: Lines, *, at_least: int) -> range:
    """The fields after the first target, if all lines have the same number and there are enough lines."""
    widths = {len(fields) for _, fields in lines}
    return range(3, min(widths)) if len(widths) == 1 and len(lines) >= at_least else range(0)


def _told(where: tuple[int, str], what: str) -> str:
    return f"in line {where[0]} the number {where[1]!r} stands where {what} is wanted"
