"""The configuration file that ``gsnn init`` writes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

import tomli_w

from gsnn.cli.files import Files

if TYPE_CHECKING:
    from gsnn.runs.check import Checkup

_TRAIN = ("epochs", "channels", "layers", "norm", "lr", "weight_decay", "batch_size", "dropout", "seed")


def init_text(files: Files, found: Checkup, out: Path, run: str) -> str:
    """The text of the file, as TOML that every command accepts.

    Args:
        files: The options for ``[data]``, written with paths relative to the folder of ``out``.
        found: What the files hold.
        out: The configuration file.
        run: The run folder.
    """
    from gsnn.cli.infer import infer
    from gsnn.cli.refine import refine
    from gsnn.cli.selfcheck import selfcheck
    from gsnn.cli.train import train
    from gsnn.discovery.methods import DEFAULT_METHOD, METHODS
    from gsnn.training.config import TrainConfig

    counts = {**found.sections["network"], **found.sections["responses"]}
    lines = [
        "# gsnn: every command takes this file with --config; a flag on the command line wins.",
        f"# Network: {counts['species']} species, {counts['edges']} edges. Responses: {counts['samples']} samples of "
        f"{counts['conditions']} conditions, {counts['treatments']} treatments, {counts['readouts']} readouts.",
        *(_comment(f"warning: {text}") for text in found.warnings),
        *([_comment(f"refused as it is: {found.error}")] if found.error else []),
        "",
        "# Paths are relative to the folder of this file. All commands work on this run:",
        _line("run", run),
        "",
        "[data]",
    ]
    lines += [
        _line(
            name, os.path.relpath(value, out.parent) if isinstance(value, Path) and not value.is_absolute() else value
        )
        for name, value in files.given.items()
    ]
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
    return tomli_w.dumps({name.replace("_", "-"): str(value) if isinstance(value, Path) else value}).strip()


def _comment(text: str) -> str:
    # A line break in a name must not end the comment.
    return "# " + "".join(c if c.isprintable() else " " for c in text)
