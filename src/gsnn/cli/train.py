"""``gsnn train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from gsnn.base.progress import stage
from gsnn.cli.config import Config
from gsnn.cli.files import Files, reads_files
from gsnn.cli.options import AsJson, Quiet
from gsnn.cli.output import interruptible, print_json, show_fit, show_next, show_verdict, show_warnings
from gsnn.training.config import NORMS, TrainConfig

_MODEL, _RUN, _PROCESSES = "Model and training", "Run", "Several processes"
_STARTED = "1, or what torchrun or srun started"
_DEFAULTS = TrainConfig()


def _setting(name: str, text: str, **more: Any) -> Any:  # noqa: ANN401 - what typer wants
    """An option for the setting of that name; None means not given, which matters to --resume."""
    default = getattr(_DEFAULTS, name)
    flag = "--" + name.replace("_", "-")
    return typer.Option(
        flag, help=text, show_default="off" if default is None else str(default), rich_help_panel=_MODEL, **more
    )


@reads_files
def train(
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Run folder to write.", rich_help_panel=_RUN)] = None,
    files: Files = Files(),  # noqa: B008 - frozen
    epochs: Annotated[int | None, _setting("epochs", "Passes over the training samples, at most.")] = None,
    channels: Annotated[int | None, _setting("channels", "Channels of every function node.")] = None,
    layers: Annotated[int | None, _setting("layers", "Residual blocks; at least 2 to infer edges.")] = None,
    norm: Annotated[str | None, _setting("norm", f"One of {', '.join(NORMS)}.")] = None,
    lr: Annotated[float | None, _setting("lr", "Learning rate.")] = None,
    weight_decay: Annotated[float | None, _setting("weight_decay", "Weight decay.")] = None,
    batch_size: Annotated[int | None, _setting("batch_size", "Samples per step.")] = None,
    dropout: Annotated[float | None, _setting("dropout", "Probability of dropping a channel.")] = None,
    patience: Annotated[
        int | None,
        _setting("patience", "Stop after so many epochs without a better loss on held-out conditions."),
    ] = None,
    seed: Annotated[int | None, _setting("seed", "Fixes the split, the weights and the order of samples.")] = None,
    regressor: Annotated[
        bool,
        typer.Option(
            "--regressor",
            help="Also let a regressor learn which edges the model lacks, for gsnn infer --method regressor.",
            rich_help_panel=_MODEL,
        ),
    ] = False,
    members: Annotated[
        int | None,
        typer.Option(
            help="Also train this many models, each on conditions drawn with replacement: gsnn predict then gives "
            "intervals, and gsnn infer averages their ranks. With --resume they are added to a run.",
            show_default="none",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder.", rich_help_panel=_RUN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in the folder.", rich_help_panel=_RUN)
    ] = False,
    devices: Annotated[
        int | None,
        typer.Option(
            help="Processes on each machine that share every batch.", show_default=_STARTED, rich_help_panel=_PROCESSES
        ),
    ] = None,
    num_nodes: Annotated[
        int | None,
        typer.Option(
            help="Machines; start the command on each with torchrun or srun.",
            show_default=_STARTED,
            rich_help_panel=_PROCESSES,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where to train: cpu, or cuda for a GPU.", rich_help_panel=_PROCESSES)
    ] = "cpu",
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on a prior network and perturbation data.

    Example: gsnn train --graph network.sif --data responses.csv -o runs/first
    """
    from gsnn.base.errors import DataError
    from gsnn.base.launch import training_place

    reading = files.reading()
    if out is None:
        raise DataError("give the run folder to write with -o (in a --config file: run)")
    place = training_place(devices, num_nodes)
    # Only the first of several processes prints.
    quiet, as_json = quiet or not place.first, as_json and place.first
    hint = f"run the same command with --resume to continue {shlex.quote(str(out))}"
    with interruptible(hint), stage("reading network and data", show=not quiet):
        from gsnn.runs.train import train_files

        shown: list[str] = []

        def notify(warnings: list[str]) -> None:
            show_warnings(warnings, quiet=quiet)
            shown.extend(warnings)

        run, result = train_files(
            out,
            **reading,
            settings={
                "epochs": epochs,
                "channels": channels,
                "layers": layers,
                "norm": norm,
                "lr": lr,
                "weight_decay": weight_decay,
                "batch_size": batch_size,
                "dropout": dropout,
                "patience": patience,
                "seed": seed,
            },
            overwrite=overwrite,
            resume=resume,
            progress=not quiet,
            notify=notify,
            devices=devices,
            num_nodes=num_nodes,
            device=device,
            regressor=regressor,
            members=members,
        )
        show_warnings([warning for warning in result.warnings if warning not in shown], quiet=quiet)
    if as_json:
        print_json(
            {
                "run": run.path,
                **{name: run.info[name] for name in ("status", "config", "data", "fit", "training", "warnings")},
                "best_epoch": result.best_epoch,
                "members": run.n_members,
                "verdict": result.verdict.at(run.path).to_dict(),
            }
        )
    elif not quiet:
        show_fit(result.report)
        show_verdict(result.verdict)
        typer.echo(f"Run folder: {run.path}" + (f" with {run.n_members} members" if run.n_members else ""))
        show_next(result.verdict.next, run.path)
