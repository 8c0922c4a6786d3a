"""A self-check of the melanoma set finds nothing, and says so, with the reason."""

from __future__ import annotations

import pytest

from gsnn.data import build_data
from gsnn.discovery import self_check
from gsnn.io import Network, Responses, read_name_map
from gsnn.training import TrainConfig


@pytest.mark.slow
def test_nothing_is_found_in_the_melanoma_set(gsnn_data, tmp_path, load_benchmark):
    folder = gsnn_data / "melanoma_cellbox"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    melanoma = load_benchmark("melanoma")
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
