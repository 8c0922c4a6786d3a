"""From a run folder to what its report shows."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gsnn.ask.explanation import graph_edges
from gsnn.base.verdict import at_run
from gsnn.graph import EDGE_TYPES
from gsnn.graph.kinds import FUNCTION_EDGES, INPUT_EDGES, KINDS, OUTPUT_EDGES, short_kind
from gsnn.plot.check_tables import agreement, check_tables, hidden_ranks, method_ranks
from gsnn.plot.data import COLUMNS, Check, ReportData
from gsnn.report.asked import asked_sections
from gsnn.report.members import by_kind, members_section
from gsnn.report.text import number, sentence
from gsnn.runs.results import after_check, model_verdict
from gsnn.runs.sample import run_sample
from gsnn.training.verdict import r_meaning

if TYPE_CHECKING:
    from gsnn.base.verdict import Verdict
    from gsnn.data import PerturbationData, Split
    from gsnn.graph import Graph
    from gsnn.runs import Run
    from gsnn.training.baselines import FitReport

HIDDEN = "hidden edges"
STEPS = ("train", "train longer", "infer", "selfcheck")
_FEWEST = 3  # samples that can be read


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
    split = run.split()
    data, test = _data(run, split)
    graph, known = data.graph, graph_edges(data.graph)
    training = run.info.get("training", {})
    sources = run.sources
    name = sources.name or (Path(sources.files["graph"]["given"]).name if "graph" in sources.files else run.path.name)
    summary = {
        "samples": run.info["data"]["samples"],
        "trained on": len(split.train),
        **({"validated on": len(split.validation)} if len(split.validation) else {}),
        f"held out, by {split.by}": len(split.test),
        "treatments": graph.I,
        "readouts": graph.O,
        "function nodes": graph.N,
        "known edges between them": len(graph.function_edges),
        **_signs(graph),
        "functions no input reaches": len(graph.unreached_functions),
        "functions that reach no readout": len(graph.dead_end_functions),
        "missing responses": None if data.drawn else int(data.outputs.isna().to_numpy().sum()),
        "parameters": training.get("parameters"),
        "epochs": training.get("epochs"),
        "seconds of training": _rounded(training.get("seconds")),
    }
    has_edges = run.edges_path.is_file()
    inference = run.info.get("inference") if has_edges else None
    edges = run.edges() if has_edges else pd.DataFrame({column: [] for column in COLUMNS["edges"]})
    if "kind" in edges:
        edges = edges.assign(kind=edges["kind"].map({name: short_kind(name) for name in KINDS}))
    method = str(inference["method"]) if inference else ""
    check, agrees, remarks = _self_check(run, inference)
    audit, audit_remarks = _audit(run)
    asked, asked_remarks = asked_sections(run)
    verdict = model_verdict(run)
    refinement = _refinement(run)
    agreeing = members_section(run, data, test, inference, edges)
    notes = [*([_method_note(inference)] if inference else []), *remarks, *audit_remarks, *asked_remarks]
    candidates = edges[~edges["known"].astype(bool).to_numpy()]
    return ReportData(
        title=f"Edges proposed for {name}",
        config={
            "training": run.config.to_dict(),
            "inference": inference,
            "sources": {
                "kind": sources.kind,
                "name": sources.name,
                "files": {
                    # Where a package keeps its files says more about the machine than about the run.
                    role: {
                        "file": Path(file["given"]).name if sources.name else file["given"],
                        "sha256": file["sha256"],
                    }
                    for role, file in sources.files.items()
                },
                "options": {reader: dict(given) for reader, given in sources.options.items()},
            },
            "versions": run.info.get("versions", {}),
        },
        command=_commands(run),
        summary={label: value for label, value in summary.items() if value is not None},
        warnings=run.warnings,
        history=run.metrics(),
        fit=pd.DataFrame(
            {"readout": fit.readouts["readout"], "n": fit.readouts["n"]}
            | {predictor: fit.readouts[f"{predictor}_r2"] for predictor in ("model", "ridge", "mean")}
        ),
        pooled={predictor: float(fit.summary["pooled_r2"][predictor]) for predictor in ("model", "ridge", "mean")},
        predictions=_predictions(run, data, test),
        edges=edges,
        network=known[known["kind"] == FUNCTION_EDGES],
        functions=list(graph.functions),
        treated=_ends(known, INPUT_EDGES, "target", "source"),
        measured=_ends(known, OUTPUT_EDGES, "source", "target"),
        notes=notes,
        method=method,
        samples=int(inference["n"]) if inference else 0,
        n_candidates=int(inference.get("candidates", 0)) if inference else 0,
        table_notes=_table_notes(inference),
        check=check,
        agreement=pd.concat([agreement(method_ranks(candidates, method), "candidates"), agrees], ignore_index=True),
        folder=shlex.quote(str(run.path)),
        fit_notes=[*_correlations(fit), *_drawn_note(data)],
        fit_verdict=verdict,
        next_step=at_run(_next(run, verdict, refinement.get("refine_verdict")), run.path),
        asked=[*([agreeing] if agreeing else []), *asked],
        **audit,
        **refinement,
    )


def _next(run: Run, fit: Verdict, refined: Verdict | None) -> str:
    """The next step by the last command, unless the model must first be trained in another way."""
    checked = after_check(run)
    if fit.tone == "bad" and not (checked and "selfcheck" in fit.next):
        return fit.next
    return refined.next if refined is not None else checked or fit.next


def _data(run: Run, split: Split) -> tuple[PerturbationData, np.ndarray]:
    """Samples in memory, and which of them were held out; if samples stay in their files, some held-out ones."""
    if not run.sources.streamed:
        return run.data(), split.test
    enough = len(split.test) >= _FEWEST
    data = run_sample(run, part="test" if enough else None)
    return data, np.arange(len(data) if enough else 0)


def _drawn_note(data: PerturbationData) -> list[str]:
    """How many of the held-out samples the predictions are of, where not all are shown."""
    if data.drawn is None or not data.drawn.partial:
        return []
    return [
        f"The predictions shown are of {data.drawn.used:,} of {data.drawn.of:,} held-out samples, drawn at random, "
        "because the samples stay in their files. The figures of the fit are of all of them."
    ]


def _commands(run: Run) -> str:
    """The shell commands that made this run, one a line; empty if Python did."""
    noted = run.info.get("commands", {})
    # A demo trains, infers and writes the report in one.
    commands = [text for text in dict.fromkeys(noted.get(step) for step in STEPS) if text]
    if not noted.get("train") or (len(commands) == 1 and run.sources.kind == "dataset"):
        return "".join(commands[:1]) if noted.get("train") else ""
    return "\n".join([*commands, shlex.join(["gsnn", "report", str(run.path)])])


def _self_check(run: Run, inference: dict[str, Any] | None) -> tuple[Check | None, pd.DataFrame, list[str]]:
    """The self-check in the folder of a run, how its methods agree on the hidden edges, and remarks."""
    from gsnn.discovery.methods import METHODS
    from gsnn.runs.results import read_check

    remarks = _checks_of_others(run, inference)
    check, note = read_check(run)
    if check is None:
        return None, agreement(pd.DataFrame(), HIDDEN), [*([sentence(note)] if note else []), *remarks]
    if not check.complete:
        remarks.append(f"The self-check is not finished: {len(check.repeats)} of {check.settings['repeats']} repeats.")
    method = ""
    if inference is not None:
        method = str(inference["method"])
        own = METHODS[method].options if method in METHODS else None
        if method not in check.methods or own != inference["options"]:
            remarks.append(f"The self-check did not cover the method '{method}' with the options of this ranking.")
            method = ""
    return check_tables(check, method), agreement(hidden_ranks(check), HIDDEN, top=None), remarks


def _table_notes(inference: dict[str, Any] | None) -> list[str]:
    """What a reader of the table should know."""
    from gsnn.runs.inference.columns import members_note, no_targets_note, structure_note

    if inference is None:
        return []
    notes = list(inference.get("notes", ()))
    for kind, how in by_kind(inference).items():
        if how.get("members"):
            notes.append(members_note(how["members"], kind))
    if inference.get("structure"):
        notes.append(structure_note(inference["structure"]))
    if inference.get("no_targets"):
        notes.append(no_targets_note(inference["no_targets"]))
    return [sentence(note) for note in notes]


def _checks_of_others(run: Run, inference: dict[str, Any] | None) -> list[str]:
    """What the self-checks of edges from inputs and to outputs say about the method that ranked them."""
    from gsnn.runs.results import read_check

    remarks = []
    for kind, how in by_kind(inference).items():
        if kind in ("", FUNCTION_EDGES):
            continue
        check, note = read_check(run, kind)
        if check is None or how["method"] not in check.methods:
            remarks.append(sentence(note or f"no self-check of {kind} edges by the method '{how['method']}'"))
            continue
        remarks.append(f"Self-check of {kind} edges by '{how['method']}': {check.verdicts()[how['method']]}")
    return remarks


def _audit(run: Run) -> tuple[dict[str, Any], list[str]]:
    """The audit in the folder of a run as arguments of `ReportData`, and remarks."""
    from gsnn.runs.repairs import read_run_repairs
    from gsnn.runs.results import read_audit

    audit, note = read_audit(run)
    if audit is None:
        return {}, [sentence(note)] if note else []
    notes = [*map(sentence, audit.warnings), *audit.notes]
    shown = {"audit": audit.table(), "audit_summary": audit.summary(), "audit_notes": notes}
    if run.repairs_path.is_file():
        shown["repairs"] = read_run_repairs(run)
    return shown, []


def _refinement(run: Run) -> dict[str, Any]:
    """The refinement in the folder of a run as arguments of `ReportData`; nothing if it is of other data."""
    from gsnn.runs.results import read_refinement

    refinement = read_refinement(run)
    if refinement is None:
        return {}
    edges = refinement.table()
    kept = edges[edges["kept"] & (edges["arm"] == "inferred")]
    return {
        "refinement": refinement.summary(),
        "refined": kept[["round", "source", "target", "kind", "gain", "p"]],
        "refine_verdict": refinement.verdict(),
    }


def _correlations(fit: FitReport) -> list[str]:
    """Pooled r of the model beside what it must beat, without which an r says nothing."""
    figures = ("folds", "of", "readouts")

    def listed(r: dict[str, float]) -> str:
        return ", ".join(f"{name} {number(value)}" for name, value in r.items() if name not in figures)

    notes = []
    if fit.correlation:
        notes.append(
            f"Pearson's r over all held-out values, in the units of the data: {listed(fit.correlation)}; "
            f"{r_meaning(fit.correlation)}."
        )
    if fit.left_out:
        notes.append(
            f"The r to beat, from all samples with every condition left out once ({fit.left_out['folds']:.0f} folds): "
            f"{listed(fit.left_out)}."
        )
    return notes


def _signs(graph: Graph) -> dict[str, int]:
    """Number of known edges between functions by sign; nothing for an unsigned graph."""
    if graph.edge_sign_dict is None:
        return {}
    sign = graph.edge_sign_dict[EDGE_TYPES[0]].numpy()
    names = (("activating edges", 1), ("inhibiting edges", -1), ("edges of unknown sign", 0))
    return {name: int((sign == value).sum()) for name, value in names}


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


def _ends(edges: pd.DataFrame, kind: str, function: str, other: str) -> dict[str, list[str]]:
    """Function node -> the nodes at the other ends of its edges of a kind."""
    groups = edges[edges["kind"] == kind].groupby(function, sort=False)[other]
    return {str(name): ends.tolist() for name, ends in groups}
