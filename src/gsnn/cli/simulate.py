"""``gsnn simulate``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.options import AsJson, Quiet
from gsnn.cli.output import interruptible, print_json


def simulate(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    setting: Annotated[
        str | None, typer.Option(help="A, B or C: the converging benchmark, with how it is trained.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="converging, layered, dag, scale-free or cyclic.", show_default="converging"),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("-n", "--size", help="Functions of a random graph, tiers of the converging one.",
                     show_default="40, 12"),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Number of samples.", show_default="1000")] = None,
    noise: Annotated[
        float | None, typer.Option(help="Standard deviation of the noise.", show_default="0.15, or the setting's")
    ] = None,
    hide: Annotated[float, typer.Option(help="Share of the edges of a random graph to hide.")] = 0.2,
    hide_kinds: Annotated[
        list[str] | None,
        typer.Option(help="Kinds of edges that the network lacks: input (second targets of treatments), function, "
                     "output (second sources of readouts), or all.", show_default="function"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Fixes all that is random.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a simulation in the folder.")] = False,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write a simulated problem: a network with edges missing, responses, and the edges that are missing.

    The folder gets network.sif, responses.csv, truth.csv (the hidden edges), full.csv (all edges), simulation.json,
    and gsnn.toml to train with.

    Example: gsnn simulate -o simulated --kind layered --size 20 --samples 200
    """
    hint = "the files may be incomplete; run it again with --force"
    with interruptible(hint), stage("simulating", show=not quiet):
        from gsnn.runs.simulate import simulate_files

        result = simulate_files(
            out,
            setting=setting,
            kind=kind,
            n=n,
            samples=samples,
            noise=noise,
            hide=hide,
            hide_kinds=hide_kinds or "function",
            seed=seed,
            force=force,
        )
    if as_json:
        print_json({"folder": out, "settings": result.settings, "counts": result.counts, "files": result.files})
    elif not quiet:
        counts = result.counts
        typer.echo(
            f"{counts['functions']} functions, {counts['edges']} edges of which {counts['hidden']} are hidden, "
            f"{counts['inputs']} inputs, {counts['outputs']} outputs, {counts['samples']} samples"
        )
        typer.echo(f"Folder: {out}")
        typer.echo(f"Next: gsnn train --config {shlex.quote(str(out / 'gsnn.toml'))}")
