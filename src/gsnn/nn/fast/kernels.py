"""One block, lin_out(between(lin_in(x))) + relu(residual) * x, function by function, compiled by numba.

For one function everything between its incoming and its outgoing edges stays in the cache: the edge rows are read once,
and the channels are computed and used there, with norm, ELU and dropout (:mod:`gsnn.nn.fast.between`). The next
function's rows are fetched ahead, because they are scattered in memory.

A kernel computes the functions ``first .. last - 1`` and writes nothing that belongs to others, so that parts can run
in parallel. All arrays are flat; rows of states and channels hold ``batch`` numbers, a multiple of :data:`LANES`. Each
record holds arrays of one kind, because numba passes only such records to parallel parts.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from gsnn.nn.between import NONE
from gsnn.nn.fast.between import (
    ONE,
    ZERO,
    Affine,
    Floats,
    Sizes,
    Values,
    activate,
    compiled,
    differentiate,
)
from gsnn.nn.fast.vectors import LANES, at, fetch, fill, fma, load, spread, store, total

Ints = NDArray[np.int32]


class Wiring(NamedTuple):
    """The graph as a block sees it, int32.

    Attributes:
        in_start: First incoming edge of each function in ``in_edges``.
        in_edges: The incoming edges, function by function.
        out_start: First outgoing edge of each function in ``out_edges``.
        out_edges: The outgoing edges, function by function.
        channel_start: First channel of each function.
        value_in: First weight of each edge in lin_in.
        value_out: First weight of each edge in lin_out.
        read: Row of each edge in the state that the block reads, -1 where that is 0 or not needed.
        written: Row of each edge in the state that the block writes, -1 where that is not needed.
    """

    in_start: Ints
    in_edges: Ints
    out_start: Ints
    out_edges: Ints
    channel_start: Ints
    value_in: Ints
    value_out: Ints
    read: Ints
    written: Ints


class Weights(NamedTuple):
    """Weights and biases of the two maps of a block, or their gradients: float32."""

    into: Floats
    bias_in: Floats
    out_of: Floats
    bias_out: Floats


class Credit(NamedTuple):
    """Gradients of a block by states and channels, float32.

    Attributes:
        above: By the state that the block writes.
        below: By the state that it reads, filled if the pass goes on.
        pre: By the channels before norm and ELU, filled for taps.
        post: By the channels after the dropout, likewise.
    """

    above: Floats
    below: Floats
    pre: Floats
    post: Floats


@compiled
def _fetch_rows(state: Floats, row: Ints, edges: Ints, start: int, stop: int, batch: int) -> None:
    for k in range(start, stop):
        place = at(row, at(edges, k)) * batch
        if place >= 0:
            for b in range(0, batch, LANES):
                fetch(state, place + b)


@compiled
def _fetch_weights(weights: Floats, value: Ints, edges: Ints, start: int, stop: int, width: int) -> None:
    for k in range(start, stop):
        place = at(value, at(edges, k))
        for c in range(0, width, LANES):
            fetch(weights, place + c)


@compiled
def keeps(sizes: Sizes) -> bool:
    """Whether the channels after the dropout are kept; else the backward pass recomputes them, which is faster."""
    return sizes.norm == NONE or sizes.taps != 0


@compiled
def _widest(first: int, last: int, channel_start: Ints) -> int:
    """The most channels of a function."""
    widest = 1
    for n in range(first, last):
        widest = max(widest, at(channel_start, n + 1) - at(channel_start, n))
    return widest


@compiled
def forward(
    first: int, last: int, wiring: Wiring, weights: Weights, affine: Affine, sizes: Sizes, values: Values, out: Floats
) -> None:
    """Fill the channels of ``values`` and ``out``, the next edge state."""
    in_start, in_edges, out_start, out_edges = wiring.in_start, wiring.in_edges, wiring.out_start, wiring.out_edges
    channel_start, value_in, value_out = wiring.channel_start, wiring.value_in, wiring.value_out
    row_read, row_written, batch = wiring.read, wiring.written, sizes.batch
    weight_in, bias_in, weight_out, bias_out = weights.into, weights.bias_in, weights.out_of, weights.bias_out
    state, pre, residual = values.state, values.pre, values.numbers[0]
    keep, kept = fill(residual), keeps(sizes)
    hidden = values.hidden if kept else np.empty(_widest(first, last, channel_start) * batch, np.float32)
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
        if not (needed or sizes.everything):
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
                store(pre, j, h0)
                store(pre, j + batch, h1)
                store(pre, j + 2 * batch, h2)
                store(pre, j + 3 * batch, h3)
                store(pre, j + 4 * batch, h4)
                store(pre, j + 5 * batch, h5)
                store(pre, j + 6 * batch, h6)
                store(pre, j + 7 * batch, h7)
                c += 8
            while c < c1:
                h0 = spread(bias_in, c)
                for k in range(i0, i1):
                    e = at(in_edges, k)
                    row = at(row_read, e)
                    if row >= 0:
                        h0 = fma(spread(weight_in, at(value_in, e) + c - c0), load(state, row * batch + b), h0)
                store(pre, c * batch + b, h0)
                c += 1
        place = c0 * batch if kept else 0
        if c1 > c0:
            activate(n, c0, c1, sizes, affine, values, hidden, place)
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
                    i, j = w + c - c0, place + (c - c0) * batch + b
                    y = fma(spread(weight_out, i), load(hidden, j), y)
                    y = fma(spread(weight_out, i + 1), load(hidden, j + batch), y)
                    y = fma(spread(weight_out, i + 2), load(hidden, j + 2 * batch), y)
                    y = fma(spread(weight_out, i + 3), load(hidden, j + 3 * batch), y)
                    c += 4
                while c < c1:
                    y = fma(spread(weight_out, w + c - c0), load(hidden, place + (c - c0) * batch + b), y)
                    c += 1
                store(out, written + b, y)


@compiled
def backward(
    first: int,
    last: int,
    wiring: Wiring,
    weights: Weights,
    affine: Affine,
    sizes: Sizes,
    values: Values,
    credit: Credit,
    by: Weights,
    by_affine: Affine,
) -> float:
    """Fill the gradients of ``credit`` and, if needed, by the parameters; returns the one by the residual."""
    in_start, in_edges, out_start, out_edges = wiring.in_start, wiring.in_edges, wiring.out_start, wiring.out_edges
    channel_start, value_in, value_out = wiring.channel_start, wiring.value_in, wiring.value_out
    row_read, row_written, batch = wiring.read, wiring.written, sizes.batch
    weight_in, weight_out, state, kept = weights.into, weights.out_of, values.state, keeps(sizes)
    grad, below, go_on, residual = credit.above, credit.below, sizes.go_on, values.numbers[0]
    grad_weight_in, grad_bias_in, grad_weight_out, grad_bias_out = by.into, by.bias_in, by.out_of, by.bias_out
    nothing, one, keep = fill(ZERO), fill(ONE), fill(residual)
    by_residual = 0.0
    size = _widest(first, last, channel_start) * batch
    inner = np.empty(size, np.float32)  # gradient by the channels of one function
    spare = np.empty(3 * size, np.float32)
    hidden = values.hidden if kept else np.empty(size, np.float32)
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
        needed, h0 = False, c0 * batch if kept else 0
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
            if not needed and width and not kept:
                activate(n, c0, c0 + width, sizes, affine, values, hidden, h0)
            needed = True
            if not sizes.by_weights:
                for c in range(width):
                    w0, j = spread(weight_out, w + c), c * batch
                    for b in range(0, batch, LANES):
                        store(inner, j + b, fma(w0, load(grad, place + b), load(inner, j + b)))
                continue
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
                    g, j = load(grad, place + b), c * batch + b
                    s0 = fma(g, load(hidden, h0 + j), s0)
                    s1 = fma(g, load(hidden, h0 + j + batch), s1)
                    s2 = fma(g, load(hidden, h0 + j + 2 * batch), s2)
                    s3 = fma(g, load(hidden, h0 + j + 3 * batch), s3)
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
                    g, j = load(grad, place + b), c * batch + b
                    s0 = fma(g, load(hidden, h0 + j), s0)
                    store(inner, j, fma(w0, g, load(inner, j)))
                grad_weight_out[w + c] = total(s0)
                c += 1
        if sizes.taps:
            for b in range(0, width * batch, LANES):
                store(credit.post, c0 * batch + b, load(inner, b))
        if needed and width:
            differentiate(n, c0, c0 + width, sizes, affine, values, by_affine, inner, hidden, h0, spare)
        if sizes.taps:
            for b in range(0, width * batch, LANES):
                store(credit.pre, c0 * batch + b, load(inner, b))
        for c in range(width if sizes.by_weights else 0):
            s0 = nothing
            if needed:
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
            if carried and sizes.by_weights:
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
            if not sizes.by_weights:
                if go_on:
                    for b in range(0, batch, LANES):
                        y = load(below, row + b)
                        for c in range(width):
                            y = fma(spread(weight_in, w + c), load(inner, c * batch + b), y)
                        store(below, row + b, y)
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
    wiring: Wiring,
    weights: Weights,
    affine: Affine,
    sizes: Sizes,
    values: Values,
    out: Floats,
) -> None:
    """:func:`forward` for the parts between the cuts, in parallel."""
    for k in numba.prange(cuts.size - 1):
        forward(cuts[k], cuts[k + 1], wiring, weights, affine, sizes, values, out)


def _backward_parts(
    cuts: NDArray[np.int64],
    by_residual: NDArray[np.float64],
    wiring: Wiring,
    weights: Weights,
    affine: Affine,
    sizes: Sizes,
    values: Values,
    credit: Credit,
    by: Weights,
    by_affine: Affine,
) -> None:
    """:func:`backward` for the parts between the cuts, in parallel; fills ``by_residual`` with their results."""
    for k in numba.prange(cuts.size - 1):
        by_residual[k] = backward(cuts[k], cuts[k + 1], wiring, weights, affine, sizes, values, credit, by, by_affine)


forward_parts = compiled(_forward_parts, parallel=True)
backward_parts = compiled(_backward_parts, parallel=True)
