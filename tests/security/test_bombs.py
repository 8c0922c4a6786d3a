"""Small files that ask for much: each is refused, or read, within a gigabyte and five seconds."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.io import AnnDataResponses, read_edges, read_network, read_responses
from gsnn.io.hdf5_heaps import _starts, check_heaps
from gsnn.nn import GSNN, load_model, save_model

# ---------------------------------------------------------------- XML

_LAUGHS = '<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
_DOCTYPES = {
    "billion laughs": (_LAUGHS, "&a9;"),
    "quadratic": (f'<!ENTITY big "{"x" * 50_000}">', "&big;" * 20_000),
    "another file": ('<!ENTITY file SYSTEM "file:///etc/passwd">', "&file;"),
    "another machine": ('<!ENTITY file SYSTEM "http://192.0.2.1/x">', "&file;"),
    "parameter": ('<!ENTITY % all SYSTEM "file:///etc/passwd"> %all;', ""),
}


@pytest.mark.parametrize("kind", _DOCTYPES)
def test_entities_are_refused(tmp_path, bounded, kind):
    pytest.importorskip("defusedxml")
    declared, used = _DOCTYPES[kind]
    path = tmp_path / "n.graphml"
    path.write_text(
        f"<?xml version='1.0'?><!DOCTYPE g [{declared}]><graphml><graph><node id='{used}'/></graph></graphml>"
    )
    for read in (read_network, read_edges):
        with bounded(), pytest.raises(DataError, match="declares XML entities or refers to other files"):
            read(path)


def graphml(tmp_path, keys="", nodes="", edges=""):
    path = tmp_path / "n.graphml"
    path.write_text(f"<graphml>{keys}<graph edgedefault='directed'><node id='a'/>{nodes}{edges}</graph></graphml>")
    return path


def test_graphml_with_attributes_for_everything(tmp_path, bounded):
    """Keys times nodes, or attributes times edges, is the square of the size of the file."""
    pytest.importorskip("defusedxml")
    keys = "".join(f"<key id='k{i}' for='node' attr.name='a{i}'><default>x</default></key>" for i in range(3000))
    nodes = "".join(f"<node id='n{i}'/>" for i in range(3000))
    with bounded(), pytest.raises(DataError, match="most of them by default or empty"):
        read_network(graphml(tmp_path, keys, nodes))
    edges = "".join(f"<edge source='a' target='a'><data key='e{i}'>1</data></edge>" for i in range(3000))
    with bounded(), pytest.raises(DataError, match="most of them by default or empty"):
        read_network(graphml(tmp_path, edges=edges))


def test_graphml_in_an_unknown_encoding_and_with_an_edge_outside(tmp_path):
    pytest.importorskip("defusedxml")
    path = graphml(tmp_path)
    path.write_text("<?xml version='1.0' encoding='no-such'?>" + path.read_text())
    with pytest.raises(DataError, match="cannot be read as XML"):
        read_network(path)
    path.write_text("<graphml><edge source='a' target='a'/></graphml>")
    with pytest.raises(DataError, match="an edge outside of a graph"):
        read_network(path)


def test_deep_xml(tmp_path, bounded):
    pytest.importorskip("defusedxml")
    with bounded():
        assert read_network(graphml(tmp_path, nodes="<x>" * 20_000 + "</x>" * 20_000)).species == ["a"]


# ---------------------------------------------------------------- packed


def test_gzip_that_grows(tmp_path, bounded):
    path = tmp_path / "n.csv.gz"
    path.write_bytes(gzip.compress(b"source,target\n" + b"a,b\n" * 25_000_000))
    assert path.stat().st_size < 300_000
    for read in (read_network, read_responses, read_edges):
        with bounded(), pytest.raises(DataError, match="unpacks to more than 100 times its size"):
            read(path)


def test_gzip_of_a_large_honest_table(tmp_path):
    rows = np.random.default_rng(0).integers(0, 10, (4000, 20)).astype(str)
    text = ",".join(f"DV:{j}" for j in range(20)) + ",TR:a\n" + "".join(",".join(row) + ",1\n" for row in rows)
    path = tmp_path / "r.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert read_responses(path).readouts.shape == (4000, 20)


def test_parquet_of_repeated_values(tmp_path, bounded):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    n = 5_000_000
    table = pa.table(
        {"source": pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), ["a"]), "target": [0] * n}
    )
    pq.write_table(table, tmp_path / "n.parquet")
    del table
    assert (tmp_path / "n.parquet").stat().st_size < 100_000
    for read in (read_network, read_responses, read_edges):
        with bounded(), pytest.raises(DataError, match=r"the table takes \d+ MiB of memory from a file of 0"):
            read(tmp_path / "n.parquet")


def test_parquet_of_one_long_text_in_many_rows(tmp_path, bounded):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(50_000, np.int32)), ["x" * 500_000])
    pq.write_table(pa.table({"source": names, "target": names}), tmp_path / "n.parquet", compression="gzip")
    for read in (read_network, read_edges):
        with bounded(), pytest.raises(DataError, match=r"a column of text takes \d+ MiB of memory"):
            read(tmp_path / "n.parquet")


# ---------------------------------------------------------------- HDF5


@pytest.fixture
def h5ad(tmp_path):
    h5py = pytest.importorskip("h5py")

    def make(change):
        path = tmp_path / "cells.h5ad"
        with h5py.File(path, "w") as file:
            for name, index, column in (("obs", ["c1", "c2"], "drug"), ("var", ["A", "B"], "symbol")):
                group = file.create_group(name)
                group.attrs.update({"_index": "_index", "column-order": [column]})
                group["_index"], group[column] = index, ["x", "y"]
            file["X"] = np.ones((2, 2))
            change(h5py, file)
        return path

    return make


def _declared(name, shape, dtype):
    def change(h5py, file):
        if name in file:
            del file[name]
        file.create_dataset(name, shape=shape, dtype=dtype(h5py), chunks=True)

    return change


@pytest.mark.parametrize(
    ("name", "shape"), [("X", (2, 10**10)), ("X", (10**6, 10**6)), ("obs/drug", (10**9,)), ("var/_index", (10**8,))]
)
@pytest.mark.parametrize("kind", ["number", "text"])
def test_hdf5_that_declares_more_than_it_holds(h5ad, bounded, name, shape, kind):
    path = h5ad(_declared(name, shape, lambda h5py: "f4" if kind == "number" else h5py.string_dtype()))
    assert path.stat().st_size < 100_000
    with bounded(), pytest.raises(DataError, match=r"takes \d+ MiB of memory from a file of 0"):
        read_responses(path, anndata={"perturbation": "drug"})


def test_hdf5_with_a_large_sparse_matrix(h5ad, bounded):
    """What is stored is small; the dense matrix is not."""

    def change(h5py, file):
        del file["X"], file["var"]["_index"], file["obs"]["_index"], file["obs"]["drug"]
        n = 300_000
        for name in ("obs", "var"):
            file[name].create_dataset("_index", data=np.arange(n).astype("S6"), compression="gzip")
        file["obs"].create_dataset("drug", data=np.array([b"x"] * n), compression="gzip")
        file["X/data"], file["X/indices"] = np.ones(1), np.zeros(1, np.int64)
        file["X"].create_dataset("indptr", data=np.r_[0, np.ones(n, np.int64)], compression="gzip")
        file["X"].attrs.update({"encoding-type": "csr_matrix", "shape": [n, n]})

    path = h5ad(change)
    with bounded(), pytest.raises(DataError, match=r"rows as a dense matrix takes \d+ MiB"):
        read_responses(path, anndata={"perturbation": "drug"})
    with bounded(), AnnDataResponses(path, perturbation="drug", readouts=["7"], chunk_size=1) as responses:
        assert responses[0][1].shape == (1,)


def _links(h5py, file, link):
    del file["X"]
    file["X"] = link


@pytest.mark.parametrize("kind", ["external", "soft", "stored outside", "virtual"])
def test_hdf5_that_leads_to_other_files(h5ad, tmp_path, bounded, kind):
    secret = tmp_path / "secret.h5"

    def change(h5py, file):
        with h5py.File(secret, "w") as other:
            other["X"] = np.ones((2, 2))
        del file["X"]
        if kind == "external":
            file["X"] = h5py.ExternalLink(str(secret), "/X")
        elif kind == "soft":
            file["elsewhere"] = h5py.ExternalLink(str(secret), "/")
            file["X"] = h5py.SoftLink("/elsewhere/X")
        elif kind == "stored outside":
            file.create_dataset("X", (2, 2), "f8", external=[(str(secret), 0, 32)])
        else:
            layout = h5py.VirtualLayout((2, 2), "f8")
            layout[:] = h5py.VirtualSource(str(secret), "X", (2, 2))
            file.create_virtual_dataset("X", layout)

    path = h5ad(change)
    with bounded(), pytest.raises(DataError, match=r"is a link, which may lead|is stored in another file"):
        read_responses(path, anndata={"perturbation": "drug"})


def test_hdf5_group_that_contains_itself(h5ad, bounded):
    def change(h5py, file):
        file["obs/again"] = file["obs"]

    with bounded():
        assert read_responses(h5ad(change), anndata={"perturbation": "drug"}).readouts.shape == (2, 2)


@pytest.mark.parametrize("masked", [False, True])
def test_hdf5_columns_of_complex_numbers(h5ad, masked):
    def change(h5py, file):
        del file["obs/drug"]
        if masked:
            file["obs/drug/values"], file["obs/drug/mask"] = np.ones(2) + 1j, np.zeros(2, dtype=bool)
        else:
            file["obs/drug"] = np.ones(2) + 1j

    with pytest.raises(DataError, match="column 'drug' of 'obs' holds complex128, neither text nor numbers"):
        read_responses(h5ad(change), anndata={"perturbation": "drug"})


@pytest.mark.parametrize(("index", "length"), [(0, 0), (0, 8), (7, 2**63), (0, 10**6)])
def test_hdf5_with_a_heap_that_does_not_end(h5ad, bounded, index, length):
    """An object of no size keeps the library in its place for ever, where no signal reaches it."""
    path = h5ad(lambda h5py, file: None)
    data = bytearray(path.read_bytes())
    place = data.index(b"GCOL") + 16
    while found := int.from_bytes(data[place : place + 2], "little"):
        assert found < 100
        place += 16 + -(-int.from_bytes(data[place + 8 : place + 16], "little") // 8) * 8
    data[place : place + 2], data[place + 8 : place + 16] = index.to_bytes(2, "little"), length.to_bytes(8, "little")
    path.write_bytes(data)
    with bounded(), pytest.raises(DataError, match=r"cells.h5ad cannot be read as HDF5 \(the global heap at byte \d+"):
        read_responses(path, anndata={"perturbation": "drug"})


def test_hdf5_heaps_of_whole_files_end(h5ad, monkeypatch):
    def change(h5py, file):
        texts = ["x" * (7 * i % 5000) for i in range(400)]  # in many heaps
        file.create_dataset("obs/long", data=texts, dtype=h5py.string_dtype())

    path = h5ad(change)
    data = path.read_bytes()
    starts = [i for i in range(len(data)) if data.startswith(b"GCOL\1\0\0\0", i)]
    assert len(starts) >= 10
    for block in (2**24, 4099, 100):
        monkeypatch.setattr("gsnn.io.hdf5_heaps._BLOCK", block)
        with path.open("rb") as file:
            assert list(_starts(file)) == starts
    check_heaps(path)
    # These bytes in the midst of numbers are no heap if what follows is longer than the file.
    path.write_bytes(data + b"GCOL\1\0\0\0" + b"\xff" * 64)
    check_heaps(path)


# ---------------------------------------------------------------- a million columns

WIDE = 10**6


@pytest.mark.slow
def test_edge_tables_of_a_million_columns(tmp_path, bounded):
    path = tmp_path / "n.csv"
    path.write_text("source,target," + ",".join(map(str, range(WIDE))) + "\na,b" + ",1" * WIDE + "\n")
    for read in (read_network, read_edges, lambda p: read_network(p, source="sorce")):
        with bounded(), pytest.raises(DataError, match=r"columns, where a table of edges has a few"):
            read(path)


def test_responses_of_many_readouts_with_a_time_each(tmp_path, bounded):
    n = WIDE // 20
    path = tmp_path / "m.csv"
    names = [f"DV:{i}" for i in range(n)] + [f"DA:{i}" for i in range(n)]
    path.write_text("TR:a," + ",".join(names) + "\n1" + ",1" * (2 * n) + "\n")
    with bounded():
        assert read_responses(path).readouts.shape == (1, n)


def test_names_of_a_hundred_thousand_characters_do_not_fill_the_screen(tmp_path):
    path = tmp_path / "n.csv"
    path.write_text(f"source,target,status\na,b,{'9' * 10**5}\n")
    with pytest.raises(DataError, match=r"9{99}\.\.\. \(10000\d characters\)") as caught:
        read_edges(path)
    assert len(str(caught.value)) < 1000


# ---------------------------------------------------------------- models

NAMES = {"input": ["x"], "function": ["f", "g"], "output": ["y"]}
EDGES = {
    ("function", "to", "function"): [[0], [1]],
    ("input", "to", "function"): [[0], [0]],
    ("function", "to", "output"): [[1], [0]],
}


def forge(path, changes):
    """Change the description in a model file."""
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + n])
    inner = json.loads(head["__metadata__"]["gsnn"])
    inner["config"].update(changes)
    head["__metadata__"]["gsnn"] = json.dumps(inner)
    text = json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + n :])
    return path


@pytest.fixture
def forged(tmp_path):
    """A model file whose description is changed."""

    def make(**changes):
        path = tmp_path / "model.safetensors"
        options = {"node_mlp": True, "node_mlp_hidden": 4} if "node_mlp_hidden" in changes else {}
        save_model(GSNN(EDGES, NAMES, channels=2, layers=2, **options), path)
        return forge(path, changes)

    return make


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 10**9},
        {"channels": [10**9, 1]},
        {"edge_channels": 10**9},
        {"edge_channels": 10**308},
        {"layers": 10**9},
        {"layers": 10**6, "share_layers": False},
        {"node_mlp_hidden": 10**10},
        {"nonlin": "Transformer"},
        {"nonlin": "Module"},
        {"nonlin": "modules"},
        {"nonlin": "__builtins__"},
        {"add_function_self_edges": False},
        {"node_names": {**NAMES, "function": ["f"]}},
        {"dropout": 10**400},
    ],
    ids=str,
)
def test_a_model_that_says_it_is_larger_than_its_file(forged, bounded, change):
    path = forged(**change)
    with bounded(), pytest.raises(DataError):
        load_model(path)


def test_a_model_without_edges_and_with_many_channels(tmp_path, bounded):
    names = {**NAMES, "function": ["f"]}
    lone = {kind: [[], []] for kind in EDGES}
    path = tmp_path / "lone.safetensors"
    save_model(GSNN(lone, names, channels=1, layers=1, add_function_self_edges=False), path)
    assert load_model(path).N == 1
    with bounded(), pytest.raises(DataError, match="channels and holds no weights for them"):
        load_model(forge(path, {"channels": 10**9}))


def test_models_as_they_are_saved_still_open(forged, tmp_path):
    assert load_model(forged()).L == 2
    for options in (
        {"channels": [1, 3]},
        {"edge_channels": 3},
        {"share_layers": True, "layers": 7},
        {"node_attn": True, "node_attn_hidden": 9},
        {"node_mlp": True, "node_mlp_hidden": 64},
        {"add_function_self_edges": False},
    ):
        path = tmp_path / "again.safetensors"
        model = GSNN(EDGES, NAMES, **{"channels": 2, "layers": 2, **options})
        save_model(model, path)
        assert load_model(path).config() == model.config()


def test_a_model_of_ten_thousand_shared_layers_is_the_most(forged, bounded):
    with bounded(), pytest.raises(DataError, match="layers and holds fewer"):
        load_model(forged(layers=10_001, share_layers=True))


def test_a_table_with_one_row_of_everything_is_still_read(tmp_path, bounded):
    """The limits are of growth: what is large on the disk may be large in memory."""
    n = 200_000
    frame = pd.DataFrame({"source": [f"s{i}" for i in range(n)], "target": "t"})
    frame.to_parquet(tmp_path / "n.parquet")
    with bounded():
        assert len(read_network(tmp_path / "n.parquet").edges) == n
