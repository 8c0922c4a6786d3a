"""Looking into a GSNN: activations, attention, pruning, a readable summary."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gsnn.base.errors import unknown_option
from gsnn.nn.block import SparseLinear

if TYPE_CHECKING:
    from gsnn.nn.described import Described
    from gsnn.nn.model import GSNN

_AGGREGATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda stack: stack.sum(0),
    "mean": lambda stack: stack.mean(0),
    "max": lambda stack: stack.amax(0),
    "last": lambda stack: stack[-1],
    "all": lambda stack: stack,
}


def node_activations(model: GSNN, x: Tensor, agg: str) -> dict[str, Tensor]:
    """Channels of each function at the post tap over the layers; see ``GSNN.get_node_activations``."""
    if agg not in _AGGREGATES:
        raise unknown_option("agg", agg, _AGGREGATES)
    seen: list[Tensor] = []
    with evaluating(model):
        model.forward_with_taps(x, post=lambda _, h: seen.append(h))
    result = _AGGREGATES[agg](torch.stack(seen))
    parts = result.split(model.groups.sizes.tolist(), dim=-2)
    # 'all' is (L, C, B) per node, the others (C, B).
    return {
        name: part.permute(2, 0, 1).flatten(1) if agg == "all" else part.t()
        for name, part in zip(model.function_nodes, parts, strict=True)
    }


def node_attention(model: GSNN, x: Tensor) -> dict[str, Tensor]:
    """Attention logits (L, B) of each function; see ``GSNN.get_node_attention``."""
    if not model.options["node_attn"]:
        raise RuntimeError("this model has no node attention; build it with node_attn=True")
    seen: list[Tensor] = []
    with evaluating(model):
        model._run(x, logits=lambda _, logit: seen.append(logit))
    return dict(zip(model.function_nodes, torch.stack(seen, dim=1).unbind(0), strict=True))


def prune(model: GSNN, threshold: float) -> int:
    """Drop small sparse weights in every layer alike; see ``GSNN.prune``."""
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"threshold must be a number of at least 0, got {threshold!r}")
    dropped = 0
    for name in ("lin_in", "lin_out"):
        layers = list(dict.fromkeys(sparse_layers(model, name)))
        with torch.no_grad():
            largest = torch.stack([layer.weight.abs() for layer in layers]).amax(0)
            keep = ~(largest < threshold)
        before = layers[0].kept
        dropped += int((~keep if before is None else before & ~keep).sum())
        if bool(keep.all()):
            continue
        for layer in layers:
            layer.prune(keep)
    return dropped


def sparse_layers(model: Described, name: str) -> Iterator[SparseLinear]:
    """The map ``name`` of each block in turn."""
    for block in model.blocks:
        yield getattr(block, name)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every submodule is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def channels_text(model: Described) -> str:
    """The number of channels, or its range where functions differ."""
    channels = model.channels
    return str(channels) if isinstance(channels, int) else f"{min(channels)}..{max(channels)}"


class Text(str):
    """A string of several lines that a notebook shows as they are."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self)}</pre>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ANN401 - IPython's
        printer.text(str(self))


def summary(model: Described) -> str:
    """Sizes, options and parameter counts in a few aligned lines."""
    layout, options = model.layout, model.options
    ff, inputs, outputs, loops = layout.counts
    copies = f" ({layout.edge_channels} copies of each)" if layout.edge_channels > 1 else ""
    rows: list[tuple[str, str]] = [
        ("inputs", f"{model.I:,}"),
        ("functions", f"{model.N:,}"),
        ("outputs", f"{model.O:,}"),
        ("edges", f"{model.E:,}"),
        ("  function -> function", f"{ff:,}{copies}"),
        ("  input -> function", f"{inputs:,}"),
        ("  function -> output", f"{outputs:,}"),
        ("  self", f"{loops:,}"),
        ("channels per function", channels_text(model)),
        ("layers", f"{model.L} ({'shared' if options['share_layers'] else 'not shared'})"),
        ("norm", f"{model.norm} ({'before' if options['norm_first'] else 'after'} the nonlinearity)"),
        ("dtype", str(model.dtype).removeprefix("torch.")),
        ("parameters", f"{sum(p.numel() for p in model.parameters()):,}"),
    ]
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = ".".join(name.split(".")[2:3])
        counts[part] = counts.get(part, 0) + parameter.numel()
    rows += [(f"  {part}", f"{count:,}") for part, count in counts.items()]
    pruned = sum(
        int((~layer.kept).sum())
        for name in ("lin_in", "lin_out")
        for layer in dict.fromkeys(sparse_layers(model, name))
        if layer.kept is not None
    )
    if pruned:
        rows.append(("  of these pruned", f"{pruned:,}"))
    width = max(len(label) for label, _ in rows)
    return Text("\n".join(["GSNN", *(f"  {label:<{width}}  {value}" for label, value in rows)]))
