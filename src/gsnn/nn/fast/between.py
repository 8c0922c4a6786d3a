"""Norm, ELU and dropout of the channels of one function while they are in the cache.

Norm and ELU come in either order, then dropout: the forward pass, and the gradient by the channels before. The formulas
are those of :mod:`gsnn.nn.norms` and :mod:`gsnn.nn.dropout`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from gsnn.base import splitmix
from gsnn.base.splitmix import MIX, STEP
from gsnn.nn import between, dropout, layer_norm, norms
from gsnn.nn.between import FIXED, GROUP, LAYER, NONE, RMS, ROW, SOFTMAX
from gsnn.nn.fast.vectors import (
    LANES,
    add,
    div,
    dropped,
    fill,
    fma,
    larger,
    load,
    mul,
    power_of_two,
    root,
    store,
    sub,
    total,
    where_kept,
    where_positive,
)
from gsnn.nn.layer_norm import SHIFT
from gsnn.nn.norms import RMS_EPS

Floats = NDArray[np.float32]
_F = TypeVar("_F", bound=Callable[..., Any])

ZERO, ONE = np.float32(0.0), np.float32(1.0)
ALMOST_ZERO = np.float32(RMS_EPS)
STD_SHIFT = np.float32(SHIFT)
LOWEST = np.float32(-30.0)  # exp(-30) - 1 is -1 in single precision
LEAST = np.float32(-87.0)  # power_of_two goes down to 2^-126
PER_LN2, HALF = np.float32(1.4426950408889634), np.float32(0.5)
# ln 2 in two parts, the first with few digits, so that multiples of it are exact (Cody and Waite).
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.1219444005469057e-4)
# exp(r) = 1 + r + r^2 (c0 + r (c1 + ...)) for |r| <= ln(2) / 2, within 5e-9: least squares on Chebyshev nodes.
EXP = tuple(np.float32(c) for c in (0.5, 1.666650325e-1, 4.166643694e-2, 8.370601572e-3, 1.393767539e-3))
WEYL, MIX_1, MIX_2 = np.uint64(STEP), np.uint64(MIX[0]), np.uint64(MIX[1])


class Sizes(NamedTuple):
    """Integers that a kernel needs.

    Attributes:
        batch: Numbers in a row, a multiple of ``LANES``.
        samples: How many of them belong to samples.
        norm: The kind of norm, see :mod:`gsnn.nn.between`.
        affine: Whether the norm has a scale and a shift.
        per_function: Whether statistics, scale and shift belong to functions, not to channels.
        norm_first: Whether the norm comes before the ELU.
        drops: Whether there is a dropout.
        threshold: Threshold of the dropout, see :func:`gsnn.nn.dropout.threshold`.
        key: Dropout key of the pass, the bits of the uint64.
        first_row: Number of the first channel of the block for the dropout.
        everything: Whether functions that reach no output are computed too.
        go_on: Whether the gradient by the state is needed.
        by_weights: Whether gradients by the parameters are needed.
        taps: Whether gradients by the channels before the norm and after the dropout are needed.
        again: Whether the statistics of the batch are already known.
    """

    batch: int
    samples: int
    norm: int
    affine: int
    per_function: int
    norm_first: int
    drops: int
    threshold: int
    key: int
    first_row: int
    everything: int
    go_on: int
    by_weights: int
    taps: int
    again: int


class Values(NamedTuple):
    """float32 arrays that a pass reads and fills.

    Attributes:
        state: The state that the block reads, rows of ``batch``.
        pre: Channels before norm and ELU; ``hidden`` itself without norm and taps.
        hidden: Channels after dropout, where they are kept.
        mean: Mean of each function or channel.
        var: Biased variance of each.
        valid: (batch,), 1 for samples and 0 for padding.
        numbers: relu of the residual weight, eps of the norm, factor of the dropout.
    """

    state: Floats
    pre: Floats
    hidden: Floats
    mean: Floats
    var: Floats
    valid: Floats
    numbers: Floats


class Affine(NamedTuple):
    """Scale and shift of a norm, or their gradients: float32, one number per function or channel; or empty."""

    gamma: Floats
    beta: Floats


def compiled(function: _F, parallel: bool = False) -> _F:
    """``numba.njit``, which keeps its result on disk if it can."""
    # Products may be fused with sums; a NaN stays a NaN.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
    with _own_cache():
        try:
            return cast(_F, numba.njit(cache=True, parallel=parallel, **options)(function))
        except RuntimeError:
            return cast(_F, numba.njit(parallel=parallel, **options)(function))


@contextlib.contextmanager
def _own_cache() -> Iterator[None]:
    """Let numba keep machine code in a folder for exactly these sources.

    Numba checks only whether the file of a function has changed. These functions call each other across files, so it
    would use machine code of an older state of another file.
    """
    config, folder = cast("Any", numba.config), Path(__file__).parent
    before = config.CACHE_DIR
    if before or os.access(folder, os.W_OK):
        config.CACHE_DIR = str(Path(before or folder / "__pycache__") / f"gsnn-{_digest()}")
    try:
        yield
    finally:
        config.CACHE_DIR = before


@functools.cache
def _digest() -> str:
    """A hash of the sources of the machine code."""
    constants = (Path(str(module.__file__)) for module in (splitmix, between, dropout, layer_norm, norms))
    sources = (*sorted(Path(__file__).parent.glob("*.py")), *constants)
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


@compiled
def _power(z: np.float32, lowest: np.float32) -> tuple[np.float32, np.float32]:
    """The power of two s and the rest q with exp(z) = s + s q; z is clipped to ``lowest`` and 0."""
    below = min(max(z, lowest), ZERO)
    n = np.int32(below * PER_LN2 - HALF)
    r = (below - np.float32(n) * LN2_HIGH) - np.float32(n) * LN2_LOW
    p = EXP[0] + r * (EXP[1] + r * (EXP[2] + r * (EXP[3] + r * EXP[4])))
    return power_of_two(n), r + r * r * p


@compiled
def elu(values: Floats, start: int, stop: int) -> None:
    """ELU of values[start:stop] in place, within rounding of 1 as exp(z) - 1; NaN stays NaN."""
    part = values[start:stop]  # LLVM vectorises loops over indices from 0, because they cannot be negative
    for i in range(part.size):
        z = part[i]
        scale, rest = _power(z, LOWEST)
        part[i] = scale * rest + (scale - ONE) if z <= ZERO else z


@compiled
def exp(values: Floats, start: int, stop: int) -> None:
    """Exponential of values[start:stop] in place, for numbers up to 0; NaN stays NaN."""
    part = values[start:stop]
    for i in range(part.size):
        z = part[i]
        scale, rest = _power(z, LEAST)
        part[i] = scale + scale * rest if z <= ZERO else z


@compiled
def _row_key(sizes: Sizes, channel: int) -> np.uint64:
    value = np.uint64(sizes.key) + np.uint64(sizes.first_row + channel) * WEYL + WEYL
    value = (value ^ (value >> np.uint64(30))) * MIX_1
    value = (value ^ (value >> np.uint64(27))) * MIX_2
    return value ^ (value >> np.uint64(31))


@compiled
def _scale(i: int, values: Values) -> np.float32:
    return np.float32(1.0 / math.sqrt(values.var[i] + values.numbers[1]))


@compiled
def _softmax(source: Floats, start: int, result: Floats, place: int, width: int, batch: int) -> None:
    for b in range(0, batch, LANES):
        top = load(source, start + b)
        for c in range(1, width):
            top = larger(top, load(source, start + c * batch + b))
        for c in range(width):
            store(result, place + c * batch + b, sub(load(source, start + c * batch + b), top))
    exp(result, place, place + width * batch)
    for b in range(0, batch, LANES):
        part = fill(ZERO)
        for c in range(width):
            part = add(part, load(result, place + c * batch + b))
        for c in range(width):
            store(result, place + c * batch + b, div(load(result, place + c * batch + b), part))


# The next two are long and not split, because numba compiles a function again for each caller, and for each number that
# is written into a call.


@compiled
def activate(
    n: int, c0: int, c1: int, sizes: Sizes, affine: Affine, values: Values, result: Floats, place: int
) -> None:
    """From ``pre`` to the channels that lin_out reads, for one function.

    Args:
        n: The function.
        c0: Its first channel.
        c1: The channel after its last.
        sizes: Integers.
        affine: Scale and shift.
        values: Holds ``pre``; its statistics are read, or filled if they are those of the batch.
        result: Filled with the channels; may be ``pre`` at the same place.
        place: Offset of the channels in ``result``.
    """
    batch, width, kind = sizes.batch, c1 - c0, sizes.norm
    source, start, size = values.pre, c0 * batch, width * batch
    if kind == NONE or not sizes.norm_first:
        if kind != NONE or sizes.taps:
            for b in range(0, size, LANES):
                store(result, place + b, load(source, start + b))
        elu(result, place, place + size)
        source, start = result, place
    if kind == GROUP or kind == ROW or kind == FIXED:
        rows = width if sizes.per_function else 1
        for u in range(width // rows):
            i, row = n if sizes.per_function else c0 + u, start + u * batch
            if kind != FIXED and not sizes.again:
                few = max(1, 1024 // batch)  # rows to a sum in single precision
                whole, count = sizes.samples // LANES * LANES, rows * sizes.samples
                total_, part = 0.0, fill(ZERO)
                for c in range(rows):
                    for b in range(row + c * batch, row + c * batch + whole, LANES):
                        part = add(part, load(source, b))
                    if whole < batch:
                        part = add(
                            part, where_positive(load(values.valid, whole), load(source, row + c * batch + whole))
                        )
                    if c % few == few - 1:
                        total_ += total(part)
                        part = fill(ZERO)
                mean = np.float32((total_ + total(part)) / count)
                centre, total_, part = fill(mean), 0.0, fill(ZERO)
                for c in range(rows):
                    for b in range(row + c * batch, row + c * batch + whole, LANES):
                        d = sub(load(source, b), centre)
                        part = fma(d, d, part)
                    if whole < batch:
                        d = sub(load(source, row + c * batch + whole), centre)
                        d = where_positive(load(values.valid, whole), d)
                        part = fma(d, d, part)
                    if c % few == few - 1:
                        total_ += total(part)
                        part = fill(ZERO)
                values.mean[i], values.var[i] = mean, np.float32((total_ + total(part)) / count)
            factor, shift = _scale(i, values), ZERO
            if sizes.affine:
                factor, shift = factor * affine.gamma[i], affine.beta[i]
            centre, times, plus = fill(values.mean[i]), fill(factor), fill(shift)
            # Centred before it is scaled: folding the mean into the shift would cancel digits.
            for b in range(0, rows * batch, LANES):
                d = sub(load(source, row + b), centre)
                store(result, place + u * batch + b, fma(d, times, plus))
    elif kind == LAYER or kind == RMS:
        share, less = fill(np.float32(1.0 / width)), fill(np.float32(1.0 / max(width - 1, 1)))
        gamma = fill(affine.gamma[n])
        plus = fill(affine.beta[n]) if kind == LAYER else fill(ZERO)
        for b in range(0, batch, LANES):
            mean, squares = fill(ZERO), fill(ZERO)
            if kind == LAYER:
                for c in range(width):
                    mean = add(mean, load(source, start + c * batch + b))
                mean = mul(mean, share)
            for c in range(width):
                d = sub(load(source, start + c * batch + b), mean)
                squares = fma(d, d, squares)
            if kind == LAYER:
                times = div(gamma, add(root(mul(squares, less)), fill(STD_SHIFT)))
            else:
                times = div(gamma, root(fma(squares, share, fill(ALMOST_ZERO))))
            for c in range(width):
                d = sub(load(source, start + c * batch + b), mean)
                store(result, place + c * batch + b, fma(d, times, plus))
    elif kind == SOFTMAX:
        _softmax(source, start, result, place, width, batch)
    if kind != NONE and sizes.norm_first:
        elu(result, place, place + size)
    if sizes.drops:
        limit, factor = np.uint32(sizes.threshold), values.numbers[2]
        for c in range(width):
            key = _row_key(sizes, c0 + c)
            for b in range(0, batch, LANES):
                row = place + c * batch + b
                store(result, row, dropped(load(result, row), key, b, limit, factor))


@compiled
def _times_slope(inner: Floats, activated: Floats, start: int, size: int, factor: np.float32) -> None:
    """Multiply a gradient by the derivative of ELU and dropout.

    The ELU's is h + 1 where its result h is negative; ``activated`` holds ``factor`` * h, or a drop. The factor is 1
    without dropout.
    """
    one = fill(ONE)
    if factor == ONE:
        for b in range(0, size, LANES):
            h = load(activated, start + b)
            store(inner, b, mul(load(inner, b), add(sub(h, where_positive(h, h)), one)))
        return
    raised, less = fill(factor), fill(ONE / factor if factor > ZERO else ZERO)
    for b in range(0, size, LANES):
        result = load(activated, start + b)
        h = mul(result, less)
        slope = mul(add(sub(h, where_positive(h, h)), one), raised)
        store(inner, b, mul(load(inner, b), where_kept(result, slope)))


@compiled
def differentiate(
    n: int,
    c0: int,
    c1: int,
    sizes: Sizes,
    affine: Affine,
    values: Values,
    by: Affine,
    inner: Floats,
    hidden: Floats,
    place: int,
    spare: Floats,
) -> None:
    """From the gradient by the result of :func:`activate` to that by ``pre``, in place, for one function.

    Args:
        n: The function.
        c0: Its first channel.
        c1: The channel after its last.
        sizes: Integers.
        affine: Scale and shift.
        values: The arrays of the forward pass.
        by: Gradients by scale and shift, filled.
        inner: The gradient, from offset 0.
        hidden: The result of :func:`activate`.
        place: Offset of the channels in ``hidden``.
        spare: Room for three times the channels.
    """
    batch, width, kind = sizes.batch, c1 - c0, sizes.norm
    source, start, size = values.pre, c0 * batch, width * batch
    if kind == NONE or sizes.norm_first:
        _times_slope(inner, hidden, place, size, values.numbers[2])
    else:
        if sizes.drops:
            raised = fill(values.numbers[2])
            for b in range(0, size, LANES):
                store(inner, b, mul(load(inner, b), where_kept(load(hidden, place + b), raised)))
        for b in range(0, size, LANES):
            store(spare, size + b, load(source, start + b))
        elu(spare, size, 2 * size)
        source, start = spare, size
    if kind == GROUP or kind == ROW or kind == FIXED:
        rows = width if sizes.per_function else 1
        for u in range(width // rows):
            i, row, own = n if sizes.per_function else c0 + u, start + u * batch, u * batch
            # Through statistics of the batch: gamma r (g - mean(g) - (x - m) r^2 mean(g (x - m))).
            sum_1, sum_2, centre = 0.0, 0.0, fill(values.mean[i])
            for c in range(rows):
                part_1, part_2 = fill(ZERO), fill(ZERO)
                for b in range(c * batch, (c + 1) * batch, LANES):
                    g = load(inner, own + b)
                    part_1 = add(part_1, g)
                    part_2 = fma(g, sub(load(source, row + b), centre), part_2)
                sum_1 += total(part_1)
                sum_2 += total(part_2)
            scale = _scale(i, values)
            factor = scale
            if sizes.affine:
                factor = scale * affine.gamma[i]
                by.gamma[i], by.beta[i] = np.float32(sum_2 * scale), np.float32(sum_1)
            times, level, back = fill(factor), fill(ZERO), fill(ZERO)
            if kind != FIXED:
                count = rows * sizes.samples
                level, back = fill(np.float32(sum_1 / count)), fill(np.float32(sum_2 / count * scale * scale))
            for c in range(rows):
                for b in range(0, batch, LANES):
                    at = c * batch + b
                    d = sub(load(source, row + at), centre)
                    g = mul(sub(sub(load(inner, own + at), level), mul(d, back)), times)
                    if b + LANES > sizes.samples:
                        g = where_positive(load(values.valid, b), g)
                    store(inner, own + at, g)
    elif kind == LAYER or kind == RMS:
        share, less = fill(np.float32(1.0 / width)), fill(np.float32(max(width - 1, 1)))
        by_gamma, by_beta, gamma = 0.0, 0.0, fill(affine.gamma[n])
        for b in range(0, batch, LANES):
            mean, squares, along, sums = fill(ZERO), fill(ZERO), fill(ZERO), fill(ZERO)
            if kind == LAYER:
                for c in range(width):
                    mean = add(mean, load(source, start + c * batch + b))
                mean = mul(mean, share)
            for c in range(width):
                d, g = sub(load(source, start + c * batch + b), mean), load(inner, c * batch + b)
                squares, along, sums = fma(d, d, squares), fma(d, g, along), add(sums, g)
            if kind == LAYER:
                std = root(div(squares, less))
                inverse = div(fill(ONE), add(std, fill(STD_SHIFT)))
                # d std / dx = centred / ((C - 1) std), which is 0 / 0 -> 0 where the channels agree.
                slope = where_positive(std, div(mul(mul(along, inverse), inverse), mul(less, std)))
                level = mul(sums, share)
                by_beta += total(sums)
            else:
                square = fma(squares, share, fill(ALMOST_ZERO))
                inverse = div(fill(ONE), root(square))
                slope, level = mul(div(mul(along, share), square), inverse), fill(ZERO)
            times, back = mul(gamma, inverse), mul(gamma, slope)
            for c in range(width):
                d, g = sub(load(source, start + c * batch + b), mean), load(inner, c * batch + b)
                store(inner, c * batch + b, sub(mul(sub(g, level), times), mul(d, back)))
            by_gamma += total(where_positive(load(values.valid, b), mul(along, inverse)))
        by.gamma[n] = np.float32(by_gamma)
        if kind == LAYER:
            by.beta[n] = np.float32(by_beta)
    elif kind == SOFTMAX:
        _softmax(source, start, spare, 2 * size, width, batch)
        for b in range(0, batch, LANES):
            along = fill(ZERO)
            for c in range(width):
                along = fma(load(inner, c * batch + b), load(spare, 2 * size + c * batch + b), along)
            for c in range(width):
                y, g = load(spare, 2 * size + c * batch + b), load(inner, c * batch + b)
                store(inner, c * batch + b, mul(y, sub(g, along)))
    if kind != NONE and not sizes.norm_first:
        _times_slope(inner, spare, size, size, ONE)
