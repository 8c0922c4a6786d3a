"""Activations and per-sample loss gradients at the taps of a GSNN, leaving the model as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from gsnn._turns import own_random_state
from gsnn.errors import unknown_option
from gsnn.losses import masked_mse

Criterion = Callable[[Tensor, Tensor], Tensor]
ForwardOptions = Mapping[str, Any] | Callable[[tuple[Any, ...]], Mapping[str, Any]] | None

TAPS = ("pre", "post")
REDUCTIONS = ("mean", "sum")


class Tapped(Protocol):
    """What capture asks of a model: shapes, and the one door to its taps."""

    N: int
    I: int  # noqa: E741 - the fixed letter for inputs
    O: int  # noqa: E741 - the fixed letter for outputs
    L: int
    channel_node: Tensor

    def forward_with_taps(self, x: Tensor, *, detach_parameters: bool = False, **options: Any) -> Tensor:  # noqa: ANN401
        """The forward pass, calling ``pre`` or ``post`` with (l, (N*C, B)) in every block."""


@dataclass(frozen=True)
class Capture:
    """What one batch left at the taps of every block.

    Attributes:
        activations: L tensors (N*C, B), channels of a node contiguous.
        gradients: L tensors (N*C, B): for each sample the gradient of its own loss, whatever batch it was in. A tap
            the loss does not depend on has gradient 0.
        channel_node: (N*C,) int64, the node of each channel.
        n_nodes: N.
        loss: The loss of the batch as the criterion gave it.
    """

    activations: list[Tensor]
    gradients: list[Tensor]
    channel_node: Tensor
    n_nodes: int
    loss: float

    def __len__(self) -> int:
        """B, the number of samples."""
        return int(self.activations[0].shape[1])

    def node_norms(self, values: Tensor, reduction: str) -> Tensor:
        """Magnitude of each node: the norm of ``values`` over the node's channels.

        Args:
            values: (N*C, B), one of ``activations`` or ``gradients``.
            reduction: ``'l1'`` or ``'l2'``.

        Returns:
            (N, B).
        """
        return node_norms(values, self.channel_node, self.n_nodes, reduction)


def node_norms(values: Tensor, channel_node: Tensor, n_nodes: int, reduction: str) -> Tensor:
    """Norm over the channels of each node.

    Args:
        values: (N*C, B).
        channel_node: (N*C,) int64, the node of each channel; nodes may differ in their number of channels.
        n_nodes: N.
        reduction: ``'l1'`` (sum of absolute values) or ``'l2'``.

    Returns:
        (N, B).

    Raises:
        ValueError: If ``reduction`` is unknown.

    Example:
        >>> node_norms(torch.tensor([[3.0], [-4.0]]), torch.tensor([0, 0]), 1, "l2")
        tensor([[5.]])
    """
    if reduction not in ("l1", "l2"):
        raise unknown_option("reduction", reduction, ("l1", "l2"))
    if reduction == "l1":
        return _sum_channels(values.abs(), channel_node, n_nodes)
    # Squares of small gradients underflow, those of large ones overflow.
    largest = values.abs().amax() if values.numel() else values.new_zeros(())
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))
    return _sum_channels((values / scale).square_(), channel_node, n_nodes).sqrt_().mul_(scale)


def _sum_channels(values: Tensor, channel_node: Tensor, n_nodes: int) -> Tensor:
    channels, rest = divmod(len(values), max(n_nodes, 1))
    # Channels are contiguous by node, so equal counts show in the first and last channel of every node.
    if not rest and channels and torch.equal(channel_node[::channels], channel_node[channels - 1 :: channels]):
        # A sum and no vector_norm, which takes a hundred times longer over an inner dimension.
        return values.view(n_nodes, channels, -1).sum(1)
    return values.new_zeros(n_nodes, values.shape[1]).index_add_(0, channel_node, values)


def unwrap(model: nn.Module) -> nn.Module:
    """The GSNN inside a compiled (``torch.compile``) or data-parallel wrapper.

    Args:
        model: A GSNN, or a wrapper around one.

    Returns:
        The model itself, sharing its parameters.

    Raises:
        TypeError: If there is no model with taps inside.
    """
    inner = model
    while True:
        # A compiled model passes attributes through, so having the door is no sign of being the model itself.
        wrapped = getattr(inner, "_orig_mod", None)
        if wrapped is None and not hasattr(inner, "forward_with_taps"):
            wrapped = getattr(inner, "module", None)
        if not isinstance(wrapped, nn.Module):
            break
        inner = wrapped
    if not hasattr(inner, "forward_with_taps"):
        raise TypeError(f"model must be a gsnn.nn.GSNN, got {type(model).__name__}, which has no forward_with_taps")
    return inner


def tapped(model: nn.Module) -> Tapped:
    """:func:`unwrap`, as the protocol that capture uses."""
    return cast(Tapped, unwrap(model))


@contextmanager
def isolated(model: nn.Module, device: torch.device | str | None = None) -> Iterator[torch.device]:
    """Evaluate a model and leave no trace: modes, device and random state come back, also after an exception.

    Inside, every submodule is in eval mode (so norms do not touch their running statistics), gradients are enabled
    even under ``torch.no_grad`` or ``torch.inference_mode``, and autocast is off. Threads take turns, so that a model
    may be shared by several; a training loop of the caller's own in another thread is not held up, and must not run at
    the same time.

    Args:
        model: The model.
        device: Where to run; None stays where the model is.

    Yields:
        The device the model is on.
    """
    home = next((p.device for p in model.parameters()), torch.device("cpu"))
    there = home if device is None else torch.device(device)
    moved = there.type != home.type or (there.index is not None and there.index != home.index)
    cuda = sorted({d.index or 0 for d in (home, there) if d.type == "cuda"})
    with ExitStack() as stack:
        stack.enter_context(own_random_state(cuda))
        modes = [(module, module.training) for module in model.modules()]
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(there.type, enabled=False))
        try:
            if moved:  # pragma: no cover - needs a GPU
                model.to(there)
            model.eval()
            yield there
        finally:
            for module, training in modes:
                module.training = training
            if moved:  # pragma: no cover - needs a GPU
                model.to(home)


class LossScale:
    """The factor that turns gradients of a batch's loss into gradients of each sample's own loss.

    A loss that is a mean over samples has gradients 1/B too small; a sum needs no factor. Which of them a criterion
    is, is found by comparing its value on the first batch of two or more rows with its values on the two halves,
    and then remembered.

    Args:
        loss_reduction: ``'mean'`` or ``'sum'`` to say so, None to find out.

    Raises:
        ValueError: If ``loss_reduction`` is not one of these.

    Example:
        >>> scale = LossScale()
        >>> y = torch.tensor([[1.0], [2.0], [4.0]])
        >>> scale.factor(torch.nn.MSELoss(), torch.zeros(3, 1), y), scale.reduction
        (3.0, 'mean')
    """

    def __init__(self, loss_reduction: str | None = None) -> None:
        if loss_reduction is not None and loss_reduction not in REDUCTIONS:
            raise unknown_option("loss_reduction", loss_reduction, REDUCTIONS)
        self.reduction = loss_reduction

    def factor(self, crit: Criterion, prediction: Tensor, target: Tensor) -> float | None:
        """B for a mean over samples, 1 for a sum, None if this batch cannot tell.

        A single row needs no factor. A batch cannot tell when the two answers agree, as for a loss of 0.

        Args:
            crit: The criterion.
            prediction: (B, O).
            target: (B, O), without NaN.

        Raises:
            ValueError: If the loss is neither a mean nor a sum over samples.
        """
        n = len(prediction)
        if n == 1:
            return 1.0
        if self.reduction is None:
            self.reduction = self._detect(crit, prediction.detach(), target.detach())
        return None if self.reduction is None else float(n) if self.reduction == "mean" else 1.0

    @staticmethod
    def _detect(crit: Criterion, prediction: Tensor, target: Tensor) -> str | None:
        n, half = len(prediction), len(prediction) // 2
        with torch.no_grad():
            whole = float(crit(prediction, target))
            first, second = float(crit(prediction[:half], target[:half])), float(crit(prediction[half:], target[half:]))
        mean = (half * first + (n - half) * second) / n
        # Halves may cancel, so the tolerance goes by their sizes and not by the loss.
        tolerance = 10 * torch.finfo(prediction.dtype).eps ** 0.5 * (abs(first) + abs(second))
        is_mean, is_sum = abs(whole - mean) <= tolerance, abs(whole - first - second) <= tolerance
        if is_mean and is_sum:
            return None
        if is_mean or is_sum:
            return "mean" if is_mean else "sum"
        raise ValueError(
            f"crit is neither a mean nor a sum over samples: {whole:.6g} on {n} rows, {first:.6g} on the first {half} "
            f"and {second:.6g} on the rest; per-sample gradients need one of the two. Use a criterion that is, or pass "
            "loss_reduction='mean' or 'sum' to say how its gradient scales with the batch"
        )


def capture(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    crit: Criterion | None = None,
    *,
    where: str = "pre",
    loss_reduction: str | LossScale | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> Capture:
    """One forward and backward pass in eval mode; activations and per-sample gradients at every block's tap.

    Nothing of the model changes: parameters, their gradients, requires_grad, modes, buffers, hooks, device, random
    state. It works with frozen parameters, under ``torch.no_grad`` and on a ``torch.compile`` wrapper.

    A missing target (NaN) is left out of the loss: the prediction stands in for it, cut off from the gradient, so
    that a criterion of the user's never meets a NaN; an elementwise criterion then still divides by all B * O.

    Args:
        model: A GSNN.
        x: (B, I) inputs.
        y: (B, O) targets, NaN where missing.
        crit: ``crit(prediction, target)`` gives a scalar, a mean or a sum over samples; None for
            :func:`gsnn.losses.masked_mse`.
        where: ``'pre'``, the tap before the norm, or ``'post'``, after nonlinearity and gates.
        loss_reduction: ``'mean'``, ``'sum'``, None to find out, or the :class:`LossScale` of earlier batches.
        model_kwargs: More arguments of the model's forward, such as masks.
        device: Where to run; None stays where the model is.

    Returns:
        The capture, detached, on that device.

    Raises:
        ValueError: If x or y has the wrong width, ``where`` is unknown, the loss is not finite, or is neither a mean
            nor a sum over samples.
        TypeError: If the model has no taps, or ``crit`` returns no scalar tensor.

    Example:
        >>> from gsnn.nn import GSNN
        >>> from gsnn.graph import Graph
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> model = GSNN.from_graph(graph, channels=3, layers=2)
        >>> seen = capture(model, torch.ones(5, 1), torch.zeros(5, 1))
        >>> len(seen.gradients), seen.gradients[1].shape
        (2, torch.Size([6, 5]))
    """
    if where not in TAPS:
        raise unknown_option("where", where, TAPS)
    scale = loss_reduction if isinstance(loss_reduction, LossScale) else LossScale(loss_reduction)
    inner = unwrap(model)
    gsnn = cast(Tapped, inner)
    check_batch(gsnn, x, y)
    taps: list[Tensor] = []

    def record(_: int, value: Tensor) -> Tensor:
        if not value.requires_grad:
            # The first tap may depend on nothing that takes a gradient; from here on everything depends on it.
            value = value.detach().requires_grad_()
        taps.append(value)
        return value

    with isolated(inner, device) as there:
        dtype = next((p.dtype for p in inner.parameters()), x.dtype)
        # Clones, because tensors made under inference_mode cannot enter a graph.
        x, y = _plain(x).to(there, dtype), _plain(y).to(there)
        y = y.to(dtype) if y.is_floating_point() else y
        options = {k: _to(_plain(v), there) for k, v in (model_kwargs or {}).items()}
        prediction = gsnn.forward_with_taps(x, detach_parameters=True, **{where: record}, **options)
        factor: float | None
        if crit is None:
            loss, factor = masked_mse(prediction, y), float(len(x))
        else:
            prediction, y = _without_missing(prediction, y)
            loss = crit(prediction, y)
            _check_loss(loss)
            # A user function may hold randomness or parameters of its own; the model is all that is differentiated.
            factor = scale.factor(crit, prediction, y) if torch.isfinite(loss) else 1.0
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is {loss.item()}; check the inputs, the targets and the model for NaN or inf")
        gradients = _gradients(loss, taps)
        if factor is None:
            if any(bool(g.any()) for g in gradients):
                raise ValueError(
                    f"cannot tell whether crit is a mean or a sum over samples: it gave {loss.item():.6g} on these "
                    f"{len(x)} rows; pass loss_reduction='mean' or 'sum'"
                )
            factor = 1.0
        if factor != 1.0:
            gradients = [g.mul_(factor) for g in gradients]
        return Capture([t.detach() for t in taps], gradients, gsnn.channel_node.to(there), gsnn.N, loss.item())


@dataclass(frozen=True)
class Batch:
    """One batch of a loader: x (B, I), y (B, O), further forward arguments, and its number, from 0."""

    x: Tensor
    y: Tensor
    model_kwargs: Mapping[str, Any]
    index: int


def iterate_batches(
    loader: Iterable[Any], model_kwargs: ForwardOptions = None, *, name: str = "dataloader"
) -> Iterator[Batch]:
    """The batches of a loader that yields (x, y) or tuples with more items.

    Args:
        loader: What yields them.
        model_kwargs: Arguments of the model's forward: the same for every batch, or a function of the whole batch
            tuple that returns them. Without it, items after the second are ignored.
        name: What to call the loader in errors.

    Yields:
        The batches.

    Raises:
        TypeError: If a batch is no (x, y, ...) of tensors.
        ValueError: If there is no batch at all.

    Example:
        >>> [b.index for b in iterate_batches([(torch.zeros(2, 1), torch.zeros(2, 1))])]
        [0]
    """
    index = -1
    for index, items in enumerate(loader):
        if not isinstance(items, tuple | list) or len(items) < 2 or not all(isinstance(t, Tensor) for t in items[:2]):
            raise TypeError(f"batch {index} of {name} must be (x, y, ...) of tensors, got {_describe(items)}")
        extra = model_kwargs(tuple(items)) if callable(model_kwargs) else model_kwargs or {}
        yield Batch(items[0], items[1], extra, index)
    if index < 0:
        raise ValueError(
            f"{name} is empty: it yielded no batch (with drop_last=True, fewer samples than one batch leave none)"
        )


@contextmanager
def naming_batch(index: int) -> Iterator[None]:
    """Put the number of the batch before the message of a ValueError or TypeError raised inside."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if type(error) in (ValueError, TypeError):
            raise type(error)(f"batch {index}: {error}") from error
        raise


def _gradients(loss: Tensor, taps: list[Tensor]) -> list[Tensor]:
    if not loss.requires_grad:
        return [torch.zeros_like(t) for t in taps]
    found = torch.autograd.grad(loss, taps, allow_unused=True, materialize_grads=True)
    return [g.detach() for g in found]


def _without_missing(prediction: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if not y.is_floating_point():
        return prediction, y
    missing = torch.isnan(y)
    if not missing.any():
        return prediction, y
    if y.shape != prediction.shape:
        raise ValueError(f"y has NaN and shape {tuple(y.shape)}; with missing targets it must be (B, O)")
    held = prediction.detach()
    return torch.where(missing, held, prediction), torch.where(missing, held, y)


def check_batch(gsnn: Tapped, x: Tensor, y: Tensor) -> None:
    """Refuse samples that do not go with a model.

    Args:
        gsnn: The model.
        x: (B, I) inputs.
        y: (B, O) targets.

    Raises:
        ValueError: If a width is wrong, the numbers of rows differ, or there is none.
    """
    for name, value, width in (("x", x, gsnn.I), ("y", y, gsnn.O)):
        letter = "I" if name == "x" else "O"
        if value.ndim != 2 or value.shape[1] != width:
            raise ValueError(f"{name} must have shape (B, {letter}) = (B, {width}), got {tuple(value.shape)}")
    if len(x) != len(y):
        raise ValueError(f"x and y must have as many rows, got {len(x)} and {len(y)}")
    if len(x) == 0:
        raise ValueError("x and y hold no samples")


def _check_loss(loss: object) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise TypeError(f"crit must return a scalar tensor, got {shape}; use reduction='mean' or 'sum'")


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever forward takes
    if isinstance(value, Tensor):
        return value.detach().clone() if value.is_inference() else value.detach()
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    return value


def _to(value: Any, device: torch.device) -> Any:  # noqa: ANN401 - whatever forward takes
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list | tuple):
        return type(value)(_to(v, device) for v in value)
    return value


def _describe(items: object) -> str:
    if isinstance(items, tuple | list):
        return f"{type(items).__name__} of ({', '.join(type(i).__name__ for i in items)})"
    return type(items).__name__
