"""The simple interaction format: one source, a relation, one or more targets per line."""

from __future__ import annotations

from dataclasses import dataclass, field

from gsnn.base.errors import DataError
from gsnn.io.signs import sign_of
from gsnn.io.text import Text, listed


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
    """

    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    isolated: list[tuple[int, str, int]] = field(default_factory=list)
    comments: list[int] = field(default_factory=list)


def _fields(line: str, tabs: bool) -> list[str]:
    if not tabs:
        return line.split()
    return [f.strip() for f in line.rstrip().split("\t")]


def looks_like_sif(text: Text) -> bool:
    """Whether most lines read as source, known relation, target(s), and none as anything but a SIF line."""
    lines = [line for line in text.content.split("\n") if line.strip() and not line.startswith("#")][:200]
    tabs = any("\t" in line.rstrip() for line in lines)
    rows = [row for row in (_fields(line, tabs) for line in lines) if len(row) > 1]
    if not rows or any(len(row) == 2 for row in rows):
        return False
    return 2 * sum(_known(row[1]) for row in rows) > len(rows)


def read_sif(text: Text) -> RawEdges:
    r"""Parse SIF as CellNOpt (``1``/``-1``) and Cytoscape (words, several targets) write it.

    If any line holds a tab, tabs separate, and names may hold blanks; otherwise blanks separate. A line with
    one field is a species without edges. Lines that begin with ``#`` are comments.

    Args:
        text: The file.

    Returns:
        The edges in the order of the file.

    Raises:
        DataError: If a line has a source and a relation but no target, or an empty field, or if the columns
            stand in another order.

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
    raw.comments = [n for n, line in numbered if line.startswith("#") and _is_edge(_fields(line, tabs))]
    for n, line in kept:
        fields = _fields(line, tabs)
        if "" in fields:
            raise DataError(
                f"{path}, line {n}: field {fields.index('') + 1} is empty; SIF is source, relation, target(s) "
                "with one tab between them"
            )
        if len(fields) == 2:
            raise DataError(
                f"{path}, line {n}: {listed(fields)} are 2 fields; SIF is source, relation, target(s). "
                "A table of pairs needs a header such as source,target and format='csv' or 'tsv' (--graph-format)"
            )
        if len(fields) == 1:
            blanks = fields[0].split()
            if tabs and _is_edge(blanks):
                raise DataError(f"{path}, line {n}: blanks separate the fields where the rest of the file uses tabs")
            raw.isolated.append((len(raw.sources), fields[0], n))
            continue
        for target in fields[2:]:
            raw.sources.append(fields[0])
            raw.targets.append(target)
            raw.relations.append(fields[1])
            raw.lines.append(n)
    _check_layout(raw, text)
    return raw


def _known(relation: str) -> bool:
    return sign_of(relation) is not None


def _is_edge(fields: list[str]) -> bool:
    return len(fields) >= 3 and _known(fields[1])


def _check_layout(raw: RawEdges, text: Text) -> None:
    if not raw.sources:
        first = raw.isolated[0][1]
        if any(d in first for d in ",;|"):
            raise DataError(
                f"network file '{text.path}': no line holds source, relation and target separated by tabs or blanks "
                f"(the first is {first!r}); for a comma-separated table add a header such as source,target,sign"
            )
        return
    # "source target sign" without a header: every third field is a sign and no second field says one.
    distinct = set(raw.relations)
    if {_plain_sign(t) for t in set(raw.targets)} == {True} and not any(_known(r) for r in distinct):
        raise DataError(
            f"network file '{text.path}': the signs stand in the third field; SIF is source, sign, target. "
            "Swap the columns, or add a header such as source, target, sign and pass format='tsv' (--graph-format tsv)"
        )


def _plain_sign(word: str) -> bool:
    return word in {"1", "-1", "+1", "+", "-", "0"}
