"""Settings as the commands take them, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gsnn.base.errors import RunError, as_data_error
from gsnn.training.config import TrainConfig


def changed_config(config: TrainConfig, settings: Mapping[str, Any] | None) -> TrainConfig:
    """A configuration with some settings replaced.

    Args:
        config: The configuration.
        settings: Fields of `TrainConfig` to replace; None values are left out.

    Raises:
        DataError: If a name or a value is wrong.

    Example:
        >>> changed_config(TrainConfig(), {"epochs": 3, "norm": None}).epochs
        3
        >>> changed_config(TrainConfig(), {"norm": "layr"})
        Traceback (most recent call last):
        ...
        gsnn.base.errors.DataError: unknown norm 'layr'; use one of 'none', 'layer', ... (did you mean 'layer'?)
    """
    with as_data_error():
        return TrainConfig.from_dict(config.to_dict() | present(settings))


def present(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in (options or {}).items() if value is not None}


def refuse_both(overwrite: bool, resume: bool) -> None:
    """Refuse to overwrite and to resume at once."""
    if overwrite and resume:
        raise RunError("overwrite and resume exclude each other; pass one of them")
