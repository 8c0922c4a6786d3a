"""Proposed edges as one table with fixed columns, from any source and for any format."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gsnn.base.errors import DataError
from gsnn.graph.kinds import FUNCTION_EDGES
from gsnn.io.edge_list import is_absent
from gsnn.io.network import Network
from gsnn.io.text import counted, has_control, listed

if TYPE_CHECKING:
    from gsnn.graph import Graph

COLUMNS = ("source", "target", "status", "score", "sign", "rank", "p", "q")
STATUSES = ("proposed", "known")
# Other names of the columns, in the tables of inferers.
_ALIASES = {"src_func": "source", "dst_func": "target", "has_edge": "known", "p_value": "p", "q_value": "q"}
_LARGEST = 2.0**62  # of a rank
_LEFT_OUT = ("src_idx", "dst_idx", "known")
# Types that can hold NA, in place of those that cannot.
_NULLABLE = {"bool": pd.BooleanDtype(), "int64": pd.Int64Dtype()}


def edge_frame(table: pd.DataFrame, graph: Graph | Network | None = None) -> pd.DataFrame:
    """Convert a table of edges to the columns that are written.

    Args:
        table: Columns ``source`` and ``target``; ``score``, ``sign``, ``rank``, ``p``, ``q`` where there are any;
            ``status`` (proposed or known) or ``known``; further columns of numbers, booleans or text.
        graph: The prior network; its edges that the table lacks are added as known. Of a Graph, these are the edges
            of the kinds in the table's column ``kind``, without this column those between functions.

    Returns:
        A frame with :data:`COLUMNS`, then the further ones; NA where a value is undefined.

    Raises:
        TypeError: If the table is no data frame.
        DataError: If a column is missing or of the wrong kind, a name is empty or not text, or an edge occurs twice.
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table must be a pandas DataFrame, got {type(table).__name__}")
    table = table.rename(columns={k: v for k, v in _ALIASES.items() if k in table and v not in table})
    for name in ("source", "target"):
        if name not in table:
            raise DataError(f"edges must have the columns source and target, got {listed(table.columns, 12)}")
    repeated = [str(name) for name in table.columns[table.columns.duplicated()]]
    if repeated:
        raise DataError(f"edges have two columns {listed(repeated)}; rename or remove one")
    table = table.reset_index(drop=True)
    frame = pd.DataFrame({end: _names(table[end], end) for end in ("source", "target")})
    twice = frame.duplicated()
    if twice.any():
        edges = [f"{s} -> {t}" for s, t in frame[twice].itertuples(index=False, name=None)]
        raise DataError(f"{counted(len(edges), 'edge')} more than once in the table: {listed(edges)}; keep one of each")
    frame["status"] = _status(table)
    for name in ("score", "p", "q"):
        frame[name] = _numbers(table, name)
    frame["sign"] = _integers(table, "sign", "Int8", "-1, 0 or 1", lambda v: abs(v) <= 1)
    frame["rank"] = _integers(table, "rank", "Int64", "integers from 1", lambda v: v >= 1)
    frame = frame[list(COLUMNS)]
    others = [name for name in table.columns if name not in frame and name not in _LEFT_OUT]
    if others:
        frame = pd.concat([frame, pd.DataFrame({str(name): _further(table[name]) for name in others})], axis=1)
    stated = "status" in table or "known" in table
    return frame if graph is None else _with_known(frame, graph, stated=stated)


def known_edges(graph: Graph | Network, kinds: Sequence[str]) -> pd.DataFrame:
    """The edges of a prior network: source, target, sign; of a Graph, those of some kinds, with their kind."""
    if isinstance(graph, Network):
        return graph.edges[["source", "target", "sign"]]
    edges, nodes = graph.to_pandas()
    type_of = dict(zip(nodes["name"], nodes["type"], strict=True))
    kind = edges["source"].map(type_of) + "->" + edges["target"].map(type_of)
    edges = edges[["source", "target"]].assign(kind=kind, sign=edges["sign"] if "sign" in edges else 0)
    return edges[kind.isin(list(kinds))]


def species(frame: pd.DataFrame, graph: Graph | Network | None) -> list[str]:
    """Every species, those of the network first."""
    first = () if graph is None else graph.species if isinstance(graph, Network) else graph.functions
    ends = frame[["source", "target"]].to_numpy(dtype=object).ravel().tolist()
    return list(dict.fromkeys([*first, *ends]))


def _with_known(frame: pd.DataFrame, graph: Graph | Network, *, stated: bool) -> pd.DataFrame:
    """The table with the edges of the network as known; ``stated`` is whether it says which edges are."""
    kinds = sorted({FUNCTION_EDGES, *frame["kind"].dropna()}) if "kind" in frame else (FUNCTION_EDGES,)
    known = known_edges(graph, kinds)
    prior = dict(zip(zip(known["source"], known["target"], strict=True), known["sign"].tolist(), strict=True))
    pairs = list(zip(frame["source"], frame["target"], strict=True))
    in_prior = np.array([pair in prior for pair in pairs], dtype=bool)
    clash = [f"{s} -> {t}" for (s, t), odd in zip(pairs, in_prior & (frame["status"] != "known"), strict=True) if odd]
    if stated and clash:
        raise DataError(
            f"{counted(len(clash), 'edge')} proposed in the table and known in the graph: {listed(clash)}; "
            "pass the graph on which they were inferred"
        )
    frame.loc[in_prior, "status"] = "known"
    signs = pd.array([prior.get(pair, pd.NA) for pair in pairs], dtype="Int8")
    frame["sign"] = frame["sign"].where(frame["sign"].notna() | ~in_prior, signs)
    listed_pairs = set(pairs)
    added = known[[pair not in listed_pairs for pair in zip(known["source"], known["target"], strict=True)]]
    if added.empty:
        return frame
    added = added.assign(status="known", sign=added["sign"].astype("Int8"))
    # Column by column, since concatenating frames with empty columns loses their types.
    parts = {}
    for name in frame.columns:
        column: pd.Series = frame[name]
        if str(column.dtype) in _NULLABLE:
            column = column.astype(_NULLABLE[str(column.dtype)])
        absent = pd.Series([None] * len(added), dtype=object).astype(column.dtype)
        parts[name] = pd.concat([column, added[name] if name in added else absent], ignore_index=True)
    return pd.DataFrame(parts)


def _names(column: pd.Series, name: str) -> pd.Series:
    values = column.astype(object).tolist()
    for i, value in enumerate(values, 1):
        if not isinstance(value, str) or not value:
            shown = "nothing" if value == "" or is_absent(value) else repr(value)
            raise DataError(f"column '{name}' must hold names as text, got {shown} in row {i}")
        if has_control(value):
            raise DataError(f"column '{name}': the name {value!r} in row {i} holds a control character; remove it")
    return pd.Series(values, dtype=object)


def _status(table: pd.DataFrame) -> pd.Series:
    if "status" in table:
        status = table["status"].astype(object)
        wrong = [repr(each) for each in dict.fromkeys(status) if each not in STATUSES]
        if wrong:
            raise DataError(f"column 'status' must hold 'known' or 'proposed', got {', '.join(wrong[:5])}")
        return status
    known = pd.Series([False] * len(table)) if "known" not in table else table["known"]
    if known.dtype == object or str(known.dtype) in {"str", "string"}:
        known = known.map({"True": True, "False": False, True: True, False: False})
    if known.isna().any() or not set(known.unique().tolist()) <= {True, False}:
        raise DataError("column 'known' must hold True or False in every row")
    return pd.Series(np.where(known.to_numpy(dtype=bool), "known", "proposed"), dtype=object)


def _numbers(table: pd.DataFrame, name: str) -> pd.Series:
    """A column as float64, NaN where it is undefined or absent."""
    if name not in table:
        return pd.Series(np.nan, index=table.index, dtype=np.float64)
    column = table[name]
    if pd.api.types.is_bool_dtype(column.dtype) and len(column):
        raise DataError(f"column '{name}' must hold numbers, got {column.iloc[0]!r} in row 1")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan))
    return pd.Series(numbers(column.tolist(), f"column '{name}'"), dtype=np.float64)


def numbers(cells: Sequence[object], what: str) -> list[float]:
    """Cells as numbers, exactly as Python reads them (pandas may differ in the last digit of a text).

    Args:
        cells: Numbers or text; None and an empty text are undefined.
        what: How the message calls the cells.

    Returns:
        One number per cell, NaN where it is undefined.

    Raises:
        DataError: If a cell is not a number.
    """
    values = []
    for i, cell in enumerate(cells, 1):
        try:
            values.append(math.nan if cell == "" or is_absent(cell) else float(cell))  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise DataError(f"{what} must hold numbers, got {repr(cell)[:100]} in row {i}") from error
    return values


def _integers(
    table: pd.DataFrame, name: str, dtype: Literal["Int8", "Int64"], what: str, allowed: Callable[[Any], Any]
) -> pd.Series:
    values = _numbers(table, name)
    wrong = np.flatnonzero(
        values.notna() & ~((values == np.round(values)) & (abs(values) < _LARGEST) & allowed(values))
    )
    if len(wrong):
        raise DataError(f"column '{name}' must hold {what}, got {values.iloc[wrong[0]]:g} in row {wrong[0] + 1}")
    return values.astype(dtype)


def _further(column: pd.Series) -> pd.Series:
    """A further column: numbers and booleans as they are, anything else as text."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.astype("boolean") if column.isna().any() else column.astype(bool)
    if pd.api.types.is_integer_dtype(column.dtype):
        return column.astype("Int64") if column.isna().any() else column.astype(np.int64)
    if pd.api.types.is_float_dtype(column.dtype):
        return pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan))
    return pd.Series([None if is_absent(value) else str(value) for value in column.tolist()], dtype=object)
