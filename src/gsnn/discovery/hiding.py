"""Which known edges to hide, so that only the data can tell where they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Literal, get_args

import numpy as np

from gsnn.base.arrays import BoolArray, IntArray
from gsnn.base.errors import DataError, check_option
from gsnn.graph import Graph
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import FUNCTION_EDGES, INPUT_EDGES, OUTPUT_EDGES, edge_type, kind_of
from gsnn.graph.summary import reached

Stratify = Literal["none", "degree", "role"]

_DEGREE_CLASSES = 3

# If fewer edges can be hidden without leaving a hole, edges that leave one are hidden too.
FEWEST = 10


@dataclass(frozen=True)
class Masking:
    """Known edges that were hidden, and what hiding them did.

    Attributes:
        graph: The graph without the hidden edges; every node stays.
        testable: Hidden edges that a method could find: in ``graph`` an input still reaches their source, and their
            target still reaches an output.
        cut_off: The other hidden edges. No input reaches their source any more, or their target no output, so no data
            can show them; they count as neither found nor missed.
        n_eligible: Edges that could be drawn.
        n_pathless: Known edges that were never drawn because they lie on no path from an input to an output.
        n_protected: Edges that were drawn and put back, because without them no input would reach an output, which the
            model could then not learn at all, or because they would have left a hole.
        n_last: Known edges that were never drawn because their target is the last child of their source, or their
            source the last parent of their target: without them there is a hole.
        holes: Testable edges that leave a hole. Empty, unless fewer than ``FEWEST`` (10) edges could be hidden
            without one.
        strata: Label of each hidden edge, if the draw was stratified.
        kind: The kind of the edges.
    """

    graph: Graph
    testable: list[Edge]
    cut_off: list[Edge]
    n_eligible: int
    n_pathless: int
    n_protected: int
    n_last: int = 0
    holes: list[Edge] = field(default_factory=list)
    strata: dict[Edge, str] = field(default_factory=dict)
    kind: str = FUNCTION_EDGES

    @property
    def hidden(self) -> list[Edge]:
        """All hidden edges."""
        return [*self.testable, *self.cut_off]


def holes(edges: IntArray, shape: int | tuple[int, int], kind: str = FUNCTION_EDGES) -> tuple[BoolArray, BoolArray]:
    """Which sources have lost every child, and which targets every parent.

    Functions without an input, or without an output, are common, so their lack tells nothing about a hidden edge.

    Args:
        edges: (2, E) edges of the kind; self-edges of functions do not count.
        shape: S and T, or N between functions.
        kind: The kind.

    Returns:
        Childless sources (S,) and orphaned targets (T,).

    Example:
        >>> childless, orphaned = holes(np.array([[0, 1], [1, 1]]), 2)
        >>> childless.tolist(), orphaned.tolist()
        ([False, True], [True, False])
    """
    sizes = (shape, shape) if isinstance(shape, int) else shape
    proper = edges[:, edges[0] != edges[1]] if kind == FUNCTION_EDGES else edges
    childless, orphaned = (np.bincount(proper[side], minlength=n) == 0 for side, n in enumerate(sizes))
    if kind == OUTPUT_EDGES:
        childless[:] = False
    elif kind == INPUT_EDGES:
        orphaned[:] = False
    return childless, orphaned


@dataclass(frozen=True)
class Hideable:
    """Known edges that can be drawn to be hidden.

    Attributes:
        rows: Their numbers among the edges of the kind.
        n_pathless: How many other edges lie on no path.
        n_last: How many more are left out because they would leave a hole.
        no_hole: Whether the hidden edges together must leave no hole.
    """

    rows: IntArray
    n_pathless: int
    n_last: int
    no_hole: bool


def hideable_edges(graph: Graph, kind: str = FUNCTION_EDGES) -> Hideable:
    """Which known edges can be drawn.

    An edge must lie on a path from an input to an output, and leave no hole (:func:`holes`): its source keeps another
    function as child, its target another function as parent; an input keeps another function, an output another
    source. Otherwise a search for nodes without children or parents finds hidden edges, and says nothing of missing
    ones. Where fewer than ``FEWEST`` edges are such, all those on a path can be drawn.
    """
    edges = graph.edge_index_dict[edge_type(kind)].numpy()
    above, below = ends_alive(graph, kind)
    proper = edges[0] != edges[1] if kind == FUNCTION_EDGES else np.ones(edges.shape[1], bool)
    live = proper & above[edges[0]] & below[edges[1]]
    whole = live.copy()
    for side, n in enumerate((len(above), len(below))):
        if (side, kind) not in ((1, INPUT_EDGES), (0, OUTPUT_EDGES)):
            whole &= np.bincount(edges[side, proper], minlength=n)[edges[side]] > 1
    no_hole = int(whole.sum()) >= FEWEST
    chosen = whole if no_hole else live
    n_live = int(live.sum())
    return Hideable(np.flatnonzero(chosen), int(proper.sum()) - n_live, n_live - int(chosen.sum()), no_hole)


class Reach:
    """Reachability of a graph under changes of its edges of one kind."""

    def __init__(self, graph: Graph, kind: str = FUNCTION_EDGES) -> None:
        self._index = {kind_of(each): edges.numpy() for each, edges in graph.edge_index_dict.items()}
        self.kind, self.n, self.n_outputs = kind, graph.N, graph.O

    def nodes(self, edges: IntArray) -> tuple[BoolArray, BoolArray]:
        """Which functions an input reaches, and which reach an output: (N,) each."""
        index = {**self._index, self.kind: edges}
        within = index[FUNCTION_EDGES]
        fed, readers = np.unique(index[INPUT_EDGES][1]), np.unique(index[OUTPUT_EDGES][0])
        return reached(within, fed, self.n), reached(within[::-1], readers, self.n)

    def outputs(self, edges: IntArray) -> BoolArray:
        """Which outputs some input reaches: (O,)."""
        index = {**self._index, self.kind: edges}
        below = reached(index[FUNCTION_EDGES], np.unique(index[INPUT_EDGES][1]), self.n)
        read = index[OUTPUT_EDGES]
        reached_outputs = np.zeros(self.n_outputs, dtype=bool)
        reached_outputs[read[1][below[read[0]]]] = True
        return reached_outputs


def live_nodes(graph: Graph) -> tuple[BoolArray, BoolArray]:
    """Which functions an input reaches, and which reach an output: (N,) each."""
    return Reach(graph).nodes(graph.edge_index_dict[edge_type(FUNCTION_EDGES)].numpy())


def ends_alive(graph: Graph, kind: str) -> tuple[BoolArray, BoolArray]:
    """Which sources of a kind of edges carry a signal (S,), and which targets are observed (T,)."""
    above, below = live_nodes(graph)
    if kind == INPUT_EDGES:
        above = np.ones(graph.I, dtype=bool)
    if kind == OUTPUT_EDGES:
        below = np.ones(graph.O, dtype=bool)
    return above, below


def mask_edges(
    graph: Graph,
    fraction: float = 0.15,
    seed: int | np.random.Generator = 0,
    stratify: Stratify = "none",
    roles: Mapping[Edge, str] | None = None,
    *,
    kind: str = FUNCTION_EDGES,
) -> Masking:
    """Hide a share of the known edges of a kind.

    Edges that lie on no path from an input to an output are never drawn, nor are self-edges: no method could find
    them. Edges that would leave a hole are not drawn either: once all are hidden, the source of each hidden edge has
    another function as child and its target another function as parent, or the graph alone would tell where edges are
    missing. Where fewer than 10 edges are such, the others are drawn too and named (``holes``), so that the two groups
    can be reported separately.

    The edges are drawn at random, or the same share of each stratum. In the order of the draw, an edge is put back if
    without it no input would reach an output, or a hole would be left; so fewer than the share may be hidden. An edge
    stays hidden, but is counted separately (``cut_off``), if no input reaches its source any more, or its target no
    output. Where outputs have one source each, as measured species have, an edge to an output may be hidden although
    no input then reaches the output.

    Args:
        graph: The prior graph.
        fraction: Share of the edges that can be drawn to hide, in (0, 1); at least one edge is hidden.
        seed: Seed or generator of the draw.
        stratify: ``'none'``; ``'degree'``: by thirds of out-degree of the source times in-degree of the target;
            ``'role'``: by the label in ``roles``.
        roles: A label per edge, for ``'role'``; an edge without one has the role ``other``.
        kind: The kind of the edges, one of :data:`gsnn.graph.KINDS`.

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
    check_option("stratify", stratify, get_args(Stratify))
    if stratify == "role" and not roles:
        raise ValueError("stratify='role' needs roles, a label for each edge; use 'degree' or 'none' without")
    rng = np.random.default_rng(seed)
    reach = Reach(graph, kind)
    edges = graph.edge_index_dict[edge_type(kind)].numpy()
    can = hideable_edges(graph, kind)
    eligible = can.rows
    if not len(eligible):
        arrow = kind.replace("->", " -> ")
        raise DataError(f"no {arrow} edge lies on a path from an input to an output: none can be hidden")
    source_names, target_names = (graph.node_names_dict[end] for end in kind.split("->"))
    shape = (len(source_names), len(target_names))
    labels = _strata(edges, eligible, stratify, source_names, target_names, roles)
    order = rng.permutation(len(labels)).tolist()
    total = max(1, round(fraction * len(eligible)))
    before = reach.outputs(edges)

    def allowed(hidden: BoolArray) -> bool:
        kept = edges[:, ~hidden]
        if can.no_hole and _in_hole(edges[:, hidden], kept, shape, kind).any():
            return False
        lost = before & ~reach.outputs(kept)
        if kind == OUTPUT_EDGES and not can.no_hole:
            lost[edges[1, hidden]] = False
        return not lost.any() and kept.shape[1] > 0

    hidden = np.zeros(edges.shape[1], dtype=bool)
    protected = 0
    for label, quota in _quotas(labels, total).items():
        queue = [int(eligible[i]) for i in order if labels[i] == label]
        missing = quota
        while missing and queue:
            block, queue = queue[:missing], queue[missing:]
            accepted = _accept(block, hidden, allowed)
            missing -= accepted
            protected += len(block) - accepted
    if not hidden.any():
        raise DataError(
            f"none of the {len(eligible)} known edges can be hidden: without any one of them an output is out of "
            "reach of every input; a self-check needs a graph with more than one path"
        )
    drawn = np.flatnonzero(hidden)
    pairs = edges[:, drawn]
    named = [(source_names[s], target_names[t]) for s, t in pairs.T.tolist()]
    masked = graph.without_edges(named)
    above, below = ends_alive(masked, kind)
    testable = above[pairs[0]] & below[pairs[1]]
    hole = testable & _in_hole(pairs, edges[:, ~hidden], shape, kind)
    label_of = dict(zip(eligible.tolist(), labels, strict=True))
    strata = {edge: label_of[row] for edge, row in zip(named, drawn.tolist(), strict=True)}
    return Masking(
        graph=masked,
        testable=list(compress(named, testable)),
        cut_off=list(compress(named, ~testable)),
        n_eligible=len(eligible),
        n_pathless=can.n_pathless,
        n_protected=protected,
        n_last=can.n_last,
        holes=list(compress(named, hole)),
        strata={} if stratify == "none" else strata,
        kind=kind,
    )


def _in_hole(pairs: IntArray, kept: IntArray, shape: tuple[int, int], kind: str) -> BoolArray:
    """Which pairs have a source without children, or a target without parents, among the edges that are kept."""
    childless, orphaned = holes(kept, shape, kind)
    return np.logical_or(childless[pairs[0]], orphaned[pairs[1]])


def _accept(block: Sequence[int], hidden: BoolArray, allowed: Callable[[BoolArray], bool]) -> int:
    """Hide the edges of a block, one after the other, where that is allowed, and return how many were hidden.

    An edge that is not allowed stays so when more are hidden. So a block that is allowed as a whole is hidden as a
    whole, and halving the others gives the same as going one by one, with far fewer searches.
    """
    trial = hidden.copy()
    trial[list(block)] = True
    if allowed(trial):
        hidden[:] = trial
        return len(block)
    if len(block) == 1:
        return 0
    half = len(block) // 2
    return _accept(block[:half], hidden, allowed) + _accept(block[half:], hidden, allowed)


def _strata(
    edges: IntArray,
    eligible: IntArray,
    stratify: Stratify,
    sources: Sequence[str],
    targets: Sequence[str],
    roles: Mapping[Edge, str] | None,
) -> list[str]:
    """A label for each eligible edge."""
    if stratify == "role":
        label_of = roles or {}
        return [label_of.get((sources[s], targets[t]), "other") for s, t in edges[:, eligible].T.tolist()]
    if stratify == "degree":
        out, into = (np.bincount(edges[side], minlength=n) for side, n in enumerate((len(sources), len(targets))))
        product = out[edges[0, eligible]] * into[edges[1, eligible]]
        bounds = np.quantile(product, np.linspace(0, 1, _DEGREE_CLASSES + 1)[1:-1])
        which = np.searchsorted(bounds, product, side="left")
        return [("low degree", "middle degree", "high degree")[i] for i in which]
    return ["all"] * len(eligible)


def _quotas(labels: Sequence[str], total: int) -> dict[str, int]:
    """How many of each label, in proportion, by largest remainder; ties to the label that comes first."""
    exact = {label: total * count / len(labels) for label, count in Counter(labels).items()}
    quotas = {label: int(value) for label, value in exact.items()}
    rest = total - sum(quotas.values())
    for label in sorted(exact, key=lambda name: quotas[name] - exact[name])[:rest]:
        quotas[label] += 1
    return quotas
