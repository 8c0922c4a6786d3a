"""Knock-outs, explanations and the experiments to do next, in words and tables."""

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
    """The sections of the answers in the folder of a run.

    Returns:
        The sections, and a sentence for each file that does not belong to the run or cannot be read.
    """
    sections, remarks = [], []
    for name, make in ((KNOCKOUTS, _knockouts), (EXPLANATION, _explanations), (DESIGN, _design)):
        path = run.path / name
        if not path.is_file():
            continue
        command = f"gsnn {path.stem}"
        try:
            answer = json.loads(path.read_text(encoding="utf-8"))
            if answer.get("run") != run.info["id"] or answer.get("fingerprint") != run.info["data"]["fingerprint"]:
                remarks.append(f"{name} is of another training and not shown; repeat {command}.")
                continue
            sections += make(answer)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            remarks.append(f"{name} cannot be read ({type(error).__name__}: {error}); repeat {command}.")
    return sections, remarks


def _knockouts(answer: Mapping[str, Any]) -> list[Section]:
    summary, scale = pd.DataFrame(answer["summary"]), dict(zip(answer["readouts"], answer["scale"], strict=True))
    changes = pd.Series({name: summary[name].abs().max() / scale[name] for name in answer["readouts"]})
    shown = [str(name) for name in changes.sort_values(ascending=False, kind="stable").index[:_READOUTS]]
    columns = ["nodes", "strength", *(["interaction"] if "interaction" in summary else []), *shown]
    summary[columns[1:]] = summary[columns[1:]].astype(float)  # a single function has no interaction
    strongest = summary.iloc[0]
    notes = [
        f"Each function is held in every block at its {answer['to']} state, and the prediction is compared with that "
        f"without the knock-out, in {answer['conditions']} conditions.",
        f"The strongest is {strongest['nodes']}: a root mean square effect of "
        f"{number(float(strongest['strength']))} standard deviations of a readout.",
        "These are predictions of a model that was trained on treatments, not measurements.",
        *(f"Note: {note}." for note in answer["notes"]),
    ]
    caption = f"Mean effect over the conditions, in the units of the data: the strongest {min(_ROWS, len(summary))}"
    return [
        Section("knockouts", "What do knock-outs do?", notes, [(caption, summary[columns].head(_ROWS))], "Knock-outs")
    ]


def _explanations(answer: Mapping[str, Any]) -> list[Section]:
    every = [answer, *answer.get("others", [])]
    return [
        _explanation(one, *((f"explanation-{k}", "") if k > 1 else ("explanation", "Why")))
        for k, one in enumerate(every, start=1)
    ]


def _explanation(answer: Mapping[str, Any], anchor: str, link: str) -> Section:
    edges = pd.DataFrame(answer["subnetwork"], columns=["source", "target", "sign", "contribution"])
    paths = pd.DataFrame(answer["paths"], columns=["path", "alone"])
    notes = [
        f"{answer['readout']} in {answer['condition']} is predicted at {number(answer['predicted'])}, which is "
        f"{answer['difference']:+.3g} against {answer['against']}. {len(edges)} edges alone carry "
        f"{answer['carried']:.0%} of this difference.",
        "Contributions say what the model does, not what the cell does.",
        *(f"Note: {note}." for note in answer["notes"]),
    ]
    tables = [
        ("Contributions of the inputs", pd.DataFrame(answer["inputs"], columns=["input", "contribution"])),
        ("Contributions of the edges of the subnetwork", edges.head(_EDGES)),
        ("Paths, with the difference that each carries alone", paths),
    ]
    title = f"Why is {answer['readout']} predicted so?"
    return Section(anchor, title, notes, [(name, table) for name, table in tables if len(table)], link)


def _design(answer: Mapping[str, Any]) -> list[Section]:
    batch, names = answer["batch"], [one["name"] for one in answer["hypotheses"]]
    notes = [
        f"{len(names)} hypotheses about the network were refitted, and {answer['weighed']} experiments were ranked by "
        f"how well they would tell the hypotheses apart, with {answer['replicates']} measurements each."
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
    notes += [sentence(note) for note in answer["notes"]]
    columns = ["rank", "experiment", "kind", "cost", "gain", "separation", "pairs", "readouts"]
    hypotheses = pd.DataFrame(answer["hypotheses"])[["name", "loss"]].rename(columns={"name": "hypothesis"})
    tables = [
        ("Experiments to do next", pd.DataFrame(batch)[columns]),
        ("Hypotheses, with the loss of their refits on the training samples", hypotheses),
    ]
    return [Section("next", "What to do next?", notes, tables, "Next")]
