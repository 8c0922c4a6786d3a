"""The run folder, and every command as a function that returns what it made and prints nothing.

What several of them take:

- ``run``: the run, which they write into. A self-check, a refinement and an audit do not need its training to be
  complete.
- ``settings``: fields of :class:`gsnn.training.TrainConfig` to replace in those of the run; None values are left out.
- ``overwrite`` and ``resume``: replace what the folder holds, or continue it. Without either such a folder is refused.
- ``picture``: name of a picture in the folder of the run, which tells its format (``.png``, ``.svg``, ``.pdf``); empty
  for none.
- ``progress``: show progress on stderr.
- ``options``: further arguments of the function of :mod:`gsnn.discovery` that does the work.

They raise :class:`gsnn.DataError` where an option or a file is wrong, :class:`gsnn.RunError` where the folder or the
run does not allow it, and :class:`gsnn.MissingExtraError` where a picture is asked for and matplotlib is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsnn.base.lazy import lazy_names
from gsnn.runs.folder import Run
from gsnn.runs.sources import Sources

if TYPE_CHECKING:
    from gsnn.runs.audit import audit_run
    from gsnn.runs.check import Checkup, check_up
    from gsnn.runs.compare import compare_runs
    from gsnn.runs.design import design_run
    from gsnn.runs.evaluate import evaluate_files
    from gsnn.runs.explain import explain_run, explain_worst
    from gsnn.runs.infer import infer_run
    from gsnn.runs.inference.job import Job
    from gsnn.runs.knockout import knockout_run
    from gsnn.runs.members import models_of
    from gsnn.runs.predict import predict_run
    from gsnn.runs.refine import refine_run
    from gsnn.runs.selfcheck import self_check_files, self_check_run
    from gsnn.runs.simulate import simulate_files
    from gsnn.runs.train import train_demo, train_files
    from gsnn.runs.training import train_run

_LAZY = {
    "Checkup": "check",
    "Job": "inference.job",
    "audit_run": "audit",
    "check_up": "check",
    "compare_runs": "compare",
    "design_run": "design",
    "evaluate_files": "evaluate",
    "explain_run": "explain",
    "explain_worst": "explain",
    "infer_run": "infer",
    "predict_run": "predict",
    "knockout_run": "knockout",
    "models_of": "members",
    "refine_run": "refine",
    "self_check_files": "selfcheck",
    "self_check_run": "selfcheck",
    "simulate_files": "simulate",
    "train_demo": "train",
    "train_files": "train",
    "train_run": "training",
}

__all__ = [
    "Checkup",
    "Job",
    "Run",
    "Sources",
    "audit_run",
    "check_up",
    "compare_runs",
    "design_run",
    "evaluate_files",
    "explain_run",
    "explain_worst",
    "infer_run",
    "knockout_run",
    "models_of",
    "predict_run",
    "refine_run",
    "self_check_files",
    "self_check_run",
    "simulate_files",
    "train_demo",
    "train_files",
    "train_run",
]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
