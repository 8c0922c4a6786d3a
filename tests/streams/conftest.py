"""The same samples in every kind of file that can be streamed, and in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gsnn.data import PerturbationData, StreamedData, build_data, stream_data
from gsnn.io import ArrayResponses, Network, Responses, StreamedResponses, stream_responses

EDGES = [("a", "c", 1), ("b", "c", -1), ("c", "d", 1), ("b", "e", 1), ("d", "f", 1), ("e", "f", 1), ("g", "e", 1)]
TREATMENTS, READOUTS = ["a", "b", "g"], ["d", "f"]
KINDS = ("parquet", "pair", "npy", "h5ad")


@dataclass
class World:
    """Samples, and the ways to them."""

    x: np.ndarray
    y: np.ndarray
    network: Network

    def memory(self) -> PerturbationData:
        frames = pd.DataFrame(self.x, columns=TREATMENTS), pd.DataFrame(self.y, columns=READOUTS)
        return build_data(self.network, Responses(*frames))

    def stream(self, stretch: int = 50, **options: int) -> StreamedData:
        arrays = ArrayResponses(self.x, self.y, treatments=TREATMENTS, readouts=READOUTS, stretch=stretch)
        return stream_data(self.network, arrays, **options)


def make_world(samples: int = 400, conditions: int = 60, missing: float = 0.1, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 3, size=(conditions, 3)) + rng.integers(0, 10, size=(conditions, 3)) / 8
    x = pool[rng.integers(0, conditions, size=samples)]
    y = np.c_[x[:, 0] - x[:, 1], x[:, 0] * x[:, 2]] + 0.1 * rng.normal(size=(samples, 2))
    y[rng.random(y.shape) < missing] = np.nan
    y[np.isnan(y).all(1), 0] = 0.5
    return World(x, y, Network.from_edges(EDGES))


def write_files(folder: Path, world: World, kind: str, group: int = 70) -> dict[str, Path]:
    """Files of one kind, by role."""
    columns = [f"TR:{n}" for n in TREATMENTS], [f"DV:{n}" for n in READOUTS]
    x, y = pd.DataFrame(world.x, columns=columns[0]), pd.DataFrame(world.y, columns=columns[1])
    if kind == "parquet":
        pd.concat([x, y], axis=1).to_parquet(folder / "r.parquet", row_group_size=group)
        return {"path": folder / "r.parquet"}
    if kind == "pair":
        for frame, name in ((x, "x"), (y, "y")):
            frame.index = pd.Index([f"s{i}" for i in range(len(frame))], name="sample")
            frame.to_parquet(folder / f"{name}.parquet", row_group_size=group)
        return {"inputs": folder / "x.parquet", "outputs": folder / "y.parquet"}
    if kind == "npy":
        np.save(folder / "x.npy", world.x)
        np.save(folder / "y.npy", world.y)
        return {"inputs": folder / "x.npy", "outputs": folder / "y.npy"}
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "r.h5ad", "w") as file:
        tables = {"obs": dict(zip(TREATMENTS, world.x.T, strict=True)), "var": {}}
        for name, values in tables.items():
            group_ = file.create_group(name)
            group_.attrs.update({"_index": "_index", "column-order": list(values)})
            group_["_index"] = [f"s{i}" for i in range(len(world.x))] if name == "obs" else READOUTS
            for key, column in values.items():
                group_[key] = column
        file.create_dataset("X", data=world.y, chunks=(64, 2))
    return {"path": folder / "r.h5ad"}


def options_of(kind: str) -> dict[str, object]:
    """What the reader of a kind must be told."""
    told = {"npy": {"names": {"treatments": TREATMENTS, "readouts": READOUTS}}, "h5ad": {"anndata": {}}}
    if kind == "h5ad":
        told["h5ad"]["anndata"] = {"perturbation": TREATMENTS}
    return told.get(kind, {})


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def new_world() -> Callable[..., World]:
    return make_world


@pytest.fixture(params=KINDS)
def opened(request, tmp_path, world) -> StreamedResponses:
    """The world as a stream of each kind."""
    if request.param in ("parquet", "pair"):
        pytest.importorskip("pyarrow")
    files = write_files(tmp_path, world, request.param)
    responses = stream_responses(**files, **options_of(request.param))
    yield responses
    responses.close()
