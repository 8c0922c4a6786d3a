"""Normalisations of the channels of each function node, batch last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsnn.base.errors import check_option
from gsnn.nn.layer_norm import SHIFT, layer_norm

RMS_EPS = 1e-6
"""Added to the mean square of a node's channels."""

Memo = dict[nn.Module, tuple[Tensor, ...]]
"""What a checkpointed block remembers between its forward pass and the recomputation: running statistics must be
updated once, and the recomputed values must be those of the forward pass."""


class ChannelGroups(nn.Module):
    """The channels of each function as a group; functions may have different numbers of channels.

    ``split`` gives the view on which statistics and affine terms broadcast: (N, C, B) if every function has C
    channels, else the flat (channels, B) with group values spread by index.
    """

    channel_node: Tensor
    sizes: Tensor

    def __init__(self, channels: Tensor) -> None:
        super().__init__()
        self.n_groups = int(channels.numel())
        self.n_channels = int(channels.sum())
        uniform = bool((channels == channels[0]).all())
        self.width: int | None = int(channels[0]) if uniform else None
        self.register_buffer("sizes", channels.clone(), persistent=False)
        node = torch.repeat_interleave(torch.arange(self.n_groups), channels)
        self.register_buffer("channel_node", node, persistent=False)

    def split(self, x: Tensor) -> Tensor:
        """(channels, B) -> the view on which group values broadcast."""
        return x if self.width is None else x.view(self.n_groups, self.width, -1)

    def join(self, x: Tensor) -> Tensor:
        """The inverse of ``split``."""
        return x if self.width is None else x.flatten(0, 1)

    def spread(self, value: Tensor) -> Tensor:
        """(N,) or (N, B) group values -> a shape that broadcasts against ``split(x)``."""
        value = value if value.ndim == 2 else value.unsqueeze(1)
        return value.index_select(0, self.channel_node) if self.width is None else value.unsqueeze(1)

    def total(self, x: Tensor) -> Tensor:
        """(N, B): sum over the channels of each group of a tensor shaped as ``split`` gives it."""
        if self.width is not None:
            return x.sum(1)
        return x.new_zeros(self.n_groups, x.shape[1]).index_add(0, self.channel_node, x)

    def mean(self, x: Tensor) -> Tensor:
        """(N, B): mean over the channels of each group of a tensor shaped as ``split`` gives it."""
        return self.total(x) / self.sizes.to(x.dtype).unsqueeze(1)

    def expand(self, value: Tensor) -> Tensor:
        """(N, B) group values -> (channels, B), each repeated for the channels of its group."""
        return value.index_select(0, self.channel_node)

    def extra_repr(self) -> str:
        """Sizes for ``repr``."""
        return f"{self.n_groups} x {self.width}" if self.width else f"{self.n_groups} groups, {self.n_channels}"


class _GroupAffine(nn.Module):
    def __init__(self, groups: ChannelGroups, *, shift: bool = True) -> None:
        super().__init__()
        self.groups = groups
        self.gamma = nn.Parameter(torch.ones(groups.n_groups))
        if shift:
            self.beta = nn.Parameter(torch.zeros(groups.n_groups))


class GroupLayerNorm(_GroupAffine):
    """(x - mean) / (std + 0.1) over the channels of a node, std unbiased (0 for a single channel), affine per node.

    Gradients pass through the statistics. At one channel per node the output is ``beta``, whatever the input.
    """

    def forward(self, x: Tensor, memo: Memo | None = None) -> Tensor:
        """(channels, B) -> (channels, B)."""
        groups, x = self.groups, self.groups.split(x)
        if groups.width is not None and groups.width > 1:
            return groups.join(layer_norm(x, self.gamma, self.beta))
        centred = x - groups.spread(groups.mean(x))
        variance = groups.total(centred.square()) / (groups.sizes - 1).clamp(min=1).to(x.dtype).unsqueeze(1)
        positive = variance > 0
        std = torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)
        scaled = centred / groups.spread(std + SHIFT)
        return groups.join(torch.addcmul(groups.spread(self.beta), scaled, groups.spread(self.gamma)))


class GroupRMSNorm(_GroupAffine):
    """x / sqrt(mean of x^2 over the channels of a node + 1e-6) * gamma, gamma per node."""

    def __init__(self, groups: ChannelGroups) -> None:
        super().__init__(groups, shift=False)

    def forward(self, x: Tensor, memo: Memo | None = None) -> Tensor:
        """(channels, B) -> (channels, B)."""
        groups, x = self.groups, self.groups.split(x)
        scale = (groups.mean(x.square()) + RMS_EPS).rsqrt() * self.gamma.unsqueeze(1)
        return groups.join(x * groups.spread(scale))


class GroupSoftmax(nn.Module):
    """Softmax over the channels of a node."""

    def __init__(self, groups: ChannelGroups) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor, memo: Memo | None = None) -> Tensor:
        """(channels, B) -> (channels, B)."""
        groups, x = self.groups, self.groups.split(x)
        if groups.width is not None:
            return groups.join(torch.softmax(x, dim=1))
        index = groups.channel_node.unsqueeze(1).expand_as(x)
        top = x.new_full((groups.n_groups, x.shape[1]), -torch.inf).scatter_reduce(0, index, x.detach(), "amax")
        weight = torch.exp(x - groups.spread(top))
        return weight / groups.spread(groups.total(weight))


class GroupBatchNorm(_GroupAffine):
    """Mean and biased variance over the batch and the channels of a node, affine per node; running in eval mode."""

    running_mean: Tensor
    running_var: Tensor
    eps, momentum = 1e-5, 0.1

    def __init__(self, groups: ChannelGroups) -> None:
        super().__init__(groups)
        self.register_buffer("running_mean", torch.zeros(groups.n_groups))
        self.register_buffer("running_var", torch.ones(groups.n_groups))

    def forward(self, x: Tensor, memo: Memo | None = None) -> Tensor:
        """(channels, B) -> (channels, B)."""
        groups, x = self.groups, self.groups.split(x)
        mean, var = self.running_mean, self.running_var
        if self.training and x.shape[-1]:
            mean, var = _moments(groups, x)
            if _first_pass(self, memo):
                _follow(self, mean, var)
        scale = (var + self.eps).rsqrt() * self.gamma
        # Centred before it is scaled: folding the mean into the shift would cancel digits.
        return groups.join(torch.addcmul(groups.spread(self.beta), x - groups.spread(mean), groups.spread(scale)))

    def follow(self, mean: Tensor, var: Tensor, samples: int) -> None:
        """Update the running statistics by mean and biased variance (N,) of a batch."""
        _follow(self, mean, var)


class _EMANorm(nn.Module):
    """Normalises by running means and variances, which training updates before it uses them."""

    running_mean: Tensor
    running_var: Tensor
    eps, momentum = 1e-5, 0.1

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(n))
        self.register_buffer("running_var", torch.ones(n))


class GroupEMANorm(_EMANorm):
    """Normalise by running mean and variance per node, which training updates before it uses them."""

    def __init__(self, groups: ChannelGroups) -> None:
        super().__init__(groups.n_groups)
        self.groups = groups

    def forward(self, x: Tensor, memo: Memo | None = None) -> Tensor:
        """(channels, B) -> (channels, B)."""
        groups, x = self.groups, self.groups.split(x)
        if self.training and x.shape[-1] and _first_pass(self, memo):
            _follow(self, *_moments(groups, x.detach()))
        mean, scale = _frozen(self, memo)
        return groups.join((x - groups.spread(mean)) * groups.spread(scale))


class RowEMANorm(_EMANorm):
    """``GroupEMANorm`` for single rows of (rows, B): channels, or edges."""

    def forward(self, x: Tensor, memo: Memo | None = None) -> Tensor:
        """(rows, B) -> (rows, B)."""
        if self.training and x.shape[-1] and _first_pass(self, memo):
            mean = x.detach().mean(1)
            _follow(self, mean, (x.detach() - mean.unsqueeze(1)).square().mean(1))
        mean, scale = _frozen(self, memo)
        return (x - mean.unsqueeze(1)) * scale.unsqueeze(1)

    def extra_repr(self) -> str:
        """Sizes for ``repr``."""
        return str(self.running_mean.numel())


class NoNorm(nn.Module):
    """The identity."""

    def forward(self, x: Tensor, memo: Memo | None = None) -> Tensor:
        """(channels, B) -> (channels, B)."""
        return x


class RowBatchNorm(nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` over the batch of (rows, B): a row is a channel, or an edge."""

    def forward(self, x: Tensor, memo: Memo | None = None) -> Tensor:
        """(rows, B) -> (rows, B)."""
        # As one sample with `rows` features and B positions: the same statistics without a transposed copy.
        if self.training and not _first_pass(self, memo):
            # Copies take the update: the recomputation must save as many tensors as the forward pass did.
            assert self.running_mean is not None
            assert self.running_var is not None
            mean, var, rows = self.running_mean.clone(), self.running_var.clone(), x.unsqueeze(0)
            return F.batch_norm(rows, mean, var, self.weight, self.bias, True, 0.0, self.eps).squeeze(0)
        return super().forward(x.unsqueeze(0)).squeeze(0)

    def follow(self, mean: Tensor, var: Tensor, samples: int) -> None:
        """Update the running statistics by mean and biased variance (rows,) of a batch, as torch does."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        _follow(self, mean, var * (samples / max(samples - 1, 1)))


def _moments(groups: ChannelGroups, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (N,) over the batch and the channels of each group."""
    # Centred sums run at memory speed; torch.var over these dimensions does not.
    mean = groups.mean(x).mean(1)
    return mean, groups.mean((x - groups.spread(mean)).square()).mean(1)


def _follow(norm: Any, mean: Tensor, var: Tensor) -> None:  # noqa: ANN401 - a norm with running statistics
    with torch.no_grad():
        for running, value in ((norm.running_mean, mean), (norm.running_var, var)):
            running.lerp_(value.detach().to(running.dtype), norm.momentum)


def _first_pass(norm: nn.Module, memo: Memo | None) -> bool:
    """Whether this is not a recomputation; notes the visit in the memo."""
    if memo is None:
        return True
    if norm in memo:
        return False
    memo[norm] = ()
    return True


def _frozen(norm: _EMANorm, memo: Memo | None) -> tuple[Tensor, Tensor]:
    """Copies of the present running mean and 1 / deviation, or of those of the forward pass that is recomputed.

    Copies, because a later forward pass changes the buffers in place before the backward pass of this one.
    """
    if memo is not None and memo.get(norm):
        return cast(tuple[Tensor, Tensor], memo[norm])
    frozen = (norm.running_mean.clone(), (norm.running_var + norm.eps).rsqrt())
    if memo is not None and norm in memo:
        memo[norm] = frozen
    return frozen


_BUILDERS: dict[str, Callable[[ChannelGroups, int], tuple[nn.Module | None, nn.Module]]] = {
    # name -> (norm of the edges before lin_in or None, norm of the channels)
    "layer": lambda groups, n_edges: (None, GroupLayerNorm(groups)),
    "batch": lambda groups, n_edges: (None, RowBatchNorm(groups.n_channels, eps=1e-3)),
    "edgebatch": lambda groups, n_edges: (RowBatchNorm(n_edges), NoNorm()),
    "batch++": lambda groups, n_edges: (RowBatchNorm(n_edges), RowBatchNorm(groups.n_channels, eps=1e-3)),
    "groupbatch": lambda groups, n_edges: (None, GroupBatchNorm(groups)),
    "softmax": lambda groups, n_edges: (None, GroupSoftmax(groups)),
    "rms": lambda groups, n_edges: (None, GroupRMSNorm(groups)),
    "ema": lambda groups, n_edges: (None, GroupEMANorm(groups)),
    "channelema": lambda groups, n_edges: (RowEMANorm(n_edges), RowEMANorm(groups.n_channels)),
    "none": lambda groups, n_edges: (None, NoNorm()),
}

NORMS: tuple[str, ...] = tuple(_BUILDERS)
"""Names accepted by ``GSNN(norm=...)``."""

RUNNING = ("batch", "edgebatch", "batch++", "groupbatch", "ema", "channelema")
"""Norms that keep running statistics."""

NEED_TWO_SAMPLES = ("batch", "edgebatch", "batch++")
"""Norms whose training statistics are undefined for a batch of one."""


def build_norms(name: str, groups: ChannelGroups, n_edges: int) -> tuple[nn.Module | None, nn.Module]:
    """The norm of the edges (or None) and the norm of the channels for one block.

    Raises:
        ValueError: If the name is unknown; the message lists the options.
    """
    check_option("norm", name, NORMS)
    return _BUILDERS[name](groups, n_edges)
