"""The options that say which files to read, the same wherever a command reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

PANEL = "Data"

GRAPH = typer.Option(help="Prior network: SIF, or a CSV/TSV table of edges.", rich_help_panel=PANEL)
DataFile = Annotated[
    Path | None, typer.Option(help="Responses: MIDAS, or a table with TR: and DV: columns.", rich_help_panel=PANEL)
]
InputsFile = Annotated[
    Path | None, typer.Option(help="Instead of --data: matrix of treatments.", rich_help_panel=PANEL)
]
OutputsFile = Annotated[Path | None, typer.Option(help="Instead of --data: matrix of readouts.", rich_help_panel=PANEL)]
GraphFormat = Annotated[
    str | None, typer.Option(help="sif, csv or tsv.", show_default="recognised", rich_help_panel=PANEL)
]
DataFormat = Annotated[
    str | None, typer.Option(help="midas or matrix.", show_default="recognised", rich_help_panel=PANEL)
]
SourceColumn = Annotated[str | None, typer.Option(help="Column of sources.", rich_help_panel=PANEL)]
TargetColumn = Annotated[str | None, typer.Option(help="Column of targets.", rich_help_panel=PANEL)]
SignColumn = Annotated[
    list[str] | None, typer.Option(help="Column of signs; twice for stimulation and inhibition.", rich_help_panel=PANEL)
]
Time = Annotated[str | None, typer.Option(help="Time point to use.", show_default="the last", rich_help_panel=PANEL)]
DropUnmatched = Annotated[
    bool, typer.Option("--drop-unmatched", help="Leave out what the network does not have.", rich_help_panel=PANEL)
]


def file_options(
    *,
    graph: Path,
    data: Path | None,
    inputs: Path | None,
    outputs: Path | None,
    graph_format: str | None,
    data_format: str | None,
    source_column: str | None,
    target_column: str | None,
    sign_column: Sequence[str] | None,
    time: str | None,
    drop_unmatched: bool,
) -> dict[str, Any]:
    """The arguments of :meth:`gsnn.runs.Sources.from_files` from what was typed.

    Raises:
        DataError: If there are more than two columns of signs.
    """
    from gsnn.errors import DataError

    signs = list(sign_column or [])
    if len(signs) > 2:
        raise DataError(f"--sign-column may be given once or twice, got {len(signs)} times")
    return {
        "graph": graph,
        "data": data,
        "inputs": inputs,
        "outputs": outputs,
        "network_options": {
            "format": graph_format,
            "source": source_column,
            "target": target_column,
            "sign": (signs[0] if len(signs) == 1 else tuple(signs)) if signs else None,
        },
        "responses_options": {"format": data_format, "time": time},
        "build_options": {"on_unmatched": "drop"} if drop_unmatched else None,
    }
