"""Progress on stderr: bars with the time left, a spinner where nothing can be counted; lines in a pipe."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")

INTERVAL = 30.0
"""Seconds between two lines where stderr is no terminal."""


class Stage:
    """Something that takes time, with its steps if they can be counted.

    Args:
        text: What is being done.
        total: Number of steps; None if nobody knows.
        done: Steps that were done before, by a program that was stopped.

    Attributes:
        text: What is being done.
        total: Number of steps, or None.
        done: Steps done.
        note: A few words on how it goes.
    """

    def __init__(self, text: str, total: int | None = None, done: int = 0) -> None:
        self.text, self.total, self.done, self.note = text, total, done, ""
        self._before = done
        self._begun = self._moved = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps that are done.

        Args:
            steps: How many.
            note: A few words on how it goes.
        """
        self.done += steps
        self.note = note
        self._moved = time.monotonic()

    def left(self) -> float | None:
        """Seconds to go at the pace of all steps so far; None before the first one.

        The pace is the mean over all steps: a step may take minutes, and a pace over the last seconds would miss it.

        Returns:
            Seconds, never below 0.
        """
        steps = self.done - self._before
        if self.total is None or steps <= 0:
            return None
        pace = (self._moved - self._begun) / steps
        return max(0.0, pace * (self.total - self.done) - (time.monotonic() - self._moved))

    def elapsed(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._begun

    def line(self) -> str:
        """Everything in one line."""
        count = [] if self.total is None else [f"{self.done} of {self.total}"]
        left = self.left()
        # After the last step no time is left, so the line does not say it.
        time_left = [] if left is None or self.done == self.total else [f"{duration(left)} left"]
        return ", ".join([" ".join([self.text, *count]), *([self.note] if self.note else []), *time_left])


def duration(seconds: float) -> str:
    """Seconds as a clock shows them.

    Example:
        >>> duration(75), duration(3700)
        ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class _Display:
    """The stages that run now, the outer ones first."""

    def __init__(self) -> None:
        from rich.console import Console

        self.stages: list[Stage] = []
        self.console: Console = Console(stderr=True)
        self._bars: Progress | None = _bars(self.console) if self.console.is_terminal else None
        self._tasks: list[Any] = []
        self._told = time.monotonic()
        if self._bars is not None:
            self._bars.start()

    def open(self, one: Stage) -> None:
        self.stages.append(one)
        if self._bars is not None:
            self._tasks.append(self._bars.add_task("", total=None, stage=one))

    def close(self, one: Stage) -> None:
        # After an error an inner loop may still be open; the outer one closes it.
        place = self.stages.index(one) if one in self.stages else len(self.stages)
        del self.stages[place:]
        if self._bars is not None:
            if not self.stages:
                self._bars.stop()  # shows the last state once more, and takes it away
            for task in self._tasks[place:]:
                self._bars.remove_task(task)
            del self._tasks[place:]

    def _outermost(self) -> Stage | None:
        return next((one for one in self.stages if one.total is not None), None)

    def tell(self, one: Stage) -> None:
        """Print a line about the outermost loop, if no bars are drawn and the last line is old."""
        if self._bars is None and one is self._outermost() and time.monotonic() - self._told >= INTERVAL:
            self._told = time.monotonic()
            self.console.print(one.line(), highlight=False, markup=False, soft_wrap=True)


def _bars(console: Console) -> Progress:
    from rich.progress import Progress, ProgressColumn, Task
    from rich.progress_bar import ProgressBar
    from rich.spinner import Spinner
    from rich.table import Column
    from rich.text import Text

    class What(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(task.fields["stage"].text)

    class Bar(ProgressColumn):
        spinner = Spinner("dots", style="progress.spinner")
        max_refresh = None

        def render(self, task: Task) -> Any:  # noqa: ANN401 - whatever rich draws
            one: Stage = task.fields["stage"]
            if one.total is None:
                return self.spinner.render(one.elapsed())
            return ProgressBar(total=max(one.total, 1), completed=one.done, width=30)

    class Clock(ProgressColumn):
        def render(self, task: Task) -> Text:
            one: Stage = task.fields["stage"]
            left = one.left()
            clock = duration(one.elapsed()) if left is None else f"{duration(left)} left"
            count = "" if one.total is None else f"{one.done}/{one.total}  "
            return Text(f"{count}{clock}" + (f"  {one.note}" if one.note else ""), style="progress.remaining")

    columns = (What(), Bar(), Clock(Column(no_wrap=True)))
    # A table is as wide as its cells, so that a narrow terminal still shows the time.
    return Progress(*columns, console=console, transient=True)


_display: _Display | None = None  # a terminal shows one display at a time


def _after_fork() -> None:
    """A forked process has a copy of the display, but the terminal belongs to its parent."""
    global _display
    _display = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def stage(text: str, total: int | None = None, *, done: int = 0, show: bool | None = None) -> Iterator[Stage]:
    """Show that something is being done for as long as the block lasts, below what surrounds it.

    Args:
        text: What is being done.
        total: Number of steps for :meth:`Stage.advance`; None shows the seconds so far.
        done: Steps done before.
        show: False shows nothing. None shows it only within a stage that is shown, for loops deep in a computation
            that were never told whether anybody wants to see them. A pipe never gets control characters.

    Yields:
        The stage, to be advanced.
    """
    global _display
    one = Stage(text, total, done)
    if not (_display is not None if show is None else show):
        yield one
        return
    if _display is None:
        _display = _Display()
    display = _display
    advance = one.advance

    def told(steps: int = 1, note: str = "") -> None:
        advance(steps, note)
        display.tell(one)

    one.advance = told  # type: ignore[method-assign]
    display.open(one)
    try:
        yield one
    finally:
        display.close(one)
        if not display.stages and _display is display:
            _display = None


def now(text: str) -> None:
    """Say what comes next within the innermost stage that counts nothing; nothing happens if none is shown.

    Args:
        text: What is being done.
    """
    for one in reversed(_display.stages if _display is not None else []):
        if one.total is None:
            one.text = text
            return


def track(items: Iterable[T], text: str, *, total: int | None = None, show: bool | None = True) -> Iterator[T]:
    """Yield from ``items`` while showing how many are done and the time left.

    Args:
        items: What to iterate over.
        text: What is being done.
        total: Number of items, if ``items`` has no length.
        show: As for :func:`stage`.

    Yields:
        The items, unchanged.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with stage(text, total, show=show) as one:
        for item in items:
            yield item
            one.advance()
