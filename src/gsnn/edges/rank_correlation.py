"""Correlations between two blocks of variables, plain or of ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gsnn.base.errors import check_option
from gsnn.base.torch_state import map_in_threads

CORRELATIONS = ("spearman", "pearson")

# A row is constant when its range is at most this many roundings of its largest value, whatever its scale.
_CONSTANT_ROUNDINGS = 32
# Values that one thread ranks at a time: the sort takes 8 bytes each and should stay in cache.
_BLOCK_VALUES = 2**15
# Values that another device ranks at a time.
_SORT_VALUES = 2**26


def cross_correlation(
    x: Tensor,
    y: Tensor,
    method: str,
    *,
    row_chunk: int | None = None,
    device: torch.device | str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Correlation of each row of ``x`` with each row of ``y``, averaged over segments.

    Spearman is Pearson of the ranks, tied values sharing their average rank. A constant row has correlation 0 with
    everything in that segment. ``x`` and ``y`` are overwritten.

    With another ``device`` than that of ``x`` and ``y``, blocks of rows are copied to it: each block of ``y`` is ranked
    there and stays while every block of ``x`` passes, and the ranks of ``x`` are copied back the first time, so that no
    row is ranked twice. The device then holds 4 S K (2 row_chunk) bytes of rows, their product of 4 row_chunk^2 bytes,
    and :func:`sort_bytes` while it ranks; x is copied N' / row_chunk times.

    Args:
        x: float32 (N, S, K), N variables, S segments that are correlated apart, K observations each.
        y: float32 (N', S, K), on the same device.
        method: 'spearman' or 'pearson'.
        row_chunk: Rows of ``x`` (with ``device``, of both) at a time; None for all.
        device: Where to compute; None for where ``x`` is.
        out: Where to put the result; float32 (N, N') on the device of ``x``.

    Returns:
        float32 (N, N').

    Raises:
        ValueError: If ``method`` is unknown.

    Example:
        >>> x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
        >>> y = torch.tensor([[[1.0, 4.0, 9.0, 100.0]], [[5.0, 5.0, 5.0, 5.0]]])
        >>> cross_correlation(x, y, "spearman").round(decimals=5)
        tensor([[1., 0.]])
    """
    check_option("method", method, CORRELATIONS)
    standardise = _standardise_ranks if method == "spearman" else _standardise_values
    segments = x.shape[1]
    if out is None:
        out = torch.empty(len(x), len(y), dtype=x.dtype, device=x.device)
    step = max(1, max(len(x), len(y)) if row_chunk is None else row_chunk)
    if device is not None and torch.device(device).type != x.device.type:  # pragma: no cover - needs a GPU
        _travelling(x, y, standardise, step, torch.device(device), out)
        return out.div_(segments).clamp_(-1.0, 1.0)
    standardise(y)
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        standardise(x[rows])
        torch.mm(x[rows].flatten(1), y.flatten(1).T, out=out[rows])
    return out.div_(segments).clamp_(-1.0, 1.0)


def _travelling(
    x: Tensor, y: Tensor, standardise: Callable[[Tensor], None], step: int, device: torch.device, out: Tensor
) -> None:
    """Products of all rows, block by block on another device."""
    for at in range(0, len(y), step):
        columns = slice(at, at + step)
        # Copies: ``to`` alone would give the values themselves on the same device.
        targets = y[columns].to(device, copy=True)
        standardise(targets)
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            block = x[rows].to(device, copy=True)
            if at == 0:
                standardise(block)
                if len(y) > step:
                    x[rows] = block.to(x.device)
            out[rows, columns] = (block.flatten(1) @ targets.flatten(1).T).to(out.device)


def _standardise_values(values: Tensor) -> None:
    """Centre each row and divide it by its norm, in place; a constant row becomes 0. (N, S, K)."""
    low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    constant = _constant(low, high)
    # Twice: the rest of a large mean after rounding would stay in the norm.
    for _ in range(2):
        values -= values.mean(-1, keepdim=True)
    # Divided by the range first, so that squares do not underflow.
    values /= torch.where(constant, torch.ones_like(low), high - low)
    values /= torch.where(constant, torch.inf, torch.linalg.vector_norm(values, dim=-1, keepdim=True))


def _standardise_ranks(values: Tensor) -> None:
    """Replace each row by its centred average ranks divided by their norm, in place; a constant row becomes 0."""
    rows = values.view(-1, values.shape[-1])
    if rows.device.type == "cpu":
        # Sorting releases the interpreter lock.
        parts = np.array_split(rows.numpy(), max(1, min(torch.get_num_threads(), len(rows))))
        for _ in map_in_threads(_rank_rows_numpy, parts):
            pass
        return
    for block in rows.split(max(1, _SORT_VALUES // max(1, rows.shape[1]))):  # pragma: no cover - needs a GPU
        block.copy_(_unit(average_ranks(block), _constant(block.amin(1), block.amax(1))))


def average_ranks(values: Tensor) -> Tensor:
    """Ranks within rows, from 0, less their mean; tied values share the average. Any device, by torch's sort.

    Args:
        values: (R, K).

    Returns:
        (R, K) in the dtype of ``values``.

    Example:
        >>> average_ranks(torch.tensor([[0.5, 0.1, 0.5]]))
        tensor([[ 0.5000, -1.0000,  0.5000]])
    """
    ordered, order = values.sort(dim=1)
    place = torch.arange(values.shape[1], device=values.device).expand_as(order)
    differs = ordered[:, 1:] != ordered[:, :-1]
    edge = differs.new_ones(len(values), 1)
    first = place.where(torch.cat([edge, differs], 1), 0).cummax(1).values
    final = place.where(torch.cat([differs, edge], 1), values.shape[1]).flip(1).cummin(1).values.flip(1)
    centred = (first + final - (values.shape[1] - 1)).to(values.dtype) / 2
    return torch.empty_like(values).scatter_(1, order, centred)


def sort_bytes(n_observations: int) -> int:
    """Memory of :func:`average_ranks` for the rows that a device ranks at a time: 56 bytes a value."""
    # Sorted values, order, places, first and last of a tie with a copy of each, ranks.
    return 56 * max(n_observations, _SORT_VALUES)


def _unit(ranks: Tensor, constant: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(ranks, dim=1).masked_fill(constant, torch.inf)
    return ranks / norm[:, None]


def _constant(low: Tensor, high: Tensor) -> Tensor:
    size = torch.maximum(low.abs(), high.abs())
    return high - low <= _CONSTANT_ROUNDINGS * torch.finfo(low.dtype).eps * size


def _rank_rows_numpy(rows: npt.NDArray[np.float32]) -> None:
    """Ranks of rows by one integer sort: numpy sorts integers far faster than it argsorts floats.

    The bits of a float, changed so that they order like the float, are packed above its position; sorted, they give the
    order and, by equal upper halves, the ties. A few rows at a time share the same memory, which then stays in cache.
    """
    n = rows.shape[1]
    step = min(max(1, _BLOCK_VALUES // max(1, n)), max(1, len(rows)))
    packed, order = np.empty((2, step, n), np.int64)
    place = np.arange(n)
    untied = (place - (n - 1) / 2).astype(np.float32)
    for start in range(0, len(rows), step):
        values = rows[start : start + step]
        _rank_block(values, packed[: len(values)], order[: len(values)], place, untied)


def _rank_block(
    values: npt.NDArray[np.float32],
    packed: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    untied: npt.NDArray[np.float32],
) -> None:
    n_rows, n = values.shape
    # Turns -0.0 into 0.0, so that the two tie.
    values += np.float32(0.0)
    packed[...] = _ordered_bits(values.view(np.int32))
    packed <<= 32
    packed |= place
    packed.sort(axis=1)
    np.bitwise_and(packed, 0xFFFFFFFF, out=order)
    packed >>= 32
    low, high = (_ordered_bits(packed[:, end].astype(np.int32)).view(np.float32) for end in (0, -1))
    same = packed[:, 1:] == packed[:, :-1]
    tied = same.any(1)
    norm = np.full(n_rows, np.sqrt(n * (n * n - 1.0) / 12))
    order += (np.arange(n_rows) * n)[:, None]
    flat = values.reshape(-1)
    if not tied.any():
        flat[order.ravel()] = np.broadcast_to(untied, values.shape).ravel()
    else:
        first = np.ones((n_rows, n), bool)
        np.logical_not(same, out=first[:, 1:])
        begin = np.flatnonzero(first)
        count = np.diff(begin, append=first.size)
        average = (begin % n + (count - 1) / 2 - (n - 1) / 2).astype(np.float32)
        shared = np.repeat(average, count)
        norm[tied] = np.linalg.norm(shared.reshape(n_rows, n)[tied].astype(np.float64), axis=1)
        flat[order.ravel()] = shared
    size = np.maximum(np.abs(low), np.abs(high))
    norm[high - low <= np.float32(_CONSTANT_ROUNDINGS * np.finfo(np.float32).eps) * size] = np.inf
    # A NaN is first or last in this order, depending on its sign.
    norm[np.isnan(low) | np.isnan(high)] = np.nan
    values *= (1 / norm).astype(np.float32)[:, None]


def _ordered_bits(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Bits of floats as integers of the same order; the inverse is the same function."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
