"""One residual block and its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from gsnn.nn.between import Between, between
from gsnn.nn.dropout import Key, KeyedDropout
from gsnn.nn.maps import to_channels, to_edges
from gsnn.nn.norms import ChannelGroups, Memo
from gsnn.nn.research_blocks import ResearchBlock
from gsnn.nn.sparse import EdgeChannelPattern

Tap = Callable[[int, Tensor], Tensor | None]
"""Called with the number of the block and the tensor; may return a tensor that replaces it."""


class Recorder:
    """A tap that keeps the tensors and changes nothing, so that compiled kernels can serve it.

    Attributes:
        values: (N*C, B) of each block, in their order.
        handles: For each block a tensor of the graph; the gradient by it is the gradient by the value.
    """

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.handles: list[Tensor] = []

    def __call__(self, layer: int, value: Tensor) -> Tensor:
        """Keep the value of a block."""
        if not value.requires_grad:
            # The first tap may not depend on anything that takes a gradient; all later ones depend on it.
            value = value.detach().requires_grad_()
        self.take([value], [value])
        return value

    def take(self, values: list[Tensor], handles: list[Tensor]) -> None:
        """Keep the values of some blocks."""
        self.values += values
        self.handles += handles


class SparseLinear(nn.Module):
    """A sparse linear map between edges and channels, with one weight per nonzero of its pattern.

    Args:
        pattern: Where the nonzeros are.
        weight: (nnz,) initial weights, edge-major, channel-minor.
        into_channels: True maps edges (E, B) to channels (N*C, B), False the other way.
        bias: Whether one bias is added to each row of the result; it starts at 0.
    """

    kept: Tensor | None

    def __init__(self, pattern: EdgeChannelPattern, weight: Tensor, *, into_channels: bool, bias: bool) -> None:
        super().__init__()
        self.pattern = pattern
        self.into_channels = into_channels
        self.weight = nn.Parameter(weight)
        rows = pattern.n_channels if into_channels else pattern.n_edges
        self.bias = nn.Parameter(torch.zeros(rows)) if bias else None
        # bool (nnz,) of the weights that pruning kept, None before: only pruned layers have it in their state dict.
        self.register_buffer("kept", None)
        self.register_state_dict_pre_hook(_zero_pruned)

    def forward(self, x: Tensor, detach: bool = False) -> Tensor:
        """Apply the map; ``detach`` cuts the gradient of weight and bias, not that of ``x``."""
        weight, bias = self.coefficients(detach)
        out = to_channels(self.pattern, weight, x) if self.into_channels else to_edges(self.pattern, weight, x)
        return out if bias is None else out + bias.unsqueeze(1)

    def coefficients(self, detach: bool = False) -> tuple[Tensor, Tensor | None]:
        """The weights (nnz,), pruned ones as zero, and the bias; ``detach`` cuts their gradient."""
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        if detach:
            weight, bias = weight.detach(), None if bias is None else bias.detach()
        return (weight if self.kept is None else weight * self.kept), bias

    def prune(self, keep: Tensor) -> None:
        """Fix at zero, now and in later training, every weight that is not in ``keep`` (bool, (nnz,))."""
        self.kept = keep if self.kept is None else self.kept & keep
        _zero_pruned(self)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        """Take the weights and the mask of pruned ones, so that the map becomes the one that was saved."""
        mask, weight = state_dict.get(f"{prefix}kept"), state_dict.get(f"{prefix}weight")
        if mask is not None and self.kept is None:
            self.kept = torch.ones_like(self.weight, dtype=torch.bool)
        if mask is None and weight is not None and self.kept is not None and weight.shape == self.kept.shape:
            # Saved before pruning; if the weights are 0 wherever these are pruned, they may stay pruned.
            if bool((weight.to(self.kept.device) * ~self.kept).any()):
                self.kept = None
        super()._load_from_state_dict(state_dict, prefix, *args)
        missing_keys: list[str] = args[2]
        if mask is None and f"{prefix}kept" in missing_keys:
            missing_keys.remove(f"{prefix}kept")

    def extra_repr(self) -> str:
        """Sizes for ``repr``."""
        sizes = (self.pattern.n_edges, self.pattern.n_channels)
        inner, outer = sizes if self.into_channels else sizes[::-1]
        return f"{inner} -> {outer}, nnz={self.weight.numel()}, bias={self.bias is not None}"


def _zero_pruned(layer: SparseLinear, *_: object) -> None:
    # An optimiser with gradients from before the pruning still changes the stored numbers (but never the map).
    if layer.kept is not None:
        with torch.no_grad():
            layer.weight.data.mul_(layer.kept)


class NodeMLP(nn.Module):
    """Linear-LayerNorm-nonlin-Dropout-Linear-Dropout over the channels of a node, one module for all nodes."""

    def __init__(self, width: int, hidden: int, dropout: float, nonlin: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.LayerNorm(hidden),
            nonlin(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )

    def forward(self, h: Tensor) -> Tensor:
        """(N*C, B) -> (N*C, B)."""
        rows = h.view(-1, self.width, h.shape[1]).transpose(1, 2)
        return self.mlp(rows).transpose(1, 2).flatten(0, 1)


class NodeAttention(nn.Module):
    """One logit per node and sample from the node's channels, one module for all nodes.

    With edge weights, a node's logit is the sum of weight x source logit over its function -> function in-edges.

    Args:
        width: C, the number of channels of a node.
        hidden: Width of the hidden layer.
        edges: int64 (2, E_ff) function -> function edges with ``weights``, or None.
        weights: float (E_ff,) or None.
    """

    edges: Tensor | None
    weights: Tensor | None

    def __init__(self, width: int, hidden: int, edges: Tensor | None, weights: Tensor | None) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ELU(), nn.LayerNorm(hidden), nn.Linear(hidden, 1))
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """(N*C, B) -> logits (N, B)."""
        logit = self.mlp(h.view(-1, self.width, h.shape[1]).transpose(1, 2)).squeeze(-1)
        if self.edges is None or self.weights is None:
            return logit
        sent = logit.index_select(0, self.edges[0]) * self.weights.to(logit.dtype).unsqueeze(1)
        return torch.zeros_like(logit).index_add(0, self.edges[1], sent)


class Block(ResearchBlock, nn.Module):
    """Edges -> channels -> nonlinearity -> edges, with a residual connection.

    [edge norm] -> lin_in -> [+ node error] -> pre tap -> norm and nonlinearity -> dropout -> [node MLP] ->
    [node attention] -> post tap -> [* node mask] -> lin_out -> [+ relu(residual_weight) * input].

    ``pre_tap`` and ``post_tap`` are identities through which the tensors (N*C, B) pass, so that ordinary forward hooks
    can read them.
    """

    def __init__(
        self,
        lin_in: SparseLinear,
        lin_out: SparseLinear,
        groups: ChannelGroups,
        *,
        edge_norm: nn.Module | None,
        norm: nn.Module,
        nonlin: Callable[[], nn.Module],
        dropout: float,
        norm_first: bool,
        residual: bool,
        mlp: NodeMLP | None,
        node_attn: NodeAttention | None,
    ) -> None:
        super().__init__()
        self.lin_in, self.lin_out = lin_in, lin_out
        self.edge_norm, self.norm = edge_norm, norm
        self.groups = groups
        self.norm_first = norm_first
        self.nonlin = nonlin()
        self.dropout = KeyedDropout(dropout)
        self.mlp, self.node_attn = mlp, node_attn
        self.residual_weight = nn.Parameter(torch.ones(())) if residual else None
        self.pre_tap, self.post_tap = nn.Identity(), nn.Identity()

    def forward(
        self,
        x: Tensor,
        layer: int = 0,
        *,
        node_mask: Tensor | None = None,
        node_err: Tensor | None = None,
        pre: Tap | None = None,
        post: Tap | None = None,
        logits: Tap | None = None,
        detach: bool = False,
        memo: Memo | None = None,
        key: Key | None = None,
    ) -> Tensor:
        """Edge state (E, B) -> edge state (E, B).

        Args:
            x: (E, B) edge state.
            layer: The number of this block, handed to the taps.
            node_mask: (N*C, B) or (N*C, 1) factors of the channels.
            node_err: (N*C, B) added before the pre tap.
            pre: Called with (layer, z) at the pre tap; a tensor it returns replaces z.
            post: Called with (layer, h) at the post tap; likewise.
            logits: Called with (layer, logits (N, B)) of the node attention; likewise.
            detach: Whether the weights of the sparse maps take no gradient.
            memo: What a recomputation must know about its forward pass.
            key: From which the dropout's mask follows; None draws one.
        """
        edges = x if self.edge_norm is None else self.edge_norm(x, memo)
        z = self.lin_in(edges, detach)
        if node_err is not None:
            z = z + node_err
        z = self.pre_tap(_through(pre, layer, z))
        h = self.nonlin(self.norm(z, memo)) if self.norm_first else self.norm(self.nonlin(z), memo)
        h = self.dropout(h, key, layer) if type(self.dropout) is KeyedDropout else self.dropout(h)
        if self.mlp is not None:
            h = self.mlp(h)
        if self.node_attn is not None:
            logit = _through(logits, layer, self.node_attn(h))
            h = h * self.groups.expand(torch.sigmoid(logit)).to(h.dtype)
        h = self.post_tap(_through(post, layer, h))
        if node_mask is not None:
            h = h * node_mask
        out = self.lin_out(h, detach)
        if self.residual_weight is not None:
            out = torch.addcmul(out, torch.relu(self.residual_weight), x)
        return out

    def parameters_in_order(self, detach: bool) -> list[Tensor | None]:
        """Weight and bias of lin_in, weight and bias of lin_out, and the residual weight, as they act."""
        return [*self.lin_in.coefficients(detach), *self.lin_out.coefficients(detach), self.residual_weight]

    @property
    def drops(self) -> float:
        """Share of values that the dropout drops in its present mode."""
        dropout = self.dropout
        return float(dropout.p) if type(dropout) is KeyedDropout and dropout.training else 0.0

    def between(self, into: EdgeChannelPattern, out_of: EdgeChannelPattern, key: int) -> Between | None:
        """Norm, ELU and dropout between the two maps, if the block has nothing else and no hooks.

        The layers must be exactly those of this package and of torch: a subclass, a parametrisation (which makes one)
        or another module may compute anything, and a hook or a ``forward`` set on a layer must be called.

        Args:
            into: The pattern that lin_in must have.
            out_of: The pattern that lin_out must have.
            key: From which the dropout's mask follows.

        Returns:
            None if the block must be computed step by step.
        """
        # Looked up once, because a module searches its dicts for an attribute.
        parts = self._modules
        nonlin, norm = parts["nonlin"], parts["norm"]
        plain = (
            type(self) is Block
            and type(nonlin) is nn.ELU
            and nonlin.alpha == 1.0
            and type(parts["dropout"]) is KeyedDropout
            and _is_map(parts["lin_in"], into, into_channels=True)
            and _is_map(parts["lin_out"], out_of, into_channels=False)
            and type(parts["pre_tap"]) is nn.Identity
            and type(parts["post_tap"]) is nn.Identity
            and self.edge_norm is None
            and self.mlp is None
            and self.node_attn is None
            and not torch_module._has_any_global_hook()
            and not _is_hooked(self)
            and not any(_is_hooked(part) for part in parts.values() if part is not None)
        )
        return between(norm, self.norm_first, self.drops, key) if plain and norm is not None else None


def _is_map(layer: nn.Module | None, pattern: EdgeChannelPattern, *, into_channels: bool) -> bool:
    return type(layer) is SparseLinear and layer.pattern is pattern and layer.into_channels is into_channels


def _is_hooked(module: nn.Module) -> bool:
    """Whether calling the module does more than its class says."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


def _through(tap: Tap | None, layer: int, value: Tensor) -> Tensor:
    if tap is None:
        return value
    replacement = tap(layer, value)
    return value if replacement is None else replacement
