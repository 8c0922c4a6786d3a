"""What torch has once for the whole process: its generators, its threads, its devices."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController

from gsnn.base.errors import DataError, RunError

T = TypeVar("T")
R = TypeVar("R")

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


@cache
def _blas() -> ThreadpoolController:
    """The libraries that numpy and scipy multiply with; looked up once, as that takes longer than a small product."""
    import numpy.linalg  # noqa: F401 - what is not loaded is not found

    return ThreadpoolController().select(user_api="blas")


# A thread that begins takes over the number that was set last, which is 1 while another one is in here.
_THREADS = threading.Lock()
_inside: dict[int, int] = {}
_usual = 0
_limits: Any = None


def _after_fork() -> None:
    """A forked process has one thread, so no other thread holds the lock, even if one did in the parent."""
    global _TURN, _THREADS
    _TURN, _THREADS = threading.RLock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch, and the products of numpy, to one thread: for what is over before a second one has started.

    On a machine that is busy with other things, waiting for the second one costs ten times the work itself.

    Example:
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    global _usual, _limits
    me = threading.get_ident()
    with _THREADS:
        if not _inside:
            _usual = torch.get_num_threads()
        before = torch.get_num_threads() if me in _inside or not _inside else _usual
        _inside[me] = _inside.get(me, 0) + 1
        torch.set_num_threads(1)
        if _limits is None:
            _limits = _blas().limit(limits=1)
    try:
        yield
    finally:
        with _THREADS:
            _inside[me] -= 1
            if not _inside[me]:
                del _inside[me]
            torch.set_num_threads(before)
            if not _inside and _limits is not None:
                _limits.restore_original_limits()
                _limits = None


def map_in_threads(work: Callable[[T], R], parts: Sequence[T]) -> Iterator[R]:
    """Call a function with each part, by as many threads as torch is set to, each of which multiplies by itself.

    Args:
        work: For what numpy does, which lets the other threads run; it must not change what another part reads.
        parts: Its arguments.

    Yields:
        What it gave, in the order of the parts.

    Example:
        >>> list(map_in_threads(lambda rows: rows.stop - rows.start, [slice(0, 4), slice(4, 5)]))
        [4, 1]
    """
    workers = min(torch.get_num_threads(), len(parts))
    if workers <= 1:
        yield from map(work, parts)
        return
    # Threads that begin in here keep to one thread of their own.
    with one_thread(), ThreadPoolExecutor(workers) as pool:
        yield from pool.map(work, parts)


def usual_threads() -> int:
    """How many threads torch is set to, also inside :func:`one_thread`.

    Example:
        >>> before = usual_threads()
        >>> with one_thread():
        ...     usual_threads() == before
        True
    """
    with _THREADS:
        return _usual if _inside else torch.get_num_threads()


WORTH_THREADS = 6_000_000
"""Products in a pass over a batch below which torch keeps to one thread; measured by ``benchmarks/threads.py``."""


def threads_for(model: torch.nn.Module, samples: int) -> AbstractContextManager[None]:
    """:func:`one_thread` for a model whose passes are small, else as many threads as torch is set to.

    The number depends on the work alone, not on how busy the machine is, so that a run can be repeated bit for bit.

    Args:
        model: Its ``products`` are those of weights and values in a pass over one sample; without them each parameter
            counts once.
        samples: Of a batch.
    """
    return one_thread() if is_small(model, samples) else nullcontext()


def is_small(model: torch.nn.Module, samples: int) -> bool:
    """Whether a model's passes over so many samples are too small for several threads; see :func:`threads_for`."""
    products = getattr(model, "products", None)
    if not isinstance(products, int):
        products = sum(p.numel() for p in model.parameters())
    return products * samples < WORTH_THREADS


def check_device(device: str) -> None:
    """Refuse a device that torch does not know or does not find.

    Args:
        device: Such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        DataError: If torch knows no such device.
        RunError: If there is no GPU.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise DataError(f"unknown device {device!r}; use 'cpu', 'cuda' or, for instance, 'cuda:1'") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise RunError(f"device {device!r} was asked for, but torch finds no GPU here; use 'cpu'")
