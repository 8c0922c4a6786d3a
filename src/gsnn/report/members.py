"""How far the members of a run agree, in words and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gsnn.ask.conditions import name_of
from gsnn.ask.ensemble import Ensemble
from gsnn.plot.data import Section
from gsnn.report.text import number, sentence
from gsnn.runs.inference.columns import members_note
from gsnn.training.loop import predict

if TYPE_CHECKING:
    from gsnn.data import PerturbationData
    from gsnn.runs import Run

_ROWS = 20


def members_section(
    run: Run, data: PerturbationData, rows: np.ndarray, inference: dict[str, Any] | None, edges: pd.DataFrame
) -> Section | None:
    """What the members of a run agree on.

    Args:
        run: A run whose training is complete.
        data: Its samples, or some of them.
        rows: Which of these were held out.
        inference: The entry of its inference in ``run.json``; None before any.
        edges: Its candidates, the best first.

    Returns:
        The section; None for a run without members.
    """
    if not run.n_members:
        return None
    ranked = {kind: how for kind, how in by_kind(inference).items() if how.get("members")}
    notes = [sentence(members_note(how["members"], kind)) for kind, how in ranked.items()]
    if not notes:
        notes = ["Edges have not been inferred from the members."]
    tables = []
    if "worst_rank" in edges:
        columns = [name for name in ("rank", "worst_rank", "source", "target", "kind") if name in edges]
        best = edges.loc[~edges["known"].astype(bool), columns].dropna(subset=["rank"]).head(_ROWS)
        if len(best):
            tables.append(("The best candidates, with the worst rank that a member gives them", best))
    readouts, words = _predictions(run, data, rows)
    if len(readouts):
        notes.append(words)
        tables.append(("How far members differ in held-out conditions, in standard deviations of a readout", readouts))
    return Section("members", "Do the members agree?", notes, tables, "Members")


def by_kind(inference: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The entry of an inference in ``run.json`` by the kind of edges; the kind is empty if there is only one."""
    return (inference.get("kinds") or {"": inference}) if inference else {}


def _predictions(run: Run, data: PerturbationData, rows: np.ndarray) -> tuple[pd.DataFrame, str]:
    """For each readout the spread of the members and the error of their mean on held-out samples, and a sentence."""
    if not len(rows):
        return pd.DataFrame(), ""
    ensemble = Ensemble.of(run)
    y = np.asarray(run.standardiser().transform(data.y[rows]), dtype=np.float64)
    predicted = np.stack([predict(member, data.x[rows]) for member in ensemble.members])
    square = (y - predicted.mean(0)) ** 2
    seen = np.isfinite(square)
    n = seen.sum(0)
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.where(seen, square, 0.0).sum(0) / n)
    spread = np.sqrt(predicted.var(0, ddof=1).mean(0))
    table = pd.DataFrame(
        {"readout": [name_of(name) for name in data.graph.outputs], "members differ by": spread, "their error": error}
    )[n > 0].sort_values("their error", ascending=False, kind="stable", ignore_index=True)
    ratio = float(np.sqrt((spread[n > 0] ** 2).mean() / (error[n > 0] ** 2).mean())) if len(table) else float("nan")
    words = (
        f"In {len(rows)} held-out samples single members differ by {number(ratio)} times the error of their mean. "
        + (
            "Most of the error is common to all of them: noise of the data, or edges that the network lacks."
            if ratio < 1
            else "They differ by more than they err: more conditions would help."
        )
    )
    return table.head(_ROWS), words
