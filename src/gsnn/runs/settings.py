"""Settings as the commands take them: checked, and what the user must mend is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import DataError, RunError, as_data_error

if TYPE_CHECKING:
    from gsnn.runs.folder import Run
    from gsnn.training import TrainConfig


def make_config(settings: Mapping[str, Any]) -> TrainConfig:
    """Settings of a training, checked; a wrong value is the user's to mend.

    Args:
        settings: Fields of `TrainConfig`; None values are left out and take their defaults.

    Raises:
        DataError: If a name or a value is wrong.

    Example:
        >>> make_config({"epochs": 3, "norm": None}).epochs
        3
        >>> make_config({"norm": "layr"})
        Traceback (most recent call last):
        ...
        gsnn.base.errors.DataError: unknown norm 'layr'; use one of 'none', 'layer', ... (did you mean 'layer'?)
    """
    from gsnn.training import TrainConfig

    try:
        return TrainConfig.from_dict({name: value for name, value in settings.items() if value is not None})
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from error


def changed_config(config: TrainConfig, settings: Mapping[str, Any] | None) -> TrainConfig:
    """A configuration with the settings that are not None put in; a wrong value is for the user to mend."""
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    with as_data_error():
        return replace(config, **given)


def refuse_both(overwrite: bool, resume: bool) -> None:
    """Refuse to overwrite and to resume at once."""
    if overwrite and resume:
        raise RunError("overwrite and resume exclude each other; pass one of them")


@contextmanager
def locked(run: Run | None) -> Iterator[None]:
    """Keep a second program out of the run folder."""
    if run is None:
        yield
        return
    with run.lock():
        yield
