"""The interface of a folder that training writes into; :class:`gsnn.runs.Run` implements it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from gsnn.data import PerturbationData, Split, StreamedData
from gsnn.training.baselines import FitReport
from gsnn.training.config import TrainConfig
from gsnn.training.prepare import Prepared


class Folder(Protocol):
    """A folder that keeps a training.

    Attributes:
        info: What is recorded about the training.
        checkpoint_path: The state after the last whole epoch.
        metrics_path: A row per epoch.
        model_path: The trained model.
        early_path: The model with its early weights.
    """

    info: dict[str, Any]
    checkpoint_path: Path
    metrics_path: Path
    model_path: Path
    early_path: Path

    @property
    def complete(self) -> bool:
        """Whether the training in it has ended."""

    @property
    def config(self) -> TrainConfig:
        """Its settings."""

    def split(self) -> Split:
        """The parts it was started with."""

    def lock(self) -> AbstractContextManager[bool]:
        """Keep other programs out."""

    def refresh(self) -> None:
        """Read what it says now."""

    def check_data(self, data: PerturbationData | StreamedData) -> None:
        """Refuse data that are not those of the training."""

    def check_config(self, config: TrainConfig) -> None:
        """Refuse settings under which the training cannot be continued."""

    def begin(self, config: TrainConfig, prepared: Prepared) -> None:
        """Write what is known before the first epoch."""

    def finish(self, fit: FitReport, training: dict[str, Any]) -> None:
        """Write what is known after the last one."""
