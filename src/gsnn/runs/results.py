"""How the results in a run folder bear on one another: which still hold, which precision to expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import RunError
from gsnn.discovery.auditing.result import Audit
from gsnn.discovery.refinement.result import Refinement
from gsnn.discovery.result_file import StoredResult, differing_settings
from gsnn.discovery.selfcheck.attach import attach_precision
from gsnn.discovery.selfcheck.result import PRECISION_COLUMNS, SelfCheck, variant_of
from gsnn.discovery.verdicts import check_next, infer_next
from gsnn.graph.kinds import FUNCTION_EDGES, KINDS

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.base.verdict import Verdict
    from gsnn.runs.folder import Run


def model_verdict(run: Run) -> Verdict:
    """What the fit of a run means, as ``gsnn train`` said it; in its advice ``RUN`` stands for the folder.

    Raises:
        RunError: If training is not complete, or a file cannot be read.
    """
    from gsnn.training.verdict import fit_verdict

    stopped = bool(run.info.get("training", {}).get("stopped_early"))
    return fit_verdict(run.fit_report(), run.metrics(), stopped_early=stopped)


def read_check(run: Run, kind: str = FUNCTION_EDGES) -> tuple[SelfCheck | None, str]:
    """The self-check of a kind of edges in the folder of a run, if it is of the data and settings of the run.

    Returns:
        The self-check, and an empty text; or None, and why the one in the folder is not used (empty if there is none).

    Raises:
        RunError: If its file cannot be read.
    """
    if not SelfCheck.json_path(run.path, variant_of(kind)).is_file():
        return None, ""
    check = SelfCheck.read(run.path, variant_of(kind))
    again = "repeat it with gsnn selfcheck --overwrite"
    if not check.repeats:
        return None, "the self-check in the folder has not finished a repeat; go on with gsnn selfcheck --resume"
    if not _same_data(run, check):
        return None, f"the self-check in the folder is of other data and not used; {again}"
    wrong = "; ".join(_other_settings(run, check, seeds=False))
    if wrong:
        return None, f"the self-check in the folder trained with other settings and is not used ({wrong}); {again}"
    return check, ""


def _same_data(run: Run, result: StoredResult) -> bool:
    """Whether a result is of the data of the run."""
    return bool(result.settings.get("fingerprint") == run.info["data"]["fingerprint"])


def _other_settings(run: Run, result: StoredResult, *, seeds: bool = True) -> list[str]:
    """The settings of the training of a result that are not those of the run, in words."""
    settings = run.config.to_dict()
    if result.drawn is not None:
        settings.pop("epochs")  # fewer samples take more epochs
    names = ("was", "in the run it is")
    return differing_settings(result.settings.get("config", {}), settings, seeds=seeds, names=names)


def after_check(run: Run) -> str:
    """What to do after the self-checks in the folder of a run, of all kinds; empty if none is valid.

    Returns:
        A command or words; ``RUN`` stands for the folder.

    Raises:
        RunError: If a file cannot be read.
    """
    from gsnn.discovery.methods import DEFAULT_METHOD

    checks = {kind: read_check(run, kind)[0] for kind in KINDS}
    verdicts = {kind: check.verdicts() for kind, check in checks.items() if check is not None}
    inferred = str(run.info.get("inference", {}).get("method", ""))
    return check_next(verdicts, DEFAULT_METHOD, inferred=inferred) if verdicts else ""


def after_infer(run: Run) -> tuple[Verdict | None, str]:
    """The verdict of a self-check on the method that ranked the function edges of a run, and what to do next.

    Returns:
        The verdict, None without a self-check of the method; and a command or words, in which ``RUN`` stands for the
        folder.

    Raises:
        RunError: If a file cannot be read.
    """
    check, _ = read_check(run)
    verdict = None if check is None else check.verdicts().get(str(run.info["inference"]["method"]))
    return verdict, infer_next(verdict)


def failed_rankings(run: Run, methods: Sequence[str]) -> list[str]:
    """A warning for each of some methods whose ranking of function edges failed in the self-check of a run, if any.

    Raises:
        RunError: If a file cannot be read.
    """
    check, _ = read_check(run)
    verdicts = {} if check is None else check.verdicts()
    return [
        f"the self-check calls the ranking of {name} {verdicts[name].short}: what stays may fit better "
        "and be no discovery"
        for name in methods
        if name in verdicts and verdicts[name].tone == "bad"
    ]


def read_audit(run: Run) -> tuple[Audit | None, str]:
    """The audit in the folder of a run, if it is of its data.

    Returns:
        The audit, and an empty text; or None, and why the one in the folder is not used (empty if there is none).

    Raises:
        RunError: If its file cannot be read.
    """
    if not Audit.json_path(run.path).is_file():
        return None, ""
    audit = Audit.read(run.path)
    if not audit.edges:
        return None, "the audit in the folder is not finished; go on with gsnn audit --resume"
    if not _same_data(run, audit):
        return None, "the audit in the folder is of other data and not used; repeat it with gsnn audit --overwrite"
    return audit, ""


def read_refinement(run: Run) -> Refinement | None:
    """The refinement in the folder of a run; None if there is none, without a finished round, or of other data.

    Raises:
        RunError: If its file cannot be read.
    """
    if not Refinement.json_path(run.path).is_file():
        return None
    refinement = Refinement.read(run.path)
    return refinement if _same_data(run, refinement) and any(refinement.arms.values()) else None


def stale_results(run: Run) -> list[str]:
    """A sentence for each self-check, audit and refinement in the folder of a run that is of other data or settings."""
    notes: list[str] = []
    try:
        notes += dict.fromkeys(read_check(run, kind)[1] for kind in KINDS)
        notes.append(read_audit(run)[1])
        if Refinement.json_path(run.path).is_file():
            refinement = Refinement.read(run.path)
            wrong = [] if _same_data(run, refinement) else ["the data differ"]
            wrong += _other_settings(run, refinement)
            if wrong:
                notes.append(
                    f"the refinement in the folder does not go with the run ({'; '.join(wrong)}); repeat it with gsnn "
                    "refine --overwrite"
                )
    except RunError as error:
        notes.append(str(error))
    return [note for note in notes if note]


def calibrate_edges(
    run: Run,
    edges: pd.DataFrame,
    method: str,
    *,
    kind: str = FUNCTION_EDGES,
    options: Mapping[str, Any] | None = None,
    missing: float | None = None,
) -> tuple[pd.DataFrame, str]:
    """Edges of a run with the precision to expect, if its folder holds a self-check of how they were scored.

    Args:
        run: The run.
        edges: Table of ``edges.csv``, with the column ``rank``, edges of one kind.
        method: Name of the registered method that scored them.
        kind: Their kind.
        options: Options it was evaluated with; None: its own. A self-check applies only to its own options.
        missing: Share of the complete network that is taken to be missing; None: the share that was hidden.

    Returns:
        The table with the columns expected_precision, precision_low, precision_high, precision_chance and stated_fdr,
        and an empty text; or without them, and why the self-check in the folder does not apply to these edges (empty
        if there is none).
    """
    plain = edges.drop(columns=[name for name in PRECISION_COLUMNS if name in edges.columns])
    check, note = read_check(run, kind)
    if check is None:
        return plain, note
    if method not in check.methods:
        checked = ", ".join(check.methods)
        return plain, f"the self-check in the folder did not check the method {method!r} (only {checked})"
    if check.drawn is not None:
        return plain, f"the self-check in the folder used {check.drawn}, so that its precision is not of these edges"
    if options is not None and dict(options) != _options(method, kind):
        return plain, f"the self-check in the folder is of the method {method!r} with its own options, not with these"
    return attach_precision(plain, check, method, missing=missing), ""


def calibrate_run(run: Run, missing: float | None = None) -> str:
    """Add the precision to expect to the ``edges.csv`` of a run, or remove it if the self-check does not apply.

    Returns:
        Why there is none; empty if there is one, and without edges.
    """
    import pandas as pd

    with run.lock():
        run.refresh()
        inference = run.info.get("inference")
        if inference is None or not run.edges_path.is_file():
            return ""
        before = run.edges()
        parts, notes = [], []
        kinds = inference.get("kinds") or {FUNCTION_EDGES: inference}
        of_kind = before.get("kind", pd.Series(FUNCTION_EDGES, before.index))
        for kind, facts in kinds.items():
            part, note = calibrate_edges(
                run,
                before[of_kind == kind],
                str(facts.get("method")),
                kind=kind,
                options=facts.get("options"),
                missing=missing,
            )
            parts.append(part)
            notes.append(note)
        after = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
        note = "; ".join(dict.fromkeys(filter(None, notes)))
        if list(after.columns) != list(before.columns) or not after.equals(before):
            run.write_edges(after, inference)
        return note


def _options(method: str, kind: str) -> dict[str, Any]:
    from gsnn.discovery.methods import METHODS

    way = METHODS[method].of(kind) if method in METHODS else None
    return {} if way is None else dict(way.options)
