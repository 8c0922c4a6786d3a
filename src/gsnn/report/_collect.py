"""From a run folder to what its report shows."""

from __future__ import annotations

import math
import shlex
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gsnn.report._data import COLUMNS, ReportData

if TYPE_CHECKING:
    from gsnn.data import PerturbationData
    from gsnn.graph import Graph
    from gsnn.runs import Run

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
    ("responses", "format"): "--data-format",
    ("responses", "time"): "--time",
}


def collect(run: Run) -> ReportData:
    """Read everything a report shows from a run.

    Args:
        run: A run whose training is complete. Its data are read again from their files; edges are shown if they have
            been inferred.

    Returns:
        The tables and numbers.

    Raises:
        RunError: If training is not complete, or a file of the data changed or is gone.
    """
    fit = run.fit_report()
    data = run.data()
    graph = data.graph
    split = run.split()
    training = run.info.get("training", {})
    kinds = run.sources
    name = kinds.name or (Path(kinds.files["graph"]["given"]).name if "graph" in kinds.files else run.path.name)
    summary = {
        "samples": len(data),
        "trained on": len(split.train),
        "validated on": len(split.validation),
        f"held out, by {split.by}": len(split.test),
        "treatments": graph.I,
        "readouts": graph.O,
        "function nodes": graph.N,
        "known edges between them": len(graph.function_edges),
        "missing responses": int(data.outputs.isna().to_numpy().sum()),
        "parameters": training.get("parameters"),
        "epochs": training.get("epochs"),
        "seconds of training": _rounded(training.get("seconds")),
    }
    has_edges = run.edges_path.is_file()
    inference = run.info.get("inference") if has_edges else None
    return ReportData(
        title=f"Edges proposed for {name}",
        config={
            "training": run.config.to_dict(),
            "inference": inference,
            "sources": {
                "kind": kinds.kind,
                "name": kinds.name,
                "files": {
                    # Where a package keeps its files says more about the machine than about the run.
                    role: {"file": Path(file["given"]).name if kinds.name else file["given"], "sha256": file["sha256"]}
                    for role, file in kinds.files.items()
                },
                "options": {reader: dict(given) for reader, given in kinds.options.items()},
            },
            "versions": run.info.get("versions", {}),
        },
        command=command_of(run),
        summary={label: value for label, value in summary.items() if value is not None},
        warnings=run.warnings,
        history=run.metrics(),
        fit=pd.DataFrame(
            {"readout": fit.readouts["readout"], "n": fit.readouts["n"]}
            | {predictor: fit.readouts[f"{predictor}_r2"] for predictor in ("model", "ridge", "mean")}
        ),
        pooled={predictor: float(fit.summary["pooled_r2"][predictor]) for predictor in ("model", "ridge", "mean")},
        predictions=_predictions(run, data, split.test),
        edges=run.edges() if has_edges else pd.DataFrame({column: [] for column in COLUMNS["edges"]}),
        network=_network(graph),
        functions=list(graph.functions),
        treated=_ends(graph, "input"),
        measured=_ends(graph, "output"),
        notes=[_method_note(inference)] if inference else [],
    )


def command_of(run: Run) -> str:
    """The shell commands that repeat a run; empty for data made in memory.

    Args:
        run: The run.

    Returns:
        One command a line.
    """
    sources = run.sources
    words = ["gsnn"]
    if sources.kind == "dataset":
        return shlex.join([*words, "demo", "--dataset", sources.name, "-o", str(run.path)])
    if sources.kind != "files":
        return ""
    words.append("train")
    for role, file in sources.files.items():
        words += [f"--{role}", str(file["given"])]
    for (reader, option), flag in _READER_FLAGS.items():
        value = sources.options.get(reader, {}).get(option)
        if value is not None:
            for item in value if isinstance(value, list | tuple) else [value]:
                words += [flag, str(item)]
    if sources.options.get("build", {}).get("on_unmatched") == "drop":
        words.append("--drop-unmatched")
    config = run.config
    defaults = {f.name: f.default for f in fields(config)}
    for setting in _FLAGS:
        if getattr(config, setting) != defaults[setting]:
            words += ["--" + setting.replace("_", "-"), str(getattr(config, setting))]
    lines = [shlex.join([*words, "-o", str(run.path)])]
    inference = run.info.get("inference")
    if inference and run.edges_path.is_file():
        options = inference["options"]
        given = {"method": inference["method"], "score": options.get("score"), "agg": options.get("layer_agg")}
        given |= {"samples": inference["samples"], "top": inference["top"]}
        flags = [word for key, value in given.items() if value is not None for word in (f"--{key}", str(value))]
        lines.append(shlex.join(["gsnn", "infer", str(run.path), *flags]))
    return "\n".join([*lines, shlex.join(["gsnn", "report", str(run.path)])])


def _method_note(inference: dict[str, Any]) -> str:
    options = ", ".join(f"{name}={value}" for name, value in inference["options"].items())
    return (
        f"Edges were inferred by the method '{inference['method']}' ({options}) from {inference['n']} samples "
        f"({inference['samples']})." + (f" Only the best {inference['top']} were kept." if inference["top"] else "")
    )


def _rounded(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else round(value)


def _predictions(run: Run, data: PerturbationData, rows: np.ndarray) -> pd.DataFrame:
    """Observed and predicted responses of the given samples, in the units of the data, one row per measured value."""
    from gsnn.training import predict

    predicted = run.standardiser().inverse_transform(predict(run.model(), data.x[rows]))
    table = data.outputs.iloc[rows]
    labels = [_condition(row, data.graph.inputs) for row in data.inputs.iloc[rows].to_numpy()]
    n = len(labels)
    return pd.DataFrame(
        {
            "readout": np.repeat(np.asarray(table.columns, dtype=object), n),
            "condition": labels * table.shape[1],
            "observed": table.to_numpy(dtype=float).T.reshape(-1),
            "predicted": predicted.T.reshape(-1),
        }
    ).dropna(subset=["observed"])


def _condition(values: np.ndarray, names: tuple[str, ...]) -> str:
    on = [f"{name}={value:g}" for name, value in zip(names, values, strict=True) if value]
    return ", ".join(on[:6]) + (f" and {len(on) - 6} more" if len(on) > 6 else "") if on else "no treatment"


def _network(graph: Graph) -> pd.DataFrame:
    kind = ("function", "to", "function")
    source, target = graph.edge_index_dict[kind].numpy()
    names = np.asarray(graph.functions, dtype=object)
    signs = graph.edge_sign_dict
    sign = signs[kind].numpy() if signs is not None else np.zeros(len(source), np.int8)
    return pd.DataFrame({"source": names[source], "target": names[target], "sign": sign})


def _ends(graph: Graph, what: str) -> dict[str, list[str]]:
    """Function node -> the inputs that feed it, or the outputs it feeds."""
    kind = ("input", "to", "function") if what == "input" else ("function", "to", "output")
    first, second = graph.edge_index_dict[kind].tolist()
    pairs = zip(second, first, strict=True) if what == "input" else zip(first, second, strict=True)
    others = graph.inputs if what == "input" else graph.outputs
    ends: dict[str, list[str]] = {}
    for node, other in pairs:
        ends.setdefault(graph.functions[node], []).append(others[other])
    return ends
