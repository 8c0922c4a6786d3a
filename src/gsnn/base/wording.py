"""How the program was called: a message asks for an option by its flag on the command line, else by its parameter."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_words: ContextVar[Sequence[str] | None] = ContextVar("words", default=None)


@contextmanager
def flags(words: Sequence[str] = ()) -> Iterator[None]:
    """Messages that are made in this block name flags.

    Args:
        words: The words of the command line after ``gsnn``.
    """
    token = _words.set(words)
    try:
        yield
    finally:
        _words.reset(token)


def command_line() -> str:
    """The command that runs now, as a shell takes it; empty in Python.

    Example:
        >>> with flags(["infer", "my run"]):
        ...     command_line()
        "gsnn infer 'my run'"
    """
    words = _words.get()
    return shlex.join(["gsnn", *words]) if words else ""


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
    return parameter if _words.get() is None else flag


def shell(word: str) -> str:
    """A word as a shell must be given it.

    Example:
        >>> shell("+"), shell("||")
        ('+', "'||'")
    """
    return word if re.fullmatch(r"[\w+,:./@%=-]+", word) else "'" + word + "'"
