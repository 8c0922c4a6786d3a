"""Moments in parts: pooled over processes, cut to some targets, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gsnn.edges.stats.moments import PairMoments

# Sent from process to process at a time.
_POOL_BYTES = 2**26


def pool_moments(moments: PairMoments, all_reduce: Callable[[Tensor], object]) -> None:
    """Join moments with those that other processes hold of other samples, in place: all end with those of the whole.

    Every process shifts its sums to the mean of all samples, then they are added up: the update of Chan, Golub and
    LeVeque (1979) for any number of parts at once. The mean need not be exact, since its error enters squared.

    Args:
        moments: Those of this process; every process has the same variables.
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
    for each in (moments._ss, moments._layers, moments._thirds, *moments._cross, *moments._within):
        for block in each.split(max(1, _POOL_BYTES // max(1, 8 * each[:1].numel()))):
            all_reduce(block)
    moments._mean.copy_(mean)
    moments._n_flushed = total


def pool_sketches(moments: PairMoments, rank: int, size: int, all_reduce: Callable[[Tensor], object]) -> None:
    """Join the samples that several processes keep: all end with those of the whole.

    Args:
        moments: Those of this process.
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
    return {
        "n": torch.tensor([moments.n], dtype=torch.int64),
        "mean": moments._mean,
        "ss": moments._ss,
        "layers": moments._layers,
        "thirds": moments._thirds,
        "cross": moments._cross,
        "within": moments._within,
        "sample_keys": moments.sketch.keys,
        "samples": moments.sketch.samples,
    }


def load_moments(moments: PairMoments, state: Mapping[str, Tensor]) -> None:
    """Replace the content of moments by a state of :func:`moments_state`.

    Args:
        moments: Of the same variables.
        state: All sums by name.

    Raises:
        ValueError: If the state is of other variables.
    """
    moments.reset()
    sums = {name: held for name, held in moments_state(moments).items() if name not in ("sample_keys", "samples")}
    for name, held in sums.items():
        if state[name].shape != held.shape:
            raise ValueError(f"state has {name} of shape {tuple(state[name].shape)}, expected {tuple(held.shape)}")
    for name, held in sums.items():
        held.copy_(state[name])
    moments._n_flushed = int(state["n"].item())
    moments.sketch.load(state["sample_keys"], state["samples"], moments._n_flushed)
