"""Prior networks: who acts on whom, and how."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from gsnn.base.edge_columns import find_edge_columns
from gsnn.base.errors import DataError, check_option
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
from gsnn.io.text import HDF5, Raw, Text, check_names, counted, decode, listed, read_raw, suffix_of

FORMATS = ("sif", "csv", "tsv", "parquet", "graphml")
_XML = (b"<?xml", b"<graphml")


class DuplicateEdge(NamedTuple):
    """An edge that a file has more than once.

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

    Self-edges are kept and listed; :func:`gsnn.data.build_data` leaves them out, because the model gives every
    function node a self-edge of its own.

    Attributes:
        edges: Table with columns ``source``, ``target`` (text) and ``sign`` (int8: +1, -1, 0 unknown).
        species: Every name in the file, in order of first appearance, those without edges included.
        duplicates: Edges that occurred more than once and were collapsed; opposite signs became 0, and an unknown
            sign yields to a known one.
        self_edges: Species that act on themselves.
        warnings: What a user should know about the file.
        path: The file, or None for a network made in memory.
        sha256: Hex digest of the file.
        other_names: Other names of the species, from node attributes of GraphML or pairs of columns of a table; the
            keys are the options that read them.
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
        """Check the edges and the species.

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
                "inhibits". Triples in the order of SIF, ``(source, sign, target)``, are recognised by their signs. A
                data frame is read by its columns, like a file; columns 0, 1, 2 without names as pairs or triples.
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
        raw = read_edges_of(edges)
        raw.isolated = [(len(raw.sources), name, 0) for name in names_of(species, "species")]
        return _network(raw)

    def oddities(self, names: Iterable[str] = ()) -> list[str]:
        """Signs that the network was read wrongly: species that are numbers, or words of file headers.

        Args:
            names: The treatments and readouts of the data. If some are numbers, numbers are identifiers (Entrez).

        Returns:
            Sentences, none if nothing is odd.

        Example:
            >>> Network.from_edges([("source", "target"), ("EGF", "EGFR")]).oddities(["EGF", "EGFR"])[0][:52]
            '2 species of the network are words of files, not a n'
        """
        return strange(self.species, names)

    def named_otherwise(self, names: Iterable[str]) -> str:
        """A hint at another place of the file that has names which are not species; empty if there is none.

        Args:
            names: Treatments and readouts that were not found.

        Returns:
            A sentence with the option that reads those names instead.
        """
        missing = {str(name) for name in names}
        missing |= {name[:-1] for name in missing if name.endswith("i")}
        hits = {option: len(missing & set(held)) for option, held in self.other_names.items()}
        best = max(hits, key=lambda option: hits[option], default="")
        if not hits.get(best):
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
    are parts of names, unless every field has them. Other tables without a header (numbers as relations or further
    targets) are refused; number their columns with ``source`` and ``target``. An edge table has a header and follows
    the rules of CSV; the columns of OmniPath and SIGNOR are known. GraphML is read as a table of its edges and their
    attributes. Parquet and GraphML are recognised by their content, the others by the header, then the extension,
    then the content. Text may be packed as ``.gz``. Pickles are refused.

    Rows without a direction (``is_directed`` = 0, or an undirected GraphML edge) become an edge each way, with a
    warning, since the file does not say which is real; ``undirected="drop"`` leaves them out.

    Args:
        path: The file.
        format: ``"sif"``, ``"csv"`` (comma, semicolon or bar), ``"tsv"``, ``"parquet"`` or ``"graphml"``; overrides
            the recognition.
        source: Name of the column of sources, if it is not recognised; its number, from 1, if there is no header.
        target: Name of the column of targets.
        sign: Name of the column of signs, or of the two columns (stimulation, inhibition).
        undirected: What to do with edges without a direction: ``"both"`` or ``"drop"``.
        name: GraphML only: the node attribute with the names, or ``"id"``. By default the ids, unless they only
            count the nodes and an attribute (``name``, ``shared name``, ``label``) names them.
        between_species: Of a table that gsnn wrote, take the edges between functions; False takes those of all
            kinds, with the nodes of treatments and readouts.

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
        if value is not None:
            check_option(parameter, value, options, DataError)
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
    others: dict[str, list[str]] = {}
    if kind == "parquet":
        table = read_parquet(file, "network")
    elif kind == "graphml":
        table, nodes, notes, others = read_graphml(file, name)
        if not nodes:
            raise DataError(f"network file '{file.path}' holds no nodes")
    else:
        text = decode(file, "network")
        table = None if format == "sif" else _as_table(text, format, (source, target, sign), notes)
    if table is None:
        raw = read_sif(text, as_is=format == "sif")
        raw.signs, unknown = signs_of(raw.relations)
        if unknown:
            words = [f"{word} ({n}x)" for word, n in unknown.most_common()]
            raw.notes.append(f"relations of unknown sign, taken as 0: {listed(words)}")
    else:
        raw = read_edge_table(table, source, target, sign, undirected, between_species=between_species)
        others = others if kind == "graphml" else other_names(table, source, target)
    raw.notes = [*notes, *raw.notes]
    raw.isolated += [(0, node, 0) for node in nodes]
    if raw.comments:
        raw.notes.append(
            f"{counted(len(raw.comments), 'line')} beginning with '#' read as comments though they look like edges "
            f"(line {raw.comments[0]}{', ...' if len(raw.comments) > 1 else ''})"
        )
    unit = "line" if table is None else table.unit
    check_names(raw.sources, raw.lines, file.path, unit)
    check_names(raw.targets, raw.lines, file.path, unit)
    _, names, lines = zip(*raw.isolated, strict=True) if raw.isolated else ((), (), ())
    check_names(names, lines, file.path, "node" if nodes else unit)
    return _network(raw, file, others)


def _kind(file: Raw, format: str | None) -> str:
    """``parquet`` or ``graphml`` by the first bytes, or ``text``."""
    start = file.data[:100].removeprefix(b"\xef\xbb\xbf").lstrip()
    content = "text"
    if file.is_parquet:
        content = "parquet"
    elif start.startswith(_XML) or (file.suffix == ".graphml" and file.data.strip()):
        content = "graphml"
    elif file.data.startswith(HDF5):
        raise DataError(
            f"network file '{file.path}' is HDF5 (AnnData and MuData hold responses, not a network); give a network as "
            f"one of {listed(FORMATS, 9)}"
        )
    if content == "text":
        return format if format in {"parquet", "graphml"} else content
    if format not in (None, content):
        stated, option = asked(f"format='{format}'", f"--graph-format {format}"), asked("format", "--graph-format")
        raise DataError(f"network file '{file.path}' is {content}, and {stated} was given; leave {option} out")
    return content


_Columns = tuple[str | None, str | None, str | tuple[str, str] | None]


def _as_table(text: Text, format: str | None, columns: _Columns, notes: list[str]) -> Table | None:
    """The file as an edge table, or None if it is SIF."""
    delimiters = {"csv": ",;|", "tsv": "\t"}.get(format or "")
    named = any(column is not None for column in columns)
    if delimiters is not None or named:
        table = _any_table(text, delimiters, header=True)
        refuse_matrix(table)
        table = _numbered(text, table, delimiters, columns, notes)
        check_edge_columns(len(table.header), text.path)
        return table
    suffix = suffix_of(text.path)
    try:
        table = read_table(text, "network")
    except DataError:
        # SIF rows may differ in length and hold lone quotes, which are errors only in a table.
        if suffix == ".sif" or looks_like_sif(text):
            return None
        raise
    refuse_matrix(table)
    check_edge_columns(len(table.header), text.path)
    if find_edge_columns(table.header) is not None:
        return table
    refuse_joined_ends(table)
    by_blanks = _or_blanks(text, table, header=True)
    refuse_matrix(by_blanks)
    if find_edge_columns(by_blanks.header) is not None:
        return by_blanks
    if suffix == ".sif" or looks_like_sif(text):
        return None
    return by_blanks if first_row_is_data(by_blanks) else table


def _or_blanks(text: Text, table: Table, *, header: bool) -> Table:
    """The table, cut at its blanks if nothing else separates its cells."""
    if len(table.header) > 1:
        return table
    return read_blanks(text, header=header) or table


def _any_table(text: Text, delimiters: str | None, *, header: bool) -> Table:
    """A file that the user calls a table, cut at its blanks if nothing else separates its cells."""
    try:
        table = read_table(text, "network", delimiters, header=header)
    except DataError:  # quotes that close before a blank do not close before a tab
        blanks = read_blanks(text, header=header)
        if blanks is None or len(blanks.header) == 1:
            raise
        return blanks
    return _or_blanks(text, table, header=header)


def _numbered(text: Text, table: Table, delimiters: str | None, columns: _Columns, notes: list[str]) -> Table:
    """The table; if its columns are asked for by number, with numbers instead of a header."""
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
        bare = replace(bare, rows=bare.rows[1:], lines=bare.lines[1:])
    beyond = [name for name in (*ends, *others) if name.strip() not in bare.header]
    if beyond:
        raise DataError(
            f"{text.path} has no column {beyond[0]}: its {counted(len(bare.header), 'column')} count from 1, and the "
            f"first line is {listed(first)}"
        )
    return bare


def _names_columns(first: list[str], rows: list[list[str]]) -> bool:
    """Whether a first row is a header, although columns were asked for by number."""
    if find_edge_columns(first) is not None or all(is_file_word(cell) for cell in first if cell):
        return True
    return any(cell and not is_number(cell) and all(is_number(row[j]) for row in rows) for j, cell in enumerate(first))


def _network(raw: RawEdges, file: Raw | None = None, others: dict[str, list[str]] | None = None) -> Network:
    """Collapse duplicated edges and add warnings."""
    flat = np.empty(2 * len(raw.sources), dtype=object)
    flat[0::2], flat[1::2] = raw.sources, raw.targets
    if raw.isolated:
        flat = np.insert(flat, [2 * at for at, _, _ in raw.isolated], [name for _, name, _ in raw.isolated])
    species = [str(name) for name in pd.unique(flat)]
    if not species:
        raise DataError("a network needs at least one species")
    ends = ["source", "target"]
    table = pd.DataFrame({"source": raw.sources, "target": raw.targets}, dtype=object)
    table["sign"], table["line"] = raw.signs, np.asarray(raw.lines, dtype=np.int64)
    signs = table.groupby(ends, sort=False)["sign"]
    # As in Graph: opposite signs cancel, and an unknown one contradicts nothing.
    merged = (signs.min() + signs.max()).clip(-1, 1).to_numpy()
    edges = table.drop_duplicates(ends, ignore_index=True)[ends].assign(sign=merged)
    occurrences: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for source, target, sign, line in table[table.duplicated(ends, keep=False)].itertuples(index=False):
        occurrences.setdefault((source, target), []).append((sign, line))
    duplicates = [DuplicateEdge(*edge, *zip(*rows, strict=True)) for edge, rows in occurrences.items()]
    loops = edges["source"][edges["source"] == edges["target"]].tolist()
    return Network(
        edges=edges,
        species=species,
        duplicates=duplicates,
        self_edges=loops,
        warnings=[*raw.notes, *_warnings(edges, duplicates, loops), *doubtful(species), *_gates(species)],
        path=None if file is None else file.path,
        sha256=None if file is None else file.sha256,
        other_names=others or {},
    )


def _warnings(edges: pd.DataFrame, duplicates: list[DuplicateEdge], loops: list[str]) -> list[str]:
    notes = []
    if edges.empty:
        notes.append("the network has no edges")
    if duplicates:
        names = [f"{d.source} -> {d.target}" for d in duplicates]
        notes.append(f"{counted(len(names), 'duplicated edge')} collapsed: {listed(names)}")
    unlike = [f"{d.source} -> {d.target}" for d in duplicates if {-1, 1} <= set(d.signs)]
    if unlike:
        notes.append(
            f"{counted(len(unlike), 'duplicated edge')} whose signs disagree, taken as unknown: {listed(unlike)}"
        )
    if loops:
        notes.append(f"{counted(len(loops), 'self-edge')}: {listed(loops)}")
    return notes


def _gates(species: list[str]) -> list[str]:
    """A warning for AND gates, which CellNOpt writes as species and1, and2, ..."""
    gates = [name for name in species if re.fullmatch(r"and_?\d+", name, re.IGNORECASE)]
    if not gates:
        return []
    return [f"{counted(len(gates), 'AND gate')} of CellNOpt taken as species: {listed(gates)}"]
