"""Does a list with a stated false discovery rate have it?

    python benchmarks/stated_rates.py            # all cells, 2 to 5 minutes each on one core
    python benchmarks/stated_rates.py --table

Known edges of a problem are hidden once more by a self-check (a tenth, three times), and the candidates are listed
that have a stated rate of at most 10, 20 or 50 %, as :meth:`gsnn.discovery.SelfCheck.precision` tells it. They are
compared with what is missing: a tenth of all edges, drawn at random, or those with the fewest references. ``listed`` is
how many, ``false`` the share of them that is not missing. A list of none has no false edges, as in any false discovery
rate; so the mean over the problems is what is stated, and the mean over those with a list stands beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cells import arguments, read, work
from gsnn.data import PerturbationData
from gsnn.discovery import self_check
from gsnn.discovery.retrain import resolve_scorers, train_on
from gsnn.discovery.selfcheck.precision import false_shares
from gsnn.edges.pairs import PriorEdges
from gsnn.training import TrainConfig
from recovery_families import setting
from teachers import REPORT, Problem, realistic

RESULTS = Path(__file__).with_name("stated_rates.csv")
KEY = ["family", "problem", "method", "taken for missing"]
TAKEN = ("as many of those that can be hidden", "as many of all")
METHODS = ("learned", "gradient-explained")
LEVELS = (0.1, 0.2, 0.5)
FRACTION, REPEATS = 0.1, 3


def problems() -> Iterator[tuple[str, str, Any]]:
    """Family, name and maker."""
    noisy = {"n_train": 500, "noise": 0.3, "n_test": 100}
    for number, (name, seed) in enumerate(REPORT):
        if number in (1, 2):
            for letter in ("B", "A"):
                yield "converging", f"{letter} #{number}", partial(setting, letter, number)
        label = f"{name} #{seed}"
        rich = noisy | {"read": 1.0, "knocked": 0.5}
        yield "all read, knock-outs in half", label, partial(realistic, name, seed, **rich)
        yield (
            "all read, knock-outs in half, the least cited missing",
            label,
            partial(realistic, name, seed, **rich, by_evidence=True),
        )
        yield "transcription factors read", label, partial(realistic, name, seed, **noisy)


def prepared(problem: Problem) -> tuple[PerturbationData, TrainConfig]:
    """As data and settings of the package."""
    graph = problem.graph
    x, y = pd.DataFrame(problem.x_train, columns=graph.inputs), pd.DataFrame(problem.y_train, columns=graph.outputs)
    given = {key: value for key, value in problem.training.items() if key != "one_cycle"}
    config = TrainConfig.from_dict({"epochs": 60, "batch_size": 64, **given, "test": 0.05, "seed": 0})
    return PerturbationData(graph, x, y), config


def cell(family: str, name: str, make: Any) -> list[dict[str, object]]:
    """A self-check, a training, and the lists of every method."""
    start = time.process_time()
    problem = make()
    data, config = prepared(problem)
    check = self_check(data, config, METHODS, fraction=FRACTION, repeats=REPEATS, controls=(), seed=0)
    model = train_on(data, data.graph, config)
    candidates = PriorEdges(data.graph).candidates()
    place = {node: i for i, node in enumerate(data.graph.functions)}
    true = np.zeros_like(candidates)
    for s, t in [*problem.hidden, *problem.lost]:
        true[place[s], place[t]] = True
    rows = []
    for method in METHODS:
        score = resolve_scorers(method, config)[method](model.model, model.graph, model.batches)
        order = np.argsort(-np.where(candidates & np.isfinite(score), score, -np.inf).ravel(), kind="stable")
        order = order[: int((candidates & np.isfinite(score)).sum())]
        ranks, weight, n_hidden = check._weighted_ranks(check._records("real"), method)
        hit = true.ravel()[order]
        counts = check.counts
        findable = counts["n_testable"] / (counts["n_testable"] + counts["n_cut_off"])
        every = FRACTION / (1 - FRACTION) * int(check.settings["n_known"]) * findable
        for taken, lacking in zip(TAKEN, (check.missing_edges(), every), strict=True):
            shares = false_shares(ranks, weight, lacking, np.arange(1, len(order) + 1), len(order))
            row: dict[str, object] = dict(zip(KEY, (family, name, method, taken), strict=True))
            row |= {"missing": int(true.sum()), "taken": round(lacking, 1), "hidden": n_hidden}
            for level in LEVELS:
                k = int((shares <= level).sum())
                row |= {f"listed {level:.0%}": k, f"false {level:.0%}": float(1 - hit[:k].mean()) if k else 0.0}
            row |= {"P@10": float(hit[:10].mean()), "P@K": float(hit[: int(true.sum())].mean())}
            rows.append(row)
    spent = {"cpu_s": round(time.process_time() - start), "date": date.today().isoformat()}
    return [row | spent for row in rows]


def table(path: Path) -> str:
    """Means over the problems of a family, as markdown."""
    done = read(path, KEY)
    titles = [f"stated {level:.0%}: with a list, listed, false, of those with a list" for level in LEVELS]
    lines = [
        f"| family | method | taken for missing | n | {' | '.join(titles)} | P@10 | P@K |",
        "|---|---|---|---|" + "---|" * (len(LEVELS) + 2),
    ]
    for (family, method, taken), rows in done.groupby([KEY[0], *KEY[2:]], sort=False):
        cells = []
        for level in LEVELS:
            listed, false = rows[f"listed {level:.0%}"], rows[f"false {level:.0%}"]
            having = listed > 0
            of_those = f"{false[having].mean():.2f}" if having.any() else "-"
            cells.append(f"{having.sum()}, {listed.mean():.1f}, {false.mean():.2f}, {of_those}")
        figures = " | ".join(f"{rows[name].mean():.2f}" for name in ("P@10", "P@K"))
        lines.append(f"| {family} | {method} | {taken} | {len(rows)} | {' | '.join(cells)} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Do the cells that are not in the file, then print the table."""
    given = arguments(__doc__, RESULTS).parse_args()
    if not given.table:
        jobs = (
            ((family, name, METHODS[0], TAKEN[0]), partial(cell, family, name, make))
            for family, name, make in problems()
        )
        work(given.results, KEY, jobs)
    print(table(given.results))


if __name__ == "__main__":
    main()
