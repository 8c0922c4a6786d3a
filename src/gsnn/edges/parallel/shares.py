"""Which process takes which batches of a loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

# A batch of this process with its number, or None; and how many batches all processes have done after it.
Turn = tuple[tuple[int, Any] | None, int]


def turns(loader: Iterable[Any], start: int, rank: int, size: int) -> Iterator[Turn]:
    """Deal the batches of a loader out, one to each process in turn.

    Of a sequence, or a ``DataLoader`` over a data set with numbered samples, a process reads only its own batches; of
    any other loader it reads all and skips those of the others.

    Args:
        loader: Yields batches, the same in every process.
        start: Batches that were done before.
        rank: Number of this process.
        size: Number of processes.

    Yields:
        Equally often in every process.

    Raises:
        ValueError: If the loader shuffles, while there are several processes or some batches were done before.

    Example:
        >>> [(mine and mine[1], done) for mine, done in turns("abcde", 0, 1, 2)]
        [('b', 2), ('d', 4), (None, 5)]
    """
    if isinstance(loader, DataLoader):
        yield from _of_data_loader(loader, start, rank, size)
    elif isinstance(loader, Sequence):
        for base in range(start, len(loader), size):
            mine = base + rank
            yield (mine, loader[mine]) if mine < len(loader) else None, min(base + size, len(loader))
    else:
        yield from _of_stream(loader, start, rank, size)


def _of_stream(loader: Iterable[Any], start: int, rank: int, size: int) -> Iterator[Turn]:
    mine: tuple[int, Any] | None = None
    done = start
    for done, batch in enumerate(islice(loader, start, None), start + 1):
        if (done - 1 - start) % size == rank:
            mine = done - 1, batch
        if (done - start) % size == 0:
            yield mine, done
            mine = None
    if (done - start) % size:
        yield mine, done


def _of_data_loader(loader: DataLoader[Any], start: int, rank: int, size: int) -> Iterator[Turn]:
    sampler = None if isinstance(loader.dataset, IterableDataset) else loader.batch_sampler
    if isinstance(sampler, BatchSampler) and isinstance(sampler.sampler, SequentialSampler):
        batches = list(sampler)
        own = batches[start + rank :: size]
        dealt = DataLoader(
            loader.dataset,
            batch_sampler=own,
            collate_fn=loader.collate_fn,
            num_workers=loader.num_workers,
            pin_memory=loader.pin_memory,
        )
        read = iter(dealt)
        for base in range(start, len(batches), size):
            mine = base + rank
            yield (mine, next(read)) if mine < len(batches) else None, min(base + size, len(batches))
        return
    if isinstance(sampler, BatchSampler) and (size > 1 or start):
        raise ValueError("the DataLoader shuffles, so processes would not agree on its batches; use shuffle=False")
    yield from _of_stream(loader, start, rank, size)
