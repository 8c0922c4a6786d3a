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
from gsnn.runs import Job, Run, Sources, infer_run, train_files
from gsnn.runs import sources as sources_module
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
    for method in ("stacked", "rank"):
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
        main(["check", "--config", str(config), "--quiet"])
    assert stopped.value.code == 2
    assert "they are to be streamed; check a part of them" in capsys.readouterr().err


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
