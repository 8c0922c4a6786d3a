"""How a message asks for an option: by its flag on the command line, by its parameter in Python, never by both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_flags: ContextVar[bool] = ContextVar("flags", default=False)


@contextmanager
def flags() -> Iterator[None]:
    """Messages that are made in this block name flags."""
    token = _flags.set(True)
    try:
        yield
    finally:
        _flags.reset(token)


def asked(parameter: str, flag: str) -> str:
    """What the user should write.

    Args:
        parameter: In Python.
        flag: On the command line.

    Returns:
        One of the two.

    Example:
        >>> asked("time=", "--time")
        'time='
        >>> with flags():
        ...     asked("time=", "--time")
        '--time'
    """
    return flag if _flags.get() else parameter


def shell(word: str) -> str:
    """A word as a shell must be given it.

    Example:
        >>> shell("+"), shell("||")
        ('+', "'||'")
    """
    return word if re.fullmatch(r"[\w+,:./@%=-]+", word) else "'" + word + "'"
