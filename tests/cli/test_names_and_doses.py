"""Maps of names on the command line, from a proposal to later commands of a run."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from .conftest import SMALL, gsnn, one_line, write_csv, write_problem


@pytest.fixture
def labelled(tmp_path):
    """The small problem with labels that are no species: a drug, and two readouts of one protein."""
    network, data = write_problem(tmp_path)
    _, *rows = data.read_text().splitlines()
    rows = [",".join(str(100 * float(v)) if i == 1 else v for i, v in enumerate(row.split(","))) for row in rows]
    data.write_text("\n".join(["TR:a,TR:drug,DV:d_pS1,DV:d_pT2", *rows]) + "\n")
    return network, data


def test_from_a_proposal_to_a_run_and_its_later_commands(labelled, tmp_path):
    network, data = labelled
    files = ["--graph", network, "--data", data]
    refused = gsnn("check", *files, "--write-map", tmp_path / "names.csv")
    assert refused.returncode == 2
    assert "--map" in refused.stderr
    written = tmp_path / "names.csv"
    assert (
        f"Next: correct {written}, then gsnn check --graph {network} --data {data} --map {written}\n" in refused.stdout
    )
    without = gsnn("check", *files, "-q")
    assert without.stdout == ""
    without = gsnn("check", *files)
    assert "1: drug\n" in without.stdout
    assert f"Next: gsnn check --graph {network} --data {data} --write-map names.csv, which guesses" in without.stdout
    proposed = pd.read_csv(tmp_path / "names.csv", keep_default_na=False).set_index("label")
    assert proposed.loc["drug", "scale"] == "log:100"
    assert proposed.loc["d_pS1", ["species", "site"]].tolist() == ["d", "S1"]
    one_line(gsnn("check", *files, "--write-map", tmp_path / "names.csv"), "exists")
    rows = [
        ("label", "species", "effect", "scale"),
        ("drug", "b", "inhibits", "log:100"),
        ("drug", "c", "inhibits", ""),
    ]
    write_csv(tmp_path / "map.csv", [*rows, ("d_pS1", "d", "measures", ""), ("d_pT2", "d", "measures", "")])
    files += ["--map", tmp_path / "map.csv"]
    found = json.loads(gsnn("check", *files, "--json").stdout)
    told = gsnn("check", *files, "--write-map", tmp_path / "third.csv").stdout
    assert f"Next: gsnn train --graph {network} --data {data} --map {tmp_path / 'map.csv'} -o runs/first\n" in told
    assert (found["ok"], found["types"]["input -> function"], found["types"]["function -> output"]) == (True, 3, 2)
    run = tmp_path / "run"
    trained = gsnn("train", *files, "-o", run, *SMALL[:-1])
    assert trained.returncode == 0, trained.stderr
    assert "Verdict: " in trained.stdout
    info = json.loads((run / "run.json").read_text())
    assert len(info["sources"]["files"]["map"]["sha256"]) == 64
    assert info["data"]["scales"] == {"TR:drug": "log:100"}
    assert gsnn("infer", run, "--quiet").returncode == 0
    (tmp_path / "map.csv").write_text((tmp_path / "map.csv").read_text().replace("drug,c", "drug,e"))
    one_line(gsnn("infer", run), "the map file", "changed")


def test_init_keeps_the_map(labelled, tmp_path):
    network, data = labelled
    rows = [("label", "species", "effect"), ("drug", "b", "inhibits"), ("d_pS1", "d", "measures"),
            ("d_pT2", "d", "measures")]  # fmt: skip
    write_csv(tmp_path / "map.csv", rows)
    files = ["--graph", network, "--data", data, "--map", tmp_path / "map.csv"]
    assert gsnn("init", *files, "-o", tmp_path / "gsnn.toml").returncode == 0
    assert gsnn("check", "--config", tmp_path / "gsnn.toml", "--quiet").returncode == 0
