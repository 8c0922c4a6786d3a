"""``gsnn evaluate``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Quiet
from gsnn.cli.output import interruptible, print_json, show_next, show_table, show_verdict

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
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            help="Kinds of edges, each measured by itself: input, function, output, or all (of a run).",
            show_default="function",
        ),
    ] = None,
    alias_by: Annotated[str, typer.Option(help="Alias groups by reach or hops (for a run).")] = "reach",
    seed: Annotated[int, typer.Option(help="Of the random baseline.")] = 0,
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

        options = {"graph": graph, "roles": roles, "score": score, "k": k or None, "alias_by": alias_by, "seed": seed}
        every = {
            kind: evaluate_files(edges, truth, kind=kind, **options)  # type: ignore[arg-type]
            for kind in resolve_kinds(kinds or "function")
        }
    if as_json:
        told = {kind: found.to_dict() for kind, found in every.items()}
        print_json({"kinds": told} if len(told) > 1 else next(iter(told.values())))
    elif not quiet:
        for kind, found in every.items():
            if len(every) > 1:
                typer.echo(f"\n{kind} edges")
            _show(found)
            if found.verdict is not None:
                show_verdict(found.verdict, "the table")
                show_next(found.verdict.next, edges)


def _show(found: Evaluation) -> None:
    counts = found.counts
    typer.echo(
        f"{counts['n_truth']} true edges: {counts['n_positives']} to find; {counts['n_known']} known already, "
        f"{counts['n_self']} self-edges and {counts['n_outside']} with unknown nodes left out"
    )
    methods = list(dict.fromkeys(found.metrics["method"]))
    for role in dict.fromkeys(found.metrics["role"]):
        part = found.metrics[found.metrics["role"] == role]
        values = {(row.method, row.metric): row for row in part.itertuples()}
        rows = []
        for metric in dict.fromkeys(part["metric"]):
            cells = [values.get((method, metric)) for method in methods]
            chance = next((cell.chance for cell in cells if cell is not None), math.nan)
            show = _count if metric.startswith(("n_", "group_n_")) else _cell
            rows.append([metric, *(show(math.nan if c is None else c.value) for c in cells), show(chance)])
        typer.echo("")
        show_table(f"Role: {role}" if role != "all" else "All true edges", ["metric", *methods, "chance"], rows)
    for note in found.notes:
        typer.echo(f"note: {note}")


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _count(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"
