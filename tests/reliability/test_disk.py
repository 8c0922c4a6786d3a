"""Full and read-only disks, files that go away, and two programs in one folder: clear errors, nothing lost."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from gsnn.base.errors import RunError
from gsnn.report.html import report_run
from gsnn.runs import Run
from gsnn.runs.infer import infer_run
from gsnn.runs.refine import refine_run
from gsnn.runs.results import calibrate_run
from gsnn.runs.selfcheck import self_check_run
from gsnn.runs.train import train_files
from gsnn.training.callbacks import RunFiles
from gsnn.training.checkpoint import SafetensorsCheckpointIO

from .kill import SETTINGS, snapshot, write_sources

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such locks, limits and mounts on Windows")
FEW = {**SETTINGS, "epochs": 2}
MORE = {**SETTINGS, "epochs": 4}


def train(work: Path, settings=FEW, **options):
    return train_files(work / "run", graph=work / "net.sif", data=work / "midas.csv", settings=settings, **options)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with sources, a short run with edges, and beside it the same trained for longer."""
    work = tmp_path_factory.mktemp("finished")
    write_sources(work)
    run = train(work)
    infer_run(run)
    before = work / "short"
    shutil.copytree(work / "run", before)
    train(work, MORE, resume=True)
    return work


@pytest.fixture
def work(finished, tmp_path) -> Path:
    for name in ("net.sif", "midas.csv"):
        shutil.copy(finished / name, tmp_path / name)
    shutil.copytree(finished / "short", tmp_path / "run")
    text = (tmp_path / "run" / "run.json").read_text().replace(str(finished), str(tmp_path))
    (tmp_path / "run" / "run.json").write_text(text)
    return tmp_path


def same_training(run: Path, expected: Path) -> None:
    found, whole = snapshot(run), snapshot(expected)
    for name in ("model.safetensors", "checkpoint.safetensors", "metrics.csv"):
        assert found[name] == whole[name], name


def mount(where: Path, *options: str) -> None:
    made = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(where)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"mounting is not possible here: {made.stderr.strip()}")


@pytest.fixture
def disk(work):
    """A disk of its own under the run folder, with what was there; (folder, run)."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = work / "disk"
    place.mkdir()
    mount(place, "-o", "size=1m")
    try:
        shutil.copytree(work / "run", place / "run")
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def valid(run: Path) -> Run:
    """It opens, and what there is of it can be read."""
    found = Run.open(run)
    if found.checkpoint_path.is_file():
        SafetensorsCheckpointIO().load_checkpoint(found.checkpoint_path)
    if found.complete:
        found.model()
    return found


def resume(disk: Path) -> None:
    train_files(disk / "run", graph=disk.parent / "net.sif", data=disk.parent / "midas.csv", settings=MORE, resume=True)


@pytest.mark.parametrize("free", [0, 4])  # KiB: none for run.json, or none for the checkpoint
def test_full_disk_while_training(finished, disk, free):
    filler = disk / "filler"
    room = shutil.disk_usage(disk).free - free * 1024
    with filler.open("wb") as handle:
        handle.write(b"x" * room)
    with pytest.raises(OSError, match="No space left on device") as caught:
        resume(disk)
    assert caught.value.errno == errno.ENOSPC
    assert str(disk) in str(caught.value.filename)
    before = valid(disk / "run")
    assert len(before.metrics()) >= 2
    assert not [path for path in (disk / "run").iterdir() if path.name.endswith(".tmp")]
    filler.unlink()
    resume(disk)
    same_training(disk / "run", finished / "run")


def test_full_disk_while_inferring_and_reporting(disk, capsys):
    from gsnn.cli import main

    before = (disk / "run" / "edges.csv").read_bytes()
    with (disk / "filler").open("wb") as handle:
        handle.write(b"x" * shutil.disk_usage(disk).free)
    for arguments in (["infer", "--method", "gradient"], ["report"]):
        with pytest.raises(SystemExit) as caught:
            main([arguments[0], str(disk / "run"), *arguments[1:], "--quiet"])
        assert caught.value.code == 2
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1
        assert told[0].startswith("error: ")
        assert "No space left on device" in told[0]
        assert str(disk) in told[0]
    assert (disk / "run" / "edges.csv").read_bytes() == before
    assert not (disk / "run" / "report.html").exists()
    (disk / "filler").unlink()
    infer_run(Run.open(disk / "run"), method="gradient")
    assert "inference" in Run.open(disk / "run").info


def test_largest_file_allowed_is_too_small(finished, work):
    """The same as a full disk, where nothing can be mounted."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            train(work, MORE, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert len(valid(work / "run").metrics()) >= 2
    train(work, MORE, resume=True)
    same_training(work / "run", finished / "run")


def test_read_only_disk(disk):
    before = snapshot(disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    run = Run.open(disk / "run")
    with pytest.raises(RunError, match=r"cannot write the run folder .*Read-only file system"):
        Run.create(disk / "new", config=run.config, data=run.data())
    for job in (lambda: resume(disk), lambda: infer_run(run), lambda: report_run(run)):
        with pytest.raises(OSError, match="Read-only file system") as caught:
            job()
        assert caught.value.errno == errno.EROFS
    assert snapshot(disk / "run") == before
    run.model()  # reading needs no writing


# ---------------------------------------------------------------- files that go away


@contextmanager
def after_epoch(monkeypatch, epoch, job):
    """Something happens to the folder when an epoch has been written."""
    written = RunFiles.on_train_epoch_end

    def then(self, trainer, module):
        written(self, trainer, module)
        if trainer.current_epoch + 1 == epoch:
            job()

    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, "on_train_epoch_end", then)
        yield


@pytest.mark.parametrize("name", ["run.json", "checkpoint.safetensors", "metrics.csv"])
def test_a_file_removed_while_training(finished, work, monkeypatch, name):
    with after_epoch(monkeypatch, 3, (work / "run" / name).unlink):
        train(work, MORE, resume=True)
    assert Run.open(work / "run").complete
    same_training(work / "run", finished / "run")


def test_the_folder_removed_while_training(work, monkeypatch):
    with (
        after_epoch(monkeypatch, 3, lambda: shutil.rmtree(work / "run")),
        pytest.raises(RunError, match=r"run was removed during the training; train again"),
    ):
        train(work, MORE, resume=True)
    assert not (work / "run").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.sif", "graph file .* is gone; put it back"),
        ("run/model.safetensors", "model.safetensors is gone; restore it with gsnn train --resume"),
        ("run/run.json", "not a run folder"),
        ("run", "cannot open the run folder .*No such file"),
    ],
)
def test_a_file_removed_before_inference(work, name, message):
    run = Run.open(work / "run")
    gone = work / name
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(RunError, match=message):
        infer_run(run)


def test_resuming_restores_a_model_that_is_gone(work):
    before = snapshot(work / "run")["model.safetensors"]
    (work / "run" / "model.safetensors").unlink()
    train(work, resume=True)
    assert snapshot(work / "run")["model.safetensors"] == before


def test_what_a_killed_program_left_goes_with_the_next_one(work):
    left = work / "run" / ".model.safetensors.0123.tmp"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    (work / "run" / ".edges.csv.0123.tmp").write_text("source,tar")
    infer_run(Run.open(work / "run"))
    assert not [path.name for path in (work / "run").iterdir() if path.name.startswith(".")]


# ---------------------------------------------------------------- two programs

HOLD = """
import fcntl, os, sys, time
handle = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(300)
"""


@pytest.fixture
def other_program(work):
    """Another process that works in the run folder, until it is killed."""
    process = subprocess.Popen([sys.executable, "-S", "-c", HOLD, str(work / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_only_one_program_writes_in_a_run(work, other_program):
    before = snapshot(work / "run")
    run = Run.open(work / "run")
    config, data = run.config, run.data()
    jobs = [
        lambda: train(work, MORE, resume=True),
        lambda: train(work, overwrite=True),
        lambda: Run.create(work / "run", config=config, data=data, overwrite=True),
        lambda: infer_run(run),
        lambda: run.write_edges(pd.DataFrame({"source": ["a"], "target": ["d"]})),
        lambda: self_check_run(run, methods=["magnitude"], repeats=1),
        lambda: refine_run(run, rounds=1),
        lambda: calibrate_run(run),
    ]
    for job in jobs:
        with pytest.raises(RunError, match=r"another program is working in .*run; wait for it or stop it"):
            job()
    assert snapshot(work / "run") == before
    assert report_run(run).is_file(), "a report only reads"
    os.kill(other_program.pid, signal.SIGKILL)
    other_program.wait()
    infer_run(run)  # a killed program leaves no lock


def test_edges_of_a_model_that_was_replaced_are_refused(work):
    """Inference ends after somebody has trained again: its edges are not those of the new model."""
    old = Run.open(work / "run")
    new = train(work, overwrite=True)
    after = snapshot(work / "run")
    with pytest.raises(RunError, match="was trained again meanwhile"):
        old.write_edges(pd.DataFrame({"source": ["a"], "target": ["d"]}), {"method": "magnitude"})
    assert snapshot(work / "run") == after
    assert Run.open(work / "run").info["id"] == new.info["id"]
    longer = Run.open(work / "run")
    train(work, MORE, resume=True)
    with pytest.raises(RunError, match="was trained again meanwhile"):
        longer.write_edges(pd.DataFrame({"source": ["a"], "target": ["d"]}))


def test_the_lock_may_be_taken_again_inside(work):
    run = Run.open(work / "run")
    with run.lock(), run.lock() as held:
        assert held
    with run.lock() as held:
        assert held
