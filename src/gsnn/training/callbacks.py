"""Lightning callbacks: the history with its best weights, early stopping that resumes, checkpoints, progress."""

from __future__ import annotations

import csv
import io
import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping
from torch import Tensor

from gsnn.base.errors import RunError
from gsnn.base.files import write_text
from gsnn.base.progress import Stage, stage
from gsnn.training.early import Early
from gsnn.training.order import NOISE, BatchPlan, derived_seed
from gsnn.training.plain import TrainingError, seed_generators

COLUMNS = ("epoch", "train_loss", "val_loss", "val_r2", "lr", "seconds")


class Streams(Callback):
    """Sets the order of the samples and seeds torch's generators before every epoch.

    Both then depend on the seed and the number of the epoch alone, not on where the run was interrupted. Each of
    several processes draws its own noise.
    """

    def __init__(self, batches: BatchPlan, seed: int) -> None:
        self.batches, self.seed = batches, seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the order and seed the generators, which the caller restores."""
        self.batches.epoch = trainer.current_epoch
        noise = derived_seed(self.seed, NOISE + trainer.global_rank, trainer.current_epoch)
        seed_generators(noise, pl_module.device)


class History(Callback):
    """One row per epoch and the best weights; the checkpoint holds both.

    Args:
        keep_best: Keep a copy of the weights of the epoch with the lowest validation loss.
    """

    def __init__(self, *, keep_best: bool) -> None:
        self.keep_best = keep_best
        self.rows: list[dict[str, Any]] = []
        self.best_epoch: int | None = None
        self.best_loss = math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.early = Early()
        self._first = math.nan
        self._start = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Note the loss of the first batch."""
        if math.isnan(self._first):
            self._first = float(outputs["loss"])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the row of the epoch."""
        epoch = trainer.current_epoch + 1
        logged = {name: float(trainer.callback_metrics.get(name, math.nan)) for name in COLUMNS[1:4]}
        if "val_loss" in trainer.callback_metrics and not math.isfinite(logged["val_loss"]):
            raise TrainingError(f"the validation loss became {logged['val_loss']} in epoch {epoch}; lower lr")
        lr = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.rows.append({"epoch": epoch, **logged, "lr": lr, "seconds": time.perf_counter() - self._start})
        model = cast("torch.nn.Module", pl_module.model)
        self.early.see(epoch, logged["train_loss"], model, self._first)
        if logged["val_loss"] < self.best_loss:
            self.best_epoch, self.best_loss = epoch, logged["val_loss"]
            if self.keep_best:
                self.best_weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint holds."""
        return {
            "rows": self.rows,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "best_weights": self.best_weights,
            "early": self.early.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the checkpoint."""
        self.rows = state_dict["rows"]
        self.best_epoch = state_dict["best_epoch"]
        self.best_loss = state_dict["best_loss"]
        self.best_weights = state_dict["best_weights"]
        if "early" in state_dict:
            self.early.load_state_dict(state_dict["early"])

    def to_csv(self) -> str:
        """The rows as CSV text; every number reads back to the same bits, and NaN is an empty cell."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.rows:
            writer.writerow(["" if row[name] != row[name] else repr(row[name]) for name in COLUMNS])
        return buffer.getvalue()


class Stopping(EarlyStopping):
    """Lightning's early stopping, which also stops when it resumes a run that had already stopped."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count, but keep the present patience."""
        patience = self.patience
        super().load_state_dict(state_dict)
        self.patience = patience

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once if the patience is used up."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class RunFiles(Checkpoint):
    """Writes the checkpoint and then metrics.csv after every epoch; Lightning runs it after all other callbacks.

    Only process 0 writes.

    Args:
        history: Where the rows come from.
        checkpoint: The checkpoint file.
        metrics: The CSV file; None writes none.
    """

    def __init__(self, history: History, checkpoint: Path, metrics: Path | None) -> None:
        self.history, self.checkpoint, self.metrics = history, checkpoint, metrics

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Bring a metrics.csv up to date that a killed program left one epoch behind its checkpoint."""
        if trainer.is_global_zero:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            self.write_metrics()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, unless a weight is not finite."""
        if not all(bool(torch.isfinite(p).all()) for p in pl_module.parameters()):
            raise TrainingError(f"a weight became infinite or NaN in epoch {trainer.current_epoch + 1}; lower lr")
        if trainer.is_global_zero and not self.checkpoint.parent.is_dir():
            raise RunError(f"the folder {self.checkpoint.parent} was removed during the training; train again")
        trainer.save_checkpoint(self.checkpoint, weights_only=False)
        if trainer.is_global_zero:
            self.write_metrics()

    def write_metrics(self) -> None:
        """Write all rows, if there are any."""
        if self.metrics is not None and self.history.rows:
            write_text(self.metrics, self.history.to_csv())


class ProgressLines(Callback):
    """Progress on stderr: a bar with the time left on a terminal, a line now and then in a pipe.

    Only process 0 shows it.

    Args:
        epochs: The most epochs there can be.
        show: As for :func:`gsnn.base.progress.stage`.
    """

    def __init__(self, epochs: int, show: bool | None = True) -> None:
        self.epochs, self.show = epochs, show
        self._open = ExitStack()
        self._stage: Stage | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar."""
        if trainer.is_global_zero:
            bar = stage("epoch", self.epochs, done=trainer.current_epoch, show=self.show)
            self._stage = self._open.enter_context(bar)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move the bar, or print a line if the last one is old."""
        if self._stage is None:
            return
        metrics = trainer.callback_metrics
        names = {"train_loss": "train loss", "val_loss": "validation loss"}
        figures = [f"{text} {float(metrics[name]):.3f}" for name, text in names.items() if name in metrics]
        self._stage.advance(note=", ".join(figures))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove the bar."""
        self._open.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the bar, so that the error is printed alone."""
        self._open.close()
