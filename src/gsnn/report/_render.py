"""From the tables of a report to one HTML page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import pandas as pd

from gsnn._files import write_text
from gsnn._version import __version__
from gsnn.errors import require
from gsnn.report._collect import collect
from gsnn.report._data import ReportData
from gsnn.report._network import drawn_nodes, positions

if TYPE_CHECKING:
    from gsnn.runs import Run

CURVES = {"train_loss": "training", "val_loss": "validation"}
MAX_ROWS = 5000  # candidate edges in the page's table; edges.csv has them all
MAX_POINTS = 4000  # points of the observed / predicted plot
MAX_PROPOSED = 100  # proposed edges the network can show
FIRST_ROWS = 25  # rows of the table that are there without scripts


def script_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    r"""JSON that is safe inside a ``<script>`` element, whatever names it holds.

    Example:
        >>> script_json({"name": "</script>&"})
        '{"name":"\\u003c/script\\u003e\\u0026"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def number(value: object, digits: int = 3) -> str:
    """A number for reading; an en dash where it is undefined.

    Example:
        >>> number(0.12345), number(1e-9), number(float("nan")), number(12)
        ('0.123', '1.0e-09', '–', '12')
    """
    if isinstance(value, (int, np.integer, bool, np.bool_)):
        return f"{value:d}"
    if value is None or not isinstance(value, (float, np.floating)):
        return "–" if value is None else str(value)
    if not np.isfinite(value):
        return "–"
    return f"{value:.1e}" if value != 0 and abs(value) < 10**-digits else f"{value:z.{digits}f}"


def probability(value: object) -> str:
    """A p or q for reading; one that is too small for a float is not 0.

    Example:
        >>> probability(0.0), probability(0.25)
        ('<1e-300', '0.250')
    """
    return "<1e-300" if value == 0 else number(value)


def _numbers(values: Iterable[Any]) -> list[float | None]:
    """Plain floats with None for whatever is not finite: JSON has no NaN."""
    array = pd.to_numeric(pd.Series(list(values), dtype=object), errors="coerce").to_numpy(dtype=float)
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in array]


def _fit(data: ReportData) -> dict[str, Any]:
    return {"readout": [str(name) for name in data.fit["readout"]]} | {
        column: _numbers(data.fit[column]) for column in ("n", "model", "ridge", "mean")
    }


def _predictions(data: ReportData) -> dict[str, Any]:
    table = data.predictions.dropna(subset=["observed", "predicted"])
    if len(table) > MAX_POINTS:
        table = table.sample(MAX_POINTS, random_state=0).sort_index()
    readouts = list(dict.fromkeys(str(name) for name in table["readout"]))
    index = {name: i for i, name in enumerate(readouts)}
    return {
        "readouts": readouts,
        "readout": [index[str(name)] for name in table["readout"]],
        "condition": [str(name) for name in table["condition"]],
        "observed": _numbers(table["observed"]),
        "predicted": _numbers(table["predicted"]),
    }


def _history(data: ReportData) -> dict[str, Any]:
    curves = [column for column in data.history.columns if str(column).endswith("loss")]
    return {
        "epoch": _numbers(data.history["epoch"]),
        "curves": [
            {"name": CURVES.get(str(column), str(column)), "values": _numbers(data.history[column])}
            for column in curves
        ],
    }


def _edges(candidates: pd.DataFrame) -> dict[str, Any]:
    table = candidates.head(MAX_ROWS)
    return {"source": [str(v) for v in table["source"]], "target": [str(v) for v in table["target"]]} | {
        column: _numbers(table[column]) for column in ("rank", "score", "p", "q")
    }


def _network(data: ReportData, candidates: pd.DataFrame) -> dict[str, Any]:
    """Nodes with places, known and proposed edges; nodes are numbered, so that no name is ever a key."""
    graph = nx.DiGraph()
    graph.add_nodes_from(data.functions)
    known = zip(data.network["source"], data.network["target"], data.network["sign"], strict=True)
    graph.add_edges_from((source, target, {"sign": int(sign)}) for source, target, sign in known)
    best = candidates[candidates["score"].notna()].head(MAX_PROPOSED)
    proposed = list(zip(best["source"], best["target"], strict=True))
    names = drawn_nodes(graph, proposed)
    part = graph.subgraph(names)
    ordered = nx.DiGraph()  # a subgraph view has no order of its own
    ordered.add_nodes_from(names)
    ordered.add_edges_from((source, target, part[source][target]) for source in names for target in part[source])
    place = positions(ordered, data.treated)
    index = {name: i for i, name in enumerate(names)}
    return {
        "names": [str(name) for name in names],
        "depth": [round(place[name][0], 5) for name in names],
        "place": [round(place[name][1], 5) for name in names],
        "treated": [[str(v) for v in data.treated.get(name, ())] for name in names],
        "measured": [[str(v) for v in data.measured.get(name, ())] for name in names],
        "known": [[index[a], index[b], ordered[a][b]["sign"]] for a, b in ordered.edges],
        "proposed": [[index[a], index[b]] for a, b in proposed if a in index and b in index],
        "of": graph.number_of_nodes(),
    }


def page_data(data: ReportData) -> dict[str, Any]:
    """Everything the page's script reads, JSON-able."""
    candidates = data.candidates
    return {
        "fit": _fit(data),
        "pooled": {name: _numbers([data.pooled.get(name)])[0] for name in ("model", "ridge", "mean")},
        "predictions": _predictions(data),
        "history": _history(data),
        "edges": _edges(candidates),
        "candidates": len(candidates),
        "network": _network(data, candidates),
    }


def render(data: ReportData) -> str:
    """One HTML page with its styles, its scripts and its data inside; it asks the network for nothing.

    Args:
        data: What to show.

    Returns:
        The page.

    Raises:
        MissingExtraError: If jinja2 or plotly is not installed.

    Example:
        >>> page = render(ReportData(title="A <b>name</b>"))
        >>> "<h1>A &lt;b&gt;name&lt;/b&gt;</h1>" in page
        True
    """
    jinja2 = require("jinja2", extra="report")
    plotly = require("plotly.offline", extra="report")
    assets = files("gsnn.report").joinpath("_assets")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "probability": probability}
    template = environment.from_string(assets.joinpath("report.html.j2").read_text(encoding="utf-8"))
    page = page_data(data)
    text: str = template.render(
        data=data,
        page=page,
        version=__version__,
        config=json.dumps(_plain(data.config), indent=2, ensure_ascii=False, default=str),
        first_rows=data.candidates.head(FIRST_ROWS).to_dict("records"),
        fit_rows=data.fit.to_dict("records"),
        shown=len(page["edges"]["source"]),
        css=assets.joinpath("report.css").read_text(encoding="utf-8"),
        script=assets.joinpath("report.js").read_text(encoding="utf-8"),
        plotly=plotly.get_plotlyjs(),
        json=script_json(page),
    )
    return text


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): item for key, item in value.items()}


def write_report(source: Run | ReportData, path: str | Path | None = None) -> Path:
    """Write the report of a run as one HTML file, whole or not at all.

    Args:
        source: A run, or what `collect` made of one.
        path: The file; default ``report.html`` in the run's folder.

    Returns:
        The path written.

    Raises:
        TypeError: If ``source`` is a `ReportData` and ``path`` is missing.
        MissingExtraError: If jinja2 or plotly is not installed.
    """
    data = source if isinstance(source, ReportData) else collect(source)
    if path is None:
        if isinstance(source, ReportData):
            raise TypeError("path is missing; name the file to write this ReportData to")
        path = Path(source.path) / "report.html"
    write_text(path, render(data))
    return Path(path)
