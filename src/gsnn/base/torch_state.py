"""The state of torch that is global to the process: its generators, its threads, its devices."""

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

    All threads share torch's random generator, Python's warning filters and the modes of a model. Of two threads that
    change and restore them at the same time, one would restore what the other had set.
    """
    with _TURN:
        yield


@contextmanager
def own_random_state(devices: Sequence[int] | None = ()) -> Iterator[None]:
    """Restore torch's generators after the block; no other thread of the library draws meanwhile.

    Args:
        devices: CUDA devices whose generators are restored too; None for all of them.

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
    """The BLAS libraries of numpy and scipy; looked up once, because a look takes longer than a small product."""
    import numpy.linalg  # noqa: F401 - a library that is not loaded is not found

    return ThreadpoolController().select(user_api="blas")


# A new thread starts with the number of threads that was set last, which is 1 while another thread is in one_thread.
_THREADS = threading.Lock()
_inside: dict[int, int] = {}
_usual = 0
_limits: Any = None


def _after_fork() -> None:
    """A forked process has one thread, so no other thread holds the locks, even if one did in the parent."""
    global _TURN, _THREADS
    _TURN, _THREADS = threading.RLock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch, and the products of numpy, to one thread: for work that ends before a second one has started.

    On a busy machine, waiting for the second thread costs ten times the work itself.

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
    """Call a function with each part in as many threads as torch is set to; each multiplies on one thread.

    Args:
        work: Computes with numpy, which lets the other threads run; it must not change what another part reads.
        parts: Its arguments.

    Yields:
        Its results, in the order of the parts.

    Example:
        >>> list(map_in_threads(lambda rows: rows.stop - rows.start, [slice(0, 4), slice(4, 5)]))
        [4, 1]
    """
    workers = min(torch.get_num_threads(), len(parts))
    if workers <= 1:
        yield from map(work, parts)
        return
    # Threads that start in here compute on one thread each.
    with one_thread(), ThreadPoolExecutor(workers) as pool:
        yield from pool.map(work, parts)


def usual_threads() -> int:
    """The number of threads that torch is set to outside of :func:`one_thread`.

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
    """:func:`one_thread` for a model whose passes over so many samples are small, else as many as torch is set to.

    The number depends on the work alone, not on how busy the machine is, so that a run can be repeated bit for bit.
    """
    return one_thread() if is_small(model, samples) else nullcontext()


def is_small(model: torch.nn.Module, samples: int) -> bool:
    """Whether a model's passes over so many samples are too small for several threads.

    The work of a sample is the model's ``products``, of weights and values; without these each parameter counts once.
    """
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
