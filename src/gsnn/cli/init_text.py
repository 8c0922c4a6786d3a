"""The configuration file that ``gsnn init`` writes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from gsnn.cli.files import Files

if TYPE_CHECKING:
    from gsnn.runs.check import Checkup

_PATHS = ("graph", "data", "inputs", "outputs", "map")
_TRAIN = (
    ("epochs", "passes over the training samples, at most"),
    ("channels", "channels of every function node"),
    ("layers", "residual blocks: signals travel so many edges; at least 2 to infer edges"),
    ("norm", "groupbatch, layer, none, ..."),
    ("lr", "learning rate"),
    ("weight_decay", "weight decay"),
    ("batch_size", "samples a step"),
    ("dropout", "probability of dropping a channel"),
    ("seed", "fixes the split, the weights and the order of samples"),
)


def init_text(files: Files, found: Checkup, out: Path, run: str) -> str:
    """The text of the file.

    Args:
        files: What was typed; it stands under ``[data]``, with paths as seen from ``out``.
        found: What the files hold.
        out: Where the text is to stand.
        run: The run folder.

    Returns:
        TOML that every command accepts.
    """
    from gsnn.cli.infer import infer
    from gsnn.cli.refine import refine
    from gsnn.cli.selfcheck import selfcheck
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
        "# Paths begin in the folder of this file. All commands work on this run:",
        _line("run", run),
        "",
        "[data]",
    ]
    lines += [_line(field.name, _value(files, field.name, out)) for field in fields(Files) if _given(files, field.name)]
    if not files.drop_unmatched:
        lines.append("# drop-unmatched = true  # leave out what the network does not have")
    config = TrainConfig()
    lines += ["", "[train]", "# The values are the defaults; take the # away to change one."]
    for name, text in _TRAIN:
        lines.append(f"# {_line(name, getattr(config, name))}  # {text}")
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
    """The default of an option of a command, switched off."""
    return f"# {_line(name, inspect.signature(command).parameters[name].default)}  # {text}"


def _given(files: Files, name: str) -> bool:
    return getattr(files, name) not in (None, False, [])


def _value(files: Files, name: str, out: Path) -> object:
    value = getattr(files, name)
    if name not in _PATHS:
        return value
    return value if Path(value).is_absolute() else os.path.relpath(value, out.parent)


def _line(name: str, value: object) -> str:
    return tomli_w.dumps({name.replace("_", "-"): str(value) if isinstance(value, Path) else value}).strip()


def _comment(text: str) -> str:
    # What stands in names must not end the comment.
    return "# " + "".join(c if c.isprintable() else " " for c in text)
