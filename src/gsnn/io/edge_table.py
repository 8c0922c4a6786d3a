"""Edge tables: which column is what."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gsnn.base.edge_columns import ENDS, SIGNS, SOURCES, TARGETS, find_edge_columns, plain_name
from gsnn.base.errors import DataError, closest
from gsnn.base.wording import asked, shell
from gsnn.graph.kinds import FUNCTION_EDGES, INPUT_EDGES, KINDS
from gsnn.io.headerless import advice, first_row_is_data
from gsnn.io.names import is_number
from gsnn.io.sif import RawEdges
from gsnn.io.signs import flag_of, sign_of, signs_of
from gsnn.io.table import Table
from gsnn.io.text import counted, listed

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


def read_edge_table(
    table: Table,
    source: str | None,
    target: str | None,
    sign: str | tuple[str, str] | None,
    undirected: str = "both",
    *,
    between_species: bool = False,
) -> tuple[RawEdges, NDArray[np.int8], list[str]]:
    """Edges of a table.

    Args:
        table: The table.
        source: Name of its column of sources, or None to recognise it.
        target: Name of its column of targets, or None.
        sign: Name of its column of signs, or of the columns of stimulation and inhibition, or None.
        undirected: What becomes of rows that say they have no direction: ``"both"`` or ``"drop"``.
        between_species: Leave out edges of treatments and readouts, which a table that gsnn wrote may have.

    Returns:
        The edges, their signs, and notes for the user.

    Raises:
        DataError: If the columns cannot be told, with the columns found and what was looked for.
    """
    s, t = _ends(table, source, target)
    sources, targets = table.names(s), table.names(t)
    signs, notes = _signs(table, sign, taken=(s, t))
    raw = RawEdges(sources, targets, [], list(table.lines))
    plain = [plain_name(h) if j not in (s, t) else "" for j, h in enumerate(table.header)]
    if source is None and target is None and plain_name(table.header[s]) == "source" and "source_genesymbol" in plain:
        notes.append(
            f"names are taken from the columns '{table.header[s]}' and '{table.header[t]}'; gene symbols stand in "
            f"source_genesymbol and target_genesymbol ({asked('source=, target=', '--source-column, --target-column')})"
        )
    if "status" in plain:
        n = table.column(plain.index("status")).count("proposed")
        if n:
            notes.append(f"{counted(n, 'edge')} marked as proposed in column 'status' read like the known ones")
    for name in _DIRECTED:
        if name in plain:
            raw, signs = _directed(table, plain.index(name), raw, signs, undirected, notes)
            break
    if between_species and "kind" in plain:
        raw, signs = _between_functions(table.column(plain.index("kind")), raw, signs, notes)
    return raw, signs, notes


def _between_functions(
    kinds: Sequence[str], raw: RawEdges, signs: NDArray[np.int8], notes: list[str]
) -> tuple[RawEdges, NDArray[np.int8]]:
    """Of a network that gsnn wrote, the edges between functions: the data say what treatments act on and what is read.

    A function that has none stays, as a species without edges. Tables of other kinds of edges stay as they are.
    """
    if len(kinds) != len(raw.sources) or not set(kinds) <= set(KINDS):
        return raw, signs
    keep = [kind == FUNCTION_EDGES for kind in kinds]
    ends = zip(kinds, raw.sources, raw.targets, raw.lines, strict=True)
    functions = [(t if kind == INPUT_EDGES else s, line) for kind, s, t, line in ends if kind != FUNCTION_EDGES]
    if functions:
        notes.append(
            f"{counted(len(functions), 'edge')} of treatments and readouts left out: the data, or a map of names, tell "
            "what these act on and measure"
        )
    seen = {name for kept, s, t in zip(keep, raw.sources, raw.targets, strict=True) if kept for name in (s, t)}
    lone = {name: line for name, line in reversed(functions) if name not in seen}
    rows = [row for row in zip(raw.sources, raw.targets, raw.lines, keep, strict=True) if row[3]]
    names, targets, lines = ([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    isolated = [(len(names), name, line) for name, line in reversed(lone.items())]
    return RawEdges(names, targets, [], lines, isolated=isolated), signs[np.array(keep, dtype=bool)]


def refuse_joined_ends(table: Table) -> None:
    """Refuse Cytoscape's table of edges, in which both ends stand in one column, with what to export instead.

    Raises:
        DataError: If it is such a table.
    """
    names = [plain_name(h) for h in table.header]
    for name in ("shared_name", "name"):
        if name in names:
            j = names.index(name)
            if all(re.fullmatch(r".+ \(.*\) .+", cell) for cell in table.column(j)):
                raise DataError(
                    f"network file '{table.path}' is Cytoscape's table of edges, in which both ends stand in one "
                    f"column ('{table.header[j]}'); export the network instead (File, Export, Network to File) as SIF "
                    "or GraphML"
                )


def other_names(table: Table, source: str | None, target: str | None) -> dict[str, list[str]]:
    """What else the species of a table could be called: for each further pair of columns, its names.

    Args:
        table: The table.
        source: Name of the column of sources that was read, or None if it was recognised.
        target: Name of the column of targets that was read, or None.

    Returns:
        The names by how they are asked for.
    """
    taken = set(_ends(table, source, target))
    names = [plain_name(h) for h in table.header]
    found = {}
    for one, other in ENDS:
        if one in names and other in names:
            s, t = names.index(one), names.index(other)
            if s not in taken and t not in taken:
                up, down = table.header[s], table.header[t]
                flags = f"--source-column {shell(up)} --target-column {shell(down)}"
                found[asked(f"source='{up}', target='{down}'", flags)] = list({*table.column(s), *table.column(t)})
    return found


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
            both = asked("undirected='both'", "--undirected both")
            raise DataError(
                f"{table.path}: no edge has a direction ('{table.header[j]}'); pass {both} to read each in both "
                "directions"
            )
        ends = [[end[i] for i in keep] for end in (raw.sources, raw.targets)]
        return RawEdges(ends[0], ends[1], [], [raw.lines[i] for i in keep]), signs[keep]
    drop = asked("undirected='drop'", "--undirected drop")
    notes.append(f"{what} read in both directions; pass {drop} to leave them out")
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
    names = [plain_name(h) for h in table.header]
    if s is None:
        s = found[0] if found and found[0] != t else _first(names, SOURCES, t)
    if t is None:
        t = found[1] if found and found[1] != s else _first(names, TARGETS, s)
    if s is None or t is None:
        if any(h.upper().startswith(("TR:", "DV:")) for h in table.header):
            raise DataError(
                f"network file '{table.path}' has an unknown column layout: its columns begin with TR: or DV:, as "
                "those of responses do; are the network and the responses swapped?"
            )
        if table.rows and len(table.header) > 1 and first_row_is_data(table.header, table.rows):
            raise DataError(
                f"network file '{table.path}': unknown column layout; the first line is data and no header "
                f"({listed(table.header, 12)}); {advice([table.header, *table.rows])}"
            )
        raise DataError(
            f"network file '{table.path}': unknown column layout; found columns {listed(table.header, 12)}, looked "
            f"for a source ({', '.join(SOURCES[:5])}, ...) and a target ({', '.join(TARGETS[:5])}, ...); name them "
            f"with {asked('source= and target=', '--source-column and --target-column')}, or write SIF: "
            "source<TAB>sign<TAB>target "
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
    plain = [plain_name(h) if j not in taken else "" for j, h in enumerate(table.header)]
    for name in SIGNS:
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
            way = asked(f"sign='{table.header[j]}'", f"--sign-column {shell(table.header[j])}")
            notes.append(
                f"column '{table.header[j]}' holds no negative value and was not taken for signs; pass {way} if it is"
            )
    return np.zeros(len(table), np.int8), notes


def _words(table: Table, j: int) -> tuple[NDArray[np.int8], list[str]]:
    _once(table, j)
    cells = table.column(j)
    signs, unknown = signs_of(cells)
    if not unknown:
        return signs, _one_sided(table, j, set(cells))
    words = [f"{word} ({n}x)" for word, n in unknown.most_common()]
    return signs, [f"column '{table.header[j]}': relations of unknown sign, taken as 0: {listed(words)}"]


def _one_sided(table: Table, j: int, cells: set[str]) -> list[str]:
    """Numbers none of which is negative may have another code for inhibition: 2, or 0."""
    numbers = sorted({float(cell) for cell in cells if is_number(cell)})
    if len(numbers) < 2 or numbers[0] < 0 or any(sign_of(cell) == -1 for cell in cells):
        return []
    if not all(number in (0, 1, 2) for number in numbers):
        return []
    code = "2" if 2 in numbers else "0"
    taken = "activating too" if code == "2" else "an unknown sign"
    return [
        f"column '{table.header[j]}' holds {', '.join(f'{n:g}' for n in numbers)} and no -1: {code} is taken for "
        f"{taken}; if it says inhibiting, write -1"
    ]


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
