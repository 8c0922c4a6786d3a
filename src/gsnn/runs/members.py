"""The models of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gsnn.nn import GSNN
    from gsnn.runs.folder import Run

__all__ = ["models_of"]


def models_of(run: Run) -> list[GSNN]:
    """The trained models of a run, on the CPU, in eval mode.

    Raises:
        RunError: If training is not complete.
    """
    return [run.model()]
