"""From the tables of a report to one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn._version import __version__
from gsnn.base.errors import require
from gsnn.base.files import write_text
from gsnn.base.progress import now
from gsnn.plot.data import Check, ReportData
from gsnn.report.columns import edge_columns
from gsnn.report.contents import collect
from gsnn.report.page import CONDITIONS, page_data
from gsnn.report.summary import answers
from gsnn.report.text import capitalised, number, percent, probability, sentence

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.runs import Run

REPAIR_ROWS = 50  # repairs of an action that are listed
AUDIT_ROWS = 500  # known edges that are listed with what an audit says of them
FIRST_ROWS = 25  # rows of the table that are there without scripts
SCRIPTS = ("base.js", "charts.js", "table.js", "around.js", "network.js", "start.js")


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


def _hash(text: str) -> str:
    """Hash of an inline script for the content security policy, which allows no other script."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def render(data: ReportData) -> str:
    """One HTML page with its styles, its scripts and its data inside; it asks the network for nothing.

    Args:
        data: What to show.

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
    environment.filters |= {each.__name__: each for each in (capitalised, number, percent, probability, sentence)}
    template = environment.from_string(assets.joinpath("report.html.j2").read_text(encoding="utf-8"))
    page = page_data(data)
    columns = edge_columns(data.candidates)
    doubted = _doubted(data.audit)
    repairs = data.repairs
    best = repairs if repairs.empty else repairs.groupby("action", sort=False).head(REPAIR_ROWS)
    scripts = "\n".join(assets.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{scripts}}})();'
    library = plotly.get_plotlyjs().replace("\r\n", "\n")  # as a browser reads it, or its hash would not fit
    text: str = template.render(
        data=data,
        page=page,
        version=__version__,
        config=json.dumps(dict(data.config), indent=2, ensure_ascii=False, default=str),
        answers=answers(data),
        columns=columns,
        conditions=CONDITIONS,
        first_rows=[
            [column.cell(row) for column in columns] for row in data.candidates.head(FIRST_ROWS).to_dict("records")
        ],
        fit_rows=data.fit.to_dict("records"),
        check_rows=[] if data.check is None else _check_rows(data.check),
        group_rows=[] if data.check is None else _group_rows(data.check),
        agreement_rows=data.agreement.to_dict("records"),
        refine_rows=data.refinement.to_dict("records"),
        refined_rows=data.refined.to_dict("records"),
        audit_counts=data.audit_summary.to_dict("records"),
        audit_rows=doubted[:AUDIT_ROWS],
        audit_more=max(0, len(doubted) - AUDIT_ROWS),
        repair_rows=best.to_dict("records"),
        repair_more=len(data.repairs) - len(best),
        shown=len(page["edges"]["source"]),
        css=assets.joinpath("report.css").read_text(encoding="utf-8"),
        script=script,
        plotly=library,
        policy=f"{_hash(library)} {_hash(script)}",
        json=script_json(page),
    )
    return text


def _check_rows(check: Check) -> list[dict[Any, Any]]:
    """The figures of a self-check, the method that ranked the candidates first, baselines last."""
    table = check.summary
    matched, every = (table[table["negatives"] == kind] for kind in ("degree-matched", "all"))
    keys = ["condition", "method"]
    rows = matched.merge(every[[*keys, "average_precision", "chance"]], on=keys, suffixes=("_matched", ""))
    passed = check.controls[check.controls["negatives"] == "degree-matched"][[*keys, "verdict"]]
    records: list[dict[Any, Any]] = rows.merge(passed, on=keys, how="left").to_dict("records")
    order = list(CONDITIONS)
    return sorted(
        records, key=lambda r: (order.index(r["condition"]), r["by"] != "inferer", r["method"] != check.method)
    )


def _group_rows(check: Check) -> list[dict[Any, Any]]:
    """The two groups of hidden edges, for each inferer; empty where no hole was left."""
    table = check.groups
    return table[(table["condition"] == "real") & (table["by"] == "inferer")].to_dict("records")


def _doubted(audit: pd.DataFrame) -> list[dict[Any, Any]]:
    """Known edges that are not supported: those of the wrong sign first, then those not needed."""
    if audit.empty:
        return []
    order = ("contradicts the sign", "not needed", "cannot be judged")
    parts = [audit[audit["verdict"] == verdict].sort_values("carried", kind="stable") for verdict in order]
    return [row for part in parts for row in part.to_dict("records")]


def write_report(source: Run | ReportData, path: str | Path | None = None) -> Path:
    """Write the report of a run as one HTML file, whole or not at all.

    Args:
        source: A run, or what `collect` made of one.
        path: The file; default ``report.html`` in the run's folder.

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


def report_run(run: Run) -> Path:
    """Write the report of a run as one HTML file into its folder.

    Args:
        run: A run whose training is complete.

    Raises:
        RunError: If training is not complete, or the data are not those of the run any more.
        MissingExtraError: If the packages of the extra ``report`` are not installed.
    """
    now("writing the report")
    # Reading needs no lock, so that a report can be written during a long self-check.
    with run.lock(optional=True):
        run.refresh()
        return write_report(run)
