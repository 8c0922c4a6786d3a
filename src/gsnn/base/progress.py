"""Progress on stderr: on a terminal bars with the time left, or a spinner without a count; in a pipe lines."""

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

    Attributes:
        text: What is being done.
        total: Number of steps; None if it is not known.
        done: Steps done; at the start those of an earlier program that was stopped.
        note: A few words on how it goes.
    """

    def __init__(self, text: str, total: int | None = None, done: int = 0) -> None:
        self.text, self.total, self.done, self.note = text, total, done, ""
        self._before = done
        self._start = self._last = time.monotonic()
        self._display: _Display | None = None

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps that are done, with a few words on how it goes."""
        self.done += steps
        self.note = note
        self._last = time.monotonic()
        if self._display is not None:
            self._display.print_line(self)

    def left(self) -> float | None:
        """Seconds left, never below 0; None before the first step.

        The pace is the mean over all steps so far: a step may take minutes, and a pace over the last seconds, as rich
        takes it, would miss it.
        """
        steps = self.done - self._before
        if self.total is None or steps <= 0:
            return None
        pace = (self._last - self._start) / steps
        return max(0.0, pace * (self.total - self.done) - (time.monotonic() - self._last))

    def elapsed(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._start

    def line(self) -> str:
        """Everything in one line, for a pipe."""
        count = "" if self.total is None else f" {self.done} of {self.total}"
        left = self.left()
        # After the last step no time is left, so the line does not say it.
        time_left = "" if left is None or self.done == self.total else f"{duration(left)} left"
        return ", ".join(part for part in (f"{self.text}{count}", self.note, time_left) if part)

    @property
    def clock(self) -> str:
        """The steps, the time left, else the time so far, and the note: what stands beside a bar."""
        count = "" if self.total is None else f"{self.done}/{self.total}  "
        left = self.left()
        clock = duration(self.elapsed()) if left is None else f"{duration(left)} left"
        return f"{count}{clock}" + (f"  {self.note}" if self.note else "")


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
        self._printed = time.monotonic()
        if self._bars is not None:
            self._bars.start()

    def open(self, one: Stage) -> None:
        one._display = self
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

    def print_line(self, one: Stage) -> None:
        """Print a line if this is the outermost loop, no bars are drawn, and the last line is old."""
        outermost = next((each for each in self.stages if each.total is not None), None)
        if self._bars is None and one is outermost and time.monotonic() - self._printed >= INTERVAL:
            self._printed = time.monotonic()
            self.console.print(one.line(), highlight=False, markup=False, soft_wrap=True)


def _bars(console: Console) -> Progress:
    from rich.progress import Progress, ProgressColumn, Task, TextColumn
    from rich.progress_bar import ProgressBar
    from rich.spinner import Spinner
    from rich.table import Column

    class Bar(ProgressColumn):
        spinner = Spinner("dots", style="progress.spinner")

        def render(self, task: Task) -> Any:  # noqa: ANN401 - whatever rich draws
            one: Stage = task.fields["stage"]
            if one.total is None:
                return self.spinner.render(one.elapsed())
            return ProgressBar(total=max(one.total, 1), completed=one.done, width=30)

    text = TextColumn("{task.fields[stage].text}", markup=False, table_column=Column())
    clock = TextColumn(
        "{task.fields[stage].clock}", "progress.remaining", markup=False, table_column=Column(no_wrap=True)
    )
    # A table is as wide as its cells, so that a narrow terminal still shows the time.
    return Progress(text, Bar(), clock, console=console, transient=True)


_display: _Display | None = None  # a terminal shows one display at a time


def _after_fork() -> None:
    """A forked process has a copy of the display, but the terminal belongs to its parent."""
    global _display
    _display = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def stage(text: str, total: int | None = None, *, done: int = 0, show: bool | None = None) -> Iterator[Stage]:
    """Show what is being done for as long as the block lasts, below the stages around it.

    Args:
        text: What is being done.
        total: Number of steps for :meth:`Stage.advance`; None shows the seconds so far.
        done: Steps done before.
        show: False shows nothing. None shows it only within a stage that is shown, for loops deep in a computation
            that do not know whether progress is wanted. A pipe never gets control characters.

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
    display.open(one)
    try:
        yield one
    finally:
        display.close(one)
        if not display.stages and _display is display:
            _display = None


def now(text: str) -> None:
    """Change the text of the innermost shown stage that counts no steps, if there is one."""
    for one in reversed(_display.stages if _display is not None else []):
        if one.total is None:
            one.text = text
            return


def track(items: Iterable[T], text: str, *, total: int | None = None, show: bool | None = True) -> Iterator[T]:
    """Yield from ``items`` and show how many are done and the time left; ``total`` is for items without a length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with stage(text, total, show=show) as one:
        for item in items:
            yield item
            one.advance()
