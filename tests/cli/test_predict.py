"""gsnn train --members, predict and compare: what they print and write, and how they refuse."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
import torch

from gsnn.runs import Run

from .conftest import SMALL, gsnn, interrupted, one_line, write_csv, write_problem


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with members and one without, of the same data, and both inferred."""
    folder = tmp_path_factory.mktemp("members")
    network, data = write_problem(folder)
    for name, more in (("members", ["--members", "3"]), ("plain", ["--seed", "4"])):
        result = gsnn("train", "--graph", network, "--data", data, "-o", folder / name, *SMALL, *more)
        assert result.returncode == 0, result.stderr
        assert gsnn("infer", folder / name, "--quiet").returncode == 0
    write_csv(folder / "new.csv", [("condition", "TR:a", "TR:b"), ("A", 1, 0), ("B", 1, 9)])
    return folder


def test_predict_with_intervals(folder):
    result = gsnn("predict", folder / "members", "--data", folder / "new.csv")
    assert result.returncode == 0, result.stderr
    assert "Predicted responses of 2 conditions, 90% intervals" in result.stdout
    assert "Verdict on the model that was asked: " in result.stdout
    assert "warning: condition B: dose beyond the range: b=9 (0 to 4)" in result.stderr
    table = pd.read_csv(folder / "members" / "predictions.csv", keep_default_na=False)
    assert list(table) == ["condition", "treatments", "d", "d_low", "d_high", "f", "f_low", "f_high", "outside"]
    assert table["condition"].tolist() == ["A", "B"]
    assert table["treatments"].tolist() == ["a", "a + b=9"]
    assert (table["d_low"] < table["d"]).all()


def test_predict_by_a_matrix_as_json(folder, tmp_path):
    words = [
        "predict",
        folder / "members",
        "--inputs",
        folder / "new.csv",
        "--interval",
        "0.5",
        "-o",
        tmp_path / "p.csv",
    ]
    found = json.loads(gsnn(*words, "--long", "--json", "--quiet").stdout)
    assert found["interval"] == 0.5
    assert set(found["model"]) == {"short", "text", "tone", "next"}
    assert [row["readout"] for row in found["predictions"]] == ["d", "f", "d", "f"]
    long = pd.read_csv(tmp_path / "p.csv")
    assert list(long) == ["condition", "treatments", "readout", "mean", "sd", "low", "high", "outside"]
    wide = json.loads(gsnn(*words[:4], "--json", "--quiet").stdout)["predictions"]
    assert wide[0]["high"] - wide[0]["low"] > found["predictions"][0]["high"] - found["predictions"][0]["low"]


def test_predict_without_members(folder):
    result = gsnn("predict", folder / "plain", "--data", folder / "new.csv")
    assert result.returncode == 0, result.stderr
    assert "gsnn train --members 5 gives intervals" in result.stderr
    assert result.stdout.splitlines()[-1].startswith("Next: ")
    assert list(pd.read_csv(folder / "plain" / "predictions.csv"))[2:4] == ["d", "f"]
    one_line(
        gsnn("predict", folder / "plain", "--data", folder / "new.csv", "--interval", "0.9"),
        "gsnn train --members 5 gives intervals",
    )


def test_predict_refuses(folder, tmp_path):
    wrong = write_csv(tmp_path / "wrong.csv", [("TR:a", "TR:bb"), (1, 0)])
    one_line(gsnn("predict", folder / "members", "--data", wrong), "'bb'", "closest: 'b'", "trained on 'a', 'b'")
    one_line(gsnn("predict", folder / "members"), "--data or --inputs")
    one_line(gsnn("predict", folder / "members", "--data", tmp_path / "no.csv"), "no.csv")
    one_line(gsnn("predict", tmp_path, "--data", wrong), "not a run folder")
    one_line(gsnn("predict", folder / "members", "--data", wrong, "-o", tmp_path / "no" / "p.csv"), "make it first")


def test_infer_says_how_far_members_agree(folder, tmp_path):
    run = shutil.copytree(folder / "members", tmp_path / "run")
    result = gsnn("infer", run)
    assert "ranks are averaged over 3 members:" in result.stdout
    assert "worst rank" in result.stdout
    found = json.loads(gsnn("infer", run, "--json", "--quiet").stdout)
    assert found["inference"]["members"]["members"] == 3
    assert "worst_rank" in found["edges"][0]
    columns = json.loads((run / "edges.csv-metadata.json").read_text())["tableSchema"]["columns"]
    assert all("dc:description" in column for column in columns)
    one_line(gsnn("infer", folder / "plain", "--members"), "gsnn train --resume --members 5")
    assert "averaged" not in gsnn("infer", run, "--no-members").stdout


def test_the_report_tells_the_agreement(folder, tmp_path):
    run = shutil.copytree(folder / "members", tmp_path / "run")
    assert gsnn("report", run, "--quiet").returncode == 0
    assert "anks are averaged over 3 members" in (run / "report.html").read_text(encoding="utf-8")


def test_compare(folder, tmp_path):
    result = gsnn("compare", folder / "members", folder / "plain", "-o", tmp_path / "c.csv", "--top", "3")
    assert result.returncode == 0, result.stderr
    assert "Spearman" in result.stdout
    assert "ridge" in result.stdout
    assert "Candidates high in all: the best 3 of" in result.stdout
    assert pd.read_csv(tmp_path / "c.csv")["worst"].is_monotonic_increasing
    found = json.loads(gsnn("compare", folder / "members", folder / "plain", "--json").stdout)
    assert len(found["pairs"]) == 1
    assert found["fits"][0]["run"] == str(folder / "members")
    one_line(gsnn("compare", folder / "members"), "at least two runs")
    one_line(gsnn("compare", folder / "members", folder / "plain", "--top", "0"), "top must be at least 1")


@pytest.mark.slow  # two trainings as processes
def test_an_interrupted_training_of_members_goes_on(folder, tmp_path):
    words = [
        "train",
        "--graph",
        folder / "network.csv",
        "--data",
        folder / "data.csv",
        "--epochs",
        "40",
        "--members",
        "4",
    ]
    run = tmp_path / "run"
    lines = interrupted(*words, "-o", run, "--quiet", once=run / "members" / "1" / "member.json")
    assert "--resume" in lines[-1]
    before = (run / "members" / "1" / "model.safetensors").stat().st_mtime_ns
    assert gsnn(*words, "-o", run, "--resume", "--quiet").returncode == 0
    assert (run / "members" / "1" / "model.safetensors").stat().st_mtime_ns == before
    assert gsnn(*words, "-o", tmp_path / "whole", "--quiet").returncode == 0
    for one, other in zip(Run.open(run).members(), Run.open(tmp_path / "whole").members(), strict=True):
        assert one.times.tolist() == other.times.tolist()
        for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
            assert torch.equal(a, b)


def test_train_refuses_too_few_members(folder, tmp_path):
    words = ["train", "--graph", folder / "network.csv", "--data", folder / "data.csv", *SMALL]
    one_line(gsnn(*words, "-o", tmp_path / "run", "--members", "1"), "members must be at least 2")
    one_line(gsnn(*words, "-o", folder / "members", "--resume", "--members", "2"), "has 3 members")
