"""What a user gets wrong: one line, exit code 2, and no run folder."""

from __future__ import annotations

import errno

import pytest

from gsnn.base.errors import GsnnError
from gsnn.cli import commands as commands_module
from gsnn.cli import main

from .conftest import EDGES, PLAIN, SMALL, gsnn, one_line, write_csv, write_problem


def refused(folder, network, data, *words, more=()):
    run = folder / "runs" / "new"
    one_line(gsnn("train", "--graph", network, "--data", data, "-o", run, *SMALL, *more), *words)
    assert not run.parent.exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/x/model"), "runs/x/model: No space left on device"),
        (OSError(errno.EIO, "Input/output error"), "a file: Input/output error"),
        (GsnnError("two\nlines"), "two lines"),
        (OSError(errno.ECHILD, "No child processes"), None),
        (ZeroDivisionError("a mistake of ours"), None),
    ],
)
def test_troubles_of_the_machine_are_one_line_and_mistakes_of_ours_are_not_hidden(error, told, monkeypatch, capsys):
    def fail(**_):
        raise error

    monkeypatch.setattr(commands_module, "app", fail)
    with pytest.raises(type(error) if told is None else SystemExit) as caught:
        main(["train"])
    if told is None:
        assert caught.value is error
    else:
        assert caught.value.code == 2
        assert capsys.readouterr().err == f"error: {told}\n"


def test_missing_file(tmp_path, problem):
    refused(tmp_path, tmp_path / "nowhere.sif", problem[1], "nowhere.sif")
    refused(tmp_path, problem[0], tmp_path / "nowhere.csv", "nowhere.csv")


@pytest.mark.parametrize("which", [0, 1])
def test_empty_file(tmp_path, problem, which):
    problem[which].write_text("")
    refused(tmp_path, *problem, problem[which].name, "empty")


def test_network_with_unknown_columns(tmp_path, problem):
    network = write_csv(tmp_path / "odd.csv", [("alpha", "beta", "gamma", "delta"), ("1", "2", "3", "4")])
    refused(tmp_path, network, problem[1], "odd.csv")


def test_no_shared_identifier(tmp_path, problem):
    write_csv(problem[0], [("source", "target"), ("x1", "x2"), ("x2", "x3")])
    refused(tmp_path, *problem, "shares no identifier")


def test_unmatched_identifier_names_the_closest(tmp_path, problem):
    write_csv(problem[1], [("TR:a", "DV:dd"), (1, 2), (0, 1), (2, 3), (3, 4)])
    refused(tmp_path, *problem, "'dd'", "closest")


def test_non_numeric_cell_has_row_and_column(tmp_path, problem):
    text = problem[1].read_text().splitlines()
    text[4] = ",".join(["1", "oops", "1", "1"])
    problem[1].write_text("\n".join(text))
    refused(tmp_path, *problem, "oops", "5", "TR:b")


def test_fewer_than_three_samples(tmp_path):
    refused(tmp_path, *write_problem(tmp_path, samples=2), "2 usable samples", "at least 3")


def test_unknown_norm_names_the_closest(tmp_path, problem):
    refused(tmp_path, *problem, "unknown norm 'grupbatch'", "did you mean 'groupbatch'?", more=["--norm", "grupbatch"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--lr", "-1"], ["lr must be", "-1"]),
        (["--epochs", "many"], ["--epochs"]),
        (["--graph-format", "siff"], ["format 'siff'", "did you mean 'sif'?"]),
        (["--source-column", "Quelle"], ["Quelle"]),
        (["--time", "5"], ["time"]),
        (["--sign-column", "x", "--sign-column", "y", "--sign-column", "z"], ["--sign-column", "3 times"]),
        (["--resume", "--overwrite"], ["exclude each other"]),
        (["--inputs", "x.csv"], ["one file"]),
        (["--chanels", "3"], ["--chanels", "--channels"]),
    ],
)
def test_wrong_options(tmp_path, problem, more, words, capsys):
    # In this process: what matters is the message, and a process of its own takes seconds.
    run = tmp_path / "runs" / "new"
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--graph", str(problem[0]), "--data", str(problem[1]), "-o", str(run), *SMALL, *more])
    out, err = capsys.readouterr()
    assert (stopped.value.code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("error: ")
    for word in words:
        assert word in err
    assert not run.parent.exists()


def test_folder_that_cannot_be_made(tmp_path, problem):
    (tmp_path / "file").write_text("in the way")
    result = gsnn("train", "--graph", problem[0], "--data", problem[1], "-o", tmp_path / "file" / "run", *SMALL)
    one_line(result, "file")


def test_folder_that_holds_something_else(tmp_path, problem):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("words")
    for more in ([], ["--overwrite"]):
        result = gsnn("train", "--graph", problem[0], "--data", problem[1], "-o", tmp_path / "precious", *SMALL, *more)
        one_line(result, "precious")
    assert [p.name for p in (tmp_path / "precious").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("command", ["infer", "report"])
def test_run_that_is_none(tmp_path, command):
    one_line(gsnn(command, tmp_path / "nothing"), "nothing")
    one_line(gsnn(command, tmp_path), "run")


def test_unknown_method_score_and_more(trained):
    run, _ = trained
    one_line(gsnn("infer", run, "--method", "magnitud"), "unknown method 'magnitud'", "did you mean 'magnitude'?")
    one_line(gsnn("infer", run, "--score", "cor"), "unknown score 'cor'", "'partial'", "did you mean 'corr'?")
    one_line(gsnn("infer", run, "--top", "0"), "top must be at least 1")


def test_wrong_command_and_missing_option():
    one_line(gsnn("trian"), "trian", "train")
    one_line(gsnn("train"), "--graph")


def test_unreachable_output_is_a_warning(tmp_path):
    network, data = write_problem(
        tmp_path, PLAIN | {"d": "far"}, edges=[e for e in EDGES if "d" not in e] + [("d", "b", 1)]
    )
    small = [word for word in SMALL if word != "--quiet"]
    result = gsnn("train", "--graph", network, "--data", data, "-o", tmp_path / "run", *small)
    assert result.returncode == 0, result.stderr
    assert any(line.startswith("warning: ") and "DV:far" in line for line in result.stderr.splitlines())
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_changed_data_are_noticed(tmp_path, problem):
    run = tmp_path / "run"
    assert gsnn("train", "--graph", problem[0], "--data", problem[1], "-o", run, *SMALL).returncode == 0
    problem[1].write_text(problem[1].read_text() + "1,1,1,1\n")
    one_line(gsnn("report", run), "changed")
    one_line(gsnn("train", "--graph", problem[0], "--data", problem[1], "-o", run, *SMALL), "finished run")
