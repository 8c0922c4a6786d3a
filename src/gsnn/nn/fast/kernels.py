"""One block, lin_out(ELU(lin_in(x))) + relu(residual) * x, function by function, compiled by numba.

For one function everything between its incoming and its outgoing edges stays in the cache: the edge rows are read once,
the channels are made and spent there. The next function's rows are fetched ahead, as they lie anywhere.

The arguments are those of :class:`gsnn.nn.fast.compiled.Plan` and flat float32 arrays; rows of the edge state hold
``batch`` numbers, a multiple of :data:`LANES`. A kernel does the functions ``first .. last - 1`` and writes nothing
that belongs to others, so that parts can run side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from gsnn.nn.fast.vectors import LANES, at, fetch, fill, fma, load, power_of_two, spread, store, total

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
_F = TypeVar("_F", bound=Callable[..., Any])

ZERO, ONE = np.float32(0.0), np.float32(1.0)
LOWEST = np.float32(-30.0)  # exp(-30) - 1 is -1 in single precision
PER_LN2, HALF = np.float32(1.4426950408889634), np.float32(0.5)
# ln 2 in two parts, the first with few digits, so that multiples of it are exact (Cody and Waite).
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.1219444005469057e-4)
# exp(r) = 1 + r + r^2 (c0 + r (c1 + ...)) for |r| <= ln(2) / 2, within 5e-9: least squares on Chebyshev nodes.
EXP = tuple(np.float32(c) for c in (0.5, 1.666650325e-1, 4.166643694e-2, 8.370601572e-3, 1.393767539e-3))


def _compile(function: _F, parallel: bool = False) -> _F:
    """``numba.njit`` with its result kept on disk where a place for it can be written."""
    # Products may be fused with sums; a NaN stays a NaN.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
    try:
        return cast(_F, numba.njit(cache=True, parallel=parallel, **options)(function))
    except RuntimeError:
        return cast(_F, numba.njit(parallel=parallel, **options)(function))


@_compile
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


@_compile
def _fetch_rows(state: Floats, row: Ints, edges: Ints, start: int, stop: int, batch: int) -> None:
    for k in range(start, stop):
        place = at(row, at(edges, k)) * batch
        if place >= 0:
            for b in range(0, batch, LANES):
                fetch(state, place + b)


@_compile
def _fetch_weights(weights: Floats, value: Ints, edges: Ints, start: int, stop: int, width: int) -> None:
    for k in range(start, stop):
        place = at(value, at(edges, k))
        for c in range(0, width, LANES):
            fetch(weights, place + c)


@_compile
def forward(
    first: int,
    last: int,
    batch: int,
    in_start: Ints,
    in_edges: Ints,
    out_start: Ints,
    out_edges: Ints,
    channel_start: Ints,
    value_in: Ints,
    value_out: Ints,
    row_read: Ints,
    row_written: Ints,
    state: Floats,
    weight_in: Floats,
    bias_in: Floats,
    weight_out: Floats,
    bias_out: Floats,
    residual: np.float32,
    hidden: Floats,
    out: Floats,
) -> None:
    """Fill ``hidden`` with the channels after the ELU and ``out`` with the next edge state."""
    keep = fill(residual)
    for n in range(first, last):
        i0, i1, o0, o1 = at(in_start, n), at(in_start, n + 1), at(out_start, n), at(out_start, n + 1)
        c0, c1 = at(channel_start, n), at(channel_start, n + 1)
        if n + 1 < last:  # fetch what the next function will need
            i2, o2 = at(in_start, n + 2), at(out_start, n + 2)
            _fetch_rows(state, row_read, in_edges, i1, i2, batch)
            _fetch_rows(state, row_read, out_edges, o1, o2, batch)
            _fetch_rows(out, row_written, out_edges, o1, o2, batch)
            width = at(channel_start, n + 2) - c1
            _fetch_weights(weight_in, value_in, in_edges, i1, i2, width)
            _fetch_weights(weight_out, value_out, out_edges, o1, o2, width)
        needed = False
        for k in range(o0, o1):
            if at(row_written, at(out_edges, k)) >= 0:
                needed = True
                break
        if not needed:
            continue
        for b in range(0, batch, LANES):
            c = c0
            while c + 8 <= c1:
                h0, h1 = spread(bias_in, c), spread(bias_in, c + 1)
                h2, h3 = spread(bias_in, c + 2), spread(bias_in, c + 3)
                h4, h5 = spread(bias_in, c + 4), spread(bias_in, c + 5)
                h6, h7 = spread(bias_in, c + 6), spread(bias_in, c + 7)
                for k in range(i0, i1):
                    e = at(in_edges, k)
                    row = at(row_read, e)
                    if row >= 0:
                        x = load(state, row * batch + b)
                        w = at(value_in, e) + c - c0
                        h0 = fma(spread(weight_in, w), x, h0)
                        h1 = fma(spread(weight_in, w + 1), x, h1)
                        h2 = fma(spread(weight_in, w + 2), x, h2)
                        h3 = fma(spread(weight_in, w + 3), x, h3)
                        h4 = fma(spread(weight_in, w + 4), x, h4)
                        h5 = fma(spread(weight_in, w + 5), x, h5)
                        h6 = fma(spread(weight_in, w + 6), x, h6)
                        h7 = fma(spread(weight_in, w + 7), x, h7)
                j = c * batch + b
                store(hidden, j, h0)
                store(hidden, j + batch, h1)
                store(hidden, j + 2 * batch, h2)
                store(hidden, j + 3 * batch, h3)
                store(hidden, j + 4 * batch, h4)
                store(hidden, j + 5 * batch, h5)
                store(hidden, j + 6 * batch, h6)
                store(hidden, j + 7 * batch, h7)
                c += 8
            while c < c1:
                h0 = spread(bias_in, c)
                for k in range(i0, i1):
                    e = at(in_edges, k)
                    row = at(row_read, e)
                    if row >= 0:
                        h0 = fma(spread(weight_in, at(value_in, e) + c - c0), load(state, row * batch + b), h0)
                store(hidden, c * batch + b, h0)
                c += 1
        elu(hidden, c0 * batch, c1 * batch)
        for k in range(o0, o1):
            e = at(out_edges, k)
            written, row = at(row_written, e) * batch, at(row_read, e) * batch
            if written < 0:
                continue
            w = at(value_out, e)
            carried = row >= 0 and residual != ZERO
            for b in range(0, batch, LANES):
                y = spread(bias_out, e)
                if carried:
                    y = fma(keep, load(state, row + b), y)
                c = c0
                while c + 4 <= c1:
                    i, j = w + c - c0, c * batch + b
                    y = fma(spread(weight_out, i), load(hidden, j), y)
                    y = fma(spread(weight_out, i + 1), load(hidden, j + batch), y)
                    y = fma(spread(weight_out, i + 2), load(hidden, j + 2 * batch), y)
                    y = fma(spread(weight_out, i + 3), load(hidden, j + 3 * batch), y)
                    c += 4
                while c < c1:
                    y = fma(spread(weight_out, w + c - c0), load(hidden, c * batch + b), y)
                    c += 1
                store(out, written + b, y)


@_compile
def backward(
    first: int,
    last: int,
    batch: int,
    in_start: Ints,
    in_edges: Ints,
    out_start: Ints,
    out_edges: Ints,
    channel_start: Ints,
    value_in: Ints,
    value_out: Ints,
    row_read: Ints,
    row_written: Ints,
    state: Floats,
    hidden: Floats,
    weight_in: Floats,
    weight_out: Floats,
    residual: np.float32,
    grad: Floats,
    go_on: bool,
    below: Floats,
    grad_weight_in: Floats,
    grad_bias_in: Floats,
    grad_weight_out: Floats,
    grad_bias_out: Floats,
) -> float:
    """Fill the gradients by the parameters and, if ``go_on``, ``below`` by the state; returns that by the residual."""
    nothing, one, keep = fill(ZERO), fill(ONE), fill(residual)
    by_residual = 0.0
    widest = 1
    for n in range(first, last):
        widest = max(widest, at(channel_start, n + 1) - at(channel_start, n))
    inner = np.empty(widest * batch, np.float32)  # gradient by the channels before the ELU, of one function
    for n in range(first, last):
        i0, i1, o0, o1 = at(in_start, n), at(in_start, n + 1), at(out_start, n), at(out_start, n + 1)
        c0 = at(channel_start, n)
        width = at(channel_start, n + 1) - c0
        if n + 1 < last:  # fetch what the next function will need
            i2, o2 = at(in_start, n + 2), at(out_start, n + 2)
            _fetch_rows(grad, row_written, out_edges, o1, o2, batch)
            _fetch_rows(state, row_read, in_edges, i1, i2, batch)
            _fetch_rows(grad, row_written, in_edges, i1, i2, batch)
            _fetch_weights(weight_in, value_in, in_edges, i1, i2, width)
            _fetch_weights(grad_weight_in, value_in, in_edges, i1, i2, width)
            _fetch_weights(weight_out, value_out, out_edges, o1, o2, width)
            _fetch_weights(grad_weight_out, value_out, out_edges, o1, o2, width)
            if go_on:
                _fetch_rows(below, row_read, in_edges, i1, i2, batch)
        needed = False
        for j in range(0, width * batch, LANES):
            store(inner, j, nothing)
        for k in range(o0, o1):
            e = at(out_edges, k)
            place, w = at(row_written, e) * batch, at(value_out, e)
            if place < 0:
                grad_bias_out[e] = ZERO
                for c in range(width):
                    grad_weight_out[w + c] = ZERO
                continue
            needed = True
            s0 = nothing
            for b in range(0, batch, LANES):
                s0 = fma(load(grad, place + b), one, s0)
            grad_bias_out[e] = total(s0)
            c = 0
            while c + 4 <= width:
                s0, s1, s2, s3 = nothing, nothing, nothing, nothing
                w0, w1 = spread(weight_out, w + c), spread(weight_out, w + c + 1)
                w2, w3 = spread(weight_out, w + c + 2), spread(weight_out, w + c + 3)
                for b in range(0, batch, LANES):
                    g = load(grad, place + b)
                    i, j = (c0 + c) * batch + b, c * batch + b
                    s0 = fma(g, load(hidden, i), s0)
                    s1 = fma(g, load(hidden, i + batch), s1)
                    s2 = fma(g, load(hidden, i + 2 * batch), s2)
                    s3 = fma(g, load(hidden, i + 3 * batch), s3)
                    store(inner, j, fma(w0, g, load(inner, j)))
                    store(inner, j + batch, fma(w1, g, load(inner, j + batch)))
                    store(inner, j + 2 * batch, fma(w2, g, load(inner, j + 2 * batch)))
                    store(inner, j + 3 * batch, fma(w3, g, load(inner, j + 3 * batch)))
                grad_weight_out[w + c] = total(s0)
                grad_weight_out[w + c + 1] = total(s1)
                grad_weight_out[w + c + 2] = total(s2)
                grad_weight_out[w + c + 3] = total(s3)
                c += 4
            while c < width:
                s0, w0 = nothing, spread(weight_out, w + c)
                for b in range(0, batch, LANES):
                    g = load(grad, place + b)
                    j = c * batch + b
                    s0 = fma(g, load(hidden, c0 * batch + j), s0)
                    store(inner, j, fma(w0, g, load(inner, j)))
                grad_weight_out[w + c] = total(s0)
                c += 1
        for c in range(width):
            s0 = nothing
            if needed:
                # The derivative of the ELU from its result h: h + 1 where h is negative.
                row_inner, row_hidden = inner[c * batch : (c + 1) * batch], hidden[(c0 + c) * batch :]
                for b in range(row_inner.size):
                    row_inner[b] *= min(row_hidden[b], ZERO) + ONE
                for b in range(0, batch, LANES):
                    s0 = fma(load(inner, c * batch + b), one, s0)
            grad_bias_in[c0 + c] = total(s0)
        for k in range(i0, i1):
            e = at(in_edges, k)
            row, place, w = at(row_read, e) * batch, at(row_written, e) * batch, at(value_in, e)
            if row < 0 or not needed:
                for c in range(width):
                    grad_weight_in[w + c] = ZERO
            if row < 0:
                continue
            carried = place >= 0 and residual != ZERO
            if carried:
                s0 = nothing
                for b in range(0, batch, LANES):
                    s0 = fma(load(grad, place + b), load(state, row + b), s0)
                by_residual += total(s0)
            if go_on:
                for b in range(0, batch, LANES):
                    y = nothing
                    if carried:
                        y = fma(keep, load(grad, place + b), y)
                    store(below, row + b, y)
            if not needed:
                continue
            c = 0
            while c + 4 <= width:
                s0, s1, s2, s3 = nothing, nothing, nothing, nothing
                w0, w1 = spread(weight_in, w + c), spread(weight_in, w + c + 1)
                w2, w3 = spread(weight_in, w + c + 2), spread(weight_in, w + c + 3)
                for b in range(0, batch, LANES):
                    x, j = load(state, row + b), c * batch + b
                    g0, g1 = load(inner, j), load(inner, j + batch)
                    g2, g3 = load(inner, j + 2 * batch), load(inner, j + 3 * batch)
                    s0 = fma(x, g0, s0)
                    s1 = fma(x, g1, s1)
                    s2 = fma(x, g2, s2)
                    s3 = fma(x, g3, s3)
                    if go_on:
                        store(below, row + b, fma(w3, g3, fma(w2, g2, fma(w1, g1, fma(w0, g0, load(below, row + b))))))
                grad_weight_in[w + c] = total(s0)
                grad_weight_in[w + c + 1] = total(s1)
                grad_weight_in[w + c + 2] = total(s2)
                grad_weight_in[w + c + 3] = total(s3)
                c += 4
            while c < width:
                s0, w0 = nothing, spread(weight_in, w + c)
                for b in range(0, batch, LANES):
                    g0 = load(inner, c * batch + b)
                    s0 = fma(load(state, row + b), g0, s0)
                    if go_on:
                        store(below, row + b, fma(w0, g0, load(below, row + b)))
                grad_weight_in[w + c] = total(s0)
                c += 1
    return by_residual


def _forward_parts(
    cuts: NDArray[np.int64],
    batch: int,
    in_start: Ints,
    in_edges: Ints,
    out_start: Ints,
    out_edges: Ints,
    channel_start: Ints,
    value_in: Ints,
    value_out: Ints,
    row_read: Ints,
    row_written: Ints,
    state: Floats,
    weight_in: Floats,
    bias_in: Floats,
    weight_out: Floats,
    bias_out: Floats,
    residual: np.float32,
    hidden: Floats,
    out: Floats,
) -> None:
    """The same for the parts between the cuts, side by side."""
    for k in numba.prange(cuts.size - 1):
        forward(
            cuts[k],
            cuts[k + 1],
            batch,
            in_start,
            in_edges,
            out_start,
            out_edges,
            channel_start,
            value_in,
            value_out,
            row_read,
            row_written,
            state,
            weight_in,
            bias_in,
            weight_out,
            bias_out,
            residual,
            hidden,
            out,
        )


def _backward_parts(
    cuts: NDArray[np.int64],
    by_residual: NDArray[np.float64],
    batch: int,
    in_start: Ints,
    in_edges: Ints,
    out_start: Ints,
    out_edges: Ints,
    channel_start: Ints,
    value_in: Ints,
    value_out: Ints,
    row_read: Ints,
    row_written: Ints,
    state: Floats,
    hidden: Floats,
    weight_in: Floats,
    weight_out: Floats,
    residual: np.float32,
    grad: Floats,
    go_on: bool,
    below: Floats,
    grad_weight_in: Floats,
    grad_bias_in: Floats,
    grad_weight_out: Floats,
    grad_bias_out: Floats,
) -> None:
    """The same for the parts between the cuts, side by side; fills ``by_residual`` with the result of each."""
    for k in numba.prange(cuts.size - 1):
        by_residual[k] = backward(
            cuts[k],
            cuts[k + 1],
            batch,
            in_start,
            in_edges,
            out_start,
            out_edges,
            channel_start,
            value_in,
            value_out,
            row_read,
            row_written,
            state,
            hidden,
            weight_in,
            weight_out,
            residual,
            grad,
            go_on,
            below,
            grad_weight_in,
            grad_bias_in,
            grad_weight_out,
            grad_bias_out,
        )


forward_parts = _compile(_forward_parts, parallel=True)
backward_parts = _compile(_backward_parts, parallel=True)
