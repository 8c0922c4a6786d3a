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
    """z[c, b] = sum over edges e of values[e, c] x[e, b], in the dtype of the values: (nnz,), (E, B) -> (N*C, B)."""
    if torch.compiler.is_compiling():
        return _to_channels_op(values, x.to(values.dtype), pattern.handle)
    return _ToChannels.apply(pattern, values, x.to(values.dtype))


def to_edges(pattern: EdgeChannelPattern, values: Tensor, h: Tensor) -> Tensor:
    """y[e, b] = sum over channels c of values[e, c] h[c, b], in the dtype of the values: (nnz,), (N*C, B) -> (E, B)."""
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
_Operator = Callable[[Tensor, Tensor, int], Tensor]
_Rule = Callable[[Any, Any, Tensor], tuple[_Operator, Tensor, Tensor]]


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


def _operator(
    name: str, product: type[_Product], empty: Callable[..., Tensor], by_first: _Rule, by_second: _Rule
) -> _Operator:
    """A product as a custom operator; the rules give the product and the factors of a gradient."""

    def run(first: Tensor, second: Tensor, handle: int) -> Tensor:
        return product.forward(module_of(handle), first, second)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
        first, second, ctx.handle = inputs
        ctx.save_for_backward(first if ctx.needs_input_grad[1] else None, second if ctx.needs_input_grad[0] else None)

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        first, second = ctx.saved_tensors
        gradients: list[Tensor | None] = [None, None, None]
        for index, rule in enumerate((by_first, by_second)):
            if ctx.needs_input_grad[index]:
                derivative, a, b = rule(first, second, grad)
                gradients[index] = derivative(a, b, ctx.handle)
        return tuple(gradients)

    operator = torch.library.custom_op(f"gsnn::{name}", run, mutates_args=())
    operator.register_fake(lambda first, second, handle: empty(module_of(handle), first, second))
    operator.register_autograd(backward, setup_context=setup_context)
    return operator


_to_channels_op: _Operator = _operator(
    "to_channels",
    _ToChannels,
    lambda pattern, values, x: x.new_empty(pattern.n_channels, x.shape[1]),
    lambda values, x, grad: (_sampled_op, x, grad),
    lambda values, x, grad: (_to_edges_op, values, grad),
)
_to_edges_op: _Operator = _operator(
    "to_edges",
    _ToEdges,
    lambda pattern, values, h: h.new_empty(pattern.n_edges, h.shape[1]),
    lambda values, h, grad: (_sampled_op, grad, h),
    lambda values, h, grad: (_to_channels_op, values, grad),
)
_sampled_op: _Operator = _operator(
    "sampled",
    _Sampled,
    lambda pattern, x, h: x.new_empty(pattern.nnz),
    lambda x, h, grad: (_to_edges_op, grad, h),
    lambda x, h, grad: (_to_channels_op, grad, x),
)
