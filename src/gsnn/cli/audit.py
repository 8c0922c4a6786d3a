"""``gsnn audit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Quiet, RunFolder
from gsnn.cli.output import SIGNS, figure, interruptible, print_json, show_next, show_repairs, show_table, show_warnings

if TYPE_CHECKING:
    from gsnn.discovery import Audit

_LISTED = 10  # how many edges of a verdict are printed; audit.csv has all


def audit(
    run: RunFolder,
    kinds: Annotated[
        str, typer.Option(help="Which known edges: input, function, output (with commas), or all.")
    ] = "all",
    removal: Annotated[
        bool,
        typer.Option("--removal/--no-removal", help="Also train a model without the edges that are not needed."),
    ] = True,
    seed: Annotated[int, typer.Option(help="Fixes the folds and the networks.")] = 0,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the samples when it trains for --removal.", show_default="the run's")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the folds that are done.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an audit in the folder.")] = False,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Judge every known edge: supported by the data, not needed, of the wrong sign, or not to be judged.

    Writes audit.json and audit.csv into the run folder, and repairs.csv if gsnn infer --kinds all was called; the run
    itself stays as it is.

    Example: gsnn audit runs/first --kinds function,output
    """
    hint = "the folds that are done are kept; run the same command with --resume to go on"
    with interruptible(hint), stage("reading the run", show=not quiet):
        from gsnn.runs import Run
        from gsnn.runs.audit import audit_run

        result = audit_run(
            Run.open(run),
            settings={"epochs": epochs},
            overwrite=overwrite,
            resume=resume,
            kinds=kinds,
            removal=removal,
            seed=seed,
            progress=not quiet,
        )
    if as_json:
        print_json(
            {
                "run": run,
                "files": [run / "audit.json", run / "audit.csv"],
                "warnings": result.warnings,
                "summary": result.summary().to_dict("records"),
                "edges": result.table().to_dict("records"),
                "agreement": result.agreement,
                "removal": result.removal,
                "facts": result.facts,
            }
        )
    elif not quiet:
        show_warnings(result.warnings)
        _show(result)
        typer.echo(f"Audit: {run / 'audit.csv'}")
        show_repairs(run / "repairs.csv")
        if (run / "repairs.csv").is_file():
            show_next("gsnn refine RUN --repairs, which tries these repairs on samples that proposed none of them", run)
        else:
            show_next("gsnn infer RUN --kinds all, which with this audit gives a table of repairs", run)


def _show(result: Audit) -> None:
    summary = result.summary()
    rows = [[str(value) for value in row.values()] for row in summary.to_dict("records")]
    show_table("Audit: known edges by verdict", list(summary.columns), rows)
    table = result.table()
    for verdict, title in (
        ("contradicts the sign", "Edges whose sign the data contradict"),
        ("not needed", "Edges that are not needed, the least first"),
    ):
        part = table[table["verdict"] == verdict].sort_values("carried", kind="stable")
        if verdict != "not needed":
            part = part[::-1]
        if not len(part):
            continue
        cells = [
            [
                *(str(row[name]) for name in ("kind", "source", "target")),
                *(SIGNS[int(row[name])] for name in ("sign_network", "sign_model")),
                *(figure(row[name]) for name in ("carried", "gain", "gain_low", "gain_high")),
                "estimated" if row["estimated"] else "",
            ]
            for row in part.head(_LISTED).to_dict("records")
        ]
        header = ["kind", "source", "target", "sign", "model", "carried", "gain", "from", "to", ""]
        shown = f" ({_LISTED} of {len(part)})" if len(part) > _LISTED else ""
        show_table(f"\n{title}{shown}", header, cells, left=5)
    typer.echo("\n".join(["", *result.notes]))
    typer.echo("carried: signal along the edge, in standard deviations of a response")
    typer.echo("gain: share by which it lowers the held-out loss once the other sources of its target have adapted")
