"""Activations and per-sample loss gradients at the taps of a GSNN; the model is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gsnn.base.errors import check_option
from gsnn.base.torch_state import own_random_state, threads_for
from gsnn.edges.loss_scale import Criterion as Criterion
from gsnn.edges.loss_scale import LossScale as LossScale
from gsnn.edges.loss_scale import check_loss
from gsnn.nn.block import Recorder
from gsnn.nn.losses import masked_mse

ForwardOptions = Mapping[str, Any] | Callable[[tuple[Any, ...]], Mapping[str, Any]] | None

# Reduces the absolute values of a tap (N*C, B) to what is kept.
Reduce = Callable[[Tensor], Tensor]

TAPS = ("pre", "post")


class Tapped(Protocol):
    """What capture needs of a model: shapes, and the forward pass that shows its taps."""

    N: int
    I: int  # noqa: E741 - the fixed letter for inputs
    O: int  # noqa: E741 - the fixed letter for outputs
    L: int
    channel_node: Tensor

    def forward_with_taps(self, x: Tensor, *, detach_parameters: bool = False, **options: Any) -> Tensor:  # noqa: ANN401
        """The forward pass, calling ``pre`` or ``post`` with (l, (N*C, B)) in every block."""


@dataclass(frozen=True)
class Capture:
    """The values of one batch at one tap of every block.

    Attributes:
        activations: L tensors (N*C, B), channels of a node contiguous.
        gradients: L tensors (N*C, B): for each sample the gradient of its own loss, whatever batch it was in; 0 at a
            tap that the loss does not depend on.
        channel_node: (N*C,) int64, the node of each channel.
        n_nodes: N.
        loss: The loss of the batch, as the criterion returned it.
        credit: (O, B), for each sample the gradient of its own loss at the predictions.
    """

    activations: list[Tensor]
    gradients: list[Tensor]
    channel_node: Tensor
    n_nodes: int
    loss: float
    credit: Tensor | None = None

    def __len__(self) -> int:
        """B, the number of samples."""
        return int(self.activations[0].shape[1])

    def node_norms(self, values: Tensor, reduction: str) -> Tensor:
        """:func:`node_norms` (N, B) of one of ``activations`` or ``gradients`` (N*C, B)."""
        return node_norms(values, self.channel_node, self.n_nodes, reduction)


def node_norms(values: Tensor, channel_node: Tensor, n_nodes: int, reduction: str) -> Tensor:
    """Norm (N, B) of ``values`` (N*C, B) over the channels of each node.

    Args:
        values: (N*C, B).
        channel_node: (N*C,) int64, the node of each channel; nodes may differ in their number of channels.
        n_nodes: N.
        reduction: ``'l1'`` (sum of absolute values) or ``'l2'``.

    Raises:
        ValueError: If ``reduction`` is unknown.

    Example:
        >>> node_norms(torch.tensor([[3.0], [-4.0]]), torch.tensor([0, 0]), 1, "l2")
        tensor([[5.]])
    """
    check_option("reduction", reduction, ("l1", "l2"))
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
        # A sum, since vector_norm takes a hundred times longer over an inner dimension.
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
        # A compiled model passes attributes through, so it has the method as well.
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

    Inside, every submodule is in eval mode (so norms do not update their running statistics), gradients are enabled
    even under ``torch.no_grad`` or ``torch.inference_mode``, and autocast is off. Threads take turns, so that several
    may share a model; a training loop of the caller's in another thread does not wait, and must not run at the same
    time.

    Args:
        model: The model.
        device: Where to run; None stays where the model is.

    Yields:
        The device the model is on.
    """
    home = next((p.device for p in model.parameters()), torch.device("cpu"))
    place = home if device is None else torch.device(device)
    moved = place.type != home.type or (place.index is not None and place.index != home.index)
    cuda = sorted({d.index or 0 for d in (home, place) if d.type == "cuda"})
    with ExitStack() as stack:
        stack.enter_context(own_random_state(cuda))
        modes = [(module, module.training) for module in model.modules()]
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(place.type, enabled=False))
        try:
            if moved:  # pragma: no cover - needs a GPU
                model.to(place)
            model.eval()
            yield place
        finally:
            for module, training in modes:
                module.training = training
            if moved:  # pragma: no cover - needs a GPU
                model.to(home)


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

    A missing target (NaN) is left out of the loss: it is replaced by the prediction, without gradient, so that a
    criterion of the user's never sees a NaN; an elementwise criterion then still divides by all B * O.

    Args:
        model: A GSNN.
        x: (B, I) inputs.
        y: (B, O) targets, NaN where missing.
        crit: ``crit(prediction, target)`` gives a scalar, a mean or a sum over samples; None for
            :func:`gsnn.nn.losses.masked_mse`.
        where: ``'pre'``, the tap before the norm, or ``'post'``, after nonlinearity and gates.
        loss_reduction: ``'mean'``, ``'sum'``, None to find out, or the :class:`~gsnn.edges.loss_scale.LossScale` of
            earlier batches.
        model_kwargs: More arguments of the model's forward, such as masks.
        device: Where to run; None stays where the model is.

    Returns:
        The capture, detached, on that device.

    Raises:
        ValueError: If x or y has the wrong width, ``where`` is unknown, the loss is not finite, has no gradient by the
            prediction, or is neither a mean nor a sum over samples (see :class:`~gsnn.edges.loss_scale.LossScale`).
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
    options: dict[str, Any] = {"loss_reduction": loss_reduction, "model_kwargs": model_kwargs, "device": device}
    return captures(model, x, y, crit, where=(where,), **options)[0]


def captures(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    crit: Criterion | None = None,
    *,
    where: Sequence[str] = TAPS,
    loss_reduction: str | LossScale | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> list[Capture]:
    """:func:`capture` at each of several taps ``where``, by one pass; the other arguments and errors are as there."""
    for tap in where:
        check_option("where", tap, TAPS)
    scale = loss_reduction if isinstance(loss_reduction, LossScale) else LossScale(loss_reduction)
    inner = unwrap(model)
    gsnn = cast(Tapped, inner)
    check_batch(gsnn, x, y)
    recorders = {tap: Recorder() for tap in where}
    with threads_for(inner, len(x)), isolated(inner, device) as place:
        dtype = next((p.dtype for p in inner.parameters()), x.dtype)
        x, y = _plain(x, place).to(dtype), _plain(y, place)
        y = y.to(dtype) if y.is_floating_point() else y
        options = {k: _plain(v, place) for k, v in (model_kwargs or {}).items()}
        prediction = gsnn.forward_with_taps(x, detach_parameters=True, **recorders, **options)
        if crit is None:
            loss = masked_mse(prediction, y)
        else:
            prediction, y = _without_missing(prediction, y)
            loss = crit(prediction, y)
            check_loss(loss)
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is {loss.item()}; check the inputs, the targets and the model for NaN or inf")
        by_prediction, *gradients = _gradients(
            loss, prediction, [h for recorder in recorders.values() for h in recorder.handles]
        )
        # A user function may have randomness or parameters of its own; only the model is differentiated.
        factor = float(len(x)) if crit is None else scale.factor(crit, prediction, y, by_prediction)
        if factor is not None and factor != 1.0:
            by_prediction, *gradients = [g.mul_(factor) for g in (by_prediction, *gradients)]
        parts, node = iter(gradients), gsnn.channel_node.to(place)
        values = [[value.detach() for value in recorder.values] for recorder in recorders.values()]
        return [
            Capture(seen, [next(parts) for _ in seen], node, gsnn.N, loss.item(), by_prediction.T) for seen in values
        ]


class TapHooks:
    """Takes the activations of blocks 0..L-2 and the gradients of blocks 1..L-1 from the next call of a GSNN.

    Both are reduced at once and detached: nothing here keeps a graph alive. The hooks are removed from the model when
    its forward pass ends, also when it ends in an exception.

    Args:
        model: The GSNN.
        tap: 'pre_tap' or 'post_tap'.
        activation: Reduces the absolute values of a tap (N*C, B) to what is kept.
        gradient: The same for gradients.

    Attributes:
        activations: The reduced values, one per pair of adjacent blocks; None where there were none.
        gradients: The same.
        finished: Whether the forward pass has ended without an exception.
        differentiable: Whether it ran with gradients enabled.
        armed: Set it to True to take gradients from the backward pass.
    """

    def __init__(self, model: nn.Module, tap: str, activation: Reduce, gradient: Reduce) -> None:
        self._activation, self._gradient = activation, gradient
        taps = [getattr(block, tap) for block in model.blocks]  # type: ignore[union-attr]
        self.activations: list[Tensor | None] = [None] * (len(taps) - 1)
        self.gradients: list[Tensor | None] = [None] * (len(taps) - 1)
        self.finished = self.armed = False
        self.differentiable = True
        self._handles: list[RemovableHandle] = [
            module.register_forward_hook(self._watcher(block)) for block, module in enumerate(taps)
        ]
        self._handles.append(model.register_forward_hook(self._end, always_call=True))

    def close(self) -> None:
        """Remove the hooks; may be called again."""
        while self._handles:
            self._handles.pop().remove()

    def _watcher(self, block: int) -> Callable[..., None]:
        def watch(module: nn.Module, args: Any, value: Tensor) -> None:  # noqa: ANN401 - what torch passes
            if block < len(self.activations):
                self.activations[block] = self._activation(value.detach().abs())
            if block > 0:
                self.differentiable = torch.is_grad_enabled()
                if self.differentiable:
                    # After frozen parameters nothing requires a gradient; from this tap on everything does.
                    value.requires_grad_()
                    value.register_hook(self._credit(block - 1))

        return watch

    def _credit(self, pair: int) -> Callable[[Tensor], None]:
        def take(gradient: Tensor) -> None:
            if self.armed:
                self.gradients[pair] = self._gradient(gradient.detach().abs())

        return take

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:  # noqa: ANN401 - what torch passes
        # After an exception torch calls this without an output.
        self.finished = output is not None
        self.close()


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
        loader: Yields the tuples.
        model_kwargs: Arguments of the model's forward: the same for every batch, or a function of the whole batch
            tuple that returns them. Without it, items after the second are ignored.
        name: What to call the loader in errors.

    Yields:
        The batches.

    Raises:
        TypeError: If a batch is not (x, y, ...) of tensors.
        ValueError: If there is no batch.

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


def all_samples(model: nn.Module, loader: Iterable[Any]) -> tuple[Tensor, Tensor]:
    """All samples of a loader at once, on the CPU; the random state is left as it was.

    Args:
        model: The model that the samples must fit.
        loader: As for :func:`iterate_batches`.

    Returns:
        x (M, I) and y (M, O).

    Raises:
        TypeError: As :func:`iterate_batches`.
        ValueError: If there is no batch, or one does not fit the model (the error names it).
    """
    loaded = []
    with isolated(unwrap(model)):
        for batch in iterate_batches(loader):
            with naming_batch(batch.index):
                check_batch(tapped(model), batch.x, batch.y)
            loaded.append((batch.x.cpu(), batch.y.cpu()))
    with torch.inference_mode(False):
        # Tensors made under inference mode could not enter a graph.
        return torch.cat([x for x, _ in loaded]), torch.cat([y for _, y in loaded])


@contextmanager
def naming_batch(index: int) -> Iterator[None]:
    """Put the number of the batch before the message of a ValueError or TypeError raised inside."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if type(error) in (ValueError, TypeError):
            raise type(error)(f"batch {index}: {error}") from error
        raise


def _gradients(loss: Tensor, prediction: Tensor, taps: list[Tensor]) -> list[Tensor]:
    """Gradients by the prediction and by every tap; 0 where a loss of 0 has none."""
    variables = [prediction, *taps]
    gradients: Sequence[Tensor | None] = [None] * len(variables)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, variables, allow_unused=True)
    if gradients[0] is None and bool(loss):
        raise ValueError(
            f"crit gave {loss.item():.6g} without a gradient by the prediction; use a criterion that is differentiable "
            "by its first argument (no argmax, rounding, detach or numpy in between)"
        )
    return [torch.zeros_like(t) if g is None else g.detach() for g, t in zip(gradients, variables, strict=True)]


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
    """Raise a ValueError unless x (B, I) and y (B, O) fit a model and hold a sample."""
    for name, value, width in (("x", x, gsnn.I), ("y", y, gsnn.O)):
        letter = "I" if name == "x" else "O"
        if value.ndim != 2 or value.shape[1] != width:
            raise ValueError(f"{name} must have shape (B, {letter}) = (B, {width}), got {tuple(value.shape)}")
    if len(x) != len(y):
        raise ValueError(f"x and y must have as many rows, got {len(x)} and {len(y)}")
    if len(x) == 0:
        raise ValueError("x and y hold no samples")


def _plain(value: Any, device: torch.device) -> Any:  # noqa: ANN401 - whatever forward takes
    """Tensors on a device, outside of any graph; cloned if made under inference_mode, as they cannot enter a graph."""
    if isinstance(value, Tensor):
        return (value.detach().clone() if value.is_inference() else value.detach()).to(device)
    if isinstance(value, list | tuple):
        return type(value)(_plain(v, device) for v in value)
    return value


def _describe(items: object) -> str:
    if isinstance(items, tuple | list):
        return f"{type(items).__name__} of ({', '.join(type(i).__name__ for i in items)})"
    return type(items).__name__
