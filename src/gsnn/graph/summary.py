"""What a graph looks like: counts, reachability, warnings."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from gsnn.graph.checks import arrow, shown

if TYPE_CHECKING:
    from gsnn.graph.graph import Graph


def reached(edges: npt.NDArray[np.int64], start: npt.NDArray[np.int64], n_nodes: int) -> npt.NDArray[np.bool_]:
    """Which nodes some start node reaches; every start node reaches itself. O(N + E).

    Args:
        edges: (2, E) from, to.
        start: Indices of the start nodes.
        n_nodes: N.

    Returns:
        Shape (N,).
    """
    # One extra node with an edge to every start turns many searches into one.
    rows = np.concatenate([edges[0], np.full(len(start), n_nodes)])
    columns = np.concatenate([edges[1], start])
    adjacency = sparse.csr_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(n_nodes + 1, n_nodes + 1))
    order = csgraph.breadth_first_order(adjacency, n_nodes, directed=True, return_predecessors=False)
    found = np.zeros(n_nodes + 1, bool)
    found[order] = True
    return found[:n_nodes]


@dataclass(frozen=True)
class GraphSummary:
    """Counts of a graph and what is odd about it; ``str()`` of it is readable.

    Attributes:
        n_inputs: I.
        n_functions: N.
        n_outputs: O.
        n_edges: Edges of each type, by 'function -> function', 'input -> function', 'function -> output'.
        n_signs: Edges with sign +1, -1 and unknown; empty if the graph is unsigned.
        weighted: Whether edges have weights.
        n_cyclic: Functions that lie on a cycle, those with a self-edge included.
        warnings: One sentence for each thing worth a look; none of them is an error.
    """

    n_inputs: int
    n_functions: int
    n_outputs: int
    n_edges: dict[str, int]
    n_signs: dict[str, int] = field(default_factory=dict)
    weighted: bool = False
    n_cyclic: int = 0
    warnings: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, str]]:
        """Label and text of each line."""
        rows = [
            ("nodes", f"{self.n_inputs} inputs, {self.n_functions} functions, {self.n_outputs} outputs"),
            ("edges", f"{sum(self.n_edges.values())}: " + ", ".join(f"{n} {kind}" for kind, n in self.n_edges.items())),
        ]
        if self.n_signs:
            rows.append(("signs", ", ".join(f"{n} {sign}" for sign, n in self.n_signs.items())))
        rows.append(("weights", "yes" if self.weighted else "no"))
        rows.append(("functions on a cycle", str(self.n_cyclic)))
        return rows

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in self.rows())
        notes = "".join(f"<li>{html.escape(warning)}</li>" for warning in self.warnings)
        return f"<table>{rows}</table>" + (f"<ul>{notes}</ul>" if notes else "")

    def __str__(self) -> str:
        width = max(len(label) for label, _ in self.rows())
        lines = [f"{label:<{width}}  {text}" for label, text in self.rows()]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def summarise(graph: Graph) -> GraphSummary:
    """Count what is in a graph and say what is odd about it."""
    index = {kind: edge.numpy() for kind, edge in graph.edge_index_dict.items()}
    signs = graph.edge_sign_dict
    n_signs = {}
    if signs is not None:
        values = np.concatenate([s.numpy() for s in signs.values()])
        n_signs = {k: int((values == v).sum()) for k, v in (("activating", 1), ("inhibiting", -1), ("unknown", 0))}
    ff = index["function", "to", "function"]
    adjacency = sparse.csr_matrix((np.ones(ff.shape[1], np.int8), (ff[0], ff[1])), shape=(graph.N, graph.N))
    _, component = csgraph.connected_components(adjacency, directed=True, connection="strong")
    cyclic = np.bincount(component)[component] > 1
    cyclic[ff[0, ff[0] == ff[1]]] = True

    warnings = [
        _warning(graph.unused_inputs, "input", "without any edge"),
        _warning(graph.unreached_functions, "function", "that no input reaches"),
        _warning(graph.dead_end_functions, "function", "that {} no output", verb=("reaches", "reach")),
        _warning(graph.unfed_outputs, "output", "that nobody feeds: always 0, whatever the model learns"),
        _warning(graph.unreached_outputs, "output", "that no input reaches: the same for every sample"),
        _warning([arrow(*e) for e in graph.duplicated_edges], "duplicated edge", "(signs that disagree become 0)"),
        _warning(graph.self_edges, "function", "with a self-edge"),
    ]
    return GraphSummary(
        n_inputs=graph.I,
        n_functions=graph.N,
        n_outputs=graph.O,
        n_edges={f"{source} -> {target}": index[source, to, target].shape[1] for source, to, target in index},
        n_signs=n_signs,
        weighted=graph.edge_weight_dict is not None,
        n_cyclic=int(cyclic.sum()),
        warnings=[warning for warning in warnings if warning],
    )


def _warning(names: Sequence[str], noun: str, what: str, verb: tuple[str, str] = ("", "")) -> str:
    """'3 functions that no input reaches: a, b, c', or nothing."""
    if not names:
        return ""
    plural = len(names) > 1
    return f"{len(names)} {noun}{'s' if plural else ''} {what.format(verb[plural])}: {shown(names, 10)}"
