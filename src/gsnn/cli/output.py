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
    from gsnn.runs import Run
    from gsnn.training.baselines import FitReport

PREDICTORS = ("model", "ridge", "mean")
SIGNS = {1: "+", -1: "-", 0: "?"}
_LISTED = 10  # how many candidates of a kind, repairs of an action, and best and worst readouts are printed


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
    lines = [list(header), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        typer.echo("  ".join(cells).rstrip())


def show_fit(fit: FitReport) -> None:
    """Print R2 per readout and pooled, beside the baselines; of many readouts only those fitted best and worst."""
    readouts = fit.readouts
    between = len(readouts) - 2 * _LISTED
    if between > 0:
        ordered = readouts.sort_values("model_r2", ascending=False, kind="stable", na_position="last")
        readouts = ordered.iloc[[*range(_LISTED), *range(-_LISTED, 0)]]
    rows = [
        [str(row["readout"]), str(row["n"]), *(cell(row[f"{name}_r2"]) for name in PREDICTORS)]
        for row in readouts.to_dict("records")
    ]
    if between > 0:
        rows.insert(_LISTED, [f"({between} between)", *[""] * (1 + len(PREDICTORS))])
    for label, column in (("all, pooled", "pooled_r2"), ("all, averaged", "mean_r2")):
        values = [cell(float(fit.summary[column][name])) for name in PREDICTORS]
        rows.append([label, str(int(fit.readouts["n"].sum())), *values])
    show_table(f"Fit: R2 on {fit.samples} held-out samples", ["readout", "values", *PREDICTORS], rows)
    if fit.correlation:
        from gsnn.training.verdict import r_meaning

        r = ", ".join(f"{name} {cell(value)}" for name, value in fit.correlation.items())
        typer.echo(f"r over all held-out values, each in its own units: {r} ({r_meaning(fit.correlation)})")
    if fit.left_out:
        typer.echo(left_out_line(fit.left_out))


def left_out_line(left_out: Mapping[str, float]) -> str:
    """The correlation of the baselines on conditions they were not fitted on, over all the data, as a line."""
    r = ", ".join(f"{name} {cell(left_out[name])}" for name in ("ridge", "group mean") if name in left_out)
    some = f" of {left_out['of']:.0f} conditions" if "of" in left_out else " folds"
    if "readouts" in left_out:
        some += f", {left_out['readouts']:.0f} of the readouts"
    return f"r to beat, every condition left out once ({left_out['folds']:.0f}{some}): {r}"


def show_verdict(verdict: Verdict, about: str = "") -> None:
    """Print what a result means, on a terminal in the colour of its tone; ``about`` names what it judges."""
    colours = {"good": typer.colors.GREEN, "unsure": typer.colors.YELLOW, "bad": typer.colors.RED}
    typer.echo(typer.style(f"Verdict{about and f' on {about}'}: {verdict}", fg=colours[verdict.tone], bold=True))


def show_next(text: str, folder: Path) -> None:
    """Print what to do next, a text in which ``RUN`` stands for the run folder; nothing if it is empty."""
    from gsnn.base.verdict import at_run

    if text:
        typer.echo(f"Next: {at_run(text, folder)}")


_ASKED = "gsnn report RUN, which has a section on this; an answer of a model is a hypothesis until it is measured"


def show_model(model: Verdict, label: str, files: Iterable[Path], folder: Path, advice: str = _ASKED) -> None:
    """Print how far the model that answered can be trusted, the files of its answer, and what to do next."""
    show_verdict(model, "the model that was asked")
    typer.echo(f"{label}: {', '.join(map(str, files))}")
    show_next(advice, folder)


def show_answer(
    run: Run,
    label: str,
    files: Iterable[str],
    content: Mapping[str, Any],
    show: Callable[[], None],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print an answer of the model of a run by ``show``, or as JSON with its ``content``; a file may be empty."""
    from gsnn.runs.results import model_verdict

    model, paths = model_verdict(run), [run.path / name for name in files if name]
    if as_json:
        print_json({"run": run.path, "files": paths, "model": model.at(run.path).to_dict(), **content})
    elif not quiet:
        show()
        show_model(model, label, paths, run.path)


def show_notes(notes: Iterable[str]) -> None:
    """Print notes on a result, one a line."""
    for note in notes:
        typer.echo(f"note: {note}")


def show_edges(edges: pd.DataFrame, inference: Mapping[str, Any]) -> None:
    """Print the best candidates of ``edges.csv`` of each kind, and what q and the aliases mean.

    Args:
        edges: The table.
        inference: How they were inferred, from ``run.json``.
    """
    for kind, of_kind in (inference.get("kinds") or {"": inference}).items():
        _show_kind(edges[edges["kind"] == kind] if kind else edges, of_kind, kind)
    if inference.get("no_targets"):
        from gsnn.runs.inference.columns import no_targets_note

        typer.echo(no_targets_note(inference["no_targets"]))


def _show_kind(edges: pd.DataFrame, inference: Mapping[str, Any], kind: str) -> None:
    from gsnn.runs.inference.columns import Q_MEANS, members_note, structure_note
    from gsnn.runs.inference.shortlist import MEMBERS, shortlist

    shown = shortlist(edges, _LISTED)
    best = shown.rows
    if not best:
        known = f"every {kind} edge" if kind else "an edge between any two function nodes"
        typer.echo(f"There is no candidate edge: the network has {known}.")
        return
    tested = any(row["p"] == row["p"] for row in best)
    columns: dict[str, Callable[[dict[Any, Any]], str]] = {
        "rank": lambda row: str(row["rank"]),
        "source": lambda row: str(row["source"]),
        "target": lambda row: str(row["target"]),
    }
    if "sign" in best[0]:
        columns["sign"] = lambda row: SIGNS[int(row["sign"])]
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
        columns["look-alikes"] = lambda row: _look_alikes(row, MEMBERS)
    title = (
        f"Candidate {kind}{' ' * bool(kind)}edges, each a hypothesis: the best {len(best)} of {inference['candidates']}"
    )
    if folded:
        title += ", look-alikes in one row"
    if tested:
        title += " (p and q test association, not an edge)"
    show_table(title, list(columns), [[text(row) for text in columns.values()] for row in best], left=left)
    if tested:
        typer.echo(f"q: {Q_MEANS}")
    if inference.get("members"):
        typer.echo(members_note(inference["members"]) + "; worst rank: the last place that a member gives")
    if inference.get("structure"):
        typer.echo(f"note: {structure_note(inference['structure'])}")
    show_notes(shown.notes)
    aliases = inference["aliases"]
    if aliases is not None and aliases["share_aliased"] is not None:
        typer.echo(
            f"look-alikes: other candidates that the data cannot tell from this one (by {aliases['by']}), so a row is "
            f"one hypothesis; {percent(aliases['share_aliased'])} of all candidates have some, in "
            f"{aliases['groups']} groups"
        )
    if "expected_precision" in best[0]:
        text = "expected precision: share of edges to expect from the first rank to this one, and its 95 % interval"
        if "precision_chance" in best[0]:
            text += f"; guessing gives {figure(best[0]['precision_chance'])}"
        if any(math.isnan(row["expected_precision"]) and not math.isnan(row["precision_low"]) for row in best):
            text += "; not estimable where the interval is wider than 0.5: too few edges could be hidden"
        typer.echo(text)


def _look_alikes(row: Mapping[str, Any], most: int) -> str:
    """The names of the first look-alikes of a candidate, and how many more there are."""
    pairs = [f"{source}:{target}" for source, target in row["look_alikes"]]
    # A table that was cut off does not have all of them.
    n = max(len(pairs), int(row["alias_size"]) - 1)
    shown = ", ".join(pairs[:most])
    if n > len(pairs[:most]):
        shown += f" and {n - len(pairs[:most])} more" if shown else f"{n}"
    return shown or "none"


def show_repairs(path: Path) -> None:
    """Print the best repairs of each action from a table of repairs, if it is there."""
    if not path.is_file():
        return
    from gsnn.io.truth import read_table

    table = read_table(path)
    rows = [
        [
            *(str(row[name]) for name in ("action", "kind", "source", "target")),
            SIGNS[int(row["sign"])],
            *(figure(row[name]) for name in ("gain", "gain_low", "gain_high")),
        ]
        for _, part in table.groupby("action", sort=False)
        for row in part.head(_LISTED).to_dict("records")
    ]
    header = ["action", "kind", "source", "target", "sign", "gain", "from", "to"]
    show_table(f"\nRepairs: the best of {len(table)}, gains as shares of the held-out loss", header, rows, left=5)
    typer.echo(f"Repairs: {path}; to test them: gsnn refine {shlex.quote(str(path.parent))} --repairs")


def precision_text(expected: float, low: float) -> str:
    """An expected precision; in words where its interval is too wide to state one.

    Example:
        >>> precision_text(0.25, 0.1), precision_text(math.nan, 0.0), precision_text(math.nan, math.nan)
        ('0.250', 'not estimable', '-')
    """
    return "not estimable" if math.isnan(expected) and not math.isnan(low) else figure(expected)


def print_json(value: Any) -> None:  # noqa: ANN401 - what JSON can hold
    """Print one JSON object, with null for undefined values."""
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


def cell(value: float, form: str = "z.3f") -> str:
    """A number in a format; ``-`` if it is NaN."""
    return "-" if math.isnan(value) else format(value, form)


def figure(value: Any) -> str:  # noqa: ANN401 - a cell of a table
    """A number with three decimals, or in scientific notation if it is small; ``-`` if it is undefined."""
    if value is None or value != value:
        return "-"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:z.3f}"


def _probability(value: Any) -> str:  # noqa: ANN401 - a cell of a table
    return "<1e-300" if value == 0 else figure(value)  # no test gives 0; the number is too small for a float
