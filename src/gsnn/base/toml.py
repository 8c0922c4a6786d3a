"""Writing the few kinds of values that a configuration file holds; the standard library only reads TOML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

__all__ = ["toml_value"]


def toml_value(value: object) -> str:
    r"""A text, path, number, truth value or list of these as TOML.

    Raises:
        TypeError: If it is anything else.

    Example:
        >>> toml_value(["a\\b", "ä"]), toml_value(True), toml_value(1e-4)
        ('["a\\\\b", "ä"]', 'true', '0.0001')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        # The escapes of JSON are those of TOML, but for the one character that JSON lets stand.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    raise TypeError(f"value must be text, a number, true or false, or a list of them, got {type(value).__name__}")
