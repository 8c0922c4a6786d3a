"""Audit the known edges of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import as_data_error
from gsnn.discovery.auditing.result import Audit
from gsnn.runs.repairs import update_repairs
from gsnn.runs.sample import as_many_steps, run_sample, sample_notes
from gsnn.runs.settings import changed_config, refuse_both

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

    The removal of edges compares a model of the whole graph with one without them. The model of the run is taken for
    the first if its training is complete and no setting is replaced. Of samples that stay in their files 2,000 are
    drawn; the run's model has seen more of them, so both models are trained. For the arguments see :mod:`gsnn.runs` and
    :func:`gsnn.discovery.audit`.
    """
    from gsnn.discovery.auditing import audit

    refuse_both(overwrite, resume)
    data, config = run_sample(run), changed_config(run.config, settings)
    same = run.complete and config == run.config and not sample_notes(data)
    config, model = as_many_steps(config, data.drawn, settings), run.model() if same else None
    options = {"folder": run.path, "resume": resume, "overwrite": overwrite, "model": model, **options}
    with as_data_error(), run.lock():
        result = audit(data, config, **options)
        if run.complete:
            update_repairs(run)
    return result
