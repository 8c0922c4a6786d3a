"""One progress bar for every loop that can last: on stderr, plain in a pipe, silent when asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], description: str, *, total: int | None = None, show: bool = True) -> Iterator[T]:
    """Yield from ``items`` while showing a bar with the time left on stderr.

    Args:
        items: What to iterate over.
        description: The text before the bar.
        total: Number of items, if ``items`` has no length.
        show: False shows nothing at all. A pipe never gets control characters.

    Yields:
        The items, unchanged.
    """
    if not show:
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if total is None and isinstance(items, Sized):
        total = len(items)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(items, total=total, description=description)
