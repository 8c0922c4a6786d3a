"""Refine the graph of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.csv_file import csv_text, write_csv_file
from gsnn.base.errors import as_data_error
from gsnn.base.files import write_text
from gsnn.discovery.refinement.result import Refinement
from gsnn.graph.kinds import FUNCTION_EDGES, INPUT_EDGES, OUTPUT_EDGES
from gsnn.io.truth import read_truth
from gsnn.runs.repairs import read_run_repairs
from gsnn.runs.sample import as_many_steps, run_sample
from gsnn.runs.settings import changed_config, refuse_both

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.data import PerturbationData
    from gsnn.runs.folder import Run

NETWORK, MAP = "refined-network.csv", "refined-map.csv"


def refine_run(
    run: Run,
    *,
    method: str | Sequence[str] | None = None,
    truth: str | Path | None = None,
    repairs: bool | str | Path = False,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    **options: Any,  # noqa: ANN401 - of refine
) -> Refinement:
    """Refine the graph of a run, written into its folder; the run itself stays as it is.

    The network with what was kept is written too, ``refined-network.csv``, with its edges of all kinds; readers of
    networks take the edges between functions from it. Where edges of other kinds were changed, ``refined-map.csv`` has
    what treatments act on and readouts measure, as a map of names.

    Of samples that stay in their files 2,000 are drawn, and models of them are trained for as many steps as the run, as
    in :func:`gsnn.runs.selfcheck.self_check_run`.

    ``truth`` is a file of true edges (SIF or an edge table), ``repairs`` a table to try in place of what a method
    proposes (True for that of the run). For the other arguments see :mod:`gsnn.runs` and :func:`gsnn.discovery.refine`.
    """
    from gsnn.discovery.refinement import refine
    from gsnn.discovery.repairs import repaired

    refuse_both(overwrite, resume)
    true = None if truth is None else read_truth(truth)
    table = None if repairs is False else read_run_repairs(run, None if repairs is True else repairs)
    data = run_sample(run)
    config = as_many_steps(changed_config(run.config, settings), data.drawn, settings)
    options = {"folder": run.path, "resume": resume, "overwrite": overwrite, "truth": true, "repairs": table, **options}
    with as_data_error(), run.lock():
        result = refine(data, config, method, **options)
        edges, nodes = repaired(data.graph, result.repairs()).to_pandas()
        kind_of = nodes.set_index("name")["type"]
        edges.insert(2, "kind", edges["source"].map(kind_of) + "->" + edges["target"].map(kind_of))
        write_csv_file(edges, run.path / NETWORK)
        (run.path / MAP).unlink(missing_ok=True)
        if any(each.kind != FUNCTION_EDGES for each in result.repairs()):
            write_text(run.path / MAP, _map_text(edges, data))
    return result


def _map_text(edges: pd.DataFrame, data: PerturbationData) -> str:
    """The edges of treatments and readouts, as a map of names; a new target of a drug gets the effect of its others."""
    rows = []
    edges = edges if "sign" in edges else edges.assign(sign=0)
    acting = edges[edges["kind"] == INPUT_EDGES]
    usual = acting[acting["sign"] != 0].groupby("source")["sign"].first()
    for source, target, sign in acting[["source", "target", "sign"]].itertuples(index=False):
        effect = "inhibits" if (sign or usual.get(source, 1)) < 0 else "activates"
        rows.append((source, target, effect, data.scales.get(source, ""), "" if sign else "the effect is not known"))
    read = edges[edges["kind"] == OUTPUT_EDGES]
    rows += [(row.target, row.source, "measures", "", "") for row in read.itertuples()]
    return csv_text(("label", "species", "effect", "scale", "note"), rows)
