"""Decide on edges together: train all that several methods propose, and keep what the model misses most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gsnn.base.arrays import FloatArray
from gsnn.discovery.methods import METHODS
from gsnn.discovery.retrain import Batches, Scorer, Trained
from gsnn.discovery.stacked.inferer import StackedEdgeInferer, log_score
from gsnn.edges import GradientEdgeInferer
from gsnn.edges.pairs import PriorEdges
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import INPUT_EDGES
from gsnn.nn.losses import masked_mse

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gsnn.graph import Graph
    from gsnn.training import TrainConfig


WATCHED = 1024  # samples at most that measure what an edge is worth
DROPS = 3  # steps in which a pool is cut to its final size


def largest_ablation_cost(model: nn.Module, graph: Graph, pool: Sequence[Edge], batches: Batches, n: int) -> list[Edge]:
    """The edges of a pool whose signal a model misses most.

    The signal of an edge is what it carries beyond its mean over the samples. An edge is muted by putting that mean in
    its place wherever a block reads it; its cost is the rise of the loss. The cheapest edges are muted for good, in
    `DROPS` steps, since two edges that carry the same are both cheap until one of them is gone.

    Args:
        model: A :class:`gsnn.nn.GSNN` trained on ``graph``.
        graph: With the pool among its edges into functions.
        pool: Edges, best first; equal costs leave the first.
        batches: Standardised samples; the last `WATCHED` are used.
        n: How many to choose, at most the number in the pool.

    Returns:
        ``n`` edges in the order of the pool.
    """
    import torch

    from gsnn.edges.capture import isolated, unwrap

    bare: Any = unwrap(model)
    x, y = (torch.cat([batch[k] for batch in batches])[-WATCHED:] for k in range(2))
    # A function edge may stand several times, its copies side by side.
    copies = bare.layout.edge_channels
    between = graph.function_edges
    place = {edge: range(i * copies, (i + 1) * copies) for i, edge in enumerate(between)}
    # Edges from inputs come after those between functions, each once.
    fed = PriorEdges(graph, INPUT_EDGES).edges
    place |= {edge: range(len(between) * copies + i, len(between) * copies + i + 1) for i, edge in enumerate(fed)}

    def loss(muted: Iterable[Edge]) -> float:
        rows = torch.tensor([row for edge in muted for row in place[edge]], dtype=torch.long)

        def mute(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            state = arguments[0].clone()
            state[rows] = state[rows].mean(1, keepdim=True)
            return (state, *arguments[1:])

        # Layers may be one block; a hook for each would mute the same thing again and again.
        hooks = [block.lin_in.register_forward_pre_hook(mute) for block in dict.fromkeys(bare.blocks)]
        try:
            with torch.no_grad():
                return float(masked_mse(bare(x), y))
        finally:
            for hook in hooks:
                hook.remove()

    kept, muted = list(pool), list[Edge]()
    with isolated(bare):
        for step in range(DROPS):
            n_out = (len(kept) - n) // (DROPS - step)
            if n_out:
                cost = {edge: loss([*muted, edge]) for edge in kept}
                # Of edges that cost the same, drop those that were ranked last.
                out = set(sorted(reversed(kept), key=cost.__getitem__)[:n_out])
                muted += [edge for edge in kept if edge in out]
                kept = [edge for edge in kept if edge not in out]
    return kept


def stacked_once(config: TrainConfig, prior: Graph, first: Callable[[], Trained]) -> Scorer:
    """The method 'stacked' over several rounds: it learns from the prior graph, once.

    What it learnt then is added to the logarithm of the present score 'explained'. Learning again in each round would
    cost several trainings, and teach it from edges that were only proposed.

    Args:
        config: Settings of its trainings.
        prior: The graph to learn from.
        first: Trains the model of that graph, if the first model to score is of another one.
    """
    learnt: list[FloatArray] = []

    def score(model: nn.Module, graph: Graph, batches: Batches) -> FloatArray:
        if not learnt:
            teacher = model if graph.function_edges == prior.function_edges else first().read
            inferer = StackedEdgeInferer(teacher, prior, config)
            inferer.fit(batches, masked_mse, verbose=False)
            learnt.append(inferer.score_matrix(score="learnt"))
        gradient = GradientEdgeInferer(model, graph)
        gradient.fit(batches, masked_mse, verbose=False)
        explained = gradient.score_matrix(**METHODS["gradient-explained"].options, null_correction=False)
        return learnt[0] + log_score(explained)

    return score
