"""What a training needs, whether its samples are in memory or stay in their file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gsnn.base.errors import DataError
from gsnn.data import Split, Standardiser, StreamedSplit
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.training.baselines import FitReport
from gsnn.training.config import NEED_TWO_ROWS, TrainConfig
from gsnn.training.loop import Samples, build_model


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that can be refused, done before anything is written.

    Attributes:
        model: With its initial weights.
        split: The three parts.
        standardiser: Fitted on the training part.
        train: The training samples, standardised.
        validation: Those that are watched, likewise; none if nothing depends on them.
        report: Measures the trained model on the test part.
        warnings: What a user should know.
    """

    model: GSNN
    split: Split | StreamedSplit
    standardiser: Standardiser
    train: Samples
    validation: Samples
    report: Callable[[GSNN], FitReport]
    warnings: list[str]


def check_samples(config: TrainConfig, n_train: int, watched: bool) -> None:
    """Refuse settings that need other samples than there are.

    Args:
        config: The settings.
        n_train: Training samples.
        watched: Whether a validation sample has a measured readout.

    Raises:
        DataError: With what to do instead.
    """
    if config.uses_validation and not watched:
        raise DataError("patience and restore_best need validation samples with measured readouts; raise validation")
    if config.drop_last and n_train < config.batch_size:
        raise DataError(f"drop_last with batch_size {config.batch_size} leaves none of {n_train} samples")
    if config.norm in NEED_TWO_ROWS and n_train == 1:
        raise DataError(f"norm {config.norm!r} needs at least 2 training samples, got 1; use 'groupbatch' or 'layer'")


def new_model(graph: Graph, config: TrainConfig) -> GSNN:
    """The model of these settings, with weights that the seed fixes."""
    return build_model(lambda: GSNN.from_graph(graph, **config.model_options()), config.seed)
