"""What stands between the two maps of a block, for the channels of one function while they are in the cache.

Norm and ELU, in either order, then dropout: forward, and the gradient by what came in. The formulas are those of
:mod:`gsnn.nn.norms` and :mod:`gsnn.nn.dropout`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from gsnn.nn.between import FIXED, GROUP, LAYER, NONE, RMS, ROW, SOFTMAX
from gsnn.nn.dropout import MIX, STEP
from gsnn.nn.fast.vectors import (
    LANES,
    add,
    div,
    draw,
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
LEAST = np.float32(-87.0)  # 2^-126 is the smallest number that power_of_two makes
PER_LN2, HALF = np.float32(1.4426950408889634), np.float32(0.5)
# ln 2 in two parts, the first with few digits, so that multiples of it are exact (Cody and Waite).
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.1219444005469057e-4)
# exp(r) = 1 + r + r^2 (c0 + r (c1 + ...)) for |r| <= ln(2) / 2, within 5e-9: least squares on Chebyshev nodes.
EXP = tuple(np.float32(c) for c in (0.5, 1.666650325e-1, 4.166643694e-2, 8.370601572e-3, 1.393767539e-3))
WEYL, MIX_1, MIX_2 = np.uint64(STEP), np.uint64(MIX[0]), np.uint64(MIX[1])


class Sizes(NamedTuple):
    """Whole numbers that a kernel must know.

    Attributes:
        batch: Numbers in a row, a multiple of ``LANES``.
        samples: How many of them belong to samples.
        norm: Which norm, see :mod:`gsnn.nn.between`.
        affine: Whether the norm has a scale and a shift.
        per_function: Whether statistics, scale and shift belong to functions, not to channels.
        norm_first: Whether the norm comes before the ELU.
        drops: Whether there is a dropout.
        threshold: Of the dropout, see :func:`gsnn.nn.dropout.threshold`.
        key: Of the pass, the bits of the uint64.
        first_row: Number of the first channel of the block for the dropout.
        everything: Whether functions that reach no output are made too.
        go_on: Whether the gradient by the state is wanted.
        by_weights: Whether gradients by the parameters are wanted.
        taps: Whether gradients by the channels before the norm and after the dropout are wanted.
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


class Values(NamedTuple):
    """float32 arrays that a pass reads and fills.

    Attributes:
        state: The state that the block reads, rows of ``batch``.
        pre: Channels before norm and ELU; ``hidden`` itself where there is no norm and nobody asks for them.
        hidden: Channels after dropout, where they are kept.
        mean: Mean of each function or channel.
        var: Biased variance likewise.
        valid: (batch,), 1 for samples and 0 for what fills up.
        numbers: relu of the residual weight, eps of the norm, factor of the dropout, 1 / factor.
    """

    state: Floats
    pre: Floats
    hidden: Floats
    mean: Floats
    var: Floats
    valid: Floats
    numbers: Floats


class Affine(NamedTuple):
    """Scale and shift of a norm, or their gradients: float32, one number a function or a channel; or empty."""

    gamma: Floats
    beta: Floats


def compiled(function: _F, parallel: bool = False) -> _F:
    """``numba.njit`` with its result kept on disk where a place for it can be written."""
    # Products may be fused with sums; a NaN stays a NaN.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
    try:
        return cast(_F, numba.njit(cache=True, parallel=parallel, **options)(function))
    except RuntimeError:
        return cast(_F, numba.njit(parallel=parallel, **options)(function))


@compiled
def elu(values: Floats, start: int, stop: int) -> None:
    """ELU of values[start:stop] in place, within rounding of 1 as exp(z) - 1; NaN stays NaN."""
    part = values[start:stop]  # indices from 0 on, which LLVM sees not to be negative, make vectors
    for i in range(part.size):
        z = part[i]
        below = min(max(z, LOWEST), ZERO)
        n = np.int32(below * PER_LN2 - HALF)
        r = (below - np.float32(n) * LN2_HIGH) - np.float32(n) * LN2_LOW
        p = EXP[0] + r * (EXP[1] + r * (EXP[2] + r * (EXP[3] + r * EXP[4])))
        scale = power_of_two(n)
        result = scale * (r + r * r * p) + (scale - ONE)
        part[i] = result if z <= ZERO else z


@compiled
def exp(values: Floats, start: int, stop: int) -> None:
    """Exponential of values[start:stop] in place, for numbers up to 0; NaN stays NaN."""
    part = values[start:stop]
    for i in range(part.size):
        z = part[i]
        below = min(max(z, LEAST), ZERO)
        n = np.int32(below * PER_LN2 - HALF)
        r = (below - np.float32(n) * LN2_HIGH) - np.float32(n) * LN2_LOW
        p = EXP[0] + r * (EXP[1] + r * (EXP[2] + r * (EXP[3] + r * EXP[4])))
        scale = power_of_two(n)
        part[i] = scale + scale * (r + r * r * p) if z <= ZERO else z


@compiled
def _row_key(sizes: Sizes, channel: int) -> np.uint64:
    value = np.uint64(sizes.key) + np.uint64(sizes.first_row + channel) * WEYL + WEYL
    value = (value ^ (value >> np.uint64(30))) * MIX_1
    value = (value ^ (value >> np.uint64(27))) * MIX_2
    return value ^ (value >> np.uint64(31))


@compiled
def _drop(c0: int, c1: int, sizes: Sizes, values: Values, rows: Floats, start: int) -> None:
    """Multiply the channels of a function, which stand in ``rows`` from ``start`` on, by the factors of the dropout."""
    limit, factor = np.uint32(sizes.threshold), values.numbers[2]
    for c in range(c0, c1):
        key, row = _row_key(sizes, c), start + (c - c0) * sizes.batch
        for b in range(0, sizes.batch, LANES):
            store(rows, row + b, mul(load(rows, row + b), draw(key, b, limit, factor)))


@compiled
def _moments(i: int, rows: int, sizes: Sizes, values: Values, source: Floats, start: int) -> None:
    """Mean and biased variance of ``rows`` rows from ``start`` on."""
    batch, count, sum_1, sum_2 = sizes.batch, rows * sizes.samples, 0.0, 0.0
    few = max(1, 1024 // batch)  # rows to a sum in single precision
    part = fill(ZERO)
    for c in range(rows):
        row = start + c * batch
        for b in range(0, batch, LANES):
            part = add(part, where_positive(load(values.valid, b), load(source, row + b)))
        if c % few == few - 1:
            sum_1 += total(part)
            part = fill(ZERO)
    mean = np.float32((sum_1 + total(part)) / count)
    centre, part = fill(mean), fill(ZERO)
    for c in range(rows):
        row = start + c * batch
        for b in range(0, batch, LANES):
            d = where_positive(load(values.valid, b), sub(load(source, row + b), centre))
            part = fma(d, d, part)
        if c % few == few - 1:
            sum_2 += total(part)
            part = fill(ZERO)
    values.mean[i] = mean
    values.var[i] = np.float32((sum_2 + total(part)) / count)


@compiled
def _place(sizes: Sizes, n: int, c: int) -> int:
    return n if sizes.per_function else c


@compiled
def _scale(i: int, values: Values) -> np.float32:
    return np.float32(1.0 / math.sqrt(values.var[i] + values.numbers[1]))


@compiled
def normalise(
    n: int,
    c0: int,
    c1: int,
    sizes: Sizes,
    affine: Affine,
    values: Values,
    source: Floats,
    start: int,
    result: Floats,
    place: int,
    again: bool,
) -> None:
    """The norm of a function's channels.

    Args:
        n: The function.
        c0: Its first channel.
        c1: The channel after its last.
        sizes: Numbers.
        affine: Scale and shift.
        values: Its statistics are read, or filled if they are of the batch.
        source: Where the channels stand.
        start: From which number on.
        result: Where they go; may be ``source``.
        place: From which number on.
        again: Whether the statistics of the batch are there already.
    """
    batch, width, kind = sizes.batch, c1 - c0, sizes.norm
    if kind == GROUP and not again:
        _moments(n, width, sizes, values, source, start)
    if kind == ROW and not again:
        for c in range(width):
            _moments(c0 + c, 1, sizes, values, source, start + c * batch)
    if kind == GROUP or kind == ROW or kind == FIXED:
        for c in range(width):
            i, row, to = _place(sizes, n, c0 + c), start + c * batch, place + c * batch
            factor, shift = _scale(i, values), ZERO
            if sizes.affine:
                factor, shift = factor * affine.gamma[i], affine.beta[i]
            centre, times, plus = fill(values.mean[i]), fill(factor), fill(shift)
            # Centred before it is scaled: folding the mean into the shift would cancel digits.
            for b in range(0, batch, LANES):
                store(result, to + b, fma(sub(load(source, row + b), centre), times, plus))
        return
    share = fill(np.float32(1.0 / width))
    for b in range(0, batch, LANES):
        if kind == LAYER:
            part, squares = fill(ZERO), fill(ZERO)
            for c in range(width):
                part = add(part, load(source, start + c * batch + b))
            mean = mul(part, share)
            for c in range(width):
                d = sub(load(source, start + c * batch + b), mean)
                squares = fma(d, d, squares)
            std = root(mul(squares, fill(np.float32(1.0 / max(width - 1, 1)))))
            times, plus = div(fill(affine.gamma[n]), add(std, fill(STD_SHIFT))), fill(affine.beta[n])
            for c in range(width):
                store(result, place + c * batch + b, fma(sub(load(source, start + c * batch + b), mean), times, plus))
        elif kind == RMS:
            squares = fill(ZERO)
            for c in range(width):
                x = load(source, start + c * batch + b)
                squares = fma(x, x, squares)
            times = div(fill(affine.gamma[n]), root(fma(squares, share, fill(ALMOST_ZERO))))
            for c in range(width):
                store(result, place + c * batch + b, mul(load(source, start + c * batch + b), times))
        else:
            top = load(source, start + b)
            for c in range(1, width):
                top = larger(top, load(source, start + c * batch + b))
            for c in range(width):
                store(result, place + c * batch + b, sub(load(source, start + c * batch + b), top))
    if kind == SOFTMAX:
        exp(result, place, place + width * batch)
        for b in range(0, batch, LANES):
            part = fill(ZERO)
            for c in range(width):
                part = add(part, load(result, place + c * batch + b))
            for c in range(width):
                store(result, place + c * batch + b, div(load(result, place + c * batch + b), part))


@compiled
def activate(
    n: int,
    c0: int,
    c1: int,
    sizes: Sizes,
    affine: Affine,
    values: Values,
    result: Floats,
    place: int,
    again: bool,
) -> None:
    """From ``pre`` to the channels that lin_out reads, for a function.

    Args:
        n: The function.
        c0: Its first channel.
        c1: The channel after its last.
        sizes: Numbers.
        affine: Scale and shift.
        values: Holds ``pre``; as in :func:`normalise`.
        result: Where the channels go; may be ``pre`` in its place.
        place: From which number on.
        again: Whether the statistics of the batch are there already.
    """
    start, size = c0 * sizes.batch, (c1 - c0) * sizes.batch
    if sizes.norm != NONE and sizes.norm_first:
        normalise(n, c0, c1, sizes, affine, values, values.pre, start, result, place, again)
        elu(result, place, place + size)
    else:
        if sizes.norm != NONE or sizes.taps:
            for b in range(0, size, LANES):
                store(result, place + b, load(values.pre, start + b))
        elu(result, place, place + size)
        if sizes.norm != NONE:
            normalise(n, c0, c1, sizes, affine, values, result, place, result, place, again)
    if sizes.drops:
        _drop(c0, c1, sizes, values, result, place)


@compiled
def _times_slope(inner: Floats, activated: Floats, start: int, size: int, factor: np.float32) -> None:
    """Multiply a gradient by the derivative of the ELU, from ``factor`` times its result h: h + 1 where h < 0."""
    mine, result = inner[:size], activated[start : start + size]
    for i in range(size):
        mine[i] *= min(result[i] * factor, ZERO) + ONE


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
    """From the gradient by what :func:`activate` gave to that by ``pre``, in place, for a function.

    Args:
        n: The function.
        c0: Its first channel.
        c1: The channel after its last.
        sizes: Numbers.
        affine: Scale and shift.
        values: What the forward pass left.
        by: Gradients by scale and shift, filled.
        inner: The gradient, from its start on.
        hidden: What :func:`activate` gave.
        place: From which number on.
        spare: Room for the channels twice.
    """
    start, size = c0 * sizes.batch, (c1 - c0) * sizes.batch
    if sizes.drops:
        _drop(c0, c1, sizes, values, inner, 0)
    if sizes.norm == NONE:
        _times_slope(inner, hidden, place, size, values.numbers[3])
        return
    if sizes.norm_first:
        _times_slope(inner, hidden, place, size, values.numbers[3])
        _before_norm(n, c0, c1, sizes, affine, values, by, inner, values.pre, start, spare, 0)
        return
    for b in range(0, size, LANES):
        store(spare, b, load(values.pre, start + b))
    elu(spare, 0, size)
    _before_norm(n, c0, c1, sizes, affine, values, by, inner, spare, 0, spare, size)
    _times_slope(inner, spare, 0, size, ONE)


@compiled
def _before_norm(
    n: int,
    c0: int,
    c1: int,
    sizes: Sizes,
    affine: Affine,
    values: Values,
    by: Affine,
    inner: Floats,
    source: Floats,
    start: int,
    spare: Floats,
    place: int,
) -> None:
    """From the gradient by the result of a norm to that by what came in, in place."""
    batch, width, kind = sizes.batch, c1 - c0, sizes.norm
    if kind == GROUP or kind == ROW or kind == FIXED:
        sum_1, sum_2 = 0.0, 0.0
        for c in range(width):
            i, row = _place(sizes, n, c0 + c), start + c * batch
            centre, part_1, part_2 = fill(values.mean[i]), fill(ZERO), fill(ZERO)
            if kind == ROW or (kind == FIXED and not sizes.per_function):
                sum_1, sum_2 = 0.0, 0.0
            for b in range(0, batch, LANES):
                g = load(inner, c * batch + b)
                part_1 = add(part_1, g)
                part_2 = fma(g, sub(load(source, row + b), centre), part_2)
            sum_1 += total(part_1)
            sum_2 += total(part_2)
            if kind == ROW:
                _centred(i, 1, sizes, affine, values, inner, c * batch, source, row, sum_1, sum_2)
            if sizes.affine:
                by.gamma[i], by.beta[i] = np.float32(sum_2 * _scale(i, values)), np.float32(sum_1)
        if kind == GROUP:
            _centred(n, width, sizes, affine, values, inner, 0, source, start, sum_1, sum_2)
        elif kind == FIXED:
            for c in range(width):
                i = _place(sizes, n, c0 + c)
                factor = _scale(i, values)
                times = fill(factor * affine.gamma[i] if sizes.affine else factor)
                for b in range(0, batch, LANES):
                    store(inner, c * batch + b, mul(load(inner, c * batch + b), times))
        return
    share, by_gamma, by_beta = fill(np.float32(1.0 / width)), 0.0, 0.0
    if kind == SOFTMAX:
        normalise(n, c0, c1, sizes, affine, values, source, start, spare, place, True)
    for b in range(0, batch, LANES):
        if kind == LAYER:
            part, squares, along, sums = fill(ZERO), fill(ZERO), fill(ZERO), fill(ZERO)
            for c in range(width):
                part = add(part, load(source, start + c * batch + b))
            mean = mul(part, share)
            for c in range(width):
                d, g = sub(load(source, start + c * batch + b), mean), load(inner, c * batch + b)
                squares, along, sums = fma(d, d, squares), fma(d, g, along), add(sums, g)
            less = fill(np.float32(max(width - 1, 1)))
            std = root(div(squares, less))
            inverse = div(fill(ONE), add(std, fill(STD_SHIFT)))
            # d std / dx = centred / ((C - 1) std), which is 0 / 0 -> 0 where the channels agree.
            slope = where_positive(std, div(mul(mul(along, inverse), inverse), mul(less, std)))
            times = mul(fill(affine.gamma[n]), inverse)
            back, level = mul(fill(affine.gamma[n]), slope), mul(sums, share)
            for c in range(width):
                d, g = sub(load(source, start + c * batch + b), mean), load(inner, c * batch + b)
                store(inner, c * batch + b, sub(mul(sub(g, level), times), mul(d, back)))
            by_gamma += total(where_positive(load(values.valid, b), mul(along, inverse)))
            by_beta += total(sums)
        elif kind == RMS:
            squares, along = fill(ZERO), fill(ZERO)
            for c in range(width):
                x = load(source, start + c * batch + b)
                squares, along = fma(x, x, squares), fma(x, load(inner, c * batch + b), along)
            square = fma(squares, share, fill(ALMOST_ZERO))
            inverse = div(fill(ONE), root(square))
            times, back = mul(fill(affine.gamma[n]), inverse), div(mul(along, share), square)
            for c in range(width):
                x, g = load(source, start + c * batch + b), load(inner, c * batch + b)
                store(inner, c * batch + b, mul(sub(g, mul(x, back)), times))
            by_gamma += total(where_positive(load(values.valid, b), mul(along, inverse)))
        else:
            along = fill(ZERO)
            for c in range(width):
                along = fma(load(inner, c * batch + b), load(spare, place + c * batch + b), along)
            for c in range(width):
                y, g = load(spare, place + c * batch + b), load(inner, c * batch + b)
                store(inner, c * batch + b, mul(y, sub(g, along)))
    if kind == LAYER:
        by.gamma[n], by.beta[n] = np.float32(by_gamma), np.float32(by_beta)
    elif kind == RMS:
        by.gamma[n] = np.float32(by_gamma)


@compiled
def _centred(
    i: int,
    rows: int,
    sizes: Sizes,
    affine: Affine,
    values: Values,
    inner: Floats,
    place: int,
    source: Floats,
    start: int,
    sum_1: float,
    sum_2: float,
) -> None:
    """The gradient through statistics of the batch: gamma r (g - mean(g) - (x - m) r^2 mean(g (x - m)))."""
    batch, count, scale = sizes.batch, rows * sizes.samples, _scale(i, values)
    factor = scale * affine.gamma[i] if sizes.affine else scale
    times, centre = fill(np.float32(factor)), fill(values.mean[i])
    level, back = fill(np.float32(sum_1 / count)), fill(np.float32(sum_2 / count * scale * scale))
    for c in range(rows):
        at, row = place + c * batch, start + c * batch
        for b in range(0, batch, LANES):
            d = sub(load(source, row + b), centre)
            g = sub(sub(load(inner, at + b), level), mul(d, back))
            store(inner, at + b, where_positive(load(values.valid, b), mul(g, times)))
