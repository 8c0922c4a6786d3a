"""Edge tables: which column is what."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gsnn.errors import DataError, closest
from gsnn.io._sif import RawEdges
from gsnn.io._signs import flag_of, sign_of, signs_of
from gsnn.io._table import Table
from gsnn.io._text import listed

# Pairs of names that belong together, the commonest first: "source" beside "from" and "to" names a database.
_ENDS = (
    ("source", "target"),
    ("src", "dst"),
    ("from", "to"),
    ("regulator", "target"),
    ("regulator", "gene"),
    ("regulator", "regulated"),
    ("tf", "target"),
    ("tf", "gene"),
    ("source_node", "target_node"),
    ("source_name", "target_name"),
    ("source_id", "target_id"),
    ("source_genesymbol", "target_genesymbol"),
    ("from_node", "to_node"),
    ("node1", "node2"),
    ("node_1", "node_2"),
    ("node_a", "node_b"),
    ("gene1", "gene2"),
    ("gene_a", "gene_b"),
    ("protein1", "protein2"),
    ("entitya", "entityb"),
    ("entity_a", "entity_b"),
    ("upstream", "downstream"),
    ("parent", "child"),
    ("ligand", "receptor"),
    ("kinase", "substrate"),
    ("enzyme", "substrate"),
    ("start", "end"),
    ("head", "tail"),
    ("u", "v"),
)
_SOURCES = tuple(dict.fromkeys(s for s, _ in _ENDS))
_TARGETS = (*dict.fromkeys(t for _, t in _ENDS), "dest", "destination", "target_gene", "targetgene")
_SIGNS = ("sign", "mor", "mode_of_regulation", "effect", "edge_sign")
_FLAGS = (
    ("stimulation", "inhibition"),
    ("is_stimulation", "is_inhibition"),
    ("consensus_stimulation", "consensus_inhibition"),
    ("activation", "inhibition"),
    ("is_activation", "is_inhibition"),
    ("activation", "repression"),
)
_WORDS = ("interaction", "relation", "relationship", "interaction_type", "regulation", "mode", "action", "type")
# Numbers of these names are signs only if some are negative: weights may be confidences, and `direction`
# often says no more than that an edge is directed.
_WEIGHTS = ("weight", "direction", "score", "value")


def _plain(name: str) -> str:
    return re.sub(r"[\s.\-]+", "_", name.lstrip("#").strip().casefold())


def find_edge_columns(header: Sequence[str]) -> tuple[int, int] | None:
    """The columns of sources and targets, recognised by name in any case.

    Args:
        header: The column names.

    Returns:
        Their positions, or None if either is missing.

    Example:
        >>> find_edge_columns(["weight", "From", "To"]), find_edge_columns(["a", "b"])
        ((1, 2), None)
    """
    names = [_plain(h) for h in header]
    for source, target in _ENDS:
        if source in names and target in names:
            return names.index(source), names.index(target)
    source_at = next((names.index(s) for s in _SOURCES if s in names), None)
    target_at = next((names.index(t) for t in _TARGETS if t in names), None)
    if source_at is None or target_at is None or source_at == target_at:
        return None
    return source_at, target_at


def read_edge_table(
    table: Table, source: str | None, target: str | None, sign: str | tuple[str, str] | None
) -> tuple[RawEdges, NDArray[np.int8], list[str]]:
    """Edges of a table.

    Args:
        table: The table.
        source: Name of its column of sources, or None to recognise it.
        target: Name of its column of targets, or None.
        sign: Name of its column of signs, or of the columns of stimulation and inhibition, or None.

    Returns:
        The edges, their signs, and notes for the user.

    Raises:
        DataError: If the columns cannot be told, with the columns found and what was looked for.
    """
    s, t = _ends(table, source, target)
    sources, targets = table.column(s), table.column(t)
    signs, notes = _signs(table, sign, taken=(s, t))
    raw = RawEdges(sources, targets, [], table.lines)
    return raw, signs, notes


def _ends(table: Table, source: str | None, target: str | None) -> tuple[int, int]:
    found = find_edge_columns(table.header)
    s = None if source is None else _named(table, source, "source")
    t = None if target is None else _named(table, target, "target")
    names = [_plain(h) for h in table.header]
    if s is None:
        s = found[0] if found and found[0] != t else _first(names, _SOURCES, t)
    if t is None:
        t = found[1] if found and found[1] != s else _first(names, _TARGETS, s)
    if s is None or t is None:
        if any(h.upper().startswith(("TR:", "DV:")) for h in table.header):
            raise DataError(
                f"network file '{table.path}' has an unknown column layout: its columns begin with TR: or DV:, as "
                "those of responses do; are the network and the responses swapped?"
            )
        raise DataError(
            f"network file '{table.path}': unknown column layout; found columns {listed(table.header, 12)}, looked "
            f"for a source ({', '.join(_SOURCES[:5])}, ...) and a target ({', '.join(_TARGETS[:5])}, ...); name them "
            "with source= and target= (--source-column, --target-column), or write SIF: source<TAB>sign<TAB>target "
            "without a header"
        )
    if s == t:
        raise DataError(f"{table.path}: source and target are both column '{table.header[s]}'; name two columns")
    for j in (s, t):
        _once(table, j)
    return s, t


def _first(names: list[str], options: Sequence[str], taken: int | None) -> int | None:
    return next((names.index(o) for o in options if o in names and names.index(o) != taken), None)


def _named(table: Table, name: str, parameter: str) -> int:
    if name in table.header:
        return table.header.index(name)
    folded = [h.casefold() for h in table.header]
    if folded.count(name.strip().casefold()) == 1:
        return folded.index(name.strip().casefold())
    near = closest(name, [h for h in table.header if h], 1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise DataError(f"{table.path} has no {parameter} column '{name}'{hint}; its columns: {listed(table.header, 12)}")


def _once(table: Table, j: int) -> None:
    if table.header.count(table.header[j]) > 1:
        raise DataError(f"{table.path}: two columns are named '{table.header[j]}'; rename or remove one")


def _signs(
    table: Table, sign: str | tuple[str, str] | None, taken: tuple[int, int]
) -> tuple[NDArray[np.int8], list[str]]:
    if sign is not None:
        names = [sign] if isinstance(sign, str) else list(sign)
        if len(names) == 1 and names[0] not in table.header and names[0].count(",") == 1:
            names = names[0].split(",")
        if len(names) > 2:
            raise DataError(f"sign must name one column, or two (stimulation, inhibition), got {len(names)}")
        columns = [_named(table, name, "sign") for name in names]
        return _flags(table, columns[0], columns[1]) if len(columns) == 2 else _words(table, columns[0])
    plain = [_plain(h) if j not in taken else "" for j, h in enumerate(table.header)]
    for name in _SIGNS:
        if name in plain:
            return _words(table, plain.index(name))
    for up, down in _FLAGS:
        if up in plain and down in plain:
            return _flags(table, plain.index(up), plain.index(down))
    for name in _WORDS:
        # A column of categories ("protein", "kinase") that holds no word for a sign says nothing about it.
        if name in plain and any(sign_of(w) for w in set(table.column(plain.index(name)))):
            return _words(table, plain.index(name))
    notes = []
    for name in _WEIGHTS:
        if name in plain:
            j = plain.index(name)
            if any(sign_of(w) == -1 for w in set(table.column(j))):
                return _words(table, j)
            notes.append(
                f"column '{table.header[j]}' holds no negative value and was not taken for signs; "
                f"pass sign='{table.header[j]}' if it is"
            )
    return np.zeros(len(table.rows), np.int8), notes


def _words(table: Table, j: int) -> tuple[NDArray[np.int8], list[str]]:
    _once(table, j)
    signs, unknown = signs_of(table.column(j))
    if not unknown:
        return signs, []
    words = [f"{word} ({n}x)" for word, n in unknown.most_common()]
    return signs, [f"column '{table.header[j]}': relations of unknown sign, taken as 0: {listed(words)}"]


def _flags(table: Table, up: int, down: int) -> tuple[NDArray[np.int8], list[str]]:
    columns = []
    for j in (up, down):
        _once(table, j)
        cells = table.column(j)
        meaning = {cell: flag_of(cell) for cell in set(cells)}
        if None in meaning.values():
            i = next(i for i, cell in enumerate(cells) if meaning[cell] is None)
            raise DataError(f"{table.where(i, j)}: {cells[i]!r} is neither yes nor no; write 1 or 0")
        columns.append(np.fromiter((bool(meaning[cell]) for cell in cells), dtype=np.int8, count=len(cells)))
    # Both at once is no sign at all, and neither is neither.
    return (columns[0] - columns[1]).astype(np.int8), []
