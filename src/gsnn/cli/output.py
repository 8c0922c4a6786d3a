"""What the commands print: tables on a terminal, plain aligned text in a pipe, notices on stderr."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from gsnn.base.verdict import Verdict
    from gsnn.training.baselines import FitReport

PREDICTORS = ("model", "ridge", "mean")
_READOUTS = 10  # readouts that are listed at each end, where there are more


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
    """Print R2 per readout and pooled, beside the baselines; of many readouts those the model fits best and worst."""
    readouts = fit.readouts
    left_out = len(readouts) - 2 * _READOUTS
    if left_out > 0:
        ordered = readouts.sort_values("model_r2", ascending=False, kind="stable", na_position="last")
        readouts = ordered.iloc[[*range(_READOUTS), *range(-_READOUTS, 0)]]
    rows = [
        [str(row["readout"]), str(row["n"]), *(_r2(row[f"{name}_r2"]) for name in PREDICTORS)]
        for row in readouts.to_dict("records")
    ]
    if left_out > 0:
        between = f"({left_out} between)"
        rows.insert(_READOUTS, [between, *[""] * (1 + len(PREDICTORS))])
    for label, column in (("all, pooled", "pooled_r2"), ("all, averaged", "mean_r2")):
        values = [_r2(float(fit.summary[column][name])) for name in PREDICTORS]
        rows.append([label, str(int(fit.readouts["n"].sum())), *values])
    show_table(f"Fit: R2 on {fit.samples} held-out samples", ["readout", "values", *PREDICTORS], rows)
    if fit.correlation:
        from gsnn.training.verdict import r_meaning

        r = ", ".join(f"{name} {_r2(value)}" for name, value in fit.correlation.items())
        typer.echo(f"r over all held-out values, each in its own units: {r} ({r_meaning(fit.correlation)})")
    if fit.left_out:
        typer.echo(left_out_line(fit.left_out))


def left_out_line(left_out: Mapping[str, float]) -> str:
    """What the baselines reach on conditions they were not fitted on, over all the data."""
    r = ", ".join(f"{name} {_r2(left_out[name])}" for name in ("ridge", "group mean") if name in left_out)
    some = f" of {left_out['of']:.0f} conditions" if "of" in left_out else " folds"
    if "readouts" in left_out:
        some += f", {left_out['readouts']:.0f} of the readouts"
    return f"r to beat, every condition left out once ({left_out['folds']:.0f}{some}): {r}"


def show_verdict(verdict: Verdict, about: str = "") -> None:
    """Print what a result means, in words; on a terminal in red where it is not to be built upon.

    Args:
        verdict: The verdict.
        about: Whose it is, where there are several.
    """
    colours = {"good": typer.colors.GREEN, "unsure": typer.colors.YELLOW, "bad": typer.colors.RED}
    typer.echo(typer.style(f"Verdict{about and f' on {about}'}: {verdict}", fg=colours[verdict.tone], bold=True))


def show_next(text: str, folder: Path) -> None:
    """Print what to do next; nothing if there is nothing to say.

    Args:
        text: As :attr:`gsnn.base.verdict.Verdict.next` has it.
        folder: The run folder that it is about.
    """
    from gsnn.base.verdict import at_run

    if text:
        typer.echo(f"Next: {at_run(text, folder)}")


MODEL_ASKED = "gsnn report RUN, which has a section on this; an answer of a model is a hypothesis until it is measured"


def show_edges(edges: pd.DataFrame, inference: Mapping[str, Any], top: int = 10) -> None:
    """Print the best candidates of each kind; say what q and the aliases are, and what they are not.

    Args:
        edges: Table of ``edges.csv``.
        inference: What stands in ``run.json`` about it.
        top: How many candidates to print of a kind.
    """
    for kind, how in (inference.get("kinds") or {"": inference}).items():
        _show_kind(edges[edges["kind"] == kind] if kind else edges, how, kind, top)
    if inference.get("no_targets"):
        from gsnn.runs.inference.columns import no_targets_note

        typer.echo(no_targets_note(inference["no_targets"]))


def _show_kind(edges: pd.DataFrame, inference: Mapping[str, Any], kind: str, top: int) -> None:
    from gsnn.runs.inference.shortlist import MEMBERS, shortlist

    found = shortlist(edges, top)
    best = found.rows
    if not best:
        between = (
            f": the network has every {kind} edge"
            if kind
            else (": the network has an edge between any two function nodes")
        )
        typer.echo(f"There is no candidate edge{between}.")
        return
    tested = any(row["p"] == row["p"] for row in best)
    signs = {1: "+", -1: "-"}
    columns: dict[str, Callable[[dict[Any, Any]], str]] = {
        "rank": lambda row: str(row["rank"]),
        "source": lambda row: str(row["source"]),
        "target": lambda row: str(row["target"]),
    }
    if "sign" in best[0]:
        columns["sign"] = lambda row: signs.get(int(row["sign"]), "?")
    left = len(columns)
    columns["score"] = lambda row: figure(row["score"])
    if tested:
        columns |= {"p": lambda row: _probability(row["p"]), "q": lambda row: _probability(row["q"])}
    if "worst_rank" in best[0]:
        columns["worst rank"] = lambda row: f"{row['worst_rank']:g}"
    if "expected_precision" in best[0]:
        columns["expected precision"] = lambda row: (
            f"{precision_text(row['expected_precision'], row['precision_low'])} "
            f"({figure(row['precision_low'])}-{figure(row['precision_high'])})"
        )
    folded = "alias_size" in best[0]
    if folded:
        columns["look-alikes"] = lambda row: _members(row, MEMBERS)
    title = (
        f"Candidate {kind}{' ' * bool(kind)}edges, each a hypothesis: the best {len(best)} of {inference['candidates']}"
    )
    if folded:
        title += ", look-alikes in one row"
    if tested:
        title += " (p and q test association, not an edge)"
    show_table(title, list(columns), [[cell(row) for cell in columns.values()] for row in best], left=left)
    if tested:
        from gsnn.runs.inference.columns import Q_MEANS

        typer.echo(f"q: {Q_MEANS}")
    if inference.get("members"):
        from gsnn.runs.inference.columns import members_note

        typer.echo(members_note(inference["members"]) + "; worst rank: the last place that a member gives")
    if inference.get("structure"):
        from gsnn.runs.inference.columns import structure_note

        typer.echo(f"note: {structure_note(inference['structure'])}")
    for note in found.notes:
        typer.echo(f"note: {note}")
    aliases = inference["aliases"]
    if aliases is not None and aliases["share_aliased"] is not None:
        typer.echo(
            f"look-alikes: other candidates that the data cannot tell from this one (by {aliases['by']}), so that a "
            f"row is one hypothesis; {percent(aliases['share_aliased'])} of all candidates have some, in "
            f"{aliases['groups']} groups"
        )
    if "expected_precision" in best[0]:
        text = "expected precision: share of edges to expect from the first rank to this one, and its 95 % interval"
        if "precision_chance" in best[0]:
            text += f"; guessing gives {figure(best[0]['precision_chance'])}"
        if any(math.isnan(row["expected_precision"]) and not math.isnan(row["precision_low"]) for row in best):
            text += "; not estimable where the interval is wider than 0.5: too few edges could be hidden"
        typer.echo(text)


def _members(row: Mapping[str, Any], most: int) -> str:
    """The look-alikes of a candidate, the first by name."""
    pairs = [f"{source}:{target}" for source, target in row["look_alikes"]]
    # A table that was cut does not hold them all.
    n = max(len(pairs), int(row["alias_size"]) - 1)
    shown = ", ".join(pairs[:most])
    if n > len(pairs[:most]):
        shown += f" and {n - len(pairs[:most])} more" if shown else f"{n}"
    return shown or "none"


def show_repairs(path: Path, top: int = 10) -> None:
    """Print the best repairs of a run, if it has a table of them.

    Args:
        path: The table.
        top: How many to print of each action.
    """
    if not path.is_file():
        return
    from gsnn.io.truth import read_table

    table, signs = read_table(path), {1: "+", -1: "-"}
    rows = [
        [
            *(str(row[name]) for name in ("action", "kind", "source", "target")),
            signs.get(int(row["sign"]), "?"),
            *(figure(row[name]) for name in ("gain", "gain_low", "gain_high")),
        ]
        for _, part in table.groupby("action", sort=False)
        for row in part.head(top).to_dict("records")
    ]
    typer.echo("")
    header = ["action", "kind", "source", "target", "sign", "gain", "from", "to"]
    show_table(f"Repairs: the best of {len(table)}, gains as shares of the held-out loss", header, rows, left=5)
    typer.echo(f"Repairs: {path}; to test them: gsnn refine {shlex.quote(str(path.parent))} --repairs")


def precision_text(expected: float, low: float) -> str:
    """An expected precision; in words where there is an interval, but it is too wide for one to be told.

    Example:
        >>> precision_text(0.25, 0.1), precision_text(math.nan, 0.0), precision_text(math.nan, math.nan)
        ('0.250', 'not estimable', '-')
    """
    return "not estimable" if math.isnan(expected) and not math.isnan(low) else figure(expected)


def print_json(value: Any) -> None:  # noqa: ANN401 - what JSON can hold
    """Print one JSON object; what is undefined is null."""
    import json

    from gsnn.base.files import plain

    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


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


def percent(share: float) -> str:
    """A share as a percentage that is 0 or 100 only if it is exactly that."""
    shown = f"{share:.0%}"
    return {"0%": "less than 1%", "100%": "more than 99%"}.get(shown, shown) if 0 < share < 1 else shown


def _r2(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:z.3f}"


def figure(value: Any) -> str:  # noqa: ANN401 - a cell of a table
    """A number with three places, a small one as a power of ten."""
    if value is None or value != value:
        return "-"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:z.3f}"


def _probability(value: Any) -> str:  # noqa: ANN401 - a cell of a table
    return "<1e-300" if value == 0 else figure(value)  # no test gives 0; the number is too small for a float
