"""AnnData files made with h5py, in the layout that AnnData documents (0.8 and later)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


def _describe(element, kind, version):
    element.attrs.update({"encoding-type": kind, "encoding-version": version})


def _column(group, name, values, h5py):
    values = values if isinstance(values, pd.Series | pd.Categorical) else pd.Series(values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        categorical = pd.Categorical(values)
        element = group.create_group(name)
        _describe(element, "categorical", "0.2.0")
        element.attrs["ordered"] = False
        element["codes"] = categorical.codes
        _column(element, "categories", pd.Series(list(categorical.categories)), h5py)
    elif str(values.dtype) in {"Int64", "boolean"}:
        element = group.create_group(name)
        _describe(element, "nullable-integer" if str(values.dtype) == "Int64" else "nullable-boolean", "0.1.0")
        element["values"] = values.fillna(0).to_numpy(np.int64 if str(values.dtype) == "Int64" else bool)
        element["mask"] = values.isna().to_numpy()
    elif values.dtype.kind in "biuf":
        _describe(group.create_dataset(name, data=values.to_numpy()), "array", "0.2.0")
    else:
        data = [str(v) for v in values]
        _describe(group.create_dataset(name, data=data, dtype=h5py.string_dtype()), "string-array", "0.2.0")


def _frame(parent, name, frame, h5py):
    group = parent.create_group(name)
    _describe(group, "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    group.attrs.create("column-order", list(frame.columns), dtype=h5py.string_dtype())
    _column(group, "_index", pd.Series([str(i) for i in frame.index], dtype=object), h5py)
    for column in frame.columns:
        _column(group, column, frame[column], h5py)


def _matrix(parent, name, matrix, h5py):
    if hasattr(matrix, "indptr"):
        group = parent.create_group(name)
        _describe(group, f"{matrix.format}_matrix", "0.1.0")
        group.attrs["shape"] = matrix.shape
        for part in ("data", "indices", "indptr"):
            group[part] = getattr(matrix, part)
    else:
        _describe(parent.create_dataset(name, data=matrix), "array", "0.2.0")


@pytest.fixture
def make_h5ad(tmp_path):
    h5py = pytest.importorskip("h5py")

    def make(obs, var, X=None, *, layers=(), obsm=(), name="data.h5ad"):
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            _describe(file, "anndata", "0.1.0")
            _frame(file, "obs", obs, h5py)
            _frame(file, "var", var, h5py)
            if X is not None:
                _matrix(file, "X", X, h5py)
            for group, elements in (("layers", layers), ("obsm", obsm), ("uns", ())):
                file.create_group(group)
                _describe(file[group], "dict", "0.1.0")
                for key, value in dict(elements).items():
                    if isinstance(value, pd.DataFrame):
                        _frame(file[group], key, value, h5py)
                    else:
                        _matrix(file[group], key, value, h5py)
        return path

    return make
