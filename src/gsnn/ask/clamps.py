"""Functions whose channels are held in every block: which values, and what the model then predicts.

The edges out of a held function hold values that depend on nothing that comes in (:func:`gsnn.nn.held.held_states`),
so a clamp is these values put into the edge state after each block, in each row of a batch for functions of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
_CONDITIONS = 128  # whose channels are held in memory at a time
_TRIED, _RUNS = 32, 20_000  # conditions among which the state of a function without readouts is chosen, at least


@dataclass(frozen=True, eq=False)
class Clamps:
    """At which values each function of a model is held.

    Attributes:
        states: (L, E), what each edge out of a function holds after each block if that function is held.
        condition: (N,) the training condition whose values these are, -1 for zero.
    """

    states: Tensor
    condition: IntArray


class _OutEdges:
    """The edges out of each function."""

    def __init__(self, model: GSNN) -> None:
        source = model.layout.source_functions()
        members = torch.nonzero(source >= 0).flatten()
        self.edges = members[torch.argsort(source[members], stable=True)]
        self.count = torch.bincount(source[members], minlength=model.N)
        self.first = torch.cumsum(self.count, 0) - self.count

    def of(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Edges out of some functions, and for each the place in ``nodes`` of its function; -1 is no function."""
        count = torch.where(nodes >= 0, self.count[nodes.clamp(min=0)], 0)
        place = torch.repeat_interleave(torch.arange(len(nodes)), count)
        within = torch.arange(len(place)) - (torch.cumsum(count, 0) - count)[place]
        return self.edges[self.first[nodes[place]] + within], place


def clamps_of(model: GSNN, x: npt.NDArray[np.float32], to: str) -> Clamps:
    """The values at which functions are held.

    ``lowest``: those of the condition in which the effect of the function on its own readouts is lowest: what its
    edges into outputs bring to the predictions, on average over them (in standard deviations of the readouts). A
    function without readouts is held, without any treatment, at its values of each condition in turn, and the one is
    taken that makes the mean of all readouts lowest; readouts it does not reach do not change, so it is the mean of
    those it reaches that decides. Of many conditions some are tried, spread evenly: 20,000 divided by the number of
    such functions, at least 32.
    ``highest`` likewise. ``zero``: all channels are 0 in every block.

    Args:
        model: The model.
        x: (M, I) distinct training conditions.
        to: One of ``STATES``.
    """
    if to == "zero":
        nothing = [torch.zeros(model.groups.n_channels, 1)] * model.L
        with torch.no_grad(), threads_for(model, 1):
            return Clamps(held_states(model, nothing)[..., 0], np.full(model.N, -1))
    sign = 1.0 if to == "lowest" else -1.0
    outputs, source = model.layout.output_edges, model.layout.source_functions()
    reads = source[outputs]
    n_own = torch.bincount(reads, minlength=model.N)
    best = torch.full((model.N,), torch.inf)
    chosen = torch.zeros(model.N, dtype=torch.int64)
    kept = torch.zeros(model.L, model.E)
    scale = (model.output_degree.sqrt()[model.output_target]).unsqueeze(1)
    with torch.no_grad():
        for start in range(0, len(x), _CONDITIONS):
            states = _states(model, x[start : start + _CONDITIONS])
            brought = states[-1][outputs] / scale
            own = torch.zeros(model.N, brought.shape[1]).index_add(0, reads, brought)
            value, place = (sign * own / n_own.clamp(min=1).unsqueeze(1)).min(1)
            better = (value < best) & (n_own > 0)
            best, chosen = torch.where(better, value, best), torch.where(better, place + start, chosen)
            kept = torch.where(better[source.clamp(min=0)], _columns(states, place[source.clamp(min=0)]), kept)
        hidden = torch.nonzero(n_own == 0).flatten()
        if len(hidden):
            most = max(_TRIED, _RUNS // len(hidden))
            tried = np.unique(np.linspace(0, len(x) - 1, min(len(x), most)).round().astype(int))
            states = _states(model, x[tried])
            node, column = (v.flatten() for v in torch.meshgrid(hidden, torch.arange(len(tried)), indexing="ij"))
            nowhere = np.zeros((1, model.I), np.float32)
            y = _clamped(model, nowhere, torch.zeros_like(node), node.unsqueeze(1), states, column).mean(1)
            place = torch.zeros(model.N, dtype=torch.int64)
            place[hidden] = (sign * torch.from_numpy(y)).view(len(hidden), -1).argmin(1)
            chosen[hidden] = torch.from_numpy(tried)[place[hidden]]
            theirs = (n_own == 0)[source.clamp(min=0)]
            kept = torch.where(theirs, _columns(states, place[source.clamp(min=0)]), kept)
    return Clamps(kept, chosen.numpy())


def predict_clamped(
    model: GSNN, x: npt.NDArray[np.float32], sets: Sequence[Sequence[int]], clamps: Clamps
) -> tuple[FloatArray, FloatArray]:
    """Predictions with functions held, of every set of functions in every condition.

    Args:
        model: The model, in eval mode.
        x: (M, I) conditions.
        sets: K sets of functions, by number, that are held together.
        clamps: From :func:`clamps_of`.

    Returns:
        (M, O) predictions without a clamp, and (K, M, O) with, both standardised.
    """
    width = max(map(len, sets), default=1)
    table = torch.tensor([[*one, *[-1] * (width - len(one))] for one in sets], dtype=torch.int64).view(-1, width)
    row = torch.arange(len(table) * len(x))
    with torch.no_grad(), threads_for(model, len(x)):
        plain = model(torch.tensor(x, dtype=torch.float32)).double().numpy()
    found = _clamped(model, x, row % len(x), table, clamps.states.unsqueeze(2), None, row // len(x))
    return plain, found.reshape(len(table), len(x), -1)


def _clamped(
    model: GSNN,
    x: npt.NDArray[np.float32],
    condition: Tensor,
    sets: Tensor,
    states: Tensor,
    column: Tensor | None,
    which: Tensor | None = None,
) -> FloatArray:
    """Predictions (R, O) of rows that have a condition, a set of functions and a column of ``states`` (L, E, S)."""
    out, found = _OutEdges(model), np.empty((len(condition), model.O))
    conditions = torch.tensor(x, dtype=torch.float32)
    with torch.no_grad(), threads_for(model, _ROWS):
        for start in range(0, len(condition), _ROWS):
            rows = slice(start, start + _ROWS)
            nodes = sets[rows] if which is None else sets[which[rows]]
            edges, place = out.of(nodes.flatten())
            sample = place // nodes.shape[1]
            there = states[:, edges, 0] if column is None else states[:, edges, column[rows][sample]]
            held = Held(edges, sample, there)
            found[rows] = model.forward_with_taps(conditions[condition[rows]], held=held).numpy()
    return found


def _states(model: GSNN, x: npt.NDArray[np.float32]) -> Tensor:
    """(L, E, B) what functions send in these conditions."""
    taps = Recorder()
    with torch.no_grad(), threads_for(model, len(x)):
        model.forward_with_taps(torch.tensor(x, dtype=torch.float32), post=taps)
        return held_states(model, [value.detach() for value in taps.values])


def _columns(states: Tensor, column: Tensor) -> Tensor:
    """(L, E): of each edge its own column of (L, E, S)."""
    return states.gather(2, column.expand(len(states), -1).unsqueeze(2)).squeeze(2)
