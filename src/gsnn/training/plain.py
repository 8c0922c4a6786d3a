"""Training without validation, files and callbacks: Lightning's loop at a fraction of its cost for a small model.

Nothing here imports Lightning, because the import takes as long as a short training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from gsnn.base.errors import GsnnError
from gsnn.base.progress import stage
from gsnn.nn.losses import masked_mse
from gsnn.training.config import TrainConfig
from gsnn.training.early import Early
from gsnn.training.order import NOISE, Batches, StreamedBatches, derived_seed


class TrainingError(GsnnError, RuntimeError):
    """Training cannot go on; the last good checkpoint is still there."""


def train_plainly(
    model: nn.Module,
    batches: Batches | StreamedBatches,
    config: TrainConfig,
    progress: bool | None = False,
    early: Early | None = None,
) -> list[dict[str, Any]]:
    """Train on a CPU without validation, files and callbacks; weights and history are Lightning's bit for bit.

    Args:
        model: Trained in place.
        batches: The samples, in an order that the epoch fixes.
        config: Epochs, optimiser and seed.
        progress: As for :func:`gsnn.base.progress.stage`.
        early: Keeps early weights.

    Returns:
        The rows of the history.

    Raises:
        TrainingError: If the loss becomes infinite or NaN.
    """
    optimizer = adamw(model.parameters(), config.lr, config.weight_decay)
    rows: list[dict[str, Any]] = []
    first = math.nan
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
                first = float(seen) if math.isnan(first) else first
                total += seen * len(x)
                samples += len(x)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            mean = float(total / samples)
            if early is not None:
                early.see(epoch + 1, mean, model, first)
            undefined = {"val_loss": math.nan, "val_r2": math.nan}
            seconds = time.perf_counter() - start
            rows.append({"epoch": epoch + 1, "train_loss": mean, **undefined, "lr": config.lr, "seconds": seconds})
            shown.advance(note=f"train loss {mean:.3f}")
    return rows


def adamw(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW, fused on a CPU: otherwise it would take a third of a training step of a small model."""
    parameters = list(parameters)
    fused = all(p.device.type == "cpu" and p.is_floating_point() for p in parameters) or None
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=fused)


def check_loss(loss: float, epoch: int, batch: int) -> None:
    """Refuse a loss that is not finite; epoch and batch count from 0.

    Raises:
        TrainingError: If it is infinite or NaN.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"the training loss became {loss} in epoch {epoch + 1}, batch {batch + 1}; lower lr, or look for extreme "
            "values in the data"
        )


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the CPU generator and the one of ``device``; only for use inside ``torch.random.fork_rng``."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":  # pragma: no cover - needs a GPU
        torch.cuda.manual_seed_all(seed)
