"""Between Graph and networkx, pandas and PyG."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from gsnn.base.errors import DataError, did_you_mean, require
from gsnn.graph.checks import EDGE_TYPES, NODE_TYPES, EdgeType, arrow, shown

if TYPE_CHECKING:
    import networkx as nx
    from torch_geometric.data import HeteroData

NameLists = Mapping[str, list[str]]
ByType = Mapping[EdgeType, Tensor]
Lists = tuple[Iterable[str] | None, Iterable[str] | None, Iterable[str] | None]


def read_networkx(G: nx.DiGraph, lists: Lists, weight_attr: str | None, sign_attr: str | None) -> dict[str, Any]:
    """Columns of a networkx graph: source, target, sign, weight, names."""
    if not (hasattr(G, "edges") and hasattr(G, "is_directed")):
        raise TypeError(f"G must be a networkx DiGraph, got {type(G).__name__}")
    if not G.is_directed():
        raise TypeError(f"G must be directed, got {type(G).__name__}; use a networkx.DiGraph")
    names = _types_of_nodes(G) if all(nodes is None for nodes in lists) else _listed_nodes(G, lists)
    source, target, attributes = [], [], []
    for u, v, attribute in G.edges(data=True):
        source.append(u)
        target.append(v)
        attributes.append(attribute)
    weight = _edge_attribute(source, target, attributes, weight_attr, default="weight", missing=None)
    sign = _edge_attribute(source, target, attributes, sign_attr, default="sign", missing=0)
    return {"source": source, "target": target, "sign": sign, "weight": weight, "names": names}


def _types_of_nodes(G: nx.DiGraph) -> dict[str, list[str]]:
    """Names by the node attribute ``type``."""
    names: dict[str, list[str]] = {kind: [] for kind in NODE_TYPES}
    wrong = []
    for node, kind in G.nodes(data="type"):
        if isinstance(kind, str) and kind in names:
            names[kind].append(node)
        else:
            wrong.append(f"{node!r} ({kind!r})")
    if wrong:
        raise DataError(
            f"{len(wrong)} nodes whose attribute 'type' is not 'input', 'function' or 'output': {shown(wrong)}; "
            "set it, or pass input_nodes, function_nodes and output_nodes"
        )
    return names


def _listed_nodes(G: nx.DiGraph, lists: Lists) -> dict[str, list[str]]:
    """Names as listed; every node of the graph must be in one of the lists."""
    parameters = ("input_nodes", "function_nodes", "output_nodes")
    absent = [parameter for parameter, nodes in zip(parameters, lists, strict=True) if nodes is None]
    if absent:
        raise DataError(f"{' and '.join(absent)} left out; pass all three lists of nodes, or none")
    names = {kind: list(nodes or ()) for kind, nodes in zip(("input", "function", "output"), lists, strict=True)}
    listed = {name for listed in names.values() for name in listed}
    untyped = [repr(node) for node in G.nodes if node not in listed]
    if untyped:
        raise DataError(
            f"{len(untyped)} nodes of G are in none of the lists: {shown(untyped)}; "
            "add them to input_nodes, function_nodes or output_nodes, or remove them from G"
        )
    return names


def _edge_attribute(
    source: list[str],
    target: list[str],
    attributes: list[dict[str, Any]],
    key: str | None,
    *,
    default: str,
    missing: float | None,
) -> list[float] | None:
    """One value per edge, or None if the attribute is not to be read, or is the default one and no edge has it."""
    if key is None:
        return None
    if not any(key in attribute for attribute in attributes):
        if key == default:
            return None
        known = sorted({str(k) for attribute in attributes for k in attribute})
        raise DataError(
            f"no edge of G has the attribute {key!r}{did_you_mean(key, known)}; there are {known}; "
            f"None reads no {default}"
        )
    values: list[Any] = [missing if attribute.get(key) is None else attribute[key] for attribute in attributes]
    without = [arrow(s, t) for s, t, value in zip(source, target, values, strict=True) if value is None]
    if without:
        raise DataError(f"{len(without)} edges lack the attribute {key!r}: {shown(without)}; None ignores it")
    return values


def read_pandas(edges: pd.DataFrame, nodes: pd.DataFrame) -> dict[str, Any]:
    """Columns of two tables: source, target, sign, weight, names."""
    for label, table, columns in (("edges", edges, ("source", "target")), ("nodes", nodes, ("name", "type"))):
        if not isinstance(table, pd.DataFrame):
            raise TypeError(f"{label} must be a pandas DataFrame, got {type(table).__name__}")
        absent = [column for column in columns if column not in table.columns]
        if absent:
            raise DataError(
                f"{label} has no column {shown(map(repr, absent))}; it has {list(table.columns)}; rename them"
            )
    kinds = nodes["type"].astype(object).tolist()
    wrong = dict.fromkeys(repr(kind) for kind in kinds if kind not in NODE_TYPES)
    if wrong:
        raise DataError(f"nodes['type'] must be 'input', 'function' or 'output', got {shown(wrong)}")
    all_names = nodes["name"].astype(object).tolist()
    names = {kind: [name for name, k in zip(all_names, kinds, strict=True) if k == kind] for kind in NODE_TYPES}
    return {
        "source": edges["source"].astype(object).tolist(),
        "target": edges["target"].astype(object).tolist(),
        "sign": _numbers(edges["sign"].fillna(0), "sign") if "sign" in edges else None,
        "weight": _numbers(edges["weight"], "weight") if "weight" in edges else None,
        "names": names,
    }


def _numbers(column: pd.Series, name: str) -> np.ndarray:
    try:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        wrong = column[pd.to_numeric(column, errors="coerce").isna()]
        listed = shown(f"row {row}: {value!r}" for row, value in wrong.items())
        raise DataError(f"edges[{name!r}] must hold numbers, got {listed}") from error


def read_hetero(data: Any) -> tuple[Any, Any, Any, Any]:  # noqa: ANN401 - HeteroData or anything that looks like it
    """The four dictionaries of an object that looks like ``HeteroData``."""
    index, names, weight, sign = (
        _dictionary(data, key) for key in ("edge_index_dict", "node_names_dict", "edge_weight_dict", "edge_sign_dict")
    )
    if index is None or names is None:
        raise TypeError(
            f"a graph must have edge_index_dict and node_names_dict, got {type(data).__name__} without "
            f"{'edge_index_dict' if index is None else 'node_names_dict'}; build one with Graph.from_edges, "
            "from_networkx or from_pandas (in a HeteroData, set data[type].node_names)"
        )
    # An edge type without edges often has no attributes; Graph checks that one with edges has them.
    return index, names, _filled(weight, index), _filled(sign, index)


def _dictionary(data: Any, key: str) -> Mapping[Any, Any] | None:  # noqa: ANN401
    """An attribute of the object if it is a dictionary, else None (PyG raises KeyError where no store has the key)."""
    try:
        value = getattr(data, key, None)
    except KeyError:
        return None
    return value if isinstance(value, Mapping) else None


def _filled(values: Mapping[Any, Any] | None, index: Mapping[Any, Any]) -> dict[Any, Any] | None:
    if values is None or not len(values):
        return None
    return {kind: values[kind] if kind in values else np.empty(0) for kind in {**dict.fromkeys(EDGE_TYPES), **index}}


def write_networkx(edges: pd.DataFrame, nodes: pd.DataFrame) -> nx.DiGraph:
    """See ``Graph.to_networkx``; the tables are those of :func:`write_pandas`."""
    import networkx as nx

    G = nx.DiGraph()
    G.add_nodes_from((name, {"type": kind}) for name, kind in nodes.itertuples(index=False, name=None))
    rows = edges.itertuples(index=False, name=None)
    G.add_edges_from((s, t, dict(zip(edges.columns[2:], values, strict=True))) for s, t, *values in rows)
    return G


def write_pandas(
    names: NameLists, index: ByType, weight: ByType | None, sign: ByType | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """See ``Graph.to_pandas``; the dictionaries are those of a ``Graph``."""
    listed = {kind: np.array(each, dtype=object) for kind, each in names.items()}
    edges = {
        "source": np.concatenate([listed[kind[0]][index[kind][0].numpy()] for kind in EDGE_TYPES]),
        "target": np.concatenate([listed[kind[2]][index[kind][1].numpy()] for kind in EDGE_TYPES]),
    }
    if weight is not None:
        edges["weight"] = np.concatenate([weight[kind].numpy() for kind in EDGE_TYPES])
    if sign is not None:
        edges["sign"] = np.concatenate([sign[kind].numpy() for kind in EDGE_TYPES])
    nodes = {
        "name": np.concatenate([listed[kind] for kind in NODE_TYPES]),
        "type": np.repeat(NODE_TYPES, [len(listed[kind]) for kind in NODE_TYPES]),
    }
    return pd.DataFrame(edges), pd.DataFrame(nodes)


def write_pyg(names: NameLists, index: ByType, weight: ByType | None, sign: ByType | None) -> HeteroData:
    """See ``Graph.to_pyg``."""
    with warnings.catch_warnings():
        # PyG calls torch.jit.script while it is imported; a user of this package cannot change that.
        warnings.simplefilter("ignore", DeprecationWarning)
        data = require("torch_geometric.data", extra="pyg").HeteroData()
    for kind, listed in names.items():
        data[kind].node_names = listed
        data[kind].num_nodes = len(listed)
    for edge_type, edges in index.items():
        data[edge_type].edge_index = edges
        if weight is not None:
            data[edge_type].edge_weight = weight[edge_type]
        if sign is not None:
            data[edge_type].edge_sign = sign[edge_type]
    return data
