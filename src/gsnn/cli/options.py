"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[Path, typer.Argument(help="Run folder of gsnn train.", metavar="RUN")]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        help="Kinds of edges, each by itself: input (where treatments act), function (between functions), output (what "
        "a readout reads), or all; repeated, or with commas.",
        show_default="function",
    ),
]
Picture = Annotated[str, typer.Option(help="Picture in the run folder, .png, .svg or .pdf; empty for none.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")
]
