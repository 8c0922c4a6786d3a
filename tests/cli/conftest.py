"""Small files, and commands as they are run: in this process, or in one of their own."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from gsnn.cli import main

from .. import warm

HOSTILE = {
    "a": "</script><b>x",
    "b": "\"q\" = 's', 1",
    "c": "[bold]m[/bold]",
    "d": "__proto__",
    "e": "NA",
    "f": "naïve ∂ π",
}
PLAIN = {key: key for key in "abcdef"}
EDGES = [("a", "c", 1), ("b", "c", -1), ("c", "d", 1), ("b", "e", 1), ("d", "f", 1), ("e", "f", 1)]
SMALL = ["--epochs", "2", "--channels", "2", "--layers", "3", "--quiet"]


def gsnn(*args, cwd=None, **environment):
    """Run the command line in this process, which has imported torch already; what it printed and its exit code."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    words = [str(arg) for arg in args]
    with (
        contextlib.chdir(cwd or os.getcwd()),
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stopped,
    ):
        main(words)
    for stream in (out, err):
        stream.seek(0)
    return subprocess.CompletedProcess(words, stopped.value.code, out.read(), err.read())


def gsnn_process(*args, cwd=None, **environment):
    """Run the command line in a process of its own, as a user does."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"} | environment
    command = [sys.executable, "-m", "gsnn", *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, encoding="utf-8", timeout=240)


def write_csv(path: Path, rows) -> Path:
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return path


def write_problem(folder: Path, names=PLAIN, samples=24, edges=EDGES, seed=0) -> tuple[Path, Path]:
    """A network as a table of edges, and responses as one table with TR: and DV: columns."""
    rng = np.random.default_rng(seed)
    network = write_csv(
        folder / "network.csv", [("source", "target", "sign"), *((names[a], names[b], s) for a, b, s in edges)]
    )
    x = rng.integers(0, 2, size=(samples, 2)).astype(float)
    x[:, 1] *= rng.integers(1, 5, size=samples)
    y = np.c_[x[:, 0] - x[:, 1], x[:, 0] - x[:, 1] + x[:, 0] * x[:, 1]] + rng.normal(scale=0.1, size=(samples, 2))
    head = [f"TR:{names['a']}", f"TR:{names['b']}", f"DV:{names['d']}", f"DV:{names['f']}"]
    data = write_csv(folder / "data.csv", [head, *np.c_[x, y].round(4).tolist()])
    return network, data


def one_line(result, *words):
    """An error the user can mend: one line on stderr, exit code 2, no traceback."""
    lines = result.stderr.splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert result.stdout == ""
    for word in words:
        assert word in lines[0]


@pytest.fixture
def problem(tmp_path):
    return write_problem(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run on hostile names: folder, run, result of training, result of inference, result of the report."""
    folder = tmp_path_factory.mktemp("hostile")
    network, data = write_problem(folder, HOSTILE)
    run = folder / "runs" / "first"
    results = [gsnn("train", "--graph", network, "--data", data, "-o", run, *SMALL[:-1])]
    results.append(gsnn("infer", run))
    results.append(gsnn("report", run))
    return run, results


def interrupted(*words, once, cwd=None):
    """Send Ctrl-C to a command once a file is there; the lines of its stderr. Nothing else may have been printed."""
    process = warm.Process(["-m", "gsnn", *words], cwd)
    try:
        deadline = time.monotonic() + 120
        while not once.is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()
