"""From the two dicts of a typed graph to one homogeneous order of nodes and edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gsnn.base.errors import DataError
from gsnn.graph.checks import EDGE_TYPES, EdgeType, check_index, check_names

FUNCTION_FUNCTION, INPUT_FUNCTION, FUNCTION_OUTPUT = EDGE_TYPES


@dataclass(frozen=True)
class Layout:
    """Nodes and edges in homogeneous order.

    Nodes are functions, then inputs, then outputs. Edges are function -> function (each ``edge_channels`` times,
    the copies of one edge side by side), input -> function, function -> output, then one self-edge per function
    if these are added.

    Attributes:
        names: The node names of each type.
        edge_index: int64 (2, E), homogeneous node numbers.
        counts: Number of edges of each kind: function -> function, input -> function, function -> output, self.
        edge_channels: How many copies of each function -> function edge there are.
    """

    names: dict[str, tuple[str, ...]]
    edge_index: Tensor
    counts: tuple[int, int, int, int]
    edge_channels: int

    @property
    def n_functions(self) -> int:
        """N, the number of function nodes."""
        return len(self.names["function"])

    @property
    def n_inputs(self) -> int:
        """I, the number of input nodes."""
        return len(self.names["input"])

    @property
    def n_outputs(self) -> int:
        """O, the number of output nodes."""
        return len(self.names["output"])

    @property
    def n_edges(self) -> int:
        """E, the number of edges of every kind."""
        return int(self.edge_index.shape[1])

    @property
    def input_edges(self) -> slice:
        """Positions of the input -> function edges."""
        return slice(self.counts[0], self.counts[0] + self.counts[1])

    @property
    def output_edges(self) -> slice:
        """Positions of the function -> output edges."""
        start = self.counts[0] + self.counts[1]
        return slice(start, start + self.counts[2])

    def target_functions(self) -> Tensor:
        """int64 (E,): the function each edge ends in, -1 for an edge into an output."""
        target = self.edge_index[1]
        return torch.where(target < self.n_functions, target, -1)

    def source_functions(self) -> Tensor:
        """int64 (E,): the function each edge starts in, -1 for an edge out of an input."""
        source = self.edge_index[0]
        return torch.where(source < self.n_functions, source, -1)

    def typed_edges(self) -> dict[EdgeType, Tensor]:
        """The edges by type with indices local to the type, as they were given (new tensors, on the CPU)."""
        index = self.edge_index.cpu()
        offset = self.n_functions
        first, second = self.input_edges, self.output_edges
        return {
            FUNCTION_FUNCTION: index[:, : self.counts[0] : self.edge_channels].clone(),
            INPUT_FUNCTION: torch.stack([index[0, first] - offset, index[1, first]]),
            FUNCTION_OUTPUT: torch.stack([index[0, second], index[1, second] - offset - self.n_inputs]),
        }


def build_layout(
    edge_index_dict: Mapping[Any, Any],
    node_names_dict: Mapping[str, Sequence[str]],
    *,
    edge_channels: int = 1,
    add_function_self_edges: bool = True,
) -> Layout:
    """Check the two dicts and put nodes and edges in homogeneous order. O(E); the arguments are only read.

    Args:
        edge_index_dict: (2, E_type) integer indices, local to the types, for each of the three edge types; a type
            that is absent has no edges.
        node_names_dict: The names of the nodes of each type.
        edge_channels: How many times each function -> function edge stands.
        add_function_self_edges: Whether one self-edge per function is added.

    Returns:
        The layout; none of its tensors shares memory with an argument.

    Raises:
        DataError: If a type is unknown, a type has no node, a name is not unique, or an index is not valid.

    Example:
        >>> names = {"input": ["x"], "function": ["f", "g"], "output": ["y"]}
        >>> edges = {("input", "to", "function"): torch.tensor([[0], [0]]),
        ...          ("function", "to", "function"): torch.tensor([[0], [1]]),
        ...          ("function", "to", "output"): torch.tensor([[1], [0]])}
        >>> build_layout(edges, names).edge_index.tolist()
        [[0, 2, 1, 0, 1], [1, 0, 3, 0, 1]]
    """
    names = check_names(
        {
            kind: values if isinstance(values, str) else [str(name) for name in values]
            for kind, values in node_names_dict.items()
        }
    )
    indices = {_edge_type(key, "edge_index_dict"): value for key, value in edge_index_dict.items()}
    # Copies: an argument may be an inference tensor, on another device, or changed later by its owner.
    typed = {kind: torch.from_numpy(check_index(kind, indices.get(kind), names)) for kind in EDGE_TYPES}
    n, i = len(names["function"]), len(names["input"])
    offset = {"function": 0, "input": n, "output": n + i}
    parts = []
    for kind in EDGE_TYPES:
        part = typed[kind] + torch.tensor([[offset[kind[0]]], [offset[kind[2]]]])
        parts.append(part.repeat_interleave(edge_channels, dim=1) if kind == FUNCTION_FUNCTION else part)
    loops = torch.arange(n if add_function_self_edges else 0).expand(2, -1)
    sizes = [part.shape[1] for part in parts]
    return Layout(
        names=names,
        edge_index=torch.cat([*parts, loops], dim=1),
        counts=(sizes[0], sizes[1], sizes[2], loops.shape[1]),
        edge_channels=edge_channels,
    )


def check_edge_weights(edge_weight_dict: Mapping[Any, Any], layout: Layout) -> Tensor:
    """float64 (E,): the weight of each edge in homogeneous order; 1 for the added self-edges and absent types.

    Raises:
        DataError: If a type is unknown, a length is not the number of edges of its type, or a weight is not finite.
    """
    weights = torch.ones(layout.n_edges, dtype=torch.float64)
    place = {
        FUNCTION_FUNCTION: slice(0, layout.counts[0]),
        INPUT_FUNCTION: layout.input_edges,
        FUNCTION_OUTPUT: layout.output_edges,
    }
    for key, value in edge_weight_dict.items():
        kind = _edge_type(key, "edge_weight_dict")
        weight = torch.as_tensor(value).detach().to("cpu", torch.float64)
        copies = layout.edge_channels if kind == FUNCTION_FUNCTION else 1
        expected = (place[kind].stop - place[kind].start) // copies
        if weight.shape != (expected,):
            raise DataError(
                f"edge_weight_dict[{kind}] must have shape ({expected},), one weight per edge of the type, "
                f"got {tuple(weight.shape)}"
            )
        if not bool(torch.isfinite(weight).all()):
            bad = torch.nonzero(~torch.isfinite(weight)).flatten()[:5].tolist()
            raise DataError(f"edge_weight_dict[{kind}] is not finite at positions {bad}; correct or drop these edges")
        weights[place[kind]] = weight.repeat_interleave(copies)
    return weights


def _edge_type(key: Any, parameter: str) -> EdgeType:  # noqa: ANN401 - whatever the user passed
    if isinstance(key, tuple | list) and tuple(key) in EDGE_TYPES:
        return EDGE_TYPES[EDGE_TYPES.index(tuple(key))]
    allowed = ", ".join(str(kind) for kind in EDGE_TYPES)
    raise DataError(f"{parameter} has the unknown edge type {key!r}; the types are {allowed}")
