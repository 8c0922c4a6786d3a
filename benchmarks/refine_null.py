"""Does ``gsnn refine`` accept noise? Permuted responses, and random edges with the real ones.

    python benchmarks/refine_null.py                     # all cells: hours
    python benchmarks/refine_null.py --problems B extliver --decisions single --seeds 2
    python benchmarks/refine_null.py --quick             # minutes: small data, few epochs
    python benchmarks/refine_null.py --first-gate        # a training a cell: what can stay at most
    python benchmarks/refine_null.py --table

A cell is a problem, a decision, real or permuted responses, and a seed, which fixes data (A and B) or split, the
weights and the permutation. Finished cells stand in ``refine_null.csv`` and are not done again. Counted are the edges
that stay, of all that are proposed and, beside them, of random candidates put through the same test. On A and B, where
the truth is known, random candidates that are true edges or their aliases (the same inputs reach the source and the
same outputs are reached from the target as of a hidden edge) are left out of the random ones. The share of a row stands
with the Clopper-Pearson interval of all its edges; edges of one refinement are not independent, so it is too narrow.

``--first-gate`` looks at the ranks alone, which need no paired trainings: what passes them is the most that can stay,
with any decision but ``none``. It counts what ``gradient-explained`` proposes with the prior graph, as many edges as
all rounds propose, and *all* random candidates in place of a sample; its rows stand in ``refine_first_gate.csv``.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from cells import arguments, work
from gsnn.data import PerturbationData
from gsnn.datasets import load_dataset
from gsnn.discovery import refine
from gsnn.discovery.methods import DEFAULT_METHOD
from gsnn.discovery.refinement.held_out import Folds, degree_classes, ranks
from gsnn.discovery.retrain import resolve_scorers, train_on
from gsnn.discovery.verdicts import ALPHA
from gsnn.edges import alias_groups
from gsnn.edges.pairs import descending
from gsnn.training import TrainConfig
from recovery_families import setting

Edge = tuple[str, str]

RESULTS = Path(__file__).with_name("refine_null.csv")
FIRST_GATE = Path(__file__).with_name("refine_first_gate.csv")
PROBLEMS = ("A", "B", "extliver", "liverdream")
DECISIONS = ("single", "bisect", "joint", "together")
KEY = ["problem", "decision", "responses", "seed"]
# Rounds and edges a round: those of recovery_refine.py, and the defaults.
PLANS = {"A": (6, 6), "B": (3, 6), "extliver": (3, 6), "liverdream": (3, 6)}


def problem(name: str, seed: int, *, quick: bool = False) -> tuple[PerturbationData, TrainConfig, list[Edge]]:
    """Data, settings and hidden edges (none where they are not known)."""
    if name not in ("A", "B"):
        config = TrainConfig(seed=seed)
        return load_dataset(name), replace(config, epochs=5, channels=3, layers=4) if quick else config, []
    found = setting(name, seed)
    x, y = np.vstack([found.x_train, found.x_test]), np.vstack([found.y_train, found.y_test])
    if quick:
        x, y = x[:120], y[:120]
    graph = found.graph
    data = PerturbationData(graph, pd.DataFrame(x, columns=graph.inputs), pd.DataFrame(y, columns=graph.outputs))
    given = {k: v for k, v in found.training.items() if k != "one_cycle"} | {"seed": seed}
    config = TrainConfig.from_dict(given)
    return data, replace(config, epochs=5, channels=3, layers=4) if quick else config, list(found.hidden)


def permuted(data: PerturbationData, seed: int) -> PerturbationData:
    """The same with the rows of responses in another order."""
    order = np.random.default_rng((seed, 99)).permutation(len(data))
    return replace(data, outputs=data.outputs.iloc[order].reset_index(drop=True))


def not_aliases(data: PerturbationData, edges: list[Edge], hidden: list[Edge]) -> np.ndarray:
    """Which edges are neither hidden ones nor aliases of one."""
    if not edges or not hidden:
        return np.ones(len(edges), bool)
    groups = alias_groups(data.graph)
    place = {name: i for i, name in enumerate(data.graph.functions)}

    def group(pairs: list[Edge]) -> np.ndarray:
        source, target = zip(*pairs, strict=True)
        return groups.group([place[s] for s in source], [place[t] for t in target])

    return ~np.isin(group(edges), group(hidden))


def cell(name: str, decision: str, responses: str, seed: int, *, quick: bool = False) -> dict[str, object]:
    """One refinement and its control, counted."""
    start = time.process_time()
    data, config, hidden = problem(name, seed, quick=quick)
    if responses == "permuted":
        data = permuted(data, seed)
    rounds, per_round = (1, 3) if quick else PLANS[name]
    found = refine(data, config, rounds=rounds, per_round=per_round, decision=decision, truth=hidden or None, seed=seed)
    table = found.table()
    row: dict[str, object] = dict(zip(KEY, (name, decision, responses, seed), strict=True))
    for arm, rows in table.groupby("arm"):
        edges = list(zip(rows["source"], rows["target"], strict=True))
        mine = not_aliases(data, edges, hidden) if arm == "random" and responses == "real" else np.ones(len(rows), bool)
        row |= {f"{arm}": int(mine.sum()), f"{arm}_kept": int(rows["kept"].to_numpy()[mine].sum())}
    kept = set(found.kept())
    row |= {"true_kept": len(kept & set(hidden)), "hidden": len(hidden)}
    row |= {"trainings": int(found.summary()["trainings"].sum()), "cpu_s": round(time.process_time() - start)}
    return row | {"date": date.today().isoformat()}


def first_gate(name: str, decision: str, responses: str, seed: int, *, quick: bool = False) -> dict[str, object]:
    """How many candidates rank high enough on the deciding samples."""
    start = time.process_time()
    data, config, hidden = problem(name, seed, quick=quick)
    if responses == "permuted":
        data = permuted(data, seed)
    folds = Folds.of(data, config)
    model = train_on(data, data.graph, config, split=folds.whole)
    rank = ranks(data, model, folds, degree_classes(data.graph))
    scores = resolve_scorers(DEFAULT_METHOD, config)[DEFAULT_METHOD](model.model, model.graph, model.batches)
    # Ranks are NaN for edges and self pairs.
    first = descending(np.where(np.isfinite(rank), scores, np.nan).ravel())[: (3 if quick else np.prod(PLANS[name]))]
    names = data.graph.functions
    edges = [(s, t) for i, s in enumerate(names) for j, t in enumerate(names) if np.isfinite(rank[i, j])]
    found = rank[np.isfinite(rank)]
    mine = not_aliases(data, edges, hidden) if responses == "real" else np.ones(len(edges), bool)
    true = np.array([edge in set(hidden) for edge in edges])
    row: dict[str, object] = dict(zip(KEY, (name, decision, responses, seed), strict=True))
    row |= {"conditions": folds.n_conditions}
    row |= {"inferred": len(first), "inferred_kept": int((rank.ravel()[first] <= ALPHA).sum())}
    row |= {"random": int(mine.sum()), "random_kept": int((found[mine] <= ALPHA).sum())}
    row |= {"true_kept": int((found[true] <= ALPHA).sum()), "hidden": len(hidden)}
    return row | {"cpu_s": round(time.process_time() - start), "date": date.today().isoformat()}


def run(cells: list[tuple[str, str, str, int]], path: Path, *, quick: bool = False) -> None:
    """Do the cells that are not in the file."""

    def rows(*key: Any) -> list[dict[str, object]]:
        return [(first_gate if key[1] == "first gate" else cell)(*key, quick=quick)]

    work(path, KEY, ((key, partial(rows, *key)) for key in cells))


def table(path: Path) -> str:
    """Sums over seeds, as markdown."""
    done = pd.read_csv(path)
    lines = [
        "| problem | decision | responses | seeds | proposed: kept | true among them | random: kept | share, 95 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (name, decision, responses), rows in done.groupby(KEY[:3], sort=True):
        total = rows.sum(numeric_only=True).astype(int)
        # What is asked: of permuted responses everything, of real ones the random edges. Of all random candidates the
        # first gate lets 5 % pass in any case.
        arms = ("inferred", "random") if responses == "permuted" else ("random",)
        arms = ("inferred",) if (decision, responses) == ("first gate", "permuted") else arms
        n, k = sum(total[arm] for arm in arms), sum(total[f"{arm}_kept"] for arm in arms)
        low, high = stats.binomtest(k, n).proportion_ci(method="exact")
        true = f"{total['true_kept']} of {total['hidden']}" if total["hidden"] and responses == "real" else ""
        lines.append(
            f"| {name} | {decision} | {responses} | {len(rows)} | {total['inferred_kept']} of {total['inferred']} | "
            f"{true} | {total['random_kept']} of {total['random']} | {k / n:.0%} ({low:.0%}-{high:.0%}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, run, print."""
    parser = arguments(__doc__, None, quick="small data and few epochs; give --results another file")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--decisions", nargs="+", default=list(DECISIONS), choices=DECISIONS)
    parser.add_argument("--responses", nargs="+", default=["real", "permuted"], choices=["real", "permuted"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-gate", action="store_true", help="the ranks alone")
    given = parser.parse_args()
    decisions = ["first gate"] if given.first_gate else given.decisions
    path = given.results or (FIRST_GATE if given.first_gate else RESULTS)
    if not given.table:
        cells = itertools.product(given.problems, decisions, given.responses, range(given.seeds))
        run(list(cells), path, quick=given.quick)
    print(table(path))


if __name__ == "__main__":
    main()
