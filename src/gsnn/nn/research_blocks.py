"""What code written against the blocks of the research package asks of a model, under its names.

Such code sets ``_store_activations`` on every block of ``model.ResBlocks``, runs the model, and reads what the blocks
have stored. Here the flag is a switch: on, it hangs a hook on each tap of the block; off, it takes the hooks and what
they stored away. A model on whose blocks it is off has no trace of it, and computes as fast as ever.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_STORED = ("_last_pre_norm_activation", "_last_activation")


class ResearchBlock:
    """Mixed into a block: its channels and its activations under the research package's names.

    Attributes:
        _last_pre_norm_activation: (B, channels) at the tap before the norm, of the last forward pass. It is part of
            that pass: it keeps its graph and takes ``retain_grad()``. There only while ``_store_activations`` is on.
        _last_activation: The same at the tap after nonlinearity, MLP and attention.
    """

    _last_pre_norm_activation: Tensor
    _last_activation: Tensor

    @property
    def channel_groups(self) -> Tensor:
        """int64 (channels,): for each channel the number of its node in homogeneous order."""
        return cast("Any", self).groups.channel_node

    @property
    def _store_activations(self) -> bool:
        """Whether forward passes leave their activations in the block."""
        return bool(self.__dict__.get("_storing"))

    @_store_activations.setter
    def _store_activations(self, on: bool) -> None:
        if bool(on) == self._store_activations:
            return
        block = cast("Any", self)
        if on:
            hooks = (self._keep_pre_norm, self._keep_post)
            taps = (block.pre_tap, block.post_tap)
            self.__dict__["_storing"] = [tap.register_forward_hook(hook) for tap, hook in zip(taps, hooks, strict=True)]
            return
        handles: list[RemovableHandle] = self.__dict__.pop("_storing")
        for handle in handles:
            handle.remove()
        for name in _STORED:
            self.__dict__.pop(name, None)

    def _keep_pre_norm(self, _tap: nn.Module, _given: object, value: Tensor) -> Tensor:
        # The block goes on from the tensor that is stored, or its gradient would never be filled in.
        self._last_pre_norm_activation = value.t()
        return self._last_pre_norm_activation.t()

    def _keep_post(self, _tap: nn.Module, _given: object, value: Tensor) -> Tensor:
        self._last_activation = value.t()
        return self._last_activation.t()


class ResearchModel:
    """Mixed into a model: its blocks and the kinds of its nodes under the research package's names."""

    @property
    def ResBlocks(self) -> nn.ModuleList:
        """The L blocks."""
        return cast("Any", self).blocks

    @property
    def input_node_mask(self) -> Tensor:
        """Bool (N+I+O,): which nodes, in homogeneous order, are inputs."""
        model = cast("Any", self)
        return _mask(model, model.N, model.I)

    @property
    def output_node_mask(self) -> Tensor:
        """Bool (N+I+O,): which nodes, in homogeneous order, are outputs."""
        model = cast("Any", self)
        return _mask(model, model.N + model.I, model.O)


def _mask(model: Any, start: int, count: int) -> Tensor:  # noqa: ANN401 - the model mixed into
    device = model.blocks[0].channel_groups.device
    mask = torch.zeros(model.N + model.I + model.O, dtype=torch.bool, device=device)
    mask[start : start + count] = True
    return mask
