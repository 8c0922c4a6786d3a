from __future__ import annotations

import json
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from gsnn.base.errors import DataError, MissingExtraError
from gsnn.data import build_data
from gsnn.io import AnnDataResponses, Network, read_responses

h5py = pytest.importorskip("h5py")

DRUGS = ["EGF", "control", "TNF", "EGF", "TNF", "DMSO"]
NAMES = [f"c{i}" for i in range(6)]


@pytest.fixture
def obs():
    return pd.DataFrame(
        {
            "drug": pd.Categorical(DRUGS, categories=["control", "TNF", "EGF", "DMSO", "unused"]),
            "text": DRUGS,
            "dose": [1.0, np.nan, 0.5, 2.0, 1.0, np.nan],
            "il1": [0, 1, 0, 2, 0, 0],
            "cold": [True, False, False, False, False, True],
        },
        index=NAMES,
    )


@pytest.fixture
def var():
    return pd.DataFrame({"symbol": pd.Categorical(["ERK", "JUN", "AKT"])}, index=["P1", "P2", "P3"])


@pytest.fixture
def X():
    return np.array([[1, 0, 2], [0, 0, 0], [np.nan, 3, 0], [0, 4, 5], [6, 0, 0], [0, 0, 7]], dtype=np.float32)


ONE_HOT = {"TNF": [0, 0, 1, 0, 1, 0], "EGF": [1, 0, 0, 1, 0, 0]}


@pytest.mark.parametrize("column", ["drug", "text"])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_one_hot_of_categories_and_any_storage_of_x(make_h5ad, obs, var, X, column, kind):
    found = read_responses(make_h5ad(obs, var, kind(X)), anndata={"perturbation": column})
    pd.testing.assert_frame_equal(
        found.treatments[["TNF", "EGF"]],
        pd.DataFrame(ONE_HOT, NAMES, dtype=np.float32),
        check_names=False,
        check_column_type=False,
        check_index_type=False,
    )
    np.testing.assert_array_equal(found.readouts.to_numpy(), X)
    assert list(found.readouts.columns) == ["P1", "P2", "P3"]
    assert list(found.readouts.index) == NAMES
    assert set(found.warnings) == {f"'{column}': 'control', 'DMSO' taken for controls, without a treatment (control=)"}
    assert found.sha256["data"]


def test_doses_numbers_and_booleans(make_h5ad, obs, var, X):
    path = make_h5ad(obs, var, X)
    found = read_responses(path, anndata={"perturbation": ["drug", "il1", "cold"], "dose": "dose"})
    assert list(found.treatments.columns) == ["TNF", "EGF", "il1", "cold"]
    assert found.treatments["TNF"].tolist() == [0, 0, 0.5, 0, 1, 0]
    assert found.treatments["EGF"].tolist() == [1, 0, 0, 2, 0, 0]  # a control needs no dose
    assert found.treatments["il1"].tolist() == [0, 1, 0, 2, 0, 0]
    assert found.treatments["cold"].tolist() == [1, 0, 0, 0, 0, 1]


def test_combinations_controls_and_knock_downs(make_h5ad, var, X):
    obs = pd.DataFrame({"guide": ["A+ctrl", "A+B", "B+A", "NT", "B", "A+A"]}, index=NAMES)
    with AnnDataResponses(
        make_h5ad(obs, var, X), perturbation="guide", separator="+", control=["ctrl", "NT"], effect="inhibitor"
    ) as found:
        assert found.treatments == ["Ai", "Bi"]
        assert found.kinds == {"Ai": "inhibitor", "Bi": "inhibitor"}
        assert found[:][0].tolist() == [[1, 0], [1, 1], [1, 1], [0, 0], [0, 1], [1, 0]]
        network = Network.from_edges([("A", "P1"), ("B", "P2"), ("A", "P3")])
        data = build_data(network, found.read())
    assert data.graph.edge_sign_dict["input", "to", "function"].tolist() == [-1, -1]


@pytest.mark.parametrize("stored", ["matrix", "sparse", "table"])
def test_treatments_in_obsm(make_h5ad, obs, var, X, stored):
    values = np.array([[1, 0], [0, 0], [0, 1], [1, 1], [0, 2], [0, 0]], dtype=float)
    element = {
        "matrix": values,
        "sparse": sp.csr_matrix(values),
        "table": pd.DataFrame(values, NAMES, columns=["TNF", "EGF"]),
    }[stored]
    names = {} if stored == "table" else {"treatment_names": ["TNF", "EGF"]}
    found = read_responses(make_h5ad(obs, var, X, obsm={"pert": element}), anndata={"obsm": "pert", **names})
    assert list(found.treatments.columns) == ["TNF", "EGF"]
    np.testing.assert_array_equal(found.treatments.to_numpy(), values)


def test_layers_names_and_a_choice_of_readouts(make_h5ad, obs, var, X):
    path = make_h5ad(obs, var, layers={"counts": sp.csr_matrix(2 * X)})
    with AnnDataResponses(
        path, perturbation="drug", layer="counts", var_names="symbol", readouts=["AKT", "ERK", "absent"]
    ) as found:
        assert found.readouts == ["ERK", "AKT"]  # in the order of the file
        assert "1 name in readouts that no variable has" in found.warnings
        np.testing.assert_array_equal(found[:][1], 2 * X[:, [0, 2]])


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_rows_in_any_order_and_chunks_are_the_whole(make_h5ad, obs, var, X, kind):
    with AnnDataResponses(make_h5ad(obs, var, kind(X)), perturbation="drug", dose="dose", chunk_size=4) as found:
        whole = found.read()
        assert [len(chunk.readouts) for chunk in found.chunks()] == [4, 2]
        for side in ("treatments", "readouts"):
            for size in (1, 4, 100):
                parts = pd.concat([getattr(chunk, side) for chunk in found.chunks(size)])
                pd.testing.assert_frame_equal(parts, getattr(whole, side), check_index_type=False)
        for rows in ([5, 0, 0, 3], np.array([-1, 2]), slice(1, 6, 2), [], slice(0, 0)):
            at = np.arange(6)[rows] if isinstance(rows, slice) else np.asarray(rows, dtype=int)
            x, y = found[rows]
            np.testing.assert_array_equal(x, whole.treatments.to_numpy()[at])
            np.testing.assert_array_equal(y, whole.readouts.to_numpy()[at])
        assert found[-1][1].tolist() == X[5].tolist()
        with pytest.raises(IndexError, match="row 6 of 6"):
            found[6]
        with pytest.raises(IndexError, match="of 6 samples"):
            found[[0, 6]]
        with pytest.raises(TypeError, match="flatnonzero"):
            found[np.ones(6, bool)]
        assert len(list(found)) == len(found) == 6
    with pytest.raises(DataError, match="was closed"):
        found[0]


def test_it_is_a_data_set_of_pytorch(make_h5ad, obs, var, X):
    from torch.utils.data import DataLoader

    with AnnDataResponses(make_h5ad(obs, var, X), perturbation="drug") as found:
        for workers in (0, 1):
            batches = list(DataLoader(found, batch_size=4, num_workers=workers))  # type: ignore[arg-type]
            assert [tuple(y.shape) for _, y in batches] == [(4, 3), (2, 3)]
            np.testing.assert_array_equal(np.concatenate([y.numpy() for _, y in batches]), X)
        copy = pickle.loads(pickle.dumps(found))
        np.testing.assert_array_equal(copy[:][1], X)
        copy.close()


def test_a_matrix_by_columns_does_not_stream(make_h5ad, obs, var, X):
    with AnnDataResponses(make_h5ad(obs, var, sp.csc_matrix(X)), perturbation="drug", chunk_size=2) as found:
        with pytest.raises(DataError, match=r"X is stored by columns \(CSC\).*tocsr\(\)"):
            next(found.chunks())
        assert len(next(found.chunks(6)).readouts) == 6


def test_names_of_samples_that_are_not_unique(make_h5ad, obs, var, X):
    found = read_responses(make_h5ad(obs.set_axis(["c"] * 6), var, X), anndata={"perturbation": "drug"})
    assert list(found.readouts.index) == [1, 2, 3, 4, 5, 6]
    assert "names in 'obs' are not unique; samples are numbered instead" in found.warnings


HOSTILE = ["=1+2", 'a"b', "a'b", "β-catenin", "日本", "-x", "a,b", "NA", "007", "a b", "<b>&"]


def test_hostile_names(make_h5ad, X):
    obs = pd.DataFrame({"drug": pd.Categorical(HOSTILE)}, index=HOSTILE)
    var = pd.DataFrame(index=HOSTILE)
    values = np.arange(len(HOSTILE) ** 2, dtype=np.float32).reshape(len(HOSTILE), -1)
    found = read_responses(make_h5ad(obs, var, values), anndata={"perturbation": "drug"})
    assert sorted(found.treatments.columns) == sorted(HOSTILE)
    assert list(found.readouts.columns) == list(found.readouts.index) == HOSTILE


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say what was done to the samples, by perturbation= (columns of 'obs': 'drug', 'text', 'dose', 'il1', "
             "'cold') or by obsm= ('pert')"),
        ({"perturbation": "drug", "obsm": "pert"}, "not both"),
        ({"perturbation": "drgu"}, "'obs' has no column 'drgu' (did you mean 'drug'?); it has 'drug', 'text'"),
        ({"obsm": "prt"}, "'obsm' has no 'prt' (did you mean 'pert'?); it has 'pert'"),
        ({"obsm": "pert"}, "the 2 columns of obsm['pert'] have no names; pass treatment_names=[...]"),
        ({"obsm": "pert", "treatment_names": ["a"]}, "treatment_names has 1 names for the 2 columns of obsm['pert']"),
        ({"obsm": "pert", "treatment_names": ["a", "a"]}, "duplicated treatment columns 'a'"),
        ({"obsm": "pert", "treatment_names": ["a", "b"]}, "obsm['pert']: a treatment is missing in row 2 (from 1)"),
        ({"obsm": "pert", "dose": "dose"}, "belong to perturbation="),
        ({"perturbation": "drug", "treatment_names": ["a"]}, "treatment_names names the columns of obsm="),
        ({"perturbation": "drug", "layer": "cnt"}, "has no layer 'cnt'; it has 'logs'"),
        ({"perturbation": "drug", "var_names": "symbl"}, "'var' has no column 'symbl' (did you mean 'symbol'?)"),
        ({"perturbation": "drug", "readouts": ["zz"]}, "none of the 1 name in readouts ('zz') is a variable"),
        ({"perturbation": "drug", "readouts": "P1"}, "readouts must be a list of names, got the string 'P1'"),
        ({"perturbation": "drug", "control": "contrl"}, "has no control 'contrl' (did you mean 'control'?)"),
        ({"perturbation": "drug", "dose": "text"},
         "dose column 'text' of 'obs' holds text; a dose is a number, or with separator= several"),
        ({"perturbation": "drug", "dose": "dose", "control": ["DMSO"]},
         "dose column 'dose' of 'obs' has no number in the treated row 2 (from 1)"),
        ({"perturbation": "il1", "dose": "dose"}, "dose='dose' multiplies a column of categories, and none was given"),
        ({"perturbation": "dose"}, "treatment 'dose' is missing or infinite in row 2 (from 1); write 0"),
        ({"perturbation": ["drug", "text"]}, "duplicated treatment columns"),
        ({"perturbation": "drug", "effect": "knockout"}, "effect must be 'stimulus', 'inhibitor' or None"),
        ({"perturbation": "drug", "layr": "x"}, "anndata has no option 'layr' (did you mean 'layer'?)"),
        ({"perturbation": "drug", "separator": ""}, "separator must be at least one character"),
        ({"perturbation": "drug", "layer": "logs"}, "layers['logs'] is infinite in row 3, column 2 (from 1)"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(make_h5ad, obs, var, X, options, message):
    pert = np.array([[1, 0], [np.nan, 0], [0, 1], [1, 1], [0, 2], [0, 0]])
    logs = np.where(X == 3, np.inf, X)
    path = make_h5ad(obs, var, X, obsm={"pert": pert}, layers={"logs": logs})
    with pytest.raises(DataError) as caught:
        read_responses(path, anndata=options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_category_is_no_control(make_h5ad, obs, var, X):
    obs["drug"] = pd.Categorical(["EGF", None, "TNF", None, "EGF", "TNF"])
    with pytest.raises(DataError, match=r"column 'drug' of 'obs' is empty in row 2 \(from 1\) and 2 rows in all"):
        read_responses(make_h5ad(obs, var, X), anndata={"perturbation": "drug"})


def test_duplicated_and_empty_readouts(make_h5ad, obs, X):
    twice = make_h5ad(obs, pd.DataFrame(index=["P", "P", "Q"]), X)
    assert list(read_responses(twice, anndata={"perturbation": "drug"}).readouts) == ["P", "P", "Q"]
    with pytest.raises(DataError, match="duplicated readout columns 'P'"):
        read_responses(twice, anndata={"perturbation": "drug", "readouts": ["P", "Q"]})
    with pytest.raises(DataError, match="variable 2: a species name is empty"):
        read_responses(make_h5ad(obs, pd.DataFrame(index=["P", "", "Q"]), X), anndata={"perturbation": "drug"})


def test_parts_that_do_not_fit(make_h5ad, obs, var, X):
    with pytest.raises(DataError, match="X has 5 rows for the 6 of 'obs'"):
        read_responses(make_h5ad(obs, var, X[:5]), anndata={"perturbation": "drug"})
    with pytest.raises(DataError, match="X has 2 columns for the 3 of 'var'"):
        read_responses(make_h5ad(obs, var, X[:, :2]), anndata={"perturbation": "drug"})
    with pytest.raises(DataError, match="has no X; it has no layers either"):
        read_responses(make_h5ad(obs, var), anndata={"perturbation": "drug"})
    broken = sp.csr_matrix(X)
    broken.indices[0] = 9
    with pytest.raises(DataError, match="indices outside its shape"):
        read_responses(make_h5ad(obs, var, broken), anndata={"perturbation": "drug"})
    text = make_h5ad(obs, var, name="text.h5ad")
    with h5py.File(text, "r+") as file:
        file.create_dataset("X", data=[["a", "b", "c"]] * 6, dtype=h5py.string_dtype())
    with pytest.raises(DataError, match="must be a matrix of numbers"):
        read_responses(text, anndata={"perturbation": "drug"})


def test_files_that_are_no_anndata(make_h5ad, obs, var, X, tmp_path):
    path = make_h5ad(obs, var, X)
    whole = path.read_bytes()
    (tmp_path / "short.h5ad").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"short\.h5ad' cannot be opened as HDF5 \(.*truncated.*copy it again"):
        read_responses(tmp_path / "short.h5ad", anndata={"perturbation": "drug"})
    (tmp_path / "text.h5ad").write_text("TR:a,DV:b\n1,1\n")
    with pytest.raises(DataError, match="is not HDF5"):
        read_responses(tmp_path / "text.h5ad", anndata={"perturbation": "drug"})
    (tmp_path / "t.csv").write_text("TR:a,DV:b\n1,1\n")
    with pytest.raises(DataError, match="anndata= is for AnnData"):
        read_responses(tmp_path / "t.csv", anndata={"perturbation": "drug"})
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(DataError, match="HDF5 without 'obs', so it is no AnnData file"):
        read_responses(tmp_path / "other.h5")
    with pytest.raises(DataError, match=r"dat\.h5ad' does not exist; beside it: 'data\.h5ad'"):
        AnnDataResponses(tmp_path / "dat.h5ad", perturbation="drug")
    with pytest.raises(DataError, match="leave format, time"):
        read_responses(path, time=3, anndata={"perturbation": "drug"})
    with pytest.raises(DataError, match="chunk_size must be an integer of at least 1, got 0"):
        AnnDataResponses(path, perturbation="drug", chunk_size=0)


def test_without_h5py_the_extra_is_named(make_h5ad, obs, var, X, monkeypatch):
    path = make_h5ad(obs, var, X)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"gsnn\[anndata\]"):
        read_responses(path, anndata={"perturbation": "drug"})


# ---------------------------------------------------------------- memory

_MEASURE = """
    import json, sys
    from pathlib import Path
    import numpy as np
    from gsnn.io import AnnDataResponses

    def peak():  # not ru_maxrss, which a process inherits from the one that started it
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    with AnnDataResponses(sys.argv[1], perturbation="drug", chunk_size=500) as found:
        first = next(found.chunks())
        before, total, n = peak(), 0.0, 0
        if sys.argv[2] == "chunks":
            for chunk in found.chunks():
                total += float(chunk.readouts.to_numpy().sum(dtype=np.float64))
                n += len(chunk.readouts)
        else:
            y = found.read().readouts
            total, n = float(y.to_numpy().sum(dtype=np.float64)), len(y)
    print(json.dumps({"grown": peak() - before, "n": n, "total": total}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("sparse", [False, True])
def test_chunks_keep_memory_bounded(make_h5ad, tmp_path, sparse):
    n, width, block = 60_000, 500, 5_000  # 120 MB as float32, of which a chunk of 500 rows is 1 MB
    obs = pd.DataFrame({"drug": pd.Categorical.from_codes(np.arange(n) % 3, ["A", "B", "control"])})
    path = make_h5ad(obs, pd.DataFrame(index=[f"g{i}" for i in range(width)]))
    total = 0.0
    rng = np.random.default_rng(0)
    with h5py.File(path, "r+") as file:
        if sparse:
            group = file.create_group("X")
            group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (n, width)})
            parts = [sp.random_array((block, width), density=0.25, format="csr", dtype=np.float32, rng=rng)
                     for _ in range(n // block)]  # fmt: skip
            total = sum(float(p.sum(dtype=np.float64)) for p in parts)
            group["data"] = np.concatenate([p.data for p in parts])
            group["indices"] = np.concatenate([p.indices for p in parts]).astype(np.int32)
            group["indptr"] = np.append(0, np.cumsum(np.concatenate([np.diff(p.indptr) for p in parts])))
        else:
            X = file.create_dataset("X", (n, width), np.float32)
            for start in range(0, n, block):
                X[start : start + block] = values = rng.random((block, width), dtype=np.float32)
                total += float(values.sum(dtype=np.float64))
    script = tmp_path / "measure.py"
    script.write_text(textwrap.dedent(_MEASURE))
    found = {}
    for way in ("chunks", "read"):
        done = subprocess.run([sys.executable, script, path, way], capture_output=True, text=True, check=True)
        found[way] = json.loads(done.stdout)
        assert found[way]["n"] == n
        assert found[way]["total"] == pytest.approx(total, rel=1e-6)
    # The chunks are 1/120 of the matrix; reading it whole shows that the measurement sees what is allocated.
    assert found["read"]["grown"] > 100
    assert found["chunks"]["grown"] < 20


# ---------------------------------------------------------------- the real package


def test_files_of_the_real_package(tmp_path, obs, var, X):
    anndata = pytest.importorskip("anndata", reason="AnnData is not installed; its format is tested without it")
    for i, matrix in enumerate((X, sp.csr_matrix(X), sp.csc_matrix(X))):
        data = anndata.AnnData(matrix, obs=obs, var=var, layers={"raw": 2 * matrix})
        data.obsm["pert"] = pd.DataFrame({"u": range(6), "v": range(6)}, index=NAMES)
        data.write_h5ad(tmp_path / f"{i}.h5ad")
        found = read_responses(tmp_path / f"{i}.h5ad", anndata={"perturbation": ["drug", "il1"], "layer": "raw"})
        assert found.treatments["EGF"].tolist() == ONE_HOT["EGF"]
        np.testing.assert_array_equal(found.readouts.to_numpy(), 2 * X)
        found = read_responses(tmp_path / f"{i}.h5ad", anndata={"obsm": "pert", "var_names": "symbol"})
        assert found.treatments["v"].tolist() == list(range(6))
        assert list(found.readouts.columns) == ["ERK", "JUN", "AKT"]


def test_each_component_of_a_combination_has_its_own_dose(make_h5ad, var, X):
    """Against a loop over the labels: the drugs of a combination in their order, a control without a dose."""
    labels = ["MEK", "MEK+BRAF", "BRAF + MEK", "DMSO", "BRAF+DMSO", "BRAF"]
    doses = ["1.5", "1.5+60", "120+ 3", "0", "60", "120"]
    obs = pd.DataFrame({"drug": labels, "uM": doses}, index=NAMES)
    found = read_responses(
        make_h5ad(obs, var, X), anndata={"perturbation": "drug", "separator": "+", "dose": "uM"}
    ).treatments
    for row, (label, text) in enumerate(zip(labels, doses, strict=True)):
        want = {}
        parts = [part.strip() for part in label.split("+") if part.strip() != "DMSO"]
        for part, dose in zip(parts, text.split("+"), strict=False):
            want[part] = float(dose)
        assert found.iloc[row].to_dict() == {name: want.get(name, 0.0) for name in found.columns}


@pytest.mark.parametrize(
    ("doses", "words"),
    [
        ([*"123456"], r"need 2 doses, joined by '\+', got '2'"),
        (["1", "1+x", *"3456"], "the dose of 'B' must be a number, got 'x'"),
    ],
)
def test_doses_of_components_that_are_none(make_h5ad, var, X, doses, words):
    obs = pd.DataFrame({"drug": ["A", "A+B", "B", "A", "B", "A"], "uM": pd.Categorical(doses)}, index=NAMES)
    with pytest.raises(DataError, match=words):
        read_responses(make_h5ad(obs, var, X), anndata={"perturbation": "drug", "separator": "+", "dose": "uM"})


def test_one_dose_for_a_whole_combination_is_told(make_h5ad, var, X):
    obs = pd.DataFrame({"drug": ["A", "A+B", "B", "A", "B", "A"], "uM": [1.0, 60, 3, 4, 5, 6]}, index=NAMES)
    path = make_h5ad(obs, var, X)
    found = read_responses(path, anndata={"perturbation": "drug", "separator": "+", "dose": "uM"})
    assert found.treatments.iloc[1].tolist() == [60.0, 60.0]
    assert any("every component gets the one dose of 'uM'" in warning for warning in found.warnings)
