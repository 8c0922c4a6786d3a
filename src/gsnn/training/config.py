"""Every choice of a training run, in one frozen and JSON-able object."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from gsnn.base.errors import DataError, check_option

# The norms of the model, repeated here so that a command line can offer them without importing torch.
NORMS = ("none", "layer", "batch", "edgebatch", "batch++", "groupbatch", "softmax", "rms", "ema", "channelema")
# These take a variance over the batch, which one row does not have.
NEED_TWO_ROWS = ("batch", "edgebatch", "batch++")
# All other norms take statistics over the batch, of which each of several processes sees only its own part.
_SHARED_NORMS = ("none", "layer", "rms", "softmax")

_POSITIVE_INTEGERS = ("epochs", "channels", "layers", "batch_size")
_SWITCHES = ("share_layers", "add_function_self_edges", "residual", "restore_best", "drop_last")


@dataclass(frozen=True)
class TrainConfig:
    """Model size, optimiser and stopping rule of one training run.

    Attributes:
        epochs: Passes over the training part, at most.
        channels: Channels C of every function node.
        layers: Residual blocks L.
        norm: Name of the norm inside the blocks.
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay of AdamW.
        batch_size: Samples B per step.
        dropout: Probability of dropping a channel, in [0, 1).
        share_layers: One set of sparse weights for all blocks.
        add_function_self_edges: Give every function node a self-edge.
        residual: Add each block to the edge state instead of replacing it.
        patience: Stop after this many epochs without a better validation loss; None trains for all ``epochs``.
        min_delta: How much lower a validation loss must be to count as better.
        restore_best: Keep the weights of the epoch with the lowest validation loss instead of the last ones.
        drop_last: Leave out a last training batch that is not full.
        seed: Fixes the split, the initial weights, the order of the samples and the dropout.
        split_seed: Fixes the split alone, so that several seeds share one; None takes ``seed``.
        test: Fraction of the conditions held out for the final figures.
        validation: Fraction of the conditions held out for ``patience`` and ``restore_best``; without them these
            conditions are trained on, too.

    Raises:
        ValueError: If a value is out of its range.
        TypeError: If a value has the wrong type.

    Example:
        >>> config = TrainConfig(epochs=10, seed=3)
        >>> TrainConfig.from_dict(config.to_dict()) == config
        True
        >>> TrainConfig(lr=-1)
        Traceback (most recent call last):
        ...
        ValueError: lr must be a finite number above 0, got -1
    """

    epochs: int = 150
    channels: int = 8
    layers: int = 10
    norm: str = "groupbatch"
    lr: float = 3e-3
    weight_decay: float = 1e-2
    batch_size: int = 16
    dropout: float = 0.1
    share_layers: bool = False
    add_function_self_edges: bool = True
    residual: bool = True
    patience: int | None = None
    min_delta: float = 0.0
    restore_best: bool = False
    drop_last: bool = False
    seed: int = 0
    split_seed: int | None = None
    test: float = 0.2
    validation: float = 0.1

    def __post_init__(self) -> None:
        for name in _POSITIVE_INTEGERS:
            _integer(name, getattr(self, name), 1)
        if self.patience is not None:
            _integer("patience", self.patience, 1)
        for name in ("seed", "split_seed"):
            if getattr(self, name) is not None or name == "seed":
                _integer(name, getattr(self, name), 0, 2**63 - 1)
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        check_option("norm", self.norm, NORMS)
        if self.norm in NEED_TWO_ROWS and self.batch_size == 1:
            raise ValueError(f"norm {self.norm!r} needs a batch_size of at least 2, got 1")
        _number("lr", self.lr, lambda v: v > 0, "a finite number above 0")
        for name in ("weight_decay", "min_delta"):
            _number(name, getattr(self, name), lambda v: v >= 0, "a finite number, 0 or above")
        _number("dropout", self.dropout, lambda v: 0 <= v < 1, "a number from 0 up to, but not including, 1")
        for name in ("test", "validation"):
            _number(name, getattr(self, name), lambda v: 0 < v < 1, "a fraction between 0 and 1")
        if self.test + self.validation >= 1:
            raise ValueError(
                f"test + validation must leave samples to train on, got {self.test} + {self.validation}; lower one"
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON-able dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of :meth:`to_dict`; fields that are left out take their defaults.

        Args:
            values: Field names and values.

        Raises:
            ValueError: If a field is unknown (the closest names are listed) or out of range.
        """
        names = [f.name for f in fields(cls)]
        for name in values:
            check_option("training option", name, names)
        return cls(**values)

    @property
    def uses_validation(self) -> bool:
        """Whether the validation part decides anything: when to stop, or which weights to keep."""
        return self.patience is not None or self.restore_best

    def check_processes(self, n: int) -> None:
        """Refuse settings that n processes that train together cannot share.

        Raises:
            DataError: With what to do instead.
        """
        if n == 1:
            return
        if self.norm not in _SHARED_NORMS:
            raise DataError(
                f"norm '{self.norm}' has statistics over the batch, which {n} processes would each take over "
                f"their own part; use one of {', '.join(_SHARED_NORMS)} (--norm), or one process"
            )
        if self.batch_size < n:
            raise DataError(
                f"{n} processes share every batch, and batch_size is {self.batch_size}; raise it "
                "(--batch-size), or use fewer processes"
            )

    def split_options(self) -> dict[str, Any]:
        """The arguments that ``split`` of the data takes from this configuration."""
        return {
            "seed": self.seed if self.split_seed is None else self.split_seed,
            "test": self.test,
            "validation": self.validation if self.uses_validation else 0.0,
        }

    def model_options(self) -> dict[str, Any]:
        """The keyword arguments that :class:`gsnn.nn.GSNN` takes from this configuration."""
        names = ("channels", "layers", "norm", "dropout", "share_layers", "add_function_self_edges", "residual")
        return {name: getattr(self, name) for name in names}


def _integer(name: str, value: object, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < low or (high is not None and value > high):
        top = "" if high is None else f" and at most {high}"
        raise ValueError(f"{name} must be at least {low}{top}, got {value}")


def _number(name: str, value: object, allowed: Callable[[float], bool], rule: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be {rule}, got {value!r}")
    if not math.isfinite(value) or not allowed(value):
        raise ValueError(f"{name} must be {rule}, got {value!r}")
