"""Commands that read a streamed run work on a sample of it, and say so."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gsnn.cli import main
from gsnn.data import drawn as drawn_module
from gsnn.discovery import Audit, Refinement
from gsnn.discovery.auditing.restricted import Recipe
from gsnn.runs import Run, infer_run, train_files
from gsnn.runs.audit import audit_run
from gsnn.runs.results import stale_results
from gsnn.runs.sample import run_parts, run_sample

from .conftest import EDGES, make_world, write_files
from .test_command import SETTINGS, sources

SAID = "the samples stay in their files, and these figures are of "


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """A run of 400 samples that stay in their files, of which a command takes 60 of each part."""
    folder = tmp_path_factory.mktemp("streamed")
    network = folder / "network.sif"
    network.write_text("".join(f"{a}\t{sign}\t{b}\n" for a, b, sign in EDGES))
    given = sources(network, write_files(folder, make_world(), "npy"), "npy", stream=True)
    run, _ = train_files(folder / "run", **given, settings=SETTINGS)
    infer_run(Run.open(run.path), method="magnitude")
    patch = pytest.MonkeyPatch()
    patch.setattr(drawn_module, "SAMPLE", 60)
    yield Run.open(run.path)
    patch.undo()


def call(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    assert stopped.value.code == 0, err
    return out, err


def test_the_parts_of_a_sample_are_those_of_the_run(streamed):
    data, split = run_parts(streamed)
    whole = streamed.split()
    assert (len(split.train), len(split.test)) == (60, 60)
    assert (data.drawn.used, data.drawn.of) == (120, len(whole.train) + len(whole.test))
    assert data.x[split.test].tolist() == run_sample(streamed, part="test").x.tolist()
    seen = {row.tobytes() for row in data.x[split.train]}
    assert not seen & {row.tobytes() for row in data.x[split.test]}


def test_questions_to_the_model_are_answered_on_a_sample(streamed, tmp_path, capsys):
    n = len(streamed.split().train) + len(streamed.split().test)
    of_both = f"{SAID}120 of {n} samples, drawn at random (seed 0)"
    out, _ = call(capsys, "knockout", streamed.path, "--all", "--picture", "")
    assert f"note: {of_both}" in out
    assert of_both in json.loads((streamed.path / "knockout.json").read_text())["notes"]
    out, _ = call(capsys, "explain", streamed.path, "--worst", "1", "--picture", "")
    assert f"note: {of_both}" in out
    out, _ = call(capsys, "design", streamed.path, "--batch", "2", "--hypotheses", "2", "--picture", "")
    assert f"note: {of_both}" in out
    new = tmp_path / "new.csv"
    new.write_text("condition,a,b,g\none,1,0,0\n")
    out, err = call(capsys, "predict", streamed.path, "--inputs", new)
    assert len(pd.read_csv(streamed.path / "predictions.csv")) == 1
    assert f"what lies outside of the training: {SAID}60 of {len(streamed.split().train)} samples" in err
    truth = tmp_path / "truth.csv"
    truth.write_text("source,target\nc,e\n")
    out, _ = call(capsys, "evaluate", streamed.path, "--truth", truth)
    assert f"residual correlation: {of_both}" in out


def test_a_refinement_and_an_audit_of_a_sample_hold_for_the_run(streamed, capsys):
    _, err = call(capsys, "refine", streamed.path, "--method", "magnitude", "--rounds", "1", "--per-round", "1",
                    "--no-control", "--decision", "none")  # fmt: skip
    assert f"{SAID}60 of 400 samples, drawn at random (seed 0)" in err
    found = Refinement.read(streamed.path)
    assert found.settings["sample"] == {"used": 60, "of": 400, "seed": 0}
    # As many steps as the run: 2 epochs of 400 samples are 14 of 60.
    assert found.settings["config"]["epochs"] == 14
    assert not stale_results(streamed)
    audit = audit_run(streamed, kinds="function", removal=False, recipe=Recipe(steps=20, batch=16))
    assert audit.warnings[0] == f"{SAID}60 of 400 samples, drawn at random (seed 0)"
    assert Audit.read(streamed.path).drawn == audit.drawn
    assert audit.settings["fingerprint"] == streamed.info["data"]["fingerprint"]
    assert {edge["verdict"] for edge in audit.edges}
    assert not np.isnan(audit.facts["r2"])
