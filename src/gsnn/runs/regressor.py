"""The regressor that learns while a run is trained: its conditions, its file, and its use in an inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsnn.base.errors import DataError, RunError

if TYPE_CHECKING:
    from gsnn.edges import EdgeInferer, MagnitudeEdgeRegressor
    from gsnn.graph import Graph
    from gsnn.nn import GSNN
    from gsnn.runs.folder import Run

# How ``run.json`` marks scores learnt so. A self-check learns from trained models and does not apply to them.
FROM_TRAINING = {"learnt": "while training"}


def check_regressor(wanted: bool, old: Run | None, processes: int) -> bool:
    """Whether a regressor learns in a training; a run that is continued (``old``) does as it was begun.

    Raises:
        DataError: If there are several processes.
        RunError: If the run was begun without one.
    """
    learns = wanted if old is None else old.learns_regressor
    if wanted and not learns and old is not None:
        raise RunError(
            f"{old.path} was begun without --regressor, which cannot learn from half of a training; leave it out, or "
            "train another run"
        )
    if learns and processes > 1:
        raise DataError(
            f"--regressor learns in one process, and there are {processes}, each with a part of every batch; leave it "
            "out (gsnn infer --method regressor learns from the trained model), or train in one process"
        )
    return learns


def new_regressor(model: GSNN, graph: Graph) -> MagnitudeEdgeRegressor:
    """The regressor of a model that is going to be trained.

    Raises:
        RunError: If the model has fewer than 2 layers.
    """
    from gsnn.edges import MagnitudeEdgeRegressor

    try:
        return MagnitudeEdgeRegressor(model, graph)
    except RuntimeError as error:
        raise RunError(f"--regressor cannot learn here: {error}") from error


def learnt_in_training(run: Run, inferer: type[EdgeInferer], fresh: bool) -> bool:
    """Whether inferers of a class have learnt while the run was trained and need not learn anew (``fresh``)."""
    from gsnn.edges import MagnitudeEdgeRegressor

    return run.learns_regressor and not fresh and issubclass(inferer, MagnitudeEdgeRegressor)


def load_regressor(run: Run, regressor: MagnitudeEdgeRegressor, samples: str) -> int:
    """Load into a regressor what it has learnt while a run was trained; returns the number of samples.

    Raises:
        DataError: If other samples are asked for.
        RunError: If the file is gone, damaged, or of another run.
    """
    anew = "with --fresh it learns from the trained model instead"
    if samples != "train":
        raise DataError(f"the regressor of {run.path} has learnt from the training samples while training; {anew}")
    path = run.regressor_path
    if not path.is_file():
        raise RunError(f"{path} is gone; restore it with gsnn train --resume -o {run.path}, or {anew}")
    if regressor.load(path).get("run") != run.info["id"]:
        raise RunError(f"{path} is of another run; restore it with gsnn train --resume -o {run.path}, or {anew}")
    return regressor.n
