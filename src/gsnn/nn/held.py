"""Edge states that are set by hand: what a function sends whose channels are held at given values."""

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
    """What some edges hold in some samples after each block, whatever the block makes of them.

    A function whose channels are held in every block sends what :func:`held_states` gives, whatever comes in. Each
    sample of a batch can hold edges of its own.

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
        """Put the values into a state (rows, B) in which edge e has the row ``rows[e]``, or none if that is -1."""
        row = rows[self.edges.numpy()]
        kept = row >= 0
        state[row[kept], self.samples.numpy()[kept]] = self.values[block].numpy()[kept]


def held_states(model: Any, channels: Sequence[Tensor], start: Tensor | None = None) -> Tensor:  # noqa: ANN401 - a GSNN
    """What edges out of functions hold after each block, if the functions have these channels at the post tap.

    s_l = lin_out(h_l) + relu(residual weight) s_(l-1), from s_0, as in :class:`gsnn.nn.block.Block`.

    Args:
        model: The GSNN.
        channels: L tensors (N*C, B).
        start: (E, B) the state before the first block; None: 0, with which rows of edges out of inputs mean nothing.

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
