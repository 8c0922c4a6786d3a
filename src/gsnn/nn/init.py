"""Initial values of the sparse weights, by the fan-in and fan-out of each nonzero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gsnn.base.errors import check_option


def _symmetric(u: Tensor) -> Tensor:
    return 2.0 * u - 1.0


_normal = torch.special.ndtri

# From draws of U(0, 1) to draws of the distribution at scale 1, and the scale by fan-in and fan-out.
_RULES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "degree_normalized": (_symmetric, lambda fan_in, fan_out: (fan_in * fan_out).rsqrt()),
    "xavier_uniform": (_symmetric, lambda fan_in, fan_out: (6.0 / (fan_in + fan_out)).sqrt()),
    "xavier_normal": (_normal, lambda fan_in, fan_out: (2.0 / (fan_in + fan_out)).sqrt()),
    "kaiming_uniform": (_symmetric, lambda fan_in, fan_out: (3.0 / fan_in).sqrt()),
    "kaiming_normal": (_normal, lambda fan_in, fan_out: fan_in.rsqrt()),
    "uniform": (_symmetric, lambda fan_in, fan_out: torch.ones_like(fan_in)),
    "normal": (_normal, lambda fan_in, fan_out: torch.ones_like(fan_in)),
    "zeros": (torch.zeros_like, lambda fan_in, fan_out: torch.zeros_like(fan_in)),
}

INITIALISERS: tuple[str, ...] = tuple(_RULES)
"""Names accepted by ``GSNN(init=...)``."""


def initial_scale(name: str, fan_in: Tensor, fan_out: Tensor) -> Tensor:
    """The scale of the weights of a sparse map, by which :func:`initial_weights` multiplies its draws.

    With fi and fo the fan-in and fan-out of a nonzero: ``degree_normalized`` U(-1, 1) / sqrt(fi fo),
    ``xavier_uniform`` U(-a, a) with a = sqrt(6 / (fi + fo)), ``xavier_normal`` N(0, 2 / (fi + fo)),
    ``kaiming_uniform`` U(-a, a) with a = sqrt(3 / fi), ``kaiming_normal`` N(0, 1 / fi), ``uniform`` U(-1, 1),
    ``normal`` N(0, 1), ``zeros``.

    Args:
        name: One of ``INITIALISERS``; :func:`check_init` checks it.
        fan_in: (nnz,) number of nonzeros that share the output of this one.
        fan_out: (nnz,) number of nonzeros that share the input of this one.

    Returns:
        (nnz,) in the default dtype.
    """
    dtype = torch.get_default_dtype()
    return _RULES[name][1](fan_in.to(dtype), fan_out.to(dtype))


def initial_weights(name: str, draws: Tensor, scale: Tensor) -> Tensor:
    """The weights of a sparse map, from a uniform number for each.

    Args:
        name: One of ``INITIALISERS``.
        draws: float64 (nnz,) in the open interval (0, 1); a weight is an increasing function of its draw.
        scale: (nnz,) what :func:`initial_scale` gives.

    Returns:
        (nnz,) weights in the dtype of the scale.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> scale = initial_scale("degree_normalized", torch.full((1000,), 2), torch.full((1000,), 8))
        >>> w = initial_weights("degree_normalized", torch.rand(1000, dtype=torch.float64), scale)
        >>> bool((w.abs() <= 0.25).all())
        True
    """
    return _RULES[name][0](draws).to(scale.dtype) * scale


def check_init(name: str) -> None:
    """Raise a ValueError that lists the options unless ``name`` is an initialiser."""
    check_option("init", name, INITIALISERS)
