"""Streaming co-moments of several pairs of variable blocks, merged by Chan's formula."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Rows are gathered up to this many bytes before a flush: the pass over the (N, N) sums is then amortised over
# enough samples to leave the matrix product as the cost that counts.
_BUFFER_BYTES = 256 * 2**20
_BUFFER_ROWS = (128, 4096)
_CHUNK_BYTES = 4 * 2**20


class PairMoments:
    r"""Means and centred sums of products of P pairs of blocks, (x^p, y^p), of N variables each.

    For every pair p the class accumulates over samples b

    - ``mean_x``, ``mean_y`` (P, N) and the sums of squared deviations ``ss_x``, ``ss_y`` (P, N),
    - ``cross`` (P, N, N): :math:`\sum_b (x_{bi} - \bar x_i)(y_{bj} - \bar y_j)`,
    - ``within`` (P, U, N): the same of x with x, for the U rows in ``condition_on`` only,
    - ``layers_x``, ``layers_y`` (N, P, P): the same of one variable with itself at two pairs,
    - ``thirds_x``, ``thirds_y`` (N, P (P + 1) / 2, P): sums of products of three deviations of one variable, the first
      two at pairs p <= q in the order of ``torch.triu_indices``, the third at any pair.

    Sums are kept in float64. Products are taken in ``dtype`` on blocks centred by their own mean, so nothing is lost
    to a large mean, and blocks are joined by the update of Chan, Golub and LeVeque (1979), third moments by that of
    Pebay (2008). Samples are buffered and
    flushed in blocks of fixed size: how they were batched leaves no trace.

    Args:
        n_pairs: P.
        n_nodes: N.
        dtype: Floating dtype of the samples and of the products.
        device: Where samples arrive and sums are kept.
        condition_on: (U,) int64, the variables whose x-x co-moments are needed; None for none.
        buffer_rows: Samples per flushed block; None chooses from the size of a sample.

    Example:
        >>> moments = PairMoments(1, 2, torch.float64)
        >>> x = torch.tensor([[[1.0, 2.0, 3.0], [1.0, 0.0, 1.0]]], dtype=torch.float64)
        >>> moments.update(x, 2 * x)
        >>> moments.n, moments.cross[0, 0, 0].item()
        (3, 4.0)
    """

    def __init__(
        self,
        n_pairs: int,
        n_nodes: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        *,
        condition_on: Tensor | None = None,
        buffer_rows: int | None = None,
    ) -> None:
        self.n_pairs, self.n_nodes, self.dtype = n_pairs, n_nodes, dtype
        self.device = torch.device(device)
        if condition_on is None:
            condition_on = torch.zeros(0, dtype=torch.int64)
        self.condition_on = condition_on.to(self.device)
        if buffer_rows is None:
            row_bytes = 2 * max(1, n_pairs * n_nodes) * torch.finfo(dtype).bits // 8
            buffer_rows = min(max(_BUFFER_BYTES // row_bytes, _BUFFER_ROWS[0]), _BUFFER_ROWS[1])
        self.buffer_rows = buffer_rows
        self._every_node_conditions = len(self.condition_on) == n_nodes
        self.reset()

    def reset(self) -> None:
        """Forget every sample."""
        p, n = self.n_pairs, self.n_nodes
        self._n_flushed = 0
        self._n_buffered = 0
        self._buffer: tuple[Tensor, Tensor] | None = None
        self._mean = self._zeros(2, p, n)
        self._ss = self._zeros(2, p, n)
        self._layers = self._zeros(2, n, p, p)
        self._first, self._second = torch.triu_indices(p, p, device=self.device)
        self._thirds = self._zeros(2, n, len(self._first), p)
        self._cross = self._zeros(p, n, n)
        self._within = self._zeros(p, len(self.condition_on), n)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    @property
    def n(self) -> int:
        """Number of samples so far."""
        return self._n_flushed + self._n_buffered

    @property
    def mean_x(self) -> Tensor:
        """(P, N) means of x."""
        return self._flushed()._mean[0]

    @property
    def mean_y(self) -> Tensor:
        """(P, N) means of y."""
        return self._flushed()._mean[1]

    @property
    def ss_x(self) -> Tensor:
        """(P, N) sums of squared deviations of x."""
        return self._flushed()._ss[0]

    @property
    def ss_y(self) -> Tensor:
        """(P, N) sums of squared deviations of y."""
        return self._flushed()._ss[1]

    @property
    def cross(self) -> Tensor:
        """(P, N, N) sums of products of deviations, x_i with y_j."""
        return self._flushed()._cross

    @property
    def within(self) -> Tensor:
        """(P, U, N) sums of products of deviations, x_u with x_i, for u in ``condition_on``."""
        return self._flushed()._within

    @property
    def layers_x(self) -> Tensor:
        """(N, P, P) sums of products of deviations of x_i at two pairs."""
        return self._flushed()._layers[0]

    @property
    def layers_y(self) -> Tensor:
        """(N, P, P) sums of products of deviations of y_j at two pairs."""
        return self._flushed()._layers[1]

    @property
    def thirds_x(self) -> Tensor:
        """(N, P (P + 1) / 2, P) sums of products of three deviations of x_i."""
        return self._flushed()._thirds[0]

    @property
    def thirds_y(self) -> Tensor:
        """(N, P (P + 1) / 2, P) sums of products of three deviations of y_j."""
        return self._flushed()._thirds[1]

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add B samples.

        Args:
            x: (P, N, B) first variables of the pairs.
            y: (P, N, B) second variables of the pairs.

        Raises:
            ValueError: If a shape is not (P, N, B), or the two differ.
        """
        if x.shape != y.shape or x.shape[:-1] != (self.n_pairs, self.n_nodes):
            raise ValueError(
                f"x and y must both have shape (P, N, B) = ({self.n_pairs}, {self.n_nodes}, B), "
                f"got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        if self._buffer is None:
            # The spare last column carries the shift of the mean through the same matrix product.
            shape = (self.n_pairs, self.n_nodes, self.buffer_rows + 1)
            self._buffer = (
                torch.empty(shape, dtype=self.dtype, device=self.device),
                torch.empty(shape, dtype=self.dtype, device=self.device),
            )
        start, total = 0, x.shape[-1]
        while start < total:
            take = min(total - start, self.buffer_rows - self._n_buffered)
            for buffer, values in zip(self._buffer, (x, y), strict=True):
                buffer[..., self._n_buffered : self._n_buffered + take] = values[..., start : start + take]
            self._n_buffered += take
            start += take
            if self._n_buffered == self.buffer_rows:
                self.flush()

    def flush(self) -> None:
        """Move buffered samples into the sums; the properties do it by themselves."""
        k = self._n_buffered
        if k == 0 or self._buffer is None:
            return
        total = self._n_flushed + k
        weight = self._n_flushed * k / total
        before = self._mean.clone()
        for side, buffer in enumerate(self._buffer):
            for p in range(self.n_pairs):
                self._centre(side, p, buffer[p], k, weight, total)
        with _full_precision():
            x, y = (buffer[..., : k + 1] for buffer in self._buffer)
            shift = (self._mean - before) * (total / k)
            for side, values in enumerate((x, y)):
                self._add_layers(side, values[..., :k], shift[side])
            for p in range(self.n_pairs):
                self._cross[p] += x[p] @ y[p].T
                if len(self.condition_on):
                    rows = x[p] if self._every_node_conditions else x[p, self.condition_on]
                    self._within[p] += rows @ x[p].T
        self._n_flushed, self._n_buffered = total, 0

    def merge(self, other: PairMoments) -> PairMoments:
        """Add the samples of ``other``, in place, as if they had been given to this object.

        Args:
            other: Moments of the same pairs; it is not changed.

        Returns:
            This object.

        Raises:
            ValueError: If the two do not hold moments of the same variables.
        """
        if (self.n_pairs, self.n_nodes) != (other.n_pairs, other.n_nodes) or not torch.equal(
            self.condition_on.cpu(), other.condition_on.cpu()
        ):
            raise ValueError(
                f"other holds {other.n_pairs} pairs of {other.n_nodes} nodes, {len(other.condition_on)} of them "
                f"conditioned on; expected {self.n_pairs}, {self.n_nodes} and {len(self.condition_on)}, the same nodes"
            )
        self.flush()
        other.flush()
        if other.n == 0:
            return self
        total = self.n + other.n
        weight = self.n * other.n / total
        shift = other._mean.to(self.device) - self._mean
        scaled = shift * weight
        for p in range(self.n_pairs):
            self._cross[p] += other._cross[p].to(self.device)
            self._cross[p].addr_(scaled[0, p], shift[1, p])
            if len(self.condition_on):
                self._within[p] += other._within[p].to(self.device)
                self._within[p].addr_(scaled[0, p, self.condition_on], shift[0, p])
        for side in range(2):
            delta = shift[side].T
            self._join(side, slice(None), other._layers[side].to(self.device), delta, other.n)
            self._thirds[side] += other._thirds[side].to(self.device)
        self._layers += other._layers.to(self.device) + torch.einsum("spn,sqn->snpq", scaled, shift)
        self._ss += other._ss.to(self.device) + scaled * shift
        self._mean += shift * (other.n / total)
        self._n_flushed = total
        return self

    def _flushed(self) -> PairMoments:
        self.flush()
        return self

    def _centre(self, side: int, p: int, values: Tensor, k: int, weight: float, total: int) -> None:
        """Centre one block in place by its own mean, add to mean and squares, leave the shift in column k."""
        chunk = max(1, _CHUNK_BYTES // (8 * (k + 1)))
        for start in range(0, self.n_nodes, chunk):
            rows = slice(start, start + chunk)
            exact = values[rows, :k].double()
            mean = exact.mean(1)
            exact -= mean[:, None]
            # What rounding left of the mean matters where the mean is large and the spread tiny.
            rest = exact.mean(1)
            exact -= rest[:, None]
            shift = mean + rest - self._mean[side, p, rows]
            self._ss[side, p, rows] += exact.square().sum(1) + shift.square() * weight
            self._mean[side, p, rows] += shift * (k / total)
            values[rows, :k] = exact.to(self.dtype)
            values[rows, k] = (shift * weight**0.5).to(self.dtype)

    def _add_layers(self, side: int, values: Tensor, shift: Tensor) -> None:
        """Products of two and of three of a variable with itself across the pairs; a chunk stays in cache.

        Args:
            side: 0 for x, 1 for y.
            values: (P, N, k) deviations from the mean of the block.
            shift: (P, N) mean of the block minus the mean before.
        """
        k = values.shape[-1]
        weight = self._n_flushed * k / (self._n_flushed + k)
        chunk = max(1, _CHUNK_BYTES // (values.element_size() * len(self._first) * k))
        for start in range(0, self.n_nodes, chunk):
            rows = slice(start, start + chunk)
            block = values[:, rows].transpose(0, 1)
            pairs = (block @ block.transpose(1, 2)).double()
            delta = shift[:, rows].T
            self._join(side, rows, pairs, delta, k)
            products = block[:, self._first] * block[:, self._second]
            self._thirds[side, rows] += products @ block.transpose(1, 2)
            self._layers[side, rows] += pairs + weight * delta[:, :, None] * delta[:, None, :]

    def _join(self, side: int, rows: slice, pairs: Tensor, delta: Tensor, k: int) -> None:
        """What the third moments of two sets of samples lack when they are merely added up (Pebay 2008).

        Args:
            side: 0 for x, 1 for y.
            rows: The variables.
            pairs: (R, P, P) sums of products of the k samples that are added.
            delta: (R, P) their mean minus the mean before.
            k: Number of these samples.
        """
        old = self._n_flushed
        if old == 0:
            return
        total = old + k
        first, second = self._first, self._second
        mixed = (old * pairs - k * self._layers[side, rows]) / total
        cubic = old * k * (old - k) / total**2
        two = delta[:, first] * delta[:, second]
        self._thirds[side, rows] += (
            cubic * two[:, :, None] * delta[:, None, :]
            + delta[:, None, :] * mixed[:, first, second][:, :, None]
            + delta[:, first][:, :, None] * mixed[:, second]
            + delta[:, second][:, :, None] * mixed[:, first]
        )


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products in true float32 whatever a training script has chosen for its own."""
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
