"""Checks of the arguments and the inputs of a GSNN."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gsnn.nn.handles import module_of
from gsnn.nn.layout import Layout


def channel_counts(channels: Any, n_functions: int) -> int | tuple[int, ...]:  # noqa: ANN401
    """The number of channels of every function, or one number per function, each at least 1.

    Raises:
        TypeError: If it is not an integer or a sequence of integers.
        ValueError: If a count is below 1, or the sequence does not have one per function.
    """
    if hasattr(channels, "tolist"):
        channels = channels.tolist()
    if not isinstance(channels, Sequence):
        return positive("channels", channels)
    counts = tuple(_integer("channels", value) for value in channels)
    if len(counts) != n_functions:
        raise ValueError(f"channels must be one number or one per function ({n_functions}), got {len(counts)} numbers")
    low = [position for position, value in enumerate(counts) if value < 1]
    if low:
        raise ValueError(f"channels must be at least 1 for every function; it is not at positions {low[:5]}")
    return counts[0] if len(set(counts)) == 1 else counts


def positive(name: str, value: Any) -> int:  # noqa: ANN401 - whatever the user passed
    """An integer of at least 1.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is below 1.
    """
    number = _integer(name, value)
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def probability(name: str, value: Any) -> float:  # noqa: ANN401 - whatever the user passed
    """A float in [0, 1).

    Raises:
        ValueError: If it is outside.
    """
    number = float(value)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")
    return number


def nonlinearity(nonlin: Any) -> Callable[[], nn.Module]:  # noqa: ANN401 - whatever the user passed
    """A class of torch.nn or another callable that builds an elementwise module.

    Raises:
        TypeError: If it is a module already, or does not build one.
    """
    if isinstance(nonlin, nn.Module):
        kind = type(nonlin).__name__
        raise TypeError(f"nonlin must be a class such as torch.nn.ELU, got an instance of {kind}; pass the class")
    if isinstance(nonlin, str) or not callable(nonlin):
        raise TypeError(f"nonlin must be a class such as torch.nn.ELU, got {nonlin!r}")
    built = nonlin()
    if not isinstance(built, nn.Module):
        raise TypeError(f"nonlin must build a torch.nn.Module, got {type(built).__name__}")
    return nonlin


def check_input(x: Any, expected: int, dtype: torch.dtype) -> Tensor:  # noqa: ANN401 - whatever the user passed
    """The input (B, I) in the dtype of the parameters.

    Raises:
        TypeError: If it is not a tensor, or not of this dtype outside autocast.
        ValueError: If its shape is not (B, I).
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}; pass torch.as_tensor(x)")
    if x.ndim != 2 or x.shape[1] != expected:
        raise ValueError(
            f"x must have shape (B, I) with I = {expected} (one column per input node), got {tuple(x.shape)}"
        )
    if x.dtype != dtype:
        if not (x.dtype.is_floating_point and torch.is_autocast_enabled(x.device.type)):
            raise TypeError(f"x must be {dtype} like the parameters of the model, got {x.dtype}; pass x.to({dtype})")
        x = x.to(dtype)
    return x


def check_finite(x: Tensor, names: Sequence[str]) -> None:
    """Refuse an input (B, I) with values that are NaN or infinite.

    Raises:
        ValueError: If there are any; the message names the columns.
    """
    # One pass without a temporary; only if the sum is not finite the values are looked at.
    if torch.isfinite(x.sum()):
        return
    columns = torch.nonzero(~torch.isfinite(x).all(0)).flatten().tolist()
    if columns:
        listed = ", ".join(repr(names[c]) for c in columns[:5])
        more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
        raise ValueError(
            f"x has values that are NaN or infinite in the columns of {listed}{more}; "
            "fill or drop them, or build the model with allow_nan=True"
        )


@torch.library.custom_op("gsnn::finite", mutates_args=())
def finite_in_graph(x: Tensor, handle: int) -> Tensor:
    """A copy of x after ``check_finite`` against the GSNN ``handle``, as one operator of a compiled graph."""
    check_finite(x, module_of(handle).layout.names["input"])
    # An operator must not return its argument, and one whose result is not used would be left out.
    return x.clone()


@finite_in_graph.register_fake
def _(x: Tensor, handle: int) -> Tensor:
    return torch.empty_like(x)


finite_in_graph.register_autograd(lambda ctx, grad: (grad, None), setup_context=lambda ctx, inputs, output: None)


def check_mask(name: str, mask: Any, shapes: Sequence[tuple[int, ...]]) -> Tensor:  # noqa: ANN401
    """The mask, if it is a tensor of one of the shapes.

    Raises:
        TypeError: If it is not a tensor.
        ValueError: If it has another shape.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(mask).__name__}")
    if tuple(mask.shape) not in shapes:
        listed = " or ".join(str(shape) for shape in dict.fromkeys(shapes))
        raise ValueError(f"{name} must have shape {listed}, got {tuple(mask.shape)}")
    return mask


def function_mask(node_mask: Any, layout: Layout, batch: int) -> Tensor:  # noqa: ANN401
    """(N, B) or (N, 1): the part of a node mask that belongs to the functions, batch last."""
    n, total = layout.n_functions, layout.n_functions + layout.n_inputs + layout.n_outputs
    mask = check_mask("node_mask", node_mask, [(batch, total), (n,), (batch, n)])
    return mask.unsqueeze(1) if mask.ndim == 1 else mask[:, :n].t()


def _integer(name: str, value: Any) -> int:  # noqa: ANN401
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
