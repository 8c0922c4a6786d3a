"""The shell commands that repeat a run."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsnn.runs import Run

__all__ = ["command_of"]

# Settings that `gsnn train` takes as flags of the same name.
_FLAGS = (
    "epochs",
    "channels",
    "layers",
    "norm",
    "lr",
    "weight_decay",
    "batch_size",
    "dropout",
    "patience",
    "seed",
)
# Options of the readers, and the flags that set them.
_READER_FLAGS = {
    ("network", "format"): "--graph-format",
    ("network", "source"): "--source-column",
    ("network", "target"): "--target-column",
    ("network", "sign"): "--sign-column",
    ("network", "undirected"): "--undirected",
    ("network", "name"): "--node-names",
    ("responses", "format"): "--data-format",
    ("responses", "time"): "--time",
    ("responses", "cell_line"): "--cell-line",
}
# Lists that `gsnn infer` takes, by their names in run.json.
_LISTS = {"sources": "--sources", "targets": "--targets", "forbidden": "--forbid", "required": "--require"}


def command_of(run: Run, *, known: bool = False) -> str:
    """The shell commands that repeat a run; empty for data made in memory.

    Args:
        run: The run.
        known: Whether its ``edges.csv`` holds the known edges, too.

    Returns:
        One command a line.
    """
    sources = run.sources
    if sources.kind == "dataset":
        lines = [shlex.join(["gsnn", "demo", "--dataset", sources.name, "-o", str(run.path)])]
    elif sources.kind == "files":
        lines = [_train_command(run)]
    else:
        return ""
    inference = run.info.get("inference")
    if inference and run.edges_path.is_file():
        lines += _infer_command(run, inference, known)
    lines += _check_command(run)
    if len(lines) == 1 and sources.kind == "dataset":
        return lines[0]  # the demo writes the report too
    return "\n".join([*lines, shlex.join(["gsnn", "report", str(run.path)])])


def _train_command(run: Run) -> str:
    sources, words = run.sources, ["gsnn", "train"]
    for role, file in sources.files.items():
        words += [f"--{role}", str(file["given"])]
    for (reader, option), flag in _READER_FLAGS.items():
        value = sources.options.get(reader, {}).get(option)
        if value is not None:
            for item in value if isinstance(value, list | tuple) else [value]:
                words += [flag, str(item)]
    for option, value in (sources.options.get("responses", {}).get("anndata") or {}).items():
        for item in value if isinstance(value, list | tuple) else [value]:
            words += ["--" + option.replace("_", "-"), str(item)]
    if sources.options.get("build", {}).get("on_unmatched") == "drop":
        words.append("--drop-unmatched")
    config = run.config
    defaults = {f.name: f.default for f in fields(config)}
    for setting in _FLAGS:
        if getattr(config, setting) != defaults[setting]:
            words += ["--" + setting.replace("_", "-"), str(getattr(config, setting))]
    return shlex.join([*words, *(["--regressor"] if run.learns_regressor else []), "-o", str(run.path)])


def _infer_command(run: Run, inference: dict[str, Any], known: bool) -> list[str]:
    from gsnn.discovery.methods import DEFAULT_METHOD, METHODS

    method, options = inference["method"], inference["options"]
    own = METHODS[method].options if method in METHODS else {}
    given = {"method": ",".join(inference.get("methods") or [method])}
    for flag, name in (("score", "score"), ("agg", "layer_agg")):
        if options.get(name) != own.get(name):  # what is the method's own need not be said, and may be no choice
            given[flag] = options.get(name)
    aliases = inference.get("aliases", {"by": "reach"})
    given |= {"samples": inference["samples"], "top": inference["top"], "aliases": aliases["by"] if aliases else "none"}
    lists = [word for name, flag in _LISTS.items() for item in inference.get(name, ()) for word in (flag, item)]
    if inference.get("per_target"):
        lists += ["--per-target", str(inference["per_target"])]
    defaults = {"samples": "train", "top": None, "aliases": "reach"}
    as_the_demo = given == {"method": DEFAULT_METHOD, **defaults}
    if run.sources.kind == "dataset" and as_the_demo and not known and not lists:
        return []
    flags = [w for key, value in given.items() if value != defaults.get(key) for w in (f"--{key}", str(value))]
    flags += lists + ["--known"] * known
    return [shlex.join(["gsnn", "infer", str(run.path), *flags])]


def _check_command(run: Run) -> list[str]:
    from gsnn.discovery.methods import METHODS
    from gsnn.runs.results import read_check

    check, _ = read_check(run)
    if check is None:
        return []
    settings = check.settings
    defaults = {"fraction": 0.15, "repeats": 3, "seed": 0, "stratify": "none"}
    words = ["gsnn", "selfcheck", str(run.path)]
    if list(settings["methods"]) != [name for name, method in METHODS.items() if method.by_default]:
        words += [word for method in settings["methods"] for word in ("--method", str(method))]
    for name, default in defaults.items():
        if settings[name] != default:
            words += [f"--{name}", str(settings[name])]
    if not settings["controls"]:
        words.append("--no-controls")
    return [shlex.join(words)]
