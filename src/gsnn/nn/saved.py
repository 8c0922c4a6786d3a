"""A GSNN as one safetensors file: tensors, and a JSON description from which the model is rebuilt."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from gsnn.base.errors import DataError
from gsnn.base.files import read_tensors, write_tensors
from gsnn.base.torch_state import own_random_state
from gsnn.nn.config import Described, edge_key, sparse_layers, typed_weights
from gsnn.nn.layout import EDGE_TYPES, EdgeType

_HEADER = "gsnn"
# The most that a file may ask for without holding weights: blocks with shared weights, and channels without edges.
_MOST_LAYERS = 10_000
_ALWAYS_ALLOWED = 2**24


class Saved(Described):
    """A model with :func:`gsnn.nn.save_model` and :func:`gsnn.nn.load_model` as methods."""

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file; see :func:`gsnn.nn.save_model`."""
        write(self, path)

    @classmethod
    def load(cls, path: str | Path, *, nonlin: Callable[[], nn.Module] | None = None) -> Self:
        """Read a model that :meth:`save` wrote, on the CPU; see :func:`gsnn.nn.load_model`."""
        model: Self = read(cls, path, nonlin)
        return model


def write(gsnn: Described, path: str | Path, extra: Mapping[str, str] | None = None) -> None:
    """:func:`gsnn.nn.save_model` for a model without a wrapper."""
    metadata = dict(extra or {})
    if _HEADER in metadata or not all(isinstance(part, str) for item in metadata.items() for part in item):
        raise ValueError(f"extra must map strings to strings, without the reserved name {_HEADER!r}; got {extra!r}")
    metadata[_HEADER] = json.dumps({"config": gsnn.config(), "training": gsnn.training})
    tensors = {f"state.{key}": value for key, value in _unique_state(gsnn).items()}
    tensors |= {f"edges.{edge_key(kind)}": index for kind, index in gsnn.edge_index_dict.items()}
    tensors |= {f"edge_weights.{edge_key(kind)}": weight for kind, weight in typed_weights(gsnn).items()}
    for name in ("lin_in", "lin_out"):
        # Pruning takes the same positions in every layer, so one mask per map is enough.
        kept = next(sparse_layers(gsnn, name)).kept
        if kept is not None:
            tensors[f"kept.{name}"] = kept
    ready = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}
    write_tensors(path, ready, metadata)


def read(model_class: Any, path: str | Path, nonlin: Callable[[], nn.Module] | None = None) -> Any:  # noqa: ANN401
    """:func:`gsnn.nn.load_model` for a given class of models."""
    tensors, metadata = _read(Path(path))
    try:
        header = json.loads(metadata[_HEADER])
        edges = {kind: tensors[f"edges.{edge_key(kind)}"] for kind in EDGE_TYPES}
        weights = {kind: w for kind in EDGE_TYPES if (w := tensors.get(f"edge_weights.{edge_key(kind)}")) is not None}
        state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
        _check_size(header["config"], edges, state)
        # The weights drawn here are replaced at once, so the caller's random generator is left as it is.
        with own_random_state():
            model = model_class.from_config(header["config"], edges, weights or None, nonlin=nonlin)
        with torch.inference_mode(False):
            model.to(state["blocks.0.lin_in.weight"].dtype)
            model.load_state_dict(_full_state(model, state))
            for name in ("lin_in", "lin_out"):
                if f"kept.{name}" in tensors:
                    for layer in dict.fromkeys(sparse_layers(model, name)):
                        layer.prune(tensors[f"kept.{name}"])
        return model.train(bool(header["training"]))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:400]
        raise DataError(f"{path} is not a model that this version of gsnn can read: {reason}") from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """The ``extra`` entries that were given to ``save_model``.

    Raises:
        DataError: If the file is missing, damaged, or not a model file.
    """
    _, metadata = _read(Path(path))
    return {key: value for key, value in metadata.items() if key != _HEADER}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        tensors, metadata = read_tensors(path)
    except FileNotFoundError as error:
        raise DataError(f"there is no model file {path}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a whole safetensors file: {error}") from error
    if _HEADER not in metadata:
        raise DataError(f"{path} is a safetensors file but not a gsnn model: its metadata has no {_HEADER!r} entry")
    return tensors, metadata


def _check_size(config: Mapping[str, Any], edges: Mapping[EdgeType, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuse, before it is built, a model that would be far larger than its file."""
    counts = np.broadcast_to(np.asarray(config["channels"], np.float64), len(config["node_names"]["function"]))
    copies = (float(config.get("edge_channels", 1)), 1.0)
    own = float(counts.sum())
    # Overflow gives infinity or NaN, which match no size.
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = [
            sum(
                n * counts[edges[kind][end].numpy()].sum()
                for n, kind in zip(copies, (EDGE_TYPES[0], other), strict=True)
            )
            + own * bool(config.get("add_function_self_edges", True))
            for end, other in ((1, EDGE_TYPES[1]), (0, EDGE_TYPES[2]))
        ]
    stored = [state[f"blocks.0.{name}.weight"].numel() for name in ("lin_in", "lin_out")]
    if sizes != stored:
        raise DataError(f"channels, edge_channels and the edges ask for {sizes} weights a block, and it holds {stored}")
    layers = config["layers"]
    if layers > _MOST_LAYERS or not (config.get("share_layers", True) or f"blocks.{layers - 1}.lin_in.weight" in state):
        raise DataError(f"the file says {layers} layers and holds fewer")
    largest = max(value.numel() for value in state.values())
    for name in ("node_mlp", "node_attn"):
        if config.get(name) and config.get(f"{name}_hidden", 16) * counts.max() > largest:
            raise DataError(f"{name}_hidden is {config.get(f'{name}_hidden')}, and the file holds no such weights")
    if own > max(_ALWAYS_ALLOWED, *stored):
        raise DataError(f"the file says {own:.0f} channels and holds no weights for them")


def _unique_state(model: Described) -> dict[str, Tensor]:
    """The state dict with each shared tensor once, under its first name."""
    state, first = model.state_dict(), _first_names(model)
    # The file holds the masks of pruned weights once for all layers.
    return {key: value for key, value in state.items() if first[key] == key and not key.endswith(".kept")}


def _full_state(model: Described, unique: Mapping[str, Tensor]) -> dict[str, Tensor]:
    first = _first_names(model)
    return {**unique, **{key: unique[name] for key, name in first.items() if name in unique}}


def _first_names(model: Described) -> dict[str, str]:
    """State dict key -> the first key of the same tensor."""
    first: dict[tuple[int, str], str] = {}
    owners = {name: id(module) for name, module in model.named_modules(remove_duplicate=False)}
    names = {}
    for key in model.state_dict():
        owner, _, leaf = key.rpartition(".")
        names[key] = first.setdefault((owners[owner], leaf), key)
    return names
