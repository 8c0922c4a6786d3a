"""The few sentences at the top of a report: what was found, and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gsnn.plot.data import Check, ReportData
from gsnn.report.text import number, percent

__all__ = ["Answer", "answers"]

BEST = 50  # candidates a reader may want to test
CLOSE = 0.02  # R2 within which two predictors count as equal


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
    """The answers that lead the page, those the run can give."""
    found = [_fit(data), _found(data.check), _expected(data.candidates), _warnings(len(data.warnings))]
    return [answer for answer in found if answer is not None]


def _fit(data: ReportData) -> Answer | None:
    model, ridge, mean = (data.pooled.get(name, float("nan")) for name in ("model", "ridge", "mean"))
    if not np.isfinite(model):
        return None
    figures = f"R² on conditions the model never saw; ridge regression on the treatments reaches {number(float(ridge))}"
    figures += f", the training mean {number(float(mean))}."
    best = float(np.nanmax([ridge, mean])) if np.isfinite([ridge, mean]).any() else float("nan")
    if not model > mean or model <= 0:
        tone, verdict = "bad", "No better than a constant: candidates from this model mean little."
    elif model > best + CLOSE:
        tone, verdict = "good", "Better than both. A good fit alone does not show that the network is right."
    elif model >= best - CLOSE:
        tone, verdict = "unsure", "No better than ridge, which knows no network, so the fit says little about it."
    else:
        tone, verdict = "bad", "Worse than ridge, which knows no network: train longer or change the settings."
    return Answer("Does the model fit?", number(float(model)), f"{figures} {verdict}", tone, "fit")


def _found(check: Check | None) -> Answer:
    question = "Can edges be found in these data?"
    if check is None:
        text = (
            "No self-check has been run, so nothing here says how good the ranking is. It hides known edges and counts "
            "how many come back."
        )
        return Answer(question, "not checked", text, "unsure", "selfcheck")
    summary = check.summary
    row = summary[
        (summary["condition"] == "real")
        & (summary["negatives"] == "degree-matched")
        & (summary["method"] == check.method)
    ]
    if row.empty or not np.isfinite(row["roc_auc"].iloc[0]):
        text = "The self-check does not cover the method that ranked these candidates."
        return Answer(question, "not checked", text, "unsure", "selfcheck")
    auc, low, high = (float(row[name].iloc[0]) for name in ("roc_auc", "auc_low", "auc_high"))
    text = (
        f"AUC: a hidden known edge outranks a pair of similar degree in {percent(auc)} of comparisons "
        f"({percent(low).removesuffix(' %')}–{percent(high)}); guessing gives 50 %."
    )
    controls = check.controls
    controls = controls[(controls["method"] == check.method) & (controls["negatives"] == "degree-matched")]
    failed = [str(name) for name in controls.loc[[p is False for p in controls["passed"]], "condition"]]
    if failed:
        return Answer(
            question, number(auc, 2), f"{text} But the control fails ({', '.join(failed)}).", "bad", "selfcheck"
        )
    blind = [str(name) for name in controls.loc[controls["verdict"] == "no power", "condition"]]
    if blind:
        n = int(controls["n_positives"].min())
        text += f" The controls ({', '.join(blind)}) have no power: {n} hidden edges are too few to show a false find."
    else:
        text += " The controls show nothing where nothing is to be found." if len(controls) else " No control was run."
    tone = "good" if low > 0.5 and not blind else "unsure"
    return Answer(question, number(auc, 2), text, tone, "selfcheck")


def _expected(candidates: pd.DataFrame) -> Answer | None:
    if "expected_precision" not in candidates.columns:
        return None
    best = candidates[candidates["rank"].notna() & (candidates["rank"] <= BEST)]
    table = best[best["expected_precision"].notna()]
    if table.empty:
        if "precision_low" not in best.columns or not best["precision_low"].notna().any():
            return None
        text = (
            f"For none of the best {int(best['rank'].max())} candidates is the expected precision estimable: its "
            "interval is wider than one half, because too few known edges could be hidden."
        )
        return Answer("How many of the best are edges?", "not known", text, "unsure", "selfcheck")
    row = table.iloc[-1]
    k = int(row["rank"])
    expected, low, high = (k * float(row[name]) for name in ("expected_precision", "precision_low", "precision_high"))
    text = (
        f"Of the best {k} candidates about {expected:.0f} are expected to be missing edges "
        f"({np.floor(low):.0f} to {np.ceil(high):.0f}), if the missing edges are like the known ones."
    )
    chance = k * float(row.get("precision_chance", float("nan")))
    if np.isfinite(chance):
        text += f" Guessing finds {number(chance, 1)}."
    tone = "good" if low >= 0.2 * k else "unsure"
    return Answer("How many of the best are edges?", f"{expected:.0f} of {k}", text, tone, "selfcheck")


def _warnings(n: int) -> Answer:
    question = "Is anything odd about the data?"
    if not n:
        return Answer(question, "no", "Reading the network and the responses gave no warning.", "good", "data")
    text = "Parts of the network that no treatment or readout touches cannot be learnt about; read the warnings."
    return Answer(question, "1 warning" if n == 1 else f"{n} warnings", text, "unsure", "data")
