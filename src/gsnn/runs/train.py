"""Train into a run folder: on files, or on a bundled data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import RunError, require
from gsnn.base.launch import training_place
from gsnn.base.progress import now
from gsnn.data import PerturbationData
from gsnn.data.sanity import odd_fit, oddities
from gsnn.runs.folder import Run
from gsnn.runs.regressor import check_regressor
from gsnn.runs.settings import changed_config
from gsnn.runs.sources import Sources
from gsnn.training.config import TrainConfig

if TYPE_CHECKING:
    from gsnn.training import TrainResult


def train_files(
    path: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = False,
    notify: Callable[[list[str]], None] | None = None,
    devices: int | None = None,
    num_nodes: int | None = None,
    device: str = "cpu",
    regressor: bool = False,
    members: int | None = None,
    **files: Any,  # noqa: ANN401 - of Sources.from_files
) -> tuple[Run, TrainResult]:
    """Train on a network file and a response file, or two matrices, into a run folder.

    The ``files`` and the options of their readers are those of :meth:`gsnn.runs.Sources.from_files`, ``graph`` among
    them. A run that is resumed keeps its own ``settings`` where a field is missing or None. ``notify`` is called with
    the warnings about the data before the training begins, and after it with the results in the folder (a self-check, a
    refinement) that are from other data or settings. ``devices`` is how many processes on each machine train together,
    ``num_nodes`` on how many machines; None takes those that torchrun or ``srun`` started. ``device`` is ``cpu`` or
    ``cuda``. ``regressor`` and ``members`` are those of :func:`gsnn.runs.train_run`, and for the other arguments see
    :mod:`gsnn.runs`.

    Returns:
        The run and the result of its training.
    """
    # Cheap checks come before the import of torch, which takes longer than all of them.
    place = training_place(devices, num_nodes)
    if place.first:
        Run.check_target(path, overwrite=overwrite, resume=resume)
    sources = Sources.from_files(**files)
    old = Run.open(path) if resume and Run.exists(path) else None
    config = changed_config(old.config if old else TrainConfig(), settings)
    config.check_processes(place.size)
    check_regressor(regressor, old, place.size)
    read = sources.open()
    if notify is not None:
        notify(read.warnings)
    now("loading torch and building the model")
    from gsnn.runs.results import stale_results
    from gsnn.runs.training import train_run

    now("training")
    run, result = train_run(
        path,
        sources,
        config,
        data=read,
        overwrite=overwrite,
        resume=resume,
        progress=progress,
        device=device,
        place=place,
        regressor=regressor,
        members=members,
    )
    if notify is not None and place.first:
        if isinstance(read, PerturbationData):
            notify(oddities(read, result.report.left_out))
        else:  # the other oddities were among the warnings of the pass over the samples
            notify(odd_fit(result.report.correlation.get("ridge", float("nan"))))
        notify(stale_results(run))
    return run, result


def train_demo(
    path: str | Path, dataset: str, *, settings: Mapping[str, Any] | None = None, progress: bool = False
) -> tuple[Run, TrainResult]:
    """Train on a bundled data set into a run folder, replacing an earlier demo there and nothing else.

    Args:
        path: The run folder.
        dataset: One of ``gsnn.datasets.DATASETS``.
        settings: Fields of `TrainConfig`.
        progress: Show progress on stderr.

    Returns:
        The run and the result of its training.

    Raises:
        DataError: If there is no such data set, or a setting is wrong.
        MissingExtraError: If a package of the extra ``demo`` is not installed.
        RunError: If the folder holds anything but a demo.
    """
    for module in ("jinja2", "plotly.offline"):
        require(module, extra="demo")  # before the training, not after it
    sources = Sources.dataset(dataset)
    config = changed_config(TrainConfig(), settings)
    if Run.exists(path) and Run.open(path).sources.kind != "dataset":
        raise RunError(f"{path} holds a run on your own files, not a demo; choose another folder with -o")
    Run.check_target(path, overwrite=True)
    now("training")

    from gsnn.runs.training import train_run

    return train_run(path, sources, config, overwrite=True, progress=progress)
