"""A self-check of the melanoma set finds nothing, and says so, with the reason."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from gsnn.data import build_data
from gsnn.discovery import self_check
from gsnn.io import Network, Responses, read_name_map
from gsnn.training import TrainConfig

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "melanoma.py"


@pytest.mark.slow
def test_nothing_is_found_in_the_melanoma_set(gsnn_data, tmp_path):
    folder = gsnn_data / "melanoma_cellbox"
    if not folder.is_dir() or not BENCHMARK.is_file():
        pytest.skip(f"{folder} or {BENCHMARK.name} is not there")
    spec = importlib.util.spec_from_file_location("melanoma", BENCHMARK)
    melanoma = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(melanoma)
    found = melanoma.read(folder)
    found.names.to_csv(tmp_path / "names.csv", index=False)
    network = Network.from_edges(list(zip(found.network["source"], found.network["target"], strict=True)))
    data = build_data(network, Responses(found.doses, found.readouts), names=read_name_map(tmp_path / "names.csv"))
    config = TrainConfig(epochs=10, channels=4, layers=6)
    check = self_check(data, config, "gradient-explained", repeats=1, controls=())
    verdict = check.verdicts()["gradient-explained"]
    assert verdict.tone == "bad"
    assert "hidden edges" in verdict.text
    assert "have a bypass" in verdict.text
    assert check.content()["verdicts"]["gradient-explained"]["short"] == verdict.short
