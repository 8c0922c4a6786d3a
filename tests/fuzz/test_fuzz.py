"""A small share of the fuzzing campaign; ``make fuzz`` runs the whole of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("defusedxml")
pytest.importorskip("h5py")

from ._harness import _lay_out, _outcome, make_input
from ._targets import make_targets


def test_a_few_inputs_of_every_target_are_read_or_refused(tmp_path):
    """In this process, the valid files first."""
    made = tmp_path / "made"
    made.mkdir()
    for name, target in make_targets(made).items():
        folder = tmp_path / name
        folder.mkdir()
        for index in range(4):
            _lay_out(folder, make_input(name, target, 11, index))
            kind, trace = _outcome(target, folder)
            assert kind in (("read", "refused") if index else ("read",)), f"{name} {index}: {kind}\n{trace}"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit of memory needs /proc")
def test_every_input_is_read_or_refused():
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).parent), "--inputs", "600", "--seed", "11"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Each target has a whole number of its share.
    assert 580 < int(re.search(r"^(\d+) inputs:", done.stdout, re.MULTILINE)[1]) < 620
    assert " 0 findings" in done.stdout
