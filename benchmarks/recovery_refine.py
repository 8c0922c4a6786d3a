"""Greedy refinement beside its controls: add the best candidates, train again, and again.

    python benchmarks/recovery_refine.py --settings A B           # minutes
    python benchmarks/recovery_refine.py --teachers 0 1           # of the REPORT list; a quarter of an hour each
    python benchmarks/recovery_refine.py --table

Every method stands beside random edges, as many a round, and beside true hidden edges in random order (the most that
can be had). The share of the lost fit is (partial - refined) / (partial - full), of mean squared errors on test
samples. Finished arms stand in ``recovery_refine.csv`` and are not done again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gsnn._files import atomic_path
from gsnn.edges import GradientEdgeInferer, StackedEdgeInferer
from gsnn.edges._stacked_caps import chosen_pairs
from gsnn.graph import Graph
from gsnn.nn import GSNN
from recovery_families import setting
from recovery_methods import Settings, batches, located, settings_of, test_loss, train
from teachers import REPORT, Edge, Problem, realistic

RESULTS = Path(__file__).with_name("recovery_refine.csv")
Scores = Callable[[Problem, GSNN, Graph, int, Settings], np.ndarray]


@dataclass(frozen=True)
class Plan:
    """How many edges a round, and how many of one target and source."""

    rounds: int
    per_round: int
    per_target: int | None
    per_source: int | None


PLANS = {"A": Plan(6, 6, None, None), "B": Plan(3, 6, None, None), "teacher": Plan(4, 15, 1, 2)}


def gradient(score: str) -> Scores:
    """A score of the gradient inferer."""

    def scored(problem: Problem, model: GSNN, graph: Graph, seed: int, settings: Settings) -> np.ndarray:
        inferer = GradientEdgeInferer(model, graph)
        inferer.fit(batches(problem)[:8], verbose=False)
        return inferer.score_matrix(score=score, null_correction=False)

    return scored


def stacked(problem: Problem, model: GSNN, graph: Graph, seed: int, settings: Settings) -> np.ndarray:
    """The stack, fitted again in every round; three refits, to save time."""
    inferer = StackedEdgeInferer(
        model, graph, lambda masked, s: train(problem, masked, s, settings), seed=seed, repeats=3
    )
    inferer.fit(batches(problem), verbose=False)
    return inferer.score_matrix()


def random(problem: Problem, model: GSNN, graph: Graph, seed: int, settings: Settings) -> np.ndarray:
    """The control."""
    return np.random.default_rng((seed, len(graph.function_edges))).random((graph.N, graph.N))


def oracle(problem: Problem, model: GSNN, graph: Graph, seed: int, settings: Settings) -> np.ndarray:
    """Hidden edges only, in random order."""
    score = np.full((graph.N, graph.N), np.nan)
    source, target = located(graph, problem.hidden)
    score[source, target] = np.random.default_rng(seed).random(len(source))
    return score


METHODS: dict[str, Scores] = {
    "gradient regressed": gradient("regressed"),
    "gradient explained": gradient("explained"),
    "stacked": stacked,
    "random edges": random,
    "true edges": oracle,
}


def refine(problem: Problem, method: str, plan: Plan, seed: int, settings: Settings) -> list[dict[str, object]]:
    """A row for each round, the one before the first included."""
    hidden = set(problem.hidden)
    graph, added = problem.graph, list[Edge]()
    rows: list[dict[str, object]] = []
    for number in range(plan.rounds + 1):
        model = train(problem, graph, seed, settings)
        rows.append(
            {
                "round": number,
                "edges_added": len(added),
                "true": sum(edge in hidden for edge in added),
                "test_loss": round(test_loss(model, problem), 5),
            }
        )
        if number == plan.rounds:
            break
        score = METHODS[method](problem, model, graph, seed, settings).copy()
        known = located(graph, list(graph.function_edges))
        score[known[0], known[1]] = np.nan
        np.fill_diagonal(score, np.nan)
        score[~chosen_pairs(score, plan.per_target, plan.per_source)] = np.nan
        order = np.argsort(np.where(np.isnan(score), np.inf, -score), axis=None, kind="stable")
        best = [divmod(int(k), graph.N) for k in order[: plan.per_round] if not np.isnan(score.flat[k])]
        fresh = [(graph.functions[i], graph.functions[j]) for i, j in best]
        added += fresh
        graph = graph.with_edges(fresh)
    return rows


def sink_ranks(seed: int, name: str = "A") -> list[dict[str, object]]:
    """MRR of the sink edges of setting A or B before and after the merge edges are in, by score and by epoch."""
    from gsnn.metrics import evaluate_edges
    from gsnn.simulation import held_out_roles
    from settings import SETTINGS

    problem = setting(name, seed)
    roles = held_out_roles(SETTINGS[name].n)
    merge = [edge for edge in problem.hidden if roles[edge] == "merge"]
    sink = [edge for edge in problem.hidden if roles[edge] == "sink"]
    rows: list[dict[str, object]] = []
    base = settings_of(problem)
    for stage, graph in (("before", problem.graph), ("after", problem.graph.with_edges(merge))):
        for epochs, lr in ((3, base.lr), (10, base.lr), (base.epochs, base.lr), (10, 1e-3), (30, 1e-3)):
            model = train(problem, graph, seed, replace(base, epochs=epochs, lr=lr))
            inferer = GradientEdgeInferer(model, graph)
            inferer.fit(batches(problem), verbose=False)
            others = located(graph, merge) if stage == "before" else np.zeros((2, 0), dtype=np.int64)
            for score in ("regressed", "normalised", "explained"):
                found = evaluate_edges(
                    inferer.score_matrix(score=score, null_correction=False),
                    located(graph, sink),
                    located(graph, list(graph.function_edges)),
                    known_true=others,
                )
                rows.append(
                    {"setting": name, "seed": seed, "stage": stage, "epochs": epochs, "lr": lr, "score": score}
                    | {"sink_mrr": round(found.mrr, 4), "test_loss": round(test_loss(model, problem), 4)}
                )
    return rows


def run(label: str, make: Callable[[], Problem], plan: Plan, seed: int, path: Path, methods: list[str]) -> None:
    """All arms of a problem that are not done."""
    changes: dict[str, object] = {"epochs": 10} if label.startswith("teacher") else {}
    problem: Problem | None = None
    for method in methods:
        done = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["problem", "method", "seed"])
        if ((done["problem"] == label) & (done["method"] == method) & (done["seed"] == seed)).any():
            continue
        problem = problem or make()
        if label.startswith("teacher"):
            # Never more edges than were hidden.
            plan = replace(plan, rounds=len(problem.hidden) // plan.per_round)
        settings = settings_of(problem, **changes)
        start = time.perf_counter()
        whole = test_loss(train(problem, problem.full, seed, settings), problem)
        rows = refine(problem, method, plan, seed, settings)
        lost = float(rows[0]["test_loss"]) - whole  # type: ignore[arg-type]
        for row in rows:
            row["recovered"] = round((float(rows[0]["test_loss"]) - float(row["test_loss"])) / lost, 4)  # type: ignore[arg-type]
        fresh = pd.DataFrame(rows).assign(
            problem=label, method=method, seed=seed, hidden=len(problem.hidden), full_loss=round(whole, 5),
            date=date.today().isoformat(),
        )  # fmt: skip
        before = pd.read_csv(path) if path.is_file() else done
        with atomic_path(path) as new:
            pd.concat([before, fresh] if len(before) else [fresh], ignore_index=True).to_csv(new, index=False)
        print(f"{label} #{seed} {method}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


def tables(path: Path) -> str:
    """Edges added, true ones, share of the lost fit: means over seeds by round."""
    done = pd.read_csv(path)
    lines = [
        "| problem | method | edges added | true among them | test MSE | lost fit recovered |",
        "|---|---|---|---|---|---|",
    ]
    columns = ["edges_added", "true", "test_loss", "recovered"]
    for (problem, method, _), rows in done.groupby(["problem", "method", "round"], sort=False):
        mean = rows[columns].mean()
        lines.append(
            f"| {problem} | {method} | {mean['edges_added']:.0f} | {mean['true']:.1f} | {mean['test_loss']:.3f} | "
            f"{mean['recovered']:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="*", default=[], choices=["A", "B"])
    parser.add_argument("--teachers", nargs="*", type=int, default=[], help="numbers in the list REPORT")
    parser.add_argument("--sinks", nargs="*", default=[], choices=["A", "B"], help="ranks of the sink edges")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.settings:
        for seed in range(arguments.seeds):
            run(f"setting {name}", lambda n=name, s=seed: setting(n, s), PLANS[name], seed, arguments.results,
                arguments.methods)  # fmt: skip
    for number in arguments.teachers:
        name, seed = REPORT[number]
        run(f"teacher {name} {seed}", lambda n=name, s=seed: realistic(n, s), PLANS["teacher"], 0, arguments.results,
            arguments.methods)  # fmt: skip
    if arguments.sinks:
        rows = [row for name in arguments.sinks for seed in range(arguments.seeds) for row in sink_ranks(seed, name)]
        keys = ["setting", "stage", "epochs", "lr", "score"]
        print(pd.DataFrame(rows).groupby(keys, sort=False)[["sink_mrr", "test_loss"]].mean().round(3).to_string())
    if arguments.results.is_file():
        print(tables(arguments.results))


if __name__ == "__main__":
    main()
