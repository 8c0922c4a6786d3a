"""Write and read a table in ``uns`` of an AnnData file, in AnnData's documented layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gsnn.base.errors import DataError, did_you_mean, require
from gsnn.base.files import atomic_path
from gsnn.io.h5ad import ANNDATA, check_element, columns, open_file, text
from gsnn.io.limits import as_data_error
from gsnn.io.text import listed

_TABLE = {"encoding-type": "dataframe", "encoding-version": "0.2.0"}
_GROUP = {"encoding-type": "dict", "encoding-version": "0.1.0"}


def write_uns(frame: pd.DataFrame, path: Path, original: Path, key: str) -> None:
    """Write a table into ``uns`` of a copy of an AnnData file.

    Args:
        frame: Columns of text, numbers, booleans, and pandas' nullable integers and booleans.
        path: The file to write; may be ``original``.
        original: The file to copy. During the copy the disk holds both.
        key: The key in ``uns``.

    Raises:
        DataError: If ``original`` is not AnnData, or something other than a table has the key.
    """
    if not key or "/" in key or "\0" in key:
        raise DataError(f"key must be a name without '/', got {key!r}")
    h5py = require("h5py", extra="anndata")
    if not original.exists() and original == path:
        raise DataError(f"'{path}' does not exist; pass h5ad=, the AnnData file of which it becomes a copy")
    open_file(original, "AnnData").close()
    with atomic_path(path) as temporary:
        shutil.copyfile(original, temporary)
        with h5py.File(temporary, "r+") as file:
            if "uns" not in file:
                file.create_group("uns").attrs.update(_GROUP)
            uns = file["uns"]
            if key in uns:
                if uns[key].attrs.get("encoding-type") != "dataframe":
                    raise DataError(f"'{original}': uns['{key}'] is there already and is no table; pass another key=")
                del uns[key]
            _write_table(h5py, uns.create_group(key), frame)


def read_uns(path: Path, key: str) -> pd.DataFrame:
    """Read a table from ``uns``; DataError if there is none with this key."""
    with open_file(path, "AnnData") as file, as_data_error(path, ANNDATA):
        keys = list(file["uns"].keys()) if "uns" in file else []
        if key not in keys or file["uns"][key].attrs.get("encoding-type") != "dataframe":
            hint = did_you_mean(key, keys)
            raise DataError(f"'{path}' has no table uns['{key}']{hint}; 'uns' has {listed(keys, 12) or 'nothing'}")
        group = file["uns"][key]
        check_element(group, path)
        return pd.DataFrame({name: _column(group[name]) for name in columns(group)})


def _write_table(h5py: Any, group: Any, frame: pd.DataFrame) -> None:  # noqa: ANN401 - h5py objects
    strings = h5py.string_dtype()
    group.attrs.update(_TABLE)
    group.attrs["_index"] = "_index"
    group.attrs.create("column-order", list(frame.columns), dtype=strings)
    _put(group, "_index", [str(i) for i in range(len(frame))], "string-array", dtype=strings)
    for name in frame.columns:
        column = frame[name]
        if "/" in name or name == "_index":
            raise DataError(f"column {name!r} cannot stand in an AnnData file; rename it")
        if column.dtype == object:
            _put(group, name, ["" if value is None else value for value in column], "string-array", dtype=strings)
        elif isinstance(column.dtype, np.dtype):
            _put(group, name, column.to_numpy())
        else:
            kind, dtype = ("boolean", np.bool_) if str(column.dtype) == "boolean" else ("integer", np.int64)
            element = group.create_group(name)
            element.attrs.update({"encoding-type": f"nullable-{kind}", "encoding-version": "0.1.0"})
            _put(element, "values", column.to_numpy(dtype=dtype, na_value=0))
            _put(element, "mask", column.isna().to_numpy())


def _put(group: Any, name: str, values: Any, kind: str = "array", **options: Any) -> None:  # noqa: ANN401
    element = group.create_dataset(name, data=values, **options)
    element.attrs.update({"encoding-type": kind, "encoding-version": "0.2.0"})


def _column(element: Any) -> pd.Series:  # noqa: ANN401
    if hasattr(element, "keys") and "mask" in element and element["values"].dtype.kind not in "OS":
        values, mask = element["values"][:], element["mask"][:].astype(bool)
        if values.dtype.kind not in "biu":
            raise DataError(f"{element.name} is masked and holds {values.dtype}, where integers are kept")
        return pd.Series(pd.array(values, dtype="boolean" if values.dtype == bool else "Int64")).mask(mask)
    if hasattr(element, "keys") or element.dtype.kind in "OS":
        return pd.Series([value or None for value in text(element)], dtype=object)
    return pd.Series(element[:])
