"""Initial values of the sparse weights, by the fan-in and fan-out of each nonzero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gsnn.errors import unknown_option


def _uniform(bound: Tensor) -> Tensor:
    return (2.0 * torch.rand_like(bound) - 1.0) * bound


_RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "degree_normalized": lambda fan_in, fan_out: _uniform((fan_in * fan_out).rsqrt()),
    "xavier_uniform": lambda fan_in, fan_out: _uniform((6.0 / (fan_in + fan_out)).sqrt()),
    "xavier_normal": lambda fan_in, fan_out: torch.randn_like(fan_in) * (2.0 / (fan_in + fan_out)).sqrt(),
    "kaiming_uniform": lambda fan_in, fan_out: _uniform((3.0 / fan_in).sqrt()),
    "kaiming_normal": lambda fan_in, fan_out: torch.randn_like(fan_in) * fan_in.rsqrt(),
    "uniform": lambda fan_in, fan_out: _uniform(torch.ones_like(fan_in)),
    "normal": lambda fan_in, fan_out: torch.randn_like(fan_in),
    "zeros": lambda fan_in, fan_out: torch.zeros_like(fan_in),
}

INITIALISERS: tuple[str, ...] = tuple(_RULES)
"""Names accepted by ``GSNN(init=...)``."""


def initial_weights(name: str, fan_in: Tensor, fan_out: Tensor) -> Tensor:
    """Draw the weights of a sparse map from torch's default generator.

    With fi and fo the fan-in and fan-out of a nonzero: ``degree_normalized`` U(-1, 1) / sqrt(fi fo),
    ``xavier_uniform`` U(-a, a) with a = sqrt(6 / (fi + fo)), ``xavier_normal`` N(0, 2 / (fi + fo)),
    ``kaiming_uniform`` U(-a, a) with a = sqrt(3 / fi), ``kaiming_normal`` N(0, 1 / fi), ``uniform`` U(-1, 1),
    ``normal`` N(0, 1), ``zeros``.

    Args:
        name: One of ``INITIALISERS``.
        fan_in: (nnz,) number of nonzeros that share the output of this one.
        fan_out: (nnz,) number of nonzeros that share the input of this one.

    Returns:
        (nnz,) weights in the default dtype.

    Raises:
        ValueError: If the name is unknown; the message lists the options.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> w = initial_weights("degree_normalized", torch.full((1000,), 2), torch.full((1000,), 8))
        >>> bool((w.abs() <= 0.25).all())
        True
    """
    check_init(name)
    dtype = torch.get_default_dtype()
    return _RULES[name](fan_in.to(dtype), fan_out.to(dtype))


def check_init(name: str) -> None:
    """Raise a ValueError that lists the options unless ``name`` is an initialiser."""
    if name not in _RULES:
        raise unknown_option("init", name, INITIALISERS)
