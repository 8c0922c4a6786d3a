"""Self-check of a run, or of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import RunError, as_data_error
from gsnn.discovery.selfcheck.result import SelfCheck
from gsnn.io.truth import read_roles
from gsnn.runs.results import calibrate_run
from gsnn.runs.sample import as_many_steps, run_sample
from gsnn.runs.settings import changed_config, refuse_both

if TYPE_CHECKING:
    from gsnn.data import PerturbationData
    from gsnn.runs import Run, Sources
    from gsnn.training import TrainConfig


def self_check_run(
    run: Run,
    *,
    methods: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    roles: str | Path | None = None,
    missing: float | None = None,
    notify: Callable[[list[str]], None] | None = None,
    sample: int | None = None,
    **options: Any,  # noqa: ANN401 - of self_check
) -> SelfCheck:
    """Self-check of the data and settings of a run, written into its folder.

    The precision to expect is added to the ``edges.csv`` of the run if it was inferred by a checked method, and the
    check trained with the settings of the run: of models trained otherwise it says nothing about these edges.

    ``roles`` is a table of roles, for ``stratify='role'``; ``missing`` the share of the complete network that is taken
    to be missing (None: the share that was hidden); ``notify`` is called with the reason if the edges of the run got no
    precision; ``sample`` is how many samples to draw, by the ``seed`` among the options (None: 2,000 of samples that
    stay in their files, all of others). Models of a sample are trained for as many steps as the run, in up to 150
    epochs (or as many as the run took), unless ``settings`` say how many. For the other arguments see
    :mod:`gsnn.runs` and :func:`gsnn.discovery.self_check`.
    """
    config = changed_config(run.config, settings)
    options |= {"folder": run.path, "overwrite": overwrite, "resume": resume}
    with run.lock():
        run.refresh()
        data = run_sample(run, sample, int(options.get("seed", 0)))
        check = _self_check(data, as_many_steps(config, data.drawn, settings), methods, roles, options)
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

    What it finds is written to the folder ``path``, which is made if need be; ``sources`` are the files. The other
    arguments are those of :func:`self_check_run`; the settings stay as they are, however many samples are drawn.
    """
    from gsnn.training import TrainConfig

    path = Path(path)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; choose another folder")
    config = changed_config(TrainConfig(), settings)
    data = sources.sample(sample, int(options.get("seed", 0)))
    options |= {"folder": path, "overwrite": overwrite, "resume": resume}
    return _self_check(data, config, methods, roles, options)


def _self_check(
    data: PerturbationData,
    config: TrainConfig,
    methods: Sequence[str] | None,
    roles: str | Path | None,
    options: Mapping[str, Any],
) -> SelfCheck:
    from gsnn.discovery.selfcheck import self_check

    refuse_both(options["overwrite"], options["resume"])
    labels = None if roles is None else read_roles(roles)
    with as_data_error():
        return self_check(data, config, methods, roles=labels, **options)
