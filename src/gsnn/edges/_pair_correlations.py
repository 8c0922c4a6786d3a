"""The correlations of every adjacent pair of blocks, from streamed moments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from gsnn.edges._table import Column
from gsnn.stats import (
    PairMoments,
    constant_columns,
    correlation,
    inverse_norms,
    layer_correlation,
    layer_thirds,
    partial_correlation,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class PairCorrelations:
    """The (N, N) correlations of every pair: plain ones computed where asked for, partial ones held.

    Args:
        moments: What was streamed.
        parents: For each target the indices of its known parents.
        ridge: None for plain correlations; for partial ones what is added to the diagonal of the parents' covariance.

    Attributes:
        defined_x: (P, N) bool, which activations vary.
        defined_y: (P, N) bool, which gradients vary.
        rho_x: (N, P, P) correlations of an activation with itself across the pairs.
        rho_y: (N, P, P) the same of the gradients.
        third_x: (N, P (P + 1) / 2, P) sums of products of three unit-norm deviations of an activation.
        third_y: (N, P (P + 1) / 2, P) the same of the gradients.
    """

    def __init__(self, moments: PairMoments, parents: list[IntArray], ridge: float | None) -> None:
        eps = float(torch.finfo(moments.dtype).eps)
        # Views, not copies, where the sums are on the CPU.
        self._cross = moments.cross.cpu().numpy()
        ss_x, ss_y = moments.ss_x.cpu().numpy(), moments.ss_y.cpu().numpy()
        constant_x = constant_columns(moments.mean_x.cpu().numpy(), ss_x, moments.n, eps)
        constant_y = constant_columns(moments.mean_y.cpu().numpy(), ss_y, moments.n, eps)
        self._inverse_x = inverse_norms(ss_x, constant_x)
        self._inverse_y = inverse_norms(ss_y, constant_y)
        self.defined_x, self.defined_y = ~constant_x, ~constant_y
        self.rho_x = layer_correlation(moments.layers_x.cpu().numpy(), constant_x)
        self.rho_y = layer_correlation(moments.layers_y.cpu().numpy(), constant_y)
        self.third_x = layer_thirds(moments.thirds_x.cpu().numpy(), ss_x, constant_x)
        self.third_y = layer_thirds(moments.thirds_y.cpu().numpy(), ss_y, constant_y)
        self._held: FloatArray | None = None
        if ridge is not None:
            self._held = np.empty(self._cross.shape)
            within = moments.within.cpu().numpy()
            for p in range(len(self._cross)):
                self._held[p] = partial_correlation(
                    self._cross[p],
                    within[p],
                    ss_x[p],
                    ss_y[p],
                    moments.n,
                    parents,
                    moments.condition_on.cpu().numpy(),
                    ridge=ridge,
                    constant_x=constant_x[p],
                    constant_y=constant_y[p],
                    eps=eps,
                )

    def block(self, rows: slice) -> FloatArray:
        """(P, R, N) correlations of some sources."""
        if self._held is not None:
            return self._held[:, rows]
        return correlation(self._cross[:, rows], self._inverse_x[:, rows], self._inverse_y)

    def column(self, p: int) -> Column:
        """The correlations of pair p as a column of the table."""

        def values(rows: IntArray) -> FloatArray:
            n = self._cross.shape[-1]
            if self._held is not None:
                full = self._held[p]
            elif len(rows) > n * n // 8:
                full = correlation(self._cross[p], self._inverse_x[p], self._inverse_y[p])
            else:
                i, j = np.divmod(rows, n)
                r = self._cross[p, i, j] * self._inverse_x[p, i] * self._inverse_y[p, j]
                return np.clip(r, -1.0, 1.0)
            taken: FloatArray = full.ravel()[rows]
            return taken

        return values
