"""Skip-gram with negative sampling over pairs of nodes: the loss and one epoch of training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Pairs = tuple[Tensor, Tensor]
Draw = Callable[[Tensor], tuple[Tensor, Tensor]]

# Pairs drawn or counted at a time.
_GROUP_PAIRS = 2**19


def skip_gram_loss(sources: Tensor, targets: Tensor, positives: Pairs, negatives: Pairs) -> Tensor:
    r"""Logistic loss of true against drawn pairs, each kind averaged on its own.

    .. math::
        -\frac{1}{K_+} \sum_{(h,t) \in +} \log \sigma(s_h^\top t_t)
        -\frac{1}{K_-} \sum_{(h,t) \in -} \log \sigma(-s_h^\top t_t)

    A table of zeros has loss 2 log 2, however many negatives there are.

    Args:
        sources: (N, d) vectors of pairs' first nodes.
        targets: (N, d) vectors of their second nodes; the same tensor for a symmetric score.
        positives: int64 (K,), (K,) first and second nodes, at least one pair.
        negatives: The same of the drawn pairs; without any, their term is left out.

    Example:
        >>> pair = torch.tensor([0]), torch.tensor([1])
        >>> skip_gram_loss(torch.zeros(2, 3), torch.zeros(2, 3), pair, pair).item()
        1.386...
    """
    loss = sources.new_zeros(())
    for (first, second), sign in ((positives, -1.0), (negatives, 1.0)):
        if len(first):
            score = (F.embedding(first, sources) * F.embedding(second, targets)).sum(1)
            loss = loss + F.softplus(sign * score).mean()
    return loss


def cell_loss(sources: Tensor, targets: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """:func:`skip_gram_loss` from the numbers (N, N) of true and of drawn pairs in each cell (h, t).

    It is faster if pairs outnumber cells.

    Example:
        >>> counts = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
        >>> cell_loss(torch.zeros(2, 3), torch.zeros(2, 3), counts, counts).item()
        1.386...
    """
    score = sources @ targets.T
    loss = (F.softplus(-score) * positives).sum() / positives.sum()
    return loss + (F.softplus(score) * negatives).sum() / negatives.sum().clamp(min=1)


def train_epoch(
    pairs: Tensor,
    draw: Draw,
    n_drawn: int,
    tables: Callable[[], tuple[Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    batch_size: int,
    generator: torch.Generator,
) -> float:
    """Train on all pairs once, in a new order.

    Args:
        pairs: int64 (K, 2) positives, on the CPU.
        draw: From positives (G, 2) to the row each negative belongs to (D,) and the negatives (D, 2).
        n_drawn: Most negatives of a positive.
        tables: Returns (N, d) vectors of first and of second nodes.
        optimiser: Takes a step for each batch.
        batch_size: Positives of a batch; the last batch holds the remainder.
        generator: Source of the order, on the CPU.

    Returns:
        The loss averaged over pairs.
    """
    order = pairs[torch.randperm(len(pairs), generator=generator)]
    n_nodes, device = len(tables()[0]), tables()[0].device
    by_cell = n_nodes**2 <= min(batch_size, len(pairs)) * (1 + n_drawn)
    # Draw for many batches at once, since a few large operations cost less than many small ones.
    group = batch_size * (max(1, _GROUP_PAIRS // (batch_size * (1 + n_drawn))) if by_cell else 1)
    total = torch.zeros((), dtype=torch.float64, device=device)
    for positives in order.split(group):
        row, negatives = draw(positives)
        losses: list[Callable[..., Tensor]]
        if by_cell:
            n_batches = -(-len(positives) // batch_size)
            of = torch.arange(len(positives))
            true, drawn = (
                _count(rows // batch_size, p, n_batches, n_nodes).to(device).unbind()
                for rows, p in ((of, positives), (row, negatives))
            )
            losses = [partial(cell_loss, positives=t, negatives=d) for t, d in zip(true, drawn, strict=True)]
        else:
            true, drawn = ((p[:, 0].to(device), p[:, 1].to(device)) for p in (positives, negatives))
            losses = [partial(skip_gram_loss, positives=true, negatives=drawn)]
        for loss_of, batch in zip(losses, positives.split(batch_size), strict=True):
            optimiser.zero_grad()
            loss = loss_of(*tables())
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(batch)
    return float(total) / len(pairs)


def _count(batch: Tensor, pairs: Tensor, n_batches: int, n_nodes: int) -> Tensor:
    """(n_batches, N, N) how often each cell occurs in each batch."""
    cell = (batch * n_nodes + pairs[:, 0]) * n_nodes + pairs[:, 1]
    return torch.bincount(cell, minlength=n_batches * n_nodes**2).view(n_batches, n_nodes, n_nodes)
