"""The early weights of a model, when it has learnt most; they tell more about missing edges than the last weights.

A network that lacks an edge first learns what it can carry; the remaining error is due to the missing edges. Later it
makes up for them with other edges and learns noise by heart, and its gradients no longer point at the target of the
missing edge.
"""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)

SHARE = 0.85
"""The share of the total fall of the training loss that has happened when the early weights are taken."""

# The least share of the fall between two copies of the weights. A large model (in bytes) makes fewer copies, because
# every checkpoint holds them.
_STEP, _LARGE_STEP, _LARGE = 0.02, 0.075, 2**23


class Early:
    """Keeps the weights of the first epoch after which the training loss had made :data:`SHARE` of its fall.

    How far the loss falls is known only at the end, so the weights of a few epochs are kept until then: those that may
    still be the ones, no two closer than a fiftieth of the fall (a thirteenth for large models).

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
        """Note an epoch (from 1) with its mean training loss; ``first`` is the loss of the first batch of all."""
        if math.isnan(self.first):
            self.first = first
        fall, weights = self.first - loss, model.state_dict()
        large = sum(value.numel() * value.element_size() for value in weights.values()) > _LARGE
        step = (_LARGE_STEP if large else _STEP) * fall
        if not fall > 0 or (self.kept and self.kept[-1][1] - loss < step):
            return
        state = {name: value.detach().cpu().clone() for name, value in weights.items()}
        # An epoch whose loss has not fallen enough for the present loss will not have for a lower one.
        enough = self.first - SHARE * fall
        self.kept = [*(each for each in self.kept if each[1] <= enough), (epoch, loss, state)]

    def choose(self, last: float) -> tuple[int, dict[str, Tensor]] | None:
        """Epoch and weights for a training whose kept weights have this loss; None if the loss never fell."""
        enough = self.first - SHARE * (self.first - last)
        for epoch, loss, state in self.kept:
            if loss <= enough:
                return epoch, state
        return None if not self.kept else (self.kept[-1][0], self.kept[-1][2])

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"first": self.first, "kept": [list(each) for each in self.kept]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.first = float(state["first"])
        self.kept = [(int(epoch), float(loss), weights) for epoch, loss, weights in state["kept"]]


def with_weights(model: Model, state: dict[str, Tensor] | None) -> Model:
    """A copy of a model with other weights, in eval mode; the model itself if there are none."""
    if state is None:
        return model
    with torch.no_grad():
        other = copy.deepcopy(model)
        other.load_state_dict(state)
    return other.eval()
