"""Every command on real data: that they work together, not that two epochs find much."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from .conftest import gsnn, gsnn_process

pytestmark = pytest.mark.slow

SHORT = ["--epochs", "2", "--channels", "2", "--layers", "4"]
GRAPH = ["that no input reaches", "that reach no output"]
PRECISION = ["expected_precision", "precision_low", "precision_high"]


def ran(*args, warns=(), by=gsnn, cwd=None):
    """What a command printed, once it did not fail and warned of nothing unexpected."""
    result = by(*args, cwd=cwd)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    told = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert [line for line in told if not any(words in line for words in warns)] == []
    assert "\x1b" not in result.stdout
    return result.stdout


def protocols(run, truth, method, infer_warns=()):
    """Self-check, infer, evaluate and refine on a trained run, each by its command."""
    few = ["--repeats", "1", "--no-controls", "--method", method]
    stated = ran("selfcheck", run, *few)
    assert f"Precision to expect, {method}" in stated
    assert "Hidden known edges" in stated
    shown = ran("infer", run, "--method", method, "--top", "200", warns=infer_warns)
    assert re.search(r"the best 10 of \d{4,}", shown)
    assert "expected precision: share of edges to expect" in shown
    assert "of all candidates have some" in shown
    edges = pd.read_csv(run / "edges.csv", keep_default_na=False, na_values=dict.fromkeys(PRECISION, ""))
    assert len(edges) == 200
    assert edges["alias_size"].min() >= 1
    told, low, high = (edges[name] for name in PRECISION)
    known = high - low <= 0.5
    assert known.sum() > 100
    assert told.notna().equals(known)
    assert told[known].between(low[known], high[known]).all()
    columns = json.loads((run / "edges.csv-metadata.json").read_text(encoding="utf-8"))["tableSchema"]["columns"]
    assert [column["name"] for column in columns] == list(edges.columns)
    assert all(column["dc:description"] for column in columns)
    found = json.loads(ran("evaluate", run, "--truth", truth, "--json"))
    metrics = pd.DataFrame(found["metrics"])
    assert {"table", "random", "degree product", "residual correlation"} <= set(metrics["method"])
    assert {"roc_auc", "group_roc_auc", "group_average_precision"} <= set(metrics["metric"])
    failed = ["the self-check calls the ranking"]  # after so short a training
    refined = ran("refine", run, "--rounds", "1", "--per-round", "1", "--no-control", "--method", method, warns=failed)
    assert "Refinement: losses before and after each round" in refined
    assert len(pd.read_csv(run / "refine.csv")) == 1
    return found["counts"]


def test_extliver(tmp_path):
    """What a newcomer types first is a process of its own; the others follow in this one."""
    pytest.importorskip("caspo")
    run = tmp_path / "demo"
    shown = ran("demo", "-o", run, "--epochs", "2", warns=GRAPH, by=gsnn_process)
    assert "all, pooled" in shown
    assert "sign" in shown
    truth = tmp_path / "truth.sif"
    truth.write_text("il1r\t1\tHSP27\nIL6\t1\tSTAT3\n", encoding="utf-8")
    assert protocols(run, truth, "learned")["n_positives"] == 2
    assert ran("report", run).startswith(f"Report: {run / 'report.html'}\nNext: open it in a browser")
    assert (run / "report.html").stat().st_size > 100_000


def test_lembas_ligand_screen(gsnn_data, tmp_path):
    """Through every command, in one configuration; 50 edges are hidden from the prior network."""
    folder = gsnn_data / "lembas_ligandscreen"
    if not folder.is_dir():
        pytest.skip(f"no ligand screen in {gsnn_data}")
    files = {name: folder / f"ligandScreen-{name}.tsv" for name in ("Model", "Ligands", "TFs")}
    network = pd.read_csv(files["Model"], sep="\t")
    ligands = set(pd.read_csv(files["Ligands"], sep="\t", nrows=0).columns)
    inner = network[~network["source"].isin(ligands)]
    # An edge can be hidden where its ends have others.
    busy = inner["source"].map(inner["source"].value_counts()).gt(2) & inner["target"].map(
        inner["target"].value_counts()
    ).gt(2)
    hidden = inner[busy].drop_duplicates(["source", "target"]).sample(50, random_state=0)
    kept = network.merge(hidden[["source", "target"]], how="left", indicator=True).query("_merge == 'left_only'")
    kept.drop(columns="_merge").to_csv(tmp_path / "prior.tsv", sep="\t", index=False)

    data = ["--inputs", files["Ligands"], "--outputs", files["TFs"]]
    one, twice = ["--config", "gsnn.toml"], "duplicated edges collapsed"
    ran("init", "--graph", "prior.tsv", *data, "--run", "run", "-o", "gsnn.toml", cwd=tmp_path, warns=[twice, *GRAPH])
    found = json.loads(ran("check", *one, "--graph", files["Model"], "--json", cwd=tmp_path))
    assert (found["network"]["species"], found["network"]["edges"]) == (1262, 6594)
    assert (found["responses"]["treatments"], found["responses"]["readouts"]) == (60, 74)
    assert found["responses"]["conditions"] == 103
    assert found["reachability"]["functions no input reaches"] == []
    assert round(found["to beat"]["group mean"], 2) == 0.58
    assert found["to beat"]["ridge"] > 0.77
    trained = json.loads(ran("train", *one, *SHORT, "--json", cwd=tmp_path, warns=[twice, *GRAPH]))
    assert set(trained["fit"]["correlation"]) == {"model", "ridge", "mean", "group mean"}
    # Most of this network is one component, where reachability tells little apart.
    group = ["in one alias group"]
    counts = protocols(tmp_path / "run", files["Model"], "gradient", infer_warns=group)
    assert counts["n_positives"] == 50
    # By default, with a method that the self-check did not see.
    other = [*group, "did not check the method", "these data lie"]  # no such large network taught it
    ran("infer", *one, "--top", "500", "--per-target", "5", cwd=tmp_path, warns=other)
    assert pd.read_csv(tmp_path / "run" / "edges.csv")["target"].value_counts().max() == 5
    ran("report", *one, cwd=tmp_path)
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "The r to beat" in text
    assert "magnitude" in text
