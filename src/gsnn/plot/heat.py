"""A table of numbers in colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gsnn.plot.axes import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW, _COLUMN, _LETTER = 0.22, 0.32, 0.075  # inches of a figure that is made for it


def heatmap(table: pd.DataFrame, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Numbers of either sign in colours, 0 in white, red above and blue below; what is undefined is grey.

    Args:
        table: Rows and columns are named by its index and its columns.
        title: Above the picture.
        ax: Where to draw; None makes a figure that is large enough for the names.

    Returns:
        The axes, with one image whose data are the table.

    Example:
        >>> from matplotlib.figure import Figure
        >>> table = pd.DataFrame({"jun": [-1.0, 0.5]}, index=["mek", "erk"])
        >>> ax = heatmap(table, ax=Figure().subplots())
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['mek', 'erk']
    """
    new_figure = ax is None
    ax = axes(ax)
    values = table.to_numpy(dtype=float)
    if new_figure:
        beside, below = (_LETTER * max((len(str(name)) for name in names), default=0) for names in (table.index, table))
        size = 2.5 + beside + _COLUMN * values.shape[1], 1.2 + below + _ROW * values.shape[0]
        ax.figure.set_size_inches(max(size[0], _LETTER * len(title)), size[1])  # type: ignore[union-attr]
    most = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    ax.set_facecolor("#d0d3d7")
    image = ax.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    ax.set_xticks(range(values.shape[1]), [str(name) for name in table.columns], rotation=90, fontsize=8)
    ax.set_yticks(range(values.shape[0]), [str(name) for name in table.index], fontsize=8)
    ax.set_title(title, fontsize=9)
    ax.figure.colorbar(image, ax=ax, shrink=0.8)
    return ax
