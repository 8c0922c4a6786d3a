"""Moments in parts: pooled over processes, cut to some targets, written down and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gsnn.edges.stats.moments import PairMoments

# What goes from process to process at a time.
_POOL_BYTES = 2**26
_STATE = ("n", "mean", "ss", "layers", "thirds", "cross", "within")
_SKETCH = ("sample_keys", "samples")


def pool_moments(moments: PairMoments, all_reduce: Callable[[Tensor], object]) -> None:
    """Join moments with those that other processes hold of other samples, in place: all end with those of the whole.

    Every process moves its sums to the mean of all samples and then they are added up, which is the update of Chan,
    Golub and LeVeque (1979) for any number of parts at once. The mean need not be exact for that: an error of it enters
    by its square.

    Args:
        moments: What this process holds; every process has the same variables.
        all_reduce: Replaces a contiguous tensor by its sum over all processes, in each of them.

    Example:
        >>> one, two = (PairMoments(1, 1, torch.float64) for _ in range(2))
        >>> one.update(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.0, 1.0]]]))
        >>> pool_moments(one, lambda tensor: tensor)  # a single process
        >>> one.n, one.cross.item()
        (2, 0.5)
    """
    moments.flush()
    n = moments.n
    count = torch.tensor([float(n)], dtype=torch.float64, device=moments.device)
    all_reduce(count)
    total = int(count.item())
    if total == 0:
        return
    mean = moments._mean * (n / total)
    all_reduce(mean)
    if n:
        _recentre(moments, mean)
    sums = (moments._ss, moments._layers, moments._thirds, *moments._cross, *moments._within)
    for each in sums:
        for block in each.split(max(1, _POOL_BYTES // max(1, 8 * each[:1].numel()))):
            all_reduce(block)
    moments._mean.copy_(mean)
    moments._n_flushed = total


def pool_sketches(moments: PairMoments, rank: int, size: int, all_reduce: Callable[[Tensor], object]) -> None:
    """Join the samples that several processes keep: all end with those of the whole.

    Args:
        moments: What this process holds.
        rank: Its number.
        size: Number of processes.
        all_reduce: Replaces a contiguous tensor by its sum over all processes, in each of them.
    """
    sketch = moments.sketch
    if not sketch.size:
        return
    keys, samples = sketch.keys, sketch.samples
    counts = torch.zeros(size, dtype=torch.int64)
    counts[rank] = len(keys)
    seen = torch.tensor([sketch.seen], dtype=torch.int64)
    all_reduce(counts)
    all_reduce(seen)
    ends = counts.cumsum(0).tolist()
    own = slice(ends[rank] - len(keys), ends[rank])
    every_key = torch.zeros(ends[-1], dtype=torch.int64)
    every_key[own] = keys
    all_reduce(every_key)
    every = torch.zeros((*sketch.shape, ends[-1]), dtype=sketch.dtype, device=sketch.device)
    every[..., own] = samples
    for block in every:
        all_reduce(block)
    sketch.load(every_key, every, int(seen.item()))


def _recentre(moments: PairMoments, mean: Tensor) -> None:
    """Make the sums those of deviations from ``mean`` (2, P, N) instead of from the mean of the samples."""
    n, shift = moments.n, moments._mean - mean
    for p in range(moments.n_pairs):
        moments._cross[p].addr_(shift[0, p], shift[1, p, moments.columns], alpha=n)
        if len(moments.condition_on):
            moments._within[p].addr_(shift[0, p, moments.condition_on], shift[0, p], alpha=n)
    first, second = moments._first, moments._second
    for side in range(2):
        delta, two = shift[side].T, moments._layers[side]
        moments._thirds[side] += (
            delta[:, first][:, :, None] * two[:, second]
            + delta[:, second][:, :, None] * two[:, first]
            + delta[:, None, :] * two[:, first, second][:, :, None]
            + n * (delta[:, first] * delta[:, second])[:, :, None] * delta[:, None, :]
        )
        two += n * delta[:, :, None] * delta[:, None, :]
    moments._ss += n * shift.square()


def narrowed_moments(moments: PairMoments, targets: range, condition_on: Tensor) -> PairMoments:
    """The part of moments that edges into some targets need, as a copy.

    Args:
        moments: Of more targets.
        targets: Some of them.
        condition_on: Some of the variables conditioned on, ascending.

    Returns:
        Moments of the same samples.
    """
    moments.flush()
    part = PairMoments(
        moments.n_pairs,
        moments.n_nodes,
        moments.dtype,
        moments.device,
        condition_on=condition_on,
        memory_bytes=moments.memory_bytes,
        targets=targets,
    )
    first = moments.targets.start
    cross = moments._cross[:, :, targets.start - first : targets.stop - first]
    rows = torch.searchsorted(moments.condition_on, part.condition_on)
    load_moments(part, moments_state(moments) | {"cross": cross, "within": moments._within[:, rows]})
    return part


def moments_state(moments: PairMoments) -> dict[str, Tensor]:
    """All sums by name, for a file; not copies. Samples in the buffer are flushed first."""
    moments.flush()
    count = torch.tensor([moments.n], dtype=torch.int64)
    parts = (
        count,
        moments._mean,
        moments._ss,
        moments._layers,
        moments._thirds,
        moments._cross,
        moments._within,
    )
    kept = (moments.sketch.keys, moments.sketch.samples)
    return dict(zip(_STATE, parts, strict=True)) | dict(zip(_SKETCH, kept, strict=True))


def load_moments(moments: PairMoments, state: Mapping[str, Tensor]) -> None:
    """Replace everything in moments by what :func:`moments_state` gave.

    Args:
        moments: Of the same variables.
        state: From there.

    Raises:
        ValueError: If it is of other variables.
    """
    moments.reset()
    whole = moments_state(moments)
    mine = {name: whole[name] for name in _STATE}
    n = int(state["n"].item())
    for name, held in mine.items():
        if state[name].shape != held.shape:
            raise ValueError(f"state has {name} of shape {tuple(state[name].shape)}, expected {tuple(held.shape)}")
    for name, held in mine.items():
        held.copy_(state[name])
    moments._n_flushed = n
    moments.sketch.load(state[_SKETCH[0]], state[_SKETCH[1]], n)
