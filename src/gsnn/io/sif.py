"""The simple interaction format (SIF): a source, a relation and one or more targets per line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gsnn.base.errors import DataError
from gsnn.base.wording import asked
from gsnn.io.headerless import is_plain_sign
from gsnn.io.names import is_file_word
from gsnn.io.sif_layout import Lines, check_layout
from gsnn.io.signs import sign_of, words_of_relation
from gsnn.io.text import Text, listed

_QUOTED = re.compile(r'"[^"\t]*"(?=\s|$)|\S+')


@dataclass
class RawEdges:
    """Edges in the order of a file, before duplicates are collapsed.

    Attributes:
        sources: One name per edge.
        targets: One name per edge.
        lines: The line of each edge, from 1.
        signs: One sign per edge; empty for SIF, which has relations.
        relations: One relation word per edge of SIF.
        isolated: Names without an edge: position among the edges, name, line.
        comments: Lines that begin with ``#`` and would have been edges without it.
        notes: What a user should know about how the file was read.
    """

    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    signs: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))
    relations: list[str] = field(default_factory=list)
    isolated: list[tuple[int, str, int]] = field(default_factory=list)
    comments: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, rows: NDArray[np.intp]) -> RawEdges:
        """The edges of a table at some positions, with the same notes."""
        sources, targets = ([column[i] for i in rows] for column in (self.sources, self.targets))
        return RawEdges(sources, targets, [self.lines[i] for i in rows], self.signs[rows], notes=self.notes)


def _cut(line: str, tabs: bool) -> list[str]:
    """The fields of a line, cut at its tabs, or at its blanks if it has no tab or too few to hold an edge."""
    line = line.rstrip()
    if tabs:
        fields = [f.strip() for f in line.split("\t")]
        blanks = line.split()
        if "\t" in line and not (len(fields) == 2 and len(blanks) == 3 and _known(blanks[1])):
            return fields
        # Names may hold blanks: two words that are no edge are one name.
        if "\t" not in line and not _is_edge(_joined(blanks)):
            return fields
        return _joined(blanks)
    return _joined(line.split())


def _joined(fields: list[str]) -> list[str]:
    """Fields between blanks, with a relation of several words as one."""
    n = words_of_relation(fields)
    if len(fields) > 3 and fields[1].startswith("("):  # EGF (interacts with) EGFR, as Cytoscape names an edge
        n = next((i for i, field in enumerate(fields[1:-1], 1) if field.endswith(")")), n)
    return fields if n == 1 else [fields[0], " ".join(fields[1 : 1 + n]), *fields[1 + n :]]


def _unquoted(lines: Sequence[str], tabs: bool) -> list[list[str]] | None:
    """The fields without their quotes, if every field but relations and signs is quoted; None otherwise."""
    if not lines or any('"' not in line for line in lines):
        return None
    rows = [[f.strip() for f in line.rstrip().split("\t")] if tabs else _QUOTED.findall(line) for line in lines]
    if not all(_is_quoted(f) or i == 1 or is_plain_sign(f) for row in rows for i, f in enumerate(row)):
        return None
    if not any(_is_quoted(f) for row in rows for f in row):
        return None
    return [[f[1:-1].strip() if _is_quoted(f) else f for f in row] for row in rows]


def _is_quoted(field: str) -> bool:
    return len(field) > 2 and field[0] == field[-1] == '"' and '"' not in field[1:-1]


def _rows(numbered: Sequence[tuple[int, str]]) -> list[tuple[int, list[str]]]:
    """The number of each line and its fields."""
    tabs = any("\t" in line.rstrip() for _, line in numbered)
    rows = _unquoted([line for _, line in numbered], tabs)
    if rows is None:
        rows = [_cut(line, tabs) for _, line in numbered]
    return [(n, fields) for (n, _), fields in zip(numbered, rows, strict=True)]


def looks_like_sif(text: Text) -> bool:
    """Whether most lines are a source, a known relation and target(s), and no line is a pair."""
    numbered = enumerate(text.content.split("\n"), 1)
    lines = [(n, line) for n, line in numbered if line.strip() and not line.startswith("#")][:200]
    rows = [fields for _, fields in _rows(lines) if len(fields) > 1]
    if not rows or any(len(row) == 2 for row in rows):
        return False
    return 2 * sum(_known(row[1]) for row in rows) > len(rows)


def read_sif(text: Text, *, as_is: bool = False) -> RawEdges:
    r"""Parse SIF as CellNOpt (``1``/``-1``) and Cytoscape (words, several targets) write it.

    Tabs separate the fields, so names may hold blanks; a line without a tab is cut at its blanks if that makes an
    edge. A line with one field is a species without edges. Lines that begin with ``#`` are comments. Quotes around
    every field, as R writes them, are removed. A relation is a word, 1, -1 or 0 (unknown sign); common relations of
    several words ("interacts with") are known.

    Args:
        text: The file.
        as_is: Whether the user said that it is SIF; then a legal edge that looks like a header, or like a column of
            notes, is an edge.

    Returns:
        The edges in the order of the file.

    Raises:
        DataError: If a line has two fields or an empty one, or the file is another kind of table without a header.

    Example:
        >>> from pathlib import Path
        >>> raw = read_sif(Text(Path("n.sif"), "a activates b c\nd\n", ""))
        >>> raw.sources, raw.targets, [name for _, name, _ in raw.isolated]
        (['a', 'a'], ['b', 'c'], ['d'])
    """
    path = text.path
    numbered = [(n, line) for n, line in enumerate(text.content.split("\n"), 1) if line.strip()]
    kept = [(n, line) for n, line in numbered if not line.startswith("#")]
    if not kept:
        raise DataError(f"network file '{path}' holds only comments")
    tabs = any("\t" in line.rstrip() for _, line in kept)
    raw = RawEdges()
    raw.comments = [n for n, line in numbered if line.startswith("#") and _is_edge(_cut(line, tabs))]
    rows: Lines = _rows(kept)
    if not as_is:
        rows = _without_header(rows, text, raw.notes)
    edges = [(n, fields) for n, fields in rows if len(fields) > 2]
    ends = {fields[i] for _, fields in edges for i in (0, 2)}
    for n, fields in rows:
        if "" in fields:
            raise DataError(
                f"{path}, line {n}: field {fields.index('') + 1} is empty; SIF is source, relation, target(s) "
                "with one tab between them"
            )
        if len(fields) == 2:
            raise DataError(
                f"{path}, line {n}: {listed(fields)} are 2 fields; SIF is source, relation, target(s). "
                "A table of pairs needs a header such as source,target, or the numbers of its columns: "
                + asked("source='1', target='2'", "--source-column 1 --target-column 2")
            )
        if len(fields) == 1:
            blanks = fields[0].split()
            if len(blanks) > 1 and {blanks[0], blanks[-1]} <= ends:
                raise DataError(
                    f"{path}, line {n}: {fields[0]!r} names species of other lines with blanks between them, where the "
                    "rest of the file uses tabs; write source<TAB>relation<TAB>target"
                )
            raw.isolated.append((len(raw.sources), fields[0], n))
            continue
        source, relation, *targets = fields
        raw.sources += [source] * len(targets)
        raw.relations += [relation] * len(targets)
        raw.lines += [n] * len(targets)
        raw.targets += targets
    if not raw.sources:
        _refuse_other_separators(raw.isolated[0][1], text)
    check_layout(edges, path, as_is=as_is)
    return raw


def _known(relation: str) -> bool:
    return sign_of(relation) is not None


def _is_edge(fields: list[str]) -> bool:
    return len(fields) >= 3 and _known(fields[1])


def _without_header(rows: Lines, text: Text, notes: list[str]) -> Lines:
    """The lines without a header; a first line that may be one is refused."""
    (n, first), rest = rows[0], rows[1:]
    edges = [fields for _, fields in rest if len(fields) > 2]
    if len(first) < 3 or not edges:
        return rows
    if all(map(is_file_word, first)):
        notes.append(f"line {n} read as a header: {listed(first)}")
        return rest
    below = {field for _, fields in rest for field in fields}
    odd = not _known(first[1]) and all(_known(row[1]) for row in edges)
    if odd and len(edges) > 1 and not below & set(first):
        raise DataError(
            f"{text.path}, line {n}: {listed(first)} reads like a header, since its relation is "
            "unknown and its names stand nowhere else; delete the line, or pass "
            + asked("format='sif'", "--graph-format sif")
            + " if it is an edge"
        )
    return rows


def _refuse_other_separators(first: str, text: Text) -> None:
    if any(mark in text.content for mark in ("TR:", "DV:")):
        raise DataError(
            f"network file '{text.path}' names columns TR: or DV:, as responses do (MIDAS); are the network and the "
            "responses swapped?"
        )
    if any(d in first for d in ",;|"):
        raise DataError(
            f"network file '{text.path}': no line holds source, relation and target separated by tabs or blanks "
            f"(the first is {first!r}); for a comma-separated table add a header such as source,target,sign"
        )
