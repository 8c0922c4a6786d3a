"""Options that say which files to read and how, for all commands that read them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

PANEL, ANNDATA = "Data", "Data in AnnData (.h5ad)"


def _option(text: str, *flags: str, panel: str = PANEL, **more: Any) -> Any:  # noqa: ANN401 - what typer wants
    return typer.Option(*flags, help=text, rich_help_panel=panel, **more)


@dataclass(frozen=True)
class Files:
    """Which files to read and how; each field is an option of every command made with :func:`reads_files`."""

    graph: Annotated[
        Path | None, _option("Prior network: SIF, GraphML, or a table of edges (CSV, TSV, Parquet; OmniPath, SIGNOR).")
    ] = None
    data: Annotated[Path | None, _option("Responses: MIDAS, a table with TR: and DV: columns, or AnnData (.h5ad).")] = (
        None
    )
    inputs: Annotated[Path | None, _option("Instead of --data: matrix of treatments.")] = None
    outputs: Annotated[Path | None, _option("Instead of --data: matrix of readouts.")] = None
    map: Annotated[
        Path | None,
        _option("Table that says which species labels stand for: label,species,effect[,site,scale].", "--map"),
    ] = None
    graph_format: Annotated[str | None, _option("sif, csv, tsv, parquet or graphml.", show_default="recognised")] = None
    data_format: Annotated[str | None, _option("midas, matrix or h5ad.", show_default="recognised")] = None
    source_column: Annotated[
        str | None, _option("Column of sources: its name, or where there is no header its number, from 1.")
    ] = None
    target_column: Annotated[str | None, _option("Column of targets, likewise.")] = None
    sign_column: Annotated[list[str] | None, _option("Column of signs; twice for stimulation and inhibition.")] = None
    undirected: Annotated[
        str | None, _option("Edges without a direction: both (an edge each way) or drop.", show_default="both")
    ] = None
    node_names: Annotated[
        str | None, _option("Of GraphML: the node attribute with the names, or id.", show_default="recognised")
    ] = None
    time: Annotated[str | None, _option("Time point to use.", show_default="the last")] = None
    cell_line: Annotated[str | None, _option("Keep only the rows of this cell line.")] = None
    where: Annotated[
        list[str] | None, _option('Keep only the samples with "column=value"; may be repeated, and all must hold.')
    ] = None
    exclude_label: Annotated[
        list[str] | None,
        _option("Leave out the samples with this label of --perturbation; may be repeated.", panel=ANNDATA),
    ] = None
    ignore_case: Annotated[bool, _option("Match names whatever their case.", "--ignore-case")] = False
    decimal: Annotated[str | None, _option("What separates decimals: . or ,", show_default=".")] = None
    drop_unmatched: Annotated[
        bool,
        _option("Leave out names that the network lacks, and samples with such a treatment.", "--drop-unmatched"),
    ] = False
    stream: Annotated[
        bool | None,
        _option(
            "Leave the samples in their files (Parquet, .h5ad, .npy) and read some at a time.",
            "--stream/--no-stream",
            show_default="above 1 GiB",
        ),
    ] = None
    treatment_names: Annotated[
        Path | None, _option("Of .npy or --obsm: text file with the name of each treatment.")
    ] = None
    readout_names: Annotated[Path | None, _option("Of .npy: the same for outputs.")] = None
    perturbation: Annotated[
        list[str] | None, _option("Column of obs with the treatment; may be repeated.", panel=ANNDATA)
    ] = None
    dose: Annotated[str | None, _option("Column of obs with the dose.", panel=ANNDATA)] = None
    control: Annotated[
        list[str] | None,
        _option("Category that is no treatment; may be repeated.", panel=ANNDATA, show_default="the usual words"),
    ] = None
    separator: Annotated[str | None, _option("What separates several treatments: + for A+B.", panel=ANNDATA)] = None
    obsm: Annotated[str | None, _option("Instead of --perturbation: key in obsm.", panel=ANNDATA)] = None
    effect: Annotated[
        str | None, _option("inhibitor or stimulus, for all treatments.", panel=ANNDATA, show_default="by their names")
    ] = None
    layer: Annotated[str | None, _option("Layer with the responses.", panel=ANNDATA, show_default="X")] = None
    var_names: Annotated[
        str | None, _option("Column of var with the names.", panel=ANNDATA, show_default="its index")
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """The options that were used, with their values."""
        values = {name: getattr(self, name) for name in FILE_OPTIONS}
        return {name: value for name, value in values.items() if value not in (None, False, [])}

    def reading(self) -> dict[str, Any]:
        """The arguments of :meth:`gsnn.runs.Sources.from_files`.

        Raises:
            DataError: If there is no network, or there are more than two columns of signs.
        """
        from gsnn.base.errors import DataError

        if self.graph is None:
            raise DataError("give the prior network with --graph (in a --config file: graph, under [data])")
        signs = list(self.sign_column or [])
        if len(signs) > 2:
            raise DataError(f"--sign-column may be given once or twice, got {len(signs)} times")
        names = ("perturbation", "dose", "control", "separator", "obsm", "effect", "layer", "var_names")
        anndata = {name: getattr(self, name) for name in names if getattr(self, name)}
        if self.exclude_label:
            anndata["exclude"] = list(self.exclude_label)
        lists = {"treatments": self.treatment_names, "readouts": self.readout_names}
        columns = {kind: _names_in(path) for kind, path in lists.items() if path is not None}
        if self.obsm and "treatments" in columns:
            anndata["treatment_names"] = columns.pop("treatments")
        return {
            "graph": self.graph,
            "data": self.data,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "names": self.map,
            "network_options": {
                "format": self.graph_format,
                "source": self.source_column,
                "target": self.target_column,
                "sign": (signs[0] if len(signs) == 1 else tuple(signs)) if signs else None,
                "undirected": self.undirected,
                "name": self.node_names,
            },
            "responses_options": {
                "format": self.data_format,
                "time": self.time,
                "cell_line": self.cell_line,
                "where": list(self.where) if self.where else None,
                "decimal": self.decimal,
                "anndata": anndata or None,
                "stream": self.stream,
                "names": columns or None,
            },
            "build_options": {
                "on_unmatched": "drop" if self.drop_unmatched else None,
                "ignore_case": self.ignore_case or None,
            },
        }


def _names_in(path: Path) -> list[str]:
    """The names in a text file, one a line."""
    from gsnn.io.text import read_text

    return [line.strip() for line in read_text(path, "names").content.splitlines() if line.strip()]


FILE_OPTIONS = tuple(field.name for field in fields(Files))


def reads_files(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the argument ``files`` of a command by the options of `Files`, from which it is made."""
    hints = get_type_hints(Files, include_extras=True) | get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        own = inspect.signature(Files).parameters.values() if name == "files" else [parameter]
        parameters += [each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY) for each in own]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:  # noqa: ANN401 - what typer passes
        files = Files(**{name: values.pop(name) for name in FILE_OPTIONS})
        command(files=files, **values)

    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper
