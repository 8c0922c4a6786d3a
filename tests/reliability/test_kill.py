"""A few of the kills that ``kill.py`` makes by the hundred."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_killed_commands_end_as_if_they_had_not_been():
    if find_spec("jinja2") is None or find_spec("plotly") is None:
        pytest.skip("the report needs the extra 'report'")
    command = [sys.executable, str(Path(__file__).with_name("kill.py")), "--moments", "1", "--operations", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["train", "infer", "refine", "report"]
    assert all("resumed alike" in line and "killed at 1 random moments" in line for line in lines)
