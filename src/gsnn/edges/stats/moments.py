"""Streaming co-moments of several pairs of variable blocks, merged by Chan's formula."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gsnn.base.memory import in_words
from gsnn.edges.stats.sample_sketch import SampleSketch

# Rows are gathered up to this many bytes before a flush: the pass over the (N, N) sums is then amortised over so many
# samples that the matrix product dominates the cost.
_BUFFER_BYTES = 256 * 2**20
_BUFFER_ROWS = (128, 4096)
_CHUNK_BYTES = 4 * 2**20
# Sums over all pairs of variables larger than this are deferred until the buffer overflows. Fixed, not by the budget:
# results must not depend on the machine.
_DEFERRED_BYTES = 2**30
# Samples that are kept for what sums cannot give: bytes they may take, and the least and largest number of them.
_SKETCH_BYTES = 2**27
_SKETCH_SAMPLES = (256, 2048)


def _of_side(name: str, side: int, doc: str) -> property:
    """A property: one side of an attribute of :class:`PairMoments`, with all samples counted."""
    return property(lambda self: getattr(self._settled(), name)[side], doc=doc)


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
    Pebay (2008). Samples are buffered and flushed in blocks of fixed size, so that results do not depend on how they
    were batched.

    Up to 2,048 samples, (2, P, N) of x and y, are kept as well (``sketch``; random ones of a longer stream; as many as
    128 MiB hold, but at least 256): sums of fixed size do not give third moments of the residuals of a regression.

    Memory: the sums ``cross`` and ``within`` take 8 P N (N + U) bytes. While they would be more than 1 GiB and all
    samples are still in the buffer, they are not made: :meth:`cross_rows`, :meth:`cross_pair`, :meth:`within_pair` and
    :meth:`cross_entries` compute only the products asked for. Sums that do not fit into ``memory_bytes`` are kept in an
    unnamed temporary file, mapped into memory.

    Args:
        n_pairs: P.
        n_nodes: N.
        dtype: Floating dtype of the samples and of the products.
        device: Of the samples and the sums.
        condition_on: (U,) int64, the variables whose x-x co-moments are needed; None for none.
        buffer_rows: Samples per flushed block; None chooses from the size of a sample.
        memory_bytes: What buffers (a quarter) and sums (half) may take; None for 256 MiB of buffers and any sums.
        targets: The T variables y whose products with the x are summed: ``cross`` is then (P, N, T); None for all.

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
        memory_bytes: int | None = None,
        targets: range | None = None,
    ) -> None:
        self.n_pairs, self.n_nodes, self.dtype, self.memory_bytes = n_pairs, n_nodes, dtype, memory_bytes
        self.device = torch.device(device)
        if condition_on is None:
            condition_on = torch.zeros(0, dtype=torch.int64)
        self.condition_on = condition_on.to(self.device)
        self.targets = range(n_nodes) if targets is None else targets
        self.columns = slice(self.targets.start, self.targets.stop)
        sums = 8 * n_pairs * n_nodes * (len(self.targets) + len(condition_on))
        self._may_defer = sums > _DEFERRED_BYTES
        self._in_file = memory_bytes is not None and sums > memory_bytes // 2 and self.device.type == "cpu"
        if buffer_rows is None:
            row_bytes = 2 * max(1, n_pairs * n_nodes) * torch.finfo(dtype).bits // 8
            # Large sums deserve a large buffer: every flush passes over all of them.
            room, least = _BUFFER_BYTES, _BUFFER_ROWS[0]
            if memory_bytes is not None:
                room = memory_bytes // 4 if self._may_defer else min(room, memory_bytes // 4)
                least = min(least, max(8, room // row_bytes))
            buffer_rows = min(max(room // row_bytes, least), _BUFFER_ROWS[1])
        self.buffer_rows = buffer_rows
        self._every_node_conditions = len(self.condition_on) == n_nodes
        fitting = _SKETCH_BYTES // max(1, 2 * n_pairs * n_nodes * torch.finfo(dtype).bits // 8)
        kept = min(max(fitting, _SKETCH_SAMPLES[0]), _SKETCH_SAMPLES[1])
        self.sketch = SampleSketch((2, n_pairs, n_nodes), kept, dtype, self.device)
        self.reset()

    def reset(self) -> None:
        """Forget every sample."""
        p, n = self.n_pairs, self.n_nodes
        self._n_flushed = 0
        self._n_buffered = 0
        # (2, P, N, rows + 1): the spare last column carries the shift of the mean through the same matrix product.
        self._buffer: Tensor | None = None
        self._mean = self._zeros(2, p, n)
        self._ss = self._zeros(2, p, n)
        self._layers = self._zeros(2, n, p, p)
        self._first, self._second = torch.triu_indices(p, p, device=self.device)
        self._thirds = self._zeros(2, n, len(self._first), p)
        # Buffered samples that are centred and counted, but whose products are not yet in the sums.
        self._pending = 0
        self._sums: tuple[Tensor, Tensor] | None = None
        self.sketch.reset()

    @property
    def _cross(self) -> Tensor:
        """Sums over all pairs; made when first needed."""
        return self._made()[0]

    @property
    def _within(self) -> Tensor:
        return self._made()[1]

    def _made(self) -> tuple[Tensor, Tensor]:
        if self._sums is None:
            p, n = self.n_pairs, self.n_nodes
            make = _zeros_in_file if self._in_file else self._zeros
            self._sums = make(p, n, len(self.targets)), make(p, len(self.condition_on), n)
        return self._sums

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    @property
    def n(self) -> int:
        """Number of samples so far."""
        return self._n_flushed + self._n_buffered

    mean_x = _of_side("_mean", 0, "(P, N) means of x.")
    mean_y = _of_side("_mean", 1, "(P, N) means of y.")
    ss_x = _of_side("_ss", 0, "(P, N) sums of squared deviations of x.")
    ss_y = _of_side("_ss", 1, "(P, N) sums of squared deviations of y.")
    layers_x = _of_side("_layers", 0, "(N, P, P) sums of products of deviations of x_i at two pairs.")
    layers_y = _of_side("_layers", 1, "(N, P, P) sums of products of deviations of y_j at two pairs.")
    thirds_x = _of_side("_thirds", 0, "(N, P (P + 1) / 2, P) sums of products of three deviations of x_i.")
    thirds_y = _of_side("_thirds", 1, "(N, P (P + 1) / 2, P) sums of products of three deviations of y_j.")

    @property
    def cross(self) -> Tensor:
        """(P, N, N) sums of products of deviations, x_i with y_j."""
        self.flush()
        return self._cross

    @property
    def within(self) -> Tensor:
        """(P, U, N) sums of products of deviations, x_u with x_i, for u in ``condition_on``."""
        self.flush()
        return self._within

    @property
    def put_off(self) -> bool:
        """Whether the sums over all pairs are deferred, since all samples are still in the buffer."""
        return self._settled()._pending > 0

    def cross_rows(self, rows: slice) -> Tensor:
        """Some rows of ``cross``, (P, R, N), without making the sums where they are deferred."""
        if not self._settled()._pending:
            return self._cross[:, rows]
        x, y = self._samples()
        with full_precision():
            return (x[:, rows] @ y[:, self.columns].transpose(1, 2)).double()

    def cross_pair(self, p: int) -> Tensor:
        """One pair of ``cross``, (N, N), as :meth:`cross_rows`; in the dtype of the products where deferred."""
        if not self._settled()._pending:
            return self._cross[p]
        x, y = self._samples()
        with full_precision():
            return x[p] @ y[p, self.columns].T

    def within_pair(self, p: int) -> Tensor:
        """One pair of ``within``, (U, N), as :meth:`cross_pair`."""
        if not self._settled()._pending:
            return self._within[p]
        x, _ = self._samples()
        with full_precision():
            return x[p, self.condition_on] @ x[p].T

    def cross_entries(self, p: int, i: Tensor, j: Tensor) -> Tensor:
        """Entries (i, j) of pair p of ``cross``, (K,) float64 for K indices each, as :meth:`cross_rows`."""
        if not self._settled()._pending:
            return self._cross[p, i, j]
        x, y = self._samples()
        y = y[:, self.columns]
        step = max(1, _CHUNK_BYTES // (8 * max(1, self._pending)))
        parts = [
            (x[p, a].double() * y[p, b].double()).sum(1) for a, b in zip(i.split(step), j.split(step), strict=True)
        ]
        return torch.cat(parts)

    def _samples(self) -> tuple[Tensor, Tensor]:
        """(P, N, k) deviations of the samples whose products are deferred."""
        assert self._buffer is not None
        x, y = self._buffer[..., : self._pending]
        return x, y

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
        if self._pending:
            self.flush()
        self.sketch.update(torch.stack([x, y]))
        if self._buffer is None:
            shape = (2, self.n_pairs, self.n_nodes, self.buffer_rows + 1)
            self._buffer = torch.empty(shape, dtype=self.dtype, device=self.device)
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
        k = self._pending or self._n_buffered
        if k == 0 or self._buffer is None:
            return
        if not self._pending:
            self._absorb(k)
        x, y = self._buffer[..., : k + 1]
        with full_precision():
            for p in range(self.n_pairs):
                self._cross[p] += x[p] @ y[p, self.columns].T
                if len(self.condition_on):
                    rows = x[p] if self._every_node_conditions else x[p, self.condition_on]
                    self._within[p] += rows @ x[p].T
        self._pending = 0

    def _absorb(self, k: int) -> None:
        """Centre k buffered samples and count them in everything but the sums over all pairs."""
        if self._buffer is None:
            return
        total = self._n_flushed + k
        weight = self._n_flushed * k / total
        before = self._mean.clone()
        for side, buffer in enumerate(self._buffer):
            for p in range(self.n_pairs):
                self._centre(side, p, buffer[p], k, weight, total)
        shift = (self._mean - before) * (total / k)
        with full_precision():
            for side, buffer in enumerate(self._buffer):
                self._add_layers(side, buffer[..., :k], shift[side])
        self._n_flushed, self._n_buffered = total, 0

    def _settled(self) -> PairMoments:
        """Bring everything up to date but the sums over all pairs, and these too unless they can be deferred."""
        if self._n_buffered and self._may_defer and self._n_flushed == 0:
            self._pending = self._n_buffered
            self._absorb(self._pending)
        elif self._n_buffered:
            self.flush()
        return self

    def merge(self, other: PairMoments) -> PairMoments:
        """Add the samples of ``other``, in place, as if they had been given to this object.

        Args:
            other: Moments of the same pairs; it is not changed.

        Returns:
            This object.

        Raises:
            ValueError: If the two do not hold moments of the same variables.
        """
        if (self.n_pairs, self.n_nodes, self.targets) != (other.n_pairs, other.n_nodes, other.targets) or not (
            torch.equal(self.condition_on.cpu(), other.condition_on.cpu())
        ):
            raise ValueError(
                f"other holds {other.n_pairs} pairs of {other.n_nodes} nodes, {len(other.condition_on)} of them "
                f"conditioned on; expected {self.n_pairs}, {self.n_nodes} and {len(self.condition_on)}, the same nodes"
            )
        self.flush()
        other.flush()
        if other.n == 0:
            return self
        self.sketch.merge(other.sketch)
        total = self.n + other.n
        weight = self.n * other.n / total
        shift = other._mean.to(self.device) - self._mean
        scaled = shift * weight
        for p in range(self.n_pairs):
            self._cross[p] += other._cross[p].to(self.device)
            self._cross[p].addr_(scaled[0, p], shift[1, p, self.columns])
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

    def _centre(self, side: int, p: int, values: Tensor, k: int, weight: float, total: int) -> None:
        """Centre one block in place by its own mean, add to mean and squares, leave the shift in column k."""
        chunk = max(1, _CHUNK_BYTES // (8 * (k + 1)))
        for start in range(0, self.n_nodes, chunk):
            rows = slice(start, start + chunk)
            exact = values[rows, :k].double()
            mean = exact.mean(1)
            exact -= mean[:, None]
            # The rest that rounding left of the mean matters where the mean is large and the spread tiny.
            rest = exact.mean(1)
            exact -= rest[:, None]
            shift = mean + rest - self._mean[side, p, rows]
            self._ss[side, p, rows] += exact.square().sum(1) + shift.square() * weight
            self._mean[side, p, rows] += shift * (k / total)
            values[rows, :k] = exact.to(self.dtype)
            values[rows, k] = (shift * weight**0.5).to(self.dtype)

    def _add_layers(self, side: int, values: Tensor, shift: Tensor) -> None:
        """Add the products of two and of three of each variable across the pairs, in chunks that stay in cache.

        ``values`` (P, N, k) are deviations from the mean of the block, ``shift`` (P, N) is that minus the mean before.
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
        """Add what the sum of the third moments of two sets of samples lacks of those of the whole (Pebay 2008).

        The k samples that are added have the sums of products ``pairs`` (R, P, P); ``delta`` (R, P) is their mean minus
        the mean before.
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


def _zeros_in_file(*shape: int) -> Tensor:
    """Float64 zeros in an unnamed temporary file, which is removed with the tensor."""
    size = math.prod(shape)
    if size == 0:
        return torch.zeros(shape, dtype=torch.float64)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < 8 * size:
        # Writing to a mapped file on a full disk would kill the process.
        raise RuntimeError(
            f"sums of {in_words(8 * size)} do not fit into the memory budget, nor into the {in_words(free)} free in "
            f"{tempfile.gettempdir()}; raise memory_budget, set TMPDIR, or share the targets among processes"
        )
    with tempfile.NamedTemporaryFile(prefix="gsnn-") as file:
        file.truncate(8 * size)
        held = torch.from_file(file.name, shared=True, size=size, dtype=torch.float64)
    return held.view(shape)


@contextmanager
def full_precision() -> Iterator[None]:
    """Products in true float32, whatever a training script has chosen."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
