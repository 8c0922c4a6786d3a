"""The network, and proposed edges in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from gsnn.base.errors import DataError, closest
from gsnn.graph import NODE_TYPES, Graph
from gsnn.plot.axes import CANDIDATE, KNOWN, PROPOSED, axes

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes

Edges = Iterable[tuple[str, str] | tuple[str, str, float]]

_MARKERS = {"input": "s", "function": "o", "output": "D"}
_FILLS = {"input": "#dfe9ee", "function": "#ffffff", "output": "#f3e6d8"}
_MAX_LABELS = 60
# A filled head activates, a bar inhibits, an open head says nothing about the sign.
_HEADS = {1: "-|>", -1: "|-|,widthA=0,widthB=0.35", 0: "->"}
_MEANING = {1: ("activates", ">"), -1: ("inhibits", "|"), 0: ("sign unknown", "4")}


def edge_neighbourhood(
    graph: Any,  # noqa: ANN401 - Graph or anything HeteroData-like
    edge: tuple[str, str],
    proposed: Edges | pd.DataFrame = (),
    *,
    limit: int = 40,
    ax: Axes | None = None,
) -> Axes:
    """One edge among the neighbours of its two ends.

    Known edges are grey, proposed ones coloured. A filled arrowhead activates, a bar inhibits, an open head has no
    known sign. Squares are inputs, circles functions, diamonds outputs.

    Args:
        graph: The prior network.
        edge: (source, target) names of two functions. If the graph lacks it, it is drawn as proposed.
        proposed: Further proposed edges, drawn where both ends are: (source, target) or (source, target, sign), or a
            table of edges, best first; what is known there is left out.
        limit: Most nodes drawn; the ends always are.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes. Each arrow is a patch whose ``get_gid()`` is ``"source->target"``.

    Raises:
        DataError: If an end is not a function of the graph.

    Example:
        >>> from matplotlib.figure import Figure
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> ax = edge_neighbourhood(graph, ("b", "a"), ax=Figure().subplots())
        >>> [patch.get_gid() for patch in ax.patches]
        ['a->b', 'b->y', 'x->a', 'b->a']
    """
    whole, more = _read(graph, proposed)
    for end in edge:
        if whole.nodes.get(end, {}).get("type") != "function":
            functions = [name for name, kind in whole.nodes(data="type") if kind == "function"]
            raise DataError(f"edge must join two functions of the graph, and {end!r} is none{_hint(end, functions)}")
    kept: dict[str, None] = dict.fromkeys(edge)
    for end in edge:
        for other in (*whole.predecessors(end), *whole.successors(end)):
            if len(kept) < limit:
                kept.setdefault(other)
    if not whole.has_edge(*edge) and edge not in [pair[:2] for pair in more]:
        more = [(*edge, 0), *more]
    nodes = [node for node in whole if node in kept]
    ax = _draw(whole, nodes, more, axes(ax), labelled=set(kept), strong=(edge[0], edge[1]))
    ax.set_title(f"{edge[0]} → {edge[1]}")
    return ax


def network(
    graph: Any,  # noqa: ANN401 - Graph or anything HeteroData-like
    proposed: Edges | pd.DataFrame = (),
    *,
    limit: int = 300,
    ax: Axes | None = None,
) -> Axes:
    """The whole network in layers from left to right, with proposed edges in colour.

    A network of more than ``limit`` nodes is cut to the neighbourhood of the proposed edges. Beyond 60 nodes only
    the ends of proposed edges have a name. Edges of a node to itself are not drawn.

    Args:
        graph: The prior network.
        proposed: Proposed edges: (source, target) or (source, target, sign), or a table of edges, best first; what is
            known there is left out.
        limit: Most nodes drawn.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes. Each arrow is a patch whose ``get_gid()`` is ``"source->target"``.

    Raises:
        DataError: If a proposed edge names an unknown node.
    """
    from gsnn.plot.layout import drawn_nodes

    whole, more = _read(graph, proposed)
    nodes = drawn_nodes(whole, [(source, target) for source, target, _ in more], limit=limit)
    ends = {end for edge in more for end in edge[:2]}
    labelled = set(nodes) if len(nodes) <= _MAX_LABELS else ends
    return _draw(whole, nodes, more, axes(ax), labelled=labelled)


def subnetwork(edges: pd.DataFrame, kinds: Mapping[str, str], *, title: str = "", ax: Axes | None = None) -> Axes:
    """A few edges with what each contributes: the wider, the more; red raises, blue lowers.

    Args:
        edges: Columns source, target and contribution, and sign if the heads are to show it.
        kinds: Node -> input, function or output.
        title: Above the picture.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes. Each arrow is a patch whose ``get_gid()`` is ``"source->target"``.

    Example:
        >>> from matplotlib.figure import Figure
        >>> edges = pd.DataFrame({"source": ["x"], "target": ["a"], "contribution": [0.5]})
        >>> subnetwork(edges, {"x": "input", "a": "function"}, ax=Figure().subplots()).patches[0].get_gid()
        'x->a'
    """
    import networkx as nx

    from gsnn.plot.layout import positions

    graph = nx.DiGraph()
    for row in edges.to_dict("records"):
        graph.add_edge(str(row["source"]), str(row["target"]), sign=_sign(row.get("sign", 0)), by=row["contribution"])
    for node in graph:
        graph.nodes[node]["type"] = kinds[node]
    roots = [node for node in graph if kinds[node] == "input"]
    place = positions(graph, roots or list(graph)[:1])
    largest = float(edges["contribution"].abs().max()) or 1.0
    arrows = [
        (s, t, data["sign"], PROPOSED if data["by"] > 0 else CANDIDATE, 0.6 + 3.4 * abs(data["by"]) / largest)
        for s, t, data in graph.edges(data=True)
    ]
    ax = axes(ax)
    _picture(ax, graph, place, arrows, graph)
    ax.set_title(title, fontsize=9)
    return ax


def _read(graph: Any, proposed: Edges | pd.DataFrame) -> tuple[nx.DiGraph, list[tuple[str, str, int]]]:  # noqa: ANN401
    """The graph for networkx, and the proposed edges that it lacks, with their signs."""
    whole = Graph.coerce(graph).to_networkx()
    rows = _rows(proposed) if isinstance(proposed, pd.DataFrame) else [tuple(edge) for edge in proposed]
    edges = []
    for source, target, *sign in rows:
        for end in (source, target):
            if end not in whole:
                unknown = f"the graph has no node {end!r}{_hint(end, whole.nodes)}"
                raise DataError(f"proposed edge {source} -> {target}: {unknown}")
        if not whole.has_edge(source, target) and source != target:
            edges.append((str(source), str(target), _sign(sign[0] if sign else 0)))
    return whole, edges


def _hint(name: Any, options: Iterable[str]) -> str:  # noqa: ANN401 - what should be a name
    near = closest(str(name), options, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _rows(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Source, target and sign of each row of a table of edges."""
    ends = [
        next((name for name in names if name in table.columns), None)
        for names in (("source", "src_func"), ("target", "dst_func"))
    ]
    if None in ends:
        raise DataError(f"proposed needs the columns 'source' and 'target'; it has {list(table.columns)}")
    signs = table["sign"] if "sign" in table.columns else [0] * len(table)
    return list(zip(table[ends[0]], table[ends[1]], signs, strict=True))


def _sign(value: Any) -> int:  # noqa: ANN401 - a number, or missing
    return 0 if pd.isna(value) else 1 if value > 0 else -1 if value < 0 else 0


def _draw(
    whole: nx.DiGraph,
    nodes: list[str],
    proposed: list[tuple[str, str, int]],
    ax: Axes,
    *,
    labelled: set[str],
    strong: tuple[str, str] | None = None,
) -> Axes:
    """Known and proposed edges between some nodes, with a legend; ``strong`` is the edge in the middle."""
    import networkx as nx

    from gsnn.plot.layout import positions

    # Not a subgraph view, which lists nodes by a set: the picture must be the same every time.
    part = nx.DiGraph()
    part.add_nodes_from((node, whole.nodes[node]) for node in nodes)
    part.add_edges_from((s, t, d) for s, t, d in whole.edges(data=True) if s in part and t in part and s != t)
    roots = [node for node in nodes if whole.nodes[node]["type"] == "input"]
    place = positions(part, roots or nodes[:1]) if strong is None else _columns(part, strong)
    known = [(s, t, _sign(data.get("sign", 0)), KNOWN, 1.0) for s, t, data in part.edges(data=True)]
    new = [
        (s, t, sign, PROPOSED, 2.6 if (s, t) == strong else 1.6) for s, t, sign in proposed if s in place and t in place
    ]
    _picture(ax, part, place, [*known, *new], [node for node in nodes if node in labelled])
    _legend(ax, {sign for _, _, sign, _, _ in (*known, *new)}, known=bool(known), proposed=bool(new))
    return ax


def _picture(
    ax: Axes,
    graph: nx.DiGraph,
    place: dict[str, tuple[float, float]],
    arrows: Iterable[tuple[str, str, int, str, float]],
    labelled: Iterable[str],
) -> None:
    """Nodes by their types, arrows (source, target, sign, colour, width), and names above some nodes."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.patheffects import withStroke

    crowded = len(graph) > _MAX_LABELS
    for kind in NODE_TYPES:
        members = [node for node in graph if graph.nodes[node]["type"] == kind]
        if members:
            ax.scatter(
                [place[node][0] for node in members],
                [place[node][1] for node in members],
                s=18 if crowded else 90,
                marker=_MARKERS[kind],
                facecolor=_FILLS[kind],
                edgecolor="#5f6368",
                linewidth=0.9,
                zorder=3,
                label=f"{kind}s",
            )
    for source, target, sign, color, width in arrows:
        arrow = FancyArrowPatch(
            place[source],
            place[target],
            arrowstyle=_HEADS[sign],
            mutation_scale=7 if crowded else 12,
            shrinkA=3 if crowded else 6,
            shrinkB=3 if crowded else 7,
            connectionstyle="arc3,rad=0.08",  # curved, so that an edge and its reverse are two lines
            color=color,
            linewidth=width * (0.6 if crowded else 1.0),
            zorder=1 if color == KNOWN else 2,
        )
        arrow.set_gid(f"{source}->{target}")
        ax.add_patch(arrow)
    for node in labelled:
        text = ax.annotate(node, place[node], (0, 8), textcoords="offset points", ha="center", fontsize=8, zorder=4)
        # Readable across an arrow.
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    ax.set_axis_off()
    ax.margins(0.12)


def _columns(part: nx.DiGraph, edge: tuple[str, str]) -> dict[str, tuple[float, float]]:
    """From left to right: what feeds the source; the source; the target; what the target feeds."""
    source, target = edge
    columns: list[list[str]] = [[], [], [], []]
    for node in part:
        if node in edge:
            continue
        if part.has_edge(node, source):
            columns[0].append(node)
        elif part.has_edge(target, node):
            columns[3].append(node)
        else:
            columns[1 if part.has_edge(node, target) else 2].append(node)
    for end, column in ((source, columns[1]), (target, columns[2])):
        column.insert(len(column) // 2, end)
    return {node: (x / 3, (i + 0.5) / len(column)) for x, column in enumerate(columns) for i, node in enumerate(column)}


def _legend(ax: Axes, signs: set[int], *, known: bool, proposed: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [*ax.get_legend_handles_labels()[0]]
    handles += [Line2D([], [], color=KNOWN, label="known")] if known else []
    handles += [Line2D([], [], color=PROPOSED, linewidth=2, label="proposed")] if proposed else []
    for sign in sorted(signs, reverse=True):
        label, marker = _MEANING[sign]
        handles.append(Line2D([], [], color=CANDIDATE, linestyle="", marker=marker, label=label))
    ax.legend(
        handles=handles, fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, frameon=False
    )
