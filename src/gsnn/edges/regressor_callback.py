"""The online edge regressor as a Lightning callback."""

from __future__ import annotations

from collections.abc import Iterable

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from gsnn.edges import MagnitudeEdgeRegressor


class EdgeRegressorCallback(Callback):
    """Runs a :class:`gsnn.edges.MagnitudeEdgeRegressor` inside a Lightning ``Trainer``.

    Before each training batch the taps are watched, around ``backward`` the gradients are taken, and W makes its
    step. ``aux_loss`` is logged per epoch and, with validation edges, ``edge_auc``; the W of the best epoch is loaded
    when training ends.

    Args:
        regressor: Of the GSNN that is trained.
        validation_edges: True edges that the prior graph lacks, as (source, target) names; None for none.

    Attributes:
        history: ``edge_auc`` of each epoch, with validation edges.

    Example:
        >>> from gsnn.edges import MagnitudeEdgeRegressor
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> callback = EdgeRegressorCallback(MagnitudeEdgeRegressor(GSNN.from_graph(graph, 2, 3), graph))
        >>> callback.history
        []
    """

    def __init__(
        self, regressor: MagnitudeEdgeRegressor, validation_edges: Iterable[tuple[str, str]] | None = None
    ) -> None:
        self.regressor = regressor
        self.validation_edges = None if validation_edges is None else list(validation_edges)
        self.history: list[float] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go where the model is."""
        self.regressor.to(pl_module.device)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Watch the forward pass of this batch."""
        self.regressor.pre_forward()

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Take the gradients of the backward pass that comes."""
        self.regressor.arm_retained_grads()

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let W make its step."""
        step = self.regressor.aux_step()
        pl_module.log("aux_loss", step["aux_loss"], on_step=False, on_epoch=True, batch_size=1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure the edges and keep the best W."""
        if self.validation_edges is not None:
            auc = self.regressor.evaluate_against(self.validation_edges)["auc"]
            self.history.append(auc)
            self.regressor.maybe_save_best(auc)
            pl_module.log("edge_auc", auc)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Load the best W, if one was kept."""
        if self.regressor.best_metric is not None:
            self.regressor.load_best()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave no hook behind."""
        self.regressor.abandon()
