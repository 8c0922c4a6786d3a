"""What a new readout of a function would show: its state along the direction in which it varies most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from gsnn.base.arrays import FloatArray
from gsnn.base.torch_state import threads_for
from gsnn.nn import GSNN
from gsnn.nn.block import Recorder


@dataclass(frozen=True, eq=False)
class StateAxes:
    """One direction in the channels of each of R functions.

    Attributes:
        weights: (R, N*C) the direction over the standard deviation along it; 0 for a function that does not vary.
        centre: (R,) the mean state along it.
        pattern: (R, M) the states of the conditions that it was made from: mean 0, standard deviation 1.
    """

    weights: sparse.csr_matrix
    centre: FloatArray
    pattern: FloatArray

    @classmethod
    def of(
        cls, model: GSNN, x: npt.NDArray[np.float32], functions: Sequence[int], like: StateAxes | None = None
    ) -> StateAxes:
        """The first principal component of the channels of each function over some conditions.

        Args:
            model: The model.
            x: (M, I) the conditions.
            functions: Numbers of the R functions.
            like: Axes of another model on the same conditions, whose signs are taken.
        """
        values = _channels(model, x)
        node = model.channel_node.numpy()
        rows, columns, weights = [], [], []
        for row, function in enumerate(functions):
            channels = np.flatnonzero(node == function)
            _, size, direction = np.linalg.svd(values[:, channels] - values[:, channels].mean(0), full_matrices=False)
            sd = size[0] / np.sqrt(len(x)) if len(size) else 0.0
            if sd > np.finfo(np.float32).eps:
                rows += [row] * len(channels)
                columns += channels.tolist()
                weights += (direction[0] / sd).tolist()
        axes = sparse.csr_matrix((weights, (rows, columns)), shape=(len(functions), values.shape[1]))
        along = values @ axes.T
        centre, pattern = along.mean(0), (along - along.mean(0)).T
        if like is not None:
            sign = np.where((pattern * like.pattern).sum(1) < 0, -1.0, 1.0)
            axes, centre = sparse.csr_matrix(sparse.diags(sign) @ axes), sign * centre
            pattern = sign[:, None] * pattern
        return cls(axes, centre, pattern)

    def states(self, model: GSNN, x: npt.NDArray[np.float32]) -> FloatArray:
        """(B, R) positions along the axes of a model with the same channels, in conditions x (B, I)."""
        return np.asarray(_channels(model, x) @ self.weights.T - self.centre)


def _channels(model: GSNN, x: npt.NDArray[np.float32]) -> FloatArray:
    """(B, N*C) the channel values after the last block."""
    taps = Recorder()
    with torch.no_grad(), threads_for(model, len(x)):
        model.forward_with_taps(torch.tensor(x, dtype=torch.float32), post=taps)
    return taps.values[-1].detach().double().numpy().T
