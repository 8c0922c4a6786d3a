"""What stands between the two maps of a block, norm, ELU and dropout, in a form that the compiled kernels take."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from gsnn.nn.dropout import dropped
from gsnn.nn.norms import GroupBatchNorm, GroupLayerNorm, GroupRMSNorm, GroupSoftmax, NoNorm, RowBatchNorm

FloatArray = NDArray[np.float32]

NONE, GROUP, ROW, FIXED, LAYER, RMS, SOFTMAX = range(7)
"""Norms: none; by statistics of the batch, of a function's channels together or of each on its own; by given
statistics; over the channels of a function, in each sample."""

_KINDS: dict[type[nn.Module], int] = {
    NoNorm: NONE,
    GroupBatchNorm: GROUP,
    RowBatchNorm: ROW,
    GroupLayerNorm: LAYER,
    GroupRMSNorm: RMS,
    GroupSoftmax: SOFTMAX,
}


@dataclass(frozen=True, eq=False)
class Between:
    """Norm, ELU and dropout of a block in one forward pass.

    Attributes:
        norm: The norm, None for none.
        kind: One of the constants above.
        norm_first: Whether the norm comes before the ELU.
        drop: Share of values that the dropout drops in this pass.
        key: From which its mask follows.
        read: What the forward pass has read of the parameters, by block, for the backward pass.
    """

    norm: nn.Module | None = None
    kind: int = NONE
    norm_first: bool = True
    drop: float = 0.0
    key: int = 0
    read: dict[int, Any] = field(default_factory=dict, repr=False)

    @property
    def per_function(self) -> bool:
        """Whether statistics, scale and shift belong to functions, not to channels."""
        return type(self.norm) is not RowBatchNorm

    @functools.cached_property
    def affine(self) -> tuple[Tensor | None, Tensor | None]:
        """Scale and shift of the norm."""
        if isinstance(self.norm, RowBatchNorm):
            return self.norm.weight, self.norm.bias
        return getattr(self.norm, "gamma", None), getattr(self.norm, "beta", None)

    @property
    def is_elu(self) -> bool:
        """Whether there is neither a norm nor a dropout."""
        return self.norm is None and not self.drop

    @property
    def of_batch(self) -> bool:
        """Whether the norm takes its statistics from the batch, so that every function must be made."""
        return self.kind in (GROUP, ROW)

    @property
    def eps(self) -> float:
        """What the norm adds to a variance."""
        return float(getattr(self.norm, "eps", 0.0))

    @functools.cached_property
    def n_statistics(self) -> int:
        """How many means the norm has: one a function or a channel, or none."""
        return self._running[0].numel() if self.kind in (GROUP, ROW, FIXED) else 0

    def given(self) -> tuple[FloatArray, FloatArray]:
        """The mean and the variance that the norm goes by outside training."""
        mean, var = self._running
        return mean.numpy(), var.numpy()

    @functools.cached_property
    def _running(self) -> tuple[Tensor, Tensor]:
        assert isinstance(self.norm, GroupBatchNorm | RowBatchNorm)
        mean, var = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert var is not None
        return mean, var

    def follow(self, moments: Tensor, samples: int) -> None:
        """Let the norm's running statistics follow those of the batch."""
        if self.of_batch:
            assert isinstance(self.norm, GroupBatchNorm | RowBatchNorm)
            self.norm.follow(moments[0], moments[1], samples)

    def step(self, z: Tensor, gamma: Tensor | None, beta: Tensor | None, block: int) -> Tensor:
        """The same by differentiable operations, with a scale and a shift in the place of the norm's; follows nothing.

        Args:
            z: (N*C, B).
            gamma: Scale, if the norm has one.
            beta: Shift, likewise.
            block: Number of the block.
        """
        h = self._normed(z, gamma, beta) if self.norm_first else self._normed(F.elu(z), gamma, beta)
        h = F.elu(h) if self.norm_first else h
        if self.drop:
            h = dropped(h, torch.tensor(self.key), block, self.drop)
        return h

    def _normed(self, x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        if self.norm is None:
            return x
        names = ("weight", "bias") if isinstance(self.norm, RowBatchNorm) else ("gamma", "beta")
        given = {name: value for name, value in zip(names, (gamma, beta), strict=True) if value is not None}
        # The memo says that the running statistics have followed already.
        return torch.func.functional_call(self.norm, given, (x, {self.norm: ()}))


def between(norm: nn.Module, norm_first: bool, drop: float, key: int) -> Between | None:
    """What the kernels can do in the place of a norm, an ELU and a dropout; None where they cannot.

    Args:
        norm: The norm; exactly one of ours, no subclass.
        norm_first: Whether it comes before the ELU.
        drop: Share of values that the dropout drops.
        key: From which its mask follows.
    """
    kind = _KINDS.get(type(norm))
    if kind is None:
        return None
    if isinstance(norm, RowBatchNorm) and not (norm.affine and norm.track_running_stats and norm.momentum is not None):
        return None
    if kind in (GROUP, ROW) and not norm.training:
        kind = FIXED
    return Between(None if kind == NONE else norm, kind, norm_first, drop, key)
