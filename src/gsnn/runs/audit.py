"""Audit the known edges of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import as_data_error
from gsnn.discovery.auditing.result import Audit
from gsnn.runs.repairs import update_repairs
from gsnn.runs.sample import as_many_steps, run_sample
from gsnn.runs.settings import changed_config, locked, refuse_both

if TYPE_CHECKING:
    from gsnn.runs.folder import Run


def audit_run(
    run: Run,
    *,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    **options: Any,  # noqa: ANN401 - of audit
) -> Audit:
    """Audit the known edges of a run, written into its folder; the run itself stays as it is.

    Where the run has candidates of all kinds, ``repairs.csv`` is written too.

    If its training is complete and its settings are not replaced, its model stands for the whole graph where edges are
    removed. Of samples that stay in their files 2,000 are drawn; the run's model has seen more of them, so that both
    models are trained anew. For the arguments see :mod:`gsnn.runs` and :func:`gsnn.discovery.audit`.
    """
    from gsnn.discovery.auditing import audit

    refuse_both(overwrite, resume)
    data, config = run_sample(run), changed_config(run.config, settings)
    partial = data.drawn is not None and data.drawn.partial
    if (settings or {}).get("epochs") is None:
        config = as_many_steps(config, data.drawn)
    whole = run.model() if run.complete and config == run.config and not partial else None
    given = {"folder": run.path, "resume": resume, "overwrite": overwrite, "model": whole, **options}
    with as_data_error(), locked(run):
        found = audit(data, config, **given)
        if run.complete:
            update_repairs(run)
    return found
