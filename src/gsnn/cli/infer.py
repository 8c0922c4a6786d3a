"""``gsnn infer``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Kinds, Quiet, RunFolder
from gsnn.cli.output import interruptible, print_json, show_edges, show_next, show_repairs, show_verdict, show_warnings
from gsnn.cli.processes import AGAIN, together

if TYPE_CHECKING:
    import pandas as pd

_CHOICE, _SHARED = "Which candidates", "Many samples, many processes"
_ROWS = 1000  # how many edges the JSON object holds; edges.csv has all


def infer(
    run: RunFolder,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="learned, gradient, magnitude, ... (a wrong name lists them); repeated, or with commas: the first one "
            "ranks, the others add their columns.",
            show_default="learned",
        ),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="Score of magnitude, which it chooses: corr, or partial given the known parents of the target.",
            show_default="the method's",
        ),
    ] = None,
    agg: Annotated[
        str | None,
        typer.Option(
            help="How magnitude, which it chooses, combines layers: mean0, mean or max.",
            show_default="the method's",
        ),
    ] = None,
    samples: Annotated[str, typer.Option(help="Samples to use: train or all.")] = "train",
    kinds: Kinds = None,
    top: Annotated[
        int | None,
        typer.Option(help="Write only this many candidates of each kind.", show_default="every candidate",
                     rich_help_panel=_CHOICE),
    ] = None,
    per_target: Annotated[
        int | None,
        typer.Option(help="Write only this many of each target.", show_default="no limit", rich_help_panel=_CHOICE),
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(help="Only from nodes of this name or pattern ('MAP*'); may be repeated.",
                     rich_help_panel=_CHOICE),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(help="Only to nodes of this name or pattern; may be repeated.", rich_help_panel=_CHOICE),
    ] = None,
    forbid: Annotated[
        list[str] | None,
        typer.Option(help="An edge A:B, a pattern ('DRUG*:*'), or a file of edges, that is no candidate; may be "
                     "repeated.", rich_help_panel=_CHOICE),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(help="An edge A:B, or a file of edges, to write in any case; may be repeated.",
                     rich_help_panel=_CHOICE),
    ] = None,
    known: Annotated[
        bool, typer.Option("--known", help="Write the known edges too, after the candidates.", rich_help_panel=_CHOICE)
    ] = False,
    aliases: Annotated[
        str,
        typer.Option(help="How to group candidates that the data cannot tell apart: by reach, by hops, or none; auto "
                     "takes hops where reach puts more than a quarter of the candidates into one group."),
    ] = "auto",
    out: Annotated[
        list[Path] | None,
        typer.Option("-o", "--out", help="Write the table here too: .csv, .tsv, .parquet, .sif, .graphml (for "
                     "Cytoscape) or .h5ad; may be repeated."),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(help="Weights to read: early, when the model had learnt most (they tell more), or last."),
    ] = "early",
    members: Annotated[
        bool | None,
        typer.Option("--members/--no-members", help="Average the ranks of the members of gsnn train --members, or read "
                     "the model of the run alone.", show_default="members, if the run has them"),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(help="What processes share, under torchrun or srun: samples (statistics are added up) or targets "
                     "(less memory each; every process reads all samples).", rich_help_panel=_SHARED),
    ] = "samples",
    double: Annotated[
        bool, typer.Option("--double", help="Run the model in double precision: the number of processes then changes "
                           "scores by less than 1e-10, otherwise by 1e-6.", rich_help_panel=_SHARED),
    ] = False,
    save_every: Annotated[
        float, typer.Option(help="Seconds between two saves of the statistics so far, from which the same command goes "
                            "on after a stop; 0 saves after every batch.", rich_help_panel=_SHARED),
    ] = 60.0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Use neither the statistics of a stopped command nor the regressor of "
                           "gsnn train --regressor.", rich_help_panel=_SHARED),
    ] = False,
    memory_budget: Annotated[
        str | None,
        typer.Option(help="Memory for statistics and scores, beside model and data: 4GB, 512MiB, ...",
                     show_default="half of what is free", rich_help_panel=_SHARED),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where to run the model: cpu, or cuda for a GPU.", rich_help_panel=_SHARED)
    ] = "cpu",
    timeout: Annotated[
        float, typer.Option(help="Seconds that a process waits for the others.", rich_help_panel=_SHARED)
    ] = 1800.0,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Rank the edges that the network lacks; writes edges.csv into the run folder.

    Beside it edges.csv-metadata.json says what each column means. The rank is the place among all candidates, also if
    only some of them are written.

    Several processes share the work: torchrun --nproc-per-node 2 -m gsnn infer runs/first

    Each kind of edges has ranks of its own: scores of different kinds cannot be compared. With --kinds all, in a run
    that gsnn audit has judged, repairs.csv lists edges to add, to remove and to turn, with their gains.

    Example: gsnn infer runs/first --method gradient,magnitude --per-target 5 --out edges.graphml
    """
    with interruptible(f"no edges were written; {AGAIN}"), together(timeout) as joined:
        from gsnn.base.verdict import at_run
        from gsnn.runs import Run
        from gsnn.runs.infer import infer_run
        from gsnn.runs.inference.job import Job
        from gsnn.runs.results import after_infer

        quiet = quiet or not joined.first
        with stage("reading the run", show=not quiet):
            opened = Run.open(run)
            edges = infer_run(
                opened,
                method=method or None,
                score=score,
                agg=agg,
                samples=samples,
                kinds=kinds or "function",
                top=top,
                per_target=per_target,
                sources=sources or (),
                targets=targets or (),
                forbidden=forbid or (),
                required=require or (),
                known=known,
                aliases=aliases,
                out=out or (),
                progress=not quiet,
                job=Job(joined, shard, double, save_every, fresh, memory_budget, device, weights),
                members=members,
            )
        if not joined.first:
            return
    inference = opened.info["inference"]
    show_warnings(inference["notes"], quiet=quiet)
    written = [opened.edges_path, *(out or ())]
    repairs = [opened.repairs_path] if opened.repairs_path.is_file() else []
    verdict, advice = after_infer(opened)
    if as_json:
        head = edges.head(_ROWS).astype(object)
        print_json(
            {
                "run": run,
                "files": [*written, *repairs],
                "inference": inference,
                "written": len(edges),
                "verdict": verdict and verdict.to_dict(),
                "next": at_run(advice, run),
                **_hypotheses(edges),
                "edges": head.where(head.notna(), None).to_dict("records"),
            }
        )
    elif not quiet:
        show_edges(edges, inference)
        if verdict is not None:
            show_verdict(verdict, f"this ranking, from the self-check ({inference['method']})")
        typer.echo("Edges: " + ", ".join(map(str, written)))
        show_repairs(opened.repairs_path)
        show_next(advice, run)


def _hypotheses(edges: pd.DataFrame) -> dict[str, Any]:
    """The hypotheses of each kind, and what the best candidates share, as the screen shows them."""
    from gsnn.runs.inference.shortlist import shortlist

    lists = [shortlist(part) for _, part in edges.groupby("kind", sort=False)]
    return {
        "hypotheses": [row for each in lists for row in each.to_list()],
        "concentration": [note for each in lists for note in each.notes],
    }
