"""The Lightning module around a model."""

from __future__ import annotations

from collections.abc import Callable

import lightning as L
import torch
from torch import Tensor, nn

from gsnn.nn.losses import masked_mse
from gsnn.training.plain import TrainingError, adamw, check_loss


class GSNNModule(L.LightningModule):
    """A model, its loss and AdamW, for any Lightning ``Trainer``.

    A batch is a pair (x: (B, I), y: (B, O)); NaN in y is a missing response and counts nowhere. Logged once per
    epoch: ``train_loss``, ``val_loss`` and ``val_r2`` = 1 - sum of squared errors / sum of squares around each
    readout's validation mean, over all observed values (NaN where that is undefined).

    Several processes (``strategy="ddp"``) that each take a part of every batch train as one process does on the whole
    batch: parts count by their numbers of samples, and the logged figures are over all samples. Norms with running
    statistics are refused there, because every process would follow those of its own part.

    Args:
        model: The network, (B, I) -> (B, O).
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
        loss: Takes (prediction, target) and gives a scalar, the mean over the samples where several processes train;
            the default divides the squared errors of the observed values by B * O.

    Raises:
        TrainingError: While training, if the loss is not finite (names the epoch and the batch), or several processes
            train a model with running statistics.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
        loss: Callable[[Tensor, Tensor], Tensor] = masked_mse,
    ) -> None:
        super().__init__()
        self.model = model
        self.lr = lr
        self.weight_decay = weight_decay
        self.loss = loss
        self._moments: list[Tensor] = []
        self._losses: list[Tensor] = []

    def setup(self, stage: str) -> None:
        """Refuse several processes where a norm takes statistics over the batch."""
        if self.trainer.world_size > 1 and stage == "fit":
            names = [name for name, module in self.model.named_modules() if _keeps_statistics(module)]
            if names:
                norm = getattr(self.model, "norm", None)
                which = f"norm {norm!r} has" if norm else f"{names[0]!r} has"
                raise TrainingError(
                    f"{which} statistics over the batch, which {self.trainer.world_size} processes would each take "
                    "over their own part; train in one process, or use norm 'layer', 'rms', 'softmax' or 'none'"
                )

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, O) of the inputs (B, I)."""
        prediction: Tensor = self.model(x)
        return prediction

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch; refuses to go on from a loss that is not finite."""
        x, y = batch
        loss = self.loss(self(x), y)
        seen, n, world = loss.detach(), len(x), self.trainer.world_size
        if world > 1:
            # One figure for all processes, so that all of them stop at a loss that is not finite.
            total = self._over_processes(
                torch.stack((seen.double() * n, torch.full_like(seen, n, dtype=torch.float64)))
            )
            # The engine averages gradients over processes, whatever their numbers of samples.
            loss = loss * (n * world / total[1]).to(loss.dtype)
            seen, n = (total[0] / total[1]).to(loss.dtype), int(total[1])
        check_loss(float(seen), self.current_epoch, batch_idx)
        self.log("train_loss", seen, on_step=False, on_epoch=True, batch_size=n, sync_dist=world > 1)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start the sums behind ``val_loss`` and ``val_r2``."""
        self._moments, self._losses = [], []

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add one batch to the validation figures."""
        x, y = batch
        prediction = self(x)
        loss = self.loss(prediction, y).detach().cpu().double()
        self._losses.append(torch.stack((loss * len(x), torch.tensor(len(x), dtype=torch.float64))))
        seen = ~torch.isnan(y)
        # In float64 on the CPU, because not every device has float64.
        target = torch.where(seen, y, 0).detach().cpu().double()
        error = torch.where(seen, prediction - y, 0).detach().cpu().double()
        self._moments.append(torch.stack((seen.cpu().double(), target, target**2, error**2)).sum(1))

    def on_validation_epoch_end(self) -> None:
        """Log ``val_loss`` and ``val_r2``, over the samples of all processes."""
        many = self.trainer.world_size > 1
        loss, samples = self._over_processes(torch.stack(self._losses).sum(0))
        self.log("val_loss", (loss / samples).float(), sync_dist=many)
        n, total, squares, errors = self._over_processes(torch.stack(self._moments).sum(0))
        around = (squares - total**2 / n.clamp(min=1)).clamp(min=0).sum()
        # The rounding errors of a constant are not variance.
        defined = around > 1e-12 * squares.sum()
        self.log("val_r2", 1 - errors.sum() / around if defined else torch.tensor(float("nan")), sync_dist=many)

    def _over_processes(self, values: Tensor) -> Tensor:
        """Sum over the processes, on the CPU."""
        if self.trainer.world_size == 1:
            return values.cpu()
        total: Tensor = self.trainer.strategy.reduce(values.to(self.device), reduce_op="sum")
        return total.cpu()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """:func:`adamw` over all parameters."""
        return adamw(self.parameters(), self.lr, self.weight_decay)


def _keeps_statistics(module: nn.Module) -> bool:
    """Whether its forward pass in training updates running statistics."""
    return isinstance(getattr(module, "running_mean", None), Tensor)
