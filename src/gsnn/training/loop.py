"""The training loop: arrays in, trained model and history out; quiet, repeatable and resumable."""

from __future__ import annotations

import logging
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from gsnn.base.errors import GsnnError
from gsnn.base.processes import ProcessError
from gsnn.base.torch_state import own_random_state, threads_for
from gsnn.data.parts import Part
from gsnn.training.config import TrainConfig
from gsnn.training.early import Early, Model, with_weights
from gsnn.training.order import INIT, Batches, StreamedBatches, derived_seed
from gsnn.training.plain import TrainingError, seed_generators, train_plainly

if TYPE_CHECKING:
    import lightning as L
    import pandas as pd


Samples: TypeAlias = tuple[np.ndarray, np.ndarray] | Part

# Validation keeps no gradients, so its batches may be larger; the figures do not depend on this.
_VALIDATION_BATCH = 512
# What torch says when a connection to another process breaks.
_LOST = re.compile(r"gloo|NCCL|[Cc]onnection|peer|[Bb]roken pipe|[Ss]ocket|process group|timed? ?out")


@dataclass(frozen=True)
class LoopResult:
    """A trained model and how it got there.

    Attributes:
        model: On the CPU, in eval mode.
        history: A row per epoch: epoch (from 1), train_loss, val_loss, val_r2, lr, seconds.
        best_epoch: Epoch of the lowest validation loss; None without validation.
        kept_epoch: The epoch whose weights the model has.
        stopped_early: Whether the patience ran out.
        early: Epoch and weights from which edges are read (:mod:`gsnn.training.early`); None if the loss never fell.
    """

    model: nn.Module
    history: pd.DataFrame
    best_epoch: int | None
    kept_epoch: int
    stopped_early: bool
    early: tuple[int, dict[str, Tensor]] | None = None

    @property
    def reading_model(self) -> nn.Module:
        """The model with its early weights, a copy at each call; the model itself if there are none."""
        return with_weights(self.model, None if self.early is None else self.early[1])


def build_model(make: Callable[[], Model], seed: int) -> Model:
    """Call ``make``, which draws weights from torch's global generator, with the state that ``seed`` fixes."""
    with own_random_state():
        seed_generators(derived_seed(seed, INIT), torch.device("cpu"))
        return make()


def train_model(
    model: nn.Module,
    train: Samples,
    validation: Samples | None,
    config: TrainConfig,
    *,
    checkpoint: Path | None = None,
    metrics: Path | None = None,
    resume: bool = False,
    progress: bool | None = False,
    device: str = "cpu",
    devices: int = 1,
    num_nodes: int = 1,
    callbacks: Sequence[L.Callback] = (),
) -> LoopResult:
    """Train ``model`` in place on arrays.

    The order of the samples and the dropout of an epoch follow from the seed and the number of the epoch alone,
    and the checkpoint holds everything else, so a run that was killed and resumed ends with the bits of one that
    was not. Global generators, warning filters and loggers are restored.

    With several ``devices`` or ``num_nodes`` this is one of as many processes, started by ``torchrun`` or SLURM, each
    with the same arguments (or, on one machine, started by Lightning, which runs the program again). Each takes a part
    of every batch, and all end with the same model. The loss is that of one process with the same ``batch_size`` for
    norms without statistics over the batch and without dropout, which each process draws for itself.

    Args:
        model: (B, I) -> (B, O).
        train: x (M, I) and y (M, O), already standardised, NaN in y is missing; or a part of streamed data.
        validation: The same for watching, or None.
        config: Epochs, optimiser and stopping rule; its model fields are not read here.
        checkpoint: Written after every epoch; None writes none.
        metrics: CSV of the history, written after every epoch; None writes none.
        resume: Continue from ``checkpoint`` if it exists.
        progress: Show progress on stderr; None shows it only within what shows its own.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``, for instance.
        devices: Processes on this machine, each with a device of its own.
        num_nodes: Machines.
        callbacks: More Lightning callbacks, called before those that write files.

    Returns:
        The model and its history.

    Raises:
        ValueError: If early stopping or ``restore_best`` is asked for without observed validation responses,
            there is nothing to train on, or a batch or the validation part has fewer samples than there are processes.
        TrainingError: If the loss, a weight or the validation loss becomes infinite or NaN, or the norm cannot be
            trained in several processes.
        RunError: If the checkpoint cannot be read.
    """
    import pandas as pd

    batches = _batches(train, config.batch_size, seed=config.seed, drop_last=config.drop_last)
    if len(batches) == 0:
        raise ValueError(f"there is no batch of {config.batch_size} in {batches.n} training samples; lower batch_size")
    watch = None
    if validation is not None and _observed(validation):
        watch = _batches(validation, _VALIDATION_BATCH)
    if watch is None and config.uses_validation:
        raise ValueError("patience and restore_best need validation samples with observed responses; there are none")

    place = torch.device(device)
    one = devices == 1 and num_nodes == 1
    if watch is None and checkpoint is None and not callbacks and one and place.type == "cpu":
        with own_random_state(), threads_for(model, config.batch_size):
            early = Early()
            done = pd.DataFrame(train_plainly(model, batches, config, progress, early))
        model.eval()
        last = float(done["train_loss"].iloc[-1]) if len(done) else float("nan")
        return LoopResult(model, done, None, len(done), stopped_early=False, early=early.choose(last))

    import lightning as L

    from gsnn.training.callbacks import History, ProgressLines, RunFiles, Stopping, Streams
    from gsnn.training.checkpoint import SafetensorsCheckpointIO
    from gsnn.training.module import GSNNModule

    module = GSNNModule(model, lr=config.lr, weight_decay=config.weight_decay)
    history = History(keep_best=config.restore_best)
    called: list[L.Callback] = [Streams(batches, config.seed), history, *callbacks]
    stopping = None
    if config.patience is not None:
        stopping = Stopping("val_loss", patience=config.patience, min_delta=config.min_delta, mode="min")
        called.append(stopping)
    if progress is not False:
        called.append(ProgressLines(config.epochs, progress))
    files = RunFiles(history, checkpoint, metrics) if checkpoint is not None else None
    if files is not None:
        called.append(files)
    resume_from = checkpoint if resume and checkpoint is not None and checkpoint.is_file() else None

    forked: list[int] | None = []
    if place.type == "cuda":
        forked = [place.index or 0] if one else None
    with own_random_state(forked), _quiet(), _interruptible(), threads_for(model, config.batch_size):
        trainer = L.Trainer(
            accelerator=place.type,
            devices=[place.index or 0] if one and place.type != "cpu" else devices,
            num_nodes=num_nodes,
            strategy="auto" if one else "ddp",
            use_distributed_sampler=False,
            max_epochs=config.epochs,
            callbacks=called,
            plugins=[SafetensorsCheckpointIO()],
            logger=False,
            enable_checkpointing=checkpoint is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=str(checkpoint.parent) if checkpoint is not None else None,
        )
        batches.share(trainer.global_rank, trainer.world_size)
        # If there are too few validation samples to share, every process sees all: the figures are the same.
        if watch is not None and watch.n >= trainer.world_size:
            watch.share(trainer.global_rank, trainer.world_size)
        with _explained(devices * num_nodes):
            trainer.fit(module, batches, watch, ckpt_path=resume_from)
    if files is not None and trainer.is_global_zero:
        files.write_metrics()  # a run that was already complete never reaches a callback
    if history.best_weights is not None:
        model.load_state_dict(history.best_weights)
    model.cpu().eval()
    rows = pd.DataFrame(history.rows)
    kept = int((history.best_epoch if history.best_weights is not None else None) or len(rows))
    loss = float(rows["train_loss"].iloc[kept - 1]) if len(rows) else float("nan")
    return LoopResult(
        model=model,
        history=rows,
        best_epoch=history.best_epoch,
        kept_epoch=kept,
        stopped_early=stopping is not None and stopping.wait_count >= stopping.patience,
        early=history.early.choose(loss),
    )


def predict(model: nn.Module, x: np.ndarray, batch_size: int = _VALIDATION_BATCH) -> np.ndarray:
    """Predictions of a model in eval mode.

    Args:
        model: (B, I) -> (B, O); its training mode is restored afterwards.
        x: (M, I).
        batch_size: Rows per call.

    Returns:
        float64, (M, O).
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), threads_for(model, min(batch_size, len(x))):
            rows = torch.tensor(np.asarray(x), dtype=torch.float32)
            parts = [model(part).double().cpu().numpy() for part in rows.split(batch_size)]
    finally:
        model.train(was_training)
    return np.concatenate(parts)


def _batches(
    samples: Samples, size: int, *, seed: int | None = None, drop_last: bool = False
) -> Batches | StreamedBatches:
    if isinstance(samples, Part):
        return StreamedBatches(samples, size, seed=seed, drop_last=drop_last)
    x, y = (torch.tensor(np.asarray(values), dtype=torch.float32) for values in samples)
    return Batches(x, y, size, seed=seed, drop_last=drop_last)


def _observed(samples: Samples) -> bool:
    return samples.observed if isinstance(samples, Part) else bool(np.isfinite(samples[1]).any())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's banners, tips and advice out of the user's console."""
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.split(".")[0] == "lightning"]
    levels = [(logger, logger.level) for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning(\.|$)")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in levels:
                logger.setLevel(level)


@contextmanager
def _explained(n: int) -> Iterator[None]:
    """Replace the many lines of torch and Lightning by one if another of the n processes is gone."""
    try:
        yield
    except RuntimeError as error:
        if n == 1 or isinstance(error, GsnnError) or not _LOST.search(str(error)):
            raise
        raise ProcessError(
            f"another of the {n} processes that train is gone (killed, out of memory, or its machine lost); the epochs "
            "that are done are kept, and the same command with --resume goes on"
        ) from error


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl+C raise KeyboardInterrupt and restore its handler; Lightning would exit the program."""
    main = threading.current_thread() is threading.main_thread()
    handler: Any = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)


__all__ = ["LoopResult", "TrainingError", "build_model", "predict", "train_model"]
