"""Norm, ELU and dropout between the two maps of a block, in a form that the compiled kernels take."""

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
"""Norms: none; with statistics of the batch, of all channels of a function or of each channel; with running
statistics; over the channels of a function in each sample."""

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
        norm: The norm, or None.
        kind: One of the constants above.
        norm_first: Whether the norm comes before the ELU.
        drop: Share of values that the dropout drops in this pass.
        key: From which the mask follows.
        read: The parameters that the forward pass has read, by block, for the backward pass.
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
        """Whether the norm takes its statistics from the batch, so that every function must be computed."""
        return self.kind in (GROUP, ROW)

    @property
    def eps(self) -> float:
        """What the norm adds to a variance."""
        return float(getattr(self.norm, "eps", 0.0))

    @functools.cached_property
    def n_statistics(self) -> int:
        """How many means the norm has: one per function or channel, or none."""
        norm: Any = self.norm
        return norm.running_mean.numel() if self.kind in (GROUP, ROW, FIXED) else 0

    def running(self) -> tuple[FloatArray, FloatArray]:
        """The running mean and variance of the norm; only for norms that keep them."""
        norm: Any = self.norm
        return norm.running_mean.numpy(), norm.running_var.numpy()

    def follow(self, moments: Tensor, samples: int) -> None:
        """Update the norm's running statistics by those of the batch."""
        if self.of_batch:
            assert isinstance(self.norm, GroupBatchNorm | RowBatchNorm)
            self.norm.follow(moments[0], moments[1], samples)

    def step(self, z: Tensor, gamma: Tensor | None, beta: Tensor | None, block: int) -> Tensor:
        """The same for z (N*C, B) by differentiable operations, with this scale and shift if the norm has them.

        It updates no running statistics.
        """
        h = F.elu(self._normed(z, gamma, beta)) if self.norm_first else self._normed(F.elu(z), gamma, beta)
        return dropped(h, torch.tensor(self.key), block, self.drop) if self.drop else h

    def _normed(self, x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        if self.norm is None:
            return x
        names = ("weight", "bias") if isinstance(self.norm, RowBatchNorm) else ("gamma", "beta")
        affine = {name: value for name, value in zip(names, (gamma, beta), strict=True) if value is not None}
        # The memo says that the running statistics are already updated.
        return torch.func.functional_call(self.norm, affine, (x, {self.norm: ()}))


def between(norm: nn.Module, norm_first: bool, drop: float, key: int) -> Between | None:
    """A norm, an ELU and a dropout for the kernels; None if the norm is not exactly one that they compute."""
    kind = _KINDS.get(type(norm))
    if kind is None:
        return None
    if isinstance(norm, RowBatchNorm) and not (norm.affine and norm.track_running_stats and norm.momentum is not None):
        return None
    if kind in (GROUP, ROW) and not norm.training:
        kind = FIXED
    return Between(None if kind == NONE else norm, kind, norm_first, drop, key)
