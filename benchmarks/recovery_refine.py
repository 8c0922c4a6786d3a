"""Greedy refinement beside its controls: add the best candidates, train again, and again.

    python benchmarks/recovery_refine.py --settings A B           # minutes
    python benchmarks/recovery_refine.py --teachers 0 1           # of the REPORT list; a quarter of an hour each
    python benchmarks/recovery_refine.py --hard 0 1               # of the HARD_REPORT list
    python benchmarks/recovery_refine.py --command joint single --settings A B  # gsnn.discovery.refine itself
    python benchmarks/recovery_refine.py --table

Every method stands beside random edges, as many a round, and beside true hidden edges in random order (the most that
can be had). The share of the lost fit is (partial - refined) / (partial - full), of mean squared errors on test
samples. Finished arms stand in ``recovery_refine.csv`` and are not done again.

``pruned`` is the rule that needs no choice among scores: the stack and a first-order score each propose a list, a model
is trained with all of it, and those edges stay whose signal that model would miss most.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cells import add, is_done
from gsnn.data import PerturbationData
from gsnn.discovery import StackedEdgeInferer
from gsnn.discovery import refine as refine_command
from gsnn.discovery.refinement.joint import largest_ablation_cost
from gsnn.discovery.refinement.protocol import DECISIONS
from gsnn.discovery.retrain import train_on
from gsnn.discovery.stacked.caps import chosen_pairs
from gsnn.edges import GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.training import TrainConfig
from recovery_families import setting
from recovery_methods import Settings, batches, located, settings_of, test_loss, train
from teachers import HARD_POSITIVE, HARD_REPORT, HARD_TUNING, REPORT, Edge, Problem, realistic

KEY = ["problem", "method", "seed"]
RESULTS = Path(__file__).with_name("recovery_refine.csv")


@dataclass(frozen=True)
class Plan:
    """How many edges a round, how many of one target and source, and of all rounds together."""

    rounds: int
    per_round: int
    per_target: int | None
    per_source: int | None
    most: int | None = None  # edges of all rounds


PLANS = {"A": Plan(6, 6, None, None), "B": Plan(3, 6, None, None), "teacher": Plan(4, 15, 1, 2)}


@dataclass
class Task:
    """A problem to be refined, and what its arms share: models of graphs seen before, the stack of the first round."""

    problem: Problem
    seed: int
    settings: Settings
    models: dict[frozenset[Edge], GSNN] = field(default_factory=dict)
    learnt: np.ndarray | None = None

    def train(self, graph: Graph) -> GSNN:
        """A model of a graph."""
        return train(self.problem, graph, self.seed, self.settings)

    def shared(self, graph: Graph) -> GSNN:
        """A model that several arms need."""
        key = frozenset(graph.function_edges)
        if key not in self.models:
            self.models[key] = self.train(graph)
        return self.models[key]


Scores = Callable[[Task, GSNN, Graph], np.ndarray]
Choose = Callable[[Task, GSNN, Graph, Plan], list[Edge]]


def gradient(score: str) -> Scores:
    """A score of the gradient inferer."""

    def scored(task: Task, model: GSNN, graph: Graph) -> np.ndarray:
        inferer = GradientEdgeInferer(model, graph)
        inferer.fit(batches(task.problem)[:8], verbose=False)
        return inferer.score_matrix(score=score, null_correction=False)

    return scored


def magnitude(task: Task, model: GSNN, graph: Graph) -> np.ndarray:
    """Mean magnitudes over the layer pairs."""
    inferer = MagnitudeEdgeInferer(model, graph)
    inferer.fit(batches(task.problem)[:8], verbose=False)
    return inferer.score_matrix(layer_agg="mean0")


def stack(task: Task, model: GSNN, graph: Graph) -> StackedEdgeInferer:
    """A fitted stack; three refits, to save time."""
    inferer = StackedEdgeInferer(
        model, graph, lambda masked, s: train(task.problem, masked, s, task.settings), seed=task.seed, repeats=3
    )
    inferer.fit(batches(task.problem), verbose=False)
    return inferer


def stacked(task: Task, model: GSNN, graph: Graph) -> np.ndarray:
    """The stack, fitted again in every round."""
    return stack(task, model, graph).score_matrix()


def stacked_once(task: Task, model: GSNN, graph: Graph) -> np.ndarray:
    """What the stack learnt in the first round, plus the logarithm of the present ``explained``."""
    if task.learnt is None:
        first = task.shared(task.problem.graph)
        task.learnt = stack(task, first, task.problem.graph).score_matrix(score="learnt")
    explained = np.nan_to_num(gradient("explained")(task, model, graph))
    return task.learnt + np.log(np.maximum(explained, 1e-3 * explained.max()))


def random(task: Task, model: GSNN, graph: Graph) -> np.ndarray:
    """The control."""
    return np.random.default_rng((task.seed, len(graph.function_edges))).random((graph.N, graph.N))


def oracle(task: Task, model: GSNN, graph: Graph) -> np.ndarray:
    """Hidden edges only, in random order."""
    score = np.full((graph.N, graph.N), np.nan)
    source, target = located(graph, task.problem.hidden)
    score[source, target] = np.random.default_rng(task.seed).random(len(source))
    return score


def best(score: np.ndarray, graph: Graph, plan: Plan) -> list[Edge]:
    """The first candidates of a ranking, within the limits of a round."""
    score = score.copy()
    known = located(graph, list(graph.function_edges))
    score[known[0], known[1]] = np.nan
    np.fill_diagonal(score, np.nan)
    score[~chosen_pairs(score, plan.per_target, plan.per_source)] = np.nan
    order = np.argsort(np.where(np.isnan(score), np.inf, -score), axis=None, kind="stable")
    first = [divmod(int(k), graph.N) for k in order[: plan.per_round] if not np.isnan(score.flat[k])]
    return [(graph.functions[i], graph.functions[j]) for i, j in first]


def by(scores: Scores) -> Choose:
    """Take what a score ranks first."""
    return lambda task, model, graph, plan: best(scores(task, model, graph), graph, plan)


def pruned(*lists: Scores) -> Choose:
    """Take what several scores rank first, train with all of it, keep what is missed most."""

    def choose(task: Task, model: GSNN, graph: Graph, plan: Plan) -> list[Edge]:
        pool = list(dict.fromkeys(edge for scores in lists for edge in best(scores(task, model, graph), graph, plan)))
        if len(pool) <= plan.per_round:
            return pool
        wide = graph.with_edges(pool)
        return largest_ablation_cost(task.train(wide), wide, pool, batches(task.problem), plan.per_round)

    return choose


METHODS: dict[str, Choose] = {
    "gradient regressed": by(gradient("regressed")),
    "gradient explained": by(gradient("explained")),
    "magnitude mean0": by(magnitude),
    "stacked": by(stacked),
    "stacked once": by(stacked_once),
    "pruned": pruned(stacked_once, gradient("explained")),
    "random edges": by(random),
    "true edges": by(oracle),
}


def refine(task: Task, method: str, plan: Plan) -> list[dict[str, object]]:
    """A row for each round, the one before the first included."""
    hidden = set(task.problem.hidden)
    graph, added = task.problem.graph, list[Edge]()
    rows: list[dict[str, object]] = []
    for number in range(plan.rounds + 1):
        model = task.train(graph) if number else task.shared(graph)
        rows.append(
            {
                "round": number,
                "edges_added": len(added),
                "true": sum(edge in hidden for edge in added),
                "test_loss": round(test_loss(model, task.problem), 5),
            }
        )
        print(f"{task.problem.name} {method}: {rows[-1]}", file=sys.stderr, flush=True)
        if number == plan.rounds:
            break
        left = plan.per_round if plan.most is None else min(plan.per_round, plan.most - len(added))
        fresh = METHODS[method](task, model, graph, replace(plan, per_round=left))
        added += fresh
        graph = graph.with_edges(fresh)
    return rows


def run(label: str, make: Callable[[], Problem], plan: Plan, seed: int, path: Path, methods: list[str]) -> None:
    """All arms of a problem that are not done."""
    changes: dict[str, object] = {"epochs": 10} if "teacher" in label else {}
    task: Task | None = None
    for method in methods:
        if is_done(path, KEY, (label, method, seed)):
            continue
        if task is None:
            problem = make()
            task = Task(problem, seed, settings_of(problem, **changes))
        if "teacher" in label:
            # Never more edges than were hidden.
            plan = replace(plan, rounds=-(-len(task.problem.hidden) // plan.per_round), most=len(task.problem.hidden))
        start = time.perf_counter()
        whole = test_loss(task.shared(task.problem.full), task.problem)
        rows = refine(task, method, plan)
        lost = float(rows[0]["test_loss"]) - whole  # type: ignore[arg-type]
        for row in rows:
            row["recovered"] = round((float(rows[0]["test_loss"]) - float(row["test_loss"])) / lost, 4)  # type: ignore[arg-type]
        fresh = pd.DataFrame(rows).assign(
            problem=label, method=method, seed=seed, hidden=len(task.problem.hidden), full_loss=round(whole, 5),
            date=date.today().isoformat(),
        )  # fmt: skip
        add(path, fresh)
        print(f"{label} #{seed} {method}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


def run_command(name: str, decision: str, seed: int, path: Path) -> None:
    """The rounds of :func:`gsnn.discovery.refine` and of its control, on the samples of a setting, split by itself."""
    label, method = f"setting {name}", f"gsnn refine, {decision}"
    arms = {"inferred": method, "random": f"{method}, control"}
    if is_done(path, KEY, (label, method, seed)):
        return
    start = time.perf_counter()
    problem, plan = setting(name, seed), PLANS[name]
    x, y = np.vstack([problem.x_train, problem.x_test]), np.vstack([problem.y_train, problem.y_test])
    graph = problem.graph
    data = PerturbationData(graph, pd.DataFrame(x, columns=graph.inputs), pd.DataFrame(y, columns=graph.outputs))
    config = TrainConfig.from_dict({k: v for k, v in problem.training.items() if k != "one_cycle"} | {"seed": seed})
    whole = train_on(data, problem.full, config).test_loss
    found = refine_command(
        data, config, rounds=plan.rounds, per_round=plan.per_round, decision=decision, truth=problem.hidden, seed=seed,
        progress=True,
    )  # fmt: skip
    rows = []
    hidden = set(problem.hidden)
    for arm, records in found.arms.items():
        kept: list[Edge] = []
        first = records[0]["test_before"]
        for record in [{"round": 0, "edges": [], "test_after": first}, *records]:
            kept += [(e["source"], e["target"]) for e in record["edges"] if e["kept"]]
            rows.append(
                {
                    "round": record["round"], "edges_added": len(kept), "true": sum(edge in hidden for edge in kept),
                    "test_loss": round(record["test_after"], 5), "method": arms[arm],
                    "recovered": round((first - record["test_after"]) / (first - whole), 4),
                }
            )  # fmt: skip
    fresh = pd.DataFrame(rows).assign(
        problem=label, seed=seed, hidden=len(hidden), full_loss=round(whole, 5), date=date.today().isoformat()
    )
    add(path, fresh)
    print(f"{label} #{seed} {decision}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


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
    parser.add_argument("--hard", nargs="*", type=int, default=[], help="numbers in the list HARD_REPORT")
    parser.add_argument("--tuning", nargs="*", type=int, default=[], help="numbers in the list HARD_TUNING")
    parser.add_argument("--command", nargs="*", default=[], choices=DECISIONS, help="decisions of gsnn refine")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, seed, decision in itertools.product(arguments.settings, range(arguments.seeds), arguments.command):
        run_command(name, decision, seed, arguments.results)
    for name in [] if arguments.command else arguments.settings:
        for seed in range(arguments.seeds):
            run(f"setting {name}", lambda n=name, s=seed: setting(n, s), PLANS[name], seed, arguments.results,
                arguments.methods)  # fmt: skip
    for number in arguments.teachers:
        name, seed = REPORT[number]
        run(f"teacher {name} {seed}", lambda n=name, s=seed: realistic(n, s), PLANS["teacher"], 0, arguments.results,
            arguments.methods)  # fmt: skip
    for which, numbers in ((HARD_REPORT, arguments.hard), (HARD_TUNING, arguments.tuning)):
        for number in numbers:
            name, seed = which[number]
            kind = "hard teacher" if which is HARD_REPORT else "hard tuning teacher"
            run(f"{kind} {name} {seed}", lambda n=name, s=seed: realistic(n, s, positive=HARD_POSITIVE),
                PLANS["teacher"], 0, arguments.results, arguments.methods)  # fmt: skip
    if arguments.results.is_file():
        print(tables(arguments.results))


if __name__ == "__main__":
    main()
