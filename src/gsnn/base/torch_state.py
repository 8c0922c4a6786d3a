"""Threads take turns where torch has one of something for the whole process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

__all__ = ["in_turn", "own_random_state"]

_TURN = threading.RLock()


@contextmanager
def in_turn() -> Iterator[None]:
    """Let one thread in at a time; a thread that is inside may enter again.

    Torch's random generator, Python's warning filters and the modes of a model are read by everybody at once: two
    threads that each put them back would put back what the other one made of them.
    """
    with _TURN:
        yield


@contextmanager
def own_random_state(devices: Sequence[int] | None = ()) -> Iterator[None]:
    """Put torch's generators back afterwards, with no other thread of the library drawing meanwhile.

    Args:
        devices: CUDA devices whose generators are put back too; None for all of them.

    Example:
        >>> before = torch.get_rng_state()
        >>> with own_random_state():
        ...     _ = torch.rand(3)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    with in_turn(), torch.random.fork_rng(devices=None if devices is None else list(devices)):
        yield
