from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

from gsnn.base.errors import DataError, MissingExtraError
from gsnn.datasets import DATASETS, dataset_files, load_dataset, load_extliver, load_liverdream
from gsnn.io import read_network, read_responses


@pytest.fixture
def caspo():
    try:
        metadata.version("caspo")
    except metadata.PackageNotFoundError:
        pytest.skip("the package caspo is not installed")


@pytest.mark.usefixtures("caspo")
def test_extliver():
    network = read_network(dataset_files("extliver")["graph"])
    assert (len(network.species), len(network.edges), network.duplicates, network.self_edges) == (82, 116, [], [])
    assert (network.edges["sign"] != 0).all()
    data = load_extliver()
    assert (len(data), data.graph.I, data.graph.N, data.graph.O) == (64, 14, 82, 15)
    signs = data.graph.edge_sign_dict["input", "to", "function"]
    assert [int((signs == s).sum()) for s in (1, -1)] == [7, 7]
    assert data.graph.E == 116 + 14 + 15
    assert 0 < np.isnan(data.y).sum() < data.y.size / 2
    assert len(np.unique(data.x, axis=0)) == 64
    split = data.split()
    assert (len(split.train), len(split.validation), len(split.test)) == (45, 6, 13)


@pytest.mark.usefixtures("caspo")
def test_liverdream():
    data = load_liverdream()
    assert (len(data), data.graph.I, data.graph.N, data.graph.O) == (25, 8, 40, 7)
    assert data.graph.E == 58 + 8 + 7


@pytest.mark.slow
@pytest.mark.usefixtures("caspo")
def test_no_code_of_the_package_is_imported():
    # In a process of its own: another test may have imported the package for a purpose of its own.
    code = "import sys; from gsnn.datasets import load_dataset; load_dataset('ExtLiver', time=30); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "gsnn.datasets" in loaded
    assert not any(name.split(".")[0] == "caspo" for name in loaded)


@pytest.mark.usefixtures("caspo")
def test_the_same_set_from_its_source(gsnn_data):
    folder = gsnn_data / "cellnopt_liverdream"
    if not folder.is_dir():
        pytest.skip("no LiverDREAM set")
    files = dataset_files("liverdream")
    ours, theirs = read_network(files["graph"]), read_network(folder / "PKN-LiverDREAM.sif")
    assert set(ours.edges.itertuples(index=False, name=None)) == set(theirs.edges.itertuples(index=False, name=None))
    a, b = read_responses(files["data"]), read_responses(folder / "MD-LiverDREAM.csv")
    assert a.treatments.equals(b.treatments)
    assert a.readouts.equals(b.readouts)


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_package_names_the_extra(monkeypatch, name):
    def absent(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'gsnn\[demo\]'"):
        load_dataset(name)


def test_a_missing_file_says_how_to_mend(monkeypatch, tmp_path):
    class Broken:
        version = "0"

        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(metadata, "distribution", lambda _: Broken())
    with pytest.raises(DataError, match=r"without its file caspo/data/ExtLiver/pkn\.sif"):
        load_extliver()


def test_unknown_data_set():
    with pytest.raises(DataError, match=r"unknown dataset 'extlver'.*did you mean 'extliver'"):
        dataset_files("extlver")


@pytest.mark.parametrize("name", DATASETS)
def test_the_table_says_where_things_come_from(name):
    entry = DATASETS[name]
    assert entry.name == name
    assert entry.description
    assert entry.origin
    assert "GPL" in entry.licence
