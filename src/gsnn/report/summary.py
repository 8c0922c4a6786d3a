"""The few sentences at the top of a report: what was found, and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gsnn.plot.data import Check, ReportData
from gsnn.report.text import capitalised, number

BEST = 50  # candidates a reader may want to test


@dataclass(frozen=True)
class Answer:
    """A question a reader has, and the answer of the run.

    Attributes:
        question: The question.
        short: The answer in a word or a number.
        text: The answer in a sentence or two.
        tone: good, unsure or bad.
        link: Section that shows it.
    """

    question: str
    short: str
    text: str
    tone: str
    link: str


def answers(data: ReportData) -> list[Answer]:
    """The answers at the top of the page, as far as the run can give them."""
    check = data.check
    every = [
        _fit(data),
        _found(check),
        _expected(data.candidates, check),
        _refined(data),
        _warnings(len(data.warnings)),
    ]
    return [answer for answer in every if answer is not None]


def _fit(data: ReportData) -> Answer | None:
    verdict = data.fit_verdict
    if verdict is None:
        return None
    model, mean = (data.pooled.get(name, float("nan")) for name in ("model", "mean"))
    figures = f"R² {number(float(model))}, of the training mean {number(float(mean))}."
    return Answer("Does the model fit?", verdict.short, f"{verdict.text} {figures}", verdict.tone, "fit")


def _found(check: Check | None) -> Answer:
    question = "Can edges be found in these data?"
    if check is None:
        text = (
            "No self-check has been run, so nothing here says how good the ranking is. It hides known edges and counts "
            "how many come back."
        )
        return Answer(question, "not checked", text, "unsure", "selfcheck")
    verdict = check.verdict
    if verdict is None:
        text = "The self-check does not cover the method that ranked these candidates."
        return Answer(question, "not checked", text, "unsure", "selfcheck")
    text, tone = verdict.text, verdict.tone
    controls = check.controls
    controls = controls[(controls["method"] == check.method) & (controls["negatives"] == "degree-matched")]
    blind = [str(name) for name in controls.loc[controls["verdict"] == "no power", "condition"]]
    if blind:
        n = int(controls["n_positives"].min())
        text += f" The controls ({', '.join(blind)}) have no power: {n} hidden edges are too few to show a false find."
        tone = "unsure" if tone == "good" else tone
    elif not len(controls):
        text += " No control was run."
    elif tone == "good":
        text += " The controls show nothing where there is nothing to find."
    return Answer(question, verdict.short, text, tone, "selfcheck")


def _refined(data: ReportData) -> Answer | None:
    verdict = data.refine_verdict
    if verdict is None:
        return None
    return Answer("Did adding candidates help?", verdict.short, capitalised(verdict.text), verdict.tone, "refine")


def _expected(candidates: pd.DataFrame, check: Check | None) -> Answer | None:
    if "expected_precision" not in candidates.columns:
        return None
    best = candidates[candidates["rank"].notna() & (candidates["rank"] <= BEST)]
    table = best[best["expected_precision"].notna()]
    if table.empty:
        if "precision_low" not in best.columns or not best["precision_low"].notna().any():
            return None
        text = (
            f"The expected precision is not estimable for any of the best {int(best['rank'].max())} candidates: its "
            "interval is wider than one half, because too few known edges could be hidden."
        )
        return Answer("How many of the best are edges?", "not known", text, "unsure", "selfcheck")
    row = table.iloc[-1]
    k = int(row["rank"])
    expected, low, high = (k * float(row[name]) for name in ("expected_precision", "precision_low", "precision_high"))
    are = "is expected to be a missing edge" if round(expected) == 1 else "are expected to be missing edges"
    text = (
        f"Of the best {k} candidates about {expected:.0f} {are} "
        f"({np.floor(low):.0f} to {np.ceil(high):.0f}), if the missing edges are like the known ones."
    )
    chance = k * float(row.get("precision_chance", float("nan")))
    if np.isfinite(chance):
        text += f" Guessing finds {f'{chance:.1f}' if chance >= 0.1 else 'less than 0.1'}."
    verdict = None if check is None else check.verdict
    failed = verdict is not None and verdict.tone == "bad"
    if verdict is not None and failed:
        text += f" But the ranking is {verdict.short}: this number says nothing about what the data add."
    tone = "good" if low >= 0.2 * k and not failed else "unsure"
    return Answer("How many of the best are edges?", f"{expected:.0f} of {k}", text, tone, "selfcheck")


def _warnings(n: int) -> Answer:
    question = "Is anything odd about the data?"
    if not n:
        return Answer(question, "no", "Reading the network and the responses gave no warning.", "good", "data")
    text = "Nothing can be learnt about parts of the network that no treatment or readout touches; read the warnings."
    return Answer(question, "1 warning" if n == 1 else f"{n} warnings", text, "unsure", "data")
