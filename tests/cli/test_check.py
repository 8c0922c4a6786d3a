"""gsnn check: what it finds, and when it refuses."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from gsnn.cli import main
from gsnn.graph.bypass import bypass_count

from .conftest import EDGES, PLAIN, write_csv, write_problem


def call(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def test_counts_of_a_network_that_was_counted_by_hand(tmp_path, capsys):
    network, data = write_problem(tmp_path)
    lines = data.read_text().splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:3], "NA"])
    data.write_text("\n".join(lines) + "\n")
    code, out, err = call(capsys, "check", "--graph", network, "--data", data, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["ok"] is True
    assert found["network"] == {
        "species": 6, "edges": 6, "activating": 5, "inhibiting": 1, "unknown sign": 0, "duplicated edges": 0,
        "self-edges": 0,
    }  # fmt: skip
    assert found["types"]["candidate edges"] == 6 * 5 - len(EDGES)
    assert found["unmatched"]["treatments"] == []
    assert found["degrees"]["in: smallest, median, mean, largest"] == [0, 1.0, 1.0, 2]
    assert found["masked"]["values missing, left out of the loss"] == 1
    assert found["masked"]["readouts with missing values"] == ["DV:f"]
    assert found["masked"]["known edges a self-check can hide"] == 6
    assert found["reachability"]["functions that reach no output"] == []
    assert found["aliases"]["reach"]["groups"] > 0
    code, text, err = call(capsys, "check", "--graph", network, "--data", data)
    assert (code, err) == (0, "")
    for word in ("Reachability", "Degrees", "have at least one alias", "r to beat", "would take these files"):
        assert word in text


def test_times_and_what_cannot_be_used_even_in_part(tmp_path, capsys):
    network, data = write_problem(tmp_path)
    head, *rows = data.read_text().splitlines()
    lines = [f"{head},DA:ALL", *(f"{row},30" for row in rows), "0,0,1,1,0"]
    data.write_text("\n".join(lines) + "\n")
    code, out, _ = call(capsys, "check", "--graph", network, "--data", data, "--json")
    assert code == 0
    assert json.loads(out)["responses"]["times"] == [30]
    assert json.loads(out)["responses"]["baseline rows left out"] == 1
    data.write_text("TR:zz,DV:yy\n0,1\n1,2\n2,3\n")
    code, out, err = call(capsys, "check", "--graph", network, "--data", data, "--json")
    assert code == 2
    assert err.startswith("error: ")
    assert set(json.loads(out)) >= {"ok", "error", "network", "responses"}
    assert "types" not in json.loads(out), "nothing is left to count"
    assert json.loads(out)["unmatched"]["treatments"] == ["zz"]


def test_what_many_bypasses_mean(tmp_path, capsys, monkeypatch):
    more = [(a, b, 1) for a, b in ("ab", "ad", "ae", "af", "bd", "bf", "cf")]
    network, data = write_problem(tmp_path, edges=[*EDGES, *more])
    files = ("--graph", network, "--data", data)
    code, out, _ = call(capsys, "check", *files)
    assert code == 0
    said = "note: 7 of 13 known edges have a bypass: a model that lacks such an edge loses little"
    assert said in out
    assert "Values and known edges" in out
    monkeypatch.setattr("gsnn.graph.bypass.bypass_count", partial(bypass_count, most=5))
    assert "of 5 drawn at random, of 13" in call(capsys, "check", *files)[1]
    write_problem(tmp_path)
    assert "have a bypass: " not in call(capsys, "check", *files)[1]


def test_long_lists_of_unmatched_names_are_cut(tmp_path, capsys):
    names = [f"q{i}" for i in range(30)]
    write_csv(tmp_path / "n.csv", [("source", "target"), ("a", "b")])
    write_csv(
        tmp_path / "d.csv", [["TR:a", "DV:b", *(f"DV:{name}" for name in names)], *([[i] * 32 for i in range(4)])]
    )
    code, out, err = call(capsys, "check", "--graph", tmp_path / "n.csv", "--data", tmp_path / "d.csv")
    assert code == 2
    assert "'q7'; and 22 more" in err
    assert "'q8'" not in err
    assert "and 22 more" in out


def test_unmatched_identifiers_are_listed_and_refused(tmp_path, capsys):
    network, data = write_problem(tmp_path)
    data.write_text(data.read_text().replace("TR:b", "TR:bb", 1))
    code, out, err = call(capsys, "check", "--graph", network, "--data", data, "--json")
    assert code == 2
    assert err.startswith("error: ")
    found = json.loads(out)
    assert found["ok"] is False
    assert "'bb'" in found["error"]
    assert found["unmatched"]["treatments"] == ["bb (closest: b)"]
    code, out, err = call(capsys, "check", "--graph", network, "--data", data)
    assert (code, "cannot be trained on as they are" in out) == (2, True)
    assert "1: bb (closest: b)" in out
    code, out, err = call(capsys, "check", "--graph", network, "--data", data, "--drop-unmatched", "--json")
    assert (code, json.loads(out)["ok"]) == (0, True)
    assert call(capsys, "check", "--graph", network, "--data", data, "--quiet")[:2] == (2, "")


def test_dead_ends_and_what_no_input_reaches(tmp_path, capsys):
    edges = [*EDGES, ("f", "e2", 1), ("z", "d", 1)]
    network, data = write_problem(tmp_path, PLAIN | {"e2": "dead", "z": "lonely"}, edges=edges)
    found = json.loads(call(capsys, "check", "--graph", network, "--data", data, "--json")[1])
    assert found["reachability"]["functions no input reaches"] == ["lonely"]
    assert found["reachability"]["functions that reach no output"] == ["dead"]
    assert found["masked"]["known edges on no path from input to output"] == 2


def test_files_that_cannot_be_read(tmp_path, capsys):
    _, data = write_problem(tmp_path)
    code, out, err = call(capsys, "check", "--graph", tmp_path / "no.csv", "--data", data, "--json")
    assert (code, out, "no.csv" in err) == (2, "", True)
    code, _, err = call(capsys, "check", "--data", data)
    assert (code, "--graph" in err) == (2, True)


def test_baselines_to_beat_are_those_of_a_loop(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [(a, b) for a in (0, 1) for b in (0, 1, 2)]
    table = [(a, b, a + 2 * b + rng.normal(scale=0.1), a - b) for a, b in rows]
    data = write_csv(tmp_path / "data.csv", [("TR:a", "TR:b", "DV:d", "DV:f"), *table])
    network = write_csv(tmp_path / "network.csv", [("source", "target", "sign"), *EDGES])
    found = json.loads(call(capsys, "check", "--graph", network, "--data", data, "--json")[1])["to beat"]
    y = np.array([row[2:] for row in table])
    # Three of the six conditions have a, four have b: a splits them more evenly until a condition of b = 0 is out.
    predicted = []
    for k, (a, b) in enumerate(rows):
        rest = [j for j in range(6) if j != k]
        split = [min(sum(rows[j][i] != 0 for j in rest), sum(rows[j][i] == 0 for j in rest)) for i in (0, 1)]
        by = 0 if split[0] >= split[1] else 1
        group = [j for j in rest if (rows[j][by] != 0) == ((a, b)[by] != 0)]
        predicted.append(y[group].mean(0))
    assert found["folds"] == 6
    assert found["group mean"] == pytest.approx(np.corrcoef(np.ravel(predicted), y.ravel())[0, 1], rel=1e-5)
    assert found["ridge"] > 0.9


def test_samples_that_leave_with_their_treatment_are_counted(tmp_path, capsys):
    (tmp_path / "n.sif").write_text("A\t1\tC\nB\t1\tC\n")
    rows = [f"{a},{b},{x},{a + 2 * b + 9 * x}" for a in (0, 1) for b in (0, 1) for x in (0, 1, 0)]
    (tmp_path / "m.csv").write_text("\n".join(["TR:A,TR:B,TR:X,DV:C", *rows]) + "\n")
    with pytest.raises(SystemExit):
        main(["check", "--graph", str(tmp_path / "n.sif"), "--data", str(tmp_path / "m.csv"), "--drop-unmatched"])
    shown = capsys.readouterr()
    assert "samples left                8" in shown.out
    assert "4 samples left out, since a treatment that is no species was applied there: 'X'" in shown.err
