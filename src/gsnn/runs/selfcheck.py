"""Self-check of a run, or of files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import RunError, as_data_error
from gsnn.discovery.selfcheck.result import SelfCheck
from gsnn.io.truth import read_roles
from gsnn.runs.results import calibrate_run
from gsnn.runs.sample import run_sample
from gsnn.runs.settings import changed_config, locked, refuse_both

if TYPE_CHECKING:
    from gsnn.data import PerturbationData
    from gsnn.data.drawn import Drawn
    from gsnn.runs import Run, Sources
    from gsnn.training import TrainConfig


Notify = Callable[[list[str]], None]


def self_check_run(
    run: Run,
    *,
    methods: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    roles: str | Path | None = None,
    missing: float | None = None,
    notify: Notify | None = None,
    sample: int | None = None,
    **options: Any,  # noqa: ANN401 - of self_check
) -> SelfCheck:
    """Self-check of the data and settings of a run, written into its folder.

    The precision to expect is added to the ``edges.csv`` of the run if it was inferred by a checked method, and the
    check trained with the settings of the run: of models trained otherwise it says nothing about these edges.

    <<<<<<< HEAD
    ``roles`` is a table of roles, for ``stratify='role'``; ``missing`` the share of the complete network that is taken
    to be missing (None: the share that was hidden); ``notify`` is called with the reason if the edges of the run got no
    precision. For the other arguments see :mod:`gsnn.runs` and :func:`gsnn.discovery.self_check`.
    =======
    Args:
        run: The run; its training need not be complete.
        methods: Names of registered methods; None: those that are taken by default.
        settings: Fields of `TrainConfig` to replace; None values are left out.
        overwrite: Replace a self-check in the folder.
        resume: Continue one; without one, begin.
        roles: A table of roles, for ``stratify='role'``.
        missing: Share of the complete network that is taken to be missing; None: the share that was hidden.
        notify: Called with the reason if the edges of the run got no precision.
        sample: How many samples to draw for it, by the ``seed`` among the options; None: 2,000 of samples that stay in
            their files, all of others. Models of a sample are trained for as many steps as the run, in up to 150
            epochs (or as many as the run took), unless ``settings`` say how many.
        **options: Further options of :func:`gsnn.discovery.self_check`.

    Raises:
        DataError: If an option is wrong.
        RunError: If the folder or the run in it does not allow this.
    >>>>>>> w21
    """
    config = changed_config(run.config, settings)
    with run.lock():
        run.refresh()
        data = run_sample(run, sample, int(options.get("seed", 0)))
        if (settings or {}).get("epochs") is None:
            config = _as_many_steps(config, data.drawn)
        check = _self_check(data, config, run.path, methods, overwrite, resume, roles, options, run)
        note = calibrate_run(run, missing)
        if not resume:
            run.note_command("selfcheck")
    if note and notify is not None:
        notify([note])
    return check


def self_check_files(
    path: str | Path,
    sources: Sources,
    *,
    methods: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    roles: str | Path | None = None,
    sample: int | None = None,
    **options: Any,  # noqa: ANN401 - of self_check
) -> SelfCheck:
    """Self-check of a network file and a response file, or two matrices, without a run.

    <<<<<<< HEAD
    What it finds is written to the folder ``path``, which is made if need be; ``sources`` are the files. The other
    arguments are those of :func:`self_check_run`.
    =======
    Args:
        path: Folder to write to; made if need be.
        sources: The files.
        methods: As for :func:`self_check_run`.
        settings: Fields of `TrainConfig`.
        overwrite: As for :func:`self_check_run`.
        resume: As for :func:`self_check_run`.
        roles: As for :func:`self_check_run`.
        sample: Likewise; the settings stay as they are.
        **options: Further options of :func:`gsnn.discovery.self_check`.

    Raises:
        DataError: If a file or an option is wrong.
        RunError: If the folder does not allow this.
    >>>>>>> w21
    """
    from gsnn.training import TrainConfig

    path = Path(path)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; choose another folder")
    config = changed_config(TrainConfig(), settings)
    data = sources.sample(sample, int(options.get("seed", 0)))
    return _self_check(data, config, path, methods, overwrite, resume, roles, options, None)


def _as_many_steps(config: TrainConfig, drawn: Drawn | None) -> TrainConfig:
    """The settings with epochs for as many steps on a part of the samples, but no more than the default."""
    from gsnn.training import TrainConfig

    if drawn is None or not drawn.partial:
        return config
    most = max(config.epochs, TrainConfig().epochs)
    return replace(config, epochs=min(most, math.ceil(config.epochs * drawn.of / drawn.used)))


def _self_check(
    data: PerturbationData,
    config: TrainConfig,
    folder: Path,
    methods: Sequence[str] | None,
    overwrite: bool,
    resume: bool,
    roles: str | Path | None,
    options: Mapping[str, Any],
    run: Run | None,
) -> SelfCheck:
    from gsnn.discovery.selfcheck import self_check

    refuse_both(overwrite, resume)
    labels = None if roles is None else read_roles(roles)
    given = {"folder": folder, "resume": resume, "overwrite": overwrite, "roles": labels, **options}
    with as_data_error(), locked(run):
        return self_check(data, config, methods, **given)
