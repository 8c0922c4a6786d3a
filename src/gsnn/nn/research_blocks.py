"""The attributes of a block that code written for the research package uses.

Such code sets ``_store_activations`` on every block of ``model.ResBlocks``, runs the model, and reads what the blocks
have stored. Here the flag is a switch: on, it registers a hook on each tap of the block; off, it removes the hooks and
what they stored. Blocks on which it is off have no trace of it, and compute as fast as ever.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_STORED = ("_last_pre_norm_activation", "_last_activation")


class ResearchBlock:
    """A mixin with the channels and activations of a block under the research package's names.

    Attributes:
        _last_pre_norm_activation: (B, channels) at the tap before the norm, of the last forward pass. It is part of
            that pass: it keeps its graph and takes ``retain_grad()``. It exists only while ``_store_activations`` is
            on.
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
        # The block continues with the stored tensor, or its gradient would never be filled in.
        self._last_pre_norm_activation = value.t()
        return self._last_pre_norm_activation.t()

    def _keep_post(self, _tap: nn.Module, _given: object, value: Tensor) -> Tensor:
        self._last_activation = value.t()
        return self._last_activation.t()
