"""Two real processes on the CPU (gloo) against one."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from gsnn.training import Batches

from .ddp_worker import CURVES, PLAIN_NORMS, RUNNING_NORMS, train

N_PROCESSES = 2


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What each of the processes found, and the folder they wrote to."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo backend")
    folder = tmp_path_factory.mktemp("ddp")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(N_PROCESSES)]
    # Port 0: the system picks a free one.
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    command += [str(Path(__file__).with_name("ddp_worker.py")), str(folder), str(N_PROCESSES)]
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(N_PROCESSES)], folder


@pytest.mark.slow
@pytest.mark.parametrize("norm", PLAIN_NORMS)
def test_two_processes_follow_the_loss_of_one(together, norm):
    alone, (ranks, _) = train(norm), together
    assert alone["train_loss"][-1] < 0.97 * alone["train_loss"][0]
    for found in ranks:
        assert found["world"] == N_PROCESSES
        for name in CURVES:
            np.testing.assert_allclose(found[norm][name], alone[name], rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(found[norm]["weights"], alone["weights"], atol=1e-4)
    assert ranks[0][norm]["digest"] == ranks[1][norm]["digest"]


@pytest.mark.slow
def test_dropout_differs_between_processes_but_the_model_does_not(together):
    ranks, folder = together
    assert ranks[0]["dropout"]["digest"] == ranks[1]["dropout"]["digest"]
    assert ranks[0]["dropout"]["digest"] != ranks[0]["none"]["digest"]
    # One process with the same seed drops other channels in half of its rows.
    assert ranks[0]["dropout"]["train_loss"] != train("none", dropout=0.3)["train_loss"]
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["train_loss"]) for row in rows] == ranks[0]["dropout"]["train_loss"]
    for found in ranks:
        assert found["resumed"] == found["dropout"]


@pytest.mark.slow
@pytest.mark.parametrize("norm", RUNNING_NORMS)
def test_norms_with_statistics_over_the_batch_are_refused(together, norm):
    for found in together[0]:
        assert found[norm] is not None
        assert f"norm {norm!r} has statistics over the batch" in found[norm]
        assert "use norm 'layer'" in found[norm]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("samples", "size", "processes"), [(37, 8, 2), (34, 8, 3), (9, 4, 4), (5, 8, 3)])
def test_processes_share_every_batch(samples, size, processes, drop_last):
    x = torch.arange(float(samples))[:, None]
    whole = Batches(x, x, size, seed=1, drop_last=drop_last)
    parts = [Batches(x, x, size, seed=1, drop_last=drop_last) for _ in range(processes)]
    for rank, part in enumerate(parts):
        part.share(rank, processes)
    dealt = [[b.ravel().tolist() for b, _ in part] for part in parts]
    batches = [sorted(chain(*rows)) for rows in zip(*dealt, strict=True)]
    assert all(rows for part in dealt for rows in part)
    order = [b.ravel().tolist() for b, _ in whole]
    assert sorted(chain(*batches)) == sorted(chain(*order))
    if samples % size >= processes:
        assert batches == [sorted(rows) for rows in order]


def test_batches_too_small_to_share():
    x = torch.zeros(10, 1)
    with pytest.raises(ValueError, match=r"3 processes need batches .* got batch_size 2 and 10 samples"):
        Batches(x, x, 2).share(0, 3)
    with pytest.raises(ValueError, match="rank must be from 0 to 1"):
        Batches(x, x, 4).share(2, 2)


@pytest.mark.slow
def test_a_killed_process_ends_the_other_with_one_line(tmp_path):
    edges = "".join(f"f{i}\t1\tf{i + 1}\n" for i in range(6))
    (tmp_path / "network.sif").write_text(edges)
    x = np.random.default_rng(0).integers(0, 2, (40, 2))
    rows = [f"{a},{b},{a - b},{a + b}" for a, b in x]
    (tmp_path / "data.csv").write_text("\n".join(["TR:f0,TR:f2,DV:f4,DV:f6", *rows]) + "\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = ["train", "--graph", "network.sif", "--data", "data.csv", "-o", "run", "--norm", "layer"]
    words += ["--epochs", "5000", "--channels", "2", "--layers", "3", "--quiet"]
    shared = {"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "gsnn", *words],
            cwd=tmp_path,
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "metrics.csv").is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        started[1].kill()
        _, err = started[0].communicate(timeout=60)
    finally:
        for one in started:
            one.kill()
            one.communicate()
    assert started[0].returncode == 2, err
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: another of the 2 processes that train is gone")
    assert "--resume" in err
