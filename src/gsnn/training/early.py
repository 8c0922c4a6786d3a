"""The weights of a model when most of what it will learn was learnt, which tell more of missing edges than the last.

A network that lacks an edge learns first what it can carry. What is left then goes with the missing edges. Trained on,
it makes up for them with edges that are there, and learns noise by heart: its gradients then point anywhere but at
the target of the missing edge.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

SHARE = 0.85
"""Of the fall of the training loss, from the first batch to the epoch that is kept."""

# Of the fall so far: weights are copied no more often. Of a large model (bytes) two copies must do, since every
# checkpoint holds them.
_STEP, _LARGE_STEP, _LARGE = 0.02, 0.075, 2**23


class Early:
    """Keeps the weights of the first epoch by which the training loss had fallen by :data:`SHARE` of its fall.

    How far the loss falls is known at the end alone, so the weights of a few epochs are kept meanwhile: those that may
    still be it, no two closer than a fiftieth of the fall (of large models a thirteenth).

    Example:
        >>> early, model = Early(), nn.Linear(1, 1)
        >>> for epoch, loss in enumerate([1.0, 0.5, 0.2, 0.1, 0.0], start=1):
        ...     early.see(epoch, loss, model, first=1.0)
        >>> early.choose(0.0)[0]
        4
    """

    def __init__(self) -> None:
        self.first = math.nan
        self.kept: list[tuple[int, float, dict[str, Tensor]]] = []

    def see(self, epoch: int, loss: float, model: nn.Module, first: float) -> None:
        """Take notice of an epoch that has ended.

        Args:
            epoch: Its number, from 1.
            loss: Its mean training loss.
            model: The model after it.
            first: The loss of the first batch of the training, before any step.
        """
        if math.isnan(self.first):
            self.first = first
        fall, weights = self.first - loss, model.state_dict()
        large = sum(value.numel() * value.element_size() for value in weights.values()) > _LARGE
        step = (_LARGE_STEP if large else _STEP) * fall
        if not fall > 0 or (self.kept and self.kept[-1][1] - loss < step):
            return
        state = {name: value.detach().cpu().clone() for name, value in weights.items()}
        # What has not fallen enough for the loss of now will not have for a lower one.
        enough = self.first - SHARE * fall
        self.kept = [*(each for each in self.kept if each[1] <= enough), (epoch, loss, state)]

    def choose(self, last: float) -> tuple[int, dict[str, Tensor]] | None:
        """Epoch and weights to read, for a training that ended, or was put back to, this loss; None without any."""
        enough = self.first - SHARE * (self.first - last)
        for epoch, loss, state in self.kept:
            if loss <= enough:
                return epoch, state
        return None if not self.kept else (self.kept[-1][0], self.kept[-1][2])

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"first": self.first, "kept": [list(each) for each in self.kept]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where the checkpoint was written."""
        self.first = float(state["first"])
        self.kept = [(int(epoch), float(loss), weights) for epoch, loss, weights in state["kept"]]


def with_weights(model: nn.Module, state: dict[str, Tensor] | None) -> nn.Module:
    """A copy of a model with other weights, in eval mode; the model itself if there are none."""
    if state is None:
        return model
    with torch.no_grad():
        other = copy.deepcopy(model)
        other.load_state_dict(state)
    return other.eval()
