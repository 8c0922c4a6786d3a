from __future__ import annotations

import enum
import math
from collections import OrderedDict
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors import safe_open
from safetensors.torch import save_file

from gsnn.base.errors import RunError
from gsnn.nn import GSNN
from gsnn.training import Batches, GSNNModule
from gsnn.training.checkpoint import SafetensorsCheckpointIO


def same(a: object, b: object) -> bool:
    """Equal in type and in bits, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy(force=True).tobytes() == b.numpy().tobytes()
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return (
            list(a) == list(b)
            and all(same(k, m) for k, m in zip(a, b, strict=True))
            and all(same(a[key], b[key]) for key in a)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(i, j) for i, j in zip(a, b, strict=True))
    if isinstance(a, float):
        return a.hex() == b.hex()
    return a == b


def test_gives_back_structure_types_and_bits(tmp_path):
    rng = np.random.default_rng(0)
    state = {
        "weights": OrderedDict(a=torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), b=torch.tensor(1.5)),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "betas": (0.9, 0.999), "foreach": None},
        "floats": [0.1, 1e-320, -0.0, math.inf, -math.inf, math.nan, *rng.normal(size=50).tolist()],
        "integers": [0, -(2**80), True, False],
        "text": 'quote " \\ newline \n nul \x00 ünïcode \U0001f600',
        "keys": {(1, "a"): 1, None: 2, 3: 4, "3": 5, True: 6},
        "tag": {"__gsnn__": "tensor", "name": "t0"},
        "empty": [{}, [], (), torch.zeros(0, 4), torch.zeros(0)],
        "dtypes": [
            torch.ones(2, dtype=d)
            for d in (torch.bool, torch.int8, torch.uint8, torch.int64, torch.bfloat16)
            if d != torch.bfloat16
        ],
        "views": torch.arange(12.0).view(3, 4).T[1:],
        "array": rng.normal(size=(2, 2)),
    }
    path = tmp_path / "deep" / "c.safetensors"
    SafetensorsCheckpointIO().save_checkpoint(state, path)
    assert same(SafetensorsCheckpointIO().load_checkpoint(path), state)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_many_arrays_never_share_a_name(tmp_path):
    # Temporary tensors of freed arrays reuse addresses; each value must still come back as itself.
    state = {"rows": [np.full(3, float(i)) for i in range(200)]}
    SafetensorsCheckpointIO().save_checkpoint(state, tmp_path / "c")
    assert same(SafetensorsCheckpointIO().load_checkpoint(tmp_path / "c"), state)


def test_shared_tensors_are_written_once_and_come_back_apart(tmp_path):
    shared = torch.zeros(10_000)
    SafetensorsCheckpointIO().save_checkpoint({"a": shared, "b": shared}, tmp_path / "c")
    assert (tmp_path / "c").stat().st_size < 50_000
    loaded = SafetensorsCheckpointIO().load_checkpoint(tmp_path / "c")
    loaded["a"] += 1
    assert not loaded["b"].any()


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Colour.RED, r"checkpoint\['x'\]\[0\] is a .*Colour"),
        (object(), "builtins.object"),
        (Path("a"), "Path"),
        (np.float64(1.0), "numpy.float64"),
        ({1, 2}, "builtins.set"),
        (np.array([None]), "array of Python objects"),
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
        (torch.eye(2).to_sparse(), "sparse"),
    ],
)
def test_refuses_what_needs_pickle(tmp_path, value, place):
    with pytest.raises(TypeError, match=place):
        SafetensorsCheckpointIO().save_checkpoint({"x": [value]}, tmp_path / "c")
    assert not list(tmp_path.iterdir())


def test_refuses_other_files(tmp_path):
    io = SafetensorsCheckpointIO()
    with pytest.raises(RunError, match="there is no checkpoint"):
        io.load_checkpoint(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"\x80\x04pickle")
    with pytest.raises(RunError, match="not a readable checkpoint"):
        io.load_checkpoint(tmp_path / "bad")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(RunError, match="not a training checkpoint"):
        io.load_checkpoint(tmp_path / "other")
    with pytest.raises(TypeError, match="storage_options must be None"):
        io.save_checkpoint({}, tmp_path / "c", storage_options={})
    io.save_checkpoint({"a": (1, 2)}, tmp_path / "good")
    with safe_open(tmp_path / "good", framework="pt") as handle:
        metadata = handle.metadata()
    for damaged, message in (
        (metadata["structure"][:-2], "is a damaged checkpoint"),
        (metadata["structure"].replace("tuple", "set"), "unknown kind 'set'; it was written by a newer version"),
    ):
        save_file({"a": torch.zeros(1)}, tmp_path / "damaged", {**metadata, "structure": damaged})
        with pytest.raises(RunError, match=message):
            io.load_checkpoint(tmp_path / "damaged")
    io.remove_checkpoint(tmp_path / "bad")
    io.remove_checkpoint(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's, about itself
def test_works_in_a_trainer_of_ones_own(tmp_path, data):
    torch.manual_seed(0)
    module = GSNNModule(GSNN.from_graph(data.graph, 2, 2), lr=1e-2)
    batches = Batches(torch.tensor(data.x), torch.tensor(data.y), 8)
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{epoch}", monitor="val_loss", save_top_k=-1)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_epochs=2, callbacks=[keep], plugins=[SafetensorsCheckpointIO()], **options)
    trainer.fit(module, batches, batches)
    assert {"train_loss", "val_loss", "val_r2"} <= set(trainer.callback_metrics)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2

    again = GSNNModule(GSNN.from_graph(data.graph, 2, 2), lr=1e-2)
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{epoch}", monitor="val_loss", save_top_k=-1)
    trainer = L.Trainer(max_epochs=2, callbacks=[keep], plugins=[SafetensorsCheckpointIO()], **options)
    trainer.fit(again, batches, batches, ckpt_path=files[0])
    for name, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
