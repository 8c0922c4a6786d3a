"""A network with one number for each function and one weight for each edge, whose weights can be read.

A GSNN has several channels and other weights in every block, so its known edges can stand in for one another. Here an
edge is one number: its size tells what the edge carries, its sign how the source moves the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsnn.graph import EDGE_TYPES, Graph

FloatArray = npt.NDArray[np.float64]

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

    def __init__(self, source: Tensor, target: Tensor, n_targets: int) -> None:
        self.order = torch.argsort(target, stable=True)
        self.source = source[self.order]
        self.offsets = torch.searchsorted(target[self.order].contiguous(), torch.arange(n_targets))

    def __call__(self, weight: Tensor, state: Tensor) -> Tensor:
        if not len(self.source):
            return state.new_zeros(len(self.offsets), state.shape[1])
        # An order of magnitude faster than a sparse product, whose derivative is dense.
        return F.embedding_bag(self.source, state, self.offsets, mode="sum", per_sample_weights=weight)


class Restricted(nn.Module):
    """h <- f(W h + V x + b) for `STEPS` steps from 0, then y = U h + c.

    f is tanh above 0 and a learned share of it, one for each function, below.

    Args:
        graph: The graph. Its signs are not used: a weight that starts with a wrong one often keeps it.
        seed: Fixes the sizes of the first weights.

    Attributes:
        weight: (E,) of function -> function, input -> function, function -> output edges, each in the graph's order.
    """

    def __init__(self, graph: Graph, seed: int = 0) -> None:
        super().__init__()
        index = graph.edge_index_dict
        self.ends = [index[kind] for kind in EDGE_TYPES]
        self.sizes = [ends.shape[1] for ends in self.ends]
        n_targets = (graph.N, graph.N, graph.O)
        self.bags = [_Bags(ends[0], ends[1], n) for ends, n in zip(self.ends, n_targets, strict=True)]
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
        """Predictions (B, O); the state before each step and the last one; what each step summed: (N, B) each."""
        parts = self.weight.split(self.sizes)
        inner, fed, read = (part[bag.order] for part, bag in zip(parts, self.bags, strict=True))
        drive = self.bags[1](fed, x.t().contiguous()) + self.bias
        state, before, sums = torch.zeros_like(drive), [], []
        for _ in range(STEPS):
            total = self.bags[0](inner, state) + drive
            before.append(state)
            sums.append(total)
            bent = torch.tanh(total)
            state = torch.where(total > 0, bent, self.slope * bent)
        return (self.bags[2](read, state) + self.offset).t(), [*before, state], sums

    @torch.no_grad()
    def signals(self, x: Tensor) -> Tensor:
        """(E, B): what the source of each edge sends at last; an input sends its own value."""
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
        found = []
        for cotangent in cotangents:
            # Without edges between functions only the last step is used.
            credits = torch.autograd.grad(
                (predicted * cotangent).sum(), sums, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            total = torch.stack(credits).sum(0)
            inner = x.new_zeros(len(i0), len(x))
            for credit, state in zip(credits, source, strict=False):
                inner.addcmul_(credit[i1], state[i0])
            given = cotangent.t()
            found.append(torch.cat([inner, total[f1] * fed, given[r1] * source[-1][r0], total, given]))
        return found


def fit_restricted(graph: Graph, x: FloatArray, y: FloatArray, recipe: Recipe, seed: int) -> Restricted:
    """Train a restricted network from scratch.

    Args:
        graph: The graph.
        x: (M, I) inputs.
        y: (M, O) standardised responses, NaN where missing.
        recipe: How.
        seed: Fixes the weights and the order of the samples.
    """
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
