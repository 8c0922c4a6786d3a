"""Train into a run folder, from files, from sources, or on a bundled data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.devices import check_device
from gsnn.base.errors import RunError, require
from gsnn.base.progress import now
from gsnn.data import PerturbationData, StreamedData
from gsnn.runs import Sources
from gsnn.runs.settings import make_config
from gsnn.training.fit_data import TrainResult, _recorded, fit_prepared, prepare
from gsnn.training.team import Team

if TYPE_CHECKING:
    from gsnn.runs.folder import Run
    from gsnn.training import TrainConfig, TrainResult


def train_files(
    path: str | Path,
    *,
    graph: str | Path,
    data: str | Path | None = None,
    inputs: str | Path | None = None,
    outputs: str | Path | None = None,
    network_options: Mapping[str, Any] | None = None,
    responses_options: Mapping[str, Any] | None = None,
    build_options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = False,
    notify: Callable[[list[str]], None] | None = None,
    devices: int | None = None,
    num_nodes: int | None = None,
    device: str = "cpu",
) -> tuple[Run, TrainResult]:
    """Train on a network file and a response file, or two matrices, into a run folder.

    Args:
        path: The run folder.
        graph: The prior network.
        data: The responses, as MIDAS or one prefixed table.
        inputs: The matrix of treatments, with ``outputs`` instead of ``data``.
        outputs: The matrix of readouts.
        network_options: Keyword arguments of `gsnn.io.read_network`.
        responses_options: Keyword arguments of `gsnn.io.read_responses`.
        build_options: Keyword arguments of `gsnn.data.build_data`.
        settings: Fields of `TrainConfig`. A run that is resumed keeps its own where a field is missing or None.
        overwrite: Replace a run in the folder.
        resume: Continue a run in the folder; if there is none, begin one.
        progress: Show progress on stderr.
        notify: Called with the warnings about the data before the training begins; and after it with what in the
            folder (a self-check, a refinement) is from other data or settings.
        devices: Processes on each machine that train together; None takes those that torchrun or ``srun`` started.
        num_nodes: Machines likewise.
        device: Where to train: ``cpu`` or ``cuda``.

    Returns:
        The run and the result of its training.

    Raises:
        DataError: If a file or a setting is wrong.
        RunError: If the folder does not allow this.
    """
    from gsnn.runs.folder import Run, Sources
    from gsnn.training.team import find_team

    # What is cheap to refuse comes before torch is imported, which takes longer than everything here.
    team = find_team(devices, num_nodes)
    if team.first:
        Run.check_target(path, overwrite=overwrite, resume=resume)
    sources = Sources.from_files(
        graph,
        data,
        inputs=inputs,
        outputs=outputs,
        network_options=network_options,
        responses_options=responses_options,
        build_options=build_options,
    )
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    before = Run.open(path).config.to_dict() if resume and Run.exists(path) else {}
    config = make_config({**before, **given})
    team.check(config)
    read = sources.open()
    if notify is not None:
        notify(read.warnings)
    now("loading torch and building the model")
    from gsnn.runs.results import stale_results

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
        team=team,
    )
    if notify is not None and team.first:
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
        DataError: If there is no such data set.
        MissingExtraError: If a package of the extra ``demo`` is not installed.
        RunError: If the folder holds anything but a demo.
    """
    from gsnn.runs.folder import Run, Sources

    for module in ("jinja2", "plotly.offline"):
        require(module, extra="demo")  # not only after the training
    sources = Sources.dataset(dataset)
    config = make_config(settings or {})
    if Run.exists(path) and Run.open(path).sources.kind != "dataset":
        raise RunError(f"{path} holds a run on your own files, not a demo; choose another folder with -o")
    Run.check_target(path, overwrite=True)
    now("training")

    return train_run(path, sources, config, overwrite=True, progress=progress)


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
    team: Team = Team(),  # noqa: B008 - frozen
) -> tuple[Run, TrainResult]:
    """Read the sources, make or continue the run folder, and train; what ``gsnn train`` does.

    Nothing is written before the target, the sources and the settings have been found valid.

    Args:
        path: The run folder.
        sources: What to read.
        config: The settings; None takes those of the run that is continued, else the defaults.
        data: What ``sources`` hold, if it has been read already.
        overwrite: Replace a run in the folder.
        resume: Continue a run in the folder; if there is none, begin one.
        progress: Show progress on stderr.
        device: Where to train.
        team: The processes that train together, each of which calls this; the first one writes the folder. The run
            that the others get is its path and nothing more.

    Returns:
        The run and the result of the training.

    Raises:
        DataError: If the sources do not hold what they must.
        RunError: If the folder or the run in it does not allow this.
        TrainingError: If the loss becomes infinite or NaN.
    """
    if team.first:
        Run.check_target(path, overwrite=overwrite, resume=resume)
    check_device(device)
    old = Run.open(path) if resume and Run.exists(path) else None
    if config is None:
        config = old.config if old is not None else TrainConfig()
    if old is not None:
        old.check_config(config)
    team.check(config)
    if data is None:
        data = sources.open()
    if old is not None:
        old.check_data(data)
    prepared = prepare(data, config, _recorded(old, data))
    if not team.first:
        run = Run(Path(path), {})
    else:
        run = old or Run.create(path, config=config, data=data, sources=sources, overwrite=overwrite)
    return run, fit_prepared(prepared, data, config, run, resume, progress, device, team)
