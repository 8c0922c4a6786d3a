"""Which process takes which batches of a loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

# A batch of this process with its number, or None; and how many batches all processes have done after it.
Round = tuple[tuple[int, Any] | None, int]


def deal_batches(loader: Iterable[Any], start: int, rank: int, size: int) -> Iterator[Round]:
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
        >>> [(own and own[1], done) for own, done in deal_batches("abcde", 0, 1, 2)]
        [('b', 2), ('d', 4), (None, 5)]
    """
    if isinstance(loader, DataLoader):
        yield from _of_data_loader(loader, start, rank, size)
    elif isinstance(loader, Sequence):
        for base in range(start, len(loader), size):
            number = base + rank
            yield (number, loader[number]) if number < len(loader) else None, min(base + size, len(loader))
    else:
        yield from _of_stream(loader, start, rank, size)


def _of_stream(loader: Iterable[Any], start: int, rank: int, size: int) -> Iterator[Round]:
    own: tuple[int, Any] | None = None
    done = start
    for done, batch in enumerate(islice(loader, start, None), start + 1):
        if (done - 1 - start) % size == rank:
            own = done - 1, batch
        if (done - start) % size == 0:
            yield own, done
            own = None
    if (done - start) % size:
        yield own, done


def _of_data_loader(loader: DataLoader[Any], start: int, rank: int, size: int) -> Iterator[Round]:
    sampler = None if isinstance(loader.dataset, IterableDataset) else loader.batch_sampler
    if isinstance(sampler, BatchSampler) and isinstance(sampler.sampler, SequentialSampler):
        batches = list(sampler)
        own_loader = DataLoader(
            loader.dataset,
            batch_sampler=batches[start + rank :: size],
            collate_fn=loader.collate_fn,
            num_workers=loader.num_workers,
            pin_memory=loader.pin_memory,
        )
        read = iter(own_loader)
        for base in range(start, len(batches), size):
            number = base + rank
            yield (number, next(read)) if number < len(batches) else None, min(base + size, len(batches))
        return
    if isinstance(sampler, BatchSampler) and (size > 1 or start):
        raise ValueError("the DataLoader shuffles, so processes would not agree on its batches; use shuffle=False")
    yield from _of_stream(loader, start, rank, size)
