"""``gsnn train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from gsnn.cli._files import (
    GRAPH,
    DataFile,
    DataFormat,
    DropUnmatched,
    GraphFormat,
    InputsFile,
    OutputsFile,
    SignColumn,
    SourceColumn,
    TargetColumn,
    Time,
    file_options,
)
from gsnn.cli._output import interruptible, show_fit, show_warnings
from gsnn.training._config import NORMS, TrainConfig

_MODEL, _RUN = "Model and training", "Run"
_DEFAULTS = TrainConfig()


def _setting(name: str, text: str, **more: Any) -> Any:  # noqa: ANN401 - what typer wants
    """An option for the setting of that name; None means not given, which matters to --resume."""
    default = getattr(_DEFAULTS, name)
    flag = "--" + name.replace("_", "-")
    return typer.Option(
        flag, help=text, show_default="off" if default is None else str(default), rich_help_panel=_MODEL, **more
    )


def train(
    graph: Annotated[Path, GRAPH],
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder to write.", rich_help_panel=_RUN)],
    data: DataFile = None,
    inputs: InputsFile = None,
    outputs: OutputsFile = None,
    graph_format: GraphFormat = None,
    data_format: DataFormat = None,
    source_column: SourceColumn = None,
    target_column: TargetColumn = None,
    sign_column: SignColumn = None,
    time: Time = None,
    drop_unmatched: DropUnmatched = False,
    epochs: Annotated[int | None, _setting("epochs", "Passes over the training samples, at most.")] = None,
    channels: Annotated[int | None, _setting("channels", "Channels of every function node.")] = None,
    layers: Annotated[int | None, _setting("layers", "Residual blocks; at least 2 to infer edges.")] = None,
    norm: Annotated[str | None, _setting("norm", f"One of {', '.join(NORMS)}.")] = None,
    lr: Annotated[float | None, _setting("lr", "Learning rate.")] = None,
    weight_decay: Annotated[float | None, _setting("weight_decay", "Weight decay.")] = None,
    batch_size: Annotated[int | None, _setting("batch_size", "Samples per step.")] = None,
    dropout: Annotated[float | None, _setting("dropout", "Probability of dropping a channel.")] = None,
    patience: Annotated[
        int | None, _setting("patience", "Stop after so many epochs without a better validation loss.")
    ] = None,
    seed: Annotated[int | None, _setting("seed", "Fixes the split, the weights and the order of samples.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder.", rich_help_panel=_RUN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in the folder.", rich_help_panel=_RUN)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Train a model on a prior network and perturbation data.

    Example: gsnn train --graph network.sif --data responses.csv -o runs/first
    """
    with interruptible(f"run the same command with --resume to continue {shlex.quote(str(out))}"):
        from gsnn import workflow

        files = file_options(
            graph=graph,
            data=data,
            inputs=inputs,
            outputs=outputs,
            graph_format=graph_format,
            data_format=data_format,
            source_column=source_column,
            target_column=target_column,
            sign_column=sign_column,
            time=time,
            drop_unmatched=drop_unmatched,
        )
        told: list[str] = []

        def tell(warnings: list[str]) -> None:
            show_warnings(warnings, quiet=quiet)
            told.extend(warnings)

        run, result = workflow.train_run(
            out,
            **files,
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
            notify=tell,
        )
        show_warnings([w for w in result.warnings if w not in told], quiet=quiet)
    if not quiet:
        show_fit(result.report)
        typer.echo(f"Run folder: {run.path}")
        typer.echo(f"Next: gsnn infer {shlex.quote(str(run.path))}")
