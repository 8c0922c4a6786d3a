"""``gsnn compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Quiet
from gsnn.cli.output import PREDICTORS, figure, interruptible, print_json, show_table, show_verdict

if TYPE_CHECKING:
    from gsnn.ask import Comparison


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, each after gsnn infer.", metavar="RUN RUN...")],
    top: Annotated[int, typer.Option(help="Candidates to print of those that are high in all.")] = 10,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="CSV file for the candidates of all runs.")] = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Tell what runs agree on: their rankings, the candidates high in all of them, and how well each run fits.

    Example: gsnn compare runs/first runs/second
    """
    with interruptible("nothing was written"), stage("reading the runs", show=not quiet):
        from gsnn.base.errors import DataError
        from gsnn.base.files import atomic_path
        from gsnn.runs import Run
        from gsnn.runs.compare import compare_runs

        if top < 1:
            raise DataError(f"top must be at least 1, got {top}")
        comparison = compare_runs([Run.open(run) for run in runs])
        if out is not None:
            with atomic_path(out) as temporary:
                comparison.edges.to_csv(temporary, index=False, lineterminator="\n")
    if as_json:
        print_json(
            {
                "runs": comparison.names,
                "verdict": comparison.verdict.to_dict(),
                "pairs": comparison.pairs.to_dict("records"),
                "fits": comparison.fits.to_dict("records"),
                "edges": comparison.edges.head(top).to_dict("records"),
            }
        )
    elif not quiet:
        _show(comparison, top)
        if out is not None:
            typer.echo(f"Candidates: {out}")
        show_verdict(comparison.verdict)
        typer.echo(f"Next: {comparison.verdict.next}")


def _show(comparison: Comparison, top: int) -> None:
    rows, counts = [], comparison.tops
    for row in comparison.pairs.to_dict("records"):
        overlaps = [(row[f"overlap_{k}"], row[f"chance_{k}"]) for k in counts]
        shared = [f"{n:.0f} ({chance:.1f})" if n == n else "-" for n, chance in overlaps]
        names = [str(row[name]) for name in ("kind", "first", "second", "candidates")]
        rows.append([*names, figure(row["spearman"]), *shared])
    header = ["kind", "run", "and run", "candidates", "Spearman", *(f"same of top {k}" for k in counts)]
    show_table("Rankings of the candidates that both have (in brackets: same by chance)", header, rows, left=3)
    fits = comparison.fits.to_dict("records")
    rows = [[str(row["run"]), *(figure(row.get(name)) for name in PREDICTORS)] for row in fits]
    show_table("Fit: r over all held-out values", ["run", *PREDICTORS], rows)
    best, ends = comparison.edges.head(top), ["source", "target", "kind"]
    cells = [[str(row[name]) for name in [*ends, *comparison.names]] for row in best.to_dict("records")]
    title = f"Candidates high in all: the best {len(best)} of {len(comparison.edges)} by their worst rank"
    show_table(title, [*ends, *(f"rank in {name}" for name in comparison.names)], cells, left=3)
