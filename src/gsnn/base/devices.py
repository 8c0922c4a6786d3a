"""Whether a device that was asked for is there."""

from __future__ import annotations

import torch

from gsnn.base.errors import DataError, RunError

__all__ = ["check_device"]


def check_device(device: str) -> None:
    """Refuse a device that torch does not know or does not find.

    Args:
        device: Such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        DataError: If torch knows no such device.
        RunError: If there is no GPU.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise DataError(f"unknown device {device!r}; use 'cpu', 'cuda' or, for instance, 'cuda:1'") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise RunError(f"device {device!r} was asked for, but torch finds no GPU here; use 'cpu'")
