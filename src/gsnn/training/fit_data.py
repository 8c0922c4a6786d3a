"""From perturbation data to a trained model in a run folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback

from gsnn.base.errors import RunError
from gsnn.base.launch import Place
from gsnn.base.progress import now
from gsnn.base.torch_state import check_device
from gsnn.base.verdict import Verdict
from gsnn.data import PerturbationData, Split, Standardiser, StreamedData
from gsnn.nn import GSNN, save_model
from gsnn.training.baselines import FitReport
from gsnn.training.config import TrainConfig
from gsnn.training.early import with_weights
from gsnn.training.folder import Folder
from gsnn.training.loop import train_model
from gsnn.training.prepare import Prepared, measure, prepare
from gsnn.training.verdict import fit_verdict

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained model and what is known about it.

    Attributes:
        model: On the CPU, in eval mode; predicts standardised responses.
        standardiser: Means and scales of the training responses.
        split: The three parts of the samples.
        history: A row per epoch: epoch (from 1), train_loss, val_loss, val_r2, lr, seconds.
        report: Fit on the held-out samples, beside the mean predictor and ridge.
        best_epoch: Epoch of the lowest validation loss; None without validation samples.
        kept_epoch: The epoch whose weights the model has.
        stopped_early: Whether the patience ran out.
        seconds: Duration of this call.
        warnings: What a user should know about the data.
        early: The model with its early weights (:mod:`gsnn.training.early`), whose activations and gradients tell most
            about missing edges.
    """

    model: GSNN
    standardiser: Standardiser
    split: Split
    history: pd.DataFrame
    report: FitReport
    best_epoch: int | None
    kept_epoch: int
    stopped_early: bool
    seconds: float
    warnings: list[str] = field(default_factory=list)
    early: GSNN | None = None

    def __repr__(self) -> str:
        r2 = self.report.summary["pooled_r2"].round(3).to_dict()
        return f"TrainResult({self.model}, epochs={len(self.history)}, R2 on held-out samples: {r2})"

    @property
    def verdict(self) -> Verdict:
        """What the fit means, in words."""
        return fit_verdict(self.report, self.history, stopped_early=self.stopped_early)


def fit(
    data: PerturbationData | StreamedData,
    config: TrainConfig | None = None,
    run: Folder | None = None,
    *,
    split: Split | None = None,
    resume: bool = False,
    progress: bool | None = True,
    device: str = "cpu",
) -> TrainResult:
    """Train a model on perturbation data.

    The samples are split by condition, the responses standardised by the training part, and the final model is
    measured once on the test part, beside the baselines fitted on the training part. A validation part is held out
    only if it decides anything (``patience`` or ``restore_best``) or ``split`` has one. Without a run nothing is
    written. With a run, a program that was killed and called again with ``resume=True`` ends with the same weights as
    one that was not, bit for bit on the CPU of one machine with one number of threads.

    Args:
        data: What to train on.
        config: The settings; None takes the defaults.
        run: Where to write checkpoints, the history, the model and the results.
        split: Which samples train, validate and test; None draws them by condition, or takes the parts of the resumed
            run.
        resume: Continue ``run`` from its last whole epoch; more epochs than before are allowed.
        progress: Show progress on stderr; None shows it only within what shows its own.
        device: Where to train, such as ``"cpu"`` or ``"cuda"``.

    Returns:
        The model and its figures.

    Raises:
        DataError: If the data cannot be split or trained on.
        RunError: If ``resume`` does not fit the run, or another program is working in its folder.
        TrainingError: If the loss becomes infinite or NaN.
    """
    config = config or TrainConfig()
    if resume and run is None:
        raise RunError("resume needs the run to continue; pass run=")
    check_device(device)
    parts = recorded_split(run) if split is None and resume else split
    return fit_prepared(prepare(data, config, parts), config, run, resume, progress, device)


def recorded_split(run: Folder | None) -> Split | None:
    """The parts that a run was started with, even if this version draws others; None before they were written."""
    return None if run is None or "split" not in run.info else run.split()


def fit_prepared(
    prepared: Prepared,
    config: TrainConfig,
    run: Folder | None,
    resume: bool,
    progress: bool | None,
    device: str,
    place: Place = Place(),  # noqa: B008 - frozen
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Train a prepared model, and write it into the run's folder if there is one."""
    start = time.perf_counter()
    writes = run if place.first else None
    with writes.lock() if writes is not None else nullcontext():
        nothing_to_do = False
        if writes is not None:
            writes.refresh()
            writes.check_data(prepared.data)
            if resume:
                writes.check_config(config)
            else:
                writes.checkpoint_path.unlink(missing_ok=True)
            nothing_to_do = writes.complete and writes.model_path.is_file() and config == writes.config and resume
            if not nothing_to_do:
                writes.begin(config, prepared)
        trained = train_model(
            prepared.model,
            prepared.train,
            prepared.validation,
            config,
            checkpoint=run.checkpoint_path if run is not None else None,
            metrics=run.metrics_path if run is not None else None,
            resume=resume,
            progress=progress,
            device=device,
            devices=place.size // place.machines,
            num_nodes=place.machines,
            callbacks=callbacks,
        )
        now("measuring the fit")
        report = measure(prepared)
        seconds = time.perf_counter() - start
        early = None if trained.early is None else with_weights(prepared.model, trained.early[1])
        if writes is not None and not nothing_to_do:
            extra = {"run": str(writes.info["id"])}
            save_model(prepared.model, writes.model_path, extra)
            if early is not None:
                save_model(early, writes.early_path, extra)
            facts = {
                "epochs": len(trained.history),
                "best_epoch": trained.best_epoch,
                "kept_epoch": trained.kept_epoch,
                "early_epoch": None if trained.early is None else trained.early[0],
                "stopped_early": trained.stopped_early,
                "seconds": float(trained.history["seconds"].sum()),
                "parameters": sum(p.numel() for p in prepared.model.parameters()),
                "device": device,
                "processes": place.size,
            }
            writes.info["warnings"] = list(prepared.warnings)  # measuring may have added some
            writes.finish(report, facts)
    return TrainResult(
        model=prepared.model,
        standardiser=prepared.standardiser,
        split=prepared.split,
        history=trained.history,
        report=report,
        best_epoch=trained.best_epoch,
        kept_epoch=trained.kept_epoch,
        stopped_early=trained.stopped_early,
        seconds=seconds,
        warnings=prepared.warnings,
        early=early,
    )
