"""Edge states that are set by hand, such as those of a function whose channels are held at given values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Held:
    """The states of some edges in some samples after each block, which replace those that the block computes.

    A function whose channels are held in every block sends the states of :func:`held_states`, whatever it receives.
    Each sample of a batch can hold other edges.

    Attributes:
        edges: int64 (K,), edges in homogeneous order.
        samples: int64 (K,), the sample in which each of them is held.
        values: (L, K), the state after each block.
    """

    edges: Tensor
    samples: Tensor
    values: Tensor

    def put(self, block: int, state: Tensor) -> Tensor:
        """The state (E, B) after a block with the values in their places; a new tensor."""
        values = self.values[block].to(state)
        return state.index_put((self.edges.to(state.device), self.samples.to(state.device)), values)

    def write(self, block: int, rows: NDArray[np.int32], state: NDArray[np.float32]) -> None:
        """Write the values into a state (rows, B) in which edge e has the row ``rows[e]``, or none if that is -1."""
        row = rows[self.edges.numpy()]
        stored = row >= 0
        state[row[stored], self.samples.numpy()[stored]] = self.values[block].numpy()[stored]


def held_states(model: Any, channels: Sequence[Tensor], start: Tensor | None = None) -> Tensor:  # noqa: ANN401 - a GSNN
    """The states of edges out of functions after each block, if the functions have these channels at the post tap.

    s_l = lin_out(h_l) + relu(residual weight) s_(l-1), from s_0, as in :class:`gsnn.nn.block.Block`.

    Args:
        model: The GSNN.
        channels: L tensors (N*C, B).
        start: (E, B) the state before the first block; None is 0, and rows of edges out of inputs then mean nothing.

    Returns:
        (L, E, B).
    """
    states, state = [], start
    for block, h in zip(model.blocks, channels, strict=True):
        out = block.lin_out(h)
        if state is not None and block.residual_weight is not None:
            out = torch.addcmul(out, torch.relu(block.residual_weight), state)
        state = out
        states.append(state)
    return torch.stack(states)
