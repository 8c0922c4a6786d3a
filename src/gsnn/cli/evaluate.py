"""``gsnn evaluate``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Kinds, Quiet
from gsnn.cli.output import cell, interruptible, print_json, show_next, show_notes, show_table, show_verdict

if TYPE_CHECKING:
    from gsnn.discovery import Evaluation


def evaluate(
    edges: Annotated[
        Path, typer.Argument(help="Table with the columns source, target and score; or a run folder.", metavar="EDGES")
    ],
    truth: Annotated[Path, typer.Option(help="True edges: SIF, or a CSV/TSV table.")],
    graph: Annotated[
        Path | None, typer.Option(help="Prior network, whose edges are no candidates; a run knows its own.")
    ] = None,
    roles: Annotated[
        Path | None, typer.Option(help="Table with the columns source, target and role, for figures by role.")
    ] = None,
    score: Annotated[str | None, typer.Option(help="Column of scores.", show_default="score or corr")] = None,
    k: Annotated[
        list[int] | None,
        typer.Option("-k", help="Places for precision and recall; may be repeated.", show_default="edges to find"),
    ] = None,
    kinds: Kinds = None,
    alias_by: Annotated[str, typer.Option(help="Alias groups by reach or hops (for a run).")] = "reach",
    seed: Annotated[int, typer.Option(help="Fixes the random baseline.")] = 0,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure scored edges against a truth: every metric, by role, beside baselines that know the network alone.

    Example: gsnn evaluate runs/first --truth truth.csv -k 10 -k 50
    """
    with interruptible("nothing was written"), stage("evaluating", show=not quiet):
        from gsnn.graph import resolve_kinds
        from gsnn.runs.evaluate import evaluate_files

        options: dict[str, Any] = {"graph": graph, "roles": roles, "score": score, "k": k or None, "seed": seed}
        evaluations = {
            kind: evaluate_files(edges, truth, kind=kind, alias_by=alias_by, **options)
            for kind in resolve_kinds(kinds or "function")
        }
    if as_json:
        content = {kind: evaluation.to_dict() for kind, evaluation in evaluations.items()}
        print_json({"kinds": content} if len(content) > 1 else next(iter(content.values())))
    elif not quiet:
        for kind, evaluation in evaluations.items():
            if len(evaluations) > 1:
                typer.echo(f"\n{kind} edges")
            _show(evaluation)
            if evaluation.verdict is not None:
                show_verdict(evaluation.verdict, "the table")
                show_next(evaluation.verdict.next, edges)


def _show(evaluation: Evaluation) -> None:
    counts = evaluation.counts
    typer.echo(
        f"{counts['n_truth']} true edges: {counts['n_positives']} to find; {counts['n_known']} known already, "
        f"{counts['n_self']} self-edges and {counts['n_outside']} with unknown nodes left out"
    )
    methods = list(dict.fromkeys(evaluation.metrics["method"]))
    for role in dict.fromkeys(evaluation.metrics["role"]):
        part = evaluation.metrics[evaluation.metrics["role"] == role]
        values = {(row.method, row.metric): row for row in part.itertuples()}
        rows = []
        for metric in dict.fromkeys(part["metric"]):
            known = [values.get((method, metric)) for method in methods]
            chance = next((row.chance for row in known if row is not None), math.nan)
            figures = [*(math.nan if row is None else row.value for row in known), chance]
            form = ".0f" if metric.startswith(("n_", "group_n_")) else ".3f"
            rows.append([metric, *(cell(value, form) for value in figures)])
        title = f"Role: {role}" if role != "all" else "All true edges"
        show_table(f"\n{title}", ["metric", *methods, "chance"], rows)
    show_notes(evaluation.notes)
