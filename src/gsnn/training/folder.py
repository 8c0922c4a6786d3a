"""What training asks of the folder that it writes into; :class:`gsnn.runs.Run` is one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from gsnn.data import PerturbationData, Split, Standardiser, StreamedData
from gsnn.training.baselines import FitReport
from gsnn.training.config import TrainConfig


class Folder(Protocol):
    """A folder that keeps a training.

    Attributes:
        info: What is written of the training.
    """

    info: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether the training in it has ended."""
        ...

    @property
    def config(self) -> TrainConfig:
        """Its settings."""
        ...

    @property
    def checkpoint_path(self) -> Path:
        """The state after the last whole epoch."""
        ...

    @property
    def metrics_path(self) -> Path:
        """A row per epoch."""
        ...

    @property
    def model_path(self) -> Path:
        """The trained model."""
        ...

    @property
    def early_path(self) -> Path:
        """The model when most was learnt."""
        ...

    def split(self) -> Split:
        """The parts it was begun with."""
        ...

    def lock(self) -> AbstractContextManager[bool]:
        """Keep other programs out."""
        ...

    def refresh(self) -> None:
        """Read what it says now."""
        ...

    def check_data(self, data: PerturbationData | StreamedData) -> None:
        """Refuse data that are not those of the training."""
        ...

    def check_config(self, config: TrainConfig) -> None:
        """Refuse settings under which the training cannot be continued."""
        ...

    def begin(
        self,
        config: TrainConfig,
        split: Split,
        standardiser: Standardiser,
        readouts: list[str],
        warnings: list[str],
    ) -> None:
        """Write what is known before the first epoch."""
        ...

    def finish(self, fit: FitReport, training: dict[str, Any]) -> None:
        """Write what is known after the last one."""
        ...
