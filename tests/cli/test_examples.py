"""The examples in the help run, in the order of a day's work, on a small simulated problem."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from importlib.util import find_spec

import pytest

from gsnn.cli import app

from .conftest import gsnn, interrupted

# Training is made small, or each example would take minutes; flags at the end win.
SMALL = ["--epochs", "2", "--channels", "2", "--layers", "3"]
MORE = {"train": SMALL}
ORDER = ["simulate", "init", "check", "train", "infer", "predict", "compare"]
ORDER += ["evaluate", "selfcheck", "refine", "audit"]
ORDER += ["knockout", "explain", "design", "report"]


def example(name):
    """The example in the help of a command, as a user would copy it."""
    text = gsnn(name, "--help", COLUMNS="200").stdout
    (line,) = re.findall(r"Example: (gsnn .*)", text)
    return shlex.split(line.strip())[1:]


def test_there_is_an_order_for_every_command():
    assert {command.callback.__name__ for command in app.registered_commands} == {*ORDER, "demo"}


@pytest.mark.slow
def test_the_examples_run(tmp_path):
    for name in ORDER:
        words = example(name)
        assert words[0] == name
        result = gsnn(*words, *MORE.get(name, []), cwd=tmp_path)
        assert result.returncode == 0, f"{name}: {result.stderr}"
        assert "Traceback" not in result.stderr
        assert "\x1b" not in result.stdout + result.stderr
        if name == "simulate":
            # The other examples name files of one's own; here they are the simulated ones.
            for file in ("network.sif", "responses.csv", "truth.csv"):
                (tmp_path / "simulated" / file).rename(tmp_path / file)
            shutil.copy(tmp_path / "responses.csv", tmp_path / "new.csv")
        if name == "infer":
            shutil.copytree(tmp_path / "runs" / "first", tmp_path / "runs" / "second")
    for file in ("gsnn.toml", "edges.graphml", "runs/first/edges.csv", "runs/first/selfcheck.json",
                 "runs/first/refine.json", "runs/first/audit.csv", "runs/first/design.csv",
                 "runs/first/report.html"):  # fmt: skip
        assert (tmp_path / file).is_file(), file
    # What is written with --json is one object, whatever the command.
    for words in (["check", "--config", "gsnn.toml"], ["evaluate", "runs/first", "--truth", "truth.csv"]):
        result = gsnn(*words, "--json", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert isinstance(json.loads(result.stdout), dict)


@pytest.mark.slow
def test_the_example_of_the_demo_runs(tmp_path):
    if not find_spec("caspo"):
        pytest.skip("caspo, which brings the data, is not installed")
    result = gsnn(*example("demo"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "liverdream" / "report.html").is_file()


@pytest.mark.slow
def test_ctrl_c_in_a_self_check_keeps_what_is_done(tmp_path):
    few = ["-n", "6", "--samples", "40", "-q"]
    assert gsnn("simulate", "-o", "s", *few, cwd=tmp_path).returncode == 0
    assert gsnn("train", "--config", "s/gsnn.toml", *SMALL, "-q", cwd=tmp_path).returncode == 0
    words = ["selfcheck", "--config", "s/gsnn.toml", "--method", "magnitude", "--no-controls"]
    file = tmp_path / "s" / "run" / "selfcheck.json"
    err = interrupted(*words, "--repeats", "400", once=file, cwd=tmp_path)
    assert err[-1].startswith("interrupted; the repeats that are done are kept")
    done = len(json.loads(file.read_text())["repeats"])
    result = gsnn(*words, "--repeats", str(done + 1), "--resume", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(json.loads(file.read_text())["repeats"]) == done + 1
