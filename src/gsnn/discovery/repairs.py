"""A table of repairs of a network: edges to add, remove and flip, with the effect of each on held-out samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from gsnn.base.errors import DataError, closest, unknown_option
from gsnn.base.workers import arrays_in_processes, workers_for
from gsnn.graph import KINDS, Graph
from gsnn.graph.checks import Edge, arrow, shown
from gsnn.graph.kinds import edge_type

if TYPE_CHECKING:
    from gsnn.data import PerturbationData
    from gsnn.discovery.auditing import Audit


ACTIONS = ("add", "remove", "flip")
COLUMNS = ("action", "kind", "source", "target", "sign", "gain", "gain_low", "gain_high")
PER_KIND = 30  # candidates of each kind whose gain is measured, the best by rank
_LARGE, _OF_LARGE = 2000, 10  # of networks with more edges, so many candidates of each kind
STEPS = 200  # of the short training at least, so that a new weight can grow


@dataclass(frozen=True)
class Repair:
    """A change of one edge.

    Attributes:
        action: ``add``, ``remove`` or ``flip``.
        kind: Kind of the edge.
        edge: Source and target.
        sign: Of the edge after the repair: -1, 0 (unknown) or 1.
        gain: Share by which it lowers the held-out loss; NaN where that is not known.
        low: Lower end of its interval.
    """

    action: str
    kind: str
    edge: Edge
    sign: int = 0
    gain: float = float("nan")
    low: float = float("nan")


def repairs_table(
    data: PerturbationData, audit: Audit, edges: pd.DataFrame, *, per_kind: int | None = None
) -> pd.DataFrame:
    """A table of the edges that an inference proposes to add, and those that an audit proposes to remove and to flip.

    All gains are of the audit's restricted networks, each on the fold of the conditions that it was trained without, so
    they can be compared across actions and kinds.

    *Add*: the best candidates of each kind. Each is opened in a copy of the network, which is trained on for a tenth of
    its steps (200 at least) beside a copy without the edge (:func:`~gsnn.discovery.auditing.opening.opened_errors`).
    The gain is the share by which the held-out loss is lower with it. The candidates were ranked by a model that saw
    all folds, so the best gains are somewhat too good; a refinement tests them on samples that nothing saw.

    *Remove*: edges that are *not needed*; the gain is that of closing them, one at a time. It is about 0: such a repair
    makes the network smaller, not the fit better.

    *Flip*: edges that *contradict the sign*; the gain is that of the edge with the sign that the data support, over no
    edge, which is the best that a model with the network's sign could do with it.

    Args:
        data: The data with the prior graph.
        audit: A finished audit of them.
        edges: Candidates with the columns source, target, kind and rank; known ones are left out.
        per_kind: How many of each kind to measure; None for 30, or 10 if the network has more than 2,000 edges.

    Returns:
        A row for each repair, the largest gain first: action, kind, source, target, sign (after the repair; for an
        added edge that of its weight where all folds agree, else 0), gain, gain_low and gain_high (95 % interval over
        the conditions).
    """
    per_kind = per_kind or (PER_KIND if data.graph.E <= _LARGE else _OF_LARGE)
    known = edges["known"].astype(bool).to_numpy() if "known" in edges else np.zeros(len(edges), dtype=bool)
    best = edges[~known & edges["rank"].le(per_kind).fillna(False).to_numpy(dtype=bool)]
    candidates = list(best[["kind", "source", "target"]].itertuples(index=False, name=None))
    table = pd.DataFrame([*_additions(data, audit, candidates), *_removals_and_flips(audit)], columns=list(COLUMNS))
    return table.sort_values("gain", ascending=False, kind="stable", ignore_index=True)


def _additions(
    data: PerturbationData, audit: Audit, candidates: Sequence[tuple[str, str, str]]
) -> list[tuple[Any, ...]]:
    """A row for each edge that may be added."""
    from gsnn.discovery.auditing.opening import opened_errors
    from gsnn.discovery.auditing.steps import Work

    if not candidates:
        return []
    work = Work.of_audit(data, audit)
    recipe = replace(work.shorter(), steps=max(STEPS, work.shorter().steps))

    def one(number: int) -> dict[str, npt.NDArray[Any]]:
        train, held = work.samples(number)
        net = work.network(audit.folds[number])
        opened = opened_errors(net, data.graph, candidates, train, held, recipe, work.seed + number)
        return {
            "fall": work.by_condition(number, opened.without - opened.errors),
            "without": work.by_condition(number, opened.without),
            "sign": np.sign(opened.weights),
        }

    jobs = [partial(one, number) for number in range(len(audit.folds))]
    bytes_each = 8 * len(data) * 16 * (data.graph.E + len(candidates))
    workers = workers_for(work.network(audit.folds[0]), len(data), bytes_each)
    with closing(arrays_in_processes(jobs, workers)) as done:
        folds = list(done)
    fall = np.concatenate([fold["fall"] for fold in folds], 1)
    fall = fall / np.concatenate([fold["without"] for fold in folds], 1).mean(1, keepdims=True)
    gain, n = fall.mean(1), fall.shape[1]
    half = stats.t.isf(0.025, n - 1) * fall.std(1, ddof=1) / np.sqrt(n)
    votes = np.stack([fold["sign"] for fold in folds])
    sign = np.where((votes == votes[0]).all(0), votes[0], 0).astype(int)
    figures = zip(sign.tolist(), gain.tolist(), (gain - half).tolist(), (gain + half).tolist(), strict=True)
    return [("add", *edge, *each) for edge, each in zip(candidates, figures, strict=True)]


def _removals_and_flips(audit: Audit) -> list[tuple[Any, ...]]:
    """A row for each known edge that is not needed or contradicts its sign."""
    rows: list[tuple[Any, ...]] = []
    for edge in audit.edges:
        named = (edge["kind"], edge["source"], edge["target"])
        gains = [edge[name] for name in ("gain", "gain_low", "gain_high")]
        if edge["verdict"] == "not needed":
            rise, low, high = (_of_loss_with_edge(gain) for gain in gains)
            rows.append(("remove", *named, edge["sign_network"], -rise, -high, -low))
        elif edge["verdict"] == "contradicts the sign":
            rows.append(("flip", *named, edge["sign_model"], *gains))
    return rows


def _of_loss_with_edge(gain: float) -> float:
    """From a share of the loss without the edge to a share of the loss with it; a negative gain is one already."""
    return gain / (1 - gain) if 0 < gain < 1 else gain


def read_repairs(table: pd.DataFrame, graph: Graph, name: str = "the repairs") -> list[Repair]:
    """Repairs of a graph from a table, in its order.

    Args:
        table: Columns action, kind, source and target; and sign, gain and gain_low if it has them. Without a kind, it
            follows from the nodes.
        graph: The graph.
        name: Name of the table in messages.

    Raises:
        DataError: If a column is missing, an action or a node is unknown, an edge to add is in the graph already or one
            to remove or flip is not, an edge has two rows, or a sign is not -1, 0 or 1.

    Example:
        >>> edges = [("x", "a"), ("a", "y")]
        >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"])
        >>> table = pd.DataFrame({"action": ["add"], "source": ["b"], "target": ["y"]})
        >>> read_repairs(table, graph)[0].kind
        'function->output'
    """
    missing = [column for column in ("action", "source", "target") if column not in table]
    if missing:
        raise DataError(
            f"{name} must have the columns action, source and target, got {', '.join(map(str, table.columns))}"
        )
    types = {node: kind for kind, nodes in graph.node_names_dict.items() for node in nodes}
    known = {kind: _edges(graph, kind) for kind in KINDS}
    repairs: dict[Edge, Repair] = {}
    for number, row in enumerate(table.to_dict("records"), 1):
        where, edge = f"{name}, row {number}", (str(row["source"]), str(row["target"]))
        if row["action"] not in ACTIONS:
            raise DataError(f"{where}: {unknown_option('action', row['action'], ACTIONS)}")
        for node in edge:
            if node not in types:
                near = closest(node, types)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise DataError(f"{where}: {node!r} is no node of the network{hint}")
        kind = f"{types[edge[0]]}->{types[edge[1]]}"
        if kind not in KINDS:
            raise DataError(
                f"{where}: an edge {arrow(*edge)} would be of the kind {kind}; a network has {shown(KINDS)}"
            )
        if "kind" in row and row["kind"] != kind:
            raise DataError(f"{where}: {arrow(*edge)} is of the kind {kind}, not {row['kind']!r}")
        is_known = edge in known[kind]
        if is_known == (row["action"] == "add"):
            state = "is in the network already" if is_known else "is not in the network"
            raise DataError(f"{where}: cannot {row['action']} {arrow(*edge)}, which {state}; take the row out")
        if edge in repairs:
            raise DataError(f"{where}: {arrow(*edge)} stands in an earlier row, too; keep one of them")
        sign, gain, low = (_number(row.get(column), f"{where}, {column}") for column in ("sign", "gain", "gain_low"))
        sign = 0.0 if np.isnan(sign) else sign
        if sign not in (-1, 0, 1):
            raise DataError(f"{where}: a sign is -1, 0 or 1, got {sign:g}")
        if row["action"] == "flip" and "sign" not in row:
            sign = -known[kind][edge]
        repairs[edge] = Repair(str(row["action"]), kind, edge, int(sign), gain, low)
    return list(repairs.values())


def _number(value: object, what: str) -> float:
    try:
        return float("nan") if value is None or value == "" else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise DataError(f"{what}: must be a number, got {value!r}") from error


def _edges(graph: Graph, kind: str) -> dict[Edge, int]:
    """Edges of a kind with their signs, 0 where unknown."""
    ends, signs = edge_type(kind), graph.edge_sign_dict
    source, target = (graph.node_names_dict[ends[side]] for side in (0, 2))
    index = graph.edge_index_dict[ends].T.tolist()
    sign = [0] * len(index) if signs is None else signs[ends].tolist()
    return {(source[s], target[t]): value for (s, t), value in zip(index, sign, strict=True)}


def repaired(graph: Graph, repairs: Iterable[Repair]) -> Graph:
    """A copy of a graph with repairs: edges added, removed, and with another sign.

    In a graph without signs a flip changes nothing, and an added edge has no sign.

    Raises:
        DataError: If an edge to add is in the graph already, or another is not.
    """
    changes = list(repairs)
    signed = graph.edge_sign_dict is not None
    gone = [each.edge for each in changes if each.action == "remove" or (signed and each.action == "flip")]
    new = [each for each in changes if each.action == "add" or (signed and each.action == "flip")]
    graph = graph.without_edges(gone) if gone else graph
    return graph.with_edges([(*e.edge, e.sign) if signed else e.edge for e in new]) if new else graph


def settings_of(repairs: Sequence[Repair]) -> list[Mapping[str, Any]]:
    """The settings that tell one list of repairs from another, JSON-able."""
    return [{"action": each.action, "edge": list(each.edge), "sign": each.sign} for each in repairs]
