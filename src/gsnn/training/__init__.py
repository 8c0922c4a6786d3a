"""Training through Lightning: repeatable, resumable, without pickle.

:func:`fit` trains on perturbation data (:func:`gsnn.runs.train_run` does so into a run folder), and
:class:`GSNNModule` goes into a Lightning ``Trainer`` of your own. Lightning is imported at first use of anything
but :class:`TrainConfig`, so that a command line can show the settings without waiting for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from gsnn.training.config import TrainConfig

if TYPE_CHECKING:
    from gsnn.training.fit_data import TrainResult, fit
    from gsnn.training.loop import predict, train_model
    from gsnn.training.module import Batches, GSNNModule, TrainingError

_LAZY = {
    "Batches": "module",
    "GSNNModule": "module",
    "TrainResult": "fit_data",
    "TrainingError": "module",
    "fit": "fit_data",
    "predict": "loop",
    "train_model": "loop",
}

__all__ = [
    "Batches",
    "GSNNModule",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "fit",
    "predict",
    "train_model",
]


def __getattr__(name: str) -> object:
    """Import a name that needs Lightning when it is first asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(f"gsnn.training.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'gsnn.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted(__all__)
