"""Which method finds missing edges, on what kind of network? Every method and baseline on families of known truth.

    python benchmarks/recovery.py --quick      # one small cell of a few families, 2 minutes
    python benchmarks/recovery.py              # one factor at a time around a base point, 5 seeds
    python benchmarks/recovery.py --full       # the grid
    python benchmarks/recovery.py --realistic  # teachers on published topologies (minutes a cell)
    python benchmarks/recovery.py --dream4     # DREAM4, once
    python benchmarks/recovery.py --table      # the tables of what is done

Finished cells stand in ``recovery.csv`` beside this file and are not done again; ``--results`` names another file.
A cell is a problem: one graph, one data set, one hold-out. Means and SDs are over cells.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pandas as pd
import torch

from gsnn.base.files import atomic_path
from recovery_families import LOGICAL, dream4, knockouts, logical, random_graph, setting
from recovery_methods import all_scores, measure, settings_of
from teachers import REPORT, SIZES, TUNING, Problem, realistic

RESULTS = Path(__file__).with_name("recovery.csv")
KINDS = ("dag", "layered", "scale-free", "cyclic", "nonlinear")
SEEDS = range(5)
FIGURES = ("auc", "auc_live", "aupr", "mrr", "precision_at_k", "hits_at_100")
# The base point and what is varied around it, on random DAGs.
FACTORS: dict[str, tuple[float, ...]] = {
    "noise": (0.05, 0.15, 0.5),
    "fraction": (0.05, 0.1, 0.2, 0.4),
    "n_train": (100, 500, 1000, 5000),
}
BASE = {"noise": 0.15, "fraction": 0.2, "n_train": 1000}


@dataclass(frozen=True)
class Cell:
    """One problem to be made and measured.

    Attributes:
        family: Row of the table.
        value: What was varied, such as ``noise=0.5``; empty at the base point.
        seed: Of graph, data, hold-out and training.
        make: Builds the problem.
        changes: Of the training.
        repeats: Refits of the stack; None: its own choice.
        embeddings: Whether to train the regressor and the embeddings, too.
    """

    family: str
    value: str
    seed: int
    make: Callable[[], Problem]
    changes: dict[str, object]
    repeats: int | None = None
    embeddings: bool = True

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from the others."""
        return self.family, self.value, self.seed


def quick_cells() -> Iterator[Cell]:
    """A look at everything in two minutes on one thread."""
    small: dict[str, object] = {"epochs": 12, "channels": 4, "layers": 6}
    for kind in ("dag", "cyclic"):
        yield Cell(f"quick {kind}", "", 0, lambda kind=kind: random_graph(kind, 0, n=25), small, 2)
    yield Cell("quick B", "", 0, lambda: setting("B", 0), {"epochs": 8}, 2)


def default_cells() -> Iterator[Cell]:
    """Families at the base point, then one factor at a time; seed by seed, so that a table is there early."""
    for seed in SEEDS:
        for name in ("A", "B", "C"):
            yield Cell(f"setting {name}", "", seed, lambda n=name, s=seed: setting(n, s), {})
        for kind in KINDS:
            yield Cell(kind, "", seed, lambda k=kind, s=seed: random_graph(k, 100 + s), {})
        name = LOGICAL[seed % len(LOGICAL)]
        yield Cell("logical", name, seed, lambda n=name, s=seed: logical(n, 100 + s), {})
    for seed in SEEDS:
        for factor, values in FACTORS.items():
            for value in values:
                if value != BASE[factor]:
                    # Refits are most of the time: 3 in place of 8, and no embeddings.
                    yield replace(_factor_cell("dag", {factor: value}, seed), repeats=3, embeddings=False)


def full_cells() -> Iterator[Cell]:
    """The grid: every combination of the factors on every kind of graph, and every logical model with every seed."""
    yield from default_cells()
    for seed, kind in itertools.product(SEEDS, KINDS):
        for values in itertools.product(*FACTORS.values()):
            point = {k: v for k, v in zip(FACTORS, values, strict=True) if v != BASE[k]}
            if point and not (kind == "dag" and len(point) == 1):
                yield _factor_cell(kind, point, seed)
    for seed, name in itertools.product(SEEDS, LOGICAL):
        if LOGICAL[seed % len(LOGICAL)] != name:
            yield Cell("logical", name, seed, lambda n=name, s=seed: logical(n, 100 + s), {})


def _factor_cell(kind: str, point: dict[str, float], seed: int) -> Cell:
    options = {k: int(v) if k == "n_train" else v for k, v in point.items()}
    value = ", ".join(f"{k}={v:g}" for k, v in point.items())
    return Cell(kind, value, seed, lambda: random_graph(kind, 100 + seed, **options), {})  # type: ignore[arg-type]


def teacher_cells(which: tuple[tuple[str, int], ...], label: str, epochs: int) -> Iterator[Cell]:
    """Teachers on published topologies. The embeddings are left out: minutes each, and at chance."""
    for name, seed in which:
        yield Cell(
            label, name, seed, lambda n=name, s=seed: realistic(n, s), {"epochs": epochs}, None, embeddings=False
        )


def dream_cells() -> Iterator[Cell]:
    """DREAM4, once for each of five hold-outs."""
    for seed in SEEDS:
        yield Cell("DREAM4", "", seed, lambda s=seed: dream4(s), {}, None, embeddings=seed == 0)


def tuning_cells(epochs: int) -> Iterator[Cell]:
    """What may be looked at while a method is changed."""
    yield from teacher_cells(TUNING, "tuning teacher", epochs)
    for seed in range(3):
        yield Cell("tuning knock-outs", "", seed, lambda s=seed: knockouts(s), {}, None, embeddings=False)


def read(path: Path) -> pd.DataFrame:
    """The finished cells; empty without the file."""
    if not path.is_file():
        return pd.DataFrame(columns=["family", "value", "seed", "method"])
    return pd.read_csv(path, keep_default_na=False, na_values={name: ["", "nan"] for name in FIGURES})


def run(cell: Cell) -> pd.DataFrame:
    """Train, score, measure: a row for each method."""
    start = time.perf_counter()
    problem = cell.make()
    scores, facts = all_scores(
        problem,
        cell.seed,
        settings_of(problem, **cell.changes),
        repeats=cell.repeats,
        embeddings=cell.embeddings,
    )
    seconds = time.perf_counter() - start
    graph = problem.graph
    rows = [
        {
            "date": date.today().isoformat(),
            "family": cell.family,
            "value": cell.value,
            "seed": cell.seed,
            "functions": graph.N,
            "edges": len(problem.full.function_edges),
            "method": method,
            **{name: round(value, 5) for name, value in measure(problem, matrix).items()},
            "test_loss": round(facts["test_loss"], 5),
            "seconds": round(seconds, 1),
        }
        for method, matrix in scores.items()
    ]
    return pd.DataFrame(rows)


def work(
    cells: Iterator[Cell],
    path: Path,
    *,
    minutes: float | None = None,
    measured: Callable[[Cell], pd.DataFrame] = run,
) -> None:
    """Do the cells that are not done, and keep each when it is."""
    start = time.perf_counter()
    todo = list(cells)
    for number, cell in enumerate(todo, 1):
        done = read(path)
        if ((done["family"] == cell.family) & (done["value"] == cell.value) & (done["seed"] == cell.seed)).any():
            continue
        if minutes is not None and time.perf_counter() - start > 60 * minutes:
            print("time is up; call again to continue", file=sys.stderr)
            return
        began = time.perf_counter()
        try:
            rows = measured(cell)
        except FileNotFoundError as error:
            print(f"left out: {cell.family} {cell.value}: {error}", file=sys.stderr)
            continue
        # Another process may have added cells meanwhile.
        with atomic_path(path) as fresh:
            pd.concat([read(path), rows], ignore_index=True).to_csv(fresh, index=False)
        seconds = time.perf_counter() - began
        print(f"{number}/{len(todo)} {cell.family} {cell.value} #{cell.seed}: {seconds:.0f} s", file=sys.stderr)


def tables(done: pd.DataFrame) -> str:
    """Mean and SD over the cells of each family and value, as markdown."""
    parts = []
    # The teachers and the logical models differ in their networks; a table is over all of them.
    merged = done.assign(value=done["value"].where(~done["family"].isin(["logical", "teacher", "teacher size"]), ""))
    for (family, value), cells in merged.groupby(["family", "value"], sort=False):
        n = cells[["seed", "functions", "edges", "n_hidden"]].drop_duplicates().shape[0]
        dates = sorted(set(cells["date"]))
        title = f"{family}{', ' + str(value) if value else ''}: {n} problems, {dates[-1]}"
        lines = [
            f"**{title}**",
            "",
            "| method | AUC | AUC live | AUPR | MRR | P@K | hits@100 |",
            "|---|---|---|---|---|---|---|",
        ]
        grouped = cells.groupby("method", sort=False)[list(FIGURES)]
        mean, sd = grouped.mean(), grouped.std(ddof=1)
        for method in mean.sort_values("mrr", ascending=False).index:
            cellsof = [_cell(mean.loc[method, name], sd.loc[method, name], name) for name in FIGURES]
            lines.append("| " + " | ".join([str(method), *cellsof]) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(mean: float, sd: float, name: str) -> str:
    digits = 1 if name == "hits_at_100" else 3
    text = f"{mean:.{digits}f}"
    return text if pd.isna(sd) else f"{text} ± {sd:.{digits}f}"


def main() -> None:
    """Parse the arguments, run, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    for name in ("quick", "full", "realistic", "sizes", "dream4", "tuning", "table"):
        which.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--epochs", type=int, default=10, help="of the teachers' models")
    parser.add_argument("--minutes", type=float, default=None, help="begin no cell after so many minutes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=None, help="file of the finished cells")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.quick:
        path = arguments.results or Path("recovery-quick.csv")
        cells = quick_cells()
    else:
        path = arguments.results or RESULTS
        choices = {
            "full": full_cells(),
            "realistic": teacher_cells(REPORT, "teacher", arguments.epochs),
            "sizes": teacher_cells(SIZES, "teacher size", arguments.epochs),
            "dream4": dream_cells(),
            "tuning": tuning_cells(arguments.epochs),
            "table": iter(()),
        }
        cells = next((cells for name, cells in choices.items() if getattr(arguments, name)), default_cells())
    work(cells, path, minutes=arguments.minutes)
    print(tables(read(path)))


if __name__ == "__main__":
    main()
