"""The blocks of a model on a CPU by compiled kernels, if numba is installed.

A kernel computes a block function by function (``gsnn.nn.fast.kernels``), in parts of equal work on as many threads as
torch uses. The edge state between blocks is in the order of the targets, its rows padded with zeros to whole vectors.
Functions that reach no output are left out, unless their channels or statistics are needed: the last block computes the
functions with an edge to an output, the block before it the functions that those read, and so on.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gsnn.nn.between import FIXED, Between
from gsnn.nn.dropout import factor, threshold
from gsnn.nn.held import Held

Indices = NDArray[np.int32]
Floats = NDArray[np.float32]

WORTH_A_THREAD = 400_000
"""Products of a block per thread, below which another thread costs more than it saves."""

KEPT_BYTES = 2**28
"""The most that a store keeps for the next step, 256 MiB."""

_NOTHING = np.empty(0, np.float32)

LOOSE_EDGES = 64
"""Edges without a function that are handled together, as those of a function without channels."""


@functools.cache
def available() -> bool:
    """Whether numba is installed and its compiler not switched off (``NUMBA_DISABLE_JIT``)."""
    if importlib.util.find_spec("numba") is None:
        return False
    import numba

    return not vars(numba.config)["DISABLE_JIT"]


class _Loan(np.ndarray[Any, np.dtype[np.float32]]):
    """An array that a finalizer can watch: it lives as long as a tensor uses its memory."""


class Store:
    """Memory that is used again in the next step, so that the system need not allocate and clear it each time.

    Numpy asks the system for large pages for large arrays: rows are scattered, and with small pages finding them would
    take much of the time.
    """

    def __init__(self) -> None:
        self._spare: list[NDArray[np.float32]] = []

    def __reduce__(self) -> tuple[type[Store], tuple[()]]:
        return Store, ()  # a copy has a store of its own

    def array(self, size: int) -> Floats:
        """Numbers that are not filled; their memory comes back when they are no longer used."""
        if not size:
            return np.empty(0, np.float32)  # the spare memory stays for those who need it
        try:
            buffer = self._spare.pop()
        except IndexError:
            buffer = _NOTHING
        if not size <= buffer.size <= 2 * size:
            buffer = np.empty(size, np.float32)
        loan = buffer[:size].view(_Loan)
        weakref.finalize(loan, self._take_back, buffer).atexit = False
        return loan

    def _take_back(self, buffer: NDArray[np.float32]) -> None:
        if not self._spare and buffer.nbytes <= KEPT_BYTES:
            self._spare.append(buffer)


@dataclass(frozen=True, eq=False)
class Plan:
    """The layout of a model of L layers for the kernels; all arrays are int32.

    After the functions come some without channels, which hold the edges that have no function in lin_in or lin_out.

    Attributes:
        wiring: For each block the fields of :class:`gsnn.nn.fast.kernels.Wiring`.
        rows: Number of rows of the state before each block and after the last.
        n_channels: Channels of all functions.
        n_edges: E.
        work: Products up to each function, in one block and for one sample, (functions + 1,).
        everything: Whether functions that reach no output are computed too.
        states: Memory for states and channels.
        gradients: Memory for the gradients by states.
        channels: Memory for channels at taps, and gradients by them.
    """

    wiring: tuple[tuple[Indices, ...], ...]
    rows: tuple[int, ...]
    n_channels: int
    n_edges: int
    work: NDArray[np.int64]
    everything: bool
    states: Store = field(default_factory=Store)
    gradients: Store = field(default_factory=Store)
    channels: Store = field(default_factory=Store)

    @classmethod
    def build(
        cls,
        target: Tensor,
        source: Tensor,
        channels: Tensor,
        edges: tuple[slice, slice],
        layers: int,
        everything: bool = False,
    ) -> Plan:
        """Lay out a model.

        Args:
            target: int64 (E,), the function each edge ends in, or -1.
            source: int64 (E,), the function it starts in, or -1.
            channels: int64 (N,), the number of channels of each function.
            edges: The edges that start in inputs, and those that end in outputs.
            layers: L.
            everything: Whether to compute the functions that reach no output too.
        """
        into, out_of, width = target.numpy(), source.numpy(), channels.numpy()
        n_edges, (inputs, outputs) = into.size, edges
        in_start, in_edges = _lists(into, width.size)
        out_start, out_edges = _lists(out_of, width.size)
        loose = max(in_start.size, out_start.size)
        in_start, out_start = (np.pad(start, (0, loose - start.size), mode="edge") for start in (in_start, out_start))
        channel_start = np.pad(np.cumsum(np.pad(width, (1, 0))), (0, loose - width.size - 1), mode="edge")
        by_target = np.empty(n_edges, np.int32)
        by_target[in_edges] = np.arange(n_edges)
        in_inputs, in_outputs = np.zeros((2, n_edges), bool)
        in_inputs[inputs], in_outputs[outputs] = True, True
        needed = _needed(into, out_of, width.size, in_outputs, layers)
        if everything:
            needed = [np.ones(n_edges, bool)] * (layers - 1) + needed[-1:]
        read: list[Indices] = []
        written: list[Indices] = []
        for block in range(layers):
            if block == 0:
                number = np.arange(n_edges) - inputs.start
                used = everything | _before(needed[0], into, out_of, width.size)
                read.append(_rows(number, in_inputs & used))
            else:
                read.append(written[-1])
            number = np.arange(n_edges) - outputs.start if block == layers - 1 else by_target
            same = 0 < block < layers - 1 and bool((needed[block] == needed[block - 1]).all())
            written.append(written[-1] if same else _rows(number, needed[block]))
        work = np.diff(channel_start) * (np.diff(in_start) + np.diff(out_start)) + np.diff(out_start)
        graph = [
            np.ascontiguousarray(value, np.int32)
            for value in (
                in_start,
                in_edges,
                out_start,
                out_edges,
                channel_start,
                _first_values(into, width),
                _first_values(out_of, width),
            )
        ]
        return cls(
            wiring=tuple((*graph, *rows) for rows in zip(read, written, strict=True)),
            rows=(inputs.stop - inputs.start, *[n_edges] * (layers - 1), outputs.stop - outputs.start),
            n_channels=int(width.sum()),
            n_edges=n_edges,
            work=np.cumsum(np.pad(work, (1, 0)), dtype=np.int64),
            everything=everything,
        )

    def forward(
        self,
        x: Tensor,
        blocks: Sequence[Between],
        parameters: Sequence[Sequence[Tensor | None]],
        affine: Sequence[Sequence[Tensor | None]],
        *,
        keep: bool,
        taps: bool,
        held: Held | None = None,
    ) -> tuple[Tensor, Floats, Floats]:
        """Run the blocks.

        Args:
            x: (edges out of inputs, B) float32.
            blocks: Norm, ELU and dropout of each block.
            parameters: For each block weight and bias of lin_in, of lin_out, and the weight of the residual.
            affine: For each block scale and shift of the norm.
            keep: Whether there will be a backward pass; if not, only two states are in memory at a time.
            taps: Whether the channels of all blocks are needed.
            held: Edge states to set after each block.

        Returns:
            The state of the edges into outputs, (edges, B), and two pieces of memory for :meth:`backward`. The second
            holds the channels for taps, those of all blocks before norm and ELU, then those after the dropout.
        """
        from gsnn.nn.fast import kernels

        start, samples = _padded(x), x.shape[1]
        batch = start.shape[1]
        cuts, passing = self._cuts(batch), _Pass(self, blocks, batch, keep, taps)
        own, seen = self.states.array(passing.sizes[0]), self.channels.array(passing.sizes[1])
        state = _flat(start)
        for block, between in enumerate(blocks):
            weights, of_norm, residual = arrays = self._arrays(parameters[block], affine[block])
            if keep:
                between.read[block] = arrays
            pre, hidden, mean, var = passing.of_block(block, own, seen)
            if between.kind == FIXED:
                mean[:], var[:] = between.running()
            written = passing.state(block + 1, own)
            values = _values(between, residual, samples, batch, state, pre, hidden, mean, var)
            sizes = self._sizes(between, samples, batch, block, taps=taps)
            args = kernels.Wiring(*self.wiring[block]), weights, of_norm, sizes, values, written
            with _threads_of(cuts):
                if cuts is None:
                    kernels.forward(0, self.work.size - 1, *args)
                else:
                    kernels.forward_parts(cuts, *args)
            if held is not None:
                held.write(block, self.wiring[block][-1], written.reshape(-1, batch))
            state = written
        # A copy, because the predictions must not keep the memory of all states.
        out = torch.from_numpy(state.reshape(-1, batch))[:, :samples].clone()
        return out, own, seen

    def backward(
        self,
        grad: Tensor,
        x: Tensor,
        blocks: Sequence[Between],
        kept: tuple[Floats, Floats],
        need_x: bool,
        needed: Sequence[Sequence[bool]],
        *,
        taps: bool,
    ) -> tuple[Tensor | None, list[Tensor | None], list[Tensor | None], list[Tensor]]:
        """Gradients by x, by the parameters and by the channels, block after block.

        Args:
            grad: By the state of the edges into outputs, (edges, B).
            x: As in :meth:`forward`.
            blocks: As in :meth:`forward`; they hold the parameters that it has read.
            kept: The memory that :meth:`forward` returned.
            need_x: Whether the gradient by x is needed.
            needed: For each block whether each parameter, scale and shift needs a gradient.
            taps: Whether the channels of all blocks do.

        Returns:
            The gradient by x (edges, B), those by the parameters and by scales and shifts, None where not needed, and
            those by the channels before norm and ELU and after the dropout (N*C, B), block by block, if any.
        """
        from gsnn.nn.fast import kernels

        samples, start, padded = grad.shape[1], _padded(x), _padded(grad)
        batch, above, count = padded.shape[1], _flat(padded), len(blocks)
        cuts, passing = self._cuts(batch), _Pass(self, blocks, batch, True, taps)
        spare = self.gradients.array(2 * max(self.rows) * batch).reshape(2, -1)
        channels = self.n_channels * batch
        shown = self.channels.array(2 * count * channels if taps else 0)
        by_maps: list[Tensor | None] = []
        by_norms: list[Tensor | None] = []
        for block in reversed(range(count)):
            between = blocks[block]
            weights, of_norm, residual = between.read[block]
            state = passing.state(block, kept[0]) if block else _flat(start)
            go_on = need_x or any(map(any, needed[:block])) or (taps and block > 0)
            below = np.asarray(spare[block % 2])[: state.size] if go_on else state
            if go_on and block == 0:
                below.fill(0.0)  # the kernel leaves out inputs that reach no output, but x has them
            arrays = kernels.Weights(*(np.empty(value.size, np.float32) for value in weights))
            by_norm = type(of_norm)(*(np.zeros(value.size, np.float32) for value in of_norm))
            by_pre, by_post = (np.asarray(shown)[place * channels :][:channels] for place in (2 * block, 2 * block + 1))
            credit = kernels.Credit(above, below, by_pre, by_post)
            values = _values(between, residual, samples, batch, state, *passing.of_block(block, *kept))
            sizes = self._sizes(
                between, samples, batch, block, taps=taps, back=True, go_on=go_on, by_weights=any(needed[block])
            )
            args = kernels.Wiring(*self.wiring[block]), weights, of_norm, sizes, values, credit, arrays, by_norm
            with _threads_of(cuts):
                if cuts is None:
                    by_residual = kernels.backward(0, self.work.size - 1, *args)
                else:
                    parts = np.empty(cuts.size - 1)
                    kernels.backward_parts(cuts, parts, *args)
                    by_residual = parts.sum()
            # relu'(0) = 0, as in torch.
            residual_grad = np.array(by_residual if residual > 0 else 0.0, np.float32)
            gradients = [
                torch.from_numpy(value) if need else None
                for value, need in zip((*arrays, residual_grad, *by_norm), needed[block], strict=True)
            ]
            by_maps, by_norms = gradients[:-2] + by_maps, gradients[-2:] + by_norms
            if not go_on:
                break
            above = below
        by_maps = [*([None] * (count * (len(needed[0]) - 2) - len(by_maps))), *by_maps]
        by_norms = [*([None] * (count * 2 - len(by_norms))), *by_norms]
        by_x = torch.from_numpy(above.reshape(-1, batch))[:, :samples].clone() if need_x else None
        by_channels = torch.from_numpy(shown).view(2 * count, self.n_channels, batch)[..., :samples] if taps else ()
        return by_x, by_maps, by_norms, list(by_channels)

    def moments(self, own: Tensor, blocks: Sequence[Between], samples: int, keep: bool, taps: bool) -> list[Tensor]:
        """Mean and biased variance in each block, (2, functions or channels), from the memory of a pass."""
        from gsnn.nn.fast.vectors import LANES

        passing = _Pass(self, blocks, samples + -samples % LANES, keep, taps)
        return [own[start : start + 2 * size].view(2, size) for start, size in passing.statistics]

    def _arrays(self, maps: Sequence[Tensor | None], norm: Sequence[Tensor | None]) -> tuple[Any, Any, np.float32]:
        """The weights of a block, zeros for a missing bias, the affine part of its norm, and relu of the residual."""
        from gsnn.nn.fast.between import Affine
        from gsnn.nn.fast.kernels import Weights

        *arrays, residual = maps
        sizes = None, self.n_channels, None, self.n_edges
        weights = Weights(
            *(
                np.zeros(size or 0, np.float32) if value is None else _flat(value)
                for value, size in zip(arrays, sizes, strict=True)
            )
        )
        affine = Affine(*(_NOTHING if value is None else _flat(value) for value in norm))
        return weights, affine, np.float32(0.0 if residual is None else max(residual.item(), 0.0))

    def _sizes(
        self,
        between: Between,
        samples: int,
        batch: int,
        block: int,
        *,
        taps: bool,
        back: bool = False,
        go_on: bool = True,
        by_weights: bool = True,
    ) -> Any:  # noqa: ANN401 - a type of a module that needs numba
        from gsnn.nn.fast.between import Sizes

        return Sizes(
            batch=batch,
            samples=samples,
            norm=between.kind,
            affine=int(between.affine[0] is not None),
            per_function=int(between.per_function),
            norm_first=int(between.norm_first),
            drops=int(between.drop > 0),
            threshold=threshold(between.drop),
            key=between.key,
            first_row=block * self.n_channels,
            everything=int(self.everything),
            go_on=int(go_on),
            by_weights=int(by_weights),
            taps=int(taps),
            again=int(back),
        )

    def _cuts(self, batch: int) -> NDArray[np.int64] | None:
        """Where to cut the functions into parts of equal work, one per thread, or None if one thread is fastest."""
        threads = min(_threads(), int(self.work[-1]) * batch // WORTH_A_THREAD)
        if threads < 2:
            return None
        cuts = np.searchsorted(self.work, np.linspace(0, self.work[-1], threads + 1))
        cuts[0], cuts[-1] = 0, self.work.size - 1
        return cuts


class _Pass:
    """Where the arrays of a pass are in its memory.

    Args:
        plan: The model.
        blocks: Norm, ELU and dropout of each block.
        batch: Numbers in a row.
        keep: Whether all states and channels are kept, for a backward pass.
        taps: Whether channels before the norm and after the dropout are kept, in memory of their own, so that a user
            who keeps them does not keep the states.

    Attributes:
        sizes: Sizes of the two pieces of memory.
        statistics: For each block the start of its mean in the first piece, and its length; the variance follows.
    """

    def __init__(self, plan: Plan, blocks: Sequence[Between], batch: int, keep: bool, taps: bool) -> None:
        count, self._batch, self._taps, self._rows = len(blocks), batch, taps, plan.rows
        self._channels = plan.n_channels * batch
        wide = max(plan.rows) * batch
        self._apart = keep or taps
        if keep:
            ends = np.cumsum([0, *(rows * batch for rows in plan.rows[1:])]).tolist()
            self._states, self._first_channel = ends[:-1], ends[-1]
        else:
            self._states = [wide * (block % 2) for block in range(count)]
            self._first_channel = wide * min(2, count)
        kept = 0 if taps else count if keep else 1
        place, self.statistics = self._first_channel + kept * self._channels, []
        for between in blocks:
            size = between.n_statistics
            self.statistics.append((place, size))
            place += 2 * size
        self.sizes = place, 2 * count * self._channels if taps else 0
        self._count = count

    def state(self, number: int, own: Floats) -> Floats:
        """The state after this number of blocks, at least one."""
        start = self._states[number - 1]
        return np.asarray(own)[start : start + self._rows[number] * self._batch]

    def of_block(self, block: int, own: Floats, seen: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Channels before norm and ELU, channels after the dropout, mean and variance."""
        place, size = self.statistics[block]
        mean, var = (np.asarray(own)[at : at + size] for at in (place, place + size))
        if self._taps:
            pre, hidden = (
                np.asarray(seen)[at * self._channels :][: self._channels] for at in (block, self._count + block)
            )
            return pre, hidden, mean, var
        start = self._first_channel + (block if self._apart else 0) * self._channels
        pre = np.asarray(own)[start : start + self._channels]
        return pre, pre, mean, var


def _values(between: Between, residual: np.float32, samples: int, batch: int, *arrays: Floats) -> Any:  # noqa: ANN401
    """The values of a kernel; ``arrays`` are the state, the channels before and after, mean and variance."""
    from gsnn.nn.fast.between import Values

    numbers = np.array([residual, between.eps, factor(between.drop)], np.float32)
    return Values._make((*arrays, _valid(samples, batch), numbers))


@functools.lru_cache(maxsize=8)
def _valid(samples: int, batch: int) -> NDArray[np.float32]:
    return (np.arange(batch) < samples).astype(np.float32)


def _lists(function: NDArray[np.int64], n_functions: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each function starts in the list of edges by function, and this list.

    Edges without a function come last, :data:`LOOSE_EDGES` at a time as if they had one.
    """
    member = np.flatnonzero(function >= 0)
    others = np.flatnonzero(function < 0)
    ordered = member[np.argsort(function[member], kind="stable")]
    stops = np.cumsum(np.bincount(function[member], minlength=n_functions))
    loose = member.size + np.minimum(np.arange(LOOSE_EDGES, others.size + LOOSE_EDGES, LOOSE_EDGES), others.size)
    return np.concatenate([[0], stops, loose]), np.concatenate([ordered, others])


def _first_values(function: NDArray[np.int64], channels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first weight of each edge."""
    width = np.where(function >= 0, channels[function], 0)
    return np.cumsum(width) - width


def _rows(number: NDArray[Any], needed: NDArray[np.bool_]) -> Indices:
    return np.where(needed, number, -1).astype(np.int32)


def _before(
    needed: NDArray[np.bool_], target: NDArray[np.int64], source: NDArray[np.int64], n_functions: int
) -> NDArray[np.bool_]:
    """The edges that a block reads to write the needed ones: these themselves, and those into their functions."""
    active = np.zeros(n_functions + 1, bool)  # index -1: no function
    active[source[needed]] = True
    active[-1] = False
    return needed | active[target]


def _needed(
    target: NDArray[np.int64],
    source: NDArray[np.int64],
    n_functions: int,
    outputs: NDArray[np.bool_],
    layers: int,
) -> list[NDArray[np.bool_]]:
    """For each block the edges whose state after it has an effect on an output."""
    needed = [outputs]
    for _ in range(layers - 1):
        needed.append(_before(needed[-1], target, source, n_functions))
    return needed[::-1]


def _padded(x: Tensor) -> Tensor:
    """The rows padded with zeros to whole vectors."""
    from gsnn.nn.fast.vectors import LANES

    return F.pad(x.detach(), (0, -x.shape[1] % LANES)).contiguous()


def _flat(tensor: Tensor) -> Any:  # noqa: ANN401 - a float32 array
    array = tensor.detach().numpy()
    return array if array.ndim == 1 and array.flags.c_contiguous else array.reshape(-1)


_forked = False


def _threads() -> int:
    """How many threads the kernels may take: as many as torch, if numba has a pool that any thread may call.

    Numba's OpenMP pool is torch's own if both find the same library, so that the two do not wait for each other's idle
    threads. After a fork an OpenMP pool can no longer be used.
    """
    threads = torch.get_num_threads()
    if threads < 2 or _forked or not _has_pool():
        return 1
    import numba

    return min(threads, vars(numba.config)["NUMBA_NUM_THREADS"])


@contextlib.contextmanager
def _threads_of(cuts: NDArray[np.int64] | None) -> Iterator[None]:
    """Set numba to as many threads as there are parts, and restore the caller's number."""
    if cuts is None:
        yield
        return
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(cuts.size - 1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


@functools.cache
def _has_pool() -> bool:
    for name in ("omppool", "tbbpool"):
        try:
            importlib.import_module(f"numba.np.ufunc.{name}")
        except ImportError:
            continue
        return True
    return False


def _mark_forked() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)
