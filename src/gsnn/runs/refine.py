"""Refine the graph of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.csv_file import write_csv
from gsnn.base.errors import as_data_error
from gsnn.base.files import atomic_path, write_text
from gsnn.discovery.refinement.result import Refinement
from gsnn.graph.kinds import FUNCTION_EDGES, INPUT_EDGES, OUTPUT_EDGES
from gsnn.io.truth import read_truth
from gsnn.runs.repairs import read_run_repairs
from gsnn.runs.sample import as_many_steps, run_sample
from gsnn.runs.settings import changed_config, locked, refuse_both

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

    Beside the outcome stands the network with all that was kept, ``refined-network.csv``: its edges of all kinds. Read
    as a network it gives the edges between functions. Where edges of other kinds were changed, ``refined-map.csv`` has
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
    data, config = run_sample(run), changed_config(run.config, settings)
    if (settings or {}).get("epochs") is None:
        config = as_many_steps(config, data.drawn)
    given = {"folder": run.path, "resume": resume, "overwrite": overwrite, "truth": true, "repairs": table, **options}
    with as_data_error(), locked(run):
        found = refine(data, config, method, **given)
        edges, nodes = repaired(data.graph, found.repairs()).to_pandas()
        kind_of = nodes.set_index("name")["type"]
        edges.insert(2, "kind", edges["source"].map(kind_of) + "->" + edges["target"].map(kind_of))
        with atomic_path(run.path / NETWORK) as temporary, temporary.open("wb") as file:
            write_csv(edges, file)
        (run.path / MAP).unlink(missing_ok=True)
        if any(each.kind != FUNCTION_EDGES for each in found.repairs()):
            write_text(run.path / MAP, _map_text(edges, data))
    return found


def _map_text(edges: pd.DataFrame, data: PerturbationData) -> str:
    """The edges of treatments and readouts, as a map of names; a new target of a drug is hit as its others are."""
    rows = []
    edges = edges if "sign" in edges else edges.assign(sign=0)
    own = edges[edges["kind"] == INPUT_EDGES]
    usual = own[own["sign"] != 0].groupby("source")["sign"].first()
    for source, target, sign in own[["source", "target", "sign"]].itertuples(index=False):
        effect = "inhibits" if (sign or usual.get(source, 1)) < 0 else "activates"
        rows.append((source, target, effect, data.scales.get(source, ""), "" if sign else "the effect is not known"))
    read = edges[edges["kind"] == OUTPUT_EDGES]
    rows += [
        (target, source, "measures", "", "") for source, target in zip(read["source"], read["target"], strict=True)
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("label", "species", "effect", "scale", "note"))
    writer.writerows(rows)
    return text.getvalue()
