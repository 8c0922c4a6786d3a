"""The protocols on real data: that they work, not that they find much in a few epochs."""

from __future__ import annotations

import numpy as np
import pytest

from gsnn.data import build_data
from gsnn.discovery import mask_edges, refine, self_check
from gsnn.discovery.selfcheck.attach import attach_precision
from gsnn.io import read_network, read_responses
from gsnn.training import TrainConfig

pytestmark = pytest.mark.slow


def checked(data, config, **options):
    check = self_check(data, config, ["magnitude"], repeats=1, **options)
    table = check.summary()
    assert set(table["condition"]) == {"real", *check.settings["controls"]}
    assert table["roc_auc"].between(0, 1).all()
    assert table["n_positives"].min() > 0
    stated = check.precision("magnitude", [1, 10, 100], widest=1.0)
    assert (stated["precision_low"] <= stated["expected_precision"]).all()
    assert (stated["expected_precision"] <= stated["precision_high"]).all()
    return check


def test_extliver():
    pytest.importorskip("caspo")
    from gsnn.datasets import load_extliver

    data = load_extliver()
    config = TrainConfig(epochs=3, channels=4, layers=6)
    check = checked(data, config)
    counts = check.counts
    assert counts["n_eligible"] + counts["n_pathless"] + counts["n_last"] == check.settings["n_known"]
    found = refine(data, config, rounds=1, per_round=2, control=False)
    assert len(found.tried()) == 2


def test_lembas_ligand_screen(gsnn_data):
    folder = gsnn_data / "lembas_ligandscreen"
    if not folder.is_dir():
        pytest.skip(f"no ligand screen in {gsnn_data}")
    data = build_data(
        read_network(folder / "ligandScreen-Model.tsv"),
        read_responses(inputs=folder / "ligandScreen-Ligands.tsv", outputs=folder / "ligandScreen-TFs.tsv"),
    )
    masking = mask_edges(data.graph, 0.15, 0)
    assert len(masking.hidden) == round(0.15 * masking.n_eligible)
    config = TrainConfig(epochs=2, channels=2, layers=4, batch_size=64, dropout=0.0)
    check = checked(data, config, controls=())
    # Topology alone finds masked literature edges; less of it is left against degree-matched negatives.
    table = check.summary().set_index(["method", "negatives"])["roc_auc"]
    assert table["degree product", "all"] > 0.7
    assert abs(table["degree product", "degree-matched"] - 0.5) < 0.05
    edges = attach_precision(_ranked(check), check)
    assert np.isfinite(edges["precision_high"]).all()


def _ranked(check):
    import pandas as pd

    n = check.settings["n_candidates"]
    return pd.DataFrame({"source": "a", "target": "b", "score": -np.arange(float(n)), "rank": np.arange(1, n + 1)})
