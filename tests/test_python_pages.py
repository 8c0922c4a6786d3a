"""The cells of the pages on Python run, one page after the other in one process each, without sphinx."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["python.md", "training.md"])
def test_cells_run(page, tmp_path):
    if page == "python.md":
        for module in ("captum", "matplotlib", "sklearn"):
            pytest.importorskip(module)
    cells = re.findall(r"```\{code-cell\} python3\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert cells
    script = tmp_path / "page.py"
    lines = [line for cell in cells for line in cell.splitlines() if not line.startswith(":tags:")]
    script.write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, "-W", "error", str(script)]
    env = {**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
