"""The order of the samples in an epoch, and batches of them; nothing here needs Lightning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from gsnn.data.parts import Pair, Part, joined_pairs

# Independent random streams of one seed.
INIT, ORDER, NOISE, MEMBER = 0, 1, 2, 3


def derived_seed(seed: int, stream: int, epoch: int = 0) -> int:
    """A seed for each stream and epoch, so that nothing depends on what was drawn before."""
    return int(np.random.SeedSequence((seed, stream, epoch)).generate_state(1, np.uint64)[0] >> np.uint64(1))


class BatchPlan:
    """Where the batches of an epoch begin and end, and this process's part of each.

    Args:
        n: Samples M.
        batch_size: Rows B of a batch.
        seed: Fixes the order; None keeps the rows as they are.
        drop_last: Leave out a last batch that is not full.
    """

    def __init__(self, n: int, batch_size: int, *, seed: int | None = None, drop_last: bool = False) -> None:
        self.n, self.seed = n, seed
        self.batch_size, self.drop_last = batch_size, drop_last
        self.epoch = 0  # the training loop sets it before every pass
        self.rank, self.processes = 0, 1
        self.bounds = self._bounds(least=2)

    def share(self, rank: int, processes: int) -> None:
        """Yield this process's part of every batch: each ``processes``-th of its rows.

        A remainder of fewer rows than processes joins the batch before it.

        Args:
            rank: Number of this process, from 0.
            processes: Number of processes.

        Raises:
            ValueError: If a batch has fewer rows than there are processes, or ``rank`` is none of them.
        """
        if not 0 <= rank < processes:
            raise ValueError(f"rank must be from 0 to {processes - 1} for {processes} processes, got {rank}")
        if min(self.batch_size, self.n) < processes:
            raise ValueError(
                f"{processes} processes need batches of at least as many samples, got batch_size {self.batch_size} and "
                f"{self.n} samples; raise batch_size, or use fewer processes"
            )
        self.rank, self.processes = rank, processes
        self.bounds = self._bounds(least=max(2, processes))

    def _bounds(self, least: int) -> list[tuple[int, int]]:
        """Start and end of the rows of each batch; a remainder below ``least`` joins the batch before it."""
        whole, rest = divmod(self.n, self.batch_size)
        ends = [self.batch_size * (i + 1) for i in range(whole)]
        if rest < least and whole and not self.drop_last:
            ends[-1] += rest
        elif rest and not self.drop_last:
            ends.append(self.n)
        return list(zip([0, *ends], ends, strict=False))

    def __len__(self) -> int:
        return len(self.bounds)

    def _generator(self) -> torch.Generator:
        assert self.seed is not None  # the callers check it
        return torch.Generator().manual_seed(derived_seed(self.seed, ORDER, self.epoch))


class Batches(BatchPlan):
    """Shuffled mini-batches whose order depends on the seed and the epoch only, not on what ran before.

    Without ``drop_last`` the last batch holds the remainder; a remainder of one row joins the batch before it,
    because a batch norm has no variance over one row. :meth:`share` deals every batch out to several processes.

    Args:
        x: (M, I).
        y: (M, O).
        batch_size: Rows B of a batch.
        seed: Fixes the order; None keeps the rows as they are.
        drop_last: Leave out a last batch that is not full.

    Example:
        >>> x = torch.arange(5.0)[:, None]
        >>> [len(b) for b, _ in Batches(x, x, 2)]
        [2, 3]
        >>> batches = Batches(x, x, 3)
        >>> batches.share(1, 2)
        >>> [b.ravel().tolist() for b, _ in batches]
        [[1.0], [4.0]]
    """

    def __init__(
        self, x: Tensor, y: Tensor, batch_size: int, *, seed: int | None = None, drop_last: bool = False
    ) -> None:
        super().__init__(len(x), batch_size, seed=seed, drop_last=drop_last)
        self.x, self.y = x, y

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # A generator: nothing is drawn before the first batch is asked for, when the epoch is known.
        if self.seed is None:
            order = torch.arange(len(self.x))
        else:
            order = torch.randperm(len(self.x), generator=self._generator())
        for start, end in self.bounds:
            rows = order[start:end][self.rank :: self.processes]
            yield self.x[rows], self.y[rows]


class StreamedBatches(BatchPlan):
    """Shuffled mini-batches of samples that are read when they are needed; what ``Batches`` is for arrays.

    The seed and the epoch fix an order of the stretches of the file. As many stretches as fit into the buffer make a
    window; its training samples are read in the order of the file and then permuted. If all samples fit into the
    buffer, there is one window with the order of ``Batches``, and it is kept for the next epoch. A stretch larger than
    the buffer is read in several windows. So two samples can share a batch only if their stretches share a window (or
    the windows follow each other: a batch may end in the next window).

    The samples must be counted; the other arguments are those of ``Batches``.
    """

    def __init__(self, part: Part, batch_size: int, *, seed: int | None = None, drop_last: bool = False) -> None:
        super().__init__(len(part), batch_size, seed=seed, drop_last=drop_last)
        self.part = part
        self._kept: Pair | None = None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = self._generator() if self.seed is not None else None
        sizes = iter([stop - start for start, stop in self.bounds])
        size = next(sizes, 0)
        rest: Pair | None = None
        for x, y in self._windows():
            order = np.arange(len(x)) if generator is None else torch.randperm(len(x), generator=generator).numpy()
            at = 0
            while size:
                missing = size - (len(rest[0]) if rest else 0)
                if len(order) - at < missing:
                    break
                rows = order[at : at + missing]
                batch = joined_pairs(rest, (x[rows], y[rows]))
                rest, at, size = None, at + missing, next(sizes, 0)
                share = slice(self.rank, None, self.processes)
                yield torch.from_numpy(batch[0][share]), torch.from_numpy(batch[1][share])
            if not size:
                return  # the remainder is dropped
            if at < len(order):
                rows = order[at:]
                rest = joined_pairs(rest, (x[rows], y[rows]))

    def _windows(self) -> Iterator[Pair]:
        """Samples in the order of the file, a buffer at a time; a buffer is overwritten by the next."""
        if self._kept is not None:
            yield self._kept
            return
        # Samples that are not shuffled need no large buffer.
        share = 1 if self.seed is not None else 4
        graph, capacity = self.part.data.graph, min(self.n, max(1, self.part.data.buffer_rows // share))
        buffer = np.empty((capacity, graph.I), np.float32), np.empty((capacity, graph.O), np.float32)
        for window in self._plan():
            filled = 0
            for x, y in self.part.chunks(window):
                start = 0
                while start < len(x):
                    taken = min(capacity - filled, len(x) - start)
                    for target, values in zip(buffer, (x, y), strict=True):
                        target[filled : filled + taken] = values[start : start + taken]
                    filled, start = filled + taken, start + taken
                    if filled == capacity:
                        if capacity == self.n:
                            self._kept = buffer
                        yield buffer
                        filled = 0
            if filled:
                yield buffer[0][:filled], buffer[1][:filled]

    def _plan(self) -> list[list[int]]:
        """Numbers of the stretches in each window."""
        assert self.part.counts is not None  # the samples are counted
        counts, capacity = self.part.counts, self.part.data.buffer_rows
        order = np.flatnonzero(counts)
        if self.seed is not None:
            order = np.random.default_rng((self.seed, ORDER, self.epoch, 1)).permutation(order)
        windows: list[list[int]] = []
        free = 0
        for number in order.tolist():
            if not windows or counts[number] > free:
                windows.append([])
                free = capacity
            windows[-1].append(number)
            free -= counts[number]
        return [sorted(window) for window in windows]
