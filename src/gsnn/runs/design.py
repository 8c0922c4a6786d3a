"""Choose the next experiments for a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.ask.experiments import BATCH, HYPOTHESES, PICTURE, REPLICATES, Design, design, listed_experiments
from gsnn.base.errors import DataError, as_data_error
from gsnn.plot.files import write_picture
from gsnn.runs.members import models_of
from gsnn.runs.results import read_audit
from gsnn.runs.sample import as_many_steps, run_parts, sample_notes

if TYPE_CHECKING:
    from gsnn.ask.experiments import Experiment
    from gsnn.data import PerturbationData
    from gsnn.graph.checks import Edge
    from gsnn.runs.folder import Run

DOUBTS = 4  # how many known edges that an audit calls not needed are in doubt, the least supported first


def design_run(
    run: Run,
    *,
    hypotheses: int = HYPOTHESES,
    batch: int = BATCH,
    replicates: int = REPLICATES,
    experiments: str | Path | None = None,
    epochs: int | None = None,
    seed: int = 0,
    picture: str = PICTURE,
    progress: bool = False,
) -> Design:
    """Rank experiments by how well they would tell the leading hypotheses apart, written into the folder of the run.

    The candidates are those of ``edges.csv``; known edges that an audit in the folder calls not needed are in doubt.

    ``experiments`` is a CSV file with the columns experiment and, if need be, knockout, readout and cost (None: all
    experiments whose parts the data contain). The other arguments are those of :func:`gsnn.ask.design`; for ``run`` and
    ``picture`` see :mod:`gsnn.runs`.

    Returns:
        The design, as ``design.csv`` and ``design.json`` have it.
    """
    edges = run.edges()
    data, split = run_parts(run)
    candidates = edges[~edges["known"].astype(bool) & edges["rank"].notna()].sort_values("rank", kind="stable")
    listed = None if experiments is None else _read(Path(experiments), data)
    models = models_of(run)
    if len(models) == 1:
        models = [run.reading_model()]  # with the weights from which edges are inferred
    with run.lock():
        with as_data_error():
            result = design(
                models,
                data,
                run.standardiser(),
                as_many_steps(run.config, data.drawn),
                candidates,
                doubts=_doubts(run),
                hypotheses=hypotheses,
                batch=batch,
                replicates=replicates,
                experiments=listed,
                train=split.train,
                held_out=split.test,
                epochs=epochs,
                seed=seed,
                progress=progress,
            )
        result.notes.extend(sample_notes(data))
        result.write(run.path, fingerprint=run.info["data"]["fingerprint"], run=run.info["id"])
        if picture:
            write_picture(result.plot, run.path / picture)
    return result


def _doubts(run: Run) -> list[Edge]:
    audit, _ = read_audit(run)
    if audit is None:
        return []
    table: Any = audit.table()
    doubted = table[table["verdict"] == "not needed"].sort_values("carried", kind="stable").head(DOUBTS)
    return [*zip(doubted["source"], doubted["target"], strict=True)]


def _read(path: Path, data: PerturbationData) -> list[Experiment]:
    import pandas as pd

    try:
        text = dict.fromkeys(("experiment", "knockout", "readout"), str)
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"cost": [""]})
    except FileNotFoundError:
        raise DataError(f"there is no list of experiments {path}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"the list of experiments {path} cannot be read: {error}") from error
    return listed_experiments(table, data)
