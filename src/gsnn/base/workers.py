"""Independent jobs in processes of their own, a few at a time; what they give does not depend on how many."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from gsnn.base.memory import available_memory, c_library
from gsnn.base.torch_state import is_small, one_thread, usual_threads

T = TypeVar("T")
Arrays = dict[str, npt.NDArray[Any]]

_BLOCK = 1 << 16
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
# Of a job, or of bytes that follow; the size of nothing says that the job failed.
_NUMBER, _FAILED = struct.Struct("=q"), -1


def workers_for(model: torch.nn.Module, samples: int, bytes_each: int) -> int:
    """How many jobs to do at a time that train models like this one.

    A small model trains on one thread (:func:`gsnn.base.torch_state.threads_for`), so that as many jobs fit beside each
    other as torch has threads. A large one takes all threads by itself.

    Args:
        model: Like those that are trained.
        samples: Of a batch.
        bytes_each: About what a job takes; half of the memory that is available is shared out.

    Returns:
        A number from 1 on, or 0 for jobs that follow each other and take all threads.
    """
    if not is_small(model, samples):
        return 0
    return max(1, min(usual_threads(), available_memory() // 2 // max(bytes_each, 1)))


def json_in_processes(jobs: Sequence[Callable[[], T]], workers: int) -> Generator[T, None, None]:
    """:func:`in_processes` for results that JSON can hold."""
    return in_processes(jobs, workers, lambda value: json.dumps(value).encode(), json.loads)


def arrays_in_processes(jobs: Sequence[Callable[[], Arrays]], workers: int) -> Generator[Arrays, None, None]:
    """:func:`in_processes` for arrays by name."""
    return in_processes(jobs, workers, _packed, _unpacked)


def in_processes(
    jobs: Sequence[Callable[[], T]], workers: int, encode: Callable[[T], bytes], decode: Callable[[bytes], T]
) -> Generator[T, None, None]:
    """Do jobs that know nothing of each other, each on one thread.

    Processes are forked, so that they have all that this one has and start at once. What a job changes is lost with its
    process; what it gives comes back as bytes. A job that fails in its process, or whose process is killed, is done
    again in this process, which raises its error, or does what was too much for several at a time. Where processes
    cannot be forked safely (another system than Linux, a thread that is not the main one) or one is enough, this
    process does all.

    An interrupt ends all processes, and so does the end of this one, however it comes.

    Args:
        jobs: The jobs.
        workers: Processes, from :func:`workers_for`; 0 does one job after the other here, with all threads.
        encode: Turns a result into bytes.
        decode: Turns them back into the result.

    Yields:
        The results, in the order of the jobs.

    Example:
        >>> list(json_in_processes([lambda: 1, lambda: 2], workers=2))
        [1, 2]
    """
    if workers < 2 or len(jobs) < 2 or not _can_fork():
        for job in jobs:
            yield job() if workers == 0 else _alone(job)
        return
    found: dict[int, bytes | None] = {}
    with _Crew([partial(_told, job, encode) for job in jobs], workers) as crew:
        for number, job in enumerate(jobs):
            while number not in found:
                found.update(crew.ended())
            result = found.pop(number)
            yield _alone(job) if result is None else decode(result)


def _alone(job: Callable[[], T]) -> T:
    with one_thread():
        return job()


def _told(job: Callable[[], T], encode: Callable[[T], bytes]) -> bytes:
    return encode(job())


def _can_fork() -> bool:
    return sys.platform == "linux" and threading.current_thread() is threading.main_thread()


class _Member:
    """A process that does one job after the other.

    Attributes:
        number: Of the job that it does now.
        told: What it has said of it so far.
    """

    def __init__(self, jobs: Sequence[Callable[[], bytes]], strangers: Sequence[int]) -> None:
        (asked, self.ask), (self.hear, telling) = os.pipe(), os.pipe()
        self.number, self.told = -1, bytearray()
        parent = os.getpid()
        with warnings.catch_warnings():
            # The child uses none of the threads of this process.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process = os.fork()
        if self.process == 0:
            _work(jobs, (asked, telling), [self.ask, self.hear, *strangers], parent)
        os.close(asked)
        os.close(telling)

    def give(self, number: int) -> None:
        """Ask for a job."""
        self.number, self.told = number, bytearray()
        with suppress(BrokenPipeError):  # it was killed, and so does not answer
            os.write(self.ask, _NUMBER.pack(number))

    def close(self) -> None:
        """End the process, whatever it does."""
        os.close(self.ask)
        os.close(self.hear)
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


class _Crew:
    """Processes that share out jobs; they are killed when the block ends."""

    def __init__(self, jobs: Sequence[Callable[[], bytes]], size: int) -> None:
        self._jobs, self._size = jobs, size
        self._left = iter(range(len(jobs)))
        self._busy: dict[int, _Member] = {}
        self._idle: list[_Member] = []

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for member in [*self._busy.values(), *self._idle]:
            member.close()

    def ended(self) -> dict[int, bytes | None]:
        """Give jobs to idle processes, and wait until one answers.

        Returns:
            By number what jobs gave that have ended since, None where they failed.
        """
        while len(self._busy) < self._size and (number := next(self._left, None)) is not None:
            if not self._idle:
                pipes = [pipe for other in self._busy.values() for pipe in (other.ask, other.hear)]
                self._idle.append(_Member(self._jobs, pipes))
            member = self._idle.pop()
            member.give(number)
            self._busy[member.hear] = member
        found: dict[int, bytes | None] = {}
        for pipe in select.select(list(self._busy), [], [])[0]:
            member = self._busy[pipe]
            block = os.read(pipe, _BLOCK)
            member.told += block
            if not block:  # killed, or out of memory
                found[member.number] = None
                del self._busy[pipe]
                member.close()
            elif len(member.told) >= _NUMBER.size:
                size = _NUMBER.unpack_from(member.told)[0]
                if size == _FAILED or len(member.told) == _NUMBER.size + size:
                    found[member.number] = None if size == _FAILED else bytes(member.told[_NUMBER.size :])
                    del self._busy[pipe]
                    self._idle.append(member)
        return found


def _work(
    jobs: Sequence[Callable[[], bytes]], pipes: tuple[int, int], strangers: Sequence[int], parent: int
) -> NoReturn:
    """Work as a child process; this never returns to the code of the parent."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of it, and ends its children
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        library = c_library()
        if library is not None:
            library.prctl(_DEATH_SIGNAL, signal.SIGKILL)
        # As long as another process holds the end of a pipe, the other side does not see that it has closed.
        for pipe in strangers:
            os.close(pipe)
        asked, telling = (os.fdopen(pipe, mode) for pipe, mode in zip(pipes, ("rb", "wb"), strict=True))
        while os.getppid() == parent and (number := asked.read(_NUMBER.size)):
            try:
                done = _alone(jobs[_NUMBER.unpack(number)[0]])
                told = _NUMBER.pack(len(done)) + done
            except Exception:
                told = _NUMBER.pack(_FAILED)
            telling.write(told)
            telling.flush()
    finally:
        os._exit(0)


def _packed(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _unpacked(told: bytes) -> Arrays:
    with np.load(io.BytesIO(told), allow_pickle=False) as arrays:
        return dict(arrays)
