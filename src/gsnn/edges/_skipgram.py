"""Skip-gram with negative sampling over pairs of nodes: the loss and one epoch of training."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Pairs = tuple[Tensor, Tensor]


def skip_gram_loss(sources: Tensor, targets: Tensor, positives: Pairs, negatives: Pairs) -> Tensor:
    r"""Logistic loss of true against drawn pairs, each kind averaged on its own.

    .. math::
        -\frac{1}{K_+} \sum_{(h,t) \in +} \log \sigma(s_h^\top t_t)
        -\frac{1}{K_-} \sum_{(h,t) \in -} \log \sigma(-s_h^\top t_t)

    A table of zeros has loss 2 log 2, however many negatives there are. Where the pairs outnumber the N x N cells
    the cells are counted and the loss is taken over cells; the value is the same.

    Args:
        sources: (N, d) vectors of pairs' first nodes.
        targets: (N, d) vectors of their second nodes; the same tensor for a symmetric score.
        positives: int64 (K,), (K,) first and second nodes, at least one pair.
        negatives: The same of the drawn pairs; none is allowed.

    Returns:
        A scalar tensor.

    Example:
        >>> pair = torch.tensor([0]), torch.tensor([1])
        >>> skip_gram_loss(torch.zeros(2, 3), torch.zeros(2, 3), pair, pair).item()
        1.386...
    """
    kinds = [(pairs, sign) for pairs, sign in ((positives, -1.0), (negatives, 1.0)) if len(pairs[0])]
    n_nodes = len(sources)
    if n_nodes * n_nodes <= sum(len(pairs[0]) for pairs, _ in kinds):
        scores = sources @ targets.T
        shares = [_cell_shares(pairs, n_nodes, scores) for pairs, _ in kinds]
        terms = [(share * F.softplus(sign * scores)).sum() for share, (_, sign) in zip(shares, kinds, strict=True)]
    else:
        terms = [
            F.softplus(sign * (F.embedding(pairs[0], sources) * F.embedding(pairs[1], targets)).sum(1)).mean()
            for pairs, sign in kinds
        ]
    return torch.stack(terms).sum()


def _cell_shares(pairs: Pairs, n_nodes: int, like: Tensor) -> Tensor:
    """(N, N) share of the pairs that each cell holds."""
    counts = torch.bincount(pairs[0] * n_nodes + pairs[1], minlength=n_nodes * n_nodes)
    return (counts.to(like.dtype) / len(pairs[0])).view(n_nodes, n_nodes)


def train_epoch(
    pairs: Tensor,
    draw: Callable[[Pairs], Pairs],
    loss_of: Callable[[Pairs, Pairs], Tensor],
    optimiser: torch.optim.Optimizer,
    batch_size: int,
    generator: torch.Generator,
    device: torch.device,
) -> float:
    """Go once through the pairs in a new order.

    Args:
        pairs: int64 (K, 2) positives, on the CPU.
        draw: From a batch of positives to its negatives.
        loss_of: From positives and negatives, on ``device``, to a scalar.
        optimiser: Is stepped once for each batch.
        batch_size: Positives of a batch; the last batch holds the remainder.
        generator: Source of the order, on the CPU.
        device: Where the loss is computed.

    Returns:
        The loss averaged over pairs.
    """
    order = pairs[torch.randperm(len(pairs), generator=generator)]
    total = torch.zeros((), dtype=torch.float64, device=device)
    for batch in order.split(batch_size):
        positives = batch[:, 0], batch[:, 1]
        negatives = draw(positives)
        on_device = [(h.to(device), t.to(device)) for h, t in (positives, negatives)]
        optimiser.zero_grad()
        loss = loss_of(*on_device)
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(batch)
    return float(total) / len(pairs)
