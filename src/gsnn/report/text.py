"""Numbers and sentences as a reader wants them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd


def number(value: object, digits: int = 3) -> str:
    """A number for reading; an en dash where it is undefined.

    Example:
        >>> number(0.12345), number(1e-9), number(float("nan")), number(12)
        ('0.123', '1.0e-09', '–', '12')
    """
    if isinstance(value, (int, np.integer, bool, np.bool_)):
        return f"{value:d}"
    if value is None or not isinstance(value, (float, np.floating)):
        return "–" if value is None else str(value)
    if not np.isfinite(value):
        return "–"
    return f"{value:.1e}" if value != 0 and abs(value) < 10**-digits else f"{value:z.{digits}f}"


def capitalised(text: str) -> str:
    """A text with its first letter in upper case; the others stay."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """A note as a sentence, with a capital and a full stop."""
    return f"{capitalised(text)}."


def probability(value: object) -> str:
    """A p or q for reading; one that is too small for a float is not 0.

    Example:
        >>> probability(0.0), probability(0.25)
        ('<1e-300', '0.250')
    """
    return "<1e-300" if value == 0 else number(value)


def percent(value: object) -> str:
    """A share in percent; one decimal below 10 %.

    Example:
        >>> percent(0.0234), percent(0.5), percent(float("nan"))
        ('2.3 %', '50 %', '–')
    """
    if value is None or not isinstance(value, (int, float, np.integer, np.floating)) or not np.isfinite(value):
        return "–"
    share = 100 * float(value)
    return f"{share:.1f} %" if 0 < share < 9.95 else f"{share:.0f} %"


def numbers(values: Iterable[Any]) -> list[float | None]:
    """Plain floats with None for whatever is not finite: JSON has no NaN.

    Example:
        >>> numbers([1, float("nan"), None, 0.25])
        [1.0, None, None, 0.25]
    """
    array = pd.to_numeric(pd.Series(list(values), dtype=object), errors="coerce").to_numpy(dtype=float)
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in array]
