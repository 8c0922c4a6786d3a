"""gsnn knockout and gsnn explain: what they print and write, and how they refuse."""

from __future__ import annotations

import json
import shutil

import networkx as nx
import pandas as pd
import pytest

from .conftest import HOSTILE, gsnn, one_line


@pytest.fixture
def run(trained, tmp_path):
    """A finished run of one's own, on hostile names."""
    return shutil.copytree(trained[0], tmp_path / "run")


def test_knock_out_all_and_pairs(run):
    before = (run / "run.json").read_bytes(), (run / "model.safetensors").read_bytes()
    result = gsnn("knockout", run, "--all", "--pairs", "--picture", "heat.svg")
    assert result.returncode == 0, result.stderr
    assert "Knock-outs: mean effect over" in result.stdout
    assert "Verdict on the model that was asked: " in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"Next: gsnn report {run}, ")
    assert "gsnn train --members 5" in result.stdout
    table = pd.read_csv(run / "knockout.csv", keep_default_na=False)
    assert list(table.columns) == ["nodes", "condition", "readout", "effect", "interaction"]
    assert table["nodes"].nunique() == 6 + 15
    assert (run / "heat.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    assert before == ((run / "run.json").read_bytes(), (run / "model.safetensors").read_bytes())


def test_named_nodes_and_conditions(run):
    names = f"{HOSTILE['c']},{HOSTILE['d']}"
    result = gsnn("knockout", run, "--nodes", names, "--condition", "1", "--over", "--picture", "", "--json")
    found = json.loads(result.stdout)
    assert found["to"] == "highest"
    assert found["conditions"] == 1
    assert {row["nodes"] for row in found["summary"]} == {HOSTILE["c"], HOSTILE["d"]}
    assert not (run / "knockout.png").exists()
    assert gsnn("knockout", run, "--nodes", names, "--picture", "", "--quiet").stdout == ""


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], ["--nodes", "--all"]),
        (["--nodes", "N"], ["no function 'N'", "did you mean 'NA'"]),
        (["--nodes", "NA", "--all"], ["exclude each other"]),
        (["--all", "--to", "lowst"], ["'lowest'"]),
        (["--all", "--over", "--to", "zero"], ["leave out --to"]),
        (["--all", "--condition", "nothing"], ["'nothing'", "untreated"]),
        (["--all", "--picture", "heat.gif"], [".png"]),
    ],
)
def test_knockout_refuses(run, more, words):
    one_line(gsnn("knockout", run, *more, "--quiet"), *words)


def test_explain_a_prediction(run):
    result = gsnn("explain", run, "--condition", "2", "--readout", HOSTILE["f"])
    assert result.returncode == 0, result.stderr
    assert "Contributions of the inputs" in result.stdout
    assert "Verdict on the model that was asked: " in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"Next: gsnn report {run}, ")
    for name in ("explain.csv", "explain.json", "explain.graphml", "explain.png"):
        assert (run / name).is_file()
    nx.read_graphml(run / "explain.graphml")
    found = json.loads(gsnn("explain", run, "--condition", "2", "--readout", HOSTILE["f"], "--json").stdout)
    assert sum(row["contribution"] for row in found["inputs"]) == pytest.approx(found["difference"], rel=0.01, abs=1e-5)


def test_what_is_explained_if_nothing_is_said(run):
    result = gsnn("explain", run, "--json", "--picture", "")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    fit = pd.DataFrame(json.loads((run / "run.json").read_text())["fit"]["readouts"])
    worst = (
        fit.dropna(subset="model_r2")
        .sort_values("model_r2", kind="stable")["readout"]
        .str.removeprefix("DV:")
        .tolist()[:3]
    )
    assert [found["readout"], *(one["readout"] for one in found.get("others", []))] == worst
    assert "others" not in json.loads(gsnn("explain", run, "--worst", "1", "--json", "--picture", "").stdout)
    one_line(gsnn("explain", run, "--worst", "0", "-q"), "at least 1")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--condition", "2", "--readout", "naive"], ["no readout 'naive'"]),
        (["--condition", "untreated", "--readout", HOSTILE["f"]], ["both untreated"]),
        (["--condition", "1000", "--readout", HOSTILE["f"]], ["rows 0 to 23"]),
    ],
)
def test_explain_refuses(run, more, words):
    one_line(gsnn("explain", run, *more, "--quiet"), *words)
    assert not list(run.glob("explain*"))


def test_design_experiments(run, tmp_path):
    result = gsnn("design", run, "-k", "2", "-n", "2", "--epochs", "1")
    assert result.returncode == 0, result.stderr
    assert "Experiments: the best 2 of" in result.stdout
    assert "note: assumed: one of the hypotheses is true" in result.stdout
    assert "not seen to find more than as many random ones" in result.stdout
    assert "Verdict on the model that was asked: " in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"Next: gsnn report {run}, ")
    table = pd.read_csv(run / "design.csv", keep_default_na=False)
    assert list(table["rank"]) == [1, 2]
    assert {"separates", "readouts"} <= set(table.columns)
    listed = tmp_path / "mine.csv"
    mine = {"experiment": ["1", "untreated", "1"], "knockout": ["", "NA", ""], "readout": ["", "", "NA"]}
    pd.DataFrame(mine | {"cost": [1, 3, 2]}).to_csv(listed, index=False)
    result = gsnn("design", run, "-k", "2", "--epochs", "1", "--experiments", listed, "--json", "--picture", "")
    found = json.loads(result.stdout)
    assert found["weighed"] == 3
    assert {row["cost"] for row in found["batch"]} == {1, 2, 3}
    assert [row["measured"] for row in found["batch"] if row["cost"] == 2] == [["NA"]]
    one_line(gsnn("design", run, "--experiments", tmp_path / "none.csv", "-q"), "none.csv")
    one_line(gsnn("design", run, "--batch", "0", "-q"), "batch must be at least 1")
    (run / "edges.csv").unlink()
    one_line(gsnn("design", run, "-q"), "gsnn infer")
