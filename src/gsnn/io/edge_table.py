"""Edge tables: which column is what."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gsnn.base.errors import DataError, closest
from gsnn.io.sif import RawEdges
from gsnn.io.signs import flag_of, sign_of, signs_of
from gsnn.io.table import Table
from gsnn.io.text import counted, listed

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
_DIRECTED = ("is_directed", "directed", "consensus_direction")
UNDIRECTED = ("both", "drop")


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
    table: Table,
    source: str | None,
    target: str | None,
    sign: str | tuple[str, str] | None,
    undirected: str = "both",
) -> tuple[RawEdges, NDArray[np.int8], list[str]]:
    """Edges of a table.

    Args:
        table: The table.
        source: Name of its column of sources, or None to recognise it.
        target: Name of its column of targets, or None.
        sign: Name of its column of signs, or of the columns of stimulation and inhibition, or None.
        undirected: What becomes of rows that say they have no direction: ``"both"`` or ``"drop"``.

    Returns:
        The edges, their signs, and notes for the user.

    Raises:
        DataError: If the columns cannot be told, with the columns found and what was looked for.
    """
    s, t = _ends(table, source, target)
    sources, targets = table.names(s), table.names(t)
    signs, notes = _signs(table, sign, taken=(s, t))
    raw = RawEdges(sources, targets, [], list(table.lines))
    plain = [_plain(h) if j not in (s, t) else "" for j, h in enumerate(table.header)]
    if source is None and target is None and _plain(table.header[s]) == "source" and "source_genesymbol" in plain:
        notes.append(
            f"names are taken from the columns '{table.header[s]}' and '{table.header[t]}'; gene symbols stand in "
            "source_genesymbol and target_genesymbol (source=, target=)"
        )
    if "kind" in plain:
        n = table.column(plain.index("kind")).count("proposed")
        if n:
            notes.append(f"{counted(n, 'edge')} marked as proposed in column 'kind' read like the known ones")
    for name in _DIRECTED:
        if name in plain:
            raw, signs = _directed(table, plain.index(name), raw, signs, undirected, notes)
            break
    return raw, signs, notes


def _directed(
    table: Table, j: int, raw: RawEdges, signs: NDArray[np.int8], undirected: str, notes: list[str]
) -> tuple[RawEdges, NDArray[np.int8]]:
    """Give rows without a direction both, or leave them out."""
    directed = _yes(table, j)
    loose = np.flatnonzero(~directed)
    if not len(loose):
        return raw, signs
    what = f"{counted(len(loose), 'undirected edge')} ('{table.header[j]}' says no)"
    if undirected == "drop":
        notes.append(f"{what} left out")
        keep = np.flatnonzero(directed)
        if not len(keep):
            raise DataError(
                f"{table.path}: no edge has a direction ('{table.header[j]}'); pass undirected='both' to read each in "
                "both directions"
            )
        ends = [[end[i] for i in keep] for end in (raw.sources, raw.targets)]
        return RawEdges(ends[0], ends[1], [], [raw.lines[i] for i in keep]), signs[keep]
    notes.append(f"{what} read in both directions; pass undirected='drop' to leave them out")
    there = set(zip(raw.sources, raw.targets, strict=True))
    turned = [i for i in loose if (raw.targets[i], raw.sources[i]) not in there]
    return (
        RawEdges(
            raw.sources + [raw.targets[i] for i in turned],
            raw.targets + [raw.sources[i] for i in turned],
            [],
            raw.lines + [raw.lines[i] for i in turned],
        ),
        np.concatenate([signs, signs[turned]]),
    )


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
    pairs = [(plain.index(up), plain.index(down)) for up, down in _FLAGS if up in plain and down in plain]
    if pairs:
        signs, notes = _flags(table, *pairs[0])
        consensus = next((pair for pair in pairs[1:] if plain[pair[0]].startswith("consensus")), None)
        return (signs, notes) if consensus is None else _agreed(table, pairs[0], consensus, signs)
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
    return np.zeros(len(table), np.int8), notes


def _words(table: Table, j: int) -> tuple[NDArray[np.int8], list[str]]:
    _once(table, j)
    signs, unknown = signs_of(table.column(j))
    if not unknown:
        return signs, []
    words = [f"{word} ({n}x)" for word, n in unknown.most_common()]
    return signs, [f"column '{table.header[j]}': relations of unknown sign, taken as 0: {listed(words)}"]


def _flags(table: Table, up: int, down: int) -> tuple[NDArray[np.int8], list[str]]:
    # Both at once is no sign at all, and neither is neither.
    return _yes(table, up).astype(np.int8) - _yes(table, down).astype(np.int8), []


def _agreed(
    table: Table, flags: tuple[int, int], consensus: tuple[int, int], signs: NDArray[np.int8]
) -> tuple[NDArray[np.int8], list[str]]:
    """Where the sources of a database contradict each other, what most of them say."""
    torn = _yes(table, flags[0]) & _yes(table, flags[1])
    agreed, _ = _flags(table, *consensus)
    settled = int((torn & (agreed != 0)).sum())
    notes = (
        [f"{counted(settled, 'edge')} both stimulating and inhibiting: the sign is the consensus"] if settled else []
    )
    return np.where(torn, agreed, signs).astype(np.int8), notes


def _yes(table: Table, j: int) -> NDArray[np.bool_]:
    _once(table, j)
    cells = table.column(j)
    meaning = {cell: flag_of(cell) for cell in set(cells)}
    if None in meaning.values():
        i = next(i for i, cell in enumerate(cells) if meaning[cell] is None)
        raise DataError(f"{table.where(i, j)}: {cells[i]!r} is neither yes nor no; write 1 or 0")
    return np.fromiter((bool(meaning[cell]) for cell in cells), dtype=np.bool_, count=len(cells))
