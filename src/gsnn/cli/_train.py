"""``gsnn train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from gsnn.cli._output import interruptible, show_fit, show_warnings
from gsnn.training._config import NORMS, TrainConfig

_FILES, _MODEL, _RUN = "Data", "Model and training", "Run"
_DEFAULTS = TrainConfig()


def _setting(name: str, text: str, **more: Any) -> Any:  # noqa: ANN401 - what typer wants
    """An option for the setting of that name; None means not given, which matters to --resume."""
    default = getattr(_DEFAULTS, name)
    flag = "--" + name.replace("_", "-")
    return typer.Option(
        flag, help=text, show_default="off" if default is None else str(default), rich_help_panel=_MODEL, **more
    )


def train(
    graph: Annotated[
        Path, typer.Option(help="Prior network: SIF, or a CSV/TSV table of edges.", rich_help_panel=_FILES)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder to write.", rich_help_panel=_RUN)],
    data: Annotated[
        Path | None, typer.Option(help="Responses: MIDAS, or a table with TR: and DV: columns.", rich_help_panel=_FILES)
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="Instead of --data: matrix of treatments.", rich_help_panel=_FILES)
    ] = None,
    outputs: Annotated[
        Path | None, typer.Option(help="Instead of --data: matrix of readouts.", rich_help_panel=_FILES)
    ] = None,
    graph_format: Annotated[
        str | None, typer.Option(help="sif, csv or tsv.", show_default="recognised", rich_help_panel=_FILES)
    ] = None,
    data_format: Annotated[
        str | None, typer.Option(help="midas or matrix.", show_default="recognised", rich_help_panel=_FILES)
    ] = None,
    source_column: Annotated[str | None, typer.Option(help="Column of sources.", rich_help_panel=_FILES)] = None,
    target_column: Annotated[str | None, typer.Option(help="Column of targets.", rich_help_panel=_FILES)] = None,
    sign_column: Annotated[
        list[str] | None,
        typer.Option(help="Column of signs; twice for stimulation and inhibition.", rich_help_panel=_FILES),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Time point to use.", show_default="the last", rich_help_panel=_FILES)
    ] = None,
    drop_unmatched: Annotated[
        bool,
        typer.Option("--drop-unmatched", help="Leave out what the network does not have.", rich_help_panel=_FILES),
    ] = False,
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
        from gsnn.errors import DataError

        signs = sign_column or []
        if len(signs) > 2:
            raise DataError(f"--sign-column may be given once or twice, got {len(signs)} times")
        told: list[str] = []

        def tell(warnings: list[str]) -> None:
            show_warnings(warnings, quiet=quiet)
            told.extend(warnings)

        run, result = workflow.train_run(
            out,
            graph=graph,
            data=data,
            inputs=inputs,
            outputs=outputs,
            network_options={
                "format": graph_format,
                "source": source_column,
                "target": target_column,
                "sign": (signs[0] if len(signs) == 1 else tuple(signs)) if signs else None,
            },
            responses_options={"format": data_format, "time": time},
            build_options={"on_unmatched": "drop"} if drop_unmatched else None,
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
