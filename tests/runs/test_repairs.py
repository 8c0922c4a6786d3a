"""The table of repairs of a run: written in either order, dropped when it is of the past, refined with, reported."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError, RunError
from gsnn.discovery.auditing.restricted import Recipe
from gsnn.discovery.repairs import COLUMNS
from gsnn.io import read_network
from gsnn.report.contents import collect
from gsnn.report.html import render
from gsnn.runs import Run, audit_run, infer_run, refine_run
from gsnn.runs.repairs import read_run_repairs
from gsnn.runs.train import train_files

SMALL = {"epochs": 2, "channels": 2, "layers": 4}
AUDIT = {"recipe": Recipe(steps=20, batch=16), "removal": False}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small run with hostile names, audited, then with candidates of every kind."""
    folder = tmp_path_factory.mktemp("repairs")
    edges = ["f0\t1\t<b>f1</b>", "<b>f1</b>\t1\tf2", "f0\t-1\tf2", "f2\t1\tf3", "g\t1\tf2"]
    (folder / "network.sif").write_text("\n".join(edges) + "\n")
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(30, 2)), columns=["TR:f0", "TR:g"])
    y = pd.DataFrame(rng.normal(size=(30, 2)), columns=["DV:f2", "DV:f3"])
    pd.concat([x, y], axis=1).to_csv(folder / "data.csv", index=False)
    run = train_files(folder / "run", graph=folder / "network.sif", data=folder / "data.csv", settings=SMALL)[0]
    patched = pytest.MonkeyPatch()
    patched.setattr("gsnn.discovery.repairs.STEPS", 2)
    audit_run(run, **AUDIT)
    assert not run.repairs_path.is_file()
    infer_run(run, kinds="all")
    yield run
    patched.undo()


@pytest.fixture
def run(whole, tmp_path):
    return Run.open(shutil.copytree(whole.path, tmp_path / "run"))


def test_either_order_gives_the_table(run):
    table = pd.read_csv(run.repairs_path)
    assert tuple(table.columns) == COLUMNS
    assert set(table.query("action == 'add'")["kind"]) == {"input->function", "function->function", "function->output"}
    before = run.repairs_path.read_bytes()
    run.repairs_path.unlink()
    audit_run(run, overwrite=True, **AUDIT)
    assert run.repairs_path.read_bytes() == before


def test_a_table_of_the_past_goes(run):
    infer_run(run, kinds="function")
    assert not run.repairs_path.is_file()
    with pytest.raises(DataError, match=r"run gsnn audit .* then gsnn infer"):
        read_run_repairs(run)


def test_it_stands_in_the_report(run):
    page = render(collect(run)).split("<script")[0]
    assert "What would repair the network?" in page
    assert "<b>f1</b>" not in page
    run.repairs_path.unlink()
    assert "What would repair the network?" not in render(collect(run)).split("<script")[0]


def test_a_refinement_tries_it_and_writes_the_network(run, tmp_path):
    file = tmp_path / "own.csv"
    file.write_text("action,source,target,sign,gain,gain_low\nadd,f3,f0,-1,1,1\nflip,f0,f2,1,1,1\nremove,f2,f3,1,0,0\n")
    found = refine_run(run, repairs=file, rounds=1, control=False, decision="none")
    assert found.table()["action"].tolist() == ["add", "flip", "remove"]
    edges = pd.read_csv(run.path / "refined-network.csv")
    signs = {(row["source"], row["target"]): row["sign"] for row in edges.to_dict("records")}
    assert signs["f3", "f0"] == -1
    assert signs["f0", "f2"] == 1
    assert ("f2", "f3") not in signs
    assert set(edges["kind"]) == {"input->function", "function->function", "function->output"}
    assert not (run.path / "refined-map.csv").exists()
    with pytest.raises(RunError, match="repairs was"):
        refine_run(run, repairs=True, rounds=1, control=False, decision="none", resume=True)
    mine = refine_run(run, repairs=True, rounds=1, per_round=2, control=False, overwrite=True)
    assert mine.settings["method"] == "repairs"
    assert mine.summary()["test_after"].isna().all()


def test_the_refined_network_can_be_trained_on(run, whole, tmp_path):
    file = tmp_path / "own.csv"
    file.write_text(
        "action,source,target,sign,gain,gain_low\nadd,f3,f0,-1,1,1\nadd,TR:g,f3,0,1,1\nadd,f0,DV:f2,0,1,1\n"
    )
    refine_run(run, repairs=file, rounds=1, control=False, decision="none")
    network, names = run.path / "refined-network.csv", run.path / "refined-map.csv"
    read = read_network(network)
    assert set(read.species) == {"f0", "<b>f1</b>", "f2", "f3", "g"}
    assert len(read.edges) == 6
    assert any("edges of treatments and readouts left out" in warning for warning in read.warnings)
    table = pd.read_csv(names, keep_default_na=False).set_index(["label", "species"])
    assert table.loc[("TR:g", "f3"), ["effect", "note"]].tolist() == ["activates", "the effect is not known"]
    data = whole.path.parent / "data.csv"
    again = train_files(tmp_path / "again", graph=network, data=data, names=names, settings=SMALL)[0].data().graph
    was = run.data().graph
    assert (again.inputs, again.outputs, set(again.functions)) == (was.inputs, was.outputs, set(was.functions))
    pairs = [
        set(graph.to_pandas()[0][["source", "target"]].itertuples(index=False, name=None)) for graph in (again, was)
    ]
    assert pairs[0] - pairs[1] == {("f3", "f0"), ("TR:g", "f3"), ("f0", "DV:f2")}


def test_wrong_files_are_refused(run, tmp_path):
    file = tmp_path / "own.csv"
    with pytest.raises(DataError, match="does not exist"):
        refine_run(run, repairs=file)
    file.write_text("action,source,target\nadd,f0,f2\n")
    with pytest.raises(DataError, match="row 1: cannot add 'f0' -> 'f2'"):
        refine_run(run, repairs=file)
    assert not (run.path / "refine.json").exists()
