"""The sparse maps, differentiable any number of times, in eager mode and inside a compiled graph.

The three bilinear products ``to_channels``, ``to_edges`` and ``sampled`` are closed under differentiation: the
derivative of each consists of the other two. In eager mode they are autograd functions; ``torch.compile`` sees custom
operators around the same kernels, because it cannot trace sparse tensors.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from gsnn.nn.handles import module_of
from gsnn.nn.sparse import EdgeChannelPattern


def to_channels(pattern: EdgeChannelPattern, values: Tensor, x: Tensor) -> Tensor:
    """z[c, b] = sum over edges e of values[e, c] x[e, b], in the dtype of the values.

    Args:
        pattern: Which edge meets which channels.
        values: (nnz,) weights, edge-major.
        x: (E, B) edge state.

    Returns:
        (N*C, B) channels.
    """
    if torch.compiler.is_compiling():
        return _to_channels_op(values, x.to(values.dtype), pattern.handle)
    return _ToChannels.apply(pattern, values, x.to(values.dtype))


def to_edges(pattern: EdgeChannelPattern, values: Tensor, h: Tensor) -> Tensor:
    """y[e, b] = sum over channels c of values[e, c] h[c, b], in the dtype of the values.

    Args:
        pattern: Which edge meets which channels.
        values: (nnz,) weights, edge-major.
        h: (N*C, B) channels.

    Returns:
        (E, B) edge state.
    """
    if torch.compiler.is_compiling():
        return _to_edges_op(values, h.to(values.dtype), pattern.handle)
    return _ToEdges.apply(pattern, values, h.to(values.dtype))


def sampled(pattern: EdgeChannelPattern, x: Tensor, h: Tensor) -> Tensor:
    """v[e, c] = sum over the batch b of x[e, b] h[c, b]: (E, B), (N*C, B) -> (nnz,)."""
    if torch.compiler.is_compiling():
        return _sampled_op(x, h, pattern.handle)
    return _Sampled.apply(pattern, x, h)


def _full_precision(product: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
    """Compute without autocast, which would halve the precision of operands that the products do not take."""
    if torch.is_autocast_enabled(first.device.type):
        with torch.autocast(first.device.type, enabled=False):
            return product(first, second)
    return product(first, second)


def _derivative(function: type[_Product], pattern: EdgeChannelPattern, first: Tensor, second: Tensor) -> Tensor:
    """A product inside a backward pass, which records itself only if it will be differentiated again."""
    if torch.is_grad_enabled():
        return function.apply(pattern, first, second)
    return function.forward(pattern, first, second)


_F = TypeVar("_F", bound=type[torch.autograd.Function])


def remember_signature(function: _F) -> _F:
    """Keep the signature of ``forward``: computing it at every call takes longer than a small map."""
    forward: Any = function.forward
    forward.__signature__ = inspect.signature(forward)
    return function


class _Product(torch.autograd.Function):
    """The base of the three products: each factor is kept only if a gradient needs it."""

    @staticmethod
    def forward(pattern: EdgeChannelPattern, first: Tensor, second: Tensor) -> Tensor:
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
        ctx.pattern, first, second = inputs
        # Frozen weights cost no copy of the state, and the state's gradient alone none of the weights.
        ctx.save_for_backward(
            first if ctx.needs_input_grad[2] else None,
            second if ctx.needs_input_grad[1] else None,
        )


@remember_signature
class _ToChannels(_Product):
    @staticmethod
    def forward(pattern: EdgeChannelPattern, values: Tensor, x: Tensor) -> Tensor:
        return _full_precision(pattern.to_channels, values, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        values, x = ctx.saved_tensors
        return (
            None,
            _derivative(_Sampled, ctx.pattern, x, grad) if ctx.needs_input_grad[1] else None,
            _derivative(_ToEdges, ctx.pattern, values, grad) if ctx.needs_input_grad[2] else None,
        )


@remember_signature
class _ToEdges(_Product):
    @staticmethod
    def forward(pattern: EdgeChannelPattern, values: Tensor, h: Tensor) -> Tensor:
        return _full_precision(pattern.to_edges, values, h)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        values, h = ctx.saved_tensors
        return (
            None,
            _derivative(_Sampled, ctx.pattern, grad, h) if ctx.needs_input_grad[1] else None,
            _derivative(_ToChannels, ctx.pattern, values, grad) if ctx.needs_input_grad[2] else None,
        )


@remember_signature
class _Sampled(_Product):
    @staticmethod
    def forward(pattern: EdgeChannelPattern, x: Tensor, h: Tensor) -> Tensor:
        return _full_precision(pattern.sampled, x, h)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, h = ctx.saved_tensors
        return (
            None,
            _derivative(_ToEdges, ctx.pattern, grad, h) if ctx.needs_input_grad[1] else None,
            _derivative(_ToChannels, ctx.pattern, grad, x) if ctx.needs_input_grad[2] else None,
        )


@torch.library.custom_op("gsnn::to_channels", mutates_args=())
def _to_channels_op(values: Tensor, x: Tensor, handle: int) -> Tensor:
    return _ToChannels.forward(module_of(handle), values, x)


@torch.library.custom_op("gsnn::to_edges", mutates_args=())
def _to_edges_op(values: Tensor, h: Tensor, handle: int) -> Tensor:
    return _ToEdges.forward(module_of(handle), values, h)


@torch.library.custom_op("gsnn::sampled", mutates_args=())
def _sampled_op(x: Tensor, h: Tensor, handle: int) -> Tensor:
    return _Sampled.forward(module_of(handle), x, h)


@_to_channels_op.register_fake
def _(values: Tensor, x: Tensor, handle: int) -> Tensor:
    return x.new_empty(module_of(handle).n_channels, x.shape[1])


@_to_edges_op.register_fake
def _(values: Tensor, h: Tensor, handle: int) -> Tensor:
    return h.new_empty(module_of(handle).n_edges, h.shape[1])


@_sampled_op.register_fake
def _(x: Tensor, h: Tensor, handle: int) -> Tensor:
    return x.new_empty(module_of(handle).nnz)


def _save_factors(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
    first, second, ctx.handle = inputs
    ctx.save_for_backward(first if ctx.needs_input_grad[1] else None, second if ctx.needs_input_grad[0] else None)


def _to_channels_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    values, x = ctx.saved_tensors
    return (
        _sampled_op(x, grad, ctx.handle) if ctx.needs_input_grad[0] else None,
        _to_edges_op(values, grad, ctx.handle) if ctx.needs_input_grad[1] else None,
        None,
    )


def _to_edges_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    values, h = ctx.saved_tensors
    return (
        _sampled_op(grad, h, ctx.handle) if ctx.needs_input_grad[0] else None,
        _to_channels_op(values, grad, ctx.handle) if ctx.needs_input_grad[1] else None,
        None,
    )


def _sampled_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    x, h = ctx.saved_tensors
    return (
        _to_edges_op(grad, h, ctx.handle) if ctx.needs_input_grad[0] else None,
        _to_channels_op(grad, x, ctx.handle) if ctx.needs_input_grad[1] else None,
        None,
    )


_to_channels_op.register_autograd(_to_channels_backward, setup_context=_save_factors)
_to_edges_op.register_autograd(_to_edges_backward, setup_context=_save_factors)
_sampled_op.register_autograd(_sampled_backward, setup_context=_save_factors)
