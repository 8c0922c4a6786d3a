"""AnnData files of other versions and programs: columns that are stored in other ways, and parts that are missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.io import AnnDataResponses, read_edges, read_responses, write_edges

h5py = pytest.importorskip("h5py")

DRUGS = ["EGF", "control", "TNF", "EGF"]
OBS = pd.DataFrame({"drug": pd.Categorical(DRUGS), "text": DRUGS, "il1": [0, 1, 0, 2]}, index=list("abcd"))
VAR = pd.DataFrame({"symbol": ["ERK", "JUN"], "length": [7, 8]}, index=["P1", "P2"])
X = np.arange(8, dtype=np.float32).reshape(4, 2)
DRUG = {"perturbation": "drug"}


@pytest.fixture
def changed(make_h5ad):
    """A valid file, changed by a function that gets it open."""

    def make(change, obs=OBS, var=VAR, values=X, **more):
        path = make_h5ad(obs, var, values, **more)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return make


def masked(parent, name, values, mask):
    del parent[name]
    group = parent.create_group(name)
    group["values"], group["mask"] = values, mask


def test_text_with_a_mask_is_text_and_what_is_masked_is_empty(changed):
    def change(file):
        masked(file["obs"], "drug", np.array(["EGF", "control", "TNF", "EGF"], dtype="S"), [False] * 4)
        masked(file["obs"], "text", np.array(["EGF", "?", "TNF", "EGF"], dtype="S"), [False, True, False, False])
        masked(file["obs"], "_index", np.array(["a", "b", "c", "d"], dtype="S"), [False] * 4)

    path = changed(change)
    found = read_responses(path, anndata=DRUG)
    assert found.treatments["EGF"].tolist() == [1, 0, 0, 1]
    assert list(found.readouts.index) == list("abcd")
    with pytest.raises(DataError, match=r"column 'text' of 'obs' is empty in row 2"):
        read_responses(path, anndata={"perturbation": "text"})


def test_numbers_with_a_mask_are_missing_where_it_says_so(changed):
    path = changed(lambda file: masked(file["obs"], "il1", [0, 1, 0, 2], [False, False, False, False]))
    assert read_responses(path, anndata={"perturbation": "il1"}).treatments["il1"].tolist() == [0, 1, 0, 2]
    path = changed(lambda file: masked(file["obs"], "il1", [0, 1, 0, 2], [False, False, True, False]))
    with pytest.raises(DataError, match="treatment 'il1' is missing or infinite in row 3"):
        read_responses(path, anndata={"perturbation": "il1"})


def test_categories_as_anndata_0_7_kept_them(changed):
    def change(file):
        codes, names = file["obs/drug/codes"][:], file["obs/drug/categories"].asstr()[:]
        del file["obs/drug"]
        file["obs/__categories/drug"] = np.array(names, dtype="S")
        file["obs"].create_dataset("drug", data=codes).attrs["categories"] = file["obs/__categories/drug"].ref

    assert read_responses(changed(change), anndata=DRUG).treatments["EGF"].tolist() == [1, 0, 0, 1]


def test_row_names_may_be_categories_or_numbers(changed):
    def categories(file):
        del file["obs/_index"]
        group = file["obs"].create_group("_index")
        group["codes"], group["categories"] = [2, 1, 0, -1], np.array(["x", "y", "z"], dtype="S")

    def numbers(file):
        del file["var/_index"]
        file["var/_index"] = [11, 12]

    assert list(read_responses(changed(categories), anndata=DRUG).readouts.index) == ["z", "y", "x", ""]
    assert list(read_responses(changed(numbers), anndata=DRUG).readouts.columns) == ["11", "12"]


def of_rows(n, column="drug"):
    def change(file):
        del file["obs"][column]
        file["obs"][column] = np.zeros(n)

    return change


def replaced(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f["obs"].attrs.__setitem__("_index", "gone"), DRUG, "'obs' has no index; write the file again"),
        (replaced("obs", [1, 2, 3, 4]), DRUG, "was written by an AnnData older than 0.7"),
        (replaced("layers", [1, 2]), DRUG, "'layers' is no group, so it is no AnnData file"),
        (of_rows(3), DRUG, "column 'drug' of 'obs' has not one value for each of the 4 rows"),
        (replaced("obs/_index", np.zeros((4, 2))), DRUG, "/obs/_index has 2 dimensions, where a column has one"),
        (lambda f: f.move("X", "old") or f.create_group("X"), DRUG, "X is a table or a list, not a matrix"),
        (lambda f: None, {**DRUG, "var_names": "length"}, "column 'length' of 'var' holds numbers; names must be text"),
        (lambda f: None, {"obsm": "pert", "treatment_names": ["u"]}, "the treatments have no row for each of the 4"),
    ],
)
def test_what_is_wrong_is_named(changed, change, options, message):
    path = changed(change, obsm={"pert": np.zeros((0, 1))})
    with pytest.raises(DataError) as caught:
        read_responses(path, anndata=options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_was_measured(make_h5ad):
    with pytest.raises(DataError, match="has no variables, so nothing was measured"):
        read_responses(make_h5ad(OBS, VAR[:0], X[:, :0]), anndata=DRUG)


def test_the_object_says_what_it_holds_and_can_be_closed_twice(make_h5ad):
    path = make_h5ad(OBS, VAR, X)
    found = AnnDataResponses(path, **DRUG, readouts=["P2"])
    assert str(found).startswith(f"{path}: 4 samples, 2 treatments, 1 readout")
    assert "readouts" not in " ".join(found.warnings), "none of them is lost"
    np.testing.assert_array_equal(found[:][1], X[:, [1]])
    with pytest.raises(DataError, match="size must be at least 1, got 0"):
        next(found.chunks(0))
    found.close()
    found.close()


def test_treatments_that_say_nothing_or_are_named_twice(make_h5ad):
    nothing = make_h5ad(OBS.assign(drug="control"), VAR, X)
    with pytest.raises(DataError, match="'drug' of 'obs' name controls only; nothing was done to any sample"):
        read_responses(nothing, anndata=DRUG)
    table = pd.DataFrame({"u": [1.0, 0, 1, 0], "v": list("wxyz")}, index=list("abcd"))
    path = make_h5ad(OBS, VAR, X, obsm={"pert": table})
    with pytest.raises(DataError, match="is a table and names its columns; leave treatment_names out"):
        read_responses(path, anndata={"obsm": "pert", "treatment_names": ["u", "v"]})
    with pytest.raises(DataError, match=r"columns 'v' of obsm\['pert'\] hold text; a treatment is a number"):
        read_responses(path, anndata={"obsm": "pert"})


def test_rows_that_are_damaged(make_h5ad):
    path = make_h5ad(OBS, VAR)
    with h5py.File(path, "r+") as file:
        stored = file.create_dataset("X", data=X, chunks=X.shape, compression="gzip")
        place = stored.id.get_chunk_info(0).byte_offset
    damaged = bytearray(path.read_bytes())
    damaged[place : place + 8] = bytes(8)
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"rows of X cannot be read \("):
        read_responses(path, anndata=DRUG)


def test_edges_into_a_file_without_uns_and_back(changed, tmp_path):
    path = changed(lambda file: file.__delitem__("uns"))
    table = pd.DataFrame(
        {"rank": [1, 2], "source": ["a", "b"], "target": ["b", "a"], "score": [2.0, 1.0], "mine": [True, False]}
    )
    write_edges(table, tmp_path / "made.h5ad", h5ad=path)
    back = read_edges(tmp_path / "made.h5ad")
    assert back["source"].tolist() == ["a", "b"]
    assert back["mine"].tolist() == [True, False]
    assert read_responses(tmp_path / "made.h5ad", anndata=DRUG).readouts.to_numpy().tolist() == X.tolist()
    with pytest.raises(DataError, match="column 'a/b' cannot stand in an AnnData file; rename it"):
        write_edges(table.rename(columns={"mine": "a/b"}), tmp_path / "more.h5ad", h5ad=path)
    assert not (tmp_path / "more.h5ad").exists()

    with h5py.File(tmp_path / "made.h5ad", "r+") as file:
        key = next(iter(file["uns"]))
        masked(file["uns"][key], "rank", [1.5, 2.5], [False, True])
    with pytest.raises(DataError, match="rank is masked and holds float64, where integers are kept"):
        read_edges(tmp_path / "made.h5ad")
