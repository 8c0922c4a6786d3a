"""What was asked of the model of a run, in words and tables: knock-outs, explanations, the experiments to do next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from gsnn.ask.experiments import JSON as DESIGN
from gsnn.ask.explanation import JSON as EXPLANATION
from gsnn.ask.knockouts import JSON as KNOCKOUTS
from gsnn.plot.data import Section
from gsnn.report.text import number, sentence

if TYPE_CHECKING:
    from gsnn.runs import Run

_ROWS, _READOUTS, _EDGES = 20, 8, 30


def asked_sections(run: Run) -> tuple[list[Section], list[str]]:
    """The sections of what stands in the folder of a run.

    Returns:
        The sections, and a sentence for each file that does not go with the run or cannot be read.
    """
    sections, remarks = [], []
    for name, make in ((KNOCKOUTS, _knockouts), (EXPLANATION, _explanations), (DESIGN, _design)):
        path = run.path / name
        if not path.is_file():
            continue
        command = f"gsnn {path.stem}"
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told.get("run") != run.info["id"] or told.get("fingerprint") != run.info["data"]["fingerprint"]:
                remarks.append(f"{name} is of another training and not shown; repeat {command}.")
                continue
            sections += make(told)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            remarks.append(f"{name} cannot be read ({type(error).__name__}: {error}); repeat {command}.")
    return sections, remarks


def _knockouts(told: Mapping[str, Any]) -> list[Section]:
    summary, scale = pd.DataFrame(told["summary"]), dict(zip(told["readouts"], told["scale"], strict=True))
    changes = pd.Series({name: summary[name].abs().max() / scale[name] for name in told["readouts"]})
    shown = [str(name) for name in changes.sort_values(ascending=False, kind="stable").index[:_READOUTS]]
    columns = ["nodes", "strength", *(["interaction"] if "interaction" in summary else []), *shown]
    summary[columns[1:]] = summary[columns[1:]].astype(float)  # an interaction of a single one is null
    strongest = summary.iloc[0]
    notes = [
        f"Each function is held in every block at its {told['to']} state, and the prediction compared with that "
        f"without, in {told['conditions']} conditions.",
        f"The strongest is {strongest['nodes']}: a root mean square effect of "
        f"{number(float(strongest['strength']))} standard deviations of a readout.",
        "These are predictions of a model that was trained on treatments, not measurements.",
        *(f"Note: {note}." for note in told["notes"]),
    ]
    caption = f"Mean effect over the conditions, in the units of the data: the strongest {min(_ROWS, len(summary))}"
    return [
        Section("knockouts", "What do knock-outs do?", notes, [(caption, summary[columns].head(_ROWS))], "Knock-outs")
    ]


def _explanations(told: Mapping[str, Any]) -> list[Section]:
    every = [told, *told.get("others", [])]
    return [
        _explanation(one, *((f"explanation-{k}", "") if k > 1 else ("explanation", "Why")))
        for k, one in enumerate(every, start=1)
    ]


def _explanation(told: Mapping[str, Any], anchor: str, link: str) -> Section:
    edges = pd.DataFrame(told["subnetwork"], columns=["source", "target", "sign", "contribution"])
    notes = [
        f"{told['readout']} in {told['condition']} is predicted at {number(told['predicted'])}, which is "
        f"{told['difference']:+.3g} against {told['against']}. {len(edges)} edges alone carry {told['carried']:.0%} of "
        "this difference.",
        "Contributions say what the model does, not what the cell does.",
        *(f"Note: {note}." for note in told["notes"]),
    ]
    tables = [
        ("Contributions of the inputs", pd.DataFrame(told["inputs"], columns=["input", "contribution"])),
        ("Contributions of the edges of the subnetwork", edges.head(_EDGES)),
        ("Paths, with the difference that each carries alone", pd.DataFrame(told["paths"], columns=["path", "alone"])),
    ]
    title = f"Why is {told['readout']} predicted so?"
    return Section(anchor, title, notes, [(name, table) for name, table in tables if len(table)], link)


def _design(told: Mapping[str, Any]) -> list[Section]:
    batch, names = told["batch"], [one["name"] for one in told["hypotheses"]]
    notes = [
        f"{len(names)} hypotheses of the network were refitted and {told['weighed']} experiments weighed by how well "
        f"they would tell them apart, with {told['replicates']} measurements each."
    ]
    for row in batch[:3]:
        text = f"{row['rank']}. Do {row['experiment']}. "
        text += f"It raises the share of pairs of hypotheses that are told apart by {row['gain']:.0%}."
        if row["readouts"]:
            text += f" Look at {row['readouts'].replace('; ', ', ')}."
        if row["separates"]:
            some = row["separates"].split("; ")
            text += f" It separates {'; '.join(some[:3])} others."
        notes.append(text)
    notes += [sentence(note) for note in told["notes"]]
    columns = ["rank", "experiment", "kind", "cost", "gain", "separation", "pairs", "readouts"]
    hypotheses = pd.DataFrame(told["hypotheses"])[["name", "loss"]].rename(columns={"name": "hypothesis"})
    tables = [
        ("Experiments to do next", pd.DataFrame(batch)[columns]),
        ("Hypotheses, with the loss of their refits on the training samples", hypotheses),
    ]
    return [Section("next", "What to do next?", notes, tables, "Next")]
