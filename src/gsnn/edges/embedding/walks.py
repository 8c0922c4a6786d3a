"""Random walks on a weighted graph, all at once, and the node pairs that share a window of a walk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gsnn.base.torch_state import one_thread

#: Fills the rest of a walk after a node that it cannot leave.
ENDED = -1


@dataclass(frozen=True)
class WalkGraph:
    """Where a walk can go from each node, and how likely.

    Attributes:
        n_nodes: N.
        starts: int64 (N + 1,), the arcs that leave node i are ``starts[i]:starts[i + 1]``.
        targets: int64 (A,), where each arc goes.
        reach: float64 (A,), i plus the probability of leaving i by this arc or one before it.
    """

    n_nodes: int
    starts: Tensor
    targets: Tensor
    reach: Tensor

    @classmethod
    def build(
        cls, heads: Tensor, tails: Tensor, weights: Tensor, n_nodes: int, *, undirected: bool = True
    ) -> WalkGraph:
        """Arcs with transition probabilities proportional to their weights.

        A repeated arc counts once, with its largest weight; with ``undirected`` an edge and its reverse are the same.
        Self-edges and arcs without a positive weight are left out.

        Arcs go from ``heads`` to ``tails``, int64 (K,); a weight of NaN counts as 0. A node without arcs is allowed.

        Example:
            >>> pair = torch.tensor([0, 0]), torch.tensor([1, 2])
            >>> graph = WalkGraph.build(*pair, torch.tensor([1.0, 3.0]), 3)
            >>> graph.targets.tolist(), graph.reach.tolist()
            ([1, 2, 0, 0], [0.25, 1.0, 2.0, 3.0])
        """
        heads, tails = heads.cpu().long(), tails.cpu().long()
        weights = weights.detach().cpu().double()
        if undirected:
            heads, tails = torch.cat([heads, tails]), torch.cat([tails, heads])
            weights = weights.repeat(2)
        usable = (weights > 0) & (heads != tails)
        arc, place = torch.unique(heads[usable] * n_nodes + tails[usable], return_inverse=True)
        weight = torch.zeros(len(arc), dtype=torch.float64).scatter_reduce_(0, place, weights[usable], "amax")
        source = arc // max(n_nodes, 1)
        degree = torch.bincount(source, minlength=n_nodes)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), degree.cumsum(0)])
        # Weights become shares row by row, so that the running sum over the whole graph loses no small one.
        largest = torch.zeros(n_nodes, dtype=torch.float64).scatter_reduce_(0, source, weight, "amax")
        share = weight / largest[source]
        share /= torch.zeros(n_nodes, dtype=torch.float64).index_add_(0, source, share)[source]
        total = share.cumsum(0)
        before = torch.cat([torch.zeros(1, dtype=torch.float64), total])[starts[:-1]]
        reach = source + (total - before[source]).clamp(max=1.0)
        final = starts[1:][degree > 0] - 1
        reach[final] = source[final].double() + 1
        return cls(n_nodes, starts, arc - source * n_nodes, reach)

    def step(self, nodes: Tensor, uniform: Tensor) -> Tensor:
        """One step of W walks from ``nodes`` (W,), by uniform draws (W,) from [0, 1); ``ENDED`` without an arc."""
        here = nodes.clamp(min=0)
        first, last = self.starts[here], self.starts[here + 1] - 1
        stuck = (nodes < 0) | (last < first)
        if len(self.targets) == 0:
            return torch.full_like(nodes, ENDED)
        arc = torch.searchsorted(self.reach, here + uniform, right=True)
        # here + uniform may round up to the next node's interval.
        arc = torch.minimum(torch.maximum(arc, first), last).clamp(min=0)
        return torch.where(stuck, ENDED, self.targets[arc])


def random_walks(graph: WalkGraph, walks_per_node: int, walk_length: int, generator: torch.Generator) -> Tensor:
    """Walks of ``walk_length`` nodes, start included, from every node at once: int64 (N * walks_per_node, walk_length).

    Walk w starts at node w // walks_per_node; ``ENDED`` follows a node that cannot be left.

    Example:
        >>> ring = WalkGraph.build(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]), torch.ones(3), 3, undirected=False)
        >>> random_walks(ring, 1, 4, torch.Generator().manual_seed(0)).tolist()
        [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2]]
    """
    start = torch.arange(graph.n_nodes).repeat_interleave(walks_per_node)
    walks = torch.empty(walk_length, len(start), dtype=torch.int64)
    walks[0] = start
    with one_thread():
        for position in range(1, walk_length):
            uniform = torch.rand(len(start), dtype=torch.float64, generator=generator)
            walks[position] = graph.step(walks[position - 1], uniform)
    return walks.t()


def window_pairs(walks: Tensor, window_size: int, *, both_ways: bool = True) -> Tensor:
    """All pairs of different nodes at most ``window_size`` places apart in a walk, (pairs, 2), one row per occurrence.

    Each pair comes in both orders, or with ``both_ways=False`` only as (earlier, later).

    Example:
        >>> window_pairs(torch.tensor([[0, 1, 0]]), 2).tolist()
        [[0, 1], [1, 0], [1, 0], [0, 1]]
    """
    parts = [torch.empty(0, 2, dtype=torch.int64)]
    for distance in range(1, min(window_size, walks.shape[1] - 1) + 1):
        earlier, later = walks[:, :-distance].flatten(), walks[:, distance:].flatten()
        keep = (earlier >= 0) & (later >= 0) & (earlier != later)
        parts.append(torch.stack([earlier[keep], later[keep]], dim=1))
    pairs = torch.cat(parts)
    return torch.cat([pairs, pairs.flip(1)]) if both_ways else pairs


class NegativeSampler:
    """Draws, for a node, uniformly among the nodes that it has no positive pair with.

    The r-th allowed node is looked up directly, so no draw is repeated; the distribution is that of repeating every
    draw that is not allowed.

    Args:
        blocked: bool (N, N), True where the pair must not be drawn. A node is never drawn for itself.
        generator: Source of the draws, on the CPU.

    Example:
        >>> sampler = NegativeSampler(torch.tensor([[0, 1, 0]] * 3).bool(), torch.Generator().manual_seed(0))
        >>> row, negative = sampler.draw(torch.tensor([0, 1]), 2)
        >>> row.tolist(), negative.tolist()
        ([0, 0, 1, 1], [2, 2, 0, 2])
    """

    def __init__(self, blocked: Tensor, generator: torch.Generator) -> None:
        n = len(blocked)
        row, column = (blocked.cpu() | torch.eye(n, dtype=torch.bool)).nonzero(as_tuple=True)
        degree = torch.bincount(row, minlength=n)
        self._starts = degree.cumsum(0) - degree
        self._free = n - degree
        # Before the k-th blocked node of its row there are (column - k) allowed ones.
        self._keys = row * n + column - (torch.arange(len(row)) - self._starts[row])
        self._n, self._generator = n, generator

    def draw(self, nodes: Tensor, n_negatives: int) -> tuple[Tensor, Tensor]:
        """``n_negatives`` allowed nodes for each of ``nodes`` (B,).

        Returns:
            int64 (K,) which of the B nodes each negative belongs to, ascending, and (K,) the negatives; K is
            B * ``n_negatives`` without those of nodes that have a positive pair with every other node.
        """
        row, free = torch.arange(len(nodes)), self._free[nodes]
        if not bool(free.all()):
            row = row[free > 0]
            nodes, free = nodes[row], free[row]
        uniform = torch.rand(len(nodes), n_negatives, dtype=torch.float64, generator=self._generator)
        place = torch.minimum((uniform * free[:, None]).long(), free[:, None] - 1)
        keys = place + (nodes * self._n)[:, None]
        passed = torch.searchsorted(self._keys, keys, right=True) - self._starts[nodes][:, None]
        return row.repeat_interleave(n_negatives), (place + passed).flatten()
