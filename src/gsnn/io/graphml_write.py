"""Write GraphML in blocks of edges, so that a network of a million proposals needs no tree in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO
from xml.sax.saxutils import escape, quoteattr  # nosec B406  # writes; nothing is parsed

import pandas as pd

from gsnn.base.errors import DataError
from gsnn.base.progress import stage

_SPACE = "http://graphml.graphdrawing.org/xmlns"
_SCHEMA = f"{_SPACE} {_SPACE}/1.0/graphml.xsd"
_TYPES = {"b": "boolean", "i": "long", "u": "long", "f": "double"}
_ROWS = 20_000
# XML readers turn these into blanks, in attributes or anywhere.
_IN_ATTRIBUTE = {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
_IN_TEXT = {"\r": "&#13;"}


def write_graphml(nodes: Mapping[str, Mapping[str, bool]], edges: pd.DataFrame, file: IO[bytes]) -> None:
    """Write a directed graph with attributes.

    Args:
        nodes: Name -> attributes.
        edges: source, target, and a column for each attribute: text, numbers or booleans. Undefined values are left
            out, and so is an attribute that no edge has.
        file: Where to write.

    Raises:
        DataError: If a number is infinite, which not every reader understands.
    """
    columns = [name for name in edges.columns[2:] if edges[name].notna().any()]
    for name in columns:
        values = edges[name]
        if values.dtype.kind == "f" and (values.abs() == float("inf")).any():
            raise DataError(f"column '{name}' holds an infinite value, which not every reader of GraphML knows")
    marks = list(dict.fromkeys(mark for attributes in nodes.values() for mark in attributes))
    keys = [("node", mark, "boolean") for mark in marks]
    keys += [("edge", name, _TYPES.get(edges[name].dtype.kind, "string")) for name in columns]
    identity = {(kind, name): f"d{i}" for i, (kind, name, _) in enumerate(keys)}
    lines = [
        "<?xml version='1.0' encoding='utf-8'?>",
        f'<graphml xmlns="{_SPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_SCHEMA}">',
        *(
            f'  <key id="{identity[kind, name]}" for="{kind}" attr.name={_attribute(name)} attr.type="{type_}" />'
            for kind, name, type_ in keys
        ),
        '  <graph edgedefault="directed">',
    ]
    for node, attributes in nodes.items():
        inner = "".join(_data(identity["node", mark], value) for mark, value in attributes.items())
        lines.append(f"    <node id={_attribute(node)}>{inner}</node>")
    file.write("".join(f"{line}\n" for line in lines).encode())
    with stage("edges of GraphML", len(edges)) as shown:
        for start in range(0, len(edges), _ROWS):
            part = edges.iloc[start : start + _ROWS]
            ends = [
                f"    <edge source={_attribute(s)} target={_attribute(t)}>"
                for s, t in zip(part["source"], part["target"], strict=True)
            ]
            cells = [
                ["" if pd.isna(value) else _data(identity["edge", name], value) for value in part[name].tolist()]
                for name in columns
            ]
            file.write("".join(f"{''.join(row)}</edge>\n" for row in zip(ends, *cells, strict=True)).encode())
            shown.advance(len(part))
    file.write(b"  </graph>\n</graphml>\n")


def _data(key: str, value: object) -> str:
    if isinstance(value, bool):
        return f'<data key="{key}">{str(value).lower()}</data>'
    return f'<data key="{key}">{escape(value, _IN_TEXT) if isinstance(value, str) else value}</data>'


def _attribute(text: str) -> str:
    return quoteattr(text, _IN_ATTRIBUTE)
