"""``gsnn refine``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Kinds, Quiet, RunFolder
from gsnn.cli.output import cell, interruptible, print_json, show_next, show_table, show_verdict, show_warnings

if TYPE_CHECKING:
    from gsnn.discovery import Refinement


def refine(
    run: RunFolder,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Method that proposes edges; repeated, or with commas, each proposes some.",
            show_default="learned; of joint stacked,gradient-explained",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Number of rounds.")] = 3,
    per_round: Annotated[int, typer.Option(help="Edges that each method proposes a round.")] = 6,
    per_target: Annotated[
        int | None, typer.Option(help="At most so many of them into one target.", show_default="no limit")
    ] = None,
    per_source: Annotated[
        int | None, typer.Option(help="At most so many of them from one source.", show_default="no limit")
    ] = None,
    kinds: Kinds = None,
    decision: Annotated[
        str,
        typer.Option(
            help="How edges are tried: single (each alone), bisect (in batches, for less time), joint (all proposed "
            "edges are trained, and those that the model misses most are tried), together (a round as one batch, "
            "beside random edges in its place), or none (no test: all stay)."
        ),
    ] = "single",
    min_drop: Annotated[
        float | None,
        typer.Option(help="Share by which the held-out loss must fall.", show_default="what the test needs"),
    ] = None,
    control: Annotated[bool, typer.Option("--control/--no-control", help="Also with as many random edges.")] = True,
    repairs: Annotated[
        bool,
        typer.Option(
            "--repairs",
            help="Try the run's repairs.csv (edges to add, to remove and to turn) in place of what a method proposes; "
            "the test samples decide.",
        ),
    ] = False,
    repairs_file: Annotated[Path | None, typer.Option(help="Another table of repairs, likewise.")] = None,
    truth: Annotated[Path | None, typer.Option(help="True edges, if they are known: SIF, or a table.")] = None,
    seed: Annotated[int, typer.Option(help="Fixes the random edges.")] = 0,
    epochs: Annotated[int | None, typer.Option(help="Passes over the samples.", show_default="the run's")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the rounds that are done.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a refinement in the folder.")] = False,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Propose the best candidates, keep what helps held-out samples more than random edges do, retrain; in rounds.

    Writes refine.json and refine.csv into the run folder after each round, and refined-network.csv, the network with
    what was kept (with refined-map.csv, where edges of treatments or readouts were); the run itself stays as it is.

    Example: gsnn refine runs/first --rounds 2 --per-round 3 --decision joint
    """
    hint = "the rounds that are done are kept; run the same command with --resume to go on"
    with interruptible(hint), stage("reading the run", show=not quiet):
        from gsnn.discovery.methods import DEFAULT_METHOD, method_names
        from gsnn.discovery.refinement.protocol import BY_DEFAULT_JOINT
        from gsnn.graph.kinds import FUNCTION_EDGES, resolve_kinds
        from gsnn.runs import Run
        from gsnn.runs.refine import MAP, NETWORK, refine_run
        from gsnn.runs.results import failed_rankings

        opened = Run.open(run)
        if not (repairs or repairs_file) and FUNCTION_EDGES in resolve_kinds(kinds or "function"):
            by_default = BY_DEFAULT_JOINT if decision == "joint" else (DEFAULT_METHOD,)
            show_warnings(failed_rankings(opened, method_names(method or by_default)), quiet=quiet or as_json)
        result = refine_run(
            opened,
            method=method or None,
            truth=truth,
            settings={"epochs": epochs},
            overwrite=overwrite,
            resume=resume,
            rounds=rounds,
            per_round=per_round,
            per_target=per_target,
            per_source=per_source,
            kinds=kinds or "function",
            decision=decision,
            min_drop=min_drop,
            control=control,
            repairs=repairs_file or repairs,
            seed=seed,
            progress=not quiet,
        )
    if as_json:
        tables = {"rounds": result.summary(), "edges": result.table(), "accepted": result.accepted()}
        names = ("refine.json", "refine.csv", NETWORK, *([MAP] if (run / MAP).is_file() else []))
        print_json(
            {
                "run": run,
                "files": [run / name for name in names],
                "warnings": result.warnings,
                **{name: table.to_dict("records") for name, table in tables.items()},
                "verdict": result.verdict().at(run).to_dict(),
            }
        )
    elif not quiet:
        show_warnings(result.warnings)
        _show(result)
        show_verdict(result.verdict())
        typer.echo(f"Refinement: {run / 'refine.json'}, {run / NETWORK}")
        if result.kept():
            mapped = f" and --map {run / MAP}" if (run / MAP).is_file() else ""
            typer.echo(f"To train on what stayed: gsnn train with the same data, --graph {run / NETWORK}{mapped}")
        show_next(result.verdict().next, run)


def _show(result: Refinement) -> None:
    rows = [
        [
            row["arm"],
            str(row["round"]),
            str(row["proposed"]),
            str(row["kept"]),
            *(cell(row[name], ".4f") for name in ("loss_before", "loss_after", "test_after", "precision")),
            str(row["trainings"]),
        ]
        for row in result.summary().to_dict("records")
    ]
    header = ["edges", "round", "proposed", "kept", "held-out", "after", "test after", "precision", "trainings"]
    show_table("Refinement: losses before and after each round (standardised)", header, rows)
    shares = [
        f"{row['kept']} of {row['proposed']} {row['arm']} edges ({row['share']:.0%})"
        for row in result.accepted().to_dict("records")
        if row["proposed"]
    ]
    typer.echo(f"Stayed: {', '.join(shares) or 'nothing was proposed'}.")
    kept = result.table()
    kept = kept[kept["kept"] & (kept["arm"] == "inferred")]
    if not len(kept):
        typer.echo("Nothing that was proposed passed: none was kept.")
        return
    names, figures = ["round", "action", "source", "target", "kind", "method"], ["score", "gain", "needed"]
    rows = [
        [*(str(row[name]) for name in names), *(cell(row[name], ".4f") for name in figures), cell(row["p"], ".1g")]
        for row in kept.to_dict("records")
    ]
    show_table("\nEdges that were kept: gains are shares of the held-out loss", [*names, *figures, "p"], rows, left=6)
