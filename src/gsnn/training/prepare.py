"""Prepare data for a training, and measure the trained model; samples may be in memory or in a file."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gsnn.base.errors import DataError, as_data_error
from gsnn.data import PerturbationData, Split, Standardiser, StreamedData
from gsnn.data.scan import scan
from gsnn.data.split import PARTS
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.training.baselines import (
    Figures,
    FitReport,
    GroupMeanBaseline,
    MeanBaseline,
    RidgeBaseline,
    fit_report,
)
from gsnn.training.config import NEED_TWO_ROWS, TrainConfig
from gsnn.training.left_out import left_out_correlations
from gsnn.training.loop import Samples, build_model, predict


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a training needs; whatever can be refused was refused before this is made.

    Attributes:
        model: With its initial weights.
        data: What it is trained on.
        split: The three parts.
        standardiser: Fitted on the training part.
        train: The training samples, standardised: arrays if the data are in memory, else a part that is read later.
        validation: The validation samples, likewise; none if nothing depends on them.
        test: The samples that the trained model is measured on, likewise.
        warnings: What a user should know.
    """

    model: GSNN
    data: PerturbationData | StreamedData
    split: Split
    standardiser: Standardiser
    train: Samples
    validation: Samples
    test: Samples
    warnings: list[str]


def prepare(data: PerturbationData | StreamedData, config: TrainConfig, split: Split | None = None) -> Prepared:
    """Split and standardise data, and build the model to be trained on them.

    Args:
        data: The data; streamed data are read twice.
        config: The settings.
        split: The parts; None draws them.

    Raises:
        DataError: If the data cannot be split or trained on, or the settings need other samples.
    """
    with as_data_error():
        split = split or data.split(**config.split_options())
        scanned = scan(data, split)
    parts = [scanned.part(name) for name in PARTS]
    n_train, watched = len(parts[0]), parts[1].observed
    if config.uses_validation and not watched:
        raise DataError("patience and restore_best need validation samples with measured readouts; raise validation")
    if config.drop_last and n_train < config.batch_size:
        raise DataError(f"drop_last with batch_size {config.batch_size} leaves none of {n_train} samples")
    if config.norm in NEED_TWO_ROWS and n_train == 1:
        raise DataError(f"norm {config.norm!r} needs at least 2 training samples, got 1; use 'groupbatch' or 'layer'")
    train, validation, test = (part.whole() if isinstance(data, PerturbationData) else part for part in parts)
    warnings = list(dict.fromkeys([*data.warnings, *split.warnings, *scanned.warnings]))
    model = new_model(data.graph, config)
    return Prepared(model, data, split, scanned.standardiser, train, validation, test, warnings)


def new_model(graph: Graph, config: TrainConfig) -> GSNN:
    """The model of these settings, with weights that the seed fixes."""
    return build_model(lambda: GSNN.from_graph(graph, **config.model_options()), config.seed)


def measure(prepared: Prepared) -> FitReport:
    """The fit on the test part, beside baselines that are fitted on the training part.

    A figure that cannot be computed is NaN, with a note among the warnings. With data in memory the baselines also
    predict each condition from all others.
    """
    warnings, data = prepared.warnings, prepared.data
    train, test = ([part] if isinstance(part, tuple) else part for part in (prepared.train, prepared.test))
    predictors = {
        "model": lambda x: predict(prepared.model, x),
        "ridge": lambda x: np.full((len(x), data.graph.O), np.nan),
        "mean": MeanBaseline.from_chunks(train).predict,
        "group mean": GroupMeanBaseline.from_chunks(train).predict,
    }
    try:
        # Readouts with missing values need all samples at once.
        arrays = isinstance(prepared.train, tuple)
        ridge = RidgeBaseline.fit(*prepared.train) if arrays else RidgeBaseline.from_chunks(train)
        predictors["ridge"] = ridge.predict
    except ValueError as error:
        warnings.append(f"the ridge baseline is left out: {error}")
    figures = {name: Figures(data.graph.O, prepared.standardiser) for name in predictors}
    for x, y in test:
        for name, predictor in predictors.items():
            figures[name].update(y, predictor(x))
    if not figures["model"].n:
        warnings.append("no sample is in the test part, so the fit was not measured")
    correlation = {name: each.correlation() for name, each in figures.items()}
    left_out = left_out_correlations(data.x, data.y) if isinstance(data, PerturbationData) else {}
    figures.pop("group mean")
    return replace(fit_report(figures, data.graph.outputs), correlation=correlation, left_out=left_out)
