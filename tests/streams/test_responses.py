"""Reading: every kind of file gives the samples that are in it, and says what it cannot."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.io import ArrayResponses, ParquetResponses, stream_responses

from .conftest import READOUTS, TREATMENTS, options_of, write_files


def everything(responses, **options):
    parts = [part for start, stop in responses.stretches() for part in responses.read(start, stop, **options)]
    return [np.concatenate(side) for side in zip(*parts, strict=True)]


def test_a_stream_holds_what_the_file_holds(opened, world):
    assert (opened.treatments, opened.readouts, len(opened)) == (TREATMENTS, READOUTS, len(world.x))
    places = opened.stretches()
    assert places[0][0] == 0
    assert places[-1][1] == len(world.x)
    assert [a for a, _ in places[1:]] == [b for _, b in places[:-1]]
    for size in (None, 7):
        x, y = everything(opened, size=size)
        np.testing.assert_array_equal(x, world.x.astype(np.float32))
        np.testing.assert_array_equal(y, world.y.astype(np.float32))
    x, nothing = everything(opened, readouts=False)
    assert (len(x), nothing.shape) == (len(world.x), (len(world.x), 0))


def test_only_the_columns_that_are_kept_are_read(opened, world):
    opened.keep([2, 0], [1])
    opened.keep([1, 0], [0])
    x, y = everything(opened)
    assert (opened.treatments, opened.readouts) == (["a", "g"], ["f"])
    np.testing.assert_array_equal(x, world.x[:, [0, 2]].astype(np.float32))
    np.testing.assert_array_equal(y, world.y[:, [1]].astype(np.float32))


def test_chunks_are_no_larger_than_asked(opened):
    start, stop = opened.stretches()[0]
    assert max(len(x) for x, _ in opened.read(start, stop, 9)) == 9


def test_one_huge_row_group_is_read_in_chunks(tmp_path, world):
    pytest.importorskip("pyarrow")
    files = write_files(tmp_path, world, "parquet", group=10**6)
    responses = ParquetResponses(**files)
    assert responses.stretches() == [(0, len(world.x))]
    assert [len(x) for x, _ in responses.read(0, len(world.x), 150)] == [150, 150, 100]


def test_parquet_is_opened_again_after_closing_and_in_another_process(tmp_path, world):
    pytest.importorskip("pyarrow")
    responses = ParquetResponses(**write_files(tmp_path, world, "parquet"))
    responses.close()
    other = pickle.loads(pickle.dumps(responses))
    np.testing.assert_array_equal(everything(other)[0], everything(responses)[0])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"TR:a": [0.0, 1], "DA:ALL": [0.0, 1], "DV:d": [0.0, 1]}, r"times \(DA: columns\), which cannot be streamed"),
        ({"TR:a": [0.0, 1], "TR:x:CellLine": [0.0, 1], "DV:d": [0.0, 1]}, "cell lines .* cannot be streamed"),
        ({"TR:a": ["0", "1"], "DV:d": [0.0, 1]}, "'TR:a' hold text"),
        ({"TR:a": [0.0, 1]}, "no readout"),
        ({"TR:a": [0.0, None], "DV:d": [0.0, 1]}, "treatment 'a' is missing in row 2"),
        ({"TR:a": [0.0, 1], "DV:d": [1.0, float("inf")]}, "readout 'd' is infinite.* in row 2"),
        ({"TR:a": [0.0, 1], "DV:d": [1.0, 1e300]}, "readout 'd' is infinite, or too large for single precision"),
    ],
)
def test_parquet_that_cannot_be_streamed(tmp_path, columns, words):
    pytest.importorskip("pyarrow")
    pd.DataFrame(columns).to_parquet(tmp_path / "r.parquet")
    with pytest.raises(DataError, match=words):
        everything(ParquetResponses(tmp_path / "r.parquet"))


def test_gaps_booleans_and_integers(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"TR:a": [True, False, True], "DV:d": pd.array([1, None, 3], dtype="Int64")})
    frame.to_parquet(tmp_path / "r.parquet")
    x, y = everything(ParquetResponses(tmp_path / "r.parquet"))
    assert x.ravel().tolist() == [1, 0, 1]
    np.testing.assert_array_equal(y.ravel(), [1, np.nan, 3])


def test_two_tables_must_go_side_by_side(tmp_path, world):
    pytest.importorskip("pyarrow")
    files = write_files(tmp_path, world, "pair")
    frame = pd.read_parquet(files["outputs"])
    frame.to_parquet(files["outputs"], row_group_size=30)
    with pytest.raises(DataError, match=r"different row groups .*of 70 and 30 rows"):
        ParquetResponses(**files)
    frame.iloc[:-1].to_parquet(files["outputs"], row_group_size=70)
    with pytest.raises(DataError, match=r"has 400 rows and .* 399"):
        ParquetResponses(**files)
    frame.iloc[::-1].to_parquet(files["outputs"], row_group_size=70)
    with pytest.raises(DataError, match=r"row 1 is sample 's0' .* and 's399'"):
        everything(ParquetResponses(**files))


def test_names_of_samples_in_one_of_two_tables_are_not_compared(tmp_path, world):
    pytest.importorskip("pyarrow")
    files = write_files(tmp_path, world, "pair")
    pd.read_parquet(files["outputs"]).to_parquet(files["outputs"], row_group_size=70, index=False)
    found = ParquetResponses(**files)
    assert found.warnings == ["only one of the two tables has sample identifiers; rows were paired in order"]
    np.testing.assert_array_equal(everything(found)[1], world.y.astype(np.float32))


def test_booleans_with_gaps_are_numbers(tmp_path):
    pytest.importorskip("pyarrow")
    gaps = pd.DataFrame({"TR:a": [1.0, 0.0, 1.0], "DV:d": pd.array([True, None, False], dtype="boolean")})
    gaps.to_parquet(tmp_path / "r.parquet")
    np.testing.assert_array_equal(everything(ParquetResponses(tmp_path / "r.parquet"))[1].ravel(), [1, np.nan, 0])


def test_parquet_that_is_missing_empty_or_too_much(tmp_path, world):
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=r"gone\.parquet' does not exist; check the path"):
        ParquetResponses(tmp_path / "gone.parquet")
    pd.DataFrame({"TR:a": [1.0], "DV:d": [1.0]})[:0].to_parquet(tmp_path / "r.parquet")
    with pytest.raises(DataError, match="holds a header and no rows"):
        ParquetResponses(tmp_path / "r.parquet")
    with pytest.raises(DataError, match="give either one response file, or both inputs= and outputs="):
        ParquetResponses(tmp_path / "r.parquet", inputs=tmp_path / "r.parquet")


def test_a_row_group_that_is_damaged_is_named(tmp_path, world):
    pytest.importorskip("pyarrow")
    (path,) = write_files(tmp_path, world, "parquet").values()
    found = ParquetResponses(path)
    found.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(2000) + whole[2004:])
    with pytest.raises(DataError, match=r"row group 1 cannot be read"):
        everything(found)


def test_damaged_parquet(tmp_path, world):
    pytest.importorskip("pyarrow")
    (path,) = write_files(tmp_path, world, "parquet").values()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a complete Parquet file"):
        ParquetResponses(path)


def test_arrays_that_cannot_be_streamed(tmp_path):
    names = {"treatments": ["a"], "readouts": ["d"]}
    x = np.ones((5, 1))
    for y, words in (
        (np.ones((4, 1)), "inputs have 5 rows and outputs 4"),
        (np.ones(5), "must be a matrix of numbers"),
        (np.full((5, 1), "a"), "must be a matrix of numbers"),
        (np.ones((5, 2)), "readouts must name 2 columns"),
        (np.ones((2, 5)).T, "stored by columns"),
    ):
        np.save(tmp_path / "y.npy", y)
        with pytest.raises(DataError, match=words):
            ArrayResponses(x, tmp_path / "y.npy", **names)
    (tmp_path / "y.npy").write_bytes(b"no")
    with pytest.raises(DataError, match=r"not a \.npy file"):
        ArrayResponses(x, tmp_path / "y.npy", **names)
    with pytest.raises(DataError, match="does not exist"):
        ArrayResponses(x, tmp_path / "z.npy", **names)
    with pytest.raises(DataError, match="inputs and outputs have no rows"):
        ArrayResponses(x[:0], x[:0], **names)
    with pytest.raises(DataError, match="stretch must be an integer of at least 1, got 0"):
        ArrayResponses(x, x, **names, stretch=0)
    assert str(ArrayResponses(x, x, **names)) == "the responses: 5 samples, 1 treatment, 1 readout, in 1 stretch"
    assert ArrayResponses(np.ones((5, 2)), x, treatments=["a", "a"], readouts=["d"]).treatments == ["a", "a"]


def test_what_cannot_be_had_from_a_stream(tmp_path, world):
    text = tmp_path / "r.csv"
    text.write_text("TR:a,DV:d\n1,2\n")
    with pytest.raises(DataError, match="cannot be streamed: a stream is Parquet or AnnData"):
        stream_responses(text)
    npy = write_files(tmp_path, world, "npy")
    with pytest.raises(DataError, match="names="):
        stream_responses(**npy)
    with pytest.raises(DataError, match="times and cell lines"):
        stream_responses(**npy, **options_of("npy"), time=3)
    with pytest.raises(DataError, match="either one response file"):
        stream_responses(npy["inputs"], inputs=npy["inputs"])
    with pytest.raises(DataError, match=r"anndata= is for AnnData, and '.*x\.npy' is not a \.h5ad file"):
        stream_responses(**npy, **options_of("npy"), anndata={"perturbation": "a"})
    pytest.importorskip("pyarrow")
    pair = write_files(tmp_path, world, "pair")
    with pytest.raises(DataError, match=r"names= belongs to \.npy files"):
        stream_responses(**pair, **options_of("npy"))
    with pytest.raises(DataError, match=r"is parquet and '.*' npy; a stream needs both in one format"):
        stream_responses(inputs=pair["inputs"], outputs=npy["outputs"], **options_of("npy"))


def test_h5ad_by_columns_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    sparse = pytest.importorskip("scipy.sparse")
    with h5py.File(tmp_path / "c.h5ad", "w") as file:
        for name, index in (("obs", ["s1", "s2"]), ("var", ["d", "f"])):
            group = file.create_group(name)
            group.attrs.update({"_index": "_index", "column-order": ["a"] if name == "obs" else []})
            group["_index"] = index
        file["obs"]["a"] = [0.0, 1.0]
        matrix = sparse.csc_array(np.eye(2))
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csc_matrix", "shape": [2, 2]})
        for part in ("data", "indices", "indptr"):
            group[part] = getattr(matrix, part)
    with pytest.raises(DataError, match=r"stored by columns \(CSC\)"):
        stream_responses(tmp_path / "c.h5ad", anndata={"perturbation": "a"})
