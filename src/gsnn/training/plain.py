"""Training without watching anything: what Lightning's loop does, at a fraction of what it costs a small model."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import nn

from gsnn.base.progress import stage
from gsnn.nn.losses import masked_mse
from gsnn.training.callbacks import seed_generators
from gsnn.training.config import TrainConfig
from gsnn.training.module import Batches, adamw, check_loss
from gsnn.training.order import NOISE, StreamedBatches, derived_seed


def train_plainly(
    model: nn.Module, batches: Batches | StreamedBatches, config: TrainConfig, progress: bool | None = False
) -> list[dict[str, Any]]:
    """Train on a CPU, with no validation, no files and no callbacks; weights and history are Lightning's bit for bit.

    Args:
        model: Trained in place.
        batches: The samples, in an order that the epoch fixes.
        config: Epochs, optimiser and seed.
        progress: As for :func:`gsnn.base.progress.stage`.

    Returns:
        The rows of the history.

    Raises:
        TrainingError: If the loss becomes infinite or NaN.
    """
    optimizer = adamw(model.parameters(), config.lr, config.weight_decay)
    rows: list[dict[str, Any]] = []
    with torch.enable_grad(), stage("epoch", config.epochs, show=progress) as shown:
        for epoch in range(config.epochs):
            start = time.perf_counter()
            batches.epoch = epoch
            seed_generators(derived_seed(config.seed, NOISE, epoch), torch.device("cpu"))
            total, samples = torch.zeros(()), 0
            for number, (x, y) in enumerate(batches):
                loss = masked_mse(model(x), y)
                seen = loss.detach()
                check_loss(float(seen), epoch, number)
                total += seen * len(x)
                samples += len(x)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            mean = float(total / samples)
            nothing = {"val_loss": math.nan, "val_r2": math.nan}
            seconds = time.perf_counter() - start
            rows.append({"epoch": epoch + 1, "train_loss": mean, **nothing, "lr": config.lr, "seconds": seconds})
            shown.advance(note=f"train loss {mean:.3f}")
    return rows
