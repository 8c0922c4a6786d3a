"""Functions whose channels are held in every block: which values, and what the model then predicts.

The edges out of a held function carry values that do not depend on the inputs (:func:`gsnn.nn.held.held_states`), so
a clamp puts these values into the edge state after each block. Each row of a batch can hold other functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.torch_state import threads_for
from gsnn.nn import GSNN
from gsnn.nn.block import Recorder
from gsnn.nn.held import Held, held_states

STATES = ("lowest", "highest", "zero")
_ROWS = 512  # of a batch
_CONDITIONS = 128  # whose channels are in memory at a time
_TRIED, _RUNS = 32, 20_000  # conditions tried for a function without readouts, at least; runs over all such functions


@dataclass(frozen=True, eq=False)
class Clamps:
    """The values at which each function of a model is held.

    Attributes:
        states: (L, E), what each edge out of a function holds after each block if that function is held.
        condition: (N,) the training condition whose values these are, -1 for zero.
    """

    states: Tensor
    condition: IntArray


def clamps_of(model: GSNN, x: npt.NDArray[np.float32], to: str) -> Clamps:
    """The values at which functions are held.

    ``lowest``: the values of the condition in which the effect of the function on its own readouts is lowest: what its
    edges into outputs add to the predictions, averaged over these edges (in standard deviations of the readouts). A
    function without readouts is held at its values of each condition in turn, without any treatment, and the condition
    is taken that makes the mean of all readouts lowest. Readouts that it does not reach do not change, so the mean of
    those that it reaches decides. Of many conditions some are tried, spread evenly: 20,000 divided by the number of
    such functions, at least 32.
    ``highest`` likewise. ``zero``: all channels are 0 in every block.

    Args:
        model: The model.
        x: (M, I) distinct training conditions.
        to: One of ``STATES``.
    """
    if to == "zero":
        silent = [torch.zeros(model.groups.n_channels, 1)] * model.L
        with torch.no_grad(), threads_for(model, 1):
            return Clamps(held_states(model, silent)[..., 0], np.full(model.N, -1))
    sign = 1.0 if to == "lowest" else -1.0
    outputs, source = model.layout.output_edges, model.layout.source_functions()
    sender = source.clamp(min=0)  # of edges out of functions; the others are never held
    read = source[outputs]
    n_readouts = torch.bincount(read, minlength=model.N)
    best = torch.full((model.N,), torch.inf)
    chosen = torch.zeros(model.N, dtype=torch.int64)
    kept = torch.zeros(model.L, model.E)
    scale = (model.output_degree.sqrt()[model.output_target]).unsqueeze(1)
    with torch.no_grad():
        for start in range(0, len(x), _CONDITIONS):
            states = _states(model, x[start : start + _CONDITIONS])
            added = states[-1][outputs] / scale
            effect = torch.zeros(model.N, added.shape[1]).index_add(0, read, added)
            value, place = (sign * effect / n_readouts.clamp(min=1).unsqueeze(1)).min(1)
            better = (value < best) & (n_readouts > 0)
            best, chosen = torch.where(better, value, best), torch.where(better, place + start, chosen)
            kept = torch.where(better[sender], _columns(states, place[sender]), kept)
        unread = torch.nonzero(n_readouts == 0).flatten()
        if len(unread):
            most = max(_TRIED, _RUNS // len(unread))
            tried = np.unique(np.linspace(0, len(x) - 1, min(len(x), most)).round().astype(int))
            states = _states(model, x[tried])
            node, column = (v.flatten() for v in torch.meshgrid(unread, torch.arange(len(tried)), indexing="ij"))
            untreated = np.zeros((1, model.I), np.float32)
            y = _clamped(model, untreated, torch.zeros_like(node), node.unsqueeze(1), states, column).mean(1)
            place = torch.zeros(model.N, dtype=torch.int64)
            place[unread] = (sign * torch.from_numpy(y)).view(len(unread), -1).argmin(1)
            chosen[unread] = torch.from_numpy(tried)[place[unread]]
            kept = torch.where((n_readouts == 0)[sender], _columns(states, place[sender]), kept)
    return Clamps(kept, chosen.numpy())


def predict_clamped(
    model: GSNN, x: npt.NDArray[np.float32], sets: Sequence[Sequence[int]], clamps: Clamps
) -> tuple[FloatArray, FloatArray]:
    """Predictions with functions held, of every set of functions in every condition.

    Args:
        model: The model, in eval mode.
        x: (M, I) conditions.
        sets: K sets of functions, by number, that are held together; at least one.
        clamps: From :func:`clamps_of`.

    Returns:
        (M, O) predictions without a clamp, and (K, M, O) with, both standardised.
    """
    padded = torch.tensor([*zip_longest(*sets, fillvalue=-1)]).T
    row = torch.arange(len(sets) * len(x))
    with torch.no_grad(), threads_for(model, len(x)):
        plain = model(torch.tensor(x, dtype=torch.float32)).double().numpy()
    states, column = clamps.states.unsqueeze(2), torch.zeros_like(row)
    clamped = _clamped(model, x, row % len(x), padded[row // len(x)], states, column)
    return plain, clamped.reshape(len(sets), len(x), -1)


def _clamped(
    model: GSNN, x: npt.NDArray[np.float32], condition: Tensor, sets: Tensor, states: Tensor, column: Tensor
) -> FloatArray:
    """Predictions (R, O) of rows that each have a condition, a set of functions and a column of ``states`` (L, E, S).

    Sets (R, n) are padded with -1.
    """
    source = model.layout.source_functions()
    count = torch.bincount(source[source >= 0], minlength=model.N)
    by_function = torch.argsort(source, stable=True)[len(source) - int(count.sum()) :]  # edges out of functions
    first = torch.cumsum(count, 0) - count
    y, conditions = np.empty((len(condition), model.O)), torch.tensor(x, dtype=torch.float32)
    with torch.no_grad(), threads_for(model, _ROWS):
        for start in range(0, len(condition), _ROWS):
            rows = slice(start, start + _ROWS)
            nodes = sets[rows].flatten()
            n_edges = torch.where(nodes >= 0, count[nodes.clamp(min=0)], 0)
            place = torch.repeat_interleave(torch.arange(len(nodes)), n_edges)
            within = torch.arange(len(place)) - (torch.cumsum(n_edges, 0) - n_edges)[place]
            edges, sample = by_function[first[nodes[place]] + within], place // sets.shape[1]
            held = Held(edges, sample, states[:, edges, column[rows][sample]])
            y[rows] = model.forward_with_taps(conditions[condition[rows]], held=held).numpy()
    return y


def _states(model: GSNN, x: npt.NDArray[np.float32]) -> Tensor:
    """(L, E, B) what edges out of functions carry in these conditions."""
    taps = Recorder()
    with torch.no_grad(), threads_for(model, len(x)):
        model.forward_with_taps(torch.tensor(x, dtype=torch.float32), post=taps)
        return held_states(model, [value.detach() for value in taps.values])


def _columns(states: Tensor, column: Tensor) -> Tensor:
    """(L, E) from (L, E, S): each edge in a column of its own."""
    return states.gather(2, column.expand(len(states), -1).unsqueeze(2)).squeeze(2)
