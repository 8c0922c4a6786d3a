"""Train into a run folder; imports torch and Lightning."""

from __future__ import annotations

from pathlib import Path

from gsnn.base.launch import Place
from gsnn.base.torch_state import check_device
from gsnn.data import PerturbationData, StreamedData
from gsnn.edges import EdgeRegressorCallback
from gsnn.runs.folder import Run
from gsnn.runs.members import members_wanted, train_members
from gsnn.runs.regressor import check_regressor, new_regressor
from gsnn.runs.sources import Sources
from gsnn.training import TrainConfig
from gsnn.training.fit_data import TrainResult, fit_prepared, recorded_split
from gsnn.training.prepare import prepare


def train_run(
    path: str | Path,
    sources: Sources,
    config: TrainConfig | None = None,
    *,
    data: PerturbationData | StreamedData | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
    device: str = "cpu",
    place: Place = Place(),  # noqa: B008 - frozen
    regressor: bool = False,
    members: int | None = None,
) -> tuple[Run, TrainResult]:
    """Read the sources, make or continue the run folder, and train, as ``gsnn train`` does.

    Nothing is written before the target, the sources and the settings have been checked.

    Args:
        path: The run folder.
        sources: Where the data are read from.
        config: The settings; None takes those of the run that is continued, else the defaults.
        data: The data of ``sources``, if they have been read already.
        overwrite: Replace a run in the folder.
        resume: Continue a run in the folder; if there is none, begin one.
        progress: Show progress on stderr.
        device: Where to train.
        place: This process among those that train together and all call this; the first one writes the folder, and the
            others get a run with no more than its path.
        regressor: Let a :class:`gsnn.edges.MagnitudeEdgeRegressor` learn beside the model, for the method ``regressor``
            of an inference. A run that is continued does so if it was begun so.
        members: How many further models to train, each on a bootstrap of the conditions of the training part and from a
            seed of its own (:mod:`gsnn.training.members`). A run that is continued has as many as before, or more.

    Returns:
        The run and the result of the training.

    Raises:
        DataError: If the sources do not hold what they must.
        RunError: If the folder or the run in it does not allow this, or the regressor cannot learn.
        TrainingError: If the loss becomes infinite or NaN.
    """
    if place.first:
        Run.check_target(path, overwrite=overwrite, resume=resume)
    check_device(device)
    old = Run.open(path) if resume and Run.exists(path) else None
    if config is None:
        config = old.config if old is not None else TrainConfig()
    if old is not None:
        old.check_config(config)
    longer = old is not None and config.epochs > old.config.epochs
    config.check_processes(place.size)
    regressor = check_regressor(regressor, old, place.size)
    if data is None:
        data = sources.open()
    if old is not None:
        old.check_data(data)
    prepared = prepare(data, config, recorded_split(old))
    members = members_wanted(members, old, prepared, place.size)
    learner = new_regressor(prepared.model, data.graph) if regressor else None
    if not place.first:
        run = Run(Path(path), {})
    else:
        run = old or Run.create(
            path,
            config=config,
            data=data,
            sources=sources,
            overwrite=overwrite,
            regressor=regressor,
            members=members,
        )
    callbacks = []
    if learner is not None:
        facts = {"run": str(run.info["id"])}
        callbacks.append(EdgeRegressorCallback(learner, path=run.regressor_path, facts=facts))
    result = fit_prepared(prepared, config, run, resume, progress, device, place, callbacks)
    if place.first and longer:
        run.note_command("train longer")
    if members:
        train_members(run, prepared, config, members, progress, device)
    return run, result
