"""Where to draw, and in which colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsnn.base.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Distinct for readers who do not tell red from green, and in print without colour.
KNOWN, CANDIDATE, PROPOSED, GUIDE = "#9aa0a6", "#1f6f8b", "#d9541e", "#b8bcc2"


def axes(ax: Axes | None) -> Axes:
    """``ax``, or the axes of a new pyplot figure.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    require("matplotlib", extra="plot")
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]
