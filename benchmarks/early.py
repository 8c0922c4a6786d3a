"""Which weights of a training tell most of missing edges: how far should the loss have fallen?

    python benchmarks/early.py                 # all cells: an hour of one core
    python benchmarks/early.py --quick --results FILE
    python benchmarks/early.py --table

A cell is a problem of one of the families of ``recovery.py``, with edges between functions hidden, trained once. Models
are read when the training loss had fallen by 0 (untrained), 50, 85 (what the package takes) and 100 % of its fall.
Finished cells stand in ``early.csv`` and are not done again. ``permuted`` is a teacher whose responses were permuted
against its inputs before training: whatever is found there is not from the data.

Chosen on lembas:InnateDB #11 and #13, l1000:SPIKE #12 and one problem each of A, B, DREAM4 and the random graphs, of
seed 0; the seeds here are others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cells import arguments, work
from gsnn.edges import GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.training.early import SHARE
from recovery_families import dream4, random_graph, setting
from recovery_methods import batches, measure, settings_of, train_watched
from teachers import REPORT, Problem, realistic

RESULTS = Path(__file__).with_name("early.csv")
KEY = ["family", "problem"]
SHARES = (0.0, 0.5, SHARE, 1.0)
STEPS = 80_000  # samples seen in a training of a teacher, however many there are


def permuted(given: Problem) -> Problem:
    """With the responses in another order."""
    order = np.random.default_rng(0).permutation(len(given.y_train))
    return replace(given, y_train=given.y_train[order])


def cells(*, quick: bool) -> Iterator[tuple[str, str, int, Callable[[], Problem]]]:
    """Family, name, seed and maker of each problem."""

    def noisy(name: str, seed: int) -> Problem:
        return realistic(name, seed, n_train=1000, noise=0.3, n_test=100)

    for k, (name, seed) in enumerate(REPORT[: 1 if quick else None]):
        if not quick and k < 3:
            yield "teacher", f"{name} #{seed}", seed, lambda name=name, seed=seed: realistic(name, seed)
        yield "teacher, noise .3, 1000", f"{name} #{seed}", seed, lambda n=name, s=seed: noisy(n, s)
        yield "teacher, permuted", f"{name} #{seed}", seed, lambda n=name, s=seed: permuted(noisy(n, s))
    if quick:
        return
    for seed in (1, 2, 3):
        for kind in ("layered", "dag", "scale-free", "cyclic"):
            yield kind, f"#{seed}", seed, lambda kind=kind, seed=seed: random_graph(kind, seed)
        yield "DREAM4", f"#{seed}", seed, lambda seed=seed: dream4(seed)
        yield "B", f"#{seed + 1}", seed + 1, lambda seed=seed: setting("B", seed + 1)
        yield "A", f"#{seed}", seed, lambda seed=seed: setting("A", seed)


def cell(family: str, name: str, seed: int, make: Callable[[], Problem]) -> list[dict[str, object]]:
    """One training, read at every share."""
    start = time.process_time()
    given = make()
    settings = settings_of(given)
    if family.startswith("teacher"):
        # As many epochs as a user would take for so few samples.
        settings = replace(settings, epochs=min(60, max(20, STEPS // len(given.x_train))))
    models, losses = train_watched(given, given.graph, seed, settings, SHARES)
    rows: list[dict[str, object]] = []
    for share, model, loss in zip(SHARES, models, losses, strict=True):
        gradient, magnitude = GradientEdgeInferer(model, given.graph), MagnitudeEdgeInferer(model, given.graph)
        for inferer in (gradient, magnitude):
            inferer.fit(batches(given), verbose=False)
        scores = {
            "explained": gradient.score_matrix(score="explained"),
            "regressed": gradient.score_matrix(score="regressed"),
            "magnitude": magnitude.score_matrix(layer_agg="mean0"),
        }
        for method, matrix in scores.items():
            found = measure(given, matrix)
            row: dict[str, object] = {"family": family, "problem": name, "share": share, "method": method, "loss": loss}
            rows.append(row | {metric: found[metric] for metric in ("auc", "mrr", "precision_at_k")})
    seconds = round(time.process_time() - start)
    return [row | {"cpu_s": seconds, "date": date.today().isoformat()} for row in rows]


def table(path: Path) -> str:
    """Means over the problems of a family, as markdown."""
    done = pd.read_csv(path)
    lines = ["| family | n | score | " + " | ".join(f"{s:.0%}: AUC / MRR / P@K" for s in SHARES) + " |"]
    lines.append("|---|---|---|" + "---|" * len(SHARES))
    for (family, method), rows in done.groupby(["family", "method"], sort=False):
        cells_ = []
        for share in SHARES:
            mean = rows[np.isclose(rows["share"], share)].mean(numeric_only=True)
            cells_.append(f"{mean['auc']:.2f} / {mean['mrr']:.2f} / {mean['precision_at_k']:.2f}")
        lines.append(f"| {family} | {rows['problem'].nunique()} | {method} | " + " | ".join(cells_) + " |")
    return "\n".join(lines)


def main() -> None:
    """Do the cells that are not in the file, then print the table."""
    given = arguments(__doc__, RESULTS, quick="one teacher").parse_args()
    if not given.table:
        work(given.results, KEY, ((each[:2], partial(cell, *each)) for each in cells(quick=given.quick)))
    print(table(given.results))


if __name__ == "__main__":
    main()
