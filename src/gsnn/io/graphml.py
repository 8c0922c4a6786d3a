"""Read GraphML with a parser that refuses entities and references to other files."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import ParseError  # nosec B405  # an exception; defusedxml parses

from gsnn.base.errors import DataError, did_you_mean, require
from gsnn.base.wording import asked, shell
from gsnn.io.names import is_number
from gsnn.io.table import Table
from gsnn.io.text import Raw, counted, listed

# Ids that only count the nodes: 62 (Cytoscape), n0 (igraph, yEd), n0::n3 (yEd groups).
_COUNTED = re.compile(r"(n|node|v|vertex)?[_:]?\d+(::n\d+)*", re.IGNORECASE)
_ALWAYS_ALLOWED = 2_000_000  # attributes of all nodes and edges; a larger file may have as many as it has bytes
_NAMES = ("shared name", "name", "label", "Label")


@dataclass
class _Parsed:
    """Nodes and edges in the order of the file."""

    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    ends: list[tuple[str, str, bool]] = field(default_factory=list)
    edges: list[dict[str, str]] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, dict[str, str]] = field(default_factory=dict)
    directed: list[bool] = field(default_factory=list)
    n_graphs: int = 0
    cells: int = 0


def read_graphml(raw: Raw, name: str | None) -> tuple[Table, list[str], list[str], dict[str, list[str]]]:
    """Read a GraphML file as a table of edges.

    Args:
        raw: The file.
        name: Attribute of the nodes with their names, or ``"id"``; None takes the ids, unless they only count the
            nodes and an attribute names them.

    Returns:
        The edges with their attributes as further columns, the names of all nodes, notes for the user, and other
        names of the nodes by the options that read them.

    Raises:
        DataError: If the file is not GraphML, has entities, is truncated, or is no plain graph.
        MissingExtraError: If defusedxml is not installed.
    """
    parsed = _parse(raw)
    if not parsed.n_graphs:
        raise DataError(f"network file '{raw.path}' holds no graph")
    if parsed.n_graphs > 1:
        raise DataError(f"network file '{raw.path}' holds {parsed.n_graphs} graphs; export one graph a file")
    names, notes = _node_names(raw, parsed, name)
    for i, (source, target, _) in enumerate(parsed.ends, 1):
        for end in (source, target):
            if end not in names:
                raise DataError(f"{raw.path}, edge {i}: the node {end!r} is not declared in the file")
    attributes = [
        attribute
        for attribute in dict.fromkeys(key for edge in parsed.edges for key in edge)
        if attribute.casefold() not in {"source", "target"}
    ]
    _check_cells(raw, len(parsed.edges) * len(attributes))
    header = ["source", "target", *attributes]
    rows = [
        [names[source], names[target], *(edge.get(attribute, "") for attribute in attributes)]
        for (source, target, _), edge in zip(parsed.ends, parsed.edges, strict=True)
    ]
    if not all(directed for _, _, directed in parsed.ends):
        header.insert(2, "is_directed")
        for row, (_, _, directed) in zip(rows, parsed.ends, strict=True):
            row.insert(2, str(int(directed)))
    return (
        Table(raw.path, header, rows, range(1, len(rows) + 1), "", "edge"),
        list(names.values()),
        notes,
        _otherwise(parsed, names),
    )


def _parse(raw: Raw) -> _Parsed:
    parser = require("defusedxml.ElementTree", extra="graphml")
    common = require("defusedxml.common", extra="graphml")
    parsed = _Parsed()
    root = None
    try:
        for event, element in parser.iterparse(io.BytesIO(raw.data), events=("start", "end")):
            tag = element.tag.rsplit("}", 1)[-1]
            if root is None:
                root = element
                if tag != "graphml":
                    raise DataError(f"network file '{raw.path}' is XML, not GraphML: its root is <{tag}>")
            (_start if event == "start" else _end)(raw, parsed, tag, element)
    except ParseError as error:
        if not raw.data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<") and b"\0" not in raw.data[:4]:
            raise DataError(
                f"network file '{raw.path}' is called GraphML and is no XML; give it the extension of what it is "
                "(.sif, .csv, .tsv)"
            ) from error
        line, column = error.position
        raise DataError(
            f"{raw.path}, line {line}, column {column + 1}: not well-formed XML "
            f"({str(error).split(':')[0]}); is the file truncated?"
        ) from error
    except common.DefusedXmlException as error:
        raise DataError(
            f"network file '{raw.path}' declares XML entities or refers to other files, which is refused, since that "
            "can fill the memory; remove its DOCTYPE"
        ) from error
    except DataError:
        raise
    except (LookupError, ValueError) as error:  # an unknown encoding
        raise DataError(f"{raw.path} cannot be read as XML ({error}); save it as UTF-8") from error
    return parsed


def _start(raw: Raw, parsed: _Parsed, tag: str, element: Any) -> None:  # noqa: ANN401 - an Element of defusedxml
    if tag == "graph":
        parsed.n_graphs += not parsed.directed  # graphs inside nodes are groups of the one around them
        parsed.directed.append(element.get("edgedefault", "directed") != "undirected")
    elif tag == "hyperedge":
        raise DataError(f"network file '{raw.path}' has hyperedges; write each as edges between two nodes")


def _end(raw: Raw, parsed: _Parsed, tag: str, element: Any) -> None:  # noqa: ANN401
    if tag == "graph":
        parsed.directed.pop()
    elif tag == "key":
        default = next((child.text or "" for child in element if child.tag.endswith("default")), None)
        key = element.get("id", "")
        # yEd describes a node's shape and label in a key without a name.
        title = element.get("attr.name") or ("label" if element.get("yfiles.type") == "nodegraphics" else key)
        parsed.keys[key] = title
        if default is not None:
            parsed.defaults.setdefault(element.get("for", "all"), {})[title] = default
    elif tag == "node":
        identifier = element.get("id", "")
        if identifier in parsed.nodes:
            raise DataError(f"network file '{raw.path}' has two nodes with the id {identifier!r}; give each its own")
        parsed.nodes[identifier] = _data(raw, parsed, element, "node")
        element.clear()
    elif tag == "edge":
        directed = element.get("directed")
        if not parsed.directed:
            raise DataError(f"network file '{raw.path}' has an edge outside of a graph; put it between <graph> tags")
        parsed.ends.append(
            (
                element.get("source", ""),
                element.get("target", ""),
                parsed.directed[-1] if directed is None else directed in ("true", "1"),
            )
        )
        parsed.edges.append(_data(raw, parsed, element, "edge"))
        element.clear()


def _data(raw: Raw, parsed: _Parsed, element: Any, kind: str) -> dict[str, str]:  # noqa: ANN401
    """The attributes of a node or an edge, by name."""
    values = dict(parsed.defaults.get(kind, {}))
    for child in element:
        if child.tag.rsplit("}", 1)[-1] == "data":
            title = parsed.keys.get(child.get("key", ""), child.get("key", ""))
            labels = [part for part in child.iter() if part.tag.endswith("NodeLabel")]
            text = (labels[0].text if labels else child.text) or ""
            values[title] = text.strip()
    parsed.cells += len(values)
    _check_cells(raw, parsed.cells)
    return values


def _check_cells(raw: Raw, cells: int) -> None:
    """Refuse too many attributes: each key with a default, and each attribute of an edge, fills a column."""
    if cells > max(_ALWAYS_ALLOWED, len(raw.data)):
        raise DataError(
            f"network file '{raw.path}' gives its nodes and edges {cells} attributes, most of them by default or "
            "empty; remove those that are not needed"
        )


def _node_names(raw: Raw, parsed: _Parsed, name: str | None) -> tuple[dict[str, str], list[str]]:
    ids = {identifier: identifier for identifier in parsed.nodes}
    if name == "id":
        return ids, []
    attributes = dict.fromkeys(key for node in parsed.nodes.values() for key in node)
    if name is not None:
        if name not in attributes:
            raise DataError(
                f"{raw.path}: no node has the attribute '{name}'{did_you_mean(name, attributes)}; its nodes have "
                f"{listed(attributes) or 'none'}; {_by_id()} takes their identifiers"
            )
        names = _called(parsed, name)
        fault = _faults(names)
        if fault:
            raise DataError(
                f"{raw.path}: the attribute '{name}' {fault}; give each node a name of its own, choose another "
                f"attribute with {asked('name=', '--node-names')}, or {_by_id()}"
            )
        return names, []
    if not ids or not all(_COUNTED.fullmatch(identifier) for identifier in ids):
        return ids, []
    for option in _NAMES:
        if option in attributes and not _faults(_called(parsed, option)):
            note = f"nodes are named by their attribute '{option}', since their ids only count; {_by_id()} keeps ids"
            return _called(parsed, option), [note]
    return ids, _unnamed(raw, parsed, attributes)


def _by(attribute: str) -> str:
    """The option that takes the names of the nodes from an attribute."""
    return asked(f"name='{attribute}'", f"--node-names {shell(attribute)}")


def _by_id() -> str:
    return _by("id")


def _called(parsed: _Parsed, attribute: str) -> dict[str, str]:
    return {identifier: node.get(attribute, "") for identifier, node in parsed.nodes.items()}


def _faults(names: dict[str, str]) -> str:
    """Why an attribute cannot name the nodes; empty if it can."""
    without = [identifier for identifier, name in names.items() if not name]
    if without:
        return f"leaves {counted(len(without), 'node')} without a name (id {listed(without)})"
    twice = [name for name, n in Counter(names.values()).items() if n > 1]
    if not twice:
        return ""
    where = [identifier for identifier, name in names.items() if name in twice]
    return f"stands more than once: {listed(twice)} (ids {listed(where)})"


def _unnamed(raw: Raw, parsed: _Parsed, attributes: dict[str, None]) -> list[str]:
    """Notes where ids only count and no attribute names all nodes; an attribute that names most is refused."""
    for option in _NAMES:
        names = _called(parsed, option)
        if option in attributes and 2 * len({name for name in names.values() if name}) >= len(names):
            raise DataError(
                f"{raw.path}: the ids of the nodes only count, and their attribute '{option}' "
                f"{_faults(names)}; give each node a name of its own there, choose another attribute with "
                f"{asked('name=', '--node-names')}, or {_by_id()} for the ids"
            )
    columns = {each: _called(parsed, each) for each in attributes}
    able = [each for each, names in columns.items() if not _faults(names) and not any(map(is_number, names.values()))]
    unfit = [option for option in _NAMES if option in attributes]
    if not able:
        return [f"nodes are named by their ids, since '{unfit[0]}' does not tell them apart"] if unfit else []
    ways = " or ".join(map(_by, able[:3]))
    return [f"nodes are named by their ids, which only count; their names may stand in an attribute: {ways}"]


def _otherwise(parsed: _Parsed, names: dict[str, str]) -> dict[str, list[str]]:
    """Other names of the nodes, from each attribute and the ids, by the options that read them."""
    attributes = dict.fromkeys(key for node in parsed.nodes.values() for key in node)
    others = {_by(each): _called(parsed, each) for each in attributes}
    others[_by_id()] = {identifier: identifier for identifier in parsed.nodes}
    return {option: [n for n in called.values() if n] for option, called in others.items() if called != names}
