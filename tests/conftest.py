"""Fixtures shared by the whole suite."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
DATA = Path(os.environ.get("GSNN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture
def load_benchmark(monkeypatch):
    """Import a script of the benchmarks by its name; they are no package, and no part of a built distribution."""

    def load(name):
        if not (BENCHMARKS / f"{name}.py").is_file():
            pytest.skip(f"benchmarks/{name}.py is not part of a built distribution")
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module(name)

    return load


@pytest.fixture(scope="session")
def gsnn_data() -> Path:
    """The folder of real data sets, named by the variable GSNN_DATA."""
    if not DATA.is_dir():
        pytest.skip(f"no data sets at {DATA}; set GSNN_DATA to their folder")
    return DATA
