"""Losses that leave out missing targets and stay means over samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def masked_mse(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Mean squared error in which a NaN target contributes nothing.

    .. math:: \frac{1}{B\,O} \sum_{b,o:\; y_{bo}\ \text{observed}} (\hat y_{bo} - y_{bo})^2

    The divisor is B * O and not the number of observed targets, so that the loss of a batch is the mean of the
    losses of its samples: a sample weighs the same whatever batch it is in. Without missing targets it equals
    :class:`torch.nn.MSELoss`.

    Args:
        prediction: (B, O).
        target: (B, O), NaN where nothing was measured.

    Returns:
        A scalar tensor; 0 where nothing was measured at all.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> masked_mse(torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, float("nan")]]))
        tensor(2.)
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must have the same shape (B, O), got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}"
        )
    residual = torch.where(torch.isnan(target), torch.zeros_like(prediction), prediction - target)
    return residual.square().sum() / max(1, target.numel())


class MaskedMSELoss(nn.Module):
    """:func:`masked_mse` as a module.

    Example:
        >>> MaskedMSELoss()(torch.zeros(2, 1), torch.ones(2, 1))
        tensor(1.)
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch; see :func:`masked_mse`."""
        return masked_mse(prediction, target)
