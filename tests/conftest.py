"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("GSNN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def gsnn_data() -> Path:
    """The folder of real data sets, named by the variable GSNN_DATA."""
    if not DATA.is_dir():
        pytest.skip(f"no data sets at {DATA}; set GSNN_DATA to their folder")
    return DATA
