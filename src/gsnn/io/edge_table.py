"""Edge tables: find the columns of sources, targets and signs, and read the edges."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gsnn.base.edge_columns import ENDS, SIGNS, SOURCES, TARGETS, find_edge_columns, plain_name
from gsnn.base.errors import DataError, did_you_mean
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
) -> RawEdges:
    """The edges of a table; the arguments are those of :func:`gsnn.io.read_network`.

    Raises:
        DataError: If the columns of sources and targets, or of signs, cannot be found.
    """
    s, t = _ends(table, source, target)
    raw = RawEdges(table.names(s), table.names(t), list(table.lines))
    raw.signs, raw.notes = _signs(table, sign, taken=(s, t))
    plain = [plain_name(h) if j not in (s, t) else "" for j, h in enumerate(table.header)]
    if source is None and target is None and plain_name(table.header[s]) == "source" and "source_genesymbol" in plain:
        raw.notes.append(
            f"names are taken from the columns '{table.header[s]}' and '{table.header[t]}'; gene symbols stand in "
            f"source_genesymbol and target_genesymbol ({asked('source=, target=', '--source-column, --target-column')})"
        )
    if "status" in plain:
        n = table.column(plain.index("status")).count("proposed")
        if n:
            raw.notes.append(f"{counted(n, 'edge')} marked as proposed in column 'status' read like the known ones")
    for name in _DIRECTED:
        if name in plain:
            raw = _directed(table, plain.index(name), raw, undirected)
            break
    return _between_functions(table.column(plain.index("kind")), raw) if between_species and "kind" in plain else raw


def _between_functions(kinds: Sequence[str], raw: RawEdges) -> RawEdges:
    """The edges between functions of a network that gsnn wrote; treatments and readouts are taken from the data.

    A function without such edges stays as a species without edges. A table with other kinds is not changed.
    """
    if len(kinds) != len(raw.sources) or not set(kinds) <= set(KINDS):
        return raw
    kept = raw.take(np.flatnonzero([kind == FUNCTION_EDGES for kind in kinds]))
    ends = zip(kinds, raw.sources, raw.targets, raw.lines, strict=True)
    functions = [(t if kind == INPUT_EDGES else s, line) for kind, s, t, line in ends if kind != FUNCTION_EDGES]
    if functions:
        raw.notes.append(
            f"{counted(len(functions), 'edge')} of treatments and readouts left out: the data, or a map of names, tell "
            "what these act on and measure"
        )
    connected = {*kept.sources, *kept.targets}
    lone = {name: line for name, line in reversed(functions) if name not in connected}
    kept.isolated = [(len(kept.sources), name, line) for name, line in reversed(lone.items())]
    return kept


def refuse_joined_ends(table: Table) -> None:
    """Refuse Cytoscape's table of edges, which has both ends in one column.

    Raises:
        DataError: If it is such a table; says what to export instead.
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
    """The names in further pairs of columns of sources and targets, by the options that read them.

    ``source`` and ``target`` name the columns that were read; None if they were recognised.
    """
    taken = set(_ends(table, source, target))
    names = [plain_name(h) for h in table.header]
    others = {}
    for one, other in ENDS:
        if one in names and other in names:
            s, t = names.index(one), names.index(other)
            if s not in taken and t not in taken:
                up, down = table.header[s], table.header[t]
                flags = f"--source-column {shell(up)} --target-column {shell(down)}"
                others[asked(f"source='{up}', target='{down}'", flags)] = list({*table.column(s), *table.column(t)})
    return others


def _directed(table: Table, j: int, raw: RawEdges, undirected: str) -> RawEdges:
    """The edges with those that have no direction in both directions, or left out."""
    directed = _yes(table, j)
    loose = np.flatnonzero(~directed)
    if not len(loose):
        return raw
    what = f"{counted(len(loose), 'undirected edge')} ('{table.header[j]}' says no)"
    if undirected == "drop":
        raw.notes.append(f"{what} left out")
        if not directed.any():
            both = asked("undirected='both'", "--undirected both")
            raise DataError(
                f"{table.path}: no edge has a direction ('{table.header[j]}'); pass {both} to read each in both "
                "directions"
            )
        return raw.take(np.flatnonzero(directed))
    drop = asked("undirected='drop'", "--undirected drop")
    raw.notes.append(f"{what} read in both directions; pass {drop} to leave them out")
    pairs = set(zip(raw.sources, raw.targets, strict=True))
    turned = raw.take(loose[[(raw.targets[i], raw.sources[i]) not in pairs for i in loose]])
    raw.sources += turned.targets
    raw.targets += turned.sources
    raw.lines += turned.lines
    raw.signs = np.concatenate([raw.signs, turned.signs])
    return raw


def _ends(table: Table, source: str | None, target: str | None) -> tuple[int, int]:
    known = find_edge_columns(table.header)
    s = None if source is None else _named(table, source, "source")
    t = None if target is None else _named(table, target, "target")
    names = [plain_name(h) for h in table.header]
    if s is None:
        s = known[0] if known and known[0] != t else _first(names, SOURCES, t)
    if t is None:
        t = known[1] if known and known[1] != s else _first(names, TARGETS, s)
    if s is None or t is None:
        if any(h.upper().startswith(("TR:", "DV:")) for h in table.header):
            raise DataError(
                f"network file '{table.path}' has an unknown column layout: its columns begin with TR: or DV:, as "
                "those of responses do; are the network and the responses swapped?"
            )
        if table.rows and len(table.header) > 1 and first_row_is_data(table):
            raise DataError(
                f"network file '{table.path}': unknown column layout; the first line is data and no header "
                f"({listed(table.header, 12)}); {advice([table.header, *table.rows])}"
            )
        raise DataError(
            f"network file '{table.path}': unknown column layout; found columns {listed(table.header, 12)}, looked "
            f"for a source ({', '.join(SOURCES[:5])}, ...) and a target ({', '.join(TARGETS[:5])}, ...); name them "
            f"with {asked('source= and target=', '--source-column and --target-column')}, or write SIF: "
            "source<TAB>sign<TAB>target without a header"
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
    hint = did_you_mean(name, [h for h in table.header if h])
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
        return (_flags(table, columns[0], columns[1]), []) if len(columns) == 2 else _words(table, columns[0])
    plain = [plain_name(h) if j not in taken else "" for j, h in enumerate(table.header)]
    for name in SIGNS:
        if name in plain:
            return _words(table, plain.index(name))
    pairs = [(plain.index(up), plain.index(down)) for up, down in _FLAGS if up in plain and down in plain]
    if pairs:
        signs = _flags(table, *pairs[0])
        consensus = next((pair for pair in pairs[1:] if plain[pair[0]].startswith("consensus")), None)
        return (signs, []) if consensus is None else _agreed(table, pairs[0], consensus, signs)
    for name in _WORDS:
        # A column without any word for a sign holds categories ("protein", "kinase").
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
    """A note where the numbers are never negative and may have another code for inhibition: 2, or 0."""
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


def _flags(table: Table, up: int, down: int) -> NDArray[np.int8]:
    # Both at once, or neither, is an unknown sign.
    return _yes(table, up).astype(np.int8) - _yes(table, down).astype(np.int8)


def _agreed(
    table: Table, flags: tuple[int, int], consensus: tuple[int, int], signs: NDArray[np.int8]
) -> tuple[NDArray[np.int8], list[str]]:
    """The signs, with the consensus of a database's sources where these contradict each other."""
    torn = _yes(table, flags[0]) & _yes(table, flags[1])
    agreed = _flags(table, *consensus)
    settled = int((torn & (agreed != 0)).sum())
    note = f"{counted(settled, 'edge')} both stimulating and inhibiting: the sign is the consensus"
    return np.where(torn, agreed, signs).astype(np.int8), [note] if settled else []


def _yes(table: Table, j: int) -> NDArray[np.bool_]:
    _once(table, j)
    cells = table.column(j)
    meaning = {cell: flag_of(cell) for cell in set(cells)}
    if None in meaning.values():
        i = next(i for i, cell in enumerate(cells) if meaning[cell] is None)
        raise DataError(f"{table.where(i, j)}: {cells[i]!r} is neither yes nor no; write 1 or 0")
    return np.fromiter((bool(meaning[cell]) for cell in cells), dtype=np.bool_, count=len(cells))
