"""The regressor that learns while a run is trained: whether it may, where it is kept, how an inference takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gsnn.base.errors import DataError, RunError

if TYPE_CHECKING:
    from gsnn.edges import EdgeRegressorCallback, MagnitudeEdgeRegressor
    from gsnn.graph import Graph
    from gsnn.nn import GSNN
    from gsnn.runs.folder import Run

# What ``run.json`` says of scores that were learnt so; a self-check, which learns from trained models, says nothing of
# them.
FROM_TRAINING = {"learnt": "while training"}


def check_regressor(wanted: bool, old: Run | None, processes: int) -> bool:
    """Whether a regressor learns in a training.

    Args:
        wanted: Whether it was asked for.
        old: The run that is continued, which decides by how it was begun.
        processes: How many train together.

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


def regressor_callback(run: Run, regressor: MagnitudeEdgeRegressor) -> EdgeRegressorCallback:
    """The callback that lets a regressor learn while a run is trained, and writes it into the folder."""
    from gsnn.edges import EdgeRegressorCallback

    return EdgeRegressorCallback(regressor, path=run.regressor_path, facts={"run": str(run.info["id"])})


def learnt_in_training(run: Run, inferer: Any, fresh: bool) -> bool:  # noqa: ANN401 - an inferer or its class
    """Whether an inferer, or its class, is one that has learnt while the run was trained.

    Args:
        run: The run.
        inferer: The inferer or its class.
        fresh: Whether it is to learn anew.
    """
    if fresh or not run.learns_regressor:
        return False
    from gsnn.edges import MagnitudeEdgeRegressor

    kind = inferer if isinstance(inferer, type) else type(inferer)
    return issubclass(kind, MagnitudeEdgeRegressor)


def load_regressor(run: Run, regressor: MagnitudeEdgeRegressor, samples: str) -> int:
    """Take what the regressor has learnt while a run was trained.

    Args:
        run: The run.
        regressor: Of its model.
        samples: Must be ``train``: it has seen no others.

    Returns:
        Number of samples.

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
