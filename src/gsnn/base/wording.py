"""The words of messages: on the command line they name flags, in Python parameters."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_words: ContextVar[Sequence[str] | None] = ContextVar("words", default=None)


@contextmanager
def flags(words: Sequence[str] = ()) -> Iterator[None]:
    """Let messages in this block name flags; ``words`` are those of the command line after ``gsnn``."""
    token = _words.set(words)
    try:
        yield
    finally:
        _words.reset(token)


def command_line() -> str:
    """The command that runs now, quoted for a shell; empty in Python.

    Example:
        >>> with flags(["infer", "my run"]):
        ...     command_line()
        "gsnn infer 'my run'"
    """
    words = _words.get()
    return shlex.join(["gsnn", *words]) if words else ""


def asked(parameter: str, flag: str) -> str:
    """What the user should write: the parameter in Python, the flag on the command line.

    Example:
        >>> asked("time=", "--time")
        'time='
        >>> with flags():
        ...     asked("time=", "--time")
        '--time'
    """
    return parameter if _words.get() is None else flag


shell = shlex.quote
"""Quotes a word for a shell where that is needed."""
