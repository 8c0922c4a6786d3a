"""Pictures as files, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsnn.base.errors import DataError, require
from gsnn.base.files import atomic_path

FORMATS = (".png", ".svg", ".pdf")


def write_picture(draw: Callable[[], Any], path: str | Path) -> Path:
    """Draw into a new figure and write it.

    Args:
        draw: Draws and returns the axes, as the functions of :mod:`gsnn.plot` do.
        path: The file; its extension tells the format.

    Raises:
        DataError: If the format is none of ``FORMATS``.
        MissingExtraError: If matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path.name} must end in {', '.join(FORMATS)}, which tells the format of the picture")
    plt: Any = require("matplotlib.pyplot", extra="plot")
    # No window is ever shown, whatever the backend of the user.
    with plt.rc_context({"svg.hashsalt": "gsnn"}), plt.ioff():
        figure = draw().figure
        try:
            with atomic_path(path, alone=True) as temporary:
                figure.savefig(temporary, dpi=150, bbox_inches="tight", metadata=None)
        finally:
            plt.close(figure)
    return path
