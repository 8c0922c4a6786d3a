"""What the commands print: tables on a terminal, plain aligned text in a pipe, notices on stderr."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.baselines import FitReport

PREDICTORS = ("model", "ridge", "mean")


def show_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> None:
    """Print a table on stdout; names are never cut, and nothing in them is taken for markup.

    Args:
        title: Line above the table.
        header: Names of the columns.
        rows: Cells as text.
        left: How many of the first columns are aligned to the left; the others are numbers.
    """
    rows = [list(row) for row in rows]
    typer.echo(title)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for i, name in enumerate(header):
            table.add_column(Text(name), justify="left" if i < left else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    widths = [max(len(row[i]) for row in [list(header), *rows]) for i in range(len(header))]
    for row in [list(header), *rows]:
        cells = (c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        typer.echo("  ".join(cells).rstrip())


def show_fit(fit: FitReport) -> None:
    """Print R2 per readout and pooled, beside the baselines."""
    rows = [
        [str(row["readout"]), str(row["n"]), *(_r2(row[f"{name}_r2"]) for name in PREDICTORS)]
        for row in fit.readouts.to_dict("records")
    ]
    for label, column in (("all, pooled", "pooled_r2"), ("all, averaged", "mean_r2")):
        values = [_r2(float(fit.summary[column][name])) for name in PREDICTORS]
        rows.append([label, str(int(fit.readouts["n"].sum())), *values])
    show_table(f"Fit: R2 on {fit.samples} held-out samples", ["readout", "values", *PREDICTORS], rows)


def show_edges(edges: pd.DataFrame, top: int = 10) -> None:
    """Print the best candidates; say what p and q are not."""
    candidates = edges[~edges["known"]]
    rows = [
        [
            str(row["rank"]),
            str(row["source"]),
            str(row["target"]),
            _figure(row["score"]),
            _probability(row["p"]),
            _probability(row["q"]),
        ]
        for row in candidates.head(top).to_dict("records")
    ]
    if not rows:
        typer.echo("There is no candidate edge: the network has an edge between any two function nodes.")
        return
    title = f"Candidate edges: the best {len(rows)} of {len(candidates)} (p and q test association, not an edge)"
    show_table(title, ["rank", "source", "target", "score", "p", "q"], rows, left=3)


def show_warnings(warnings: Iterable[str], *, quiet: bool = False) -> None:
    """List warnings on stderr, one a line."""
    if not quiet:
        for warning in warnings:
            typer.echo("warning: " + " ".join(warning.splitlines()), err=True)


@contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Turn Ctrl-C into exit code 130 and one line that says what to do next."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {hint}", err=True)
        raise typer.Exit(130) from None


def _r2(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:z.3f}"


def _figure(value: Any) -> str:  # noqa: ANN401 - a cell of a table
    if value is None or value != value:
        return "-"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:z.3f}"


def _probability(value: Any) -> str:  # noqa: ANN401 - a cell of a table
    return "<1e-300" if value == 0 else _figure(value)  # no test gives 0; the number is too small for a float
