"""Doses of a real data set, written in the two ways that AnnData allows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsnn.data import build_data
from gsnn.io import read_name_map, read_network, read_responses


def test_doses_of_the_melanoma_set(gsnn_data, tmp_path, make_h5ad, load_benchmark):
    """One dose in micromolar for both drugs of a pair tells ridge nothing; one each on a log scale tells it most."""
    folder = gsnn_data / "melanoma_cellbox"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    melanoma = load_benchmark("melanoma")
    data = melanoma.read(folder)
    given = [row[row > 0] for _, row in data.doses.iterrows()]
    obs = pd.DataFrame(
        {
            "drugs": ["+".join(row.index) for row in given],
            "each": ["+".join(f"{dose:g}" for dose in row) for row in given],
            "one": [float(row.max()) for row in given],
        },
        index=data.readouts.index,
    )
    var = pd.DataFrame(index=data.readouts.columns)
    path = make_h5ad(obs, var, data.readouts.to_numpy())
    network = read_network(folder / "network.csv")
    scales = data.names.assign(scale=np.where(data.names["effect"] == "measures", "", "log"))
    r2 = {}
    for dose, names in (("one", data.names), ("each", scales)):
        names.to_csv(tmp_path / "names.csv", index=False)
        responses = read_responses(path, anndata={"perturbation": "drugs", "separator": "+", "dose": dose})
        built = build_data(network, responses, names=read_name_map(tmp_path / "names.csv"))
        assert (built.graph.I, len(built)) == (12, 89)
        r2[dose] = melanoma.ridge_r2(built.x.astype(float), built.y.astype(float))
    assert r2["one"] < 0.15
    assert r2["each"] == pytest.approx(0.66, abs=0.03)
