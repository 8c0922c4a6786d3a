"""Files of other formats, under their own names or wrong ones: named, with the way out."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.base.wording import flags
from gsnn.io import AnnDataResponses, ArrayResponses, read_network, read_responses, stream_responses
from gsnn.runs.check import check_up

TABLE = "TR:A,DV:B\n0,1\n1,2\n1,3\n"


def refused(call, *words, absent=()):
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    for word in absent:
        assert word not in message


# ---------------------------------------------------------------- folders


@pytest.mark.parametrize("mark", [".zgroup", ".zarray", ".zattrs", ".zmetadata", "zarr.json", None])
@pytest.mark.parametrize("name", ["cells.zarr", "cells", "cells.h5ad"])
def test_a_folder_that_is_zarr(tmp_path, mark, name):
    store = tmp_path / name
    (store / "obs").mkdir(parents=True)
    if mark is not None:
        (store / mark).write_text("{}")
    elif name != "cells.zarr":
        refused(lambda: read_responses(store), "is a folder", absent=["Zarr"])
        return
    way = ("is a Zarr store", "anndata.read_zarr(path).write_h5ad")
    refused(lambda: read_responses(store), *way)
    refused(lambda: read_responses(inputs=store, outputs=store), *way)
    refused(lambda: stream_responses(store), *way)
    refused(lambda: AnnDataResponses(store, perturbation="drug"), *way)
    refused(lambda: read_network(store), "is a Zarr store", "GraphML", absent=["read_zarr"])


def test_another_folder_names_its_files(tmp_path):
    (tmp_path / "responses.csv").write_text(TABLE)
    refused(lambda: read_responses(tmp_path), "is a folder; name a file in it ('responses.csv')")


# ---------------------------------------------------------------- HDF5


def mudata(file):
    file.attrs["encoding-type"] = "MuData"
    file.create_group("mod").create_group("prot")
    for name in ("obs", "var"):
        file.create_group(name).attrs["_index"] = "_index"


def mudata_without_mark(file):
    file.create_group("mod").create_group("rna")
    file.create_group("obs")
    file.create_group("var")


def loom(file):
    file["matrix"] = np.ones((2, 2))
    file.create_group("row_attrs")
    file.create_group("col_attrs")


def counts(file):
    file.create_group("matrix")["data"] = [1]


def table_of_pandas(file):
    file.create_group("frame").attrs["pandas_type"] = "frame"


HDF5 = {
    mudata: ["MuData", "('prot')", ".mod['prot'].write_h5ad"],
    mudata_without_mark: ["MuData", ".mod['rna'].write_h5ad"],
    loom: ["Loom", "read_loom"],
    counts: ["read_10x_h5"],
    table_of_pandas: ["pandas", "read_hdf"],
}


@pytest.mark.parametrize("name", ["x.h5mu", "x.h5ad", "x.h5", "x.csv", "x"])
@pytest.mark.parametrize("make", HDF5, ids=lambda make: make.__name__)
def test_hdf5_that_is_no_anndata(tmp_path, make, name):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / name, "w") as file:
        make(file)
    refused(lambda: read_responses(tmp_path / name, anndata={"perturbation": "drug"}), *HDF5[make])
    refused(lambda: stream_responses(tmp_path / name, anndata={"perturbation": "drug"}), *HDF5[make])
    refused(lambda: read_network(tmp_path / name), "HDF5", "graphml")


def test_anndata_without_its_matrix_or_turned_round(make_h5ad):
    obs, var = pd.DataFrame({"drug": ["A", "B", "control"]}, list("xyz")), pd.DataFrame(index=["P", "Q"])
    values = np.arange(6.0).reshape(3, 2)
    with_layer = make_h5ad(obs, var, layers={"counts": values}, name="layer.h5ad")
    refused(lambda: read_responses(with_layer, anndata={"perturbation": "drug"}), "layer=: 'counts'", absent=["--"])
    with flags():
        refused(lambda: read_responses(with_layer, anndata={"perturbation": "drug"}), "--layer: 'counts'")
    turned = make_h5ad(var, obs, values.T, name="turned.h5ad")
    refused(lambda: read_responses(turned, anndata={"perturbation": "drug"}), "'var' has it", "adata.T.copy()")
    import h5py

    with h5py.File(with_layer, "r+") as file:
        del file["layers"]["counts"]
        file.create_group("raw")
    refused(lambda: read_responses(with_layer, anndata={"perturbation": "drug"}), "adata.raw.to_adata()")


# ---------------------------------------------------------------- wrong names


def packed():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a", "b")
    return held.getvalue()


def array():
    held = io.BytesIO()
    np.save(held, np.ones((3, 2)))
    return held.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("r.xlsx", packed, "Excel workbook"),
        ("r.csv", packed, "Excel workbook"),
        ("r.npz", packed, "zip archive"),
        ("r.zarr.zip", packed, "unpack it"),
        ("r.npy", array, "a pair of .npy"),
        ("r.csv", array, "a pair of .npy"),
        ("r.h5ad", TABLE.encode, "another format, renamed"),
        ("r.parquet", TABLE.encode, "called Parquet and is not"),
        ("r.rds", lambda: b"RDX3\nX\n", "a file of R"),
        ("r.csv", lambda: b'[{"TR:A": 1}]', "JSON"),
        ("r.csv", lambda: b"<html>", "HTML"),
    ],
)
def test_responses_under_another_name(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content())
    refused(lambda: read_responses(tmp_path / name), words)


@pytest.mark.parametrize("name", ["r.sif", "r.txt", "r", "r.tsv", "r.graphml"])
def test_the_content_of_responses_counts(tmp_path, name):
    (tmp_path / name).write_text(TABLE)
    assert read_responses(tmp_path / name).readouts["B"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("n.graphml", "A\t1\tB\n", "called GraphML and is no XML"),
        ("n.parquet", "A\t1\tB\n", "called Parquet and is not"),
        ("n.json", '[{"source": "A"}]', "JSON"),
        ("n.cyjs", '{\n "elements": []}', "JSON"),
        ("n.gml", "graph [\n node [\n id 0\n ]\n]\n", "read_gml"),
        ("n.net", "*Vertices 2\n1 A\n2 B\n*Arcs\n1 2\n", "read_pajek"),
        ("n.gv", "digraph {\n A -> B -> C\n}\n", "DOT"),
        ("n.xgmml", "<?xml version='1.0'?><graph/>", "its root is <graph>"),
        ("n.bnet", "targets, factors\nA, B & C\n", "unknown column layout"),
        ("n.txt", "A = B\nC = D and not E\n", "unknown column layout"),
    ],
)
def test_networks_in_other_languages(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    refused(lambda: read_network(tmp_path / name), words)


@pytest.mark.parametrize("name", ["n.h5ad", "n.csv", "n", "n.txt", "n.tsv"])
def test_the_content_of_a_network_counts(tmp_path, name):
    (tmp_path / name).write_text("A\t1\tB\nB\t-1\tC\n")
    assert read_network(tmp_path / name).edges["sign"].tolist() == [1, -1]


# ---------------------------------------------------------------- objects in place of paths


@pytest.mark.parametrize(
    "given", [pd.DataFrame({"a": [1]}), [("a", "b")], 7, None, b"n.sif"], ids=lambda v: type(v).__name__
)
def test_readers_take_paths(given):
    with pytest.raises(TypeError, match=r"must be a path, got .*Network\.from_edges"):
        read_network(given)
    if given is not None:
        with pytest.raises(TypeError, match="must be a path"):
            read_responses(given)
    with pytest.raises(TypeError, match="must be a path"):
        AnnDataResponses(given, perturbation="drug")
    with pytest.raises(TypeError, match="must be an array or a path"):
        ArrayResponses(given, given, treatments=["a"], readouts=["b"])


def test_a_flag_that_is_for_anndata_is_called_by_its_name(tmp_path):
    (tmp_path / "n.sif").write_text("A\t1\tB\n")
    (tmp_path / "r.csv").write_text(TABLE)
    with flags():
        refused(
            lambda: check_up(tmp_path / "n.sif", tmp_path / "r.csv", responses_options={"anndata": {"exclude": ["x"]}}),
            "--exclude-label is for AnnData",
        )
