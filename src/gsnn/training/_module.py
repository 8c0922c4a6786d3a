"""The Lightning module around a model, and the batches it is fed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from gsnn.errors import GsnnError
from gsnn.losses import masked_mse

# Independent random streams of one seed.
INIT, ORDER, NOISE = 0, 1, 2


class TrainingError(GsnnError, RuntimeError):
    """Training cannot go on; the last good checkpoint is still there."""


def derived_seed(seed: int, stream: int, epoch: int = 0) -> int:
    """A seed of its own for every stream and epoch, so that nothing depends on what was drawn before."""
    return int(np.random.SeedSequence((seed, stream, epoch)).generate_state(1, np.uint64)[0] >> np.uint64(1))


class GSNNModule(L.LightningModule):
    """A model, its loss and AdamW, for any Lightning ``Trainer``.

    A batch is a pair (x: (B, I), y: (B, O)); NaN in y is a missing response and counts nowhere. Logged once per
    epoch: ``train_loss``, ``val_loss`` and ``val_r2`` = 1 - sum of squared errors / sum of squares around each
    readout's validation mean, over all observed values (NaN where that is undefined).

    Args:
        model: The network, (B, I) -> (B, O).
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
        loss: Takes (prediction, target) and gives a scalar; the default divides the squared errors of the observed
            values by B * O.

    Raises:
        TrainingError: While training, if the loss is not finite; names the epoch and the batch.
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

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, O) of the inputs (B, I)."""
        prediction: Tensor = self.model(x)
        return prediction

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch; refuses to go on from a loss that is not finite."""
        x, y = batch
        loss = self.loss(self(x), y)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the training loss became {float(loss.detach())} in epoch {self.current_epoch + 1}, "
                f"batch {batch_idx + 1}; lower lr, or look for extreme values in the data"
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start the sums behind ``val_r2``."""
        self._moments = []

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add one batch to the validation figures."""
        x, y = batch
        prediction = self(x)
        self.log("val_loss", self.loss(prediction, y), on_step=False, on_epoch=True, batch_size=len(x))
        seen = ~torch.isnan(y)
        # float64 on the CPU, where every device can bring it.
        target = torch.where(seen, y, 0).detach().cpu().double()
        error = torch.where(seen, prediction - y, 0).detach().cpu().double()
        self._moments.append(torch.stack((seen.cpu().double(), target, target**2, error**2)).sum(1))

    def on_validation_epoch_end(self) -> None:
        """Log ``val_r2``."""
        n, total, squares, errors = torch.stack(self._moments).sum(0)
        around = (squares - total**2 / n.clamp(min=1)).clamp(min=0).sum()
        # Rounding leaves a tiny remainder of a constant; that is no variance.
        defined = around > 1e-12 * squares.sum()
        self.log("val_r2", 1 - errors.sum() / around if defined else torch.tensor(float("nan")))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over all parameters."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)


class Batches:
    """Shuffled mini-batches whose order depends on the seed and the epoch only, not on what ran before.

    Without ``drop_last`` the last batch holds the remainder; a remainder of one row joins the batch before it,
    because a batch norm has no variance over one row.

    Args:
        x: (M, I).
        y: (M, O).
        batch_size: Rows B of a batch.
        seed: Fixes the order; None keeps the rows as they are.
        drop_last: Leave out a last batch that is not full.

    Example:
        >>> x = torch.arange(5.0)[:, None]
        >>> [len(b) for b, _ in Batches(x, x, 2)]
        [2, 3]
    """

    def __init__(
        self, x: Tensor, y: Tensor, batch_size: int, *, seed: int | None = None, drop_last: bool = False
    ) -> None:
        self.x, self.y, self.seed = x, y, seed
        self.epoch = 0  # set before every pass by whoever trains
        whole, rest = divmod(len(x), batch_size)
        ends = [batch_size * (i + 1) for i in range(whole)]
        if rest == 1 and whole and not drop_last:
            ends[-1] += 1
        elif rest and not drop_last:
            ends.append(len(x))
        self.bounds = list(zip([0, *ends], ends, strict=False))

    def __len__(self) -> int:
        return len(self.bounds)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # A generator: nothing is drawn before the first batch is asked for, when the epoch is known.
        if self.seed is None:
            order = torch.arange(len(self.x))
        else:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, ORDER, self.epoch))
            order = torch.randperm(len(self.x), generator=generator)
        for start, end in self.bounds:
            rows = order[start:end]
            yield self.x[rows], self.y[rows]
