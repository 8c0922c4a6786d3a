"""From a run folder, with and without what it may hold, to the tables of a report."""

from __future__ import annotations

import json
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest

from gsnn.base.verdict import Verdict
from gsnn.base.wording import flags
from gsnn.discovery import SelfCheck
from gsnn.discovery.methods import METHODS
from gsnn.graph import Graph
from gsnn.report import contents
from gsnn.report.contents import _signs, collect
from gsnn.runs.infer import infer_run
from gsnn.runs.selfcheck import self_check_run
from gsnn.runs.train import train_files

SMALL = {"epochs": 2, "channels": 2, "layers": 4}


@pytest.fixture
def run(tmp_path, request):
    """A small trained run: two inputs into a chain of eight functions with two readouts."""
    edges = [f"f{i}\t1\tf{i + 1}" for i in range(8)] + ["f0\t-1\tf4", "f2\t1\tf6", "f1\t-1\tf5"]
    (tmp_path / "network.sif").write_text("\n".join(edges) + "\n")
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.integers(0, 2, (24, 2)), columns=["TR:f0", "TR:f2"])
    y = pd.DataFrame(rng.normal(size=(24, 2)), columns=["DV:f8", "DV:f6"])
    times = pd.DataFrame(10, index=x.index, columns=["DA:f8", "DA:f6"])
    pd.concat([x, times, y], axis=1).to_csv(tmp_path / "data.csv", index=False)
    files = {"graph": tmp_path / "network.sif", "data": tmp_path / "data.csv"}
    with flags(request.param) if hasattr(request, "param") else nullcontext():
        return train_files(tmp_path / "run", **files, settings=SMALL)[0]


def test_a_run_without_edges_or_self_check(run):
    data = collect(run)
    assert data.check is None
    assert data.edges.empty
    assert data.agreement.empty
    assert data.command == ""  # it was made by Python
    assert data.summary["inhibiting edges"] == 2
    assert data.next_step == "the same gsnn train with --resume --epochs 150"


@pytest.mark.parametrize(
    ("fit", "checked", "refined", "step"),
    [
        (Verdict("fits", "", "good", "selfcheck"), "", None, "selfcheck"),
        (Verdict("fits", "", "good", "selfcheck"), "refine", None, "refine"),
        (Verdict("fits", "", "good", "selfcheck"), "refine", Verdict("", "", "good", "measure"), "measure"),
        # A model that could be trained better comes first, unless it is the network that is wrong.
        (Verdict("worse", "", "bad", "train"), "refine", Verdict("", "", "good", "measure"), "train"),
        (Verdict("worse", "", "bad", "selfcheck --kinds all"), "refine", None, "refine"),
    ],
)
def test_the_next_step_is_what_the_last_command_said(monkeypatch, fit, checked, refined, step):
    monkeypatch.setattr(contents, "after_check", lambda _: checked)
    assert contents._next(None, fit, refined) == step


def test_a_run_with_everything(run):
    infer_run(run, method="gradient", known=True)
    self_check_run(run, repeats=1, fraction=0.3, settings=SMALL)
    data = collect(run)
    assert data.method == "gradient"
    assert len(data.known) == 11
    assert len(data.candidates) == data.n_candidates == 9 * 8 - 11 - 8  # none into the treatment
    assert data.check.method == "gradient"
    assert set(data.check.curves["condition"]) == {"real", "rewired", "permuted"}
    assert {"alias_size", "sign", "expected_precision"} <= set(data.edges.columns)
    n = sum(method.by_default for method in METHODS.values())
    assert len(data.agreement) == n * (n - 1) / 2


def test_a_self_check_of_other_options_is_not_that_of_the_ranking(run):
    infer_run(run, method="magnitude", agg="max")
    self_check_run(run, repeats=1, fraction=0.3, settings=SMALL, controls=())
    data = collect(run)
    assert data.check.method == ""
    assert any("did not cover the method 'magnitude'" in note for note in data.notes)


@pytest.mark.parametrize("run", [["train", "-o", "my run"]], indirect=True)
def test_a_report_repeats_the_commands_that_made_the_run(run):
    steps = {"infer": lambda: infer_run(run, method="gradient"), "selfcheck": lambda: check_once(run)}
    for name, step in steps.items():
        with flags([name, "my run"]):
            step()
    assert collect(run).command.splitlines() == [
        "gsnn train -o 'my run'",
        "gsnn infer 'my run'",
        "gsnn selfcheck 'my run'",
        f"gsnn report {run.path}",
    ]
    with flags(["train", "--resume", "--epochs", "150"]):
        run.note_command("train longer")
    assert collect(run).command.splitlines()[:2] == ["gsnn train -o 'my run'", "gsnn train --resume --epochs 150"]
    steps["infer"]()  # in Python, for which there is no command
    assert "gsnn infer" not in collect(run).command


def check_once(run):
    return self_check_run(run, methods=["magnitude"], repeats=1, fraction=0.3, settings=SMALL, controls=())


def test_a_self_check_that_was_stopped_says_how_far_it_came(run):
    self_check_run(run, methods=["magnitude"], repeats=2, fraction=0.3, settings=SMALL, controls=())
    path = SelfCheck.json_path(run.path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "repeats": content["repeats"][:1]}))
    data = collect(run)
    assert "The self-check is not finished: 1 of 2 repeats." in data.notes
    assert data.check.repeats == 1
    path.write_text(json.dumps({**content, "repeats": []}))
    without = collect(run)
    assert without.check is None
    assert any("has not finished a repeat" in note for note in without.notes)


def test_a_network_without_signs_counts_none():
    graph = Graph.from_edges(
        [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
    )
    assert _signs(graph) == {}
