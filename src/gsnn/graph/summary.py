"""The summary of a graph: counts, reachability, warnings."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph
from torch import Tensor

from gsnn.graph.checks import EdgeType, shown


def reached(edges: npt.NDArray[np.int64], start: npt.NDArray[np.int64], n_nodes: int) -> npt.NDArray[np.bool_]:
    """Which nodes are reached from any start node, the start nodes included. O(N + E).

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
    mask = np.zeros(n_nodes + 1, bool)
    mask[order] = True
    return mask[:n_nodes]


@dataclass(frozen=True)
class GraphSummary:
    """Counts of a graph and warnings about it; ``str()`` makes a readable text.

    Attributes:
        n_inputs: I.
        n_functions: N.
        n_outputs: O.
        n_edges: Edges of each type, by 'function -> function', 'input -> function', 'function -> output'.
        n_signs: Edges with sign +1, -1 and unknown; empty if the graph is unsigned.
        weighted: Whether edges have weights.
        n_cyclic: Functions on a cycle, including self-edges.
        warnings: One sentence for each oddity; none of them is an error.
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


#: Oddities of nodes and edges: the property of a graph that lists them, their noun, and what the warning says.
ODDITIES = {
    "unused_inputs": ("input", "without any edge"),
    "unreached_functions": ("function", "that no input reaches"),
    "dead_end_functions": ("function", "that {reach} no output"),
    "unfed_outputs": ("output", "that nobody feeds: always 0, whatever the model learns"),
    "unreached_outputs": ("output", "that no input reaches: the same for every sample"),
    "duplicated_edges": ("duplicated edge", "(signs that disagree become 0)"),
    "self_edges": ("function", "with a self-edge"),
}


def summarise(
    names: Mapping[str, Sequence[str]],
    index: Mapping[EdgeType, Tensor],
    sign: Mapping[EdgeType, Tensor] | None,
    oddities: Mapping[str, Sequence[str]],
    *,
    weighted: bool,
) -> GraphSummary:
    """The summary of a graph.

    Args:
        names: Names of the nodes by type.
        index: Edges by type, (2, E_type).
        sign: Signs by type, or None.
        oddities: For each key of ``ODDITIES`` the names concerned.
        weighted: Whether the edges have weights.
    """
    n_signs = {}
    if sign is not None:
        values = np.concatenate([s.numpy() for s in sign.values()])
        n_signs = {k: int((values == v).sum()) for k, v in (("activating", 1), ("inhibiting", -1), ("unknown", 0))}
    n = len(names["function"])
    ff = index["function", "to", "function"].numpy()
    adjacency = sparse.csr_matrix((np.ones(ff.shape[1], np.int8), (ff[0], ff[1])), shape=(n, n))
    _, component = csgraph.connected_components(adjacency, directed=True, connection="strong")
    cyclic = np.bincount(component)[component] > 1
    cyclic[ff[0, ff[0] == ff[1]]] = True
    return GraphSummary(
        n_inputs=len(names["input"]),
        n_functions=n,
        n_outputs=len(names["output"]),
        n_edges={f"{source} -> {target}": edges.shape[1] for (source, _, target), edges in index.items()},
        n_signs=n_signs,
        weighted=weighted,
        n_cyclic=int(cyclic.sum()),
        warnings=[_warning(oddities[kind], *phrase) for kind, phrase in ODDITIES.items() if oddities[kind]],
    )


def _warning(names: Sequence[str], noun: str, phrase: str) -> str:
    """For instance '3 functions that no input reaches: a, b, c'."""
    plural, reach = ("s", "reach") if len(names) > 1 else ("", "reaches")
    return f"{len(names)} {noun}{plural} {phrase.format(reach=reach)}: {shown(names, 10)}"
