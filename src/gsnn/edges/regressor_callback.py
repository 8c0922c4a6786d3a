"""The online edge regressor as a Lightning callback."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from gsnn.edges.regressor import MagnitudeEdgeRegressor


class EdgeRegressorCallback(Callback):
    """Runs a :class:`gsnn.edges.MagnitudeEdgeRegressor` inside a Lightning ``Trainer``.

    It watches the taps before each training batch, takes the gradients around ``backward``, and lets W make its step.
    ``aux_loss`` is logged per epoch and, with validation edges, ``edge_auc``; the W of the best epoch is loaded when
    training ends. Its state is part of the trainer's checkpoints, so a resumed run continues to learn.

    It needs a single process: each of several would learn a W of its own from its part of the samples.

    Args:
        regressor: Of the GSNN that is trained.
        validation_edges: True edges that the prior graph lacks, as (source, target) names; None for none.
        path: File to write W to when training ends; None writes none.
        facts: Further entries of that file.

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
        self,
        regressor: MagnitudeEdgeRegressor,
        validation_edges: Iterable[tuple[str, str]] | None = None,
        *,
        path: str | Path | None = None,
        facts: dict[str, str] | None = None,
    ) -> None:
        self.regressor = regressor
        self.validation_edges = None if validation_edges is None else list(validation_edges)
        self.path, self.facts = path, facts or {}
        self.history: list[float] = []
        self._n = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move W and the optimiser's state from a checkpoint to the device of the model.

        Raises:
            RuntimeError: If there are several processes.
        """
        if trainer.world_size > 1:
            raise RuntimeError(f"the regressor learns in one process, not in {trainer.world_size}")
        self.regressor.to(pl_module.device)
        # Moving W leaves the optimiser's moments where they were; loading its own state moves them.
        self.regressor.optimizer.load_state_dict(self.regressor.optimizer.state_dict())

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the samples of the epoch."""
        self._n = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Watch the forward pass of this batch."""
        self.regressor.pre_forward()
        if isinstance(batch, tuple | list) and isinstance(batch[0], Sized):
            self._n += len(batch[0])

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Take the gradients of the coming backward pass."""
        self.regressor.arm_retained_grads()

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let W make its step."""
        step = self.regressor.aux_step()
        pl_module.log("aux_loss", step["aux_loss"], on_step=False, on_epoch=True, batch_size=1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure the edges and keep the best W."""
        self.regressor.n = self._n
        if self.validation_edges is not None:
            auc = self.regressor.evaluate_against(self.validation_edges)["auc"]
            self.history.append(auc)
            self.regressor.maybe_save_best(auc)
            pl_module.log("edge_auc", auc)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Load the best W, if one was kept, and write it."""
        if self.regressor.best_metric is not None:
            self.regressor.load_best()
        if self.path is not None:
            self.regressor.save(self.path, **self.facts)

    def state_dict(self) -> dict[str, Any]:
        """The callback's part of a checkpoint."""
        return {"regressor": self.regressor.state(), "history": list(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.regressor.load_state(state_dict["regressor"])
        self.history = list(state_dict["history"])

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the hooks."""
        self.regressor.abandon()
