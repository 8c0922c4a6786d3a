"""gsnn audit: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from gsnn.discovery.auditing import restricted

from .conftest import gsnn, one_line

QUICK = restricted.Recipe(steps=20, batch=16)


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A finished run of one's own, whose audit trains for a moment."""
    real = restricted.Recipe
    monkeypatch.setattr(restricted, "Recipe", lambda **given: real(**given) if given else QUICK)
    return shutil.copytree(trained[0], tmp_path / "run")


def test_audit_a_run(run):
    before = (run / "run.json").read_bytes(), (run / "model.safetensors").read_bytes()
    result = gsnn("audit", run, "--no-removal")
    assert result.returncode == 0, result.stderr
    assert "Audit: known edges by verdict" in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"Next: gsnn infer {run} --kinds all, ")
    assert "conditions judge" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    table = pd.read_csv(run / "audit.csv", keep_default_na=False)
    assert list(table.columns[:5]) == ["kind", "source", "target", "verdict", "why"]
    assert before == ((run / "run.json").read_bytes(), (run / "model.safetensors").read_bytes())
    one_line(gsnn("audit", run, "--no-removal"), "--resume", "--overwrite")
    assert gsnn("audit", run, "--no-removal", "--resume", "--quiet").stdout == ""


def test_json_is_one_object(run):
    found = json.loads(gsnn("audit", run, "--kinds", "output", "--json").stdout)
    assert {row["kind"] for row in found["edges"]} == {"function->output"}
    assert found["files"][0] == str(run / "audit.json")
    assert {"removed"} <= set(found["removal"])


def test_repairs_are_told_and_tried(run, tmp_path, monkeypatch):
    monkeypatch.setattr("gsnn.discovery.repairs.STEPS", 2)
    assert gsnn("audit", run, "--no-removal", "--quiet").returncode == 0
    one_line(gsnn("refine", run, "--repairs"), "has no repairs.csv", "--kinds all")
    result = gsnn("infer", run, "--kinds", "all")
    assert result.returncode == 0, result.stderr
    assert "Repairs: the best of" in result.stdout
    assert "refine" in result.stdout
    assert (run / "repairs.csv").is_file()
    bad = tmp_path / "bad.csv"
    bad.write_text("action,source,target\nadd,nowhere,a\n")
    one_line(gsnn("refine", run, "--repairs-file", bad), "row 1", "'nowhere' is no node of the network")
    assert not (run / "refine.json").exists()
    tried = gsnn("refine", run, "--repairs", "--rounds", "1", "--per-round", "2", "--no-control", "--decision", "none")
    assert tried.returncode == 0, tried.stderr
    assert "refined-network.csv" in tried.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--kinds", "outputs"], ["did you mean 'output'"]),
        (["--resume", "--overwrite"], ["exclude each other"]),
    ],
)
def test_it_refuses_and_writes_nothing(run, more, words):
    one_line(gsnn("audit", run, *more, "--quiet"), *words)
    assert not list(run.glob("audit*"))


def test_a_folder_that_is_not_there(tmp_path):
    one_line(gsnn("audit", tmp_path / "nowhere", "--quiet"), "nowhere")
