"""What the commands do: the protocols on run folders and files, with their results written beside the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import DataError, GsnnError, RunError
from gsnn.discovery.check_result import PRECISION_COLUMNS, SelfCheck, attach_precision
from gsnn.discovery.evaluate import Evaluation, evaluate_table, read_roles, read_table, read_truth
from gsnn.discovery.refine_result import Refinement
from gsnn.discovery.result_file import differing_settings

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.data import PerturbationData
    from gsnn.runs.folder import Run, Sources
    from gsnn.training import TrainConfig

Notify = Callable[[list[str]], None]

__all__ = [
    "calibrate_edges",
    "calibrate_run",
    "evaluate_files",
    "read_check",
    "refine_run",
    "self_check_files",
    "self_check_run",
    "stale_results",
]


def evaluate_files(
    edges: str | Path,
    truth: str | Path,
    *,
    graph: str | Path | None = None,
    roles: str | Path | None = None,
    score: str | None = None,
    k: Sequence[int] | None = None,
    alias_by: str = "reach",
    seed: int = 0,
) -> Evaluation:
    """Measure a file of scored edges, or the ``edges.csv`` of a run, against a truth.

    Args:
        edges: A CSV/TSV file with the columns source, target and a score, or a run folder.
        truth: True edges: SIF or an edge table.
        graph: The prior network, where ``edges`` is no run.
        roles: A table with the columns source, target and role.
        score: Column of the scores.
        k: Places for precision and recall.
        alias_by: ``reach`` or ``hops``.
        seed: Of the random baseline.

    Returns:
        The metrics.

    Raises:
        DataError: If a file is wrong or nothing is left to find.
        RunError: If the run cannot be read.
    """
    from gsnn.runs.folder import Run

    options: dict[str, Any] = {"score_col": score, "k": k, "alias_by": alias_by, "seed": seed}
    true = read_truth(truth)
    labels = None if roles is None else read_roles(roles)
    with _mended():
        if not Run.exists(edges):
            known = None if graph is None else read_truth(graph)
            return evaluate_table(read_table(edges), true, known, labels, **options)
        if graph is not None:
            raise DataError(f"{edges} is a run, which knows its graph; leave out graph")
        run = Run.open(edges)
        table, data = run.edges(), run.data()
        options["max_hops"] = run.config.layers
        if run.complete:
            options |= _residuals(run, data)
        return evaluate_table(table, true, None, labels, graph=data.graph, **options)


def _residuals(run: Run, data: PerturbationData) -> dict[str, Any]:
    """Inputs and residuals of the training samples of a run."""
    from gsnn.training import predict

    rows = run.split().train
    x = data.x[rows]
    return {"x": x, "residual": run.standardiser().transform(data.y[rows]) - predict(run.model(), x)}


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

    Args:
        run: The run; its training need not be complete.
        methods: Names of registered methods; None: all.
        settings: Fields of `TrainConfig` to replace; None values are left out.
        overwrite: Replace a self-check in the folder.
        resume: Continue one; without one, begin.
        roles: A table of roles, for ``stratify='role'``.
        missing: Share of the complete network that is taken to be missing; None: the share that was hidden.
        notify: Called with the reason if the edges of the run got no precision.
        **options: Further options of :func:`gsnn.discovery.self_check`.

    Returns:
        The outcome.

    Raises:
        DataError: If an option is wrong.
        RunError: If the folder or the run in it does not allow this.
    """
    config = _config(run.config, settings)
    with run.lock():
        run.refresh()
        check = _self_check(run.data(), config, run.path, methods, overwrite, resume, roles, options, run)
        note = calibrate_run(run, missing)
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

    Args:
        path: Folder to write to; made if need be.
        sources: The files.
        methods: As for :func:`self_check_run`.
        settings: Fields of `TrainConfig`.
        overwrite: As for :func:`self_check_run`.
        resume: As for :func:`self_check_run`.
        roles: As for :func:`self_check_run`.
        **options: Further options of :func:`gsnn.discovery.self_check`.

    Returns:
        The outcome.

    Raises:
        DataError: If a file or an option is wrong.
        RunError: If the folder does not allow this.
    """
    from gsnn.training import TrainConfig

    path = Path(path)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; choose another folder")
    config = _config(TrainConfig(), settings)
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

    _exclusive(overwrite, resume)
    labels = None if roles is None else read_roles(roles)
    given = {"folder": folder, "resume": resume, "overwrite": overwrite, "roles": labels, **options}
    with _mended(), _locked(run):
        return self_check(data, config, methods, **given)


def refine_run(
    run: Run,
    *,
    method: str | Sequence[str] | None = None,
    truth: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    **options: Any,  # noqa: ANN401 - of refine
) -> Refinement:
    """Refine the graph of a run, written into its folder; the run itself stays as it is.

    Args:
        run: The run; its training need not be complete.
        method: Name of a registered method, or several; None: what suits the decision.
        truth: True edges, if they are known: SIF or an edge table.
        settings: Fields of `TrainConfig` to replace; None values are left out.
        overwrite: Replace a refinement in the folder.
        resume: Continue one; without one, begin.
        **options: Further options of :func:`gsnn.discovery.refine`.

    Returns:
        The outcome.

    Raises:
        DataError: If an option is wrong.
        RunError: If the folder or the run in it does not allow this.
    """
    from gsnn.discovery.refinement import refine

    _exclusive(overwrite, resume)
    true = None if truth is None else read_truth(truth)
    data, config = run.data(), _config(run.config, settings)
    given = {"folder": run.path, "resume": resume, "overwrite": overwrite, "truth": true, **options}
    with _mended(), _locked(run):
        return refine(data, config, method, **given)


def read_check(run: Run) -> tuple[SelfCheck | None, str]:
    """The self-check in the folder of a run, if what it found holds for the run.

    Args:
        run: The run.

    Returns:
        The self-check, and an empty text; or None, and why the one in the folder is not used (empty if there is none).

    Raises:
        RunError: If its file cannot be read.
    """
    if not SelfCheck.json_path(run.path).is_file():
        return None, ""
    check = SelfCheck.read(run.path)
    again = "repeat it with gsnn selfcheck --overwrite"
    if not check.repeats:
        return None, "the self-check in the folder has not finished a repeat; go on with gsnn selfcheck --resume"
    if check.settings.get("fingerprint") != run.info["data"]["fingerprint"]:
        return None, f"the self-check in the folder is of other data and not used; {again}"
    now = run.config.to_dict()
    wrong = differing_settings(check.settings.get("config", {}), now, seeds=False, names=("was", "in the run it is"))
    if wrong:
        return (
            None,
            f"the self-check in the folder trained with other settings and is not used ({'; '.join(wrong)}); {again}",
        )
    return check, ""


def stale_results(run: Run) -> list[str]:
    """What in the folder of a run is from other data or settings than the run's, in words.

    Args:
        run: The run.

    Returns:
        A sentence for a self-check and for a refinement that the run does not go with.
    """
    found = []
    try:
        found.append(read_check(run)[1])
        if Refinement.json_path(run.path).is_file():
            before = Refinement.read(run.path).settings
            wrong = differing_settings(
                before.get("config", {}), run.config.to_dict(), names=("was", "in the run it is")
            )
            if before.get("fingerprint") != run.info["data"]["fingerprint"]:
                wrong.insert(0, "the data differ")
            if wrong:
                found.append(
                    f"the refinement in the folder does not go with the run ({'; '.join(wrong)}); repeat it with gsnn "
                    "refine --overwrite"
                )
    except RunError as error:
        found.append(str(error))
    return [text for text in found if text]


def calibrate_edges(
    run: Run,
    edges: pd.DataFrame,
    method: str,
    *,
    options: Mapping[str, Any] | None = None,
    missing: float | None = None,
) -> tuple[pd.DataFrame, str]:
    """Edges of a run with the precision to expect, if its folder holds a self-check of how they were scored.

    Args:
        run: The run.
        edges: Table of ``edges.csv``, with the column ``rank``.
        method: Name of the registered method that scored them.
        options: Options it was evaluated with; None: its own. A self-check of other options says nothing of these.
        missing: Share of the complete network that is taken to be missing; None: the share that was hidden.

    Returns:
        The table with the columns expected_precision, precision_low, precision_high and precision_chance, and an empty
        text; or without them, and why the self-check in the folder says nothing of these edges (empty if there is
        none).
    """
    plain = edges.drop(columns=[name for name in PRECISION_COLUMNS if name in edges.columns])
    check, note = read_check(run)
    if check is None:
        return plain, note
    if method not in check.methods:
        checked = ", ".join(check.methods)
        return plain, f"the self-check in the folder did not check the method {method!r} (only {checked})"
    if options is not None and dict(options) != _options(method):
        return plain, f"the self-check in the folder is of the method {method!r} with its own options, not with these"
    return attach_precision(plain, check, method, missing=missing), ""


def calibrate_run(run: Run, missing: float | None = None) -> str:
    """Add the precision to expect to the ``edges.csv`` of a run, or take it away if the self-check says nothing of it.

    Args:
        run: The run.
        missing: As for :func:`calibrate_edges`.

    Returns:
        Why there is none, or an empty text; also without edges.
    """
    with run.lock():
        run.refresh()
        inference = run.info.get("inference")
        if inference is None or not run.edges_path.is_file():
            return ""
        before = run.edges()
        method, options = str(inference.get("method")), inference.get("options")
        after, note = calibrate_edges(run, before, method, options=options, missing=missing)
        if list(after.columns) != list(before.columns) or not after.equals(before):
            run.write_edges(after, inference)
        return note


def _options(method: str) -> dict[str, Any]:
    from gsnn.discovery.methods import INFERERS

    return dict(INFERERS[method].options) if method in INFERERS else {}


def _config(config: TrainConfig, settings: Mapping[str, Any] | None) -> TrainConfig:
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    with _mended():
        return replace(config, **given)


def _exclusive(overwrite: bool, resume: bool) -> None:
    if overwrite and resume:
        raise RunError("overwrite and resume exclude each other; pass one of them")


@contextmanager
def _mended() -> Iterator[None]:
    """A wrong option is the user's to mend, on the command line."""
    try:
        yield
    except GsnnError:
        raise
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from error


@contextmanager
def _locked(run: Run | None) -> Iterator[None]:
    """Keep a second program out of the run folder."""
    if run is None:
        yield
        return
    with run.lock():
        yield
