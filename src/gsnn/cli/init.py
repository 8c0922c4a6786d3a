"""``gsnn init``."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_type_hints

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.files import Files, reads_files
from gsnn.cli.options import AsJson, Quiet
from gsnn.cli.output import interruptible, print_json, show_warnings

if TYPE_CHECKING:
    from gsnn.runs.check import Checkup

_TRAIN = ("epochs", "channels", "layers", "norm", "lr", "weight_decay", "batch_size", "dropout", "seed")


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
        from gsnn.runs.check import check_up

        if out.exists() and not force:
            raise DataError(f"{out} exists; choose another name with -o, or --force to replace it")
        if not out.absolute().parent.is_dir():
            raise DataError(f"there is no folder {out.absolute().parent}; make it first")
        checkup = check_up(**files.reading())
        write_text(out, _text(files, checkup, out, run))
    show_warnings(checkup.warnings, quiet=quiet)
    if checkup.error:
        show_warnings([f"gsnn train would refuse these files: {checkup.error}"], quiet=quiet)
    if as_json:
        print_json({"config": out, "run": run, "check": checkup.to_dict()})
    elif not quiet:
        typer.echo(f"Configuration: {out}")
        typer.echo(f"Next: gsnn check --config {shlex.quote(str(out))}")


def _text(files: Files, checkup: Checkup, out: Path, run: str) -> str:
    """The text of the file ``out``, as TOML that every command accepts; paths in it are relative to its folder."""
    from gsnn.cli.infer import infer
    from gsnn.cli.refine import refine
    from gsnn.cli.selfcheck import selfcheck
    from gsnn.cli.train import train
    from gsnn.discovery.methods import DEFAULT_METHOD, METHODS
    from gsnn.training.config import TrainConfig

    counts = {**checkup.sections["network"], **checkup.sections["responses"]}
    lines = [
        "# gsnn: every command takes this file with --config; a flag on the command line wins.",
        f"# Network: {counts['species']} species, {counts['edges']} edges. Responses: {counts['samples']} samples of "
        f"{counts['conditions']} conditions, {counts['treatments']} treatments, {counts['readouts']} readouts.",
        *(_comment(f"warning: {text}") for text in checkup.warnings),
        *([_comment(f"refused as it is: {checkup.error}")] if checkup.error else []),
        "",
        "# Paths are relative to the folder of this file. All commands work on this run:",
        _line("run", run),
        "",
        "[data]",
    ]
    for name, value in files.given.items():
        relative = isinstance(value, Path) and not value.is_absolute()
        lines.append(_line(name, os.path.relpath(value, out.parent) if relative else value))
    if not files.drop_unmatched:
        lines.append("# drop-unmatched = true  # leave out what the network does not have")
    config, hints = TrainConfig(), get_type_hints(train, include_extras=True)
    lines += ["", "[train]", "# The values are the defaults; take the # away to change one."]
    lines += [f"# {_line(name, getattr(config, name))}  # {hints[name].__metadata__[0].help}" for name in _TRAIN]
    lines += [
        "# patience = 20  # hold conditions out and stop after so many epochs without a better loss; off by default",
        "# members = 5  # train more models beside it, for predictions with intervals and steadier ranks",
        "",
    ]
    lines += ["[infer]", "# Methods; the first ranks, the others add their columns:"]
    lines += [f"#   {name}: {method.summary}" for name, method in METHODS.items()]
    lines += [
        _line("method", DEFAULT_METHOD),
        "# top = 1000  # write only so many candidates",
        "# per-target = 20  # and only so many of each target; without these lines every candidate",
        _default(infer, "aliases", "how candidates that the data cannot tell apart are grouped"),
        _default(infer, "samples", "samples to use"),
        '# sources = ["MAP*"]  # names or patterns; targets likewise',
        '# forbid = ["A:B", "impossible.csv"]  # edges that are no candidates; require keeps some in any case',
        "",
        "[selfcheck]",
        _line("method", DEFAULT_METHOD),
        _default(selfcheck, "repeats", "each is a training, and one more per control"),
        _default(selfcheck, "fraction", "share of the known edges to hide"),
        _default(selfcheck, "controls", "also on a rewired network and on permuted samples"),
        "",
        "[refine]",
        _default(refine, "rounds", "each proposes, tries and trains again"),
        _default(refine, "per_round", "edges that each method proposes a round"),
        _default(refine, "decision", "what stays"),
        "# min-drop = 0.01  # share by which the held-out loss must fall; without this line what the test needs",
        "",
        "[audit]",
        '# kinds = "function,output"  # which known edges; without this line all',
        "",
        "[design]",
        "# batch = 8  # experiments to choose",
        "# replicates = 3  # measurements of each",
    ]
    return "\n".join(lines) + "\n"


def _default(command: Callable[..., None], name: str, text: str) -> str:
    """The default of an option of a command, commented out."""
    return f"# {_line(name, inspect.signature(command).parameters[name].default)}  # {text}"


def _line(name: str, value: object) -> str:
    import tomli_w

    return tomli_w.dumps({name.replace("_", "-"): str(value) if isinstance(value, Path) else value}).strip()


def _comment(text: str) -> str:
    # A line break in a name must not end the comment.
    return "# " + "".join(c if c.isprintable() else " " for c in text)
