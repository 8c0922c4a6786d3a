"""Dropout whose masks follow from one number: every implementation, thread count and repetition gives the same mask.

A forward pass in training draws a key from torch's global generator. Whether a value is dropped is a hash of the key
and of the value's block, channel and sample. A recomputation of the pass and the compiled kernels get the same mask
from the same key, and nothing is kept for the backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gsnn.base.splitmix import MIX, STEP

# Constants of a 32-bit hash of low bias; SplitMix64 gives each row its key. Masks of resumed runs depend on them.
COUNTER, FIRST, SECOND = 0x9E3779B9, 0x21F0AAAD, 0x735A2D97

Key = Tensor
"""int64 (), from which the masks of a forward pass follow."""


def new_key() -> Key:
    """Draw a key from torch's global generator; processes that train together differ."""
    key = torch.randint(2**63 - 1, (), device="cpu")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        key = key + torch.distributed.get_rank() * _signed(MIX[0])
    return key


def mask(key: Key, block: int, rows: int, samples: int, p: float, device: torch.device | str = "cpu") -> Tensor:
    """Which values of a block's channels are kept.

    Args:
        key: The key of the forward pass.
        block: Number of the block.
        rows: N*C.
        samples: B.
        p: Share of values that is dropped.
        device: Device of the mask.

    Returns:
        bool (rows, samples): whether the 32-bit hash of (key, block, row, sample) is at least p * 2^32.

    Example:
        >>> mask(torch.tensor(1), 0, 200, 500, 0.1).float().mean().round(decimals=2)
        tensor(0.9000)
    """
    number = torch.arange(rows, device=device) + block * rows
    row = _mixed(key.to(device) + number * _signed(STEP))
    low, high = (_as_int32(part).unsqueeze(1) for part in (row & 0xFFFFFFFF, (row >> 32) & 0xFFFFFFFF))
    x = torch.arange(samples, dtype=torch.int32, device=device) * _signed(COUNTER, 32) + low
    x = x ^ _shifted(x, 16)
    x = (x * _signed(FIRST, 32)) ^ high
    x = x ^ _shifted(x, 15)
    x = x * _signed(SECOND, 32)
    x = x ^ _shifted(x, 15)
    # Unsigned order from a signed comparison: both sides with the highest bit flipped.
    return (x ^ -(2**31)) >= _signed(threshold(p) ^ 2**31, 32)


def threshold(p: float) -> int:
    """The least hash of a value that is kept."""
    return min(round(p * 2**32), 2**32 - 1)


def factor(p: float) -> float:
    """The factor of values that are kept: 1 / (1 - p); 0 if all are dropped."""
    return 0.0 if p >= 1.0 else 1.0 / (1.0 - p)


def dropped(x: Tensor, key: Key, block: int, p: float) -> Tensor:
    """The channels (N*C, B) of a block after the dropout."""
    kept = mask(key, block, x.shape[0], x.shape[1], p, x.device)
    return x * (kept.to(x.dtype) * factor(p))


class KeyedDropout(nn.Dropout):
    """``torch.nn.Dropout`` of channels (N*C, B) with the mask of :func:`mask`; without a key torch draws the mask."""

    def forward(self, x: Tensor, key: Key | None = None, block: int = 0) -> Tensor:
        """(N*C, B) -> (N*C, B)."""
        if key is None or not self.training or self.p == 0.0:
            return super().forward(x)
        return dropped(x, key, block, self.p)


def _mixed(value: Tensor) -> Tensor:
    """:func:`gsnn.base.splitmix.mixed` on any device, for int64 numbers with the same bits."""
    value = value + _signed(STEP)
    value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * _signed(MIX[0])
    value = (value ^ ((value >> 27) & 0x1FFFFFFFFF)) * _signed(MIX[1])
    return value ^ ((value >> 31) & 0x1FFFFFFFF)


def _shifted(value: Tensor, bits: int) -> Tensor:
    """A right shift of int32 numbers that fills with zeros."""
    return (value >> bits) & (2 ** (32 - bits) - 1)


def _as_int32(value: Tensor) -> Tensor:
    """int64 numbers in [0, 2^32) as the int32 numbers with the same bits."""
    return torch.where(value >= 2**31, value - 2**32, value).to(torch.int32)


def _signed(value: int, bits: int = 64) -> int:
    """An unsigned number as the signed one with the same bits."""
    return value - 2**bits if value >= 2 ** (bits - 1) else value
