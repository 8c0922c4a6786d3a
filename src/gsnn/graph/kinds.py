"""The three kinds of edges, as tables and options name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import DataError, check_option
from gsnn.graph.checks import EdgeType

INPUT_EDGES, FUNCTION_EDGES, OUTPUT_EDGES = "input->function", "function->function", "function->output"

# From the inputs to the outputs.
KINDS: tuple[str, ...] = (INPUT_EDGES, FUNCTION_EDGES, OUTPUT_EDGES)

_SHORT = dict(zip(("input", "function", "output"), KINDS, strict=True))


def edge_pairs(data: Any, kind: EdgeType) -> npt.NDArray[np.int64]:  # noqa: ANN401 - anything HeteroData-like
    """Sources and targets (2, E) of the edges of a type; E is 0 if the graph has no such type."""
    index = data.edge_index_dict.get(kind)
    return np.zeros((2, 0), np.int64) if index is None else np.asarray(index.cpu(), dtype=np.int64)


def edge_type(kind: str) -> EdgeType:
    """The edge type of a kind.

    Example:
        >>> edge_type("input->function")
        ('input', 'to', 'function')
    """
    source, target = kind.split("->")
    return (source, "to", target)


def kind_of(edge: EdgeType) -> str:
    """The kind of an edge type.

    Example:
        >>> kind_of(("input", "to", "function"))
        'input->function'
    """
    return f"{edge[0]}->{edge[2]}"


def short_kind(kind: str) -> str:
    """The short name of a kind in ``--kinds``.

    Example:
        >>> short_kind("function->output"), short_kind("function->function")
        ('output', 'function')
    """
    return next(short for short, name in _SHORT.items() if name == kind)


def resolve_kinds(kinds: str | Sequence[str]) -> tuple[str, ...]:
    """The kinds that a user names: ``input``, ``function``, ``output``, their full names, or ``all``.

    Args:
        kinds: One or several texts, each with one or several kinds between commas.

    Returns:
        The kinds, each once, in the order of ``KINDS``.

    Raises:
        DataError: If none is named, or a name is unknown.

    Example:
        >>> resolve_kinds("output,input")
        ('input->function', 'function->output')
        >>> resolve_kinds(["function->output"])
        ('function->output',)
    """
    texts = [kinds] if isinstance(kinds, str) else kinds
    names = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    if not names:
        raise DataError(f"give at least one kind of edges: {', '.join(_SHORT)}, or all")
    for name in names:
        if name not in KINDS:
            check_option("kind", name, (*_SHORT, "all"), DataError)
    chosen = set(KINDS) if "all" in names else {_SHORT.get(name, name) for name in names}
    return tuple(kind for kind in KINDS if kind in chosen)


def drawn_treatments(graph: Any) -> list[str]:  # noqa: ANN401 - a Graph or anything like it
    """Treatments that are drawn as species: an input that does not inhibit feeds them, and they are only sources.

    A network with a drug as a node has nothing that acts on the drug, so an edge into such a node means nothing.

    Example:
        >>> from gsnn.graph import Graph
        >>> edges = [("TR:drug", "drug", 1), ("TR:ai", "a", -1), ("drug", "a", 1), ("a", "b", 1), ("b", "y", 1)]
        >>> nodes = {"input_nodes": ["TR:drug", "TR:ai"], "function_nodes": ["drug", "a", "b"], "output_nodes": ["y"]}
        >>> drawn_treatments(Graph.from_edges(edges, **nodes))
        ['drug']
    """
    index, signs = graph.edge_index_dict, getattr(graph, "edge_sign_dict", None) or {}
    inner, fed = index[edge_type(FUNCTION_EDGES)].numpy(), index[edge_type(INPUT_EDGES)].numpy()
    inner = inner[:, inner[0] != inner[1]]
    sign = signs.get(edge_type(INPUT_EDGES))
    raised = fed[1] if sign is None else fed[1][sign.numpy() >= 0]
    names = graph.node_names_dict["function"]
    return [names[i] for i in np.setdiff1d(np.intersect1d(raised, inner[0]), inner[1]).tolist()]


def drawn_targets(graph: Any, kind: str) -> list[int]:  # noqa: ANN401
    """Indices of the targets of a kind of edges that are :func:`drawn_treatments`; outputs never are."""
    if kind == OUTPUT_EDGES:
        return []
    place = {name: i for i, name in enumerate(graph.node_names_dict["function"])}
    return [place[name] for name in drawn_treatments(graph)]
