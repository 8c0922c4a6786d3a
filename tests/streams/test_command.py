"""The command line and run folders on data that stay in their files."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError, RunError
from gsnn.base.launch import Place, training_place
from gsnn.cli import main
from gsnn.data import drawn as drawn_module
from gsnn.data import fingerprint
from gsnn.data.drawn import Drawn
from gsnn.discovery import SelfCheck
from gsnn.report.contents import collect
from gsnn.report.html import report_run
from gsnn.runs import Job, Run, Sources, infer_run, train_files
from gsnn.runs import sources as sources_module
from gsnn.runs.check import check_up
from gsnn.runs.sample import run_sample
from gsnn.runs.selfcheck import self_check_run
from gsnn.training import TrainConfig

from .conftest import EDGES, READOUTS, TREATMENTS, make_world, options_of, write_files

SETTINGS = {"epochs": 2, "channels": 2, "layers": 3, "batch_size": 32, "norm": "none", "dropout": 0.0}


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "network.sif"
    path.write_text("".join(f"{a}\t{sign}\t{b}\n" for a, b, sign in EDGES))
    return path


def sources(network, files, kind="parquet", **options):
    named = {"data" if role == "path" else role: path for role, path in files.items()}
    return {"graph": network, **named, "responses_options": {**options_of(kind), **options}}


def test_a_regressor_learns_from_streamed_data(tmp_path, world, network):
    given = sources(network, write_files(tmp_path, world, "npy"), "npy", stream=True)
    run, _ = train_files(tmp_path / "run", **given, settings=SETTINGS, regressor=True)
    edges = infer_run(run, method="regressor")
    n = Run.open(run.path).info["inference"]["n"]
    assert edges["score"].notna().all()
    # Both from the trained model, by as many samples.
    anew = infer_run(run, method="regressor,embedding", job=Job(fresh=True))
    assert anew["score_embedding"].notna().all()
    assert Run.open(run.path).info["inference"]["n"] == n


@pytest.mark.parametrize("kind", ["parquet", "npy", "h5ad"])
def test_a_run_on_streamed_data(tmp_path, world, network, kind):
    pytest.importorskip("pyarrow")
    given = sources(network, write_files(tmp_path, world, kind), kind, stream=True)
    told: list[str] = []
    run, result = train_files(tmp_path / "run", **given, settings=SETTINGS, notify=told.extend)
    assert run.sources.streamed
    assert run.info["data"]["samples"] == 400
    assert run.info["fit"]["summary"]["ridge"]["mse"] is None
    assert any("ridge baseline is left out" in w for w in run.info["warnings"])
    edges = infer_run(Run.open(run.path), method="magnitude,gradient", samples="train")
    assert len(edges) == 17  # 35, and none into the three treatments
    assert run.split().test.tolist() == result.split.test.tolist() == world.memory().split(validation=0.0).test.tolist()
    assert Run.open(run.path).info["inference"]["n"] == len(run.split().train)
    # What needs all samples says so.
    with pytest.raises(RunError, match="needs all of them in memory"):
        run.data()
    for method in ("stacked", "stability", "rank"):
        with pytest.raises(RunError, match=f"'{method}' needs all samples in memory"):
            infer_run(Run.open(run.path), method=method)
    # Training longer continues the run; other bytes in the file do not.
    longer, _ = train_files(tmp_path / "run", **given, settings={"epochs": 3}, resume=True)
    assert len(longer.metrics()) == 3
    path = next(p for role, p in given.items() if role in ("data", "outputs"))
    with path.open("ab") as handle:
        handle.write(b"\0")
    with pytest.raises(RunError, match="changed since the run was made"):
        Run.open(run.path).open_data()


def test_files_are_streamed_by_size_or_on_request(tmp_path, world, network, monkeypatch):
    pytest.importorskip("pyarrow")
    files = write_files(tmp_path, world, "parquet")
    text = tmp_path / "r.csv"
    text.write_text("TR:a,DV:d\n1,2\n")
    assert not Sources.from_files(network, files["path"]).streamed
    assert Sources.from_files(network, files["path"], responses_options={"stream": True}).streamed
    monkeypatch.setattr(sources_module, "STREAM_ABOVE", 10)
    assert Sources.from_files(network, files["path"]).streamed
    assert not Sources.from_files(network, files["path"], responses_options={"stream": False}).streamed
    assert not Sources.from_files(network, text).streamed
    with pytest.raises(DataError, match="cannot be streamed: a stream is Parquet or AnnData"):
        Sources.from_files(network, text, responses_options={"stream": True}).open()
    arrays = write_files(tmp_path, world, "npy")
    with pytest.raises(DataError, match="always streamed"):
        Sources.from_files(network, **arrays, responses_options={"stream": False, **options_of("npy")})
    with pytest.raises(DataError, match=r"belong to \.npy files"):
        Sources.from_files(network, text, responses_options=options_of("npy"))


def test_the_command_takes_npy_with_names(tmp_path, world, network, capsys):
    files = write_files(tmp_path, world, "npy")
    for name, values in (("t", TREATMENTS), ("r", READOUTS)):
        (tmp_path / f"{name}.txt").write_text("\n".join(values) + "\n")
    config = tmp_path / "gsnn.toml"
    config.write_text(
        '[data]\ngraph = "network.sif"\ninputs = "x.npy"\noutputs = "y.npy"\nstream = true\n'
        'treatment-names = "t.txt"\nreadout-names = "r.txt"\n[train]\nepochs = 1\nchannels = 2\nlayers = 2\n'
    )
    assert set(files) == {"inputs", "outputs"}
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--config", str(config), "-o", str(tmp_path / "run"), "--quiet", "--json"])
    out = capsys.readouterr().out
    assert stopped.value.code == 0
    assert json.loads(out)["data"]["samples"] == 400
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--config", str(config), "--json"])
    assert stopped.value.code == 0
    assert json.loads(capsys.readouterr().out)["responses"]["samples"] == 400


def test_check_looks_at_a_sample_and_refuses_what_training_does(tmp_path, network):
    big = make_world(samples=3000)
    files = write_files(tmp_path, big, "npy")
    found = check_up(network, **files, responses_options=options_of("npy"))
    assert found.warnings[0] == (
        "the samples stay in their files, and these figures are of 2,000 of 3,000 samples, drawn at random (seed 0)"
    )
    assert found.sections["responses"]["samples"] == 2000
    assert not found.error
    table = tmp_path / "map.csv"
    table.write_text("label,species,effect,site,scale\na,a,activates,,log:1\n")
    refused = check_up(network, **files, names=table, responses_options=options_of("npy"))
    assert "taken as they are" in refused.error
    assert len(refused.data) == 2000


@pytest.mark.parametrize("kind", ["parquet", "npy", "h5ad"])
def test_a_sample_holds_the_rows_that_were_drawn(tmp_path, world, network, kind):
    pytest.importorskip("pyarrow")
    given = sources(network, write_files(tmp_path, world, kind), kind, stream=True)
    files = Sources.from_files(**given)
    part = files.sample(50, seed=3)
    rows = Drawn.rows(50, np.arange(400), seed=3)
    assert part.drawn == Drawn(50, 400, 3)
    assert part.x == pytest.approx(world.x[rows])
    assert part.y == pytest.approx(world.y[rows], nan_ok=True)
    assert part.graph.edge_index_dict.keys() == files.open().graph.edge_index_dict.keys()
    assert part.graph.function_edges == files.open().graph.function_edges
    again, other = files.sample(50, seed=3), files.sample(50, seed=4)
    assert fingerprint(again) == fingerprint(part) != fingerprint(other)
    assert not files.sample(400).drawn.partial
    with pytest.raises(DataError, match="at least 3 samples, got 2"):
        files.sample(2)


def test_a_self_check_and_a_report_of_a_streamed_run_use_a_sample(tmp_path, network, capsys):
    world = make_world(samples=2500)
    given = sources(network, write_files(tmp_path, world, "npy"), "npy", stream=True)
    run, _ = train_files(tmp_path / "run", **given, settings=SETTINGS)
    infer_run(Run.open(run.path), method="magnitude")
    command = ["selfcheck", str(run.path), "--method", "magnitude", "--repeats", "1", "--no-controls"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--sample", "100", "--seed", "4", "--epochs", "1"])
    shown = capsys.readouterr()
    assert stopped.value.code == 0
    assert "On 100 of 2,500 samples, drawn at random (seed 4); --sample takes more." in shown.out
    assert "its precision is not of these edges" in shown.err
    assert not {"expected_precision"} & set(Run.open(run.path).edges())
    # Another sample does not continue it.
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--sample", "90", "--seed", "4", "--epochs", "1", "--resume"])
    assert stopped.value.code == 2
    assert "sample was {'used': 100, 'of': 2500, 'seed': 4}, now {'used': 90" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--sample", "100", "--seed", "4", "--overwrite", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["sample"] == {"used": 100, "of": 2500, "seed": 4}
    assert told["caveats"][0].startswith("made with 100 of 2,500 samples, drawn at random (seed 4), and 50 epochs")
    # As many steps as the run: 2 epochs of 2,500 samples are 50 of 100.
    assert SelfCheck.read(run.path).settings["config"]["epochs"] == 50
    page = report_run(Run.open(run.path)).read_text()
    assert "Made with 100 of 2,500 samples" in page
    assert len(run.split().test) < 2000
    assert "The predictions shown are of" not in page


def test_a_self_check_on_all_samples_of_a_small_file_is_as_one_in_memory(tmp_path, world, network):
    given = sources(network, write_files(tmp_path, world, "npy"), "npy")
    run, _ = train_files(tmp_path / "run", **given, settings=SETTINGS)
    infer_run(Run.open(run.path), method="magnitude")
    check = self_check_run(Run.open(run.path), methods=["magnitude"], repeats=1, controls=())
    assert check.drawn is None
    assert check.settings["config"] == run.config.to_dict()
    assert "expected_precision" in Run.open(run.path).edges()


def test_a_report_says_how_many_predictions_it_shows(tmp_path, network, monkeypatch):
    world = make_world(samples=2500)
    given = sources(network, write_files(tmp_path, world, "npy"), "npy", stream=True)
    run, _ = train_files(tmp_path / "run", **given, settings=SETTINGS)
    monkeypatch.setattr(drawn_module, "SAMPLE", 60)
    data = collect(run)
    n = len(run.split().test)
    assert any(f"of 60 of {n} held-out samples" in note for note in data.fit_notes)
    rows = np.sort(np.random.default_rng(0).choice(run.split().test, 60, replace=False, shuffle=False))
    seen = data.predictions[data.predictions["readout"] == "DV:d"]["observed"].to_numpy()
    assert seen == pytest.approx(world.y[rows, 0][~np.isnan(world.y[rows, 0])])
    assert data.summary["samples"] == 2500


def test_a_report_of_a_handful_of_streamed_samples(tmp_path, network):
    world = make_world(samples=9, conditions=8)
    given = sources(network, write_files(tmp_path, world, "npy"), "npy")
    run, _ = train_files(tmp_path / "run", **given, settings={**SETTINGS, "epochs": 1})
    assert len(run.split().test) < 3
    assert len(collect(run).predictions) == 0


def test_a_sample_of_a_run_in_memory(tmp_path, world, network):
    given = sources(network, write_files(tmp_path, world, "npy"), "npy")
    given["responses_options"] = {}
    x, y = (pd.DataFrame(v, columns=c) for v, c in ((world.x, TREATMENTS), (world.y, READOUTS)))
    x.to_csv(tmp_path / "x.csv"), y.to_csv(tmp_path / "y.csv")
    given |= {"inputs": tmp_path / "x.csv", "outputs": tmp_path / "y.csv"}
    run, _ = train_files(tmp_path / "run", **given, settings={**SETTINGS, "epochs": 1})
    part = run_sample(run, 30, seed=1)
    assert (part.drawn.used, part.drawn.of, len(part)) == (30, 400, 30)
    assert run_sample(run).drawn is None


# ---------------------------------------------------------------- several processes


def test_a_training_has_the_processes_that_were_started():
    def found(*asked, environ):
        place = training_place(*asked, environ=environ)
        return place.size // place.machines, place.machines, place.rank

    torchrun = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    torchrun |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    assert training_place(environ={}) == Place()
    assert found(environ={}) == (1, 1, 0)
    assert found(3, environ={}) == (3, 1, 0)
    assert found(3, environ={"LOCAL_RANK": "2"}) == (3, 1, 2)  # as Lightning starts them
    assert found(environ=torchrun) == found(2, 1, environ=torchrun) == (2, 1, 1)
    with pytest.raises(RunError, match=r"3 processes on each of 1 machines .* torchrun started 2 on 1"):
        training_place(3, environ=torchrun)
    with pytest.raises(DataError, match="started alone"):
        training_place(2, 2, environ={})
    with pytest.raises(DataError, match="devices must be at least 1, got 0"):
        training_place(0, environ={})
    slurm = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
    slurm |= {"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
    assert found(environ=slurm) == (2, 2, 3)


@pytest.mark.parametrize("norm", ["batch", "edgebatch", "batch++", "groupbatch", "ema", "channelema"])
def test_norms_over_the_batch_are_refused_before_anything_is_written(tmp_path, world, network, norm):
    given = sources(network, write_files(tmp_path, world, "npy"), "npy")
    with pytest.raises(DataError, match="has statistics over the batch, which 2 processes"):
        train_files(tmp_path / "run", **given, settings={**SETTINGS, "norm": norm}, devices=2)
    assert not (tmp_path / "run").exists()


def test_a_batch_has_a_sample_for_every_process():
    with pytest.raises(DataError, match="4 processes share every batch, and batch_size is 3"):
        TrainConfig(norm="none", batch_size=3).check_processes(4)
    TrainConfig(norm="groupbatch", batch_size=1).check_processes(1)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["torchrun", "lightning"])
def test_two_processes_follow_one(tmp_path, network, start):
    import torch

    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo backend")
    pytest.importorskip("pyarrow")
    files = write_files(tmp_path, make_world(samples=200), "parquet")
    train_files(tmp_path / "one", **sources(network, files, stream=True), settings=SETTINGS)
    command = [sys.executable, "-m"]
    if start == "torchrun":
        command += ["torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
        command += ["--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1", "-m"]
    command += ["gsnn", "train", "--graph", str(network), "--data", str(files["path"]), "-o", str(tmp_path / "two")]
    command += [text for name, value in SETTINGS.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    command += ["--stream", "--json"] + (["--devices", "2"] if start == "lightning" else [])
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout)["training"]["processes"] == 2  # and one of the two speaks
    one, two = (pd.read_csv(tmp_path / name / "metrics.csv") for name in ("one", "two"))
    for name in ("train_loss", "val_loss", "val_r2"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, err_msg=name)
    assert Run.open(tmp_path / "two").complete
