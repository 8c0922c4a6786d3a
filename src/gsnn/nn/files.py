"""Save and load models as safetensors files; :func:`unwrap` takes them out of their wrappers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from gsnn.nn.model import GSNN
from gsnn.nn.saved import read, read_metadata, write

__all__ = ["load_model", "read_metadata", "save_model", "unwrap"]


def save_model(model: nn.Module, path: str | Path, extra: Mapping[str, str] | None = None) -> None:
    """Write a model to one safetensors file; the file is whole or, after an error, as it was before.

    Args:
        model: The GSNN, also compiled or wrapped for distributed training.
        path: Where to write.
        extra: More entries for the file's metadata, read again with ``read_metadata``.

    Raises:
        TypeError: If it is not a GSNN.
        ValueError: If an entry of ``extra`` is not a string or has the reserved name 'gsnn'.

    Example:
        >>> import tempfile, pathlib, torch
        >>> from gsnn.nn import GSNN
        >>> names = {"input": ["x"], "function": ["f"], "output": ["y"]}
        >>> edges = {("input", "to", "function"): [[0], [0]], ("function", "to", "output"): [[0], [0]]}
        >>> model = GSNN(edges, names, channels=2, layers=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(model, pathlib.Path(folder) / "model.safetensors")
        ...     again = load_model(pathlib.Path(folder) / "model.safetensors")
        >>> torch.equal(again(torch.ones(1, 1)), model(torch.ones(1, 1)))
        True
    """
    write(unwrap(model), path, extra)


def load_model(path: str | Path, *, nonlin: Callable[[], nn.Module] | None = None) -> GSNN:
    """Read a model that ``save_model`` wrote, on the CPU, in the dtype and mode it was saved in.

    Args:
        path: The file.
        nonlin: The nonlinearity, needed where the saved one is not a class of ``torch.nn``.

    Raises:
        DataError: If the file is missing, damaged, or not such a file.
    """
    model: GSNN = read(GSNN, path, nonlin)
    return model


def unwrap(model: nn.Module) -> GSNN:
    """The GSNN inside a compiled or data-parallel wrapper.

    Raises:
        TypeError: If there is none.
    """
    inner: Any = model
    while not isinstance(inner, GSNN):
        following = getattr(inner, "_orig_mod", None) or getattr(inner, "module", None)
        if not isinstance(following, nn.Module):
            raise TypeError(f"model must be a GSNN, got {type(model).__name__}")
        inner = following
    return inner
