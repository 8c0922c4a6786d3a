"""Everything the page's script reads, as JSON-able values."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from gsnn.plot.check_tables import agreement_matrix
from gsnn.plot.data import Check, ReportData
from gsnn.plot.fit import LOSSES
from gsnn.plot.layout import drawn_nodes, edges_around, positions
from gsnn.report.columns import edge_columns, edge_values
from gsnn.report.text import numbers

CONDITIONS = {
    "real": "hidden known edges",
    "rewired": "control: rewired network",
    "permuted": "control: shuffled samples",
}
MAX_ROWS = 5000  # candidate edges in the page's table; edges.csv has them all
MAX_POINTS = 4000  # points of the observed / predicted plot
MAX_PROPOSED = 100  # proposed edges the network can show
MAX_AROUND = 100_000  # known edges from which neighbourhoods are drawn
BINS = 40


def _fit(data: ReportData) -> dict[str, Any]:
    return {"readout": [str(name) for name in data.fit["readout"]]} | {
        column: numbers(data.fit[column]) for column in ("n", "model", "ridge", "mean")
    }


def _predictions(data: ReportData) -> dict[str, Any]:
    table = data.predictions.dropna(subset=["observed", "predicted"])
    if len(table) > MAX_POINTS:
        table = table.sample(MAX_POINTS, random_state=0).sort_index()
    readouts = list(dict.fromkeys(str(name) for name in table["readout"]))
    index = {name: i for i, name in enumerate(readouts)}
    return {
        "readouts": readouts,
        "readout": [index[str(name)] for name in table["readout"]],
        "condition": [str(name) for name in table["condition"]],
        "observed": numbers(table["observed"]),
        "predicted": numbers(table["predicted"]),
    }


def _history(data: ReportData) -> dict[str, Any]:
    curves = [column for column in data.history.columns if str(column).endswith("loss")]
    return {
        "epoch": numbers(data.history["epoch"]),
        "curves": [
            {"name": LOSSES.get(str(column), str(column)), "values": numbers(data.history[column])} for column in curves
        ],
    }


def _edges(candidates: pd.DataFrame) -> dict[str, Any]:
    columns = edge_columns(candidates)
    return edge_values(candidates.head(MAX_ROWS), columns) | {
        "columns": [
            {"name": c.name, "label": c.label, "kind": c.kind, "optional": c.optional, "numeric": c.numeric}
            for c in columns
        ]
    }


def _graph(data: ReportData) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(data.functions)
    known = zip(data.network["source"], data.network["target"], data.network["sign"], strict=True)
    graph.add_edges_from((source, target, {"sign": int(sign)}) for source, target, sign in known)
    return graph


def _with_ends(data: ReportData, graph: nx.DiGraph, candidates: pd.DataFrame) -> nx.DiGraph:
    """The graph with the inputs and outputs that are ends of candidates, and their known edges."""
    rows = candidates.head(MAX_ROWS)
    ends = {name for side in ("source", "target") for name in rows[side] if name not in graph}
    if not ends:
        return graph
    whole = graph.copy()
    whole.add_nodes_from(sorted(ends))
    for inputs, forward in ((data.treated, True), (data.measured, False)):
        pairs = [(other, name) for name, others in inputs.items() for other in others if other in ends]
        whole.add_edges_from((*(pair if forward else pair[::-1]), {"sign": 0}) for pair in pairs)
    return whole


def _network(data: ReportData, graph: nx.DiGraph, candidates: pd.DataFrame) -> dict[str, Any]:
    """Nodes with places, known and proposed edges; nodes are numbered, so that no name is ever a key."""
    best = candidates[candidates["score"].notna()].head(MAX_PROPOSED)
    signs = best["sign"].fillna(0).astype(int) if "sign" in best.columns else [0] * len(best)
    proposed = list(zip(best["source"], best["target"], signs, strict=True))
    names = drawn_nodes(graph, [(source, target) for source, target, _ in proposed])
    part = graph.subgraph(names)
    ordered = nx.DiGraph()  # a subgraph view has no order of its own
    ordered.add_nodes_from(names)
    ordered.add_edges_from((source, target, part[source][target]) for source in names for target in part[source])
    place = positions(ordered, data.treated)
    index = {name: i for i, name in enumerate(names)}
    return {
        "names": [str(name) for name in names],
        "depth": [round(place[name][0], 5) for name in names],
        "place": [round(place[name][1], 5) for name in names],
        "treated": [[str(v) for v in data.treated.get(name, ())] for name in names],
        "measured": [[str(v) for v in data.measured.get(name, ())] for name in names],
        "known": [[index[a], index[b], ordered[a][b]["sign"]] for a, b in ordered.edges],
        "proposed": [[index[a], index[b], sign] for a, b, sign in proposed if a in index and b in index],
        "of": graph.number_of_nodes(),
    }


def _around(data: ReportData, graph: nx.DiGraph, candidates: pd.DataFrame) -> dict[str, Any]:
    """The known edges from which the page draws the neighbourhood of any edge it lists."""
    rows = candidates.head(MAX_ROWS)
    ends = list(dict.fromkeys(name for pair in zip(rows["source"], rows["target"], strict=True) for name in pair))
    edges = edges_around(graph, ends, limit=MAX_AROUND)
    names = list(dict.fromkeys([*ends, *(name for source, target, _ in edges for name in (source, target))]))
    index = {name: i for i, name in enumerate(names)}
    return {
        "names": [str(name) for name in names],
        "known": [[index[source], index[target], sign] for source, target, sign in edges],
        "treated": [[index[name], [str(v) for v in data.treated[name]]] for name in names if name in data.treated],
        "measured": [[index[name], [str(v) for v in data.measured[name]]] for name in names if name in data.measured],
        "whole": len(edges) == graph.number_of_edges(),
        "cut": bool(len(edges) >= MAX_AROUND),
    }


def _share(values: np.ndarray, bins: np.ndarray) -> list[float | None]:
    """Share of the values in each bin, in percent."""
    counts, _ = np.histogram(values, bins)
    return numbers(100 * counts / len(values)) if len(values) else []


def _scores(data: ReportData, candidates: pd.DataFrame) -> dict[str, Any] | None:
    """Histograms: scores of candidates and known edges; places of hidden edges among the candidates."""
    new, old = (table["score"].dropna().to_numpy(dtype=float) for table in (candidates, data.known))
    if not len(new):
        return None
    both = np.concatenate([new, old])
    low, high = float(both.min()), float(both.max())
    bins = np.linspace(low, high if high > low else low + 1, BINS + 1)
    place = np.linspace(0, 1, 21)
    result: dict[str, Any] = {
        "bins": numbers(bins),
        "candidate": _share(new, bins),
        "known": _share(old, bins),
        "n": {"candidate": len(new), "known": len(old)},
        "known_all": float(old[0]) if len(old) and np.ptp(old) == 0 else None,
        "places": numbers(place),
        "hidden": [],
        "known_place": [],
    }
    if len(old) and len(candidates) > 1 and np.ptp(old) > 0:
        ranked = np.sort(new)
        below = (np.searchsorted(ranked, old, "left") + np.searchsorted(ranked, old, "right")) / 2 / len(ranked)
        result["known_place"] = _share(below, place)
    if data.check is not None and data.check.method in set(data.check.places.get("method", ())):
        places = data.check.places[data.check.places["method"] == data.check.method]
        for condition, group in places.groupby("condition", sort=False):
            values = group["place"].dropna().to_numpy(dtype=float)
            if len(values):
                name = CONDITIONS.get(str(condition), str(condition))
                result["hidden"].append({"name": name, "share": _share(values, place), "n": len(values)})
    return result


def _check(check: Check | None) -> dict[str, Any] | None:
    if check is None or check.curves.empty:
        return None
    groups = check.curves.groupby(["negatives", "method", "condition"], sort=False)
    first = [check.method] if check.method in set(check.curves["method"]) else []
    return {
        "methods": list(dict.fromkeys([*first, *check.methods, *check.curves["method"]])),
        "inferers": list(check.methods),
        "conditions": [
            {"name": name, "label": label}
            for name, label in CONDITIONS.items()
            if name in set(check.curves["condition"])
        ],
        "curves": [
            {
                "negatives": str(negatives),
                "method": str(method),
                "condition": str(condition),
                "recall": numbers(group["recall"]),
                "precision": numbers(group["precision"]),
                "chance": numbers(group["chance"].head(1))[0],
            }
            for (negatives, method, condition), group in groups
        ],
    }


def _agreement(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One matrix for each kind of edges that were ranked."""
    result = []
    for what, group in table.groupby("edges", sort=False):
        names, matrix = agreement_matrix(group, group["spearman"])
        result.append({"edges": str(what), "names": names, "spearman": [numbers(row) for row in matrix]})
    return result


def page_data(data: ReportData) -> dict[str, Any]:
    """Everything the page's script reads, JSON-able."""
    candidates = data.candidates
    graph = _with_ends(data, _graph(data), candidates)
    return {
        "fit": _fit(data),
        "pooled": {name: numbers([data.pooled.get(name)])[0] for name in ("model", "ridge", "mean")},
        "predictions": _predictions(data),
        "history": _history(data),
        "edges": _edges(candidates),
        "candidates": max(len(candidates), data.n_candidates),
        "network": _network(data, graph, candidates),
        "around": _around(data, graph, candidates),
        "scores": _scores(data, candidates),
        "check": _check(data.check),
        "agreement": _agreement(data.agreement),
    }
