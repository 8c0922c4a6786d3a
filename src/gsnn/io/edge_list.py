"""Edges and species given as Python objects: checks and conversion."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gsnn.base.edge_columns import find_edge_columns, plain_name
from gsnn.base.edge_rows import edge_rows
from gsnn.base.errors import DataError
from gsnn.io.edge_table import read_edge_table
from gsnn.io.headerless import is_sign
from gsnn.io.sif import RawEdges
from gsnn.io.signs import sign_of
from gsnn.io.table import Table
from gsnn.io.text import has_control, listed


def read_edges_of(edges: Any) -> RawEdges:  # noqa: ANN401 - whatever a caller passes
    """The edges in pairs, triples or a data frame; see :meth:`gsnn.io.Network.from_edges`.

    Raises:
        DataError: If they are no edges.
    """
    if isinstance(edges, pd.DataFrame) and find_edge_columns([str(name) for name in edges.columns]) is not None:
        return read_edge_table(_as_table(edges), None, None, None)
    sources, targets, signs, swapped = edge_rows(edges, _is_sign)
    return RawEdges(
        [name_of(name, f"the source of edge {i}") for i, name in enumerate(sources, 1)],
        [name_of(name, f"the target of edge {i}") for i, name in enumerate(targets, 1)],
        list(range(1, len(sources) + 1)),
        np.array([_sign(sign) for sign in signs or [None] * len(sources)], dtype=np.int8),
        notes=["edges taken in the order of SIF: source, sign, target"] if swapped else [],
    )


def names_of(names: Any, what: str) -> list[str]:  # noqa: ANN401
    """A list of names, each checked.

    Raises:
        DataError: If it is a single text, or an element is no name.
    """
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise DataError(f"{what} must be a list of names, got {names!r}; put it in []")
    return [name_of(name, f"{what}[{i}]") for i, name in enumerate(names)]


def name_of(name: Any, what: str) -> str:  # noqa: ANN401
    """A name: text, or a whole number.

    Raises:
        DataError: If it is anything else, empty, or holds control characters.
    """
    if isinstance(name, int | np.integer) and not isinstance(name, bool | np.bool_):
        return str(name)
    if not isinstance(name, str):
        raise DataError(f"{what} must be a name (text, or a whole number), got {name!r}")
    if not name.strip():
        raise DataError(f"{what} is empty; a species needs a name")
    if has_control(name):
        raise DataError(f"{what}, {name!r}, holds a control character; remove it")
    return str(name)


def _is_sign(element: Any) -> bool:  # noqa: ANN401
    if element is None or isinstance(element, bool | np.bool_):
        return element is None
    if isinstance(element, str):
        return is_sign(element)
    return bool(np.isscalar(element) and (element in (-1, 0, 1) or element != element))


def _sign(sign: Any) -> int:  # noqa: ANN401
    if isinstance(sign, str):
        return sign_of(sign) or 0
    return 0 if sign is None or sign != sign else int(sign)


def _as_table(frame: pd.DataFrame) -> Table:
    """A data frame as a table of text; the columns of sources and targets must hold names."""
    header = [str(name) for name in frame.columns]
    if len(set(map(plain_name, header))) < len(header):
        raise DataError(f"edges has two columns of the same name: {listed(header, 12)}; rename or remove one")
    ends = find_edge_columns(header)
    columns = []
    for j, title in enumerate(header):
        values = frame.iloc[:, j].astype(object).tolist()
        if ends is not None and j in ends:
            columns.append([name_of(v, f"edges[{title!r}], row {i},") for i, v in enumerate(values, 1)])
        else:
            columns.append(["" if is_absent(value) else str(value) for value in values])
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table(Path("the data frame of edges"), header, rows, range(1, len(rows) + 1), "", "row")


def is_absent(value: Any) -> bool:  # noqa: ANN401 - a cell of a data frame
    """Whether a cell has no value: None, NA, NaT or NaN."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)
