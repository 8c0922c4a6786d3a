"""Why a model predicts a response: what every edge and input contributes to its difference from a reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gsnn.ask.conditions import UNTREATED, condition_names, inputs_of, name_of, numbers_of
from gsnn.ask.ensemble import MAKE_MEMBERS
from gsnn.ask.flows import edge_flows, edge_numbers, restored
from gsnn.ask.knockouts import Spread
from gsnn.base.arrays import BoolArray, FloatArray
from gsnn.base.csv_file import write_csv_file
from gsnn.base.errors import DataError
from gsnn.base.files import atomic_path, plain, write_json
from gsnn.data import PerturbationData, Standardiser
from gsnn.graph import EDGE_TYPES, Graph
from gsnn.graph.kinds import INPUT_EDGES, kind_of
from gsnn.io.graphml_write import write_graphml

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gsnn.nn import GSNN

SHARE = 0.9  # of the difference that the subnetwork carries
PATHS, _TRIED_PATHS = 10, 300
_NOTHING = 1e-6  # standard deviations, the rounding of single precision
_PRUNED = 150  # most edges of a subnetwork that is pruned edge by edge
JSON, CSV, GRAPHML, PICTURE = "explain.json", "explain.csv", "explain.graphml", "explain.png"


@dataclass(frozen=True, eq=False)
class Explanation:
    """The outcome of :func:`explain`; numbers are in the units of the data.

    Attributes:
        condition: Name of the condition.
        against: Name of the reference.
        readout: Name of the readout.
        predicted: Prediction in the condition, mean over the models.
        reference: Prediction in the reference.
        inputs: A row for each input that differs: input, contribution.
        edges: A row for each edge of the graph, the strongest first: source, target, kind, sign, contribution, low and
            high with several models, subnetwork (whether it belongs to the smallest one found).
        carried: Share of the difference that the subnetwork alone carries.
        paths: Paths of the subnetwork from an input to the readout, the strongest first: path, alone (the difference if
            only this path carries the change).
        gap: Share of the difference by which the contributions of the inputs miss it.
        members: How many models there were.
        kinds: Node -> input, function or output, of all nodes.
        notes: What a reader should know.
    """

    condition: str
    against: str
    readout: str
    predicted: float
    reference: float
    inputs: pd.DataFrame
    edges: pd.DataFrame
    carried: float
    paths: pd.DataFrame
    gap: float
    members: int
    kinds: dict[str, str]
    notes: list[str] = field(default_factory=list)

    @property
    def difference(self) -> float:
        """What is explained: the prediction in the condition minus that in the reference."""
        return self.predicted - self.reference

    @property
    def subnetwork(self) -> pd.DataFrame:
        """The edges of the subnetwork."""
        return self.edges[self.edges["subnetwork"]].reset_index(drop=True)

    def to_frame(self) -> pd.DataFrame:
        """The contributions of the edges, a row for each edge of the graph."""
        return self.edges

    def plot(self, ax: Axes | None = None) -> Axes:
        """The subnetwork; the wider an edge, the more it contributes, red towards higher values, blue towards lower."""
        from gsnn.plot import subnetwork

        title = f"{self.readout}, {self.condition} against {self.against}: {self.difference:+.3g}"
        return subnetwork(self.subnetwork, self.kinds, title=title, ax=ax)

    def content(self) -> dict[str, Any]:
        """JSON-able: everything but the edges outside the subnetwork."""
        names = ("condition", "against", "readout", "predicted", "reference", "difference", "gap", "carried", "members")
        return {name: getattr(self, name) for name in names} | {
            "notes": self.notes,
            "inputs": self.inputs.to_dict("records"),
            "paths": self.paths.to_dict("records"),
            "subnetwork": self.subnetwork.to_dict("records"),
        }

    def write(self, folder: str | Path, **more: Any) -> list[Path]:  # noqa: ANN401 - JSON values
        """Write the files of :func:`write_explanations`.

        Args:
            folder: The folder.
            **more: Further entries of the JSON file.
        """
        return write_explanations([self], folder, **more)


def write_explanations(
    explanations: Sequence[Explanation],
    folder: str | Path,
    **more: Any,  # noqa: ANN401 - JSON values
) -> list[Path]:
    """Write ``explain.csv``, ``explain.graphml`` and ``explain.json``, each in one step.

    The CSV file has all edges of each explanation, the JSON file the first one and the ``others``, the GraphML file the
    subnetwork of the first.

    Args:
        explanations: At least one.
        folder: The folder.
        **more: Further entries of the JSON file.
    """
    table, graph, summary = (Path(folder) / name for name in (CSV, GRAPHML, JSON))
    named = [one.edges.assign(condition=one.condition, readout=one.readout) for one in explanations]
    write_csv_file(pd.concat(named, ignore_index=True), table)
    first = explanations[0]
    part = first.subnetwork.drop(columns="subnetwork")
    nodes = {
        name: {kind: first.kinds[name] == kind for kind in ("input", "output")}
        for name in dict.fromkeys([*part["source"], *part["target"]])
    }
    with atomic_path(graph) as temporary, temporary.open("wb") as file:
        write_graphml(nodes, part, file)
    others = [one.content() for one in explanations[1:]]
    write_json(summary, plain({**first.content(), **({"others": others} if others else {}), **more}))
    return [table, graph, summary]


def explain(
    models: Sequence[GSNN],
    data: PerturbationData,
    standardiser: Standardiser,
    condition: str,
    readout: str,
    *,
    against: str = UNTREATED,
) -> Explanation:
    """What every edge and input contributes to a prediction, compared with that of a reference.

    The contributions are a flow from the inputs to the readout (:func:`gsnn.ask.flows.edge_flows`): those of the inputs
    add up to the difference, those of the edges into the readout too, and at every function as much goes out as comes
    in. They say what the model does, not what the cell does.

    The subnetwork is the smallest one found whose edges alone carry 90 % to 110 % of the difference, while all others
    hold what they hold in the reference. Edges are added in the order of their contributions until this is so; then
    edges that are not needed are removed. A smaller one may exist.

    Args:
        models: Trained on ``data``; contributions are means over them, with intervals.
        data: The graph and the conditions.
        standardiser: Of the responses that the models were trained on.
        condition: As :func:`gsnn.ask.conditions.inputs_of` reads it.
        readout: Name of the readout.
        against: The reference, likewise.

    Raises:
        DataError: If a name is unknown, the two conditions are the same, or there is no model.
    """
    graph = data.graph
    if not models:
        raise DataError("explain needs at least one model")
    output = numbers_of([readout], graph.outputs, "readout")[0]
    start, end = inputs_of(against, data), inputs_of(condition, data)
    names = condition_names(np.stack([end, start]), data)
    if (start == end).all():
        raise DataError(f"the condition and the reference are both {names[0]}; name another one to compare with")
    edges = graph_edges(graph)
    scale = float(standardiser.scale[output])
    spread, gaps, ends = Spread(), [], []
    for model in models:
        flow = edge_flows(model, start, end, output)
        number = edge_numbers(model)
        change = float(flow[model.layout.output_edges].sum())
        gaps.append(abs(float(flow[model.layout.input_edges].sum()) - change) / max(abs(change), 1e-12))
        by_edge = np.bincount(number[number >= 0], flow[number >= 0], minlength=len(edges))
        spread.add(np.asarray(scale * by_edge, dtype=np.float64))
        ends.append(restored(model, start, end, np.array([[True], [False]]).repeat(len(edges), 1), output))
    after, before = np.mean(ends, axis=0)
    contribution = np.asarray(spread.mean)

    def share(kept: BoolArray) -> FloatArray:
        predicted = np.mean([restored(model, start, end, kept, output) for model in models], axis=0)
        return np.asarray((predicted - before) / (after - before))

    live = bool(abs(after - before) > _NOTHING)
    chosen = _smallest(contribution, share) if live else np.zeros(len(edges), bool)
    carried = float(share(chosen[None])[0]) if live else 0.0
    paths = _paths(edges, chosen, graph, graph.outputs[output], share, scale * (after - before))
    table = edges.assign(contribution=contribution)
    by_input = table[table["kind"] == INPUT_EDGES].groupby("source", sort=False)["contribution"].sum()
    changed = [i for i in range(graph.I) if start[i] != end[i]]
    if spread.half is not None:
        table = table.assign(low=contribution - spread.half, high=contribution + spread.half)
    table = table.assign(subnetwork=chosen)
    order = np.argsort(-np.abs(contribution), kind="stable")
    mean = float(standardiser.mean[output])
    notes = [] if len(models) > 1 else [f"one model has no interval; {MAKE_MEMBERS}"]
    if not live:
        notes.append("the prediction does not differ from that of the reference")
    if live and max(gaps) > 0.01:
        notes.append(f"the contributions of the inputs miss the difference by {max(gaps):.1%}")
    return Explanation(
        condition=names[0],
        against=names[1],
        readout=name_of(graph.outputs[output]),
        predicted=mean + scale * float(after),
        reference=mean + scale * float(before),
        inputs=pd.DataFrame(
            {
                "input": [name_of(graph.inputs[i]) for i in changed],
                "contribution": [float(by_input.get(graph.inputs[i], 0.0)) for i in changed],
            }
        ).sort_values("contribution", key=np.abs, ascending=False, kind="stable", ignore_index=True),
        edges=table.iloc[order].reset_index(drop=True),
        carried=carried,
        paths=paths,
        gap=max(gaps) if live else 0.0,
        members=len(models),
        kinds={name: kind for kind, some in graph.node_names_dict.items() for name in some},
        notes=notes,
    )


def graph_edges(graph: Graph) -> pd.DataFrame:
    """The edges of a graph in the order of a model: source, target, kind, sign (0 where it is unknown)."""
    edges, _ = graph.to_pandas()
    counts = [graph.edge_index_dict[kind].shape[1] for kind in EDGE_TYPES]
    kinds = np.repeat([kind_of(kind) for kind in EDGE_TYPES], counts)
    sign = edges["sign"].astype(int) if "sign" in edges else 0
    return edges[["source", "target"]].assign(kind=kinds, sign=sign)


def _carries(share: FloatArray) -> BoolArray:
    return np.abs(share - 1) <= 1 - SHARE + 1e-6


def _smallest(contribution: FloatArray, share: Callable[[BoolArray], FloatArray]) -> BoolArray:
    """The edges of a subnetwork that carries enough, as few as a greedy search finds."""
    order = np.argsort(-np.abs(contribution), kind="stable")
    order = order[contribution[order] != 0]
    chosen = np.zeros(len(contribution), bool)
    if not len(order):
        return chosen
    # At most 200 sizes are tried, a constant factor apart.
    sizes = np.unique(np.round(np.geomspace(1, len(order), 200)).astype(int))
    kept = np.zeros((len(sizes), len(contribution)), bool)
    for row, size in zip(kept, sizes, strict=True):
        row[order[:size]] = True
    enough = _carries(share(kept))
    chosen[order[: sizes[int(enough.argmax())] if enough.any() else len(order)]] = True
    members = np.flatnonzero(chosen)
    while 1 < len(members) <= _PRUNED:
        without = np.repeat(chosen[None], len(members), axis=0)
        without[np.arange(len(members)), members] = False
        remaining = share(without)
        good = _carries(remaining)
        if not good.any():
            break
        # Edges without any effect are removed together, else the one with the least effect.
        idle = good & (np.abs(remaining - share(chosen[None])[0]) < 1e-6)
        if idle.sum() > 1:
            fewer = chosen.copy()
            fewer[members[idle]] = False
            if _carries(share(fewer[None]))[0]:
                chosen, members = fewer, np.flatnonzero(fewer)
                continue
        error = np.where(good, np.abs(remaining - 1), np.inf)
        chosen[members[int(error.argmin())]] = False
        members = np.flatnonzero(chosen)
    return chosen


def _paths(
    edges: pd.DataFrame,
    chosen: BoolArray,
    graph: Graph,
    output: str,
    share: Callable[[BoolArray], FloatArray],
    difference: float,
) -> pd.DataFrame:
    """Paths of the subnetwork with what each carries alone."""
    import networkx as nx

    part = edges[chosen]
    subnetwork = nx.DiGraph()
    subnetwork.add_edges_from(
        (s, t, {"row": row}) for row, s, t in zip(part.index, part["source"], part["target"], strict=True)
    )
    paths: list[list[str]] = []
    if output in subnetwork:
        roots = [name for name in graph.inputs if name in subnetwork]
        every = (path for root in roots for path in nx.all_simple_paths(subnetwork, root, output))
        paths = [*islice(every, _TRIED_PATHS)]
    kept = np.zeros((len(paths), len(edges)), bool)
    for row, path in zip(kept, paths, strict=True):
        row[[subnetwork[s][t]["row"] for s, t in pairwise(path)]] = True
    alone = difference * share(kept)
    order = np.argsort(-np.abs(alone), kind="stable")[:PATHS]
    return pd.DataFrame({"path": [" -> ".join(paths[i]) for i in order], "alone": alone[order]})
