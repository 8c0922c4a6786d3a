"""Sections on knock-outs, an explanation and what to do next."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gsnn.report.contents import collect
from gsnn.report.html import render
from gsnn.runs import Run, infer_run
from gsnn.runs.design import design_run
from gsnn.runs.explain import explain_run
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
    made = train_files(folder / "run", graph=folder / "network.sif", data=folder / "data.csv", settings=settings)[0]
    infer_run(made)
    knockout_run(made, picture="")
    explain_run(made, picture="")
    design_run(made, hypotheses=2, batch=2, epochs=1, picture="")
    return made


def test_what_was_asked_is_told(run):
    data = collect(run)
    assert [section.anchor for section in data.asked] == ["knockouts", "explanation", "next"]
    page = render(data).split("<script")[0]
    for title in ("What do knock-outs do?", "Why is", "What to do next?"):
        assert title in page
    assert "1. Do " in page
    assert "Assumed: one of the hypotheses is true" in page
    assert "<b>f1</b>" not in page
    assert "&lt;b&gt;f1&lt;/b&gt;" in page


@pytest.mark.parametrize("content", ["{", "[]", '{"run": 1}'])
def test_a_file_that_does_not_go_with_the_run_is_left_out(run, tmp_path, content):
    path = run.path / "knockout.json"
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(content, encoding="utf-8")
        data = collect(Run.open(run.path))
        assert [section.anchor for section in data.asked] == ["explanation", "next"]
        assert any("knockout.json" in note and "gsnn knockout" in note for note in data.notes)
        told = json.loads(before)
        del told["summary"]
        path.write_text(json.dumps(told), encoding="utf-8")
        assert "cannot be read" in collect(Run.open(run.path)).notes[-1]
    finally:
        path.write_text(before, encoding="utf-8")
