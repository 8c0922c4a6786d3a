"""Measure edges against a truth, from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gsnn.base.errors import DataError, as_data_error
from gsnn.discovery.evaluate import Evaluation, evaluate_table
from gsnn.graph.kinds import FUNCTION_EDGES
from gsnn.io.truth import read_roles, read_table, read_truth
from gsnn.runs.sample import run_parts, sample_notes


def evaluate_files(
    edges: str | Path,
    truth: str | Path,
    *,
    graph: str | Path | None = None,
    roles: str | Path | None = None,
    score: str | None = None,
    k: Sequence[int] | None = None,
    alias_by: str = "reach",
    kind: str = FUNCTION_EDGES,
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
        kind: The kind of the edges; any but those between functions needs a run.
        seed: Fixes the random baseline.

    Raises:
        DataError: If a file is wrong or nothing is left to find.
        RunError: If the run cannot be read.
    """
    from gsnn.runs.folder import Run

    options: dict[str, Any] = {"score_col": score, "k": k, "alias_by": alias_by, "kind": kind, "seed": seed}
    true = read_truth(truth)
    labels = None if roles is None else read_roles(roles)
    with as_data_error():
        if not Run.exists(edges):
            known = None if graph is None else read_truth(graph)
            return evaluate_table(read_table(edges), true, known, labels, **options)
        if graph is not None:
            raise DataError(f"{edges} is a run, which knows its graph; leave out graph")
        run = Run.open(edges)
        table, (data, split) = run.edges(), run_parts(run)
        options["max_hops"] = run.config.layers
        if run.complete:
            from gsnn.training import predict

            x, y = data.x[split.train], run.standardiser().transform(data.y[split.train])
            options |= {"x": x, "y": y, "residual": y - predict(run.model(), x)}
        result = evaluate_table(table, true, None, labels, graph=data.graph, **options)
        result.notes.extend(f"residual correlation: {note}" for note in sample_notes(data))
        return result
