"""All blocks of a model as one node of the autograd graph, from input edges to output edges."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gsnn.nn.between import Between
from gsnn.nn.fast.compiled import Plan, available
from gsnn.nn.held import Held
from gsnn.nn.maps import remember_signature, to_channels, to_edges
from gsnn.nn.sparse import EdgeChannelPattern

ELU_CHUNK = 2**18
"""Numbers that the ELU takes at a time, so that they stay in the cache for all of its passes."""

PER_BLOCK = 5
"""Parameters of a block: weight and bias of lin_in, weight and bias of lin_out, residual weight."""


@dataclass(frozen=True)
class Span:
    """A range of the edges, and the part of a map that belongs to it.

    Attributes:
        pattern: The pattern of these edges alone.
        edges: Their positions among all edges.
        values: The positions of their weights among all weights of the map.
    """

    pattern: EdgeChannelPattern
    edges: slice
    values: slice


def span(edge_function: Tensor, channels: Tensor, edges: slice) -> Span:
    """Restrict a map to a range of the edges; the first two arguments are those of its pattern."""
    width = torch.where(edge_function >= 0, channels[edge_function.clamp(min=0)], 0)
    values = slice(int(width[: edges.start].sum()), int(width[: edges.stop].sum()))
    return Span(EdgeChannelPattern(edge_function[edges], channels), edges, values)


@dataclass(frozen=True, eq=False)
class Stack:
    """The maps of a model.

    Before the first block only edges out of inputs are not 0, and after the last one only edges into outputs are read;
    the first lin_in and the last lin_out are computed for these edges alone. The states of the other edges after the
    last block would have no effect, and the gradient of their weights is 0.

    Attributes:
        lin_in: Which edge meets which channels in lin_in.
        lin_out: Which edge meets which channels in lin_out.
        target: int64 (E,), the function each edge ends in, or -1.
        source: int64 (E,), the function each edge starts in, or -1.
        channels: int64 (N,), the number of channels of each function.
        inputs: The edges that start in inputs.
        outputs: The edges that end in outputs.
        layers: L.
    """

    lin_in: EdgeChannelPattern
    lin_out: EdgeChannelPattern
    target: Tensor
    source: Tensor
    channels: Tensor
    inputs: slice
    outputs: slice
    layers: int
    _plans: dict[bool, Plan] = field(default_factory=dict, repr=False)

    def ends(self, block: int) -> tuple[Span, Span]:
        """The edges that a block reads and writes."""
        last = block == self.layers - 1
        return self.first if block == 0 else self.whole_in, self.last if last else self.whole_out

    @functools.cached_property
    def first(self) -> Span:
        """The part of lin_in for the edges that start in inputs."""
        return span(self.target, self.channels, self.inputs)

    @functools.cached_property
    def last(self) -> Span:
        """The part of lin_out for the edges that end in outputs."""
        return span(self.source, self.channels, self.outputs)

    @functools.cached_property
    def whole_in(self) -> Span:
        """All edges in lin_in."""
        return Span(self.lin_in, slice(0, self.lin_in.n_edges), slice(0, self.lin_in.nnz))

    @functools.cached_property
    def whole_out(self) -> Span:
        """All edges in lin_out."""
        return Span(self.lin_out, slice(0, self.lin_out.n_edges), slice(0, self.lin_out.nnz))

    def plan(self, everything: bool) -> Plan:
        """The maps for the compiled kernels; ``everything`` includes the functions that reach no output."""
        if everything not in self._plans:
            ends = self.inputs, self.outputs
            self._plans[everything] = Plan.build(self.target, self.source, self.channels, ends, self.layers, everything)
        return self._plans[everything]


Tapped = tuple[list[Tensor], list[Tensor]]
"""At the same tap of all blocks the channels (N*C, B), not part of the graph, and probes to differentiate by."""


def elu_stack(stack: Stack, x: Tensor, parameters: list[Tensor | None]) -> Tensor:
    """Blocks of lin_out(ELU(lin_in(x))) + relu(residual) * x on a CPU, differentiable any number of times.

    Biases, ELU and residual are computed in place, and only the edge state before each block and the channels after its
    ELU, which also give its derivative, are kept for the backward pass. In single precision compiled kernels do it, if
    numba is installed. Up to rounding the result is that of the maps and ``torch`` step by step.

    Args:
        stack: The maps.
        x: State of the edges that start in inputs, (edges, B).
        parameters: For each block weight and bias of lin_in, weight and bias of lin_out and the weight () of the
            residual connection; a bias may be None, and the last is None without such a connection.

    Returns:
        State of the edges that end in outputs, (edges, B).
    """
    if compilable(x):
        return compiled_stack(stack, x, [Between()] * stack.layers, parameters)[0]
    return _EluStack.apply(stack, x, *parameters)[0]


def compilable(x: Tensor) -> bool:
    """Whether the compiled kernels can take the state."""
    return x.dtype == torch.float32 and x.numel() > 0 and available()


def compiled_stack(
    stack: Stack,
    x: Tensor,
    blocks: Sequence[Between],
    parameters: Sequence[Tensor | None],
    *,
    taps: bool = False,
    held: Held | None = None,
) -> tuple[Tensor, Tapped, Tapped]:
    """Blocks of lin_out(between(lin_in(x))) + relu(residual) * x by compiled kernels, differentiable many times.

    Norms update their running statistics. The edge states before the blocks are kept for the backward pass, and the
    channels before a norm or, without one, after the dropout.

    Args:
        stack: The maps.
        x: As in :func:`elu_stack`.
        blocks: Norm, ELU and dropout of each block.
        parameters: As in :func:`elu_stack`.
        taps: Whether to return the channels, and probes to differentiate by them.
        held: Edge states to set after each block; only without gradients.

    Returns:
        State of the edges that end in outputs, (edges, B); what is at the taps before norm and ELU, and after the
        dropout.
    """
    plan = stack.plan(taps or any(between.of_batch for between in blocks))
    probes: list[Tensor] = []
    if taps:
        zeros = x.new_zeros(()).expand(plan.n_channels, x.shape[1])
        probes = [zeros.detach().requires_grad_() for _ in range(2 * stack.layers)]
    affine = [value for between in blocks for value in between.affine]
    keep, samples = torch.is_grad_enabled(), x.shape[1]
    if keep:
        out, own, seen = _CompiledStack.apply(stack, plan, tuple(blocks), x, *parameters, *affine, *probes)
    else:
        out, *memory = plan.forward(x, blocks, _by_block(parameters), _pairs(affine), keep=False, taps=taps, held=held)
        own, seen = map(torch.from_numpy, memory)
    if any(between.of_batch for between in blocks):
        for between, moments in zip(blocks, plan.moments(own, blocks, samples, keep, taps), strict=True):
            between.follow(moments, samples)
    if not taps:
        return out, ([], []), ([], [])
    channels = list(seen.view(len(probes), plan.n_channels, -1)[..., :samples])
    return out, (channels[: stack.layers], probes[::2]), (channels[stack.layers :], probes[1::2])


def step_by_step(
    stack: Stack,
    x: Tensor,
    *parameters: Any,  # noqa: ANN401 - tensors, or None
    blocks: Sequence[Between] | None = None,
    affine: Sequence[Tensor | None] = (),
    probes: Sequence[Tensor] = (),
) -> Tensor:
    """The same as :func:`compiled_stack`, one differentiable operation after the other over all edges."""
    edges = stack.inputs
    state = F.pad(x, (0, 0, edges.start, stack.lin_in.n_edges - edges.stop))
    for block in range(stack.layers):
        weight_in, bias_in, weight_out, bias_out, residual = _of_block(parameters, block)
        z = to_channels(stack.lin_in, weight_in, state)
        z = z if bias_in is None else z + bias_in.unsqueeze(1)
        z = z + probes[2 * block] if probes else z
        h = F.elu(z) if blocks is None else blocks[block].step(z, affine[2 * block], affine[2 * block + 1], block)
        h = h + probes[2 * block + 1] if probes else h
        out = to_edges(stack.lin_out, weight_out, h)
        out = out if bias_out is None else out + bias_out.unsqueeze(1)
        state = out if residual is None else out + torch.relu(residual) * state
    return state[stack.outputs]


@remember_signature
class _EluStack(torch.autograd.Function):
    """Returns the state, and for the backward pass the states before the blocks and the channels in them."""

    @staticmethod
    def forward(stack: Stack, x: Tensor, *parameters: Tensor | None) -> tuple[Tensor, ...]:
        state = x.contiguous()
        states, channels = [], []
        for block in range(stack.layers):
            weight_in, bias_in, weight_out, bias_out, residual = _of_block(parameters, block)
            read, written = stack.ends(block)
            hidden = read.pattern.to_channels(_part(weight_in, read.values), state)
            if bias_in is not None:
                hidden.add_(bias_in.unsqueeze(1))
            elu_(hidden)
            out = written.pattern.to_edges(_part(weight_out, written.values), hidden)
            if bias_out is not None:
                out.add_(_part(bias_out, written.edges).unsqueeze(1))
            _add_overlap(out, written.edges, state, read.edges, _scale(residual))
            states.append(state)
            channels.append(hidden)
            state = out
        return state, *states[1:], *channels

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ANN401
        ctx.stack, x, *parameters = inputs
        ctx.blocks = len(parameters) // PER_BLOCK
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *parameters, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        needed, stack = ctx.needs_input_grad[1:], ctx.stack
        if grad is None:
            return None, *(None for _ in needed)
        inputs, kept = ctx.saved_tensors[: len(needed)], ctx.saved_tensors[len(needed) :]
        if torch.is_grad_enabled():
            return None, *_differentiable(grad, inputs, needed, lambda x, *rest: step_by_step(stack, x, *rest))
        states, channels = kept[: ctx.blocks - 1], kept[ctx.blocks - 1 :]
        below, by_parameters = _torch_gradients(stack, grad, inputs, (states, channels), needed)
        return None, below if needed[0] else None, *by_parameters


@remember_signature
class _CompiledStack(torch.autograd.Function):
    """Returns the state, and the two pieces of memory that the backward pass needs.

    After x come the parameters of the maps, scale and shift of the norm of each block, and two probes per block, if
    any.
    """

    @staticmethod
    def forward(
        stack: Stack, plan: Plan, blocks: tuple[Between, ...], x: Tensor, *rest: Tensor | None
    ) -> tuple[Tensor, ...]:
        parameters, affine, probes = _parts(rest, len(blocks))
        taps = bool(probes)
        out, *kept = plan.forward(x, blocks, _by_block(parameters), _pairs(affine), keep=True, taps=taps)
        return out, *map(torch.from_numpy, kept)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ANN401
        ctx.stack, ctx.plan, ctx.between, *tensors = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        stack, blocks, needed = ctx.stack, ctx.between, ctx.needs_input_grad[3:]
        others: tuple[None, ...] = (None, None, None)
        if grad is None:
            return *others, *(None for _ in needed)
        x, *rest = ctx.saved_tensors[: len(needed)]
        if torch.is_grad_enabled():

            def run(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401
                parameters, affine, probes = _parts(rest, len(blocks))
                return step_by_step(stack, x, *parameters, blocks=blocks, affine=affine, probes=probes)

            return *others, *_differentiable(grad, (x, *rest), needed, run)
        own, seen = ctx.saved_tensors[len(needed) :]
        kept = own.numpy(), seen.numpy()
        maps, norms, probes = _parts(needed[1:], len(blocks))
        both = [(*of_maps, *of_norm) for of_maps, of_norm in zip(_by_block(maps), _pairs(norms), strict=True)]
        taps = bool(probes)
        by_x, by_maps, by_affine, by_channels = ctx.plan.backward(grad, x, blocks, kept, needed[0], both, taps=taps)
        return *others, by_x, *by_maps, *by_affine, *by_channels


def _parts(values: Sequence[Any], layers: int) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """Parameters of the maps, scales and shifts, probes."""
    ends = PER_BLOCK * layers, (PER_BLOCK + 2) * layers
    return values[: ends[0]], values[ends[0] : ends[1]], values[ends[1] :]


def _pairs(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[at : at + 2] for at in range(0, len(values), 2)]


def _differentiable(
    grad: Tensor, inputs: Sequence[Any], needed: Sequence[bool], run: Callable[..., Tensor]
) -> list[Tensor | None]:
    """Gradients that will be differentiated again: autograd derives them from the separate steps."""
    # Each input is a view of its own, so that a weight that blocks share, or that x depends on, is not counted more
    # than once.
    inputs = [None if value is None else value.view_as(value) for value in inputs]
    by = [value for value, need in zip(inputs, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(run(*inputs), by, grad, create_graph=True, allow_unused=True))
    return [next(gradients) if need else None for need in needed]


def _torch_gradients(
    stack: Stack,
    grad: Tensor,
    inputs: Sequence[Any],
    kept: tuple[Sequence[Tensor], Sequence[Tensor]],
    needed: Sequence[bool],
) -> tuple[Tensor, list[Tensor | None]]:
    x, *parameters = inputs
    states, channels = (x.contiguous(), *kept[0]), kept[1]
    gradients: list[Tensor | None] = []
    below = grad.contiguous()
    for block in reversed(range(stack.layers)):
        go_on = any(needed[: 1 + PER_BLOCK * block])
        below, of_block = _backward_block(
            stack.ends(block),
            (states[block], channels[block]),
            _of_block(parameters, block),
            below,
            (go_on, *_of_block(needed[1:], block)),
        )
        gradients = of_block + gradients
        if not go_on:
            break
    return below, [None] * (len(parameters) - len(gradients)) + gradients


def _backward_block(
    ends: tuple[Span, Span],
    kept: tuple[Tensor, Tensor],
    parameters: Any,  # noqa: ANN401 - five tensors, some of which may be None
    grad: Tensor,
    needed: tuple[bool, ...],
) -> tuple[Tensor, list[Tensor | None]]:
    """Gradients by the input of a block (``grad`` if not needed) and by its five parameters (None if not needed)."""
    (read, written), (state, hidden) = ends, kept
    weight_in, _, weight_out, bias_out, residual = parameters
    need_state, need_weight_in, need_bias_in, need_weight_out, need_bias_out, need_residual = needed
    scale = _scale(residual)
    by: list[Tensor | None] = [None] * PER_BLOCK
    if need_weight_out:
        by[2] = _whole(written.pattern.sampled(grad, hidden), written.values, weight_out)
    if need_bias_out:
        by[3] = _whole(grad.sum(1), written.edges, bias_out)
    if need_residual:
        by[4] = _overlap_product(grad, written.edges, state, read.edges) if scale else torch.zeros_like(residual)
    if not (need_state or need_weight_in or need_bias_in):
        return grad, by
    inner = written.pattern.to_channels(_part(weight_out, written.values), grad)
    # True: from the result h of the ELU, whose derivative is h + 1 where h is negative.
    torch.ops.aten.elu_backward.grad_input(inner, 1.0, 1.0, 1.0, True, hidden, grad_input=inner)
    if need_weight_in:
        by[0] = _whole(read.pattern.sampled(state, inner), read.values, weight_in)
    if need_bias_in:
        by[1] = inner.sum(1)
    if not need_state:
        return grad, by
    below = read.pattern.to_edges(_part(weight_in, read.values), inner)
    _add_overlap(below, read.edges, grad, written.edges, scale)
    return below, by


def elu_(z: Tensor) -> Tensor:
    """ELU in place, within rounding of 1: max(z, 2^(min(z, 0) / ln 2) - 1), as exp(z) - 1 >= z everywhere.

    In single precision this is twice as fast as ``torch.nn.functional.elu_``, whose ``expm1`` keeps digits near 0 that
    the sums of the next map lose; double precision keeps them.

    Args:
        z: Contiguous, overwritten.

    Returns:
        ``z``.

    Example:
        >>> elu_(torch.tensor([-1.0, 0.0, 2.0]))
        tensor([-0.6321,  0.0000,  2.0000])
    """
    if z.dtype != torch.float32:
        return F.elu_(z)
    for part in z.view(-1).split(ELU_CHUNK):
        below = torch.mul(part, 1.0 / math.log(2.0)).clamp_(max=0.0).exp2_().sub_(1.0)
        torch.maximum(part, below, out=part)
    return z


def _of_block(values: Any, block: int) -> Any:  # noqa: ANN401 - a tuple or list of any kind
    return values[PER_BLOCK * block : PER_BLOCK * (block + 1)]


def _by_block(values: Sequence[Tensor | None]) -> list[Sequence[Tensor | None]]:
    return [_of_block(values, block) for block in range(len(values) // PER_BLOCK)]


def _scale(residual: Tensor | None) -> float:
    return 0.0 if residual is None else max(float(residual), 0.0)


def _common(a: slice, b: slice) -> tuple[slice, slice] | None:
    """The positions, in each of two ranges of edges, of the edges that both have."""
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    if start >= stop:
        return None
    return slice(start - a.start, stop - a.start), slice(start - b.start, stop - b.start)


def _part(tensor: Tensor, place: slice) -> Tensor:
    return tensor if place.stop - place.start == tensor.shape[0] else tensor[place]


def _add_overlap(out: Tensor, edges: slice, other: Tensor, other_edges: slice, scale: float) -> None:
    """Add scale * other to out, for the edges that both have."""
    common = _common(edges, other_edges)
    if scale and common:
        _part(out, common[0]).add_(_part(other, common[1]), alpha=scale)


def _overlap_product(a: Tensor, a_edges: slice, b: Tensor, b_edges: slice) -> Tensor:
    """Sum of a * b over the edges that both have and the batch."""
    common = _common(a_edges, b_edges)
    return a.new_zeros(()) if common is None else torch.dot(_part(a, common[0]).view(-1), _part(b, common[1]).view(-1))


def _whole(part: Tensor, place: slice, like: Tensor) -> Tensor:
    """The part at its place among zeros, or the part itself if it is the whole."""
    if part.shape == like.shape:
        return part
    whole = torch.zeros_like(like)
    whole[place] = part
    return whole
