"""What a model is: its names, sizes and options."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gsnn.nn import files as serialize
from gsnn.nn import inspect
from gsnn.nn.handles import HandledModule
from gsnn.nn.layout import EdgeType, Layout
from gsnn.nn.research_blocks import ResearchModel


class Described(ResearchModel, HandledModule):
    """The part of a GSNN that tells about it; the subclass builds and computes.

    Attributes:
        layout: Nodes and edges in homogeneous order.
        options: The options of the constructor.
        channels: C, or one count per function.
        blocks: The L blocks.
        edge_weight: float64 (E,) weights for the attention, or None.
    """

    layout: Layout
    options: dict[str, Any]
    channels: int | tuple[int, ...]
    blocks: nn.ModuleList
    edge_weight: Tensor | None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the sparse weights, in which the model computes."""
        return next(inspect.sparse_layers(self, "lin_in")).weight.dtype

    @property
    def function_nodes(self) -> list[str]:
        """Names of the function nodes, in their order."""
        return list(self.layout.names["function"])

    @property
    def input_nodes(self) -> list[str]:
        """Names of the input nodes: the columns of ``x``."""
        return list(self.layout.names["input"])

    @property
    def output_nodes(self) -> list[str]:
        """Names of the output nodes: the columns of the result."""
        return list(self.layout.names["output"])

    @property
    def N(self) -> int:
        """Number of function nodes."""
        return self.layout.n_functions

    @property
    def I(self) -> int:  # noqa: E743 - the letter of the formulas
        """Number of input nodes."""
        return self.layout.n_inputs

    @property
    def O(self) -> int:  # noqa: E743 - the letter of the formulas
        """Number of output nodes."""
        return self.layout.n_outputs

    @property
    def E(self) -> int:
        """Number of edges of every kind, copies and self-edges included."""
        return self.layout.n_edges

    @property
    def L(self) -> int:
        """Number of blocks."""
        return int(self.options["layers"])

    @property
    def norm(self) -> str:
        """Name of the norm."""
        return str(self.options["norm"])

    @property
    def edge_index_dict(self) -> dict[EdgeType, Tensor]:
        """The edges by type, as they were given: without self-edges and copies. New tensors."""
        return self.layout.typed_edges()

    @property
    def node_names_dict(self) -> dict[str, list[str]]:
        """The names of the nodes by type. New lists."""
        return {kind: list(names) for kind, names in self.layout.names.items()}

    @property
    def function_edges(self) -> list[tuple[str, str]]:
        """(source, target) names of the function -> function edges as they were given."""
        names = self.layout.names["function"]
        index = self.layout.typed_edges()["function", "to", "function"]
        return [(names[source], names[target]) for source, target in index.T.tolist()]

    def config(self, edges: bool = False) -> dict[str, Any]:
        """Node names and options as JSON values; with ``edges`` also the edges, so that it rebuilds the model alone.

        Returns:
            A dict for ``GSNN.from_config``. A nonlinearity that is not a class of ``torch.nn`` is named but cannot be
            rebuilt from its name.
        """
        return serialize.config_of(self, edges)

    def summary(self) -> str:
        """A table of sizes and parameter counts that a person can read."""
        return inspect.summary(self)

    def __repr__(self) -> str:
        parts = {letter: getattr(self, letter) for letter in "INOE"}
        parts |= {"channels": inspect.channels_text(self), "layers": self.L, "norm": repr(self.norm)}
        parts["parameters"] = sum(parameter.numel() for parameter in self.parameters())
        return f"GSNN({', '.join(f'{name}={value}' for name, value in parts.items())})"
