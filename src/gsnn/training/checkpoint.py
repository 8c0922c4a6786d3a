"""Checkpoints without pickle: tensors as safetensors, everything else as JSON in the same file."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from gsnn.base.errors import RunError
from gsnn.base.files import read_tensors, write_tensors

# Objects that JSON lacks are written as {TAG: kind, ...}.
TAG = "__gsnn__"
FORMAT = "gsnn-checkpoint-1"

_DTYPES = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16}
    | {torch.int8, torch.uint8, torch.bool}
)


class SafetensorsCheckpointIO(CheckpointIO):
    """A Lightning checkpoint plugin that never pickles: ``Trainer(plugins=[SafetensorsCheckpointIO()])``.

    One file holds the tensors (safetensors) and, in its header, the rest of the checkpoint as JSON, so that it is
    replaced in one step and a killed program leaves either the old or the new checkpoint. What is read back has
    the same structure, types and bits: tuples, dictionaries with integer keys, None, infinities and NaN included.
    Loading a file runs no code from it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write ``checkpoint`` to ``path`` in one step.

        Args:
            checkpoint: Nested plain data with tensors.
            path: The file to replace.
            storage_options: Not supported; must be None.

        Raises:
            TypeError: If ``storage_options`` is given, or an entry is neither a tensor nor plain data; its place is
                named.
            OSError: If the disk is full, for instance; the old checkpoint stays.
        """
        if storage_options is not None:
            raise TypeError(f"storage_options must be None for {type(self).__name__}, got {storage_options!r}")
        tensors: dict[str, torch.Tensor] = {}
        text = json.dumps(_Encoder(tensors).encode(checkpoint, "checkpoint"), allow_nan=False)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, {"format": FORMAT, "structure": text})

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,  # noqa: ANN401 - Lightning's signature
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read what :meth:`save_checkpoint` wrote.

        Args:
            path: The file.
            map_location: A device for the tensors; None and functions leave them on the CPU.
            weights_only: Ignored: the file holds nothing but tensors and plain data.

        Raises:
            RunError: If the file is missing, damaged, or not such a checkpoint.
        """
        path = Path(path)
        if not path.is_file():
            raise RunError(f"there is no checkpoint {path}")
        device = map_location if isinstance(map_location, str | torch.device) else "cpu"
        try:
            tensors, metadata = read_tensors(path)
        except ValueError as error:
            raise RunError(f"{path} is not a readable checkpoint ({error}); delete it to begin again") from error
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        if metadata.get("format") != FORMAT:
            raise RunError(f"{path} is a safetensors file, but not a training checkpoint")
        try:
            decoded: dict[str, Any] = _decode(json.loads(metadata["structure"]), tensors)
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise RunError(f"{path} is a damaged checkpoint ({error}); delete it to begin again") from error
        return decoded

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file if it is there."""
        Path(path).unlink(missing_ok=True)


class _Encoder:
    """Turns nested data into JSON values and collects the tensors in ``tensors``, shared ones once."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors
        self.names: dict[tuple[object, ...], str] = {}
        self.kept: list[torch.Tensor] = []  # addresses identify tensors only while all of them are alive

    def encode(self, value: object, where: str) -> Any:  # noqa: ANN401 - any JSON value
        # Exact types only: a subclass (an enum, a named tuple, a numpy scalar) would come back as its base.
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if isinstance(value, float) and kind is float:
            return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}
        if isinstance(value, torch.Tensor):
            return {TAG: "tensor", "name": self.tensor(value, where)}
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                raise TypeError(f"{where} is an array of Python objects and cannot be saved without pickle")
            return {TAG: "array", "name": self.tensor(torch.from_numpy(value.copy()), where)}
        if isinstance(value, list | tuple) and kind in (list, tuple):
            items = [self.encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
            return items if kind is list else {TAG: "tuple", "items": items}
        if isinstance(value, dict) and kind in (dict, OrderedDict):
            if kind is dict and TAG not in value and all(type(key) is str for key in value):
                return {key: self.encode(item, f"{where}[{key!r}]") for key, item in value.items()}
            pairs = [
                [self.encode(key, f"a key of {where}"), self.encode(item, f"{where}[{key!r}]")]
                for key, item in value.items()
            ]
            return {TAG: "dict" if kind is dict else "ordered", "items": pairs}
        raise TypeError(
            f"{where} is a {kind.__module__}.{kind.__qualname__} and cannot be saved without pickle; "
            "keep tensors, numbers, text, lists, tuples and dictionaries in the state"
        )

    def tensor(self, value: torch.Tensor, where: str) -> str:
        value = value.detach()
        if value.layout != torch.strided or value.dtype not in _DTYPES:
            raise TypeError(f"{where} is a tensor of {value.dtype}, {value.layout}; only dense real tensors are saved")
        self.kept.append(value)
        # Shared layers have several names in a state dictionary and are written once.
        key = (value.data_ptr(), value.device, value.dtype, tuple(value.shape), value.stride())
        if key not in self.names or value.numel() == 0:
            self.names[key] = f"t{len(self.tensors)}"
            self.tensors[self.names[key]] = value.cpu().contiguous().clone()
        return self.names[key]


def _decode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:  # noqa: ANN401 - any plain value
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(TAG)
    if kind is None:
        return {key: _decode(item, tensors) for key, item in value.items()}
    if kind == "float":
        return float(value["value"])
    if kind == "tensor":
        return tensors[value["name"]].clone()
    if kind == "array":
        return tensors[value["name"]].numpy().copy()
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in value["items"])
    if kind in ("dict", "ordered"):
        pairs = ((_decode(key, tensors), _decode(item, tensors)) for key, item in value["items"])
        return OrderedDict(pairs) if kind == "ordered" else dict(pairs)
    raise RunError(f"the checkpoint holds an entry of the unknown kind {kind!r}; it was written by a newer version")
