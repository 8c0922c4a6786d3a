"""Errors that name the thing, what came and what to do about it."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

# A name from a damaged file can be of any length.
_LONG = re.compile(r"\S{1000,}")


class GsnnError(Exception):
    """Base of every error the library raises for a reason the user can fix."""

    def __str__(self) -> str:
        """The message; a word of thousands of characters is cut."""
        return _LONG.sub(lambda word: f"{word[0][:100]}... ({len(word[0])} characters)", super().__str__())


class DataError(GsnnError, ValueError):
    """A file, a table or a graph lacks what it must have, or holds what it must not."""


class RunError(GsnnError, RuntimeError):
    """A run folder is missing, incomplete, locked or does not match its data."""


class MissingExtraError(GsnnError, ImportError):
    """An optional dependency is needed and not installed."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    Args:
        module: Dotted name of the module to import.
        extra: Name of the extra of this package that installs it.

    Raises:
        MissingExtraError: If the module is not installed.

    Example:
        >>> require("json", extra="report").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise
        message = f"{module} is needed here and is not installed; run: pip install 'gsnn[{extra}]'"
        raise MissingExtraError(message) from error


def closest(name: str, options: Iterable[str], n: int = 3) -> list[str]:
    """Up to ``n`` names among ``options`` that look like ``name`` in any case, best first.

    Example:
        >>> closest("TNFA", ["tnfa", "il1a", "tgfa"], n=2)
        ['tnfa', 'tgfa']
    """
    by_fold: dict[str, str] = {}
    for option in options:
        by_fold.setdefault(option.casefold(), option)
    return [by_fold[m] for m in difflib.get_close_matches(name.casefold(), by_fold, n=n, cutoff=0.5)]


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """A hint at the closest of the options, to be put behind a name that is unknown; empty if none is close.

    Example:
        >>> did_you_mean("TNFA", ["tnfa", "il1a"]), did_you_mean("x", ["tnfa"])
        (" (did you mean 'tnfa'?)", '')
    """
    near = closest(name, options, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def unknown_option(parameter: str, value: object, options: Iterable[str]) -> ValueError:
    """A ValueError for a value outside a closed set of names; lists the set.

    Example:
        >>> str(unknown_option("norm", "layr", ["layer", "none"]))
        "unknown norm 'layr'; use one of 'layer', 'none' (did you mean 'layer'?)"
    """
    options = list(options)
    hint = did_you_mean(value, options) if isinstance(value, str) else ""
    listed = ", ".join(repr(o) for o in options)
    return ValueError(f"unknown {parameter} {value!r}; use one of {listed}{hint}")


def check_option(parameter: str, value: object, options: Collection[Any], error: type[Exception] | None = None) -> None:
    """Refuse a value outside a closed set of names.

    Args:
        parameter: Its name, for the message.
        value: The value.
        options: The set.
        error: What to raise; None for a ValueError.

    Raises:
        ValueError: That of :func:`unknown_option`.

    Example:
        >>> check_option("norm", "layer", ["layer", "none"])
    """
    if value not in options:
        unknown = unknown_option(parameter, value, options)
        raise unknown if error is None else error(str(unknown))


@contextmanager
def as_data_error() -> Iterator[None]:
    """Turn a ValueError or TypeError about an option into a DataError, which the command line prints in one line."""
    try:
        yield
    except GsnnError:
        raise
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from error
