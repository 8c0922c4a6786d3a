"""``gsnn selfcheck``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.files import PANEL, Files, reads_files
from gsnn.cli.options import AsJson, Kinds, Quiet
from gsnn.cli.output import (
    cell,
    interruptible,
    precision_text,
    print_json,
    show_next,
    show_notes,
    show_table,
    show_verdict,
    show_warnings,
)

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.discovery import SelfCheck

_TRAINING: dict[str, Any] = {"show_default": "the run's", "rich_help_panel": "Training"}
_RANKS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@reads_files
def selfcheck(
    run: Annotated[
        Path | None, typer.Argument(help="Run folder of gsnn train; gives data and settings.", metavar="[RUN]")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Method to check; may be repeated.",
            show_default="learned, gradient-explained, gradient, magnitude, magnitude-partial",
        ),
    ] = None,
    kinds: Kinds = None,
    fraction: Annotated[float, typer.Option(help="Share to hide of the known edges that can be.")] = 0.15,
    repeats: Annotated[int, typer.Option(help="How often; each is a training, and one more per control.")] = 3,
    stratify: Annotated[str, typer.Option(help="Hide the same share by: none, degree or role.")] = "none",
    roles: Annotated[
        Path | None, typer.Option(help="Table with the columns source, target and role, for --stratify role.")
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Also on a rewired network and on permuted samples.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Fixes what is hidden and the weights.")] = 0,
    missing: Annotated[
        float | None,
        typer.Option(help="Share of the complete network taken to be missing.", show_default="the share hidden"),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            help="How many samples to draw at random, where all are too many.",
            show_default="2000 of those that stay in their files, all of others",
        ),
    ] = None,
    files: Files = Files(),  # noqa: B008 - frozen
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder to write, without a run.", rich_help_panel=PANEL)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the samples.", **_TRAINING)] = None,
    channels: Annotated[int | None, typer.Option(help="Channels of a node.", **_TRAINING)] = None,
    layers: Annotated[int | None, typer.Option(help="Residual blocks.", **_TRAINING)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the repeats that are done.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a self-check in the folder.")] = False,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Hide known edges, train without them, and tell how well each method finds them and what precision to expect.

    Writes selfcheck.json and selfcheck.csv into the folder after each repeat (selfcheck-input, selfcheck-output for
    these kinds), and adds the expected precision to the edges.csv of a run if it trains as the run did. Without a run
    it takes the same files as gsnn train.

    Example: gsnn selfcheck runs/first --method learned --method magnitude
    """
    hint = "the repeats that are done are kept; run the same command with --resume to go on"
    with interruptible(hint), stage("reading network and data", show=not quiet):
        from gsnn.base.errors import DataError
        from gsnn.base.verdict import at_run
        from gsnn.graph import resolve_kinds
        from gsnn.runs import Run, Sources
        from gsnn.runs.results import after_check
        from gsnn.runs.selfcheck import self_check_files, self_check_run

        if missing is not None and not 0 <= missing < 1:
            raise DataError(f"missing must be a share from 0 up to, but not including, 1, got {missing}")
        options: dict[str, Any] = {
            "methods": method or None,
            "settings": {"epochs": epochs, "channels": channels, "layers": layers},
            "overwrite": overwrite,
            "resume": resume,
            "roles": roles,
            "fraction": fraction,
            "repeats": repeats,
            "stratify": stratify,
            "seed": seed,
            "sample": sample,
            "progress": not quiet,
            **({} if controls else {"controls": ()}),
        }
        notes: list[str] = []
        each_kind = resolve_kinds(kinds or "function")
        if run is not None:
            if out is not None or files.given:
                raise DataError("give a run, or files with -o; not both")
            opened, folder = Run.open(run), run
            options |= {"missing": missing, "notify": notes.extend}
            checks = [self_check_run(opened, kind=kind, **options) for kind in each_kind]
        else:
            if files.graph is None or out is None:
                raise DataError("give a run folder; or --graph, --data and -o for a folder to write")
            sources, folder = Sources.from_files(**files.reading()), out
            checks = [self_check_files(out, sources, kind=kind, **options) for kind in each_kind]
    show_warnings(dict.fromkeys(notes), quiet=quiet)
    if as_json:
        parts = [_content(check, folder, missing, notes) for check in checks]
        whole = parts[0] if len(parts) == 1 else {"folder": folder, "kinds": parts}
        print_json(whole if run is None else {**whole, "next": at_run(after_check(opened), run)})
    elif not quiet:
        for check in checks:
            if len(checks) > 1:
                typer.echo(f"\n{check.kind} edges")
            _show(check, missing)
            typer.echo(f"Self-check: {check.json_path(folder, check.variant)}")
        if run is not None:
            show_next(after_check(opened), run)


def _content(check: SelfCheck, folder: Path, missing: float | None, notes: list[str]) -> dict[str, Any]:
    """What the JSON object holds."""
    path = check.json_path(folder, check.variant)
    return {
        "folder": folder,
        "kind": check.kind,
        "files": [path, path.with_suffix(".csv")],
        "sample": None if check.drawn is None else check.drawn.to_dict(),
        "counts": check.counts,
        "summary": check.summary().to_dict("records"),
        "controls": check.control_table().to_dict("records"),
        "groups": check.groups().to_dict("records"),
        "precision": _stated(check, missing).to_dict("records"),
        "caveats": check.caveats(),
        "verdicts": {name: verdict.to_dict() for name, verdict in check.verdicts().items()},
        "statement": check.statement(missing),
        "lists": {name: check.listed(name, missing=missing) for name in check.methods} if check.repeats else {},
        "notes": notes,
    }


def _show(check: SelfCheck, missing: float | None) -> None:
    from gsnn.discovery.selfcheck.result import PRECISION_COLUMNS
    from gsnn.io.text import counted

    counts = check.counts
    if check.drawn is not None:
        typer.echo(f"On {check.drawn}; --sample takes more.")
    typer.echo(
        f"{counted(len(check.repeats), 'repeat')}, in each {counts['n_testable'] + counts['n_cut_off']:.0f} of "
        f"{counts['n_eligible']:.0f} known edges hidden ({counts['n_cut_off']:.1f} of them cut off from every input or "
        "output, which no method can find: left out)"
    )
    lost, last, kept = counts["n_pathless"], counts["n_last"], counts["n_protected"]
    if lost or last or kept:
        typer.echo(
            f"never hidden: {lost:.0f} known edges on no path from an input to an output, {last:.0f} that are the last "
            f"child or parent of a function, and {kept:.1f} a repeat without which an output would be out of reach "
            "or a function would lose its last child or parent"
        )
    summary = check.summary()
    titles = {
        "real": "Hidden known edges: how well they are found (95 % intervals)",
        "rewired": "Control, rewired network: the interval of the matched AUC must contain 0.5",
        "permuted": "Control, permuted samples: the interval must contain 0.5, or the AUC not beat that of structure",
    }
    for condition in dict.fromkeys(summary["condition"]):
        part = summary[summary["condition"] == condition]
        chosen = {(row["method"], row["negatives"]): row for row in part.to_dict("records")}
        rows = []
        for name in dict.fromkeys(part["method"]):
            every, fair = chosen[name, "all"], chosen[name, "degree-matched"]
            label = name if every["by"] == "inferer" else f"({name})"
            figures = (cell(every[column]) for column in ("average_precision", "chance", "precision", "mrr"))
            rows.append([label, _auc(every), _auc(fair), *figures, str(every["n_positives"])])
        header = ["method (baseline)", "AUC", "AUC, matched", "AUPR", "chance", "precision", "MRR", "edges"]
        show_table(f"\n{titles[condition]}", header, rows)
    groups = check.groups()
    if len(groups):
        real = groups[groups["condition"] == "real"].to_dict("records")
        rows = [[row["method"], row["group"], _auc(row), str(row["n_positives"])] for row in real]
        show_table("\nHidden edges by whether they left a hole", ["method", "group", "AUC", "edges"], rows, left=2)
    controls = check.control_table()
    failed = controls[(controls["negatives"] == "degree-matched") & (controls["passed"] == False)]  # noqa: E712
    for row in failed.to_dict("records"):
        typer.echo(
            f"warning: {row['method']} does not pass the control '{row['condition']}': AUC {_auc(row)}", err=True
        )
    show_notes(check.caveats())
    verdicts = check.verdicts()
    finding = [name for name, verdict in verdicts.items() if verdict.tone == "good"]
    lists: list[str] = []
    stated = _stated(check, missing)
    stated = stated[stated["method"].isin(finding or check.methods[:1])]
    for method, part in stated.groupby("method", sort=False):
        name, rows = str(method), []
        for row in part.to_dict("records"):
            expected = precision_text(row["expected_precision"], row["precision_low"])
            rows.append([f"{row['k']:.0f}", expected, *(cell(row[column]) for column in PRECISION_COLUMNS[1:])])
        doubt = "" if name in finding else f" ({verdicts[name].short}: see the verdict below)"
        header = ["best k", "expected", "from", "to", "guessing", "stated FDR"]
        show_table(f"\nPrecision to expect, {name}{doubt}", header, rows)
        lists.append(check.list_text(name, missing=missing))
    if len(stated):
        typer.echo(check.statement(missing))
        typer.echo(
            "Stated FDR: the smallest false discovery rate that can be stated for a list with the candidate of this "
            f"rank, under the same assumptions; {'; '.join(lists)}."
        )
    typer.echo("")
    shared = _shared_end([verdict.text for verdict in verdicts.values()])
    for method, verdict in verdicts.items():
        show_verdict(replace(verdict, text=verdict.text.removesuffix(shared).rstrip()), method)
    if shared:
        typer.echo(shared)


def _shared_end(texts: Sequence[str]) -> str:
    """The sentences that all of several texts end with."""
    backwards = [text.split(". ")[::-1] for text in texts] if len(texts) > 1 else []
    same = takewhile(lambda sentences: len(set(sentences)) == 1, zip(*backwards, strict=False))
    return ". ".join([sentences[0] for sentences in same][::-1])


def _stated(check: SelfCheck, missing: float | None) -> pd.DataFrame:
    """The precision to expect of each method at a few ranks; empty where nothing was hidden."""
    import pandas as pd

    if math.isnan(check.missing_edges(missing)):
        return pd.DataFrame({"method": []})
    ranks = [k for k in _RANKS if k <= check.settings["n_candidates"]]
    parts = [check.precision(name, ranks, missing=missing).assign(method=name) for name in check.methods]
    return pd.concat(parts, ignore_index=True)


def _auc(row: Mapping[Any, Any]) -> str:
    if math.isnan(row["auc_low"]):
        return cell(row["roc_auc"])
    return f"{row['roc_auc']:.3f} ({row['auc_low']:.2f}-{row['auc_high']:.2f})"
