"""The simple interaction format: one source, a relation, one or more targets per line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from gsnn.base.errors import DataError
from gsnn.base.wording import asked
from gsnn.io.headerless import is_plain_sign
from gsnn.io.names import is_file_word
from gsnn.io.sif_layout import check_layout
from gsnn.io.signs import sign_of, words_of_relation
from gsnn.io.text import Text, listed

_QUOTED = re.compile(r'"[^"\t]*"(?=\s|$)|\S+')


@dataclass
class RawEdges:
    """Edges as they stand in a file, before duplicates are collapsed.

    Attributes:
        sources: One name per edge.
        targets: One name per edge.
        relations: One relation word per edge.
        lines: The line of each edge, from 1.
        isolated: Names that stand alone, with their position among the edges.
        comments: Lines that begin with ``#`` and would have been edges without it.
        notes: What a user should know about how the lines were read.
    """

    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    isolated: list[tuple[int, str, int]] = field(default_factory=list)
    comments: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Line:
    """A line as an editor counts it, and its fields."""

    number: int
    fields: list[str]


def _cut(line: str, tabs: bool) -> list[str]:
    """The fields of a line: at its tabs, and at its blanks where it has no tab or too few to hold an edge."""
    line = line.rstrip()
    if tabs:
        fields = [f.strip() for f in line.split("\t")]
        blanks = line.split()
        if "\t" in line and not (len(fields) == 2 and len(blanks) == 3 and _known(blanks[1])):
            return fields
        # Names may hold blanks, so that a lone name of two words is one.
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
    """The fields without their quotes, if every field that is no number stands between quotes."""
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


def _rows(kept: Sequence[tuple[int, str]]) -> list[_Line]:
    tabs = any("\t" in line.rstrip() for _, line in kept)
    rows = _unquoted([line for _, line in kept], tabs)
    if rows is None:
        rows = [_cut(line, tabs) for _, line in kept]
    return [_Line(n, fields) for (n, _), fields in zip(kept, rows, strict=True)]


def looks_like_sif(text: Text) -> bool:
    """Whether most lines read as source, known relation, target(s), and none as anything but a SIF line."""
    numbered = enumerate(text.content.split("\n"), 1)
    lines = [(n, line) for n, line in numbered if line.strip() and not line.startswith("#")][:200]
    rows = [row.fields for row in _rows(lines) if len(row.fields) > 1]
    if not rows or any(len(row) == 2 for row in rows):
        return False
    return 2 * sum(_known(row[1]) for row in rows) > len(rows)


def read_sif(text: Text, *, as_is: bool = False) -> RawEdges:
    r"""Parse SIF as CellNOpt (``1``/``-1``) and Cytoscape (words, several targets) write it.

    Tabs separate, and names may hold blanks; a line without a tab is cut at its blanks, if it holds an edge then. A
    line with one field is a species without edges. Lines that begin with ``#`` are comments. Quotes around every
    field, as R writes them, are taken off. A relation is a word, 1, -1 or 0 (of unknown sign); relations of several
    words that are common ("interacts with") are known.

    Args:
        text: The file.
        as_is: Whether the user said that it is SIF: what is a legal edge and looks like a header, or like a column of
            notes, is an edge.

    Returns:
        The edges in the order of the file.

    Raises:
        DataError: If a line has a source and a relation but no target, or an empty field, or if the file is a table of
            another kind without a header.

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
    rows = _rows(kept)
    if not as_is:
        rows = _without_header(rows, text, raw.notes)
    ends = {row.fields[i] for row in rows if len(row.fields) > 2 for i in (0, 2)}
    for row in rows:
        fields, n = row.fields, row.number
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
        for target in fields[2:]:
            raw.sources.append(fields[0])
            raw.targets.append(target)
            raw.relations.append(fields[1])
            raw.lines.append(n)
    if not raw.sources:
        _refuse_other_separators(raw.isolated[0][1], text)
    check_layout([(row.number, row.fields) for row in rows if len(row.fields) > 2], path, as_is=as_is)
    return raw


def _known(relation: str) -> bool:
    return sign_of(relation) is not None


def _is_edge(fields: list[str]) -> bool:
    return len(fields) >= 3 and _known(fields[1])


def _without_header(rows: list[_Line], text: Text, notes: list[str]) -> list[_Line]:
    """Leave out a first line that names the columns; refuse one that may."""
    first, rest = rows[0], rows[1:]
    edges = [row.fields for row in rest if len(row.fields) > 2]
    if len(first.fields) < 3 or not edges:
        return rows
    if all(map(is_file_word, first.fields)):
        notes.append(f"line {first.number} read as a header: {listed(first.fields)}")
        return rest
    below = {field for row in rest for field in row.fields}
    odd = not _known(first.fields[1]) and all(_known(row[1]) for row in edges)
    if odd and len(edges) > 1 and not below & set(first.fields):
        raise DataError(
            f"{text.path}, line {first.number}: {listed(first.fields)} reads like a header, since its relation is "
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
