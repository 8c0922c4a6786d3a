"""Watches one forward and backward pass of a training loop that somebody else runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Reduce = Callable[[Tensor], Tensor]


class TapWatch:
    """Takes the activations of blocks 0..L-2 and the gradients of blocks 1..L-1 from the next call of a GSNN.

    Both are reduced at once, and what is kept is detached: nothing here keeps a graph alive. The hooks on the model
    go when its forward pass ends, also when it ends in an exception.

    Args:
        model: The GSNN.
        tap: 'pre_tap' or 'post_tap'.
        activation: From |a tap's tensor| (N*C, B) to what is kept of it.
        gradient: The same for gradients.

    Attributes:
        activations: What was kept, one per pair of adjacent blocks; None where nothing came.
        gradients: The same.
        finished: Whether the forward pass has ended without an exception.
        differentiable: Whether it ran with gradients enabled.
        armed: Set to True for gradients to be taken from the backward pass.
    """

    def __init__(self, model: nn.Module, tap: str, activation: Reduce, gradient: Reduce) -> None:
        self._activation, self._gradient = activation, gradient
        taps = [getattr(block, tap) for block in model.blocks]  # type: ignore[union-attr]
        self.activations: list[Tensor | None] = [None] * (len(taps) - 1)
        self.gradients: list[Tensor | None] = [None] * (len(taps) - 1)
        self.finished = self.armed = False
        self.differentiable = True
        self._handles: list[RemovableHandle] = [
            module.register_forward_hook(self._watcher(block)) for block, module in enumerate(taps)
        ]
        self._handles.append(model.register_forward_hook(self._end, always_call=True))

    def close(self) -> None:
        """Remove the hooks; may be called again."""
        while self._handles:
            self._handles.pop().remove()

    def _watcher(self, block: int) -> Callable[..., None]:
        def watch(module: nn.Module, args: Any, value: Tensor) -> None:  # noqa: ANN401 - what torch passes
            if block < len(self.activations):
                self.activations[block] = self._activation(value.detach().abs())
            if block > 0:
                self.differentiable = torch.is_grad_enabled()
                if self.differentiable:
                    # Below frozen parameters nothing takes a gradient yet; from this tap on everything does.
                    value.requires_grad_()
                    value.register_hook(self._credit(block - 1))

        return watch

    def _credit(self, pair: int) -> Callable[[Tensor], None]:
        def take(gradient: Tensor) -> None:
            if self.armed:
                self.gradients[pair] = self._gradient(gradient.detach().abs())

        return take

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:  # noqa: ANN401 - what torch passes
        # After an exception torch calls this without an output.
        self.finished = output is not None
        self.close()
