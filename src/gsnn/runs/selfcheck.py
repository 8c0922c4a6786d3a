"""Self-check of a run, or of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import RunError, as_data_error
from gsnn.discovery.selfcheck.result import SelfCheck
from gsnn.io.truth import read_roles
from gsnn.runs.results import calibrate_run
from gsnn.runs.settings import changed_config, locked, refuse_both

if TYPE_CHECKING:
    from gsnn.data import PerturbationData
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
    **options: Any,  # noqa: ANN401 - of self_check
) -> SelfCheck:
    """Self-check of the data and settings of a run, written into its folder.

    The precision to expect is added to the ``edges.csv`` of the run if it was inferred by a checked method, and the
    check trained with the settings of the run: of models trained otherwise it says nothing about these edges.

    ``roles`` is a table of roles, for ``stratify='role'``; ``missing`` the share of the complete network that is taken
    to be missing (None: the share that was hidden); ``notify`` is called with the reason if the edges of the run got no
    precision. For the other arguments see :mod:`gsnn.runs` and :func:`gsnn.discovery.self_check`.
    """
    config = changed_config(run.config, settings)
    with run.lock():
        run.refresh()
        check = _self_check(run.data(), config, run.path, methods, overwrite, resume, roles, options, run)
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
    **options: Any,  # noqa: ANN401 - of self_check
) -> SelfCheck:
    """Self-check of a network file and a response file, or two matrices, without a run.

    What it finds is written to the folder ``path``, which is made if need be; ``sources`` are the files. The other
    arguments are those of :func:`self_check_run`.
    """
    from gsnn.training import TrainConfig

    path = Path(path)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; choose another folder")
    config = changed_config(TrainConfig(), settings)
    return _self_check(sources.read(), config, path, methods, overwrite, resume, roles, options, None)


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
