"""What ``gsnn infer`` ranks with each method as it comes, on the problems of ``recovery.py``.

    python benchmarks/recovery_commands.py               # families, teachers and DREAM4; a quarter of an hour
    python benchmarks/recovery_commands.py --table

``recovery.py`` reads the gradient scores as they are defined, without taking off what they are under permutation; the
commands take it off, which lowers what the graph alone says. This compares the two, and supports the default method.
Finished problems stand in ``recovery_commands.csv`` beside this file and are not done again.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from gsnn.discovery.methods import METHODS
from recovery import Cell, default_cells, dream_cells, read, teacher_cells, work
from recovery_methods import batches, measure, settings_of, train
from teachers import REPORT

RESULTS = Path(__file__).with_name("recovery_commands.csv")
FIGURES = ("auc", "mrr", "precision_at_k")


def cells() -> Iterator[Cell]:
    """The families at their base point, the teachers of `REPORT`, the hold-outs of DREAM4."""
    yield from itertools.takewhile(lambda cell: not (cell.family == "dag" and cell.value), default_cells())
    yield from dream_cells()
    yield from teacher_cells(REPORT, "teacher", 10)


def run(cell: Cell) -> pd.DataFrame:
    """Train once, score with every method that reads one training."""
    problem = cell.make()
    model = train(problem, problem.graph, cell.seed, settings_of(problem, **cell.changes))
    samples = batches(problem)[:8] if cell.family == "teacher" else batches(problem)
    fitted = {}
    rows = []
    for name, method in METHODS.items():
        if not method.by_default:
            continue
        kind = method.inferer
        if kind not in fitted:
            fitted[kind] = kind(model, problem.graph)
            fitted[kind].fit(samples, verbose=False)
        variants = {name: dict(method.options)}
        if "gradient" in name:
            variants[f"{name}, as defined"] = {**method.options, "null_correction": False}
        for label, options in variants.items():
            found = measure(problem, fitted[kind].score_matrix(**options))
            rows.append({"method": label, **{figure: round(found[figure], 5) for figure in FIGURES}})
    return pd.DataFrame(rows).assign(family=cell.family, value=cell.value, seed=cell.seed)


def table(done: pd.DataFrame) -> str:
    """MRR / AUC of each method and family, means over problems; the last column is the mean of the families."""
    means = done.groupby(["method", "family"], sort=False)[list(FIGURES)].mean()
    families = list(dict.fromkeys(done["family"]))
    lines = ["| MRR / AUC | " + " | ".join([*families, "mean"]) + " |", "|---" * (len(families) + 2) + "|"]
    for method in dict.fromkeys(done["method"]):
        own = means.loc[method].loc[families]
        pairs = [*own[["mrr", "auc"]].to_numpy(), own[["mrr", "auc"]].mean().to_numpy()]
        text = [f"{mrr:.2f} / {auc:.2f}".replace("0.", ".") for mrr, auc in pairs]
        lines.append("| " + " | ".join([method, *text]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print what is done")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        work(cells(), arguments.results, measured=run)
    print(table(read(arguments.results)))


if __name__ == "__main__":
    main()
