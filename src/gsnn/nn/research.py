"""Checkpoints of the method's research code: translate its keys and orders into ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from gsnn.base.errors import DataError
from gsnn.base.torch_state import own_random_state
from gsnn.nn.block import Block, NodeAttention, NodeMLP, SparseLinear
from gsnn.nn.config import Described

_MASKS = ("input_node_mask", "output_node_mask", "function_edge_mask", "input_edge_mask", "output_edge_mask")
_MAPS = ("lin_in", "lin_out")


class _Problems:
    """Collects everything that is wrong with a file, for one error."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.misshaped: list[str] = []
        self.different: list[str] = []

    def raise_if_any(self) -> None:
        """Raise a DataError if anything is wrong."""
        parts = [
            f"{label}: {', '.join(sorted(dict.fromkeys(keys)))}"
            for label, keys in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("wrong shape", self.misshaped),
                ("does not match this model", self.different),
            )
            if keys
        ]
        if parts:
            raise DataError("this state dict does not fit the model; " + "; ".join(parts))


def load_research_state_dict(model: Described, state_dict: Mapping[str, Tensor]) -> None:
    """Check every entry, then take them all; see ``GSNN.load_research_state_dict``."""
    stored = {key: torch.as_tensor(value).detach().cpu() for key, value in state_dict.items()}
    problems = _Problems()
    used = _check_optional(model, stored, problems)
    order = _edge_order(model, stored, problems)
    new: dict[str, Tensor] = {}
    for number, block in enumerate(model.blocks):
        for name in _MAPS:
            prefix = f"ResBlocks.{number}.{name}"
            used |= {f"{prefix}.{leaf}" for leaf in ("values", "indices")}
            weight = _sparse_weight(getattr(block, name), stored, prefix, order, problems)
            if weight is not None:
                new[f"blocks.{number}.{name}.weight"] = weight
    replaced = _resized(model, stored)
    for key, (theirs, shape) in _plain_entries(model, replaced).items():
        used.add(theirs)
        if theirs not in stored:
            if not key.endswith("num_batches_tracked"):
                problems.missing.append(theirs)
        elif _squeezed(stored[theirs].shape) != _squeezed(shape):
            problems.misshaped.append(f"{theirs} {tuple(stored[theirs].shape)} (expected {tuple(shape)})")
        else:
            value = stored[theirs].reshape(shape)
            new[key] = value[_edge_inverse(order)] if _runs_over_edges(key) and order is not None else value
    problems.unexpected += [key for key in stored if key not in used]
    _check_shared(model, new, problems)
    problems.raise_if_any()
    for module_name, module in replaced.items():
        block_name, _, leaf = module_name.rpartition(".")
        setattr(model.get_submodule(block_name), leaf, module.to(model.edge_index.device, model.dtype))
    for kind, option in ((NodeMLP, "node_mlp_hidden"), (NodeAttention, "node_attn_hidden")):
        widths = [module.mlp[0].out_features for module in replaced.values() if isinstance(module, kind)]
        model.options[option] = widths[0] if widths else model.options[option]
    model.load_state_dict({**model.state_dict(), **new})


def _sparse_weight(
    layer: SparseLinear, stored: Mapping[str, Tensor], prefix: str, order: Tensor | None, problems: _Problems
) -> Tensor | None:
    """The weights in our order, or None after noting the problem."""
    values, indices = stored.get(f"{prefix}.values"), stored.get(f"{prefix}.indices")
    absent = [f"{prefix}.{leaf}" for leaf, entry in (("values", values), ("indices", indices)) if entry is None]
    problems.missing += absent
    if values is None or indices is None:
        return None
    nnz = layer.pattern.nnz
    if _squeezed(values.shape) != _squeezed((nnz,)):
        problems.misshaped.append(f"{prefix}.values {tuple(values.shape)} (expected ({nnz},))")
    if tuple(indices.shape) != (2, nnz):
        problems.misshaped.append(f"{prefix}.indices {tuple(indices.shape)} (expected (2, {nnz}))")
    if values.numel() != nnz or tuple(indices.shape) != (2, nnz) or order is None:
        return None
    place = _places(layer, indices, order)
    if place is None:
        problems.different.append(f"{prefix}.indices")
        return None
    return values.reshape(-1)[place]


def _places(layer: SparseLinear, indices: Tensor, order: Tensor) -> Tensor | None:
    """int64 (nnz,): the position in the file of each of our weights; None if the patterns differ."""
    pattern = layer.pattern
    edge, channel = (indices if layer.into_channels else indices.flip(0)).long()
    inside = (edge >= 0) & (edge < pattern.n_edges) & (channel >= 0) & (channel < pattern.n_channels)
    if not bool(inside.all()):
        return None
    theirs, place = torch.sort(order[edge] * pattern.n_channels + channel)
    our_edge, our_channel = pattern.positions()
    return place if torch.equal(theirs, our_edge * pattern.n_channels + our_channel) else None


def _edge_order(model: Described, stored: Mapping[str, Tensor], problems: _Problems) -> Tensor | None:
    """int64 (E,): our number of each edge of the file."""
    edges = stored.get("edge_index")
    if edges is None:
        return _positional_order(model, stored)
    ours = model.layout.edge_index
    if tuple(edges.shape) != tuple(ours.shape):
        problems.misshaped.append(f"edge_index {tuple(edges.shape)} (expected {tuple(ours.shape)})")
        return None
    n_nodes = model.N + model.I + model.O
    # Sorting is stable, so the k-th of several parallel edges meets our k-th.
    theirs_sorted, their_place = torch.sort(edges[0].long() * n_nodes + edges[1].long(), stable=True)
    ours_sorted, our_place = torch.sort(ours[0] * n_nodes + ours[1], stable=True)
    if not torch.equal(theirs_sorted, ours_sorted):
        problems.different.append("edge_index (other edges than those of the model)")
        return None
    return torch.empty_like(our_place).scatter_(0, their_place, our_place)


def _positional_order(model: Described, stored: Mapping[str, Tensor]) -> Tensor:
    """The same order as ours, or copies of the edges block after block if the indices show it."""
    identity = torch.arange(model.E)
    copies, n_function = model.layout.edge_channels, model.layout.counts[0]
    tiled = identity.clone()
    tiled[:n_function] = identity[:n_function].view(-1, copies).t().flatten()
    for order in (identity, tiled) if copies > 1 else ():
        fits = True
        for name in _MAPS:
            layer, indices = getattr(model.blocks[0], name), stored.get(f"ResBlocks.0.{name}.indices")
            fits &= indices is not None and tuple(indices.shape) == (2, layer.pattern.nnz)
            fits = fits and indices is not None and _places(layer, indices, order) is not None
        if fits:
            return order
    return identity


def _plain_entries(model: Described, replaced: Mapping[str, nn.Module]) -> dict[str, tuple[str, torch.Size]]:
    """Our key -> (their key, shape) of every entry that needs no reordering by indices."""
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    for name, module in replaced.items():
        shapes |= {f"{name}.{key}": value.shape for key, value in module.state_dict().items()}
    entries = {}
    for key, shape in shapes.items():
        if not key.endswith((".lin_in.weight", ".lin_out.weight")):
            theirs = key.replace("blocks.", "ResBlocks.", 1).replace(".edge_norm.", "._edge_norm.")
            entries[key] = (theirs, shape)
    return entries


def _resized(model: Described, stored: Mapping[str, Tensor]) -> dict[str, nn.Module]:
    """New node MLP and attention modules where the file has another hidden width."""
    replaced: dict[str, nn.Module] = {}
    with own_random_state(), torch.inference_mode(False):
        for number, block in enumerate(model.blocks):
            assert isinstance(block, Block)
            for name in ("mlp", "node_attn"):
                module = getattr(block, name)
                # All blocks get the width of the first, so that a file with mixed widths counts as mis-shaped.
                first = stored.get(f"ResBlocks.0.{name}.mlp.0.weight")
                if module is None or first is None or first.ndim != 2 or len(first) in (0, module.mlp[0].out_features):
                    continue
                options = model.options
                replaced[f"blocks.{number}.{name}"] = (
                    NodeMLP(module.width, len(first), options["dropout"], options["nonlin"])
                    if name == "mlp"
                    else NodeAttention(module.width, len(first), module.edges, module.weights)
                )
    return replaced


def _check_optional(model: Described, stored: Mapping[str, Tensor], problems: _Problems) -> set[str]:
    """The keys of entries that only repeat what the model knows, after comparing them with it."""
    layout = model.layout
    used = {"edge_index"} if "edge_index" in stored else set()
    edges = stored.get("edge_index", layout.edge_index)
    node = torch.arange(model.N + model.I + model.O)
    source, target = (edges[0], edges[1]) if edges.ndim == 2 and len(edges) == 2 else layout.edge_index
    inner = (source < model.N) & (target < model.N)
    expected = {
        "input_node_mask": [(node >= model.N) & (node < model.N + model.I)],
        "output_node_mask": [node >= model.N + model.I],
        "function_edge_mask": [inner, inner & (torch.arange(len(source)) < layout.counts[0])],
        "input_edge_mask": [(source >= model.N) & (source < model.N + model.I)],
        "output_edge_mask": [target >= model.N + model.I],
    }
    for key in _MASKS:
        if key in stored:
            used.add(key)
            _compare(key, stored[key], expected[key], problems)
    sizes = model.groups.sizes.cpu()
    for key, value in stored.items():
        if key.endswith(".channel_groups"):
            used.add(key)
            _compare(key, value, [model.channel_node.cpu()], problems)
        elif key.endswith("norm.n_channels"):
            used.add(key)
            _compare(key, value, [sizes, sizes[:1]] if isinstance(model.channels, int) else [sizes], problems)
        elif key.endswith(".num_batches_tracked"):
            used.add(key)
        elif key.endswith(".residual_weight") and not model.options["residual"]:
            used.add(key)
    return used


def _compare(key: str, value: Tensor, options: Iterable[Tensor], problems: _Problems) -> None:
    options = list(options)
    fitting = [option for option in options if option.numel() == value.numel()]
    if not fitting:
        problems.misshaped.append(f"{key} {tuple(value.shape)} (expected {tuple(options[0].shape)})")
    elif not any(torch.equal(value.reshape(-1).to(option.dtype), option) for option in fitting):
        problems.different.append(key)


def _check_shared(model: Described, new: Mapping[str, Tensor], problems: _Problems) -> None:
    """Layers that the model shares must be the same under every block of the file."""
    if not model.options["share_layers"]:
        return
    for key, value in new.items():
        block, _, leaf = key.removeprefix("blocks.").partition(".")
        first = new.get(f"blocks.0.{leaf}")
        if leaf.startswith(_MAPS) and first is not None and not torch.equal(value, first):
            leaf = leaf.replace(".weight", ".values")
            problems.different.append(f"ResBlocks.{block}.{leaf} (differs from block 0, but share_layers=True)")


def _runs_over_edges(key: str) -> bool:
    return key.endswith(".lin_out.bias") or (".edge_norm." in key and not key.endswith("num_batches_tracked"))


def _edge_inverse(order: Tensor) -> Tensor:
    return torch.empty_like(order).scatter_(0, order, torch.arange(order.numel()))


def _squeezed(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
