"""The effect of adding an edge to a restricted network on its predictions, after a short training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.discovery.auditing.closing import batches
from gsnn.discovery.auditing.restricted import Recipe, Restricted, train_restricted
from gsnn.graph import EDGE_TYPES, NODE_TYPES, Graph
from gsnn.graph.kinds import edge_type

_TOGETHER = 6000  # edges of the copies that train at once: few large copies, many small ones
_FEWEST, _MOST = 4, 31  # copies
_START = 0.1  # of the usual first weight, for the edge that is opened and for edges whose weight is 0


@dataclass(frozen=True, eq=False)
class Opened:
    """The effect of opening each of some edges.

    Attributes:
        errors: (edges, M) sums of squared errors of the held-out samples.
        without: (edges, M) those of a copy that was trained on in the same way, without the edge.
        weights: (edges,) the weight that the edge gets.
    """

    errors: FloatArray
    without: FloatArray
    weights: FloatArray


def copies_with(net: Restricted, graph: Graph, edges: Sequence[tuple[str, str, str]]) -> tuple[Restricted, IntArray]:
    """Copies of a network side by side: one as it is, then one with each edge added.

    Args:
        net: The network.
        graph: Its graph.
        edges: Kind, source and target of edges that the graph lacks.

    Returns:
        The network of all copies, and the numbers of the edges among its weights. New edges have the weight 0.
    """
    names, index, n = graph.node_names_dict, graph.edge_index_dict, 1 + len(edges)
    place = {kind: {name: i for i, name in enumerate(names[kind])} for kind in NODE_TYPES}
    ends: dict[tuple[str, str, str], torch.Tensor] = {}
    weights, places, start = [], np.zeros(len(edges), dtype=np.int64), 0
    for kind, known in zip(EDGE_TYPES, net.weight.detach().split(net.sizes), strict=True):
        parts = []
        for copy in range(n):
            step = torch.tensor([[copy * len(names[kind[0]])], [copy * len(names[kind[2]])]])
            parts.append(index[kind] + step)
            weights.append(known)
            start += len(known)
            if copy and edge_type(edges[copy - 1][0]) == kind:
                source, target = edges[copy - 1][1:]
                parts.append(torch.tensor([[place[kind[0]][source]], [place[kind[2]][target]]]) + step)
                weights.append(torch.zeros(1))
                places[copy - 1] = start
                start += 1
        ends[kind] = torch.cat(parts, 1)
    many = {kind: [f"{copy}|{name}" for copy in range(n) for name in names[kind]] for kind in NODE_TYPES}
    wide = Restricted(Graph(ends, many))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            dict(wide.named_parameters())[name].copy_(
                torch.cat(weights) if name == "weight" else parameter.repeat(n, 1)
            )
    return wide.eval(), places


def opened_errors(
    net: Restricted,
    graph: Graph,
    edges: Sequence[tuple[str, str, str]],
    train: tuple[FloatArray, FloatArray],
    held: tuple[FloatArray, FloatArray],
    recipe: Recipe,
    seed: int = 0,
) -> Opened:
    """Squared errors of held-out samples for each edge, with the edge opened and the network trained on for a while.

    Many copies train side by side: one as it is and one for each edge, on the same batches, so their losses are paired.
    Sparsity closes edges for good that had nothing to carry, such as those of a source that no input reached. So all
    edges whose weight is 0 start again with a tenth of the usual weight, in every copy, like the edge that is opened.

    Args:
        net: The network.
        graph: Its graph.
        edges: Kind, source and target of edges that the graph lacks.
        train: Inputs and responses for the training.
        held: Inputs and responses for the errors.
        recipe: Of the short training.
        seed: Fixes its batches.
    """
    if not edges:
        nothing = np.zeros((0, len(held[0])))
        return Opened(nothing, nothing, np.zeros(0))
    errors, without, weights = [], [], []
    size = max(_FEWEST, min(_MOST, _TOGETHER // max(1, graph.E))) - 1
    for begin in range(0, len(edges), size):
        some = edges[begin : begin + size]
        wide, places = copies_with(net, graph, some)
        n = 1 + len(some)
        with torch.no_grad():
            first = _START * wide.first_weights()
            wide.weight.copy_(torch.where(wide.weight == 0, first, wide.weight))
        x, y = (np.tile(values, (1, n)) for values in train)
        train_restricted(wide, x, y, recipe, seed)
        each = _errors(wide, *held, n)
        errors.append(each[1:])
        without.append(np.repeat(each[:1], len(some), 0))
        weights.append(wide.weight.detach()[torch.from_numpy(places)].double().numpy())
    return Opened(np.concatenate(errors), np.concatenate(without), np.concatenate(weights))


@torch.no_grad()
def _errors(wide: Restricted, x: FloatArray, y: FloatArray, n: int) -> FloatArray:
    """(n, M) sums of squared errors of each copy."""
    errors = []
    for inputs, responses, seen in batches(x, y):
        predicted = wide(inputs.repeat(1, n)).view(len(inputs), n, -1)
        errors.append(((responses[:, None] - predicted) * seen[:, None]).square().sum(2).T.double().numpy())
    return np.concatenate(errors, 1)
