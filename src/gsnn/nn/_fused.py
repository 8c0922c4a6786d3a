"""A residual block without norm as one node of the autograd graph."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gsnn.nn._maps import remember_signature, to_channels, to_edges
from gsnn.nn._sparse import EdgeChannelPattern

ELU_CHUNK = 2**19
"""Numbers that the ELU takes at a time, so that its passes find them in the cache."""


def elu_block(
    pattern_in: EdgeChannelPattern,
    pattern_out: EdgeChannelPattern,
    x: Tensor,
    weight_in: Tensor,
    bias_in: Tensor | None,
    weight_out: Tensor,
    bias_out: Tensor | None,
    residual: Tensor | None,
) -> Tensor:
    """lin_out(ELU(lin_in(x))) + relu(residual) * x on a CPU, differentiable any number of times.

    Biases, ELU and residual are computed in place, and the backward pass keeps nothing but ``x`` and the channels after
    the ELU, which hold its derivative too. Up to rounding it is what the maps and ``torch`` give step by step.

    Args:
        pattern_in: Which edge meets which channels in lin_in.
        pattern_out: Likewise for lin_out.
        x: (E, B) edge state.
        weight_in: (nnz,) weights of lin_in.
        bias_in: (N*C,) or None.
        weight_out: (nnz,) weights of lin_out.
        bias_out: (E,) or None.
        residual: () weight of the residual connection, None where there is none.

    Returns:
        (E, B) edge state.
    """
    out, _ = _EluBlock.apply(  # type: ignore[no-untyped-call]
        pattern_in, pattern_out, x, weight_in, bias_in, weight_out, bias_out, residual
    )
    return out  # type: ignore[no-any-return]


def step_by_step(
    pattern_in: EdgeChannelPattern,
    pattern_out: EdgeChannelPattern,
    x: Tensor,
    weight_in: Tensor,
    bias_in: Tensor | None,
    weight_out: Tensor,
    bias_out: Tensor | None,
    residual: Tensor | None,
) -> Tensor:
    """The same as :func:`elu_block`, one differentiable operation after the other."""
    z = to_channels(pattern_in, weight_in, x)
    h = F.elu(z if bias_in is None else z + bias_in.unsqueeze(1))
    out = to_edges(pattern_out, weight_out, h)
    out = out if bias_out is None else out + bias_out.unsqueeze(1)
    return out if residual is None else out + torch.relu(residual) * x


@remember_signature
class _EluBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        pattern_in: EdgeChannelPattern,
        pattern_out: EdgeChannelPattern,
        x: Tensor,
        weight_in: Tensor,
        bias_in: Tensor | None,
        weight_out: Tensor,
        bias_out: Tensor | None,
        residual: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        hidden = pattern_in.to_channels(weight_in, x)
        if bias_in is not None:
            hidden.add_(bias_in.unsqueeze(1))
        elu_(hidden)
        out = pattern_out.to_edges(weight_out, hidden)
        if bias_out is not None:
            out.add_(bias_out.unsqueeze(1))
        scale = _scale(residual)
        return (out.add_(x, alpha=scale) if scale else out), hidden

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
        ctx.patterns = inputs[:2]
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[2:], output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        needed = ctx.needs_input_grad[2:]
        if grad is None:
            return (None,) * (2 + len(needed))
        *inputs, hidden = ctx.saved_tensors
        if torch.is_grad_enabled():
            # The result will be differentiated again: autograd writes it from the separate steps.
            # Aliases, because x may itself depend on the weights of an earlier block that shares them.
            inputs = [None if value is None else value.view_as(value) for value in inputs]
            asked = [value for value, need in zip(inputs, needed, strict=True) if need]
            found = iter(torch.autograd.grad(step_by_step(*ctx.patterns, *inputs), asked, grad, create_graph=True))
            return None, None, *(next(found) if need else None for need in needed)
        x, weight_in, _, weight_out, _, residual = inputs
        pattern_in, pattern_out = ctx.patterns
        need_x, need_weight_in, need_bias_in, need_weight_out, need_bias_out, need_residual = needed
        grad, scale = grad.contiguous(), _scale(residual)
        d_x = d_weight_in = d_bias_in = d_residual = None
        d_weight_out = pattern_out.sampled(grad, hidden) if need_weight_out else None
        d_bias_out = grad.sum(1) if need_bias_out else None
        if need_residual:
            d_residual = torch.dot(grad.view(-1), x.reshape(-1)) if scale else torch.zeros_like(residual)
        if need_x or need_weight_in or need_bias_in:
            inner = pattern_out.to_channels(weight_out, grad)
            # True: from the result h of the ELU, whose derivative is h + 1 where h is negative.
            torch.ops.aten.elu_backward.grad_input(inner, 1.0, 1.0, 1.0, True, hidden, grad_input=inner)
            d_bias_in = inner.sum(1) if need_bias_in else None
            d_weight_in = pattern_in.sampled(x, inner) if need_weight_in else None
            if need_x:
                d_x = pattern_in.to_edges(weight_in, inner)
                if scale:
                    d_x.add_(grad, alpha=scale)
        return None, None, d_x, d_weight_in, d_bias_in, d_weight_out, d_bias_out, d_residual


def elu_(z: Tensor) -> Tensor:
    """ELU in place, within rounding of 1: max(z, 2^(min(z, 0) / ln 2) - 1), as exp(z) - 1 >= z everywhere.

    In single precision this is twice as fast as ``torch.nn.functional.elu_``, whose ``expm1`` keeps digits near 0 that
    the sums of the next map drop; a double precision model is not in a hurry and keeps them.

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


def _scale(residual: Tensor | None) -> float:
    return 0.0 if residual is None else max(float(residual), 0.0)
