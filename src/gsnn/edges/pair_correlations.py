"""The correlations of every adjacent pair of blocks, from streamed moments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.base.memory import matrix_dtype
from gsnn.base.progress import track
from gsnn.edges.pairs import Column
from gsnn.edges.stats import (
    PairMoments,
    constant_columns,
    correlation,
    inverse_norms,
    layer_correlation,
    layer_thirds,
    partial_correlation,
)

# Sources whose products are computed at once where the sums are deferred: enough for the speed of a matrix product,
# P * 256 * N * 12 bytes.
_SOURCES = 256


class PairCorrelations:
    """The (N, T) correlations of every pair: plain ones are computed when asked for, partial ones are held.

    T are the targets of the moments, by default all N. Partial ones take 8 P N T bytes, half of that above 4,096 nodes,
    and 16 N T to compute.

    Args:
        moments: The moments they come from.
        parents: For each target the indices of its known parents.
        ridge: None for plain correlations; for partial ones added to the diagonal of the parents' covariance.

    Attributes:
        defined_x: (P, N) bool, which activations vary.
        defined_y: (P, T) bool, which gradients vary.
        rho_x: (N, P, P) correlations of an activation with itself across the pairs.
        rho_y: (T, P, P) the same of the gradients.
        third_x: (N, P (P + 1) / 2, P) sums of products of three unit-norm deviations of an activation.
        third_y: (T, P (P + 1) / 2, P) the same of the gradients.
    """

    def __init__(self, moments: PairMoments, parents: list[IntArray], ridge: float | None) -> None:
        eps = float(torch.finfo(moments.dtype).eps)
        self._moments = moments
        self._products: tuple[int, FloatArray] | None = None
        own = moments.columns
        ss_x, ss_y = moments.ss_x.cpu().numpy(), moments.ss_y[:, own].cpu().numpy()
        constant_x = constant_columns(moments.mean_x.cpu().numpy(), ss_x, moments.n, eps)
        constant_y = constant_columns(moments.mean_y[:, own].cpu().numpy(), ss_y, moments.n, eps)
        self._inverse_x = inverse_norms(ss_x, constant_x)
        self._inverse_y = inverse_norms(ss_y, constant_y)
        self.defined_x, self.defined_y = ~constant_x, ~constant_y
        self._all_defined = bool(self.defined_x.all() and self.defined_y.all())
        self._known_x = np.where(constant_x, 0.0, self._inverse_x)
        self._known_y = np.where(constant_y, 0.0, self._inverse_y)
        self.rho_x = layer_correlation(moments.layers_x.cpu().numpy(), constant_x)
        self.rho_y = layer_correlation(moments.layers_y[own].cpu().numpy(), constant_y)
        self.third_x = layer_thirds(moments.thirds_x.cpu().numpy(), ss_x, constant_x)
        self.third_y = layer_thirds(moments.thirds_y[own].cpu().numpy(), ss_y, constant_y)
        self._held: npt.NDArray[np.floating] | None = None
        if ridge is not None:
            n_pairs, n_nodes = ss_x.shape
            self._held = np.empty((n_pairs, n_nodes, len(moments.targets)), matrix_dtype(n_nodes))
            for p in track(range(n_pairs), "pairs of blocks", show=None):
                self._held[p] = partial_correlation(
                    moments.cross_pair(p).cpu().numpy(),
                    moments.within_pair(p).cpu().numpy(),
                    ss_x[p],
                    ss_y[p],
                    moments.n,
                    parents[own],
                    moments.condition_on.cpu().numpy(),
                    ridge=ridge,
                    constant_x=constant_x[p],
                    constant_y=constant_y[p],
                    eps=eps,
                    first=own.start,
                )

    def target(self, j: int) -> FloatArray:
        """(P, N) partial correlations of all sources with one target."""
        if self._held is None:
            raise ValueError("only partial correlations are held; take block or column")
        return self._held[:, :, j].astype(np.float64, copy=False)

    def defined(self, i: IntArray, j: IntArray) -> BoolArray:
        """(P, K) which correlations are defined, of sources i (K,) with targets j (K,)."""
        if self._held is not None:
            return ~np.isnan(self._held[:, i, j])
        both: BoolArray = self.defined_x[:, i] & self.defined_y[:, j]
        return both

    def block(self, rows: slice) -> FloatArray:
        """(P, R, T) correlations of some sources."""
        if self._held is not None:
            return self._held[:, rows].astype(np.float64, copy=False)
        return correlation(self._cross_rows(rows), self._inverse_x[:, rows], self._inverse_y)

    def total(self, rows: slice) -> tuple[FloatArray, FloatArray]:
        """Sum of the defined correlations of some sources, (R, T), and their number, (R, T) or one for all."""
        if self._held is not None:
            r = self.block(rows)
            known = ~np.isnan(r)
            return np.where(known, r, 0.0).sum(0), known.sum(0, dtype=np.float64)
        # Source by source, so that the products divided by the targets' norms stay in cache; the caller clips the mean.
        weighted = self._cross_rows(rows) * self._known_y[:, None]
        total = (self._known_x[:, rows].T[:, None] @ weighted.transpose(1, 0, 2))[:, 0]
        return total, self.count(rows)

    def count(self, rows: slice) -> FloatArray:
        """Number of defined plain correlations of some sources, (R, T), or (1, 1) where all are defined."""
        if self._all_defined:
            return np.full((1, 1), float(len(self.defined_x)))
        number: FloatArray = self.defined_x[:, rows].T.astype(np.float64) @ self.defined_y.astype(np.float64)
        return number

    def _cross_rows(self, rows: slice) -> FloatArray:
        """(P, R, T) sums of products of some sources, out of a larger block of them."""
        n = self._inverse_x.shape[1]
        if self._products is None or not (
            self._products[0] <= rows.start and rows.stop <= self._products[0] + self._products[1].shape[1]
        ):
            end = min(max(rows.start + _SOURCES, rows.stop), n) if self._moments.put_off else rows.stop
            self._products = None
            self._products = rows.start, self._moments.cross_rows(slice(rows.start, end)).cpu().numpy()
        start, products = self._products
        return products[:, rows.start - start : rows.stop - start]

    def column(self, p: int) -> Column:
        """The correlations of pair p as a column of the table."""

        def values(rows: IntArray) -> FloatArray:
            n, n_targets = self._inverse_x.shape[1], self._inverse_y.shape[1]
            if self._held is not None:
                return self._held[p].ravel()[rows].astype(np.float64, copy=False)
            if len(rows) > n * n_targets // 8:
                cross = self._moments.cross_pair(p).cpu().numpy()
                full: FloatArray = correlation(cross, self._inverse_x[p], self._inverse_y[p]).ravel()[rows]
                return full
            i, j = np.divmod(rows, n_targets)
            device = self._moments.device
            at = torch.from_numpy(i).to(device), torch.from_numpy(j).to(device)
            entries = self._moments.cross_entries(p, *at).cpu().numpy()
            return np.clip(entries * self._inverse_x[p, i] * self._inverse_y[p, j], -1.0, 1.0)

        return values
