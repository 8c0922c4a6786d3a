"""Small work on one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# A thread that begins takes over the number that was set last, which is 1 while another one is in here.
_LOCK = threading.Lock()
_inside: dict[int, int] = {}
_usual = 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread, for operations that are over before a second one has started.

    On a machine that is busy with other things, waiting for the second one costs ten times the work itself.

    Example:
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    global _usual
    me = threading.get_ident()
    with _LOCK:
        if not _inside:
            _usual = torch.get_num_threads()
        before = torch.get_num_threads() if me in _inside or not _inside else _usual
        _inside[me] = _inside.get(me, 0) + 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _LOCK:
            _inside[me] -= 1
            if not _inside[me]:
                del _inside[me]
            torch.set_num_threads(before)
