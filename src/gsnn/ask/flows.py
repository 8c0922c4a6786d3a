"""What a change of the inputs sends along each edge to one output, and what a part of the edges would send alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.base.torch_state import threads_for
from gsnn.nn import GSNN
from gsnn.nn.block import Recorder
from gsnn.nn.held import Held, held_states

STEPS = (32, 64, 128, 256, 512, 1024)
GAP = 0.002  # share of the difference by which the contributions of the inputs may miss it
_ROWS = 128


def edge_numbers(model: GSNN) -> IntArray:
    """(E,) the number of the graph's edge that each of the model's edges stands for, -1 for added self-edges.

    The graph's edges are counted as the model orders them: function -> function, input -> function, function -> output.
    """
    inner, fed, read, own = model.layout.counts
    copies = model.layout.edge_channels
    first = np.arange(inner) // copies
    return np.concatenate([first, inner // copies + np.arange(fed + read), np.full(own, -1)])


def edge_flows(model: GSNN, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32], output: int) -> FloatArray:
    r"""Contributions of the edges to the change of an output, along the straight line between two inputs.

    Block l reads :math:`s_e^l` of edge e, which enters the function at the edge's end, whose channels before the norm
    are z. The contribution is the conductance (Dhamdhere, Sundararajan and Yan 2018) of what is read, summed over the
    blocks,

    .. math:: \phi_e = \sum_l \int_0^1 \Big(\sum_c W^l_{ce} \frac{\partial y}{\partial z^l_c}\Big)
              \frac{d s_e^l}{d\alpha}\,d\alpha,

    and for an edge into the output what it adds to it. By the chain rule the contributions are a flow: at every
    function as much comes in as goes out (self-edges are both); the inputs send the change of the output, each input
    its integrated gradient; and the output receives the same. The integral is a midpoint sum; steps are doubled, from
    32 to 1,024, until what the inputs send misses the change by .2 % at most.

    Args:
        model: The model, in eval mode.
        start: (I,) where the line begins.
        end: (I,) where it ends.
        output: Number of the output.

    Returns:
        (E,) in standard deviations of the output; for an edge into another output 0.
    """
    flow = np.zeros(model.E)
    for steps in STEPS:
        flow = _flows(model, start, end, output, steps)
        change = flow[model.layout.output_edges].sum()
        if abs(flow[model.layout.input_edges].sum() - change) <= GAP * abs(change):
            break
    return flow


def _flows(
    model: GSNN, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32], output: int, steps: int
) -> FloatArray:
    line = torch.from_numpy(np.linspace(0, 1, 2 * steps + 1))[:, None]
    first, last = (torch.tensor(v, dtype=torch.float64) for v in (start, end))
    x = (first + line * (last - first)).to(model.dtype)
    outputs = model.layout.output_edges
    into_output = (model.output_target == output).double()
    scale = float(model.output_degree[output]) ** 0.5 * (model.L**0.5 if model.options["residual"] else 1.0)
    with threads_for(model, steps):
        states = _edge_states(model, x[::2])
        pre = Recorder()
        with torch.enable_grad():
            y = model.forward_with_taps(x[1::2], pre=pre, detach_parameters=True)[:, output].sum()
            by_z = torch.autograd.grad(y, pre.handles, allow_unused=True)
        flow = torch.zeros(model.E, dtype=torch.float64)
        with torch.no_grad():
            for block, before, grad in zip(model.blocks, states, by_z, strict=False):
                flow += _read_by(block, before, grad)
            change = states[-1][outputs, -1].double() - states[-1][outputs, 0].double()
            flow[outputs] = into_output * change / scale
    return flow.numpy()


def _read_by(block: Any, before: Tensor, grad: Tensor | None) -> Tensor:  # noqa: ANN401 - a Block
    """(E,) what a block reads of each edge along the line, from the states before it and the gradients by z."""
    if grad is None:
        return torch.zeros(len(before), dtype=torch.float64)
    edges = before if block.edge_norm is None else block.edge_norm(before, {})
    credit = block.lin_in.pattern.to_edges(block.lin_in.coefficients(True)[0], grad.contiguous())
    return (credit.double() * edges.double().diff(dim=1)).sum(1)


def _edge_states(model: GSNN, x: Tensor) -> Tensor:
    """(L + 1, E, B) the state of all edges before the first block and after each."""
    post = Recorder()
    with torch.no_grad():
        model.forward_with_taps(x, post=post)
        begin = torch.zeros(model.E, len(x), dtype=model.dtype)
        begin[model.layout.input_edges] = x.t().index_select(0, model.input_source)
        return torch.cat([begin.unsqueeze(0), held_states(model, [h.detach() for h in post.values], begin)])


def restored(
    model: GSNN,
    start: npt.NDArray[np.float32],
    end: npt.NDArray[np.float32],
    kept: BoolArray,
    output: int,
) -> FloatArray:
    """Predictions in ``end`` if only some edges carry the change, and all others hold what they hold in ``start``.

    Args:
        model: The model, in eval mode.
        start: (I,) the reference.
        end: (I,) the condition.
        kept: (R, edges of the graph) for each of R predictions the edges that carry the change, in the order of
            :func:`edge_numbers`. Self-edges that the model adds always carry it.
        output: Number of the output.

    Returns:
        (R,) standardised.
    """
    number = edge_numbers(model)
    states = _edge_states(model, torch.tensor(start, dtype=torch.float32)[None])[..., 0]
    x = torch.tensor(end, dtype=torch.float32)
    fed = np.arange(model.E)[model.layout.input_edges]
    moved = torch.zeros(model.E)
    moved[fed] = states[0, fed] - x[model.input_source]
    predicted = np.empty(len(kept))
    with torch.no_grad(), threads_for(model, _ROWS):
        for first in range(0, len(kept), _ROWS):
            part = kept[first : first + _ROWS]
            free = torch.from_numpy(np.where(number >= 0, part[:, number], True))
            sample, edge = torch.nonzero(~free, as_tuple=True)
            held = Held(edge, sample, states[1:, edge])
            begin = torch.where(free, 0.0, moved)
            y = model.forward_with_taps(x.expand(len(part), -1), held=held, e0=begin)
            predicted[first : first + _ROWS] = y[:, output].numpy()
    return predicted
