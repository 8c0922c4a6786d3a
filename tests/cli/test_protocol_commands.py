"""gsnn evaluate, selfcheck and refine: what they print and write, and how they refuse."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from gsnn.base.verdict import Verdict
from gsnn.cli import main
from gsnn.runs import Run
from gsnn.runs.infer import infer_run

from .conftest import HOSTILE, gsnn_process, one_line, write_csv, write_problem

FEW = ["--epochs", "1", "--quiet"]


def call(capsys, *args):
    """The command line in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def read_lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def refused(result, *words):
    code, out, err = result
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert err.startswith("error: ")
    for word in words:
        assert word in err


@pytest.fixture
def run(trained, tmp_path):
    """A finished run of one's own, on hostile names, with inferred edges."""
    path = shutil.copytree(trained[0], tmp_path / "run")
    infer_run(Run.open(path), method="magnitude")  # other tests may have inferred with other options in the shared run
    return path


@pytest.fixture
def truth(tmp_path):
    return write_csv(
        tmp_path / "truth.csv",
        [
            ("source", "target"),
            (HOSTILE["a"], HOSTILE["e"]),
            (HOSTILE["c"], HOSTILE["f"]),
            (HOSTILE["c"], HOSTILE["d"]),
        ],
    )


@pytest.mark.parametrize("command", ["evaluate", "selfcheck", "refine"])
def test_help_has_an_example(command, capsys):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert f"Example: gsnn {command} " in out


def test_evaluate_a_run(run, truth, capsys):
    code, out, err = call(capsys, "evaluate", run, "--truth", truth)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("3 true edges: 2 to find; 1 known already")
    for word in ("roc_auc", "group_precision@", "near_precision@2", "degree product", "residual correlation", "chance"):
        assert word in out
    assert "\x1b" not in out


def test_evaluate_a_table_as_json(run, truth, tmp_path, capsys):
    network = write_problem(tmp_path, HOSTILE)[0]
    roles = write_csv(tmp_path / "roles.csv", [("source", "target", "role"), (HOSTILE["a"], HOSTILE["e"], "[b]merge")])
    more = ["--graph", network, "--roles", roles, "-k", 1, "-k", 2]
    code, out, _ = call(capsys, "evaluate", run / "edges.csv", "--truth", truth, *more, "--json")
    found = pd.DataFrame(json.loads(out)["metrics"])
    assert code == 0
    assert set(found["role"]) == {"all", "[b]merge", "other"}
    assert {"precision@1", "precision@2"} <= set(found["metric"])
    _, text, _ = call(capsys, "evaluate", run / "edges.csv", "--truth", truth, *more)
    assert "Role: [b]merge" in text
    # The graph of the run has the same known edges, in another order of the nodes.
    _, other, _ = call(capsys, "evaluate", run, "--truth", truth, "-k", 1, "-k", 2, "--json")
    both = pd.DataFrame(json.loads(other)["metrics"]).merge(found, on=["method", "role", "metric"])
    both = both[~both["method"].isin(["random"])]
    pd.testing.assert_series_equal(both["value_x"], both["value_y"], check_names=False)


def test_evaluate_refuses(run, truth, tmp_path, capsys):
    refused(call(capsys, "evaluate", tmp_path / "nowhere.csv", "--truth", truth), "nowhere.csv does not exist")
    refused(call(capsys, "evaluate", tmp_path, "--truth", truth), "folder without a run")
    refused(call(capsys, "evaluate", run, "--truth", tmp_path / "nowhere.csv"), "nowhere.csv")
    refused(call(capsys, "evaluate", run, "--truth", truth, "--graph", truth), "leave out graph")
    refused(call(capsys, "evaluate", run, "--truth", truth, "--score", "scor"), "did you mean 'score'")
    refused(call(capsys, "evaluate", run, "--truth", truth, "--alias-by", "hop"), "did you mean 'hops'")
    refused(call(capsys, "evaluate", run, "--truth", truth, "-k", 0), "k must be at least 1")
    other = write_csv(tmp_path / "other.csv", [("source", "target"), ("x", "y")])
    refused(call(capsys, "evaluate", run, "--truth", other), "no edge to find")
    (run / "edges.csv").unlink()
    refused(call(capsys, "evaluate", run, "--truth", truth), "gsnn infer")


def test_selfcheck_of_a_run(run, capsys):
    before = Run.open(run).edges()
    more = ["--repeats", "2", "--fraction", "0.4", "--method", "magnitude"]
    code, out, err = call(capsys, "selfcheck", run, *more)
    assert code == 0, err
    for word in ("Hidden known edges", "Control, rewired", "Control, permuted", "Precision to expect", "It assumes"):
        assert word in out
    assert "\x1b" not in out + err
    assert len(json.loads((run / "selfcheck.json").read_text())["repeats"]) == 2
    assert len(pd.read_csv(run / "selfcheck.csv")) > 0
    after = Run.open(run)
    columns = ["expected_precision", "precision_low", "precision_high", "precision_chance", "stated_fdr"]
    assert list(after.edges())[-5:] == columns
    assert "Stated FDR: " in out
    assert "not estimable" in out
    assert "guessing" in out
    pd.testing.assert_frame_equal(after.edges()[list(before)], before)
    assert after.info["inference"]["method"] == "magnitude"
    assert not list(run.glob(".*.tmp"))


def test_precision_is_of_the_method_that_scored_the_edges(run, capsys):
    few = ["--no-controls", "--fraction", "0.4", "--repeats", "1", "--quiet"]
    columns = "expected_precision", "precision_low", "precision_high"
    assert call(capsys, "selfcheck", run, "--method", "magnitude", *few)[0] == 0
    assert set(columns) <= set(Run.open(run).edges())
    assert call(capsys, "selfcheck", run, "--method", "magnitude", "--missing", "0", "--resume", *few)[0] == 0
    assert (Run.open(run).edges()["precision_high"].dropna() == 0).all()
    assert call(capsys, "selfcheck", run, "--method", "magnitude-partial", "--overwrite", *few)[0] == 0
    assert not set(columns) & set(Run.open(run).edges())


def test_a_self_check_of_other_settings_or_methods_is_not_used(run, capsys):
    few = ["--no-controls", "--fraction", "0.4", "--repeats", "1", "--method", "magnitude"]
    code, _, err = call(capsys, "selfcheck", run, *few, "--epochs", "1")
    assert code == 0
    (line,) = (line for line in err.splitlines() if line.startswith("warning: the self-check"))
    assert "epochs was 1, in the run it is 2" in line
    assert "expected_precision" not in Run.open(run).edges()
    code, out, err = call(capsys, "infer", run, "--method", "magnitude")
    assert "epochs was 1, in the run it is 2" in err
    assert "expected precision" not in out
    # The right settings, with the method that is asked for; the seed of the split is no setting.
    assert call(capsys, "selfcheck", run, *few, "--overwrite", "--quiet")[0] == 0
    code, out, err = call(capsys, "infer", run, "--method", "magnitude")
    assert (code, "warning: the self-check" in err) == (0, False)
    assert "expected precision" in out
    _, out, err = call(capsys, "infer", run, "--method", "gradient")
    assert "did not check the method 'gradient' (only magnitude)" in err
    assert "expected precision" not in out
    _, _, err = call(capsys, "infer", run, "--agg", "max")
    assert "with its own options, not with these" in err


def test_a_retrained_run_says_what_is_left_of_the_old_one(tmp_path, problem, capsys):
    network, data = problem
    out = tmp_path / "run"
    train = ["train", "--graph", network, "--data", data, "-o", out, "--channels", 2, "--layers", 3]
    few = ["--epochs", "1", "--quiet"]
    assert call(capsys, *train, "--epochs", 1, "-q")[0] == 0
    assert call(capsys, "selfcheck", out, "--no-controls", "--fraction", 0.4, "--repeats", 1, *few)[0] == 0
    assert call(capsys, "refine", out, "--no-control", "--rounds", 1, "--per-round", 1, *few)[0] == 0
    _, _, err = call(capsys, *train, "--epochs", 1, "--overwrite")
    assert "in the folder" not in err
    _, _, err = call(capsys, *train, "--epochs", 2, "--overwrite")
    assert "warning: the self-check in the folder trained with other settings and is not used (epochs was 1" in err
    assert "warning: the refinement in the folder does not go with the run (epochs was 1, in the run it is 2)" in err
    (out / "selfcheck.json").write_text("{")
    _, _, err = call(capsys, *train, "--epochs", 1, "--overwrite")
    assert "selfcheck.json cannot be read" in err


def test_selfcheck_resumes_and_replaces(run, capsys):
    more = ["--no-controls", "--fraction", "0.4", "--method", "magnitude", *FEW]
    assert call(capsys, "selfcheck", run, "--repeats", 1, *more)[0] == 0
    first = json.loads((run / "selfcheck.json").read_text())["repeats"]
    refused(call(capsys, "selfcheck", run, "--repeats", 2, *more), "--resume", "--overwrite")
    assert call(capsys, "selfcheck", run, "--repeats", 2, "--resume", *more) == (0, "", "")
    second = json.loads((run / "selfcheck.json").read_text())["repeats"]
    assert second[:1] == first
    assert len(second) == 2
    refused(call(capsys, "selfcheck", run, "--repeats", 2, "--resume", "--seed", 1, *more), "seed was 0, now 1")
    assert call(capsys, "selfcheck", run, "--repeats", 1, "--overwrite", *more)[0] == 0
    assert json.loads((run / "selfcheck.json").read_text())["repeats"] == first


def test_selfcheck_of_files(tmp_path, capsys):
    network, data = write_problem(tmp_path)
    out = tmp_path / "new" / "check"
    small = ["--channels", 2, "--layers", 3, "--fraction", 0.4, "--repeats", 1, "--method", "magnitude", *FEW]
    assert call(capsys, "selfcheck", "--graph", network, "--data", data, "-o", out, *small)[0] == 0
    assert sorted(path.name for path in out.iterdir()) == ["selfcheck.csv", "selfcheck.json"]
    odd = write_csv(tmp_path / "odd.csv", [("alpha", "beta"), *(row.split(",")[:2] for row in read_lines(network)[1:])])
    other = ["--graph", odd, "--data", data, "-o", tmp_path / "odd"]
    columns = ["--source-column", "alpha", "--target-column", "beta"]
    assert call(capsys, "selfcheck", *other, *columns, *small)[0] == 0
    refused(call(capsys, "selfcheck", *other, *columns, *["--sign-column", "a"] * 3, *small), "once or twice, got 3")
    refused(call(capsys, "selfcheck", tmp_path, "--source-column", "alpha"), "not both")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--method", "magnitud"], ["did you mean 'magnitude'"]),
        (["--fraction", "1.5"], ["fraction must be between 0 and 1"]),
        (["--fraction", "lots"], ["--fraction"]),
        (["--repeats", "0"], ["repeats must be at least 1"]),
        (["--stratify", "rolle"], ["did you mean 'role'"]),
        (["--stratify", "role"], ["needs roles"]),
        (["--missing", "1"], ["missing must be a share"]),
        (["--epochs", "0"], ["epochs must be at least 1"]),
        (["--resume", "--overwrite"], ["exclude each other"]),
        (["--data", "x.csv"], ["not both"]),
        (["--roles", "nowhere.csv"], ["nowhere.csv does not exist"]),
    ],
)
def test_selfcheck_refuses_and_writes_nothing(run, more, words, capsys):
    refused(call(capsys, "selfcheck", run, *more), *words)
    assert not list(run.glob("selfcheck*"))


def test_selfcheck_without_a_run_refuses(tmp_path, capsys):
    network, _ = write_problem(tmp_path)
    refused(call(capsys, "selfcheck"), "give a run folder")
    refused(call(capsys, "selfcheck", tmp_path / "nowhere"), "nowhere")
    refused(call(capsys, "selfcheck", "--graph", network, "-o", tmp_path / "new"), "one file")
    wrong = write_csv(tmp_path / "odd.csv", [("alpha", "beta"), ("1", "2")])
    refused(call(capsys, "selfcheck", "--graph", network, "--data", wrong, "-o", tmp_path / "new"), "odd.csv")
    assert not (tmp_path / "new").exists()


def test_selfcheck_of_a_chain_says_why_not(tmp_path, capsys):
    network, _ = write_problem(tmp_path, edges=[("a", "b", 1), ("b", "d", 1)])
    data = write_csv(tmp_path / "one.csv", [("TR:a", "DV:d"), *((i % 3, i) for i in range(9))])
    result = call(capsys, "selfcheck", "--graph", network, "--data", data, "-o", tmp_path / "new", *FEW)
    refused(result, "none of the 2 known edges can be hidden")
    assert not (tmp_path / "new").exists()


def test_a_refinement_says_first_which_ranking_failed(run, capsys, monkeypatch):
    class Check:
        def verdicts(self):
            return {
                "magnitude": Verdict("no better than topology", "", "bad"),
                "gradient": Verdict("finds 4 of 9", "", "good"),
            }

    monkeypatch.setattr("gsnn.runs.results.read_check", lambda run: (Check(), ""))
    few = ["--rounds", 1, "--per-round", 1, "--no-control", "--decision", "none", "--epochs", 1]
    _, _, err = call(capsys, "refine", run, "--method", "magnitude,gradient", *few)
    assert "warning: the self-check calls the ranking of magnitude no better than topology: what stays may fit" in err
    assert "the ranking of gradient" not in err
    # It says nothing of edges of other kinds.
    _, _, err = call(capsys, "refine", run, "--method", "magnitude", "--kinds", "input", "--overwrite", *few)
    assert "the ranking of" not in err


def test_refine_a_run(run, truth, capsys):
    before = (run / "run.json").read_bytes(), (run / "model.safetensors").read_bytes()
    more = ["--epochs", 1, "--per-round", 2]
    code, out, err = call(capsys, "refine", run, "--rounds", 1, "--truth", truth, *more)
    assert code == 0, err
    assert "Refinement: losses before and after each round" in out
    assert "\x1b" not in out + err
    rows = pd.read_csv(run / "refine.csv")
    assert rows.groupby("arm").size().to_dict() == {"inferred": 2, "random": 2}
    assert rows["true"].notna().all()
    refused(call(capsys, "refine", run, "--rounds", 2, "--truth", truth, *more), "--resume")
    assert call(capsys, "refine", run, "--rounds", 2, "--truth", truth, "--resume", *more)[0] == 0
    assert len(pd.read_csv(run / "refine.csv")) == 8
    assert before == ((run / "run.json").read_bytes(), (run / "model.safetensors").read_bytes())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--method", "magnitud"], ["did you mean 'magnitude'"]),
        (["--decision", "bisekt"], ["did you mean 'bisect'"]),
        (["--rounds", "0"], ["rounds must be at least 1"]),
        (["--min-drop", "-1"], ["min_drop"]),
        (["--truth", "nowhere.csv"], ["nowhere.csv"]),
        (["--resume", "--overwrite"], ["exclude each other"]),
    ],
)
def test_refine_refuses_and_writes_nothing(run, more, words, capsys):
    refused(call(capsys, "refine", run, *more), *words)
    assert not list(run.glob("refine*"))


@pytest.mark.slow
def test_real_processes(run, truth):
    one_line(gsnn_process("refine", run / "nowhere"), "nowhere")
    result = gsnn_process("selfcheck", run, "--repeats", "1", "--fraction", "0.4", "--epochs", "1", "--no-controls")
    assert result.returncode == 0, result.stderr
    assert "Precision to expect" in result.stdout
    assert gsnn_process("evaluate", run, "--truth", truth, "--json").returncode == 0


def test_json_of_the_protocols_is_one_object(run, capsys):
    few = ["--no-controls", "--fraction", "0.4", "--repeats", "1", "--method", "magnitude"]
    code, out, _ = call(capsys, "selfcheck", run, *few, "--json")
    found = json.loads(out)
    assert (code, found["files"][0]) == (0, str(run / "selfcheck.json"))
    assert {row["method"] for row in found["summary"]} >= {"magnitude"}
    code, out, _ = call(capsys, "refine", run, "--no-control", "--rounds", 1, "--per-round", 2, "--json", "--epochs", 1)
    found = json.loads(out)
    assert code == 0
    assert len(found["rounds"]) == 1
    assert len(found["edges"]) == 2
    assert {"source", "target", "kept"} <= set(found["edges"][0])
