"""Which known edges to hide, and the two nulls: a rewired graph and permuted samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn._graph_summary import reached
from gsnn.data import PerturbationData
from gsnn.errors import DataError, unknown_option
from gsnn.graph import EDGE_TYPES, Graph

Edge = tuple[str, str]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Stratify = Literal["none", "degree", "role"]

_FF, _IF, _FO = EDGE_TYPES
_DEGREE_CLASSES = 3

__all__ = ["Masking", "Stratify", "mask_edges", "permute_samples", "rewire"]


@dataclass(frozen=True)
class Masking:
    """Known edges that were hidden, and what hiding them did.

    Attributes:
        graph: The graph without the hidden edges; every node stays.
        testable: Hidden edges that a method could find: in ``graph`` an input still reaches their source, and their
            target still reaches an output.
        cut_off: The other hidden edges. Their source has lost every signal, or their target every reading; no data
            can speak for them, so they count as neither found nor missed.
        n_eligible: Edges that could be drawn.
        n_pathless: Known edges that were never drawn because they lie on no path from an input to an output.
        n_protected: Edges that were drawn and put back, because without them an output could not be reached by any
            input, and the model could not learn it at all.
        strata: Label of each hidden edge, if the draw was stratified.
    """

    graph: Graph
    testable: list[Edge]
    cut_off: list[Edge]
    n_eligible: int
    n_pathless: int
    n_protected: int
    strata: dict[Edge, str] = field(default_factory=dict)

    @property
    def hidden(self) -> list[Edge]:
        """All hidden edges."""
        return [*self.testable, *self.cut_off]


class _Reach:
    """Reachability of a graph under changes of its function -> function edges."""

    def __init__(self, graph: Graph) -> None:
        index = {kind: edges.numpy() for kind, edges in graph.edge_index_dict.items()}
        self.n, self.n_outputs = graph.N, graph.O
        self.fed, self.read = np.unique(index[_IF][1]), index[_FO]
        self.readers = np.unique(self.read[0])

    def nodes(self, edges: IntArray) -> tuple[BoolArray, BoolArray]:
        """Which functions an input reaches, and which reach an output: (N,) each."""
        return reached(edges, self.fed, self.n), reached(edges[::-1], self.readers, self.n)

    def outputs(self, edges: IntArray) -> BoolArray:
        """Which outputs some input reaches: (O,)."""
        below = reached(edges, self.fed, self.n)
        found = np.zeros(self.n_outputs, dtype=bool)
        found[self.read[1][below[self.read[0]]]] = True
        return found


def live_nodes(graph: Graph) -> tuple[BoolArray, BoolArray]:
    """Which functions an input reaches, and which reach an output: (N,) each."""
    return _Reach(graph).nodes(graph.edge_index_dict[_FF].numpy())


def mask_edges(
    graph: Graph,
    fraction: float = 0.15,
    seed: int | np.random.Generator = 0,
    stratify: Stratify = "none",
    roles: Mapping[Edge, str] | None = None,
) -> Masking:
    """Hide a share of the known function -> function edges.

    Edges that lie on no path from an input to an output are never drawn, nor are self-edges: no method could find
    them. The others are drawn at random, or the same share of each stratum. An edge without which an output would be
    out of reach of every input is put back, in the order of the draw. An edge whose loss leaves its source without
    signal or its target without reading stays hidden, but is counted apart (``cut_off``).

    Args:
        graph: The prior graph.
        fraction: Share of the edges to hide, in (0, 1); at least one edge is hidden.
        seed: Seed or generator of the draw.
        stratify: ``'none'``; ``'degree'``: by thirds of out-degree of the source times in-degree of the target;
            ``'role'``: by the label in ``roles``.
        roles: A label per edge, for ``'role'``; an edge without one has the role ``other``.

    Returns:
        The hidden edges and the graph without them.

    Raises:
        DataError: If no edge can be hidden.
        ValueError: If an option is wrong.

    Example:
        >>> edges = [("x", "a"), ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "y")]
        >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b", "c", "d"], output_nodes=["y"])
        >>> masking = mask_edges(graph, 0.5, seed=0)
        >>> len(masking.hidden), masking.graph.unreached_outputs
        (2, [])
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    if stratify not in get_args(Stratify):
        raise unknown_option("stratify", stratify, get_args(Stratify))
    if stratify == "role" and not roles:
        raise ValueError("stratify='role' needs roles, a label for each edge; use 'degree' or 'none' without")
    rng = np.random.default_rng(seed)
    reach = _Reach(graph)
    edges = graph.edge_index_dict[_FF].numpy()
    down, up = reach.nodes(edges)
    eligible = np.flatnonzero((edges[0] != edges[1]) & down[edges[0]] & up[edges[1]])
    if not len(eligible):
        raise DataError("no function -> function edge lies on a path from an input to an output: none can be hidden")
    names = graph.functions
    labels = _strata(edges, eligible, stratify, names, graph.N, roles)
    order = _draw_order(labels, rng)
    wanted = max(1, round(fraction * len(eligible)))
    before = reach.outputs(edges)
    hidden = np.zeros(edges.shape[1], dtype=bool)
    protected = 0
    for label, share in _shares(labels, wanted).items():
        queue = [int(eligible[i]) for i in order if labels[i] == label]
        place = taken = 0
        while taken < share and place < len(queue):
            block = queue[place : place + share - taken]
            place += len(block)
            accepted = _accept(block, hidden, edges, reach, before)
            taken += accepted
            protected += len(block) - accepted
    if not hidden.any():
        raise DataError(
            f"none of the {len(eligible)} known edges can be hidden: without any one of them an output is out of "
            "reach of every input; a self-check needs a graph with more than one path"
        )
    kept = edges[:, ~hidden]
    down, up = reach.nodes(kept)
    drawn = np.flatnonzero(hidden)
    fair = down[edges[0, drawn]] & up[edges[1, drawn]]
    named = [(names[s], names[t]) for s, t in edges[:, drawn].T.tolist()]
    label_of = dict(zip(eligible.tolist(), labels, strict=True))
    strata = {edge: label_of[int(row)] for edge, row in zip(named, drawn, strict=True)} if stratify != "none" else {}
    return Masking(
        graph=graph.without_edges(named),
        testable=[edge for edge, ok in zip(named, fair.tolist(), strict=True) if ok],
        cut_off=[edge for edge, ok in zip(named, fair.tolist(), strict=True) if not ok],
        n_eligible=len(eligible),
        n_pathless=int((edges[0] != edges[1]).sum()) - len(eligible),
        n_protected=protected,
        strata=strata,
    )


def _accept(block: Sequence[int], hidden: BoolArray, edges: IntArray, reach: _Reach, before: BoolArray) -> int:
    """Hide the edges of a block one after the other where no output is lost; how many were hidden.

    Losing edges only ever loses outputs, so a block that loses none as a whole is hidden as a whole, and halving the
    others gives what going one by one would, with far fewer searches.
    """
    trial = hidden.copy()
    trial[list(block)] = True
    if (reach.outputs(edges[:, ~trial]) == before).all():
        hidden[list(block)] = True
        return len(block)
    if len(block) == 1:
        return 0
    half = len(block) // 2
    first = _accept(block[:half], hidden, edges, reach, before)
    return first + _accept(block[half:], hidden, edges, reach, before)


def _strata(
    edges: IntArray,
    eligible: IntArray,
    stratify: Stratify,
    names: Sequence[str],
    n_nodes: int,
    roles: Mapping[Edge, str] | None,
) -> list[str]:
    """A label for each eligible edge."""
    if stratify == "role":
        given = roles or {}
        return [given.get((names[s], names[t]), "other") for s, t in edges[:, eligible].T.tolist()]
    if stratify == "degree":
        out, into = (np.bincount(edges[side], minlength=n_nodes) for side in (0, 1))
        product = out[edges[0, eligible]] * into[edges[1, eligible]]
        bounds = np.quantile(product, np.linspace(0, 1, _DEGREE_CLASSES + 1)[1:-1])
        which = np.searchsorted(bounds, product, side="left")
        return [("low degree", "middle degree", "high degree")[i] for i in which]
    return ["all"] * len(eligible)


def _draw_order(labels: Sequence[str], rng: np.random.Generator) -> list[int]:
    return [int(i) for i in rng.permutation(len(labels))]


def _shares(labels: Sequence[str], wanted: int) -> dict[str, int]:
    """How many of each label, in proportion, by largest remainder; ties to the label that comes first."""
    counts: dict[str, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    exact = {label: wanted * count / len(labels) for label, count in counts.items()}
    shares = {label: int(value) for label, value in exact.items()}
    left = wanted - sum(shares.values())
    for label in sorted(exact, key=lambda name: shares[name] - exact[name])[:left]:
        shares[label] += 1
    return shares


def rewire(graph: Graph, seed: int | np.random.Generator = 0, swaps_per_edge: int = 10) -> Graph:
    """A graph with the same in- and out-degree of every function, and otherwise random function -> function edges.

    Two edges a -> b and c -> d become a -> d and c -> b, unless that would make a self-edge or a second edge of the
    same ends (Maslov and Sneppen, 2002); signs and weights stay with their source. Edges to and from inputs and
    outputs stay. Every output that an input reached is still reached: a stretch of swaps after which one is not is
    taken back.

    Args:
        graph: The graph.
        seed: Seed or generator.
        swaps_per_edge: Attempted swaps for each edge.

    Returns:
        The rewired graph. Little changes where degrees leave little freedom.

    Example:
        >>> edges = [("x", "a"), ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "y")]
        >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b", "c", "d"], output_nodes=["y"])
        >>> rewire(graph, seed=0).E == graph.E
        True
    """
    rng = np.random.default_rng(seed)
    reach = _Reach(graph)
    index = graph.edge_index_dict
    edges = index[_FF].numpy().copy()
    n_edges = edges.shape[1]
    if n_edges < 2:
        return graph
    before = reach.outputs(edges)
    attempts, stretch = swaps_per_edge * n_edges, max(1, n_edges // 4)
    done = 0
    while done < attempts:
        trial = _swapped(edges, min(stretch, attempts - done), rng)
        done += stretch
        if (reach.outputs(trial) == before).all():
            edges = trial
        else:
            # Shorter stretches are more likely to leave every output its inputs.
            stretch = max(1, stretch // 2)
    return Graph(
        {**index, _FF: edges},
        graph.node_names_dict,
        graph.edge_weight_dict,
        graph.edge_sign_dict,
    )


def _swapped(edges: IntArray, attempts: int, rng: np.random.Generator) -> IntArray:
    """The edges after some attempted swaps of targets."""
    source, target = edges[0].tolist(), edges[1].tolist()
    present = set(zip(source, target, strict=True))
    for i, j in rng.integers(0, len(source), size=(attempts, 2)).tolist():
        a, b, c, d = source[i], target[i], source[j], target[j]
        if a == d or c == b or (a, d) in present or (c, b) in present:
            continue
        present -= {(a, b), (c, d)}
        present |= {(a, d), (c, b)}
        target[i], target[j] = d, b
    return np.array([source, target], dtype=np.int64)


def permute_samples(data: PerturbationData, seed: int | np.random.Generator = 0) -> PerturbationData:
    """The same data with the rows of responses in random order against the treatments.

    Args:
        data: The data.
        seed: Seed or generator.

    Returns:
        Data in which treatments say nothing about responses.
    """
    order = np.random.default_rng(seed).permutation(len(data))
    outputs = pd.DataFrame(data.outputs.to_numpy()[order], columns=data.outputs.columns, index=data.outputs.index)
    return replace(data, outputs=outputs)
