"""Treatments of what has not been measured, in every format that is read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.io import read_treatments

WANTED = pd.DataFrame({"egf": [1.0, 1.0], "meki": [0.0, 0.5]})


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "TR:egf,TR:meki\n1,0\n1,0.5\n",
        "egf,meki\n1,0\n1,0.5\n",
        "TR:egf,TR:mek:Inhibitors,TR:x:CellLine\n1,0,1\n1,0.5,1\n",
        "TR:egf\tTR:meki\tDA:ALL\n1\t0\t0\n1\t0.5\t0\n",
        "id,TR:egf,TR:meki,DA:ALL,DV:erk\nA,1,0,0,\nB,1,0.5,30,2\nC,1,0.5,60,3\n",  # each condition once
    ],
    ids=["prefixed", "matrix", "kinds", "times", "midas"],
)
def test_tables(tmp_path, text):
    found = read_treatments(write(tmp_path / "new.csv", text))
    pd.testing.assert_frame_equal(found.treatments.reset_index(drop=True), WANTED, check_column_type=False)
    assert found.readouts.shape == (2, 0)


def test_identifiers_name_the_rows(tmp_path):
    for first in ("sample", "condition"):
        found = read_treatments(inputs=write(tmp_path / "new.csv", f"{first},egf,meki\nA,1,0\nB,1,0.5\n"))
        assert list(found.treatments.index) == ["A", "B"]


def test_decimal_commas(tmp_path):
    found = read_treatments(write(tmp_path / "new.csv", "egf;meki\n1;0\n1;0,5\n"), decimal=",")
    assert found.treatments["meki"].tolist() == [0, 0.5]


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    WANTED.to_parquet(tmp_path / "new.parquet")
    found = read_treatments(tmp_path / "new.parquet")
    np.testing.assert_array_equal(found.treatments, WANTED)


def test_anndata(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "new.h5ad", "w") as file:
        for name, columns in (
            ("obs", {"_index": ["a", "b", "c"], "drug": ["egf", "ctrl", "egf"]}),
            ("var", {"_index": ["q"]}),
        ):
            group = file.create_group(name)
            group.attrs.update({"_index": "_index", "column-order": [key for key in columns if key != "_index"]})
            for key, values in columns.items():
                group[key] = values
        file["X"] = np.zeros((3, 1))
    found = read_treatments(tmp_path / "new.h5ad", anndata={"perturbation": "drug"})
    assert found.treatments["egf"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("TR:egf\nmuch\n", {}, "much"),
        ("egf,meki\n1,\n", {}, "new.csv"),
        ("DV:erk\n1\n", {}, r"has no treatment \(TR:\) columns"),
        ("TR:egf\n1\n", {"format": "xls"}, "unknown"),
        ("TR:egf\n1\n", {"decimal": ";"}, "decimal"),
    ],
)
def test_refuses_what_is_no_treatment(tmp_path, text, options, message):
    with pytest.raises(DataError, match=message):
        read_treatments(write(tmp_path / "new.csv", text), **options)


def test_wants_one_file(tmp_path):
    with pytest.raises(DataError, match="path or inputs=, one of the two"):
        read_treatments()
    with pytest.raises(DataError, match="one of the two"):
        read_treatments("a.csv", inputs="b.csv")
