"""The table of repairs of a run, made from its candidate edges and its audit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gsnn.base.csv_file import write_csv_file
from gsnn.base.errors import DataError
from gsnn.base.progress import now
from gsnn.graph import KINDS
from gsnn.io.truth import read_table
from gsnn.runs.results import read_audit
from gsnn.runs.sample import run_sample

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.runs.folder import Run


def update_repairs(run: Run) -> pd.DataFrame | None:
    """Write ``repairs.csv`` if the run has candidates of all three kinds and an audit; else remove the file.

    Returns:
        The table, or None.

    Raises:
        RunError: If another program is working in the folder, or a file in it cannot be read.
    """
    from gsnn.discovery.repairs import repairs_table

    with run.lock():
        run.refresh()
        audit, _ = read_audit(run)
        kinds = (run.info.get("inference") or {}).get("kinds") or {}
        if audit is None or set(kinds) != set(KINDS) or not run.edges_path.is_file():
            run.repairs_path.unlink(missing_ok=True)
            return None
        now("measuring repairs")
        table = repairs_table(run_sample(run), audit, run.edges())
        write_csv_file(table, run.repairs_path)
    return table


def read_run_repairs(run: Run, path: str | Path | None = None) -> pd.DataFrame:
    """The table of repairs of a run, or that of another file.

    Raises:
        DataError: If there is none or it cannot be read.
    """
    if path is None and not run.repairs_path.is_file():
        raise DataError(
            f"{run.path} has no {run.repairs_path.name}; run gsnn audit {run.path}, then gsnn infer {run.path} "
            "--kinds all"
        )
    return read_table(path or run.repairs_path)
