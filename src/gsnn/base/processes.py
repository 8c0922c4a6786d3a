"""Processes that work together: sums, exchanges, and a clear error when one of them dies."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.distributed import PrefixStore, Store, TCPStore

from gsnn.base.errors import RunError
from gsnn.base.launch import Place, find_place

TIMEOUT = 1800.0
"""Seconds that a process waits for the others by default."""

_BEAT = 0.5  # seconds between two heartbeats
_SILENCE = 5 * _BEAT  # a process without one for so long is gone


class ProcessError(RunError):
    """Another process of the job died, failed or did not answer."""


class Stopped(BaseException):
    """A signal asked this process to end; not an error, so that nothing catches it by accident.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Processes:
    """The processes of a job, as one of them sees them; made by :func:`processes`.

    All processes must call the methods that communicate, in the same order. There they also notice that one of them is
    gone: at once if its connections were closed, as those of a killed program are, and after ``timeout`` if its machine
    vanished.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        local_rank: Number of this process on its machine.
        timeout: Seconds to wait for the others.
    """

    def __init__(self, place: Place | None = None, timeout: float = TIMEOUT) -> None:
        place = place or Place()
        if not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0, got {timeout}")
        self.place, self.timeout = place, timeout
        self.rank, self.size, self.local_rank = place.rank, place.size, place.local_rank
        self.asked_to_stop: int | None = None
        self._patient = 0
        self._store: Store | None = None
        self._heart: threading.Thread | None = None
        self._closing = threading.Event()

    @property
    def first(self) -> bool:
        """Whether this is process 0, which writes and speaks."""
        return self.place.first

    def share(self, n: int) -> range:
        """This process's part of n things: consecutive ones, as many as the other processes have, or one more.

        Raises:
            RunError: If there are fewer things than processes.

        Example:
            >>> [Processes(Place(r, 3)).share(7) for r in range(3)]
            [range(0, 2), range(2, 4), range(4, 7)]
        """
        if n < self.size:
            raise RunError(f"{self.size} processes cannot share {n} functions; use at most {n} processes")
        return range(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    # ------------------------------------------------------------------ communication

    def all_reduce(self, tensor: Tensor, what: str = "adding up statistics") -> Tensor:
        """Replace a contiguous tensor by its sum over all processes, in each of them."""
        if self.size > 1:
            with self._exchange(what):
                torch.distributed.all_reduce(tensor)
        return tensor

    def agree(self, *flags: bool, what: str = "keeping step") -> tuple[bool, ...]:
        """For each flag whether any process has raised it."""
        if self.size == 1:
            return flags
        raised = self.all_reduce(torch.tensor(flags, dtype=torch.int32), what)
        return tuple(bool(flag) for flag in raised)

    def broadcast(self, value: Any, source: int = 0, what: str = "handing out") -> Any:  # noqa: ANN401 - whatever is sent
        """The value of one process, in all of them."""
        if self.size == 1:
            return value
        held = [value]
        with self._exchange(what):
            torch.distributed.broadcast_object_list(held, src=source)
        return held[0]

    def broadcast_tensor(self, tensor: Tensor, source: int) -> Tensor:
        """Fill a contiguous tensor with that of one process."""
        if self.size > 1:
            with self._exchange("exchanging samples"):
                torch.distributed.broadcast(tensor, src=source)
        return tensor

    def gather(self, value: Any, what: str = "collecting results") -> list[Any]:  # noqa: ANN401 - whatever is sent
        """The values of all processes in process 0, by rank; an empty list in the others."""
        if self.size == 1:
            return [value]
        held: list[Any] | None = [None] * self.size if self.first else None
        with self._exchange(what):
            torch.distributed.gather_object(value, held)
        return held or []

    def barrier(self, what: str) -> None:
        """Wait until all processes are here."""
        self.agree(False, what=what)

    # ------------------------------------------------------------------ start and end

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Within the block the first SIGINT or SIGTERM only sets ``asked_to_stop``."""
        self._patient += 1
        try:
            yield
        finally:
            self._patient -= 1

    def told_by_first(self, text: str) -> bool:
        """Whether process 0 failed with the same error, so that this process need not print it too."""
        if self.first or self._store is None:
            return False
        with contextlib.suppress(RuntimeError):
            self._store.wait(["error/0"], timedelta(seconds=_SILENCE))
            return self._store.get("error/0").decode() == text
        return False

    def _start(self) -> None:
        if self.size == 1:
            return
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        life = f"gsnn/{attempt}/life"
        try:
            # Without torchrun, process 0 serves the others.
            meeting = self._meeting_point(serve=self.first and not served)
            # Each thread has a connection of its own, because a request blocks its connection.
            self._store, own = (PrefixStore(life, self._meeting_point()) for _ in range(2))
            torch.distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                store=PrefixStore(f"gsnn/{attempt}", meeting),
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=self.timeout),
            )
            own.set(f"beat/{self.rank}", "0")
        except RuntimeError as error:
            where = f"{self.place.address}:{self.place.port}"
            raise ProcessError(
                f"process {self.rank} of {self.size} did not meet the others at {where} within {self.timeout:.0f} s: "
                f"{_first_line(error)}"
            ) from error
        self._heart = threading.Thread(target=self._beat, args=(own,), name="gsnn-heartbeat", daemon=True)
        self._heart.start()
        self.barrier("starting")

    def _meeting_point(self, *, serve: bool = False) -> TCPStore:
        return TCPStore(
            self.place.address,
            self.place.port,
            self.size if serve else None,
            is_master=serve,
            timeout=timedelta(seconds=self.timeout),
            wait_for_workers=False,
            multi_tenant=True,
        )

    def _beat(self, store: Store) -> None:
        count = 0
        while not self._closing.wait(_BEAT):
            count += 1
            try:
                store.set(f"beat/{self.rank}", str(count))
            except RuntimeError:  # the meeting point is gone, which the main thread notices by itself
                return

    def _end(self, error: BaseException | None) -> None:
        if self.size == 1:
            return
        if error is not None and self._store is not None:
            with contextlib.suppress(RuntimeError):
                self._store.set(f"error/{self.rank}", str(error) or type(error).__name__)
                if self.first and self.place.launcher != "torchrun":
                    time.sleep(2 * _BEAT)  # the meeting point goes with this process: let the others read
        self._closing.set()
        if self._heart is not None:
            self._heart.join()
        # After a failure the others may never answer.
        if error is None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    # ------------------------------------------------------------------ errors

    @contextmanager
    def _exchange(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        with self.patient():
            try:
                yield
            except RuntimeError as error:
                raise ProcessError(self._cause(what, time.monotonic() - start, error)) from error
        if self.asked_to_stop is not None and not self._patient:
            raise Stopped(self.asked_to_stop)

    def _cause(self, what: str, waited: float, error: Exception) -> str:
        """Which process made an exchange fail: one that reported an error, or one without a heartbeat."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        here = f"process {self.rank} of {self.size}, {what}"
        store = self._store
        if store is None:
            return f"{here}: {_first_line(error)}"
        try:
            before = {rank: store.get(f"beat/{rank}") for rank in others}
            time.sleep(_SILENCE)
            failed = {r: store.get(f"error/{r}").decode() for r in others if store.check([f"error/{r}"])}
            gone = [rank for rank in others if rank not in failed and store.get(f"beat/{rank}") == before[rank]]
        except RuntimeError:
            return f"{here}: process 0, where the processes meet, is gone (killed, or its machine lost)"
        # Processes that failed because of another one add nothing.
        failed = {rank: text for rank, text in failed.items() if not text.startswith("process ")} or failed
        if gone:
            names = " and ".join(f"process {rank}" for rank in gone)
            verb = "is" if len(gone) == 1 else "are"
            return f"{here}: {names} of {self.size} {verb} gone (killed, or its machine lost)"
        if failed:
            return f"{here}: " + "; ".join(f"process {rank} failed: {text}" for rank, text in failed.items())
        if waited >= 0.9 * self.timeout:
            return f"{here}: waited {waited:.0f} s, the timeout, for processes that are alive; raise the timeout"
        return f"{here}: {_first_line(error)}"


@contextmanager
def processes(timeout: float = TIMEOUT, place: Place | None = None) -> Iterator[Processes]:
    """Join the other processes of this job for the time of the block.

    These are the processes that ``torchrun`` or SLURM's ``srun`` started (see :func:`find_place`); a program started by
    itself is the only one, and everything works the same. Sums and exchanges use gloo on the CPU and NCCL on GPUs.

    SIGTERM, with which torchrun and SLURM end a job, raises :class:`Stopped` in the main thread, after work that is
    saved at stops has been saved.

    Args:
        timeout: Seconds to wait for the others at any time.
        place: The place of this process; None reads the environment.

    Yields:
        The processes.

    Raises:
        ProcessError: If another process does not come, dies or fails.
        RunError: If the environment is contradictory.
        ValueError: If ``timeout`` is not above 0.

    Example:
        >>> with processes(place=Place()) as alone:
        ...     alone.size, alone.share(10)
        (1, range(0, 10))
    """
    joined = Processes(find_place() if place is None else place, timeout)
    error: BaseException | None = None
    with _signals(joined):
        try:
            joined._start()
            yield joined
        except BaseException as raised:
            error = raised
            raise
        finally:
            joined._end(error)


@contextmanager
def _signals(joined: Processes) -> Iterator[None]:
    """Let signals wait while processes communicate or work must not be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return

    def handle(number: int, _: FrameType | None) -> None:
        if joined._patient and joined.asked_to_stop is None:
            joined.asked_to_stop = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise Stopped(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
