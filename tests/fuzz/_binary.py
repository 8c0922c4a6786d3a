"""Mutations of Parquet and HDF5 files by what stands in them: columns of odd types, elements of odd shapes."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np

from . import _mutate as mutate


def parquet(data: bytes, rng: random.Random) -> bytes:
    """A Parquet file with columns of other types, names or lengths; or with other bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if rng.random() < 0.35:
        return mutate.raw(data, rng)
    table = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)
    for _ in range(rng.choice([1, 1, 2, 3])):
        what, names = rng.randrange(6), list(table.column_names)
        j = rng.randrange(len(names)) if names else 0
        if not names:
            break
        if what == 0:
            table = table.remove_column(j)
        elif what == 1:
            names[j] = rng.choice([*mutate.TOKENS, names[-1]])
            table = table.rename_columns([name.replace("\ufffe", "") for name in names])
        elif what == 2:
            table = table.slice(rng.randrange(table.num_rows + 1), rng.choice([0, 1, table.num_rows]))
        elif what == 3:
            pandas = rng.choice(
                [b"{}", b"[]", b"null", b"{", b'{"index_columns": 3}', b'{"index_columns": [3, ["a"]]}']
            )
            table = table.replace_schema_metadata({b"pandas": pandas})
        else:
            table = table.set_column(j, names[j], _column(pa, table.num_rows, rng))
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink, compression=rng.choice(["snappy", "none", "gzip"]))
    except (pa.ArrowException, OSError):  # a type that Parquet has no place for
        return data
    return mutate.raw(sink.getvalue(), rng) if rng.random() < 0.05 else sink.getvalue()


def _column(pa: Any, n: int, rng: random.Random) -> Any:
    kinds: list[Any] = [
        pa.array([rng.choice(mutate.TOKENS) for _ in range(n)]),
        pa.array([rng.choice(mutate.TOKENS) for _ in range(n)]).dictionary_encode(),
        pa.array([rng.choice([0, 1, -1, None, 2**62]) for _ in range(n)], pa.int64()),
        pa.array([rng.choice([0, 2**64 - 1]) for _ in range(n)], pa.uint64()),
        pa.array([rng.choice([0.5, float("nan"), float("inf"), None, 1e300]) for _ in range(n)], pa.float64()),
        pa.array([rng.choice([True, False, None]) for _ in range(n)]),
        pa.array([[1]] * n, pa.list_(pa.int8())),
        pa.array([{"a": 1}] * n, pa.struct([("a", pa.int8())])),
        pa.array([b"\xff\x00"] * n, pa.binary()),
        pa.array([2**61] * n, pa.timestamp("us")),
        pa.array([-(2**61)] * n, pa.timestamp("ns")),
        pa.array([1] * n, pa.date32()),
        pa.array([None] * n, pa.null()),
        pa.array([1] * n, pa.int64()).cast(pa.decimal128(30, 5)),
        pa.array([1] * n, pa.duration("s")),
        pa.array([1.0] * n, pa.float16()),
        pa.array(["a"] * n, pa.large_string()),
        pa.array(["a"] * n, pa.string_view()),
        pa.array([1] * n, pa.time64("us")),
    ]
    return rng.choice(kinds)


def hdf5(data: bytes, rng: random.Random) -> bytes:
    """An HDF5 file with elements of other types or shapes, other attributes and links; or with other bytes."""
    import h5py

    if rng.random() < 0.3:
        return mutate.raw(data, rng)
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        for _ in range(rng.choice([1, 1, 2, 3])):
            names: list[str] = []
            file.visit(names.append)
            if not names:
                break
            name = rng.choice(names)
            element = file.get(name)
            if element is None:
                continue
            what = rng.randrange(6)
            if what == 0:
                del file[name]
            elif what in (1, 2):
                _attribute(h5py, element, rng)
            elif what == 3:
                del file[name]
                links = [
                    h5py.SoftLink("/" + rng.choice(names)),
                    h5py.ExternalLink("/dev/zero", "/"),
                    h5py.SoftLink("/"),
                ]
                file[name] = rng.choice(links)
            else:
                _element(h5py, file, name, element, rng)
    return mutate.raw(buffer.getvalue(), rng) if rng.random() < 0.05 else buffer.getvalue()


def _attribute(h5py: Any, element: Any, rng: random.Random) -> None:
    own = list(element.attrs)
    name = rng.choice([*own, *own, "_index", "column-order", "encoding-type", "shape", "categories"])
    values: list[Any] = [
        "", "x", "categorical", "csr_matrix", "csc_matrix", "dataframe", 0, -1, 2**62, 1.5, np.nan, [], [1], [-1, 2],
        [2**40, 2**40], ["a"], ["a", "a"], ["_index"], b"\xff\xfe", h5py.Empty("f8"), [[1, 2]], ["/"], ["../X"],
    ]  # fmt: skip
    value = rng.choice(values)
    element.attrs.pop(name, None)
    try:
        element.attrs[name] = value
    except (TypeError, ValueError, OSError):  # not every list has a type in HDF5
        element.attrs[name] = 0


def _element(h5py: Any, file: Any, name: str, element: Any, rng: random.Random) -> None:
    shape = element.shape if isinstance(element, h5py.Dataset) and element.shape else (rng.randrange(6),)
    shape = shape if np.prod(shape) < 10**6 else (4,)
    n = int(np.prod(shape))
    strings = h5py.string_dtype()
    made: list[Any] = [
        lambda: np.zeros(shape, rng.choice(["i1", "i8", "u8", "f2", "f4", "f8", "?", "c16", "S3"])),
        lambda: np.full(shape, rng.choice([np.nan, np.inf, -np.inf, 1e300, -1.0])),
        lambda: np.full(shape, rng.choice([-1, 2**62, -(2**62), 100]), np.int64),
        lambda: np.array([rng.choice(mutate.TOKENS).replace("\0", "") for _ in range(n)], object).reshape(shape),
        lambda: np.zeros((*shape[:-1], shape[-1] + rng.choice([-1, 1])) if shape[-1] else (1,)),
        lambda: np.zeros(()),
        lambda: np.zeros((2, 2, 2)),
        lambda: h5py.Empty("f8"),
        lambda: np.zeros(shape, [("a", "i4"), ("b", "f8")]),
        lambda: "text",
    ]
    value = rng.choice(made)()
    del file[name]
    if rng.random() < 0.1:
        file.create_group(name)
    elif rng.random() < 0.05:
        file.create_dataset(name, shape=(2 ** rng.choice([20, 33, 50]),), dtype="f8", chunks=(1024,))
    elif isinstance(value, np.ndarray) and value.dtype.kind == "O":
        file.create_dataset(name, data=value, dtype=strings)
    else:
        file[name] = value
