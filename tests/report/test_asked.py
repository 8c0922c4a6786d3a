"""Sections on members, knock-outs, explanations and what to do next."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.base.errors import DataError
from gsnn.report.contents import collect
from gsnn.report.html import render
from gsnn.runs import Run, infer_run
from gsnn.runs.design import design_run
from gsnn.runs.explain import explain_run, explain_worst
from gsnn.runs.knockout import knockout_run
from gsnn.runs.train import train_files


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run with hostile names, of which everything was asked."""
    folder = tmp_path_factory.mktemp("asked")
    edges = ["f0\t1\t<b>f1</b>", "<b>f1</b>\t1\tf2", "f0\t-1\tf2", "f2\t1\tf3"]
    (folder / "network.sif").write_text("\n".join(edges) + "\n")
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(30, 1)).round(2), columns=["TR:f0"])
    y = pd.DataFrame(rng.normal(size=(30, 2)), columns=["DV:f2", "DV:f3"])
    pd.concat([x, y], axis=1).to_csv(folder / "data.csv", index=False)
    settings = {"epochs": 2, "channels": 2, "layers": 4}
    files = {"graph": folder / "network.sif", "data": folder / "data.csv"}
    made = train_files(folder / "run", **files, settings=settings, members=3)[0]
    infer_run(made, method="gradient-explained")
    knockout_run(made, picture="")
    explain_worst(made, 2, picture="")
    design_run(made, hypotheses=2, batch=2, epochs=1, picture="")
    return made


def test_what_was_asked_is_told(run):
    data = collect(run)
    assert [section.anchor for section in data.asked] == [
        "members",
        "knockouts",
        "explanation",
        "explanation-2",
        "next",
    ]
    assert {section.title for section in data.asked[2:4]} == {"Why is f2 predicted so?", "Why is f3 predicted so?"}
    page = render(data).split("<script")[0]
    for title in ("What do knock-outs do?", "Why is", "What to do next?"):
        assert title in page
    assert "1. Do " in page
    assert "Assumed: one of the hypotheses is true" in page
    assert "<b>f1</b>" not in page
    assert "&lt;b&gt;f1&lt;/b&gt;" in page


def test_the_worst_readouts_come_first(run):
    fit = run.fit_report().readouts.set_index("readout")["model_r2"]
    first, second = explain_worst(run, 2, picture="")
    assert fit[f"DV:{first.readout}"] <= fit[f"DV:{second.readout}"]
    alone = explain_run(run, picture="")
    assert (alone.readout, alone.condition) == (first.readout, first.condition)
    assert [section.anchor for section in collect(run).asked] == ["members", "knockouts", "explanation", "next"]
    table = pd.read_csv(explain_worst(run, 2, picture="") and run.path / "explain.csv")
    assert list(table["readout"].unique()) == [first.readout, second.readout]
    with pytest.raises(DataError, match="at least 1, got 0"):
        explain_worst(run, 0)


def test_members_are_compared_by_ranks_and_by_predictions(run):
    section = next(section for section in collect(run).asked if section.anchor == "members")
    assert section.notes[0].startswith("Ranks are averaged over 3 members")
    (_, ranked), (_, readouts) = section.tables
    assert (ranked["worst_rank"] >= ranked["rank"]).any()
    data, rows = run.data(), run.split().test
    y = run.standardiser().transform(data.y[rows])
    told = [member.model(torch.from_numpy(data.x[rows])).detach().numpy() for member in run.members()]
    by_name = readouts.set_index("readout")
    for column, name in enumerate(["f2", "f3"]):
        error, variance = [], []
        for sample in range(len(rows)):
            values = [each[sample, column] for each in told]
            error.append((y[sample, column] - np.mean(values)) ** 2)
            variance.append(np.var(values, ddof=1))
        assert by_name.loc[name, "their error"] == pytest.approx(np.mean(error) ** 0.5, rel=1e-4)
        assert by_name.loc[name, "members differ by"] == pytest.approx(np.mean(variance) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("content", ["{", "[]", '{"run": 1}'])
def test_a_file_that_does_not_go_with_the_run_is_left_out(run, tmp_path, content):
    path = run.path / "knockout.json"
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(content, encoding="utf-8")
        data = collect(Run.open(run.path))
        assert [section.anchor for section in data.asked] == ["members", "explanation", "explanation-2", "next"]
        assert any("knockout.json" in note and "gsnn knockout" in note for note in data.notes)
        told = json.loads(before)
        del told["summary"]
        path.write_text(json.dumps(told), encoding="utf-8")
        assert "cannot be read" in collect(Run.open(run.path)).notes[-1]
    finally:
        path.write_text(before, encoding="utf-8")
