"""Prior networks: who acts on whom, and how."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsnn.base.edge_columns import find_edge_columns
from gsnn.base.errors import DataError, unknown_option
from gsnn.base.wording import asked
from gsnn.io.edge_list import names_of, read_edges_of
from gsnn.io.edge_table import UNDIRECTED, other_names, read_edge_table, refuse_joined_ends
from gsnn.io.graphml import read_graphml
from gsnn.io.headerless import first_row_is_data, refuse_matrix
from gsnn.io.names import doubtful, is_file_word, is_number, strange
from gsnn.io.parquet import read_parquet
from gsnn.io.sif import RawEdges, looks_like_sif, read_sif
from gsnn.io.signs import signs_of
from gsnn.io.table import Table, check_edge_columns, read_blanks, read_table
from gsnn.io.text import HDF5, PARQUET, Raw, Text, check_names, counted, decode, listed, read_raw, suffix_of

FORMATS = ("sif", "csv", "tsv", "parquet", "graphml")
_XML = (b"<?xml", b"<graphml")


class DuplicateEdge(NamedTuple):
    """An edge that stands more than once in a file.

    Attributes:
        source: Its source.
        target: Its target.
        signs: The sign of each occurrence, in the order of the file.
        lines: The line of each occurrence, from 1.
    """

    source: str
    target: str
    signs: tuple[int, ...]
    lines: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """A prior network as read from a file: each ordered pair of species at most once.

    Self-edges are kept here, since they are what the file says, and listed; :func:`gsnn.data.build_data`
    leaves them out, because the model gives every function node a self-edge of its own.

    Attributes:
        edges: Table with columns ``source``, ``target`` (text) and ``sign`` (int8: +1, -1, 0 unknown).
        species: Every name in the file, in order of first appearance, those without edges included.
        duplicates: Edges that stood more than once and were collapsed; opposite signs became 0, and an unknown
            sign yields to a known one.
        self_edges: Species that act on themselves.
        warnings: What a user should know about the file.
        path: The file, or None for a network made in memory.
        sha256: Hex digest of the file.
        other_names: What else the species could be called: for each node attribute of GraphML, or pair of columns of
            a table, the names it holds, by how it is asked for.
    """

    edges: pd.DataFrame
    species: list[str]
    duplicates: list[DuplicateEdge] = field(default_factory=list)
    self_edges: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    path: Path | None = None
    sha256: str | None = None
    other_names: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look at what was given.

        Raises:
            TypeError: If the edges are no data frame.
            DataError: If it lacks a column, or the species are not a list of names with those of all edges.
        """
        if not isinstance(self.edges, pd.DataFrame):
            raise TypeError(
                f"edges must be a pandas DataFrame, got {type(self.edges).__name__}; use Network.from_edges"
            )
        absent = [name for name in ("source", "target", "sign") if name not in self.edges]
        if absent:
            raise DataError(
                f"edges must have the columns source, target and sign, got {listed(self.edges.columns, 12)}; "
                "use Network.from_edges, which reads other names"
            )
        species: object = self.species
        if isinstance(species, str):
            raise DataError(f"species must be a list of names, got {species!r}; put it in []")
        lost = set(self.edges["source"]) | set(self.edges["target"])
        lost -= set(self.species)
        if lost:
            raise DataError(f"species lacks {counted(len(lost), 'end')} of edges: {listed(sorted(map(str, lost)))}")

    @classmethod
    def from_edges(cls, edges: Iterable[Sequence[object]] | pd.DataFrame, species: Iterable[str] = ()) -> Network:
        """Make a network from pairs, triples or a data frame.

        Args:
            edges: ``(source, target)`` or ``(source, target, sign)``; a sign is -1, 0 (unknown), 1 or a word such as
                "inhibits". Triples in the order of SIF, ``(source, sign, target)``, are told by their signs. A data
                frame is read by its columns, as a file would be; columns 0, 1, 2 without names as pairs or triples.
            species: Further names, without edges.

        Returns:
            The network, with duplicates collapsed as for a file. Names that are whole numbers become text.

        Raises:
            DataError: If there is no species, an edge is neither a pair nor a triple (a text is none), an element is
                not a name or a sign, or the columns are not known.

        Example:
            >>> print(Network.from_edges([("a", "b", 1), ("b", "c", -1)], species=["d"]))
            network: 4 species, 2 edges (1 activating, 1 inhibiting, 0 of unknown sign)
        """
        raw, signs, notes = read_edges_of(edges)
        raw.isolated = [(len(raw.sources), name, 0) for name in names_of(species, "species")]
        return _network(raw, signs, notes, None)

    def oddities(self, names: Iterable[str] = ()) -> list[str]:
        """What looks as if the network was read wrongly: species that are numbers, or words of files.

        Args:
            names: The treatments and readouts of the data. Numbers are identifiers (Entrez) if some of them are.

        Returns:
            Sentences, none if nothing is odd.

        Example:
            >>> Network.from_edges([("source", "target"), ("EGF", "EGFR")]).oddities(["EGF", "EGFR"])[0][:52]
            '2 species of the network are words of files, not a n'
        """
        return strange(self.species, names)

    def named_otherwise(self, names: Iterable[str]) -> str:
        """Where else in the file names stand that are no species; empty if nowhere.

        Args:
            names: Treatments and readouts that were not found.

        Returns:
            What to say, with how to read those names instead.
        """
        wanted = {str(name) for name in names}
        wanted |= {name[:-1] for name in wanted if name.endswith("i")}
        hits = {asked: len(wanted & set(held)) for asked, held in self.other_names.items()}
        best = max(hits, key=lambda asked: hits[asked], default="")
        if not best or not hits[best]:
            return ""
        return f"the network file has {counted(hits[best], 'of them', 'of them')} in another place: read it with {best}"

    def __repr__(self) -> str:
        return f"Network({len(self.species)} species, {len(self.edges)} edges)"

    def __str__(self) -> str:
        """The counts on one line, then one line per warning."""
        sign = self.edges["sign"].to_numpy()
        name = "network" if self.path is None else str(self.path)
        head = (
            f"{name}: {counted(len(self.species), 'species', 'species')}, {counted(len(sign), 'edge')} "
            f"({int((sign > 0).sum())} activating, {int((sign < 0).sum())} inhibiting, "
            f"{int((sign == 0).sum())} of unknown sign)"
        )
        return "\n".join([head, *(f"  note: {w}" for w in self.warnings)])


def read_network(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    source: str | None = None,
    target: str | None = None,
    sign: str | tuple[str, str] | None = None,
    undirected: str = "both",
    name: str | None = None,
    between_species: bool = True,
) -> Network:
    r"""Read a prior network from SIF, from an edge table (CSV, TSV, Parquet) or from GraphML.

    SIF is ``source<TAB>relation<TAB>target(s)`` without a header: signs as CellNOpt writes them, words as
    Cytoscape does, blanks instead of tabs on a line without a tab, a name alone for a species without edges. Quotes
    are parts of names, unless every field has them. Tables of another kind without a header (numbers as relations or
    further targets) are refused; number their columns with ``source`` and ``target``. An edge table has a header and
    follows the rules of CSV; the columns of OmniPath and SIGNOR are known. GraphML is read as a table of its edges
    and their attributes.
    Parquet and GraphML are recognised by their content, the others by the header, then the extension, then the
    content. Text may be packed as ``.gz``. Pickles are refused.

    Rows that say they have no direction (``is_directed`` = 0, or an undirected GraphML edge) become an edge each
    way, with a warning, since nothing tells which of the two is real; ``undirected="drop"`` leaves them out.

    Args:
        path: The file.
        format: ``"sif"``, ``"csv"`` (comma, semicolon or bar), ``"tsv"``, ``"parquet"`` or ``"graphml"``; overrides
            the recognition.
        source: Name of the column of sources, if it is not recognised; where there is no header its number, from 1.
        target: Name of the column of targets.
        sign: Name of the column of signs, or of the two columns (stimulation, inhibition).
        undirected: ``"both"`` or ``"drop"``: what becomes of edges without a direction.
        name: GraphML only: the node attribute that holds the names, or ``"id"``. By default the ids, unless they
            only count the nodes and an attribute (``name``, ``shared name``, ``label``) tells their names.
        between_species: Of a table that gsnn wrote, with edges of every kind, take those between functions; False
            takes all, with the nodes of treatments and readouts.

    Returns:
        The network; every identifier is the text in the file.

    Raises:
        DataError: If the file cannot be read as a network; the message says where and what to do.
        MissingExtraError: If Parquet or GraphML needs a package that is not installed.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "prior.csv")
        ...     _ = file.write_text("from,to,effect\nEGF,EGFR,activation\nDUSP1,ERK,inhibition\n")
        ...     network = read_network(file)
        >>> network.edges
          source target  sign
        0    EGF   EGFR     1
        1  DUSP1    ERK    -1
    """
    which = asked("format", "--graph-format")
    for parameter, value, options in ((which, format, FORMATS), ("undirected", undirected, UNDIRECTED)):
        if value is not None and value not in options:
            raise DataError(str(unknown_option(parameter, value, options)))
    named = source is not None or target is not None or sign is not None
    if format == "sif" and named:
        named_by = asked("source, target and sign", "--source-column, --target-column and --sign-column")
        sif = asked("format='sif'", "--graph-format sif")
        raise DataError(f"{named_by} name columns of a table, and {sif} has none; drop one of them")
    file = read_raw(path, "network")
    kind = _kind(file, format)
    if name is not None and kind != "graphml":
        raise DataError(
            f"{asked('name=', '--node-names')} is for GraphML, and '{file.path}' is not GraphML; leave it out"
        )
    table: Table | None
    nodes: list[str] = []
    notes: list[str] = []
    held: dict[str, list[str]] = {}
    if kind == "parquet":
        table = read_parquet(file, "network")
    elif kind == "graphml":
        table, nodes, notes, held = read_graphml(file, name)
        if not nodes:
            raise DataError(f"network file '{file.path}' holds no nodes")
    else:
        text = decode(file, "network")
        table = None if format == "sif" else _as_table(text, format, (source, target, sign), notes)
    other: dict[str, list[str]] = {}
    if table is None:
        raw = read_sif(text, as_is=format == "sif")
        notes += raw.notes
        signs, unknown = signs_of(raw.relations)
        if unknown:
            words = [f"{word} ({n}x)" for word, n in unknown.most_common()]
            notes.append(f"relations of unknown sign, taken as 0: {listed(words)}")
    else:
        raw, signs, more = read_edge_table(table, source, target, sign, undirected, between_species=between_species)
        notes += more
        other = held if kind == "graphml" else other_names(table, source, target)
    raw.isolated += [(0, node, 0) for node in nodes]
    if raw.comments:
        notes.append(
            f"{counted(len(raw.comments), 'line')} beginning with '#' read as comments though they look like edges "
            f"(line {raw.comments[0]}{', ...' if len(raw.comments) > 1 else ''})"
        )
    unit = "line" if table is None else table.unit
    check_names(raw.sources, raw.lines, file.path, unit)
    check_names(raw.targets, raw.lines, file.path, unit)
    isolated = [(n, line) for _, n, line in raw.isolated]
    check_names([n for n, _ in isolated], [line for _, line in isolated], file.path, "node" if nodes else unit)
    return _network(raw, signs, notes, file, other)


def _kind(file: Raw, format: str | None) -> str:
    """``parquet`` or ``graphml`` by the first bytes, or ``text``."""
    start = file.data[:100].removeprefix(b"\xef\xbb\xbf").lstrip()
    found = "text"
    if file.data.startswith(PARQUET) or file.suffix in {".parquet", ".pq"}:
        found = "parquet"
    elif start.startswith(_XML) or (file.suffix == ".graphml" and file.data.strip()):
        found = "graphml"
    elif file.data.startswith(HDF5):
        raise DataError(
            f"network file '{file.path}' is HDF5 (AnnData and MuData hold responses, not a network); give a network as "
            f"one of {listed(FORMATS, 9)}"
        )
    if format is None or found == "text":
        return format if found == "text" and format in {"parquet", "graphml"} else found
    if found != format:
        given, option = asked(f"format='{format}'", f"--graph-format {format}"), asked("format", "--graph-format")
        raise DataError(f"network file '{file.path}' is {found}, and {given} was given; leave {option} out")
    return found


_Columns = tuple[str | None, str | None, str | tuple[str, str] | None]


def _as_table(text: Text, format: str | None, columns: _Columns, notes: list[str]) -> Table | None:
    """The file as an edge table, or None if it is SIF."""
    delimiters = {"csv": ",;|", "tsv": "\t"}.get(format or "")
    named = any(column is not None for column in columns)
    if delimiters is not None or named:
        table = _any_table(text, delimiters, header=True)
        refuse_matrix(table.header, table.rows, text.path)
        table = _numbered(text, table, delimiters, columns, notes)
        check_edge_columns(len(table.header), text.path)
        return table
    suffix = suffix_of(text.path)
    try:
        table = read_table(text, "network")
    except DataError:
        # SIF rows may differ in length and hold lone quotes; only a file that is no SIF deserves that message.
        if suffix == ".sif" or looks_like_sif(text):
            return None
        raise
    refuse_matrix(table.header, table.rows, text.path)
    check_edge_columns(len(table.header), text.path)
    if find_edge_columns(table.header) is not None:
        return table
    refuse_joined_ends(table)
    by_blanks = _or_blanks(text, table, header=True)
    refuse_matrix(by_blanks.header, by_blanks.rows, text.path)
    if find_edge_columns(by_blanks.header) is not None:
        return by_blanks
    if suffix == ".sif" or looks_like_sif(text):
        return None
    return by_blanks if first_row_is_data(by_blanks.header, by_blanks.rows) else table


def _or_blanks(text: Text, table: Table, *, header: bool) -> Table:
    """The table, cut at its blanks if nothing else separates its cells."""
    if len(table.header) > 1:
        return table
    return read_blanks(text, header=header) or table


def _any_table(text: Text, delimiters: str | None, *, header: bool) -> Table:
    """A table that the user says it is, cut at its blanks if nothing else separates its cells."""
    try:
        table = read_table(text, "network", delimiters, header=header)
    except DataError:  # quotes that close before a blank do not close before a tab
        blanks = read_blanks(text, header=header)
        if blanks is None or len(blanks.header) == 1:
            raise
        return blanks
    return _or_blanks(text, table, header=header)


def _numbered(text: Text, table: Table, delimiters: str | None, columns: _Columns, notes: list[str]) -> Table:
    """The table as it is, or with the numbers of its columns as their names if they are asked for by number."""
    source, target, sign = columns
    ends = [end for end in (source, target) if end is not None]
    others = sign.split(",") if isinstance(sign, str) else list(sign or ())
    if len(ends) < 2 or not all(name.strip().isdecimal() for name in ends):
        return table
    header = table.header
    counts = header == [str(j) for j in range(len(header))]
    if set(ends) <= set(header) and (counts or not all(map(is_number, header))):
        if counts:
            notes.append(f"line 1 read as a header, since it counts the columns from 0: {listed(header)}")
        return table
    bare = _any_table(text, delimiters, header=False)
    first = bare.rows[0]
    if len(bare) > 1 and _names_columns(first, bare.rows[1:]):
        notes.append(f"line {bare.lines[0]} read as a header: {listed(first)}; the columns are those of these numbers")
        bare = Table(bare.path, bare.header, bare.rows[1:], bare.lines[1:], bare.delimiter, bare.unit)
    beyond = [name for name in (*ends, *others) if name.strip() not in bare.header]
    if beyond:
        raise DataError(
            f"{text.path} has no column {beyond[0]}: its {counted(len(bare.header), 'column')} count from 1, and the "
            f"first line is {listed(first)}"
        )
    return bare


def _names_columns(first: list[str], rows: list[list[str]]) -> bool:
    """Whether a first row is a header, though columns were asked for by number."""
    if find_edge_columns(first) is not None or all(is_file_word(cell) for cell in first if cell):
        return True
    return any(cell and not is_number(cell) and all(is_number(row[j]) for row in rows) for j, cell in enumerate(first))


def _network(
    raw: RawEdges,
    signs: NDArray[np.int8],
    notes: list[str],
    file: Raw | None,
    other_names: dict[str, list[str]] | None = None,
) -> Network:
    """Collapse duplicates and list what is odd; vectorised over edges."""
    n = len(raw.sources)
    flat = np.empty(2 * n, dtype=object)
    flat[0::2], flat[1::2] = raw.sources, raw.targets
    if raw.isolated:
        flat = np.insert(flat, [2 * at for at, _, _ in raw.isolated], [name for _, name, _ in raw.isolated])
    species = [str(name) for name in pd.unique(flat)]
    if not species:
        raise DataError("a network needs at least one species")
    index = pd.Index(species, dtype=object)
    pairs = np.stack([index.get_indexer(pd.Index(end, dtype=object)) for end in (raw.sources, raw.targets)])
    keys = pairs[0].astype(np.int64) * len(species) + pairs[1]
    _, first, inverse, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    low, high = np.full(len(first), 2, np.int8), np.full(len(first), -2, np.int8)
    np.minimum.at(low, inverse, signs)
    np.maximum.at(high, inverse, signs)
    # As in Graph: opposite signs cancel, and an unknown one contradicts nothing.
    merged = np.sign(low + high).astype(np.int8)
    order = np.argsort(first)
    kept = first[order]
    edges = pd.DataFrame(
        {
            "source": pd.Series([raw.sources[i] for i in kept], dtype=object),
            "target": pd.Series([raw.targets[i] for i in kept], dtype=object),
            "sign": merged[order],
        }
    )
    duplicates = _duplicates(raw, signs, inverse, count, order)
    loops = [species[i] for i in pairs[0][kept][pairs[0][kept] == pairs[1][kept]]]
    warnings = [*notes, *_warnings(edges, duplicates, loops), *doubtful(species), *_gates(species)]
    return Network(
        edges=edges,
        species=species,
        duplicates=duplicates,
        self_edges=loops,
        warnings=warnings,
        path=None if file is None else file.path,
        sha256=None if file is None else file.sha256,
        other_names=other_names or {},
    )


def _duplicates(
    raw: RawEdges,
    signs: NDArray[np.int8],
    inverse: NDArray[np.intp],
    count: NDArray[np.intp],
    order: NDArray[np.intp],
) -> list[DuplicateEdge]:
    groups: dict[int, list[int]] = {int(g): [] for g in order[count[order] > 1]}
    for i in np.flatnonzero(count[inverse] > 1):
        groups[int(inverse[i])].append(int(i))
    return [
        DuplicateEdge(
            raw.sources[members[0]],
            raw.targets[members[0]],
            tuple(int(signs[i]) for i in members),
            tuple(raw.lines[i] for i in members),
        )
        for members in groups.values()
    ]


def _warnings(edges: pd.DataFrame, duplicates: list[DuplicateEdge], loops: list[str]) -> list[str]:
    found = []
    if edges.empty:
        found.append("the network has no edges")
    if duplicates:
        names = [f"{d.source} -> {d.target}" for d in duplicates]
        found.append(f"{counted(len(names), 'duplicated edge')} collapsed: {listed(names)}")
    unlike = [f"{d.source} -> {d.target}" for d in duplicates if {-1, 1} <= set(d.signs)]
    if unlike:
        found.append(
            f"{counted(len(unlike), 'duplicated edge')} whose signs disagree, taken as unknown: {listed(unlike)}"
        )
    if loops:
        found.append(f"{counted(len(loops), 'self-edge')}: {listed(loops)}")
    return found


def _gates(species: list[str]) -> list[str]:
    """CellNOpt writes what needs two causes at once as a species and1, and2, ..."""
    gates = [name for name in species if re.fullmatch(r"and_?\d+", name, re.IGNORECASE)]
    if not gates:
        return []
    return [f"{counted(len(gates), 'AND gate')} of CellNOpt taken as species: {listed(gates)}"]
