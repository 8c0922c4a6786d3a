"""Whether a loss is a mean or a sum over samples, which sets the scale of each sample's gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gsnn.base.errors import check_option
from gsnn.nn.losses import MaskedMSELoss, masked_mse

Criterion = Callable[[Tensor, Tensor], Tensor]

REDUCTIONS = ("mean", "sum")

# Roundings by which a gradient may be off: far more than summing in another order causes, far less than a loss of the
# whole batch does.
_ROUNDINGS = 1000


class LossScale:
    """The factor that turns gradients of a batch's loss into gradients of each sample's own loss.

    The gradients of a mean over samples are 1/B of those of each sample; a sum needs no factor. The gradient by the
    prediction shows which of them a criterion is: on the rows of a part of the batch, the gradient of the whole batch
    is that of the part alone for a sum, and n_part / B times it for a mean. Every batch is split into two parts of
    unequal size (the third of the rows with the largest gradients, and the rest), and both must follow one rule, the
    same in all batches, up to rounding. Any other loss has no gradients of single samples: a root of a mean, a
    correlation, a mean over a varying number or weight of observed values, a loss with randomness of its own.

    Args:
        loss_reduction: ``'mean'`` or ``'sum'`` skips the check; None finds out.

    Attributes:
        reduction: ``'mean'`` or ``'sum'``; None until a batch has shown it.

    Raises:
        ValueError: If ``loss_reduction`` is not one of these.

    Example:
        >>> scale = LossScale()
        >>> y = torch.tensor([[1.0], [2.0], [4.0]])
        >>> scale.factor(torch.nn.MSELoss(), torch.zeros(3, 1), y), scale.reduction
        (3.0, 'mean')
        >>> LossScale().factor(lambda p, t: (p - t).square().mean().sqrt(), torch.zeros(3, 1), y)
        Traceback (most recent call last):
        ...
        ValueError: crit is neither a mean nor a sum over samples: ...
    """

    def __init__(self, loss_reduction: str | None = None) -> None:
        if loss_reduction is not None:
            check_option("loss_reduction", loss_reduction, REDUCTIONS)
        self.reduction = loss_reduction
        self._declared = loss_reduction is not None

    def factor(
        self, crit: Criterion, prediction: Tensor, target: Tensor, gradient: Tensor | None = None
    ) -> float | None:
        """B for a mean over samples, 1 for a sum, None if this batch does not tell, because all gradients are 0.

        A single row needs no factor.

        Args:
            crit: The criterion.
            prediction: (B, O).
            target: (B, O), without NaN.
            gradient: (B, O), that of the loss by the prediction; computed if None.

        Raises:
            ValueError: If the loss is neither a mean nor a sum over samples.
        """
        n = len(prediction)
        if n == 1:
            return 1.0
        if not self._declared:
            # The package's own loss needs no check.
            ours = crit is masked_mse or type(crit) is MaskedMSELoss
            reduction = "mean" if ours else self._detect(crit, prediction.detach(), target.detach(), gradient)
            if reduction is None:
                return None
            self.reduction = reduction
        return float(n) if self.reduction == "mean" else 1.0

    def _detect(self, crit: Criterion, prediction: Tensor, target: Tensor, gradient: Tensor | None) -> str | None:
        if torch.finfo(prediction.dtype).bits < 32:
            # The rounding of half precision would hide nearly any difference.
            prediction, gradient = prediction.float(), None
            target = target.float() if target.is_floating_point() else target
        n, dtype = len(prediction), prediction.dtype
        if gradient is None:
            gradient, dtype = _gradient_by_prediction(crit, prediction, target)
        if not bool(torch.isfinite(gradient).all()):
            raise ValueError(
                "crit has a gradient by the prediction that is infinite or NaN, though the loss is finite; use a "
                "criterion that is differentiable at every prediction (a root of 0 is not)"
            )
        allowed = [self.reduction] if self.reduction is not None else list(REDUCTIONS)
        misfit = dict.fromkeys(allowed, 0.0)
        informative = bool(gradient.any())
        size = gradient.reshape(n, -1).abs().sum(1)
        order = torch.argsort(size, descending=True, stable=True)
        cut = n // 3 if n >= 6 else max(1, (n - 1) // 2)  # never half of more than two rows
        eps = torch.finfo(dtype).eps
        for part in (order[:cut].sort().values, order[cut:].sort().values):
            try:
                alone, dtype = _gradient_by_prediction(crit, prediction[part], target[part])
            except (RuntimeError, ValueError, IndexError) as error:
                raise ValueError(
                    f"crit failed on {len(part)} of the {n} rows of a batch, on which it is tried to find out whether "
                    f"it is a mean or a sum over samples: {error}. Use a criterion that takes any number of rows, or "
                    "pass loss_reduction='mean' or 'sum'"
                ) from error
            eps = max(eps, torch.finfo(dtype).eps)
            informative = informative or bool(alone.any())
            inside = gradient[part]
            for name in allowed:
                expected = alone * (len(part) / n) if name == "mean" else alone
                largest = torch.maximum(inside.abs().amax(), expected.abs().amax())
                difference = (inside - expected).abs().amax()
                # Two zeros agree; NaN in one part does not.
                misfit[name] = max(misfit[name], _ratio(difference, largest))
        if not informative:
            return None
        best = min(misfit, key=misfit.__getitem__)
        if misfit[best] <= _ROUNDINGS * eps:
            return best
        before = f", as in earlier batches, where it was a {self.reduction}" if self.reduction is not None else ""
        raise ValueError(
            f"crit is neither a mean nor a sum over samples{before}: on parts of a batch of {n} rows, the gradient by "
            f"the prediction is off by {misfit[best]:.2g} of its size from that of a {best}; per-sample gradients need "
            "one of the two. Use a criterion that is, such as a sum of squares in place of a root of a mean, a "
            "correlation, or a mean over the values that happen to be observed; or pass loss_reduction='mean' or "
            "'sum' to say how its gradient scales with the batch, on which scores then depend"
        )


def _ratio(difference: Tensor, largest: Tensor) -> float:
    if not bool(torch.isfinite(difference)):
        return float("inf")
    return float(difference / largest) if bool(largest) else 0.0


def _gradient_by_prediction(crit: Criterion, prediction: Tensor, target: Tensor) -> tuple[Tensor, torch.dtype]:
    """Gradient (B, O) of the loss, 0 where it has none, and the precision of the loss."""
    with torch.enable_grad():
        prediction = prediction.detach().clone().requires_grad_()
        loss = crit(prediction, target)
        check_loss(loss)
        if not loss.requires_grad:
            return torch.zeros_like(prediction), loss.dtype
        (gradient,) = torch.autograd.grad(loss, prediction, allow_unused=True, materialize_grads=True)
    return gradient, loss.dtype


def check_loss(loss: object) -> None:
    """Raise a TypeError unless a criterion returned a scalar tensor."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise TypeError(f"crit must return a scalar tensor, got {shape}; use reduction='mean' or 'sum'")
