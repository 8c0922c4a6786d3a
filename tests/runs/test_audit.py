"""The audit of a run: what it uses of the run, its lock, and where it is shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import RunError
from gsnn.discovery import auditing
from gsnn.discovery.auditing.restricted import Recipe
from gsnn.report.contents import collect
from gsnn.report.html import render
from gsnn.runs import Run
from gsnn.runs.audit import audit_run
from gsnn.runs.results import read_audit, stale_results
from gsnn.runs.train import train_files

SMALL = {"epochs": 2, "channels": 2, "layers": 4}
QUICK = Recipe(steps=20, batch=16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small run with hostile names."""
    folder = tmp_path_factory.mktemp("audit")
    edges = ["f0\t1\t<b>f1</b>", "<b>f1</b>\t1\tf2", "f0\t-1\tf2", "f2\t1\tf3"]
    (folder / "network.sif").write_text("\n".join(edges) + "\n")
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(30, 1)), columns=["TR:f0"])
    y = pd.DataFrame(rng.normal(size=(30, 2)), columns=["DV:f2", "DV:f3"])
    pd.concat([x, y], axis=1).to_csv(folder / "data.csv", index=False)
    run = train_files(folder / "run", graph=folder / "network.sif", data=folder / "data.csv", settings=SMALL)[0]
    return run, audit_run(run, recipe=QUICK)


def test_it_stands_in_the_folder_and_the_report(trained):
    run, found = trained
    assert len(pd.read_csv(run.path / "audit.csv")) == len(found.edges) == 7
    data = collect(run)
    assert data.audit_summary["edges"].sum() == 7
    page = render(data)
    assert "Do the data support the known edges?" in page
    assert "<b>f1</b>" not in page.split("<script")[0]


def test_the_model_of_the_run_stands_for_the_whole_graph(trained, monkeypatch):
    given = []

    def seen(data, config, **options):
        given.append(options["model"])

    monkeypatch.setattr(auditing, "audit", seen)
    run = trained[0]
    audit_run(run, overwrite=True)
    audit_run(run, overwrite=True, settings={"epochs": 3})
    assert given[0] is not None
    assert given[1] is None


def test_switches_and_lock(trained):
    run = trained[0]
    with pytest.raises(RunError, match="exclude each other"):
        audit_run(run, overwrite=True, resume=True)
    with pytest.raises(RunError, match="--resume"):
        audit_run(run, recipe=QUICK)
    with run.lock(), pytest.raises(RunError, match="another program is working"):
        audit_run(Run.open(run.path), recipe=QUICK, overwrite=True)


def test_an_audit_of_other_data_is_not_shown(trained):
    run = Run.open(trained[0].path)
    assert read_audit(run)[1] == ""
    run.info["data"]["fingerprint"] = "other"
    assert read_audit(run)[0] is None
    assert "audit in the folder is of other data" in stale_results(run)[0]
