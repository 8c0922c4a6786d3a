"""A network with one number for each function and one weight for each edge, whose weights can be read.

A GSNN has several channels, and different weights in every block, so its known edges can stand in for one another.
Here an edge is one number: its size tells how much the edge carries, its sign how the source moves the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsnn.base.arrays import FloatArray
from gsnn.graph import EDGE_TYPES, Graph

STEPS = 12  # iterations of the recurrence; longer paths carry nothing
_SLOPE = 0.5  # of the nonlinearity below 0 at the start, beside 1 above
_LEAST_SLOPE = 0.05
_SIZE, _SPREAD = 0.5, 0.3  # of the first weights


@dataclass(frozen=True)
class Recipe:
    """How a restricted network is trained; found by measurement (``benchmarks/audit.py``).

    Attributes:
        steps: Steps of the optimiser.
        batch: Samples a step.
        rate: Largest learning rate of Adam.
        sparsity: How strongly the weights of edges are drawn to 0, in units of the learning rate.
    """

    steps: int = 2000
    batch: int = 64
    rate: float = 2e-2
    sparsity: float = 0.02

    def to_dict(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


class _Bags:
    """The sum over the in-edges of each target: ``weight[order]`` (E,), states (S, B) -> (T, B)."""

    def __init__(self, source: Tensor, target: Tensor, n_sources: int, n_targets: int) -> None:
        self.order = torch.argsort(target, stable=True)
        self.source, self.offsets = source[self.order].int(), _first(target[self.order], n_targets)
        # The same edges by their sources, for gradients.
        self.back = torch.argsort(source[self.order], stable=True)
        self.target, into = target[self.order].int(), source[self.order][self.back]
        self.target_back, self.offsets_back = self.target[self.back], _first(into, n_sources)

    def __call__(self, weight: Tensor, state: Tensor) -> Tensor:
        if not len(self.source):
            return state.new_zeros(len(self.offsets), state.shape[1])
        summed: Tensor = _Sum.apply(weight, state.contiguous(), self)
        return summed


def _first(sorted_ends: Tensor, n: int) -> Tensor:
    """int32 (n,): the first edge of each end."""
    return torch.searchsorted(sorted_ends.contiguous(), torch.arange(n)).int()


class _Sum(torch.autograd.Function):
    """A weighted embedding bag: an order of magnitude faster than a sparse product, whose derivative is dense.

    The bag's own derivative sorts the edges at every call. Here the derivative by the states is a bag as well, of the
    reversed edges.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, state: Tensor, bags: _Bags) -> Tensor:  # noqa: ANN401 - a context of torch
        ctx.save_for_backward(weight, state)
        ctx.bags = bags
        return _bag(state, bags.source, bags.offsets, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
        (weight, state), bags, grad = ctx.saved_tensors, ctx.bags, grads[0].contiguous()
        by_weight = torch.ops.aten._embedding_bag_per_sample_weights_backward
        back = _bag(grad, bags.target_back, bags.offsets_back, weight[bags.back])
        return by_weight(grad, state, bags.source, bags.offsets, bags.target, 0), back, None


def _bag(state: Tensor, rows: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    summed: Tensor = torch.embedding_bag(state, rows, offsets, False, 0, False, weight)[0]
    return summed


class _Bend(torch.autograd.Function):
    """f of the recurrence, of sums (N, B) and slopes (N, 1); torch's own ``where`` takes several times as long."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, slope: Tensor) -> Tensor:  # noqa: ANN401
        bent = torch.tanh(total)
        ctx.save_for_backward(bent, slope)
        return torch.addcmul(bent.clamp(min=0), slope, bent.clamp(max=0))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        (bent, slope), grad = ctx.saved_tensors, grads[0]
        above = torch.ops.aten.threshold_backward(grad, bent, 0)
        below = grad - above
        by_total = torch.ops.aten.tanh_backward(torch.addcmul(above, slope, below), bent)
        return by_total, (below * bent).sum(1, keepdim=True)


class Restricted(nn.Module):
    """h <- f(W h + V x + b) for `STEPS` steps from 0, then y = U h + c.

    f is tanh above 0 and a learned share of it, one for each function, below.

    Args:
        graph: The graph. Its signs are not used: a weight that starts with a wrong sign often keeps it.
        seed: Fixes the sizes of the first weights.

    Attributes:
        weight: (E,) of function -> function, input -> function, function -> output edges, each in the graph's order.
    """

    def __init__(self, graph: Graph, seed: int = 0) -> None:
        super().__init__()
        index = graph.edge_index_dict
        self.ends = [index[kind] for kind in EDGE_TYPES]
        self.sizes = [ends.shape[1] for ends in self.ends]
        sizes = ((graph.N, graph.N), (graph.I, graph.N), (graph.N, graph.O))
        self.bags = [_Bags(ends[0], ends[1], *size) for ends, size in zip(self.ends, sizes, strict=True)]
        # Of each edge the row of its target among biases, then offsets.
        self.target_row = torch.cat([self.ends[0][1], self.ends[1][1], graph.N + self.ends[2][1]])
        drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal(sum(self.sizes))).float()
        self.weight = nn.Parameter(self.first_weights() * (1 + _SPREAD * drawn))
        self.bias = nn.Parameter(torch.zeros(graph.N, 1))
        self.offset = nn.Parameter(torch.zeros(graph.O, 1))
        self.slope = nn.Parameter(torch.full((graph.N, 1), _SLOPE))

    def first_weights(self) -> Tensor:
        """(E,): the first weights, up to noise: the sources of a target share its input, an input counts in full."""
        share = [torch.bincount(ends[1])[ends[1]] for ends in self.ends]
        share[1] = torch.ones_like(share[1])
        return _SIZE / torch.cat(share)

    def to_lists(self) -> dict[str, list[float]]:
        """The parameters, JSON-able and exact."""
        return {name: value.detach().flatten().double().tolist() for name, value in self.named_parameters()}

    @classmethod
    def from_lists(cls, graph: Graph, values: Mapping[str, list[float]]) -> Self:
        """The inverse of :meth:`to_lists`."""
        net = cls(graph)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter.copy_(torch.tensor(values[name]).view_as(parameter))
        return net.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(B, I) -> (B, O)."""
        return self.states(x)[0]

    def states(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Predictions (B, O); the state before each step and the last state; the sums of each step: (N, B) each."""
        parts = self.weight.split(self.sizes)
        inner, fed, read = (part[bag.order] for part, bag in zip(parts, self.bags, strict=True))
        drive = self.bags[1](fed, x.t().contiguous()) + self.bias
        state, before, sums = torch.zeros_like(drive), [], []
        for _ in range(STEPS):
            total = self.bags[0](inner, state) + drive
            before.append(state)
            sums.append(total)
            state = _Bend.apply(total, self.slope)
        return (self.bags[2](read, state) + self.offset).t(), [*before, state], sums

    @torch.no_grad()
    def signals(self, x: Tensor) -> Tensor:
        """(E, B): the final state of the source of each edge; an input sends its own value."""
        state = self.states(x)[1][-1]
        (inner, _), (fed, _), (read, _) = self.ends
        return torch.cat([state[inner], x.t()[fed], state[read]])

    def mean_signals(self, x: Tensor) -> Tensor:
        """(E,): their means over the samples."""
        return self.signals(x).double().mean(1).to(x.dtype)

    def derivatives(self, x: Tensor, cotangents: list[Tensor]) -> list[Tensor]:
        """For each cotangent (B, O) the derivatives of its product with the predictions, for every sample.

        Returns:
            (E + N + O, B) each: by the weights, the biases and the offsets.
        """
        predicted, states, sums = self.states(x)
        source = [state.detach() for state in states]
        (i0, i1), (f0, f1), (r0, r1) = self.ends
        fed = x.t()[f0]
        derivatives = []
        for cotangent in cotangents:
            # Without edges between functions only the last step has an effect.
            credits = torch.autograd.grad(
                (predicted * cotangent).sum(), sums, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            total = torch.stack(credits).sum(0)
            inner = x.new_zeros(len(i0), len(x))
            for credit, state in zip(credits, source, strict=False):
                inner.addcmul_(credit[i1], state[i0])
            by_output = cotangent.t()
            parts = [inner, total[f1] * fed, by_output[r1] * source[-1][r0], total, by_output]
            derivatives.append(torch.cat(parts))
        return derivatives


def fit_restricted(graph: Graph, x: FloatArray, y: FloatArray, recipe: Recipe, seed: int) -> Restricted:
    """Train a restricted network from scratch; as :func:`train_restricted`, but ``seed`` fixes the weights, too."""
    return train_restricted(Restricted(graph, seed), x, y, recipe, seed)


def train_restricted(
    net: Restricted, x: FloatArray, y: FloatArray, recipe: Recipe, seed: int, closed: Sequence[int] = ()
) -> Restricted:
    """Train a restricted network in place.

    Args:
        net: The network.
        x: (M, I) inputs.
        y: (M, O) standardised responses, NaN where missing.
        recipe: How.
        seed: Fixes the order of the samples.
        closed: Edges whose weight stays 0.
    """
    inputs, targets = (torch.as_tensor(np.asarray(values), dtype=torch.float32) for values in (x, y))
    seen = torch.isfinite(targets)
    targets = torch.nan_to_num(targets)
    shut = torch.as_tensor(list(closed), dtype=torch.int64)
    rng = np.random.default_rng((seed, 1))
    optimiser = torch.optim.Adam(net.parameters(), lr=recipe.rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=recipe.steps)
    batch = min(recipe.batch, len(inputs))
    order: list[int] = []
    with torch.no_grad():
        net.weight[shut] = 0.0
    for _ in range(recipe.steps):
        if len(order) < batch:
            order = rng.permutation(len(inputs)).tolist()
        rows, order = order[:batch], order[batch:]
        optimiser.zero_grad()
        error = (net(inputs[rows]) - targets[rows]) * seen[rows]
        (error.square().sum() / seen[rows].sum().clamp(min=1)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            # A proximal step: an edge that brings nothing ends at 0.
            net.weight.copy_(F.softshrink(net.weight, recipe.sparsity * optimiser.param_groups[0]["lr"]))
            net.weight[shut] = 0.0
            net.slope.clamp_(min=_LEAST_SLOPE)  # f must rise, or a weight would have no sign
        schedule.step()
    return net.eval()
