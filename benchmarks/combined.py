"""What does the data add to topology, and topology to the data? ``combined`` beside its parts, on families of problems.

    python benchmarks/combined.py              # all cells, about a minute each on one core
    python benchmarks/combined.py --quick --results FILE
    python benchmarks/combined.py --table

A cell is a problem with edges between functions hidden, trained once; its model is read when most was learnt. Beside
``learned`` (what other problems have taught, ``learned/``) and ``combined`` stand ``explained`` (the trained model
alone), ``likely`` (what is learnt from hidden known edges, with an untrained network), ``structure`` (the same without
any network), ``learned structure`` (what the other problems have taught of topology alone) and ``structure +
explained``. The difference to the best of both structures, degree product and common neighbours is what the data add.
AUC is also against negatives that are like each hidden edge in degrees and distance, or in the score ``structure``.
``permuted`` is a teacher whose responses were permuted against its inputs: there nothing may be added. Finished cells
stand in ``combined.csv`` and are not done again.

Everything of ``combined`` was chosen on lembas:InnateDB #11 and #13, l1000:SPIKE #12, and seeds 0 and 10 of the random
graphs, B and DREAM4; the problems here are others. ``learned`` has seen neither the data bases of these teachers nor
any of these seeds.
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
from early import STEPS, permuted
from gsnn.discovery import StructureEdgeInferer, prior_scores
from gsnn.discovery.learned import LearnedEdgeInferer
from gsnn.discovery.stacked.combined import FLOOR
from gsnn.edges import MeasuredEdgeInferer
from gsnn.edges.pairs import PriorEdges
from gsnn.training.early import SHARE
from recovery_families import LOGICAL, dream4, logical, random_graph, setting
from recovery_methods import batches, degrees_and_distance, matched_auc, measure, settings_of, train_watched
from teachers import REPORT, Problem, realistic

RESULTS = Path(__file__).with_name("combined.csv")
KEY = ["family", "problem"]
# Added to REPORT before anything was run: the four topologies again.
REPORT_MORE: tuple[tuple[str, int], ...] = (
    ("l1000:BioGRID", 106),
    ("lembas:PhosphoPoint", 107),
    ("l1000:SignaLink3", 108),
    ("lembas:KEGG", 109),
    ("l1000:SignaLink3", 110),
)
NOISY = "teacher, noise .3, 500"


def cells(*, quick: bool) -> Iterator[tuple[str, str, int, Callable[[], Problem]]]:
    """Family, name, seed and maker of each problem."""

    def noisy(name: str, seed: int) -> Problem:
        return realistic(name, seed, n_train=500, noise=0.3, n_test=100)

    for name, seed in REPORT[:1] if quick else [*REPORT, *REPORT_MORE]:
        yield NOISY, f"{name} #{seed}", seed, lambda n=name, s=seed: noisy(n, s)
    if quick:
        return
    for seed in (1, 2, 3, 4, 5):
        for kind in ("layered", "dag", "scale-free", "cyclic", "nonlinear"):
            yield kind, f"#{seed}", seed, lambda kind=kind, seed=seed: random_graph(kind, seed)
        yield "DREAM4", f"#{seed}", seed, lambda seed=seed: dream4(seed)
        yield "B", f"#{seed}", seed, lambda seed=seed: setting("B", seed)
        name = LOGICAL[seed % len(LOGICAL)]
        yield "logical", name, seed, lambda name=name, seed=seed: logical(name, 100 + seed)
    for name, seed in REPORT:
        yield "teacher, permuted", f"{name} #{seed}", seed, lambda n=name, s=seed: permuted(noisy(n, s))
    for name, seed in (REPORT[2], REPORT_MORE[2], REPORT_MORE[4]):
        for read, knocked in ((0.25, 0.0), (1.0, 0.0), (1.0, 0.5)):
            label = f"teacher, noise .3, 500, {read:.0%} read, knock-outs in {knocked:.0%}"

            def given(name: str = name, seed: int = seed, read: float = read, knocked: float = knocked) -> Problem:
                return realistic(name, seed, n_train=500, noise=0.3, n_test=100, read=read, knocked=knocked)

            yield label, f"{name} #{seed}", seed, given
    for name, seed in REPORT:
        yield "teacher", f"{name} #{seed}", seed, lambda name=name, seed=seed: realistic(name, seed)
    for seed in (1, 2, 3):
        yield "A", f"#{seed}", seed, lambda seed=seed: setting("A", seed)


def cell(family: str, name: str, seed: int, make: Callable[[], Problem]) -> list[dict[str, object]]:
    """One training, and every score."""
    start = time.process_time()
    given = make()
    settings = settings_of(given)
    if family.startswith("teacher"):
        settings = replace(settings, epochs=min(60, max(20, STEPS // len(given.x_train))))
    (model,), _ = train_watched(given, given.graph, seed, settings, (SHARE,))
    trained = time.process_time()
    inferer, structure = LearnedEdgeInferer(model, given.graph), StructureEdgeInferer(model, given.graph)
    inferer.fit(batches(given), verbose=False)
    scored = inferer.scored(score="combined")
    spent = time.process_time() - trained
    learned = inferer.score_matrix()
    longer = time.process_time() - trained
    structure.fit(batches(given), verbose=False)
    pairs = np.arange(scored.score.size)
    likely, explained = (scored.columns[each](pairs).reshape(scored.score.shape) for each in ("likely", "explained"))
    alone = structure.score_matrix()
    measured = MeasuredEdgeInferer(model, given.graph)
    measured.fit(batches(given), verbose=False)
    user = prior_scores(given.graph)
    log = np.log(np.maximum(np.nan_to_num(explained), FLOOR))
    scores = {
        "learned": learned,
        "learned structure": inferer.beside()["structure"].score,
        "combined": scored.score,
        "explained": explained,
        "likely": np.where(PriorEdges(given.graph).matrix(), np.nan, likely),
        "structure": alone,
        "structure + explained": alone + log,
        "measured": measured.score_matrix(),
        **{each: user[each] for each in ("random", "degree product", "common neighbours")},
    }
    alike = {"degrees": degrees_and_distance(given.graph), "structure": alone}
    rows: list[dict[str, object]] = []
    for method, matrix in scores.items():
        found = measure(given, matrix)
        row: dict[str, object] = {"family": family, "problem": name, "method": method}
        row |= {metric: round(found[metric], 5) for metric in ("auc", "mrr", "precision_at_k", "aupr")}
        row |= {f"auc_{name}": round(matched_auc(given, matrix, by), 5) for name, by in alike.items()}
        rows.append(row)
    facts: dict[str, object] = {"functions": given.graph.N, "weight": round(inferer.weight, 3)}
    facts |= {"distance": round(inferer.distance, 2), "score_s": round(spent, 1), "learned_s": round(longer, 1)}
    facts |= {"cpu_s": round(time.process_time() - start)}
    return [row | facts | {"date": date.today().isoformat()} for row in rows]


def gain(rows: pd.DataFrame, method: str, other: str, metric: str) -> str:
    """What a method gains over another, paired, with a 95 % interval; structure is the best of ours and the user's."""
    wide = rows.pivot_table(index="problem", columns="method", values=metric)
    topology = ["learned structure", "structure", "degree product", "common neighbours"]
    found = (wide[method] - (wide[topology].max(axis=1) if other == "structure" else wide[other])).to_numpy()
    half = 1.96 * found.std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else float("nan")
    return f"{found.mean():+.3f} ± {half:.3f}"


def table(path: Path) -> str:
    """Means over the problems of a family, and paired differences with a 95 % interval, as markdown."""
    done = pd.read_csv(path)
    shown = (
        "learned",
        "combined",
        "explained",
        "likely",
        "learned structure",
        "structure",
        "structure + explained",
        "measured",
    )
    figures = {
        "AUC / MRR / P@K": ("auc", "mrr", "precision_at_k"),
        "AUC against negatives alike in degrees and distance / in structure": ("auc_degrees", "auc_structure"),
    }
    lines: list[str] = []
    for title, metrics in figures.items():
        lines += ["", title, "", f"| family | n | {' | '.join(shown)} |", "|---|---|" + "---|" * len(shown)]
        for family, rows in done.groupby("family", sort=False):
            mean = rows.groupby("method").mean(numeric_only=True)
            texts = [" / ".join(f"{mean[metric].get(method, np.nan):.2f}" for metric in metrics) for method in shown]
            lines.append(f"| {family} | {rows['problem'].nunique()} | {' | '.join(texts)} |")
    for method in ("learned", "combined"):
        others = ["structure", "explained", *(["combined"] if method == "learned" else [])]
        lines += ["", f"| family | n | {' | '.join(f'{method} less {other}: MRR, P@K' for other in others)} |"]
        lines.append("|---|---|" + "---|" * len(others))
        for family, rows in done.groupby("family", sort=False):
            parts = [", ".join(gain(rows, method, other, metric) for metric in ("mrr", "precision_at_k"))
                     for other in others]  # fmt: skip
            lines.append(f"| {family} | {rows['problem'].nunique()} | " + " | ".join(parts) + " |")
    return "\n".join(lines)


def main() -> None:
    """Do the cells that are not in the file, then print the tables."""
    given = arguments(__doc__, RESULTS, quick="one teacher").parse_args()
    if not given.table:
        work(given.results, KEY, ((each[:2], partial(cell, *each)) for each in cells(quick=given.quick)))
    print(table(given.results))


if __name__ == "__main__":
    main()
