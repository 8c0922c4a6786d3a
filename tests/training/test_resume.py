"""A run that was killed ends as one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import RunError
from gsnn.runs import Run
from gsnn.training import TrainingError, fit
from gsnn.training.callbacks import RunFiles
from gsnn.training.module import GSNNModule

from .. import warm

SCRIPT = """
import sys
from gsnn.runs import Sources
from gsnn.runs import train_run
from gsnn.training import TrainConfig
config = TrainConfig(epochs=60, channels=4, layers=3, norm="batch", batch_size=5, dropout=0.1, seed=11,
                     restore_best=True, patience=55)
train_run(sys.argv[1], Sources.from_files("net.sif", "midas.csv"), config, resume=True, progress=False)
"""


class Killed(BaseException):
    """Stands for SIGKILL within one process."""


def write_sources(folder: Path) -> None:
    (folder / "net.sif").write_text("a\t1\tc\nb\t1\tc\nc\t-1\td\n")
    rng = np.random.default_rng(3)
    lines = ["TR:a,TR:b,DA:ALL,DV:c,DV:d"]
    for _ in range(30):
        a, b = rng.random(2).round(4)
        lines.append(f"{a},{b},30,{a + b:.4f},{'NA' if rng.random() < 0.2 else f'{1 - a * b:.4f}'}")
    (folder / "midas.csv").write_text("\n".join(lines) + "\n")


def stable(history: pd.DataFrame) -> pd.DataFrame:
    return history.drop(columns="seconds")


@pytest.mark.slow
def test_sigkill_at_any_moment(tmp_path):
    write_sources(tmp_path)
    moments = random.Random(int(time.time()))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-c", SCRIPT, name]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    whole = start("whole")
    killed_after = []
    for least in (0, 20):
        process = warm.Process(["-c", SCRIPT, "killed"], tmp_path)
        metrics = tmp_path / "killed" / "metrics.csv"
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and process.poll() is None:
            if metrics.is_file() and len(metrics.read_text().splitlines()) - 1 > least:
                break
            time.sleep(0.002)
        time.sleep(moments.random() * 0.1)
        process.kill()
        _, errors = process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0), errors
        run = Run.open(tmp_path / "killed")
        killed_after.append(len(run.metrics()))
        if run.complete:
            break
    assert killed_after[0] < 60, "the first kill came too late to test anything"
    last = warm.Process(["-c", SCRIPT, "killed"], tmp_path)
    for process in (last, whole):
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        assert errors == ""

    expected, found = Run.open(tmp_path / "whole"), Run.open(tmp_path / "killed")
    weights = [run.model().state_dict() for run in (expected, found)]
    assert {k: v.numpy().tobytes() for k, v in weights[0].items()} == {
        k: v.numpy().tobytes() for k, v in weights[1].items()
    }, f"killed after the epochs {killed_after}"
    pd.testing.assert_frame_equal(stable(expected.metrics()), stable(found.metrics()), check_exact=True)
    assert found.metrics()["epoch"].tolist() == list(range(1, len(found.metrics()) + 1))
    for name in ("fit", "split", "standardiser", "data"):
        assert expected.info[name] == found.info[name]
    names = {"run.json", "model.safetensors", "model-early.safetensors", "metrics.csv", "checkpoint.safetensors"}
    assert {p.name for p in found.path.iterdir()} == names


def run_with_kills(path: Path, data, config, kills, monkeypatch) -> Run:
    """Train with the in-process equivalent of a kill before or after the files of the given epochs are written."""
    written = RunFiles.on_train_epoch_end
    run = Run.create(path, config=config, data=data)
    for epoch, after in kills:

        def dies(self, trainer, module, epoch=epoch, after=after):
            if trainer.current_epoch + 1 == epoch and not after:
                raise Killed
            written(self, trainer, module)
            if trainer.current_epoch + 1 == epoch:
                raise Killed

        monkeypatch.setattr(RunFiles, "on_train_epoch_end", dies)
        with pytest.raises(Killed):
            fit(data, config, run, resume=True, progress=False)
        run = Run.open(path)
        assert run.status == "training"
    monkeypatch.setattr(RunFiles, "on_train_epoch_end", written)
    fit(data, config, run, resume=True, progress=False)
    return Run.open(path)


@pytest.mark.parametrize(
    ("changes", "kills"),
    [
        ({}, [(1, False), (1, True), (3, True), (6, True)]),
        ({"norm": "batch", "restore_best": True}, [(2, True), (5, False)]),
        pytest.param({"lr": 0.5, "patience": 2, "epochs": 40}, [(2, True)], marks=pytest.mark.slow),
        pytest.param({"share_layers": True, "norm": "layer"}, [(4, True)], marks=pytest.mark.slow),
    ],
)
def test_resuming_equals_never_stopping(tmp_path, data, new_config, monkeypatch, changes, kills):
    config = new_config(**{"epochs": 6, **changes})
    whole = Run.create(tmp_path / "whole", config=config, data=data)
    fit(data, config, whole, progress=False)
    killed = run_with_kills(tmp_path / "killed", data, config, kills, monkeypatch)
    assert whole.model_path.stat().st_size == killed.model_path.stat().st_size
    for name, value in whole.model().state_dict().items():
        assert value.equal(killed.model().state_dict()[name]), name
    pd.testing.assert_frame_equal(stable(whole.metrics()), stable(killed.metrics()), check_exact=True)
    # Optimiser included, and the random streams: both go on in the same way.
    longer = new_config(**{**config.to_dict(), "epochs": config.epochs + 3})
    for run in (whole, killed):
        fit(data, longer, run, resume=True, progress=False)
    for name, value in whole.model().state_dict().items():
        assert value.equal(killed.model().state_dict()[name]), name


def test_a_run_that_stopped_early_is_not_trained_on(tmp_path, data, new_config, monkeypatch):
    config = new_config(epochs=40, lr=0.5, patience=2)
    whole = fit(data, config, progress=False)
    epochs = len(whole.history)
    assert whole.stopped_early
    run = run_with_kills(tmp_path / "r", data, config, [(epochs, True)], monkeypatch)
    assert len(run.metrics()) == epochs
    assert run.info["training"]["stopped_early"]


def test_longer_training_continues_a_complete_run(tmp_path, data, new_config):
    run = Run.create(tmp_path / "r", config=new_config(epochs=2), data=data)
    fit(data, new_config(epochs=2), run, progress=False)
    run.write_edges(pd.DataFrame({"source": ["a"], "target": ["d"], "score": [1.0]}))
    before = run.model_path.read_bytes()
    fit(data, new_config(epochs=2), run, resume=True, progress=False)  # nothing to do: nothing changes
    assert run.model_path.read_bytes() == before
    assert run.edges_path.is_file()
    fit(data, new_config(epochs=5), run, resume=True, progress=False)
    whole = fit(data, new_config(epochs=5), progress=False)
    for name, value in whole.model.state_dict().items():
        assert value.equal(run.model().state_dict()[name]), name
    assert not run.edges_path.exists(), "edges of another model must not stay"
    assert Run.open(run.path).config.epochs == 5
    with pytest.raises(RunError, match="already trained for more"):
        fit(data, new_config(epochs=3), run, resume=True, progress=False)


def test_refuses_to_resume_something_else(tmp_path, data, new_data, new_config):
    run = Run.create(tmp_path / "r", config=new_config(), data=data)
    with pytest.raises(RunError, match="channels was 3, now 4"):
        fit(data, new_config(channels=4), run, resume=True, progress=False)
    with pytest.raises(RunError, match="data are not those of the run"):
        fit(new_data(seed=1), new_config(), run, resume=True, progress=False)
    with pytest.raises(RunError, match="resume needs the run"):
        fit(data, new_config(), resume=True, progress=False)
    run.checkpoint_path.write_bytes(b"broken")
    with pytest.raises(RunError, match="not a readable checkpoint"):
        fit(data, new_config(), run, resume=True, progress=False)


def test_divergence_keeps_the_last_good_checkpoint(tmp_path, data, new_config, monkeypatch):
    run = Run.create(tmp_path / "r", config=new_config(), data=data)
    step = GSNNModule.training_step

    def spoilt(self, batch, batch_idx):
        x, y = batch
        return step(self, (x, y * float("inf") if self.current_epoch == 2 else y), batch_idx)

    monkeypatch.setattr(GSNNModule, "training_step", spoilt)
    with pytest.raises(TrainingError, match="epoch 3, batch 1"):
        fit(data, new_config(), run, progress=False)
    monkeypatch.undo()
    assert len(run.metrics()) == 2
    fit(data, new_config(), run, resume=True, progress=False)
    whole = fit(data, new_config(), progress=False)
    for name, value in whole.model.state_dict().items():
        assert value.equal(run.model().state_dict()[name]), name


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks on Windows")
def test_two_programs_cannot_train_in_one_folder(tmp_path, data, new_config):
    run = Run.create(tmp_path / "r", config=new_config(), data=data)
    with run.lock(), pytest.raises(RunError, match="another program is working"):
        fit(data, new_config(), Run.open(run.path), resume=True, progress=False)
    fit(data, new_config(), Run.open(run.path), resume=True, progress=False)
