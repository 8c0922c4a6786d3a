"""What is printed, on a terminal and in a pipe."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.cli import output as output_module
from gsnn.cli.output import show_edges, show_fit, show_table, show_warnings
from gsnn.cli.processes import together
from gsnn.cli.selfcheck import _show
from gsnn.training.baselines import Figures, fit_report

from ..report.conftest import make_check
from .conftest import HOSTILE


@pytest.fixture(params=[False, True], ids=["pipe", "terminal"])
def terminal(request, monkeypatch):
    # Not sys.stdout itself, which pytest replaces between here and the test.
    monkeypatch.setattr(output_module, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: request.param)))
    monkeypatch.setenv("COLUMNS", "200")
    return request.param


def test_names_are_neither_cut_nor_markup(terminal, capsys):
    names = [*HOSTILE.values(), "x" * 120]
    show_table("[red]title[/red]", ["name", "n"], [[name, "1"] for name in names])
    out = capsys.readouterr().out
    for name in (*names, "[red]title[/red]"):
        assert name in out


def test_a_pipe_is_plain_at_any_width(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    show_table("t", ["name", "n"], [["y" * 300, "1"]])
    assert capsys.readouterr().out == f"t\nname{' ' * 296}  n\n{'y' * 300}  1\n"


def test_fit_shows_undefined_and_no_negative_zero(terminal, capsys):
    y = np.array([[0.0, np.nan], [2.0, 1.0], [1.0, np.nan]])
    flat = np.full_like(y, 1.00001)
    show_fit(
        fit_report(
            {"model": Figures.of(y, y), "ridge": Figures.of(y, y), "mean": Figures.of(y, flat)}, ["DV:a", "DV:b"]
        )
    )
    out = capsys.readouterr().out
    assert "-0.000" not in out
    cells = next(line for line in out.splitlines() if line.lstrip().startswith("DV:b")).split()
    assert cells == ["DV:b", "1", "-", "-", "-"]


def test_edges_say_what_p_is_not_and_never_print_p_as_zero(terminal, capsys):
    edges = pd.DataFrame(
        {
            "source": ["a", "b", "c"],
            "target": ["b", "c", "a"],
            "score": [0.5, np.nan, 0.1],
            "rank": pd.array([1, 2, None], dtype="Int64"),
            "p": [0.0, np.nan, 0.5],
            "q": [1e-9, np.nan, np.nan],
            "known": [False, False, True],
        }
    )
    inference = {"candidates": 5, "aliases": None}
    show_edges(edges, inference)
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "Candidate edges, each a hypothesis: the best 2 of 5 (p and q test association, not an edge)"
    assert lines[2].split() == ["1", "a", "b", "0.500", "<1e-300", "1.0e-09"]
    assert lines[3].split() == ["2", "b", "c", "-", "-", "-"]
    assert "an association is not an edge" in " ".join(text.split())
    show_edges(edges[edges["known"]], inference)
    assert "no candidate edge" in capsys.readouterr().out


def test_edges_of_a_method_without_a_test_show_what_they_have(terminal, capsys):
    edges = pd.DataFrame({"source": ["a"], "target": ["b"], "score": [0.5], "rank": [1], "p": [np.nan], "q": [np.nan]})
    edges = edges.assign(known=False, sign=-1, alias_group=7, alias_size=4)
    edges = edges.assign(expected_precision=0.25, precision_low=0.125, precision_high=0.5, precision_chance=0.01)
    inference = {"candidates": 9, "aliases": {"by": "reach", "share_aliased": 0.9999, "groups": 3}}
    show_edges(edges, inference)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Candidate edges, each a hypothesis: the best 1 of 9, look-alikes in one row"
    assert lines[1].split() == ["rank", "source", "target", "sign", "score", "expected", "precision", "look-alikes"]
    assert lines[2].split() == ["1", "a", "b", "-", "0.500", "0.250", "(0.125-0.500)", "3"]
    assert "guessing gives 0.010" in lines[-1]
    assert "not estimable" not in lines[-1]
    show_edges(edges.assign(expected_precision=np.nan, precision_low=0.0, precision_high=1.0), inference)
    told = capsys.readouterr().out
    assert "not estimable (0.000-1.000)" in told
    assert "not estimable where the interval is wider than 0.5" in " ".join(told.split())
    assert "more than 99% of all candidates have some, in 3 groups" in " ".join(" ".join(lines).split())


def test_a_control_that_fails_is_a_warning(capsys):
    check = make_check()
    for record in check.repeats:
        record["conditions"]["permuted"]["methods"] = record["conditions"]["real"]["methods"]
    _show(check, None)
    out, err = capsys.readouterr()
    assert "Control, permuted samples" in out
    assert err.startswith("warning: first does not pass the control 'permuted': AUC ")
    _show(make_check(), None)
    assert capsys.readouterr().err == ""


def test_the_timeout_is_above_zero():
    with pytest.raises(DataError, match="timeout must be a number of seconds above 0, got 0"), together(0):
        pass


def test_warnings_go_to_stderr_one_a_line(capsys):
    show_warnings(["two\nlines"])
    show_warnings(["none"], quiet=True)
    assert capsys.readouterr() == ("", "warning: two lines\n")


def test_of_many_readouts_the_ends_are_listed(terminal, capsys):
    y = np.random.default_rng(0).normal(size=(5, 50))
    worse = y + np.arange(50) / 50
    figures = {"model": Figures.of(y, worse), "ridge": Figures.of(y, y), "mean": Figures.of(y, y)}
    show_fit(fit_report(figures, [f"DV:r{i:02d}" for i in range(50)]))
    out = capsys.readouterr().out
    listed = [line.split()[0] for line in out.splitlines() if line.startswith(("DV:", "("))]
    assert len(listed) == 21
    assert listed[0] == "DV:r00"
    assert "(30 between)" in out
    assert "all, pooled" in out
