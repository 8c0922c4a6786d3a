"""``gsnn init``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.files import Files, reads_files
from gsnn.cli.options import AsJson, Quiet
from gsnn.cli.output import interruptible, print_json, show_warnings


@reads_files
def init(
    out: Annotated[Path, typer.Option("-o", "--out", help="Configuration file to write.")] = Path("gsnn.toml"),
    run: Annotated[str, typer.Option(help="Run folder, as seen from the configuration file.")] = "runs/first",
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
    files: Files = Files(),  # noqa: B008 - frozen
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a commented configuration file for a network and its data, which are read to see what they hold.

    Every command takes it: gsnn check, train, infer, selfcheck and report, each with --config gsnn.toml.

    Example: gsnn init --graph network.sif --data responses.csv
    """
    with interruptible("nothing was written"), stage("reading network and data", show=not quiet):
        from gsnn.base.errors import DataError
        from gsnn.base.files import write_text
        from gsnn.cli.init_text import init_text
        from gsnn.runs.check import check_up

        if out.exists() and not force:
            raise DataError(f"{out} exists; choose another name with -o, or --force to replace it")
        if not out.absolute().parent.is_dir():
            raise DataError(f"there is no folder {out.absolute().parent}; make it first")
        found = check_up(**files.reading())
        write_text(out, init_text(files, found, out, run))
    show_warnings(found.warnings, quiet=quiet)
    if found.error:
        show_warnings([f"gsnn train would refuse these files: {found.error}"], quiet=quiet)
    if as_json:
        print_json({"config": out, "run": run, "check": found.to_dict()})
    elif not quiet:
        typer.echo(f"Configuration: {out}")
        typer.echo(f"Next: gsnn check --config {shlex.quote(str(out))}")
