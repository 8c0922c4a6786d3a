"""Several models trained as one, on the disjoint union of their graphs.

What a step of a small model costs is hardly its arithmetic, so that ten copies side by side of a network of 82
functions cost about four times one (``benchmarks/stability.py``). No edge joins two copies; each is a model with
weights, inputs and responses of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gsnn.base.torch_state import own_random_state
from gsnn.graph import EDGE_TYPES, Graph
from gsnn.nn.model import GSNN


def disjoint_union(graphs: Sequence[Graph]) -> Graph:
    """Graphs side by side as one graph.

    Args:
        graphs: At least one. Weights of edges are kept if all have them, signs are not.

    Returns:
        The nodes of the first graph, then those of the second, and so on, within each type; ``a`` of the first graph is
        called ``0|a``.

    Example:
        >>> edges = [("x", "a"), ("a", "y")]
        >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a"], output_nodes=["y"])
        >>> disjoint_union([graph, graph]).functions
        ('0|a', '1|a')
    """
    index: dict[tuple[str, str, str], list[Tensor]] = {kind: [] for kind in EDGE_TYPES}
    names: dict[str, list[str]] = {"input": [], "function": [], "output": []}
    for number, graph in enumerate(graphs):
        for kind in EDGE_TYPES:
            offset = torch.tensor([[len(names[kind[0]])], [len(names[kind[2]])]])
            index[kind].append(graph.edge_index_dict[kind] + offset)
        for type_, some in graph.node_names_dict.items():
            names[type_] += [f"{number}|{name}" for name in some]
    weights = [graph.edge_weight_dict for graph in graphs]
    joined = None
    if all(some is not None for some in weights):
        joined = {kind: torch.cat([some[kind] for some in weights if some is not None]) for kind in EDGE_TYPES}
    return Graph({kind: torch.cat(parts, dim=1) for kind, parts in index.items()}, names, joined)


def can_unite(model: nn.Module) -> bool:
    """Whether copies of a model can stand side by side: not if functions share weights (node MLP, nonlinearity)."""
    if not isinstance(model, GSNN) or model.options["node_mlp"] or model.options["node_attn"]:
        return False
    return not any(".nonlin." in name for name, _ in model.named_parameters())


def split_union(model: GSNN, graphs: Sequence[Graph]) -> list[GSNN]:
    """The models that a model of a disjoint union is made of.

    Args:
        model: Of ``disjoint_union(graphs)``. Its copies have all weights of their own but the L weights of the residual
            connections, which they share.
        graphs: The graphs, with equally many functions each.

    Returns:
        A model of each graph, in eval mode; its predictions are those of the union, bit for bit.

    Raises:
        ValueError: If the model does not fit the graphs.
    """
    size = graphs[0].N
    if any(graph.N != size for graph in graphs) or model.N != size * len(graphs) or not can_unite(model):
        raise ValueError(f"model must be a GSNN of the disjoint union of {len(graphs)} graphs of {size} functions")
    channels = model.channels if isinstance(model.channels, int) else list(model.channels)
    options = {name: value for name, value in model.options.items() if name != "layers"}
    target, source = model.layout.target_functions(), model.layout.source_functions()
    of_edge = torch.where(target >= 0, target, source) // size
    of_node = torch.arange(model.N) // size
    of_channel = of_node[model.channel_node.cpu()]
    first = model.blocks[0]
    of_value = {name: of_edge[getattr(first, name).pattern.positions()[0]] for name in ("lin_in", "lin_out")}
    rows = {"lin_in.bias": of_channel, "lin_out.bias": of_edge}
    rows |= {f"{name}.weight": value for name, value in of_value.items()}
    state, parts = model.state_dict(), []
    for number, graph in enumerate(graphs):
        own = channels if isinstance(channels, int) else channels[number * size : (number + 1) * size]
        with own_random_state():  # its first weights are replaced
            part = GSNN.from_graph(graph, own, model.L, **options)
        values = {}
        for name, value in part.state_dict().items():
            _, _, kind = name.removeprefix("blocks.").partition(".")
            whole = state[name]
            if whole.ndim == 0:
                values[name] = whole
                continue
            of = rows.get(kind)
            if of is None:
                of = of_edge if kind.startswith("edge_norm.") else of_node if len(whole) == model.N else of_channel
            values[name] = whole[of == number].view_as(value)
        part.to(model.dtype).load_state_dict(values)
        parts.append(part.eval())
    return parts
