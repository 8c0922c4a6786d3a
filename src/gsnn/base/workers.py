"""Independent jobs in processes of their own, a few at a time; the results do not depend on how many."""

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
from contextlib import closing, suppress
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
# The number of a job, or the size of its result; the size _FAILED says that the job failed.
_NUMBER, _FAILED = struct.Struct("=q"), -1


def workers_for(model: torch.nn.Module, samples: int, bytes_each: int) -> int:
    """How many jobs that train models like this one to run at a time.

    A small model trains on one thread (:func:`gsnn.base.torch_state.threads_for`), so that as many jobs run at a time
    as torch has threads. A large one takes all threads by itself.

    Args:
        model: Like those that are trained.
        samples: Samples in a batch.
        bytes_each: About what a job takes; the jobs share half of the available memory.

    Returns:
        At least 1, or 0 for jobs that run one after the other with all threads.
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
    """Run independent jobs, each on one thread.

    Processes are forked, so that they have everything that this one has and start at once. What a job changes is lost
    with its process; its result comes back as bytes. A job that fails in its process, or whose process is killed, runs
    again in this process, which raises its error, or succeeds where several at a time took too much memory. Where
    processes cannot be forked safely (another system than Linux, a thread that is not the main one) or one is enough,
    all jobs run in this process.

    An interrupt ends all processes, and so does the end of this one, however it comes.

    Args:
        jobs: The jobs.
        workers: Processes, from :func:`workers_for`; 0 runs one job after the other here, with all threads.
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
    results: dict[int, bytes | None] = {}
    with closing(_Crew([partial(_encoded, job, encode) for job in jobs], workers)) as crew:
        for number, job in enumerate(jobs):
            while number not in results:
                results.update(crew.wait())
            result = results.pop(number)
            yield _alone(job) if result is None else decode(result)


def _alone(job: Callable[[], T]) -> T:
    with one_thread():
        return job()


def _encoded(job: Callable[[], T], encode: Callable[[T], bytes]) -> bytes:
    return encode(job())


def _can_fork() -> bool:
    return sys.platform == "linux" and threading.current_thread() is threading.main_thread()


class _Member:
    """A process that runs one job after the other.

    Attributes:
        number: Number of its present job.
        answer: What it has sent of the result so far.
    """

    def __init__(self, jobs: Sequence[Callable[[], bytes]], others: Sequence[int]) -> None:
        (tasks, self.tasks), (self.answers, answers) = os.pipe(), os.pipe()
        self.number, self.answer = -1, bytearray()
        parent = os.getpid()
        with warnings.catch_warnings():
            # The child uses none of the threads of this process.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process = os.fork()
        if self.process == 0:
            _work(jobs, (tasks, answers), [self.tasks, self.answers, *others], parent)
        os.close(tasks)
        os.close(answers)

    def start(self, number: int) -> None:
        """Ask for a job."""
        self.number, self.answer = number, bytearray()
        with suppress(BrokenPipeError):  # it was killed, and so does not answer
            os.write(self.tasks, _NUMBER.pack(number))

    def close(self) -> None:
        """End the process, whatever it does."""
        os.close(self.tasks)
        os.close(self.answers)
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


class _Crew:
    """Processes that share the jobs."""

    def __init__(self, jobs: Sequence[Callable[[], bytes]], size: int) -> None:
        self._jobs, self._size = jobs, size
        self._waiting = iter(range(len(jobs)))
        self._busy: dict[int, _Member] = {}
        self._idle: list[_Member] = []

    def close(self) -> None:
        """Kill all processes."""
        for member in [*self._busy.values(), *self._idle]:
            member.close()

    def wait(self) -> dict[int, bytes | None]:
        """Give jobs to idle processes, and wait until one answers.

        Returns:
            The results of jobs that have ended since, by number; None where a job failed.
        """
        while len(self._busy) < self._size and (number := next(self._waiting, None)) is not None:
            if not self._idle:
                pipes = [pipe for other in self._busy.values() for pipe in (other.tasks, other.answers)]
                self._idle.append(_Member(self._jobs, pipes))
            member = self._idle.pop()
            member.start(number)
            self._busy[member.answers] = member
        results: dict[int, bytes | None] = {}
        for pipe in select.select(list(self._busy), [], [])[0]:
            member = self._busy[pipe]
            block = os.read(pipe, _BLOCK)
            member.answer += block
            if not block:  # killed, or out of memory
                results[member.number] = None
                del self._busy[pipe]
                member.close()
            elif len(member.answer) >= _NUMBER.size:
                size = _NUMBER.unpack_from(member.answer)[0]
                if size == _FAILED or len(member.answer) == _NUMBER.size + size:
                    results[member.number] = None if size == _FAILED else bytes(member.answer[_NUMBER.size :])
                    del self._busy[pipe]
                    self._idle.append(member)
        return results


def _work(jobs: Sequence[Callable[[], bytes]], pipes: tuple[int, int], others: Sequence[int], parent: int) -> NoReturn:
    """Work as a child process; this never returns to the code of the parent."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives it too, and ends its children
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        library = c_library()
        if library is not None:
            library.prctl(_DEATH_SIGNAL, signal.SIGKILL)
        # While another process holds the end of a pipe open, the other side does not see that it has closed.
        for pipe in others:
            os.close(pipe)
        tasks, answers = (os.fdopen(pipe, mode) for pipe, mode in zip(pipes, ("rb", "wb"), strict=True))
        while os.getppid() == parent and (number := tasks.read(_NUMBER.size)):
            try:
                result = _alone(jobs[_NUMBER.unpack(number)[0]])
                answer = _NUMBER.pack(len(result)) + result
            except Exception:
                answer = _NUMBER.pack(_FAILED)
            answers.write(answer)
            answers.flush()
    finally:
        os._exit(0)


def _packed(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _unpacked(data: bytes) -> Arrays:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)
