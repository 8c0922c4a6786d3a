"""Layer norm over the channels of a node, batch last, with few passes over memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SHIFT = 0.1
"""Added to the standard deviation, so that a node whose channels agree does not become infinite."""


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """(x - mean) / (std + 0.1) * gamma + beta over dim 1, std unbiased: (N, C, B), (N,), (N,) -> (N, C, B), C > 1.

    The derivative of the deviation is taken as 0 where all channels agree.

    Example:
        >>> layer_norm(torch.tensor([[[0.0], [2.0]]]), torch.ones(1), torch.zeros(1)).flatten()
        tensor([-0.6604,  0.6604])
    """
    if torch.compiler.is_compiling():
        return _plain(x, gamma, beta)
    return _LayerNorm.apply(x, gamma, beta)[0]


def _plain(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    variance = centred.square().sum(1, keepdim=True) / (x.shape[1] - 1)
    positive = variance > 0
    # The inner `where` keeps the square root away from 0, where its derivative would give 0 * inf.
    std = torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)
    return centred / (std + SHIFT) * gamma[:, None, None] + beta[:, None, None]


class _LayerNorm(torch.autograd.Function):
    """The formula above with its derivative written out: it keeps x and one number per node and sample."""

    @staticmethod
    def forward(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(1, keepdim=True)
        centred = x - mean
        std = _deviation(centred)
        scale = gamma[:, None, None] / (std + SHIFT)
        return centred.mul_(scale).add_(beta[:, None, None]), mean, std

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ANN401
        x, gamma, beta = inputs
        _, mean, std = output
        ctx.mark_non_differentiable(mean, std)
        ctx.save_for_backward(x, gamma, beta, mean, std)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, gamma, beta, mean, std = ctx.saved_tensors
        if torch.is_grad_enabled():
            # The result will be differentiated again: autograd derives it from the plain formula.
            # It takes aliases, so that a part of x that depends on gamma is not counted twice.
            inputs = [value.view_as(value) for value in (x, gamma, beta)]
            by = [value for value, needed in zip(inputs, ctx.needs_input_grad, strict=True) if needed]
            gradients = iter(torch.autograd.grad(_plain(*inputs), by, grad, create_graph=True))
            return tuple(next(gradients) if needed else None for needed in ctx.needs_input_grad)
        inverse = 1.0 / (std + SHIFT)
        centred = x - mean
        along = (grad * centred).sum(1, keepdim=True)
        # d std / dx = centred / ((C - 1) std), which is 0 / 0 -> 0 where the channels agree.
        slope = (along * inverse / ((x.shape[1] - 1) * std)).masked_fill_(std == 0, 0.0).mul_(inverse)
        d_gamma = (along * inverse).sum((1, 2))
        d_beta = grad.sum((1, 2))
        d_x = torch.sub(grad, grad.mean(1, keepdim=True)).mul_(inverse).sub_(centred.mul_(slope))
        return d_x.mul_(gamma[:, None, None]), d_gamma, d_beta


def _deviation(centred: Tensor) -> Tensor:
    # Products and sums over a strided dimension run at memory speed where std, var and norm do not.
    return (centred.square().sum(1, keepdim=True) / (centred.shape[1] - 1)).sqrt_()
