"""The commands as a user runs them."""

from __future__ import annotations

import json
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec

import pandas as pd
import pytest

import gsnn as package
from gsnn.graph.kinds import drawn_treatments
from gsnn.runs import Run

from .. import warm
from .conftest import EDGES, HOSTILE, SMALL, gsnn, gsnn_process, interrupted, one_line, write_csv, write_problem


@pytest.mark.slow
def test_help_is_quick_and_shows_an_example_that_parses():
    from gsnn.cli import app

    names = [command.callback.__name__ for command in app.registered_commands]
    assert {"train", "infer", "report", "demo"} <= set(names)
    for name in names:
        result = gsnn(name, "--help", COLUMNS="200")
        assert result.returncode == 0
        assert f"Example: gsnn {name} " in result.stdout
    # Processor time of both, one after the other: neither other processes nor a slow machine must decide.
    bare = [sys.executable, "-c", "import typer.rich_utils"]
    assert min(_seconds("--help") / _seconds(command=bare) for _ in range(3)) < 2.5


@pytest.mark.parametrize("command", ["infer", "refine"])
def test_help_names_the_default_method(command):
    from gsnn.discovery import DEFAULT_METHOD

    text = " ".join(gsnn(command, "--help", COLUMNS="200").stdout.split())
    assert re.search(rf"\[default: \(?{DEFAULT_METHOD}[;)]", text)


def _seconds(*args, command=()):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if command:
        subprocess.run(command, check=True)
    else:
        gsnn_process(*args)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_imports_nothing_heavy():
    code = "import sys, gsnn.cli; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pandas", "lightning", "scipy", "plotly", "networkx", "jinja2"} & set(loaded)


def test_version_and_no_arguments():
    assert gsnn("--version").stdout == f"gsnn {package.__version__}\n"
    assert gsnn().returncode == 0


def test_train_prints_the_fit_and_the_next_step(trained):
    run, (train, _, _) = trained
    assert train.returncode == 0, train.stderr
    lines = train.stdout.splitlines()
    assert lines[0].startswith("Fit: R2 on")
    assert lines[1].split() == ["readout", "values", "model", "ridge", "mean"]
    assert any(line.startswith(f"DV:{HOSTILE['d']} ") for line in lines)
    assert any(line.startswith("all, pooled") for line in lines)
    verdict = next(line for line in lines if line.startswith("Verdict: "))
    assert "too few to tell what is in the way" in verdict
    assert lines[-1] == "Next: the same gsnn train with --resume --epochs 150"
    assert "\x1b" not in train.stdout + train.stderr
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert info["status"] == "complete"
    assert info["config"]["epochs"] == 2
    assert len(pd.read_csv(run / "metrics.csv")) == 2


def test_infer_writes_every_candidate(trained):
    run, (_, infer, _) = trained
    assert infer.returncode == 0, infer.stderr
    edges = pd.read_csv(run / "edges.csv", keep_default_na=False, na_values={"score": [""], "p": [""], "q": [""]})
    columns = ["source", "target", "kind", "score", "rank", "p", "q", "known", "sign", "alias_group", "alias_size"]
    columns += ["rank_structure", "score_structure"]
    assert list(edges.columns) == columns
    described = json.loads((run / "edges.csv-metadata.json").read_text(encoding="utf-8"))
    assert described["url"] == "edges.csv"
    notes = {column["name"]: column["dc:description"] for column in described["tableSchema"]["columns"]}
    assert list(notes) == columns
    assert "an association is not an edge" in notes["q"]
    assert edges["alias_size"].min() >= 1
    sizes = edges.groupby("alias_group").size()
    assert (edges["alias_size"] == edges["alias_group"].map(sizes)).all()
    known = {(HOSTILE[a], HOSTILE[b]) for a, b, _ in EDGES}
    drawn = set(drawn_treatments(Run.open(run).data().graph))
    wanted = {(a, b) for a in HOSTILE.values() for b in HOSTILE.values() if a != b and b not in drawn} - known
    assert drawn
    assert set(zip(edges["source"], edges["target"], strict=True)) == wanted
    assert list(edges["rank"]) == list(range(1, len(wanted) + 1))
    assert edges["score"].is_monotonic_decreasing or edges["score"].isna().any()
    assert not edges["known"].any()
    assert edges["q"].isna().all()  # the default method has none


def test_infer_prints_the_best_ten_and_what_p_is_not(trained, tmp_path):
    run = shutil.copytree(trained[0], tmp_path / "run")
    infer = gsnn("infer", run, "--method", "magnitude")
    lines = infer.stdout.splitlines()
    assert "p and q test association, not an edge" in lines[0]
    q = pd.read_csv(run / "edges.csv", keep_default_na=False, na_values={"q": [""]})["q"]
    assert q.notna().any()
    assert q.dropna().between(0, 1).all()
    table = [line for line in lines if re.match(r"\s*\d+\s", line)]
    assert 1 <= len(table) <= 10
    told = json.loads(gsnn("infer", run, "--method", "magnitude", "--json").stdout)
    assert [str(row["rank"]) for row in told["hypotheses"]] == [line.split()[0] for line in table]
    first = pd.read_csv(run / "edges.csv", keep_default_na=False).iloc[0]
    assert first["source"] in table[0]
    assert first["target"] in table[0]
    text = infer.stdout
    assert "q: expected share of pairs without any association" in text
    assert "look-alikes: other candidates that the data cannot tell from this one (by " in text


def test_aliases_can_be_switched(trained, tmp_path):
    run = shutil.copytree(trained[0], tmp_path / "run")
    result = gsnn("infer", run, "--aliases", "none", "--method", "gradient", "--top", "3")
    assert result.returncode == 0, result.stderr
    assert "look-alikes" not in result.stdout
    assert "the best 3 of 14" in result.stdout
    edges = pd.read_csv(run / "edges.csv", keep_default_na=False)
    assert list(edges.columns) == ["source", "target", "kind", "score", "rank", "p", "q", "known", "sign"]
    assert edges["rank"].tolist() == [1, 2, 3]
    assert set(edges["sign"]) <= {-1, 0, 1}
    assert gsnn("infer", run, "--aliases", "hops", "-q").returncode == 0
    inference = json.loads((run / "run.json").read_text(encoding="utf-8"))["inference"]
    assert (inference["aliases"]["by"], inference["aliases"]["max_hops"], inference["candidates"]) == ("hops", 3, 14)
    one_line(gsnn("infer", run, "--aliases", "hop"), "did you mean 'hops'")


def test_report_holds_hostile_names_as_text(trained):
    run, (_, _, report) = trained
    assert report.returncode == 0, report.stderr
    assert report.stdout.startswith(f"Report: {run / 'report.html'}\nNext: open it in a browser")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert HOSTILE["a"] not in page
    assert "&lt;/script&gt;&lt;b&gt;x" in page


def test_top_and_known(trained, tmp_path):
    run, _ = trained
    before = (run / "edges.csv").read_bytes()
    result = gsnn("infer", run, "--top", "3", "--known", "--quiet", "--score", "partial", "--agg", "max")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    edges = pd.read_csv(run / "edges.csv", keep_default_na=False)
    assert list(edges["known"]) == [False] * 3 + [True] * len(EDGES)
    assert list(edges["rank"]) == ["1", "2", "3"] + [""] * len(EDGES)
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["inference"]["options"] == {
        "layer_agg": "max",
        "score": "partial",
    }
    (run / "edges.csv").write_bytes(before)


def test_matrices_columns_and_flags(tmp_path):
    _, data = write_problem(tmp_path)
    network = write_csv(
        tmp_path / "net.tsv", [("up", "down", "plus", "minus"), *((a, b, s > 0, s < 0) for a, b, s in EDGES)]
    )
    rows = [line.split(",") for line in data.read_text().splitlines()]
    x = write_csv(tmp_path / "x.csv", [[*row[:2]] for row in rows])
    y = write_csv(tmp_path / "y.csv", [[*row[2:]] for row in rows])
    columns = ["--source-column", "up", "--target-column", "down", "--sign-column", "plus", "--sign-column", "minus"]
    files = ["--graph", network, "--inputs", x, "--outputs", y, "--graph-format", "csv"]
    result = gsnn("train", *files, *columns, "-o", "run", *SMALL, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    # The report repeats the command; the command must be right.
    command = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["commands"]["train"]
    assert shlex.split(command) == list(map(str, ["gsnn", "train", *files, *columns, "-o", "run", *SMALL]))


def test_a_longer_training_is_one_of_the_commands_that_made_the_run(tmp_path, problem):
    files = ["train", "--graph", problem[0], "--data", problem[1], "-o", tmp_path / "run"]
    assert gsnn(*files, *SMALL).returncode == 0
    assert gsnn(*files, "--resume", "-q").returncode == 0
    commands = json.loads((tmp_path / "run" / "run.json").read_text())["commands"]
    assert list(commands) == ["train"], "the same training, if it was killed"
    assert gsnn(*files, "--resume", "--epochs", "3", "-q").returncode == 0
    commands = json.loads((tmp_path / "run" / "run.json").read_text())["commands"]
    assert commands["train longer"].endswith("--resume --epochs 3 -q")


@pytest.mark.slow
def test_resume_of_a_killed_run_keeps_its_settings_and_ends_alike(tmp_path, problem):
    files = ["train", "--graph", problem[0], "--data", problem[1]]
    small = ["--channels", "2", "--layers", "3", "--epochs", "60"]
    assert gsnn(*files, "-o", tmp_path / "whole", *small).returncode == 0
    killed = warm.Process(["-m", "gsnn", *files, "-o", tmp_path / "killed", *small])
    try:
        metrics = tmp_path / "killed" / "metrics.csv"
        deadline = time.monotonic() + 120
        while not (metrics.is_file() and metrics.read_text().count("\n") > 5) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        killed.kill()
        killed.communicate()
    info = json.loads((tmp_path / "killed" / "run.json").read_text())
    if info["status"] == "complete":
        pytest.skip("the run was complete before it could be killed")
    result = gsnn("train", *files[1:], "-o", tmp_path / "killed", "--resume")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "killed" / "metrics.csv").read_text().count("\n") == 61
    from safetensors.numpy import load_file

    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all((whole[name] == resumed[name]).all() for name in whole)


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path, problem):
    run = tmp_path / "my run"
    words = ["train", "--graph", str(problem[0]), "--data", str(problem[1]), "-o", str(run)]
    size = ["--epochs", "100000", "--channels", "2", "--layers", "3"]
    err = interrupted(*words, *size, once=run / "metrics.csv")
    assert err[-1] == f"interrupted; run the same command with --resume to continue '{run}'"


@pytest.mark.slow
def test_resuming_a_complete_run_changes_nothing_and_any_terminal_will_do(trained):
    run, _ = trained
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    files = ["--graph", run.parents[1] / "network.csv", "--data", run.parents[1] / "data.csv"]
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    result = gsnn_process("train", *files, "-o", run, "--resume", **plain)
    assert result.returncode == 0, result.stderr
    assert f"DV:{HOSTILE['f']} " in result.stdout
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.slow
def test_demo(tmp_path):
    if not find_spec("caspo"):
        pytest.skip("caspo, which brings the data, is not installed")
    for _ in range(2):  # the second replaces the first
        result = gsnn("demo", "--dataset", "liverdream", "--epochs", "5", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-2] == "Report: runs/demo/report.html"
    assert lines[-1].startswith("Next: gsnn selfcheck runs/demo, because")
    assert "\x1b" not in result.stdout
    assert len([line for line in lines if re.match(r"\s*\d+\s", line)]) == 10
    assert any(line.startswith("all, pooled") for line in lines)
    for name in ("run.json", "model.safetensors", "metrics.csv", "edges.csv", "report.html"):
        assert (tmp_path / "runs" / "demo" / name).is_file()


def test_demo_leaves_other_runs_alone(tmp_path, problem):
    run = tmp_path / "mine"
    assert gsnn("train", "--graph", problem[0], "--data", problem[1], "-o", run, *SMALL).returncode == 0
    before = (run / "run.json").read_bytes()
    result = gsnn("demo", "-o", run)
    assert result.returncode == 2
    assert "not a demo" in result.stderr
    assert (run / "run.json").read_bytes() == before
