"""What a model is: its names, sizes and options, as attributes, as a text, and as a configuration that rebuilds it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gsnn.base.errors import DataError
from gsnn.nn.block import SparseLinear
from gsnn.nn.handles import HandledModule
from gsnn.nn.layout import EDGE_TYPES, EdgeType, Layout
from gsnn.nn.norms import ChannelGroups

FORMAT = 1
_CUSTOM = "custom:"


class Described(HandledModule):
    """The part of a GSNN that describes it; the subclass builds and computes.

    Attributes:
        layout: Nodes and edges in homogeneous order.
        options: The options of the constructor.
        channels: C, or one count per function.
        blocks: The L blocks.
        edge_weight: float64 (E,) weights for the attention, or None.
        edge_index: int64 (2, E) in homogeneous order.
        channel_node: int64 (N*C,), for each channel the number of its function.
        groups: The channels of each function.
    """

    layout: Layout
    options: dict[str, Any]
    channels: int | tuple[int, ...]
    blocks: nn.ModuleList
    edge_weight: Tensor | None
    edge_index: Tensor
    channel_node: Tensor
    groups: ChannelGroups

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the sparse weights, in which the model computes."""
        return next(sparse_layers(self, "lin_in")).weight.dtype

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
    def ResBlocks(self) -> nn.ModuleList:
        """The L blocks, under the research package's name."""
        return self.blocks

    @property
    def input_node_mask(self) -> Tensor:
        """Bool (N+I+O,): which nodes, in homogeneous order, are inputs."""
        return self._node_mask(self.N, self.N + self.I)

    @property
    def output_node_mask(self) -> Tensor:
        """Bool (N+I+O,): which nodes, in homogeneous order, are outputs."""
        return self._node_mask(self.N + self.I, self.N + self.I + self.O)

    def _node_mask(self, start: int, stop: int) -> Tensor:
        node = torch.arange(self.N + self.I + self.O, device=self.channel_node.device)
        return (node >= start) & (node < stop)

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
        """Node names and options as JSON values; with ``edges`` also the edges, so that it alone rebuilds the model.

        Returns:
            A dict for ``GSNN.from_config``. A nonlinearity that is not a class of ``torch.nn`` is named but cannot be
            rebuilt from its name.
        """
        channels = self.channels
        config = {
            "format": FORMAT,
            "channels": channels if isinstance(channels, int) else list(channels),
            **self.options,
            "nonlin": _nonlin_name(self.options["nonlin"]),
            "node_names": self.node_names_dict,
        }
        if edges:
            config["edges"] = {edge_key(kind): index.tolist() for kind, index in self.edge_index_dict.items()}
            weights = typed_weights(self)
            if weights:
                config["edge_weights"] = {edge_key(kind): weight.tolist() for kind, weight in weights.items()}
        return config

    def summary(self) -> str:
        """A table of sizes, options and parameter counts for people."""
        layout, options = self.layout, self.options
        ff, inputs, outputs, loops = layout.counts
        copies = f" ({layout.edge_channels} copies of each)" if layout.edge_channels > 1 else ""
        rows: list[tuple[str, str]] = [
            ("inputs", f"{self.I:,}"),
            ("functions", f"{self.N:,}"),
            ("outputs", f"{self.O:,}"),
            ("edges", f"{self.E:,}"),
            ("  function -> function", f"{ff:,}{copies}"),
            ("  input -> function", f"{inputs:,}"),
            ("  function -> output", f"{outputs:,}"),
            ("  self", f"{loops:,}"),
            ("channels per function", self._channels_text()),
            ("layers", f"{self.L} ({'shared' if options['share_layers'] else 'not shared'})"),
            ("norm", f"{self.norm} ({'before' if options['norm_first'] else 'after'} the nonlinearity)"),
            ("dtype", str(self.dtype).removeprefix("torch.")),
            ("parameters", f"{sum(p.numel() for p in self.parameters()):,}"),
        ]
        counts: dict[str, int] = {}
        for name, parameter in self.named_parameters():
            part = ".".join(name.split(".")[2:3])
            counts[part] = counts.get(part, 0) + parameter.numel()
        rows += [(f"  {part}", f"{count:,}") for part, count in counts.items()]
        pruned = sum(
            int((~layer.kept).sum())
            for name in ("lin_in", "lin_out")
            for layer in dict.fromkeys(sparse_layers(self, name))
            if layer.kept is not None
        )
        if pruned:
            rows.append(("  of these pruned", f"{pruned:,}"))
        width = max(len(label) for label, _ in rows)
        return Text("\n".join(["GSNN", *(f"  {label:<{width}}  {value}" for label, value in rows)]))

    def __repr__(self) -> str:
        parts = {letter: getattr(self, letter) for letter in "INOE"}
        parts |= {"channels": self._channels_text(), "layers": self.L, "norm": repr(self.norm)}
        parts["parameters"] = sum(parameter.numel() for parameter in self.parameters())
        return f"GSNN({', '.join(f'{name}={value}' for name, value in parts.items())})"

    def _channels_text(self) -> str:
        channels = self.channels
        return str(channels) if isinstance(channels, int) else f"{min(channels)}..{max(channels)}"


def sparse_layers(model: Described, name: str) -> Iterator[SparseLinear]:
    """The map ``name`` of each block in turn."""
    for block in model.blocks:
        yield getattr(block, name)


class Text(str):
    """A string of several lines that a notebook prints with its line breaks."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self)}</pre>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ANN401 - IPython's
        printer.text(str(self))


def arguments_of(
    config: Mapping[str, Any],
    edge_index_dict: Mapping[Any, Any] | None,
    edge_weight_dict: Mapping[Any, Any] | None,
    nonlin: Callable[[], nn.Module] | None,
) -> dict[str, Any]:
    """Arguments of the constructor from a config; see ``GSNN.from_config``."""
    options = dict(config)
    if options.pop("format", None) != FORMAT:
        raise DataError(f"this config has format {config.get('format')!r}; this version of gsnn reads format {FORMAT}")
    try:
        name, names = options.pop("nonlin"), options.pop("node_names")
        stored, weights = options.pop("edges", None), options.pop("edge_weights", None)
    except KeyError as error:
        raise DataError(f"the config lacks {error.args[0]!r}") from error
    if edge_index_dict is None:
        if stored is None:
            raise DataError("the config holds no edges; pass edge_index_dict, or make it with config(edges=True)")
        edge_index_dict = {_kind(key): torch.tensor(value, dtype=torch.int64) for key, value in stored.items()}
    if edge_weight_dict is None and weights is not None:
        edge_weight_dict = {_kind(key): torch.tensor(value, dtype=torch.float64) for key, value in weights.items()}
    return {
        **options,
        "nonlin": _nonlin(name) if nonlin is None else nonlin,
        "node_names_dict": names,
        "edge_index_dict": edge_index_dict,
        "edge_weight_dict": edge_weight_dict,
    }


def typed_weights(model: Described) -> dict[EdgeType, Tensor]:
    """The edge weights by type; empty if the model has none."""
    if model.edge_weight is None:
        return {}
    layout = model.layout
    weight = model.edge_weight.to("cpu", torch.float64)
    ff = weight[: layout.counts[0] : layout.edge_channels]
    return dict(zip(EDGE_TYPES, (ff, weight[layout.input_edges], weight[layout.output_edges]), strict=True))


def edge_key(kind: EdgeType) -> str:
    """An edge type as a text, such as ``input->function``."""
    return f"{kind[0]}->{kind[2]}"


def _kind(key: str) -> EdgeType:
    source, _, target = key.partition("->")
    return source, "to", target


def _nonlin_name(nonlin: Any) -> str:  # noqa: ANN401 - a class or any callable
    name = getattr(nonlin, "__name__", repr(nonlin))
    if isinstance(nonlin, type) and getattr(nn, name, None) is nonlin:
        return name
    return f"{_CUSTOM}{getattr(nonlin, '__module__', '?')}.{getattr(nonlin, '__qualname__', name)}"


def _nonlin(name: str) -> Callable[[], nn.Module]:
    kind = getattr(nn, name, None)
    # Other modules of torch.nn can take any amount of memory to build: Transformer has 44 million parameters.
    elementwise = getattr(kind, "__module__", "") == nn.ReLU.__module__ or kind is nn.Identity
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and elementwise):
        shown = name.removeprefix(_CUSTOM)
        raise DataError(
            f"the nonlinearity {shown!r} is not an activation of torch.nn; pass it: load_model(path, nonlin=...) "
            "or GSNN.from_config(config, nonlin=...)"
        )
    return kind
