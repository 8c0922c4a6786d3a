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
        found = compare_runs([Run.open(run) for run in runs])
        if out is not None:
            with atomic_path(out) as temporary:
                found.edges.to_csv(temporary, index=False, lineterminator="\n")
    if as_json:
        print_json(
            {
                "runs": found.names,
                "verdict": found.verdict.to_dict(),
                "pairs": found.pairs.to_dict("records"),
                "fits": found.fits.to_dict("records"),
                "edges": found.edges.head(top).to_dict("records"),
            }
        )
    elif not quiet:
        _show(found, top)
        if out is not None:
            typer.echo(f"Candidates: {out}")
        show_verdict(found.verdict)
        typer.echo(f"Next: {found.verdict.next}")


def _show(found: Comparison, top: int) -> None:
    rows, counts = [], found.tops
    for row in found.pairs.to_dict("records"):
        overlaps = [(row[f"overlap_{k}"], row[f"chance_{k}"]) for k in counts]
        shared = [f"{n:.0f} ({chance:.1f})" if n == n else "-" for n, chance in overlaps]
        names = [str(row[name]) for name in ("kind", "first", "second", "candidates")]
        rows.append([*names, figure(row["spearman"]), *shared])
    header = ["kind", "run", "and run", "candidates", "Spearman", *(f"same of top {k}" for k in counts)]
    show_table("Rankings of the candidates that both have (in brackets: same by chance)", header, rows, left=3)
    fits = found.fits.to_dict("records")
    rows = [[str(row["run"]), *(figure(row.get(name)) for name in PREDICTORS)] for row in fits]
    show_table("Fit: r over all held-out values", ["run", *PREDICTORS], rows)
    best = found.edges.head(top)
    cells = [[str(row[name]) for name in ("source", "target", "kind", *found.names)] for row in best.to_dict("records")]
    title = f"Candidates high in all: the best {len(best)} of {len(found.edges)} by their worst rank"
    show_table(title, ["source", "target", "kind", *(f"rank in {name}" for name in found.names)], cells, left=3)
