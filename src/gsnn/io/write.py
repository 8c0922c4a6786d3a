"""Write and read files of proposed and known edges."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pandas as pd

from gsnn.base.csv_file import write_csv
from gsnn.base.errors import DataError, check_option, did_you_mean, require
from gsnn.base.files import atomic_path
from gsnn.base.wording import asked
from gsnn.io.edge_frame import STATUSES, edge_frame, numbers, species
from gsnn.io.graphml import read_graphml
from gsnn.io.graphml_write import write_graphml
from gsnn.io.h5ad_write import read_uns, write_uns
from gsnn.io.limits import as_data_error
from gsnn.io.names import parses_as_number
from gsnn.io.network import Network
from gsnn.io.parquet import read_arrow
from gsnn.io.sif import read_sif
from gsnn.io.signs import signs_of
from gsnn.io.table import check_edge_columns
from gsnn.io.text import Raw, decode, listed, read_raw, suffix_of

if TYPE_CHECKING:
    from gsnn.graph import Graph

UNS_KEY = "gsnn_edges"
FORMULAS = ("keep", "quote", "refuse")
_FORMULA = ("=", "+", "-", "@", "\t")
_RELATIONS = {1: "activates", -1: "inhibits"}


@dataclass(frozen=True)
class EdgeFormat:
    """A file format of edges; a new format is an entry of ``EDGE_FORMATS``.

    Attributes:
        extensions: Extensions of its files, in lower case.
        write: Writes a table of edges with the columns of :func:`write_edges` to an open file; also gets the prior
            network or None. None for AnnData, where the edges are added to an existing file.
        read: Returns the table of edges in a file; the path is for messages.
        network: Whether such a file is a network, so that ``gsnn infer --out`` writes the known edges too.
        text: Whether spreadsheets open it and may take names for formulas.
    """

    extensions: tuple[str, ...]
    write: Callable[[pd.DataFrame, Graph | Network | None, IO[bytes]], None] | None = None
    read: Callable[[Raw, Path], pd.DataFrame] | None = None
    network: bool = False
    text: bool = False


def write_edges(
    table: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    graph: Graph | Network | None = None,
    h5ad: str | os.PathLike[str] | None = None,
    key: str = UNS_KEY,
    formulas: str = "keep",
) -> Path:
    r"""Write proposed edges, next to the known ones if the graph is given.

    Each edge has ``source``, ``target``, ``status`` (proposed or known), ``score``, ``sign``, ``rank``, ``p``, ``q``
    and the further columns of the table. CSV, TSV and Parquet hold this table, with empty cells where a value is
    undefined. GraphML has the values as attributes of the edges (boolean, long, double or string), left out where
    undefined, and ``interaction`` for the styles of Cytoscape. SIF has only the relation: activates, inhibits or
    interacts, after ``proposed-`` for a proposal. An AnnData file has the table in ``uns``.

    After an error the file is as it was before. CSV, TSV, SIF and GraphML are packed if the path ends in ``.gz``; the
    bytes depend on the edges alone.

    Args:
        table: The edges, as ``gsnn.runs.infer.infer_run`` returns them or as an inferer's ``evaluate`` does.
        path: The file to write.
        format: One of ``EDGE_FORMATS``; by default the extension decides.
        graph: The prior network. Its edges (of a Graph, those of the kinds in the table) are written as known. Edges
            of the table that it has are known too; if the table calls one a proposal, that is an error.
        h5ad: For AnnData, the file of which ``path`` becomes a copy with the edges; by default ``path`` itself.
        key: For AnnData, the key in ``uns``. A table there is replaced.
        formulas: What to do in CSV and TSV with names that a spreadsheet would run as a formula (they begin with =, +,
            -, @ or a tab): ``"keep"`` them, since every other program reads them as they are; ``"quote"`` them with a
            leading apostrophe, which changes the name for those programs; ``"refuse"`` to write.

    Raises:
        DataError: If it is no table of edges, the format cannot hold a name, or the extension is unknown.
        MissingExtraError: If Parquet or AnnData needs a package that is not installed.

    Example:
        >>> import tempfile
        >>> table = pd.DataFrame({"source": ["MEK"], "target": ["JUN"], "score": [0.5], "rank": [1]})
        >>> network = Network.from_edges([("RAF", "MEK", 1)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text = write_edges(table, Path(folder, "edges.sif"), graph=network).read_text()
        ...     found = read_edges(write_edges(table, Path(folder, "edges.graphml"), graph=network))["status"]
        >>> text.splitlines(), sorted(found)
        (['MEK\tproposed-interacts\tJUN', 'RAF\tactivates\tMEK'], ['known', 'proposed'])
    """
    path = Path(path)
    chosen = format_of(path, format)
    check_option("formulas", formulas, FORMULAS)
    if h5ad is not None and chosen != "h5ad":
        raise DataError(f"h5ad= is for AnnData, and '{path}' is {chosen}; leave it out")
    frame = edge_frame(table, graph)
    if chosen == "h5ad":
        write_uns(frame, path, Path(path if h5ad is None else h5ad), key)
        return path
    if chosen == "parquet":
        if path.suffix.casefold() == ".gz":
            raise DataError(f"'{path}': Parquet is packed already; leave .gz out")
        require("pyarrow", extra="parquet")
    way = EDGE_FORMATS[chosen]
    if way.text:
        frame = _without_formulas(frame, formulas)
    assert way.write is not None  # of AnnData alone, above
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.suffix.casefold() == ".gz":
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                way.write(frame, graph, cast("IO[bytes]", packed))
        else:
            way.write(frame, graph, file)
    return path


def read_edges(path: str | os.PathLike[str], *, format: str | None = None, key: str = UNS_KEY) -> pd.DataFrame:
    """Read edges that :func:`write_edges` wrote, or the ``edges.csv`` of a run.

    Args:
        path: The file.
        format: One of ``EDGE_FORMATS``; by default the extension decides.
        key: For AnnData, the key in ``uns``.

    Returns:
        A frame with the columns source, target, status, score (float64), sign (Int8), rank (Int64), p, q (float64) and
        further ones; NA where the file has no value.

    Raises:
        DataError: If the file does not hold such edges.
        MissingExtraError: If the format needs a package that is not installed.
    """
    path = Path(path)
    chosen = format_of(path, format)
    if chosen == "h5ad":
        return edge_frame(read_uns(path, key))
    read = EDGE_FORMATS[chosen].read
    assert read is not None  # of AnnData alone, above
    raw = read_raw(path, "edges")
    try:
        return edge_frame(read(raw, path))
    except (DataError, ValueError) as error:
        if isinstance(error, DataError) and str(path) in str(error):
            raise
        raise DataError(f"edges file '{path}': {' '.join(str(error).split())}") from error


def format_of(path: Path, format: str | None = None) -> str:
    """The key of ``EDGE_FORMATS`` for a file: ``format``, or by default the format of its extension.

    Raises:
        DataError: If there is no such format or extension.
    """
    if format is not None:
        check_option("format", format, EDGE_FORMATS, DataError)
        return format
    suffix = suffix_of(path)
    known = {extension: name for name, way in EDGE_FORMATS.items() for extension in way.extensions}
    if suffix in known:
        return known[suffix]
    hint = did_you_mean(suffix, known) if suffix else ""
    more = asked(", or pass format=", "")
    raise DataError(f"'{path}': unknown extension {suffix or '(none)'!r}{hint} for edges; use {', '.join(known)}{more}")


def _without_formulas(frame: pd.DataFrame, formulas: str) -> pd.DataFrame:
    if formulas == "keep":
        return frame
    frame = frame.copy()
    for name in _text_columns(frame):
        risky = frame[name].map(lambda value: isinstance(value, str) and value.startswith(_FORMULA)).to_numpy(bool)
        if risky.any() and formulas == "refuse":
            names = dict.fromkeys(frame[name][risky])
            raise DataError(
                f"column '{name}' holds what a spreadsheet would run as a formula: {listed(names)}; rename, or pass "
                "formulas='keep' or 'quote'"
            )
        frame.loc[risky, name] = "'" + frame.loc[risky, name]
    return frame


def _text_columns(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if frame[name].dtype == object]


def _write_table(separator: str) -> Callable[[pd.DataFrame, Graph | Network | None, IO[bytes]], None]:
    return lambda frame, graph, file: write_csv(frame, file, separator)


def _read_table(separator: str) -> Callable[[Raw, Path], pd.DataFrame]:
    def read(raw: Raw, path: Path) -> pd.DataFrame:
        content = decode(raw, "edges").content
        check_edge_columns(content.split("\n", 1)[0].count(separator), path)
        # Not read_table, which strips cells: the names must come back as they were written.
        cells = pd.read_csv(io.StringIO(content), sep=separator, dtype=str, na_filter=False)
        return _typed(cells.astype(object))

    return read


def _parquet(frame: pd.DataFrame, graph: Graph | Network | None, file: IO[bytes]) -> None:
    frame.astype({name: "string" for name in _text_columns(frame)}).to_parquet(file, index=False)


def _read_parquet(raw: Raw, path: Path) -> pd.DataFrame:
    table = read_arrow(raw, "edges")
    with as_data_error(path, "a Parquet file of edges"):
        return edge_frame(table.to_pandas())


def _sif(frame: pd.DataFrame, graph: Graph | Network | None, file: IO[bytes]) -> None:
    names = species(frame, graph)
    for name in names:
        if "\t" in name or name != name.strip() or name.startswith(("#", "\ufeff")):
            raise DataError(
                f"the name {name!r} cannot stand in SIF, which has no quotes (tabs and blanks at an end are lost, # "
                "begins a comment); write CSV, Parquet or GraphML"
            )
    lines = [
        f"{s}\t{'proposed-' if status == 'proposed' else ''}{_relation(sign)}\t{t}"
        for s, t, status, sign in frame[["source", "target", "status", "sign"]].itertuples(index=False, name=None)
    ]
    joined = {*frame["source"], *frame["target"]}
    lines += [name for name in names if name not in joined]
    file.write("".join(f"{line}\n" for line in lines).encode())


def _relation(sign: object) -> str:
    return "interacts" if pd.isna(sign) else _RELATIONS.get(int(sign), "interacts")  # type: ignore[call-overload]


def _read_sif(raw: Raw, path: Path) -> pd.DataFrame:
    edges = read_sif(decode(raw, "edges"), as_is=True)
    signs, unknown = signs_of(edges.relations)
    if unknown:
        raise DataError(f"relations {listed(unknown)} are none that write_edges writes; read it with read_network")
    statuses = [STATUSES[not relation.startswith("proposed-")] for relation in edges.relations]
    return pd.DataFrame(
        {"source": edges.sources, "target": edges.targets, "status": statuses, "sign": signs}, dtype=object
    )


def _graphml(frame: pd.DataFrame, graph: Graph | Network | None, file: IO[bytes]) -> None:
    names = species(frame, graph)
    bad = [name for name in names if any(c in "\ufffe\uffff" for c in name)]
    if bad:
        raise DataError(f"the names {listed(bad)} hold a character that XML has no place for; write CSV or Parquet")
    nodes: dict[str, dict[str, bool]] = {name: {} for name in names}
    if graph is not None and not isinstance(graph, Network):
        edges, _ = graph.to_pandas()
        driven = set(edges["target"][edges["source"].isin(set(graph.inputs))])
        measured = set(edges["source"][edges["target"].isin(set(graph.outputs))])
        nodes = {name: {"perturbed": name in driven, "measured": name in measured} for name in names}
    relations = [_relation(sign) for sign in frame["sign"]]
    frame = frame.drop(columns="interaction", errors="ignore")
    frame.insert(2, "interaction", pd.Series(relations, dtype=object, index=frame.index))
    write_graphml(nodes, frame, file)


def _read_graphml(raw: Raw, path: Path) -> pd.DataFrame:
    table, _, _, _ = read_graphml(raw, "id")
    columns = {name: table.column(j) for j, name in enumerate(table.header) if name != "interaction"}
    return _typed(pd.DataFrame(columns, dtype=object))


def _typed(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with columns of only numbers or only booleans converted; empty cells become None."""
    for name in cells.columns:
        if name in ("source", "target", "kind", "status", "known"):
            continue
        values = cells[name].where(cells[name] != "", None)
        filled = values.dropna()
        if name in ("score", "sign", "rank", "p", "q"):
            cells[name] = values
        elif len(filled) and filled.str.fullmatch(r"(?i)true|false").all():
            cells[name] = values.map({v: v.casefold() == "true" for v in filled.unique()}).astype("boolean")
        elif len(filled) and filled.map(_is_number).all():
            integers = filled.str.fullmatch(r"-?\d{1,18}").all()
            cells[name] = (
                values.map(int, na_action="ignore").astype("Int64") if integers else numbers(values.tolist(), name)
            )
        else:
            cells[name] = values
    return cells


def _is_number(cell: str) -> bool:
    return parses_as_number(cell) and "_" not in cell


EDGE_FORMATS = {
    "csv": EdgeFormat((".csv",), _write_table(","), _read_table(","), text=True),
    "tsv": EdgeFormat((".tsv", ".tab"), _write_table("\t"), _read_table("\t"), text=True),
    "parquet": EdgeFormat((".parquet", ".pq"), _parquet, _read_parquet),
    "sif": EdgeFormat((".sif",), _sif, _read_sif, network=True),
    "graphml": EdgeFormat((".graphml",), _graphml, _read_graphml, network=True),
    "h5ad": EdgeFormat((".h5ad",)),
}
"""Formats of edges, by name."""
