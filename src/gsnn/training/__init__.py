"""Training through Lightning: repeatable, resumable, without pickle.

:func:`fit` trains on perturbation data (:func:`gsnn.runs.train_run` does so into a run folder), and
:class:`GSNNModule` goes into a Lightning ``Trainer`` of your own. Torch is imported at the first use of anything but
:class:`TrainConfig`, and Lightning when a training is watched, writes files or takes callbacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsnn.base.lazy import lazy_names
from gsnn.training.config import TrainConfig

if TYPE_CHECKING:
    from gsnn.training.fit_data import TrainResult, fit
    from gsnn.training.loop import predict, train_model
    from gsnn.training.module import GSNNModule
    from gsnn.training.order import Batches
    from gsnn.training.plain import TrainingError

_LAZY = {
    "Batches": "order",
    "GSNNModule": "module",
    "TrainResult": "fit_data",
    "TrainingError": "plain",
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

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
