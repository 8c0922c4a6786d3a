"""What bounds the single scores: sink edges by how far training has got, and scores that know a part of the truth.

    python benchmarks/recovery_oracles.py --sinks A B       # settings A and B; a minute each seed
    python benchmarks/recovery_oracles.py --oracles 0 1     # of the TUNING list; 2 minutes each

Sinks: the filtered MRR of the hidden sink edges once the merge edges are in, read from models that have got a given
share of the fit they will get. Twins are the control: data of a network that computes the same function of the inputs
without the hidden sink edges (the known ones count twice), in which the same pairs are no edges.

Oracles: what `explained` would find if the activity of every source, or the signal that the targets lack, were known.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import networkx as nx
import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from gsnn.data import Standardiser
from gsnn.edges import GradientEdgeInferer
from gsnn.graph import Graph
from gsnn.metrics import evaluate_edges
from gsnn.nn import GSNN
from gsnn.simulation import convergence_graph, simulate
from gsnn.simulation.benchmark import held_out_roles
from gsnn.simulation.linear import Vectorised
from recovery_families import setting
from recovery_ideas import Reading, explained, read, whitened
from recovery_methods import Settings, batches, located, measure, settings_of, test_loss, train
from settings import SETTINGS
from teachers import ACTIVE, STEPS, TUNING, Edge, Problem, Teacher, draw_inputs, realistic, saturating, topology

SHARES = (0.0, 0.5, 0.8, 0.9, 0.95, 1.0)
EVERY = 8  # steps between two looks at the test error


def snapshots(problem: Problem, graph: Graph, seed: int, settings: Settings) -> dict[float, GSNN]:
    """One training, and models at the first look with at least a share of its fit; 1 is the last one."""
    looks: list[tuple[float, dict[str, Tensor]]] = []

    def watch(step: int, model: GSNN) -> None:
        if step % EVERY == 0:
            model.eval()
            looks.append((test_loss(model, problem), copy.deepcopy(model.state_dict())))
            model.train()

    last = train(problem, graph, seed, settings, watch)
    losses = np.array([loss for loss, _ in looks])
    got = (losses[0] - losses) / (losses[0] - losses.min())
    found: dict[float, GSNN] = {}
    for share in SHARES[:-1]:
        model = copy.deepcopy(last)
        model.load_state_dict(looks[int(np.argmax(got >= share))][1])
        found[share] = model.eval()
    return found | {1.0: last}


def twin(problem: Problem, name: str, seed: int) -> Problem:
    """The same inputs, graph and function of the inputs; the sink has its known parents alone, each counted twice.

    In setting A the hidden parents of the sink add up to f0 + f1 + .. + f23, the known ones to f1 + f2 + .. + f24:
    twice the known ones, plus f0, less f24, is the same. In setting B it is twice the known ones, plus f0 and f11.
    """
    chosen = SETTINGS[name]
    full, inputs, functions, outputs, _ = convergence_graph(chosen.n)
    sink = functions[-1]
    hidden = [a for a, b in problem.hidden if b == sink]
    full.remove_edges_from([(a, sink) for a in hidden])
    first, last = functions[0], functions[chosen.n - 1]
    full.add_edges_from([(first, sink), (last, sink)])
    used = np.zeros(len(functions))
    for parent in hidden:
        used += _tier_a(full, parent, functions)
    for parent in full.predecessors(sink):
        used -= _tier_a(full, parent, functions) if parent not in (first, last) else 0
    weights = np.array([used[int(p[1:])] if p in (first, last) else 2.0 for p in full.predecessors(sink)])[:, None]
    special = {sink: Vectorised(lambda values: (weights * np.asarray(values)).sum(0))}
    x, x_test, y, y_test = simulate(
        full, chosen.n_train, chosen.n_test, inputs, outputs,
        noise_scale=chosen.noise, special_functions=special, seed=seed,
    )  # fmt: skip
    scale = Standardiser.fit(y)
    arrays = [np.asarray(a, np.float32) for a in (x, x_test, scale.transform(y), scale.transform(y_test))]
    return replace(problem, x_train=arrays[0], x_test=arrays[1], y_train=arrays[2], y_test=arrays[3])


def _tier_a(graph: nx.DiGraph, node: str, functions: list[str]) -> np.ndarray:
    return np.isin(functions, list(graph.predecessors(node))).astype(float)


def sink_ranks(seed: int, name: str, lr: float) -> list[dict[str, object]]:
    """MRR of the sink edges of setting A or B with the merge edges in, by score and by share of the fit."""
    problem = setting(name, seed)
    roles = held_out_roles(SETTINGS[name].n)
    by_role: dict[str, list[Edge]] = {"merge": [], "sink": []}
    for edge in problem.hidden:
        by_role[roles[edge]].append(edge)
    graph = problem.graph.with_edges(by_role["merge"])
    rows: list[dict[str, object]] = []
    for data, given in (("edges", problem), ("twin: no edges", twin(problem, name, seed))):
        for share, model in snapshots(given, graph, seed, replace(settings_of(problem), lr=lr)).items():
            inferer = GradientEdgeInferer(model, graph)
            inferer.fit(batches(given), verbose=False)
            scores = {
                score: inferer.score_matrix(score=score, null_correction=False)
                for score in ("regressed", "normalised", "explained")
            }
            scores["whitened"] = whitened(read(inferer))
            mrr = {
                score: evaluate_edges(
                    matrix, located(graph, by_role["sink"]), located(graph, list(graph.function_edges))
                ).mrr
                for score, matrix in scores.items()
            }
            fit = {"test_loss": test_loss(model, given)}
            rows.append({"setting": name, "data": data, "lr": lr, "seed": seed, "share": share} | fit | mrr)
    return rows


def stand_in(problem: Problem, name: str) -> dict[str, float]:
    """How well the sink's known parents stand in for the hidden ones: R2 of its output on test samples, noise included.

    A least-squares fit to sums of inputs; then the gain of adding a single hidden parent, the first and the last of
    them (``ends``) apart from the others.
    """
    hidden = [
        int(source[1:]) - SETTINGS[name].n for source, target in problem.hidden if target == problem.full.functions[-1]
    ]
    sums, test_sums = (x[:, :-1] + x[:, 1:] for x in (problem.x_train, problem.x_test))
    known = sorted(set(range(sums.shape[1])) - set(hidden))
    y, y_test = problem.y_train[:, -1], problem.y_test[:, -1]

    def r2(columns: list[int]) -> float:
        fit, test = (np.c_[a[:, columns], np.ones(len(a))] for a in (sums, test_sums))
        return float(1 - ((y_test - test @ np.linalg.lstsq(fit, y, rcond=None)[0]) ** 2).mean() / y_test.var())

    gains = [r2([*known, k]) - r2(known) for k in hidden]
    return {
        "known": r2(known),
        "all": r2(list(range(sums.shape[1]))),
        "gain of an end": max(gains[0], gains[-1]),
        "gain of another": max(gains[1:-1]),
    }


class Truth(NamedTuple):
    """What the teacher of a problem knows: (N, M) each, functions in the order of the graph."""

    activity: Tensor
    lost_state: Tensor
    lost_message: Tensor
    credit: Tensor


def truth(name: str, seed: int, problem: Problem, n_samples: int) -> Truth:
    """Activity, what the hidden edges add to every state and message, and the exact gradient at the kept teacher."""
    found = topology(name)
    rng = np.random.default_rng(seed)
    teacher = Teacher(found, rng)
    x = draw_inputs(len(problem.x_train) + len(problem.x_test), len(found.inputs), rng, min(ACTIVE, len(found.inputs)))
    x = x[:n_samples]
    if not np.array_equal(np.asarray(x, np.float32), problem.x_train[:n_samples]):
        raise RuntimeError("the teacher's inputs are not those of the problem")
    place = {node: i for i, node in enumerate(teacher.functions)}
    hidden = [(place[target], place[source]) for source, target in [*problem.hidden, *problem.lost]]
    lost = sparse.csr_matrix(([teacher.W[at] for at in hidden], tuple(np.array(hidden).T)), shape=teacher.W.shape)
    kept = teacher.W - lost
    drive = teacher.bias[:, None] + 3 * (teacher.V @ x.T)
    full = teacher.settle(x)
    partial = np.zeros_like(full)
    for _ in range(STEPS):
        partial = saturating(kept @ partial + drive)
    total = kept @ partial + drive
    slope = np.where(total < 0, 0.01, np.where(total <= 0.5, 1.0, 0.25 / np.maximum(total, 0.5) ** 2))
    error = np.zeros_like(full)
    read_full, read_partial = full[teacher.read], partial[teacher.read]
    error[teacher.read] = (read_partial - read_full) / np.maximum(read_full.var(1, keepdims=True), 1e-12)
    credit = np.zeros_like(full)
    for _ in range(STEPS):
        credit = slope * (kept.T @ credit + error)
    order = [place[node] for node in problem.graph.functions]
    message = lost @ full
    return Truth(*(torch.from_numpy(a[order]).float() for a in (full, full - partial, message, credit)))


def oracle_scores(reading: Reading, known: Truth) -> dict[str, np.ndarray]:
    """``explained`` with every combination of the model's own and the true sources and targets."""
    owner = torch.arange(reading.n_nodes)

    def told(values: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(values, owner)] * reading.n_pairs

    own_sources = [(z, reading.channel_node) for z in reading.activations]
    own_targets = [(g, reading.channel_node) for g in reading.gradients]
    targets = {
        "model's gradient": own_targets,
        "exact gradient of the teacher": told(known.credit),
        "lost state": told(known.lost_state),
        "lost message": told(known.lost_message),
    }
    return {
        f"{target} | {source}": explained(sources, of, reading.n_nodes)
        for target, of in targets.items()
        for source, sources in (("model's activations", own_sources), ("true activity", told(known.activity)))
    }


def oracles(number: int, epochs: int, seed: int) -> pd.DataFrame:
    """Every oracle on a problem of the TUNING list."""
    name, made = TUNING[number]
    problem = realistic(name, made)
    model = train(problem, problem.graph, seed, settings_of(problem, epochs=epochs))
    inferer = GradientEdgeInferer(model, problem.graph)
    inferer.fit(batches(problem)[:8], verbose=False)
    reading = read(inferer)
    known = truth(name, made, problem, reading.gradients[0].shape[1])
    rows = [
        {"problem": problem.name, "target": key.split(" | ")[0], "source": key.split(" | ")[1]}
        | measure(problem, scores)
        for key, scores in oracle_scores(reading, known).items()
    ]
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame, keys: Sequence[str], digits: int = 2) -> str:
    """A table as markdown, numbers rounded."""
    numbers = [c for c in table.columns if c not in keys]
    lines = ["| " + " | ".join([*keys, *numbers]) + " |", "|" + "---|" * (len(keys) + len(numbers))]
    for _, row in table.iterrows():
        cells = [str(row[k]) for k in keys] + [f"{row[c]:.{digits}f}" for c in numbers]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinks", nargs="*", default=[], choices=["A", "B"], help="ranks of the sink edges")
    parser.add_argument("--lr", type=float, default=1e-3, help="of the sinks' models")
    parser.add_argument("--oracles", nargs="*", type=int, default=[], help="numbers in the list TUNING")
    parser.add_argument("--epochs", type=int, default=10, help="of the teachers' models")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.sinks:
        rows = [row for seed in range(arguments.seeds) for row in sink_ranks(seed, name, arguments.lr)]
        keys = ["setting", "data", "lr", "share"]
        print(markdown(pd.DataFrame(rows).drop(columns="seed").groupby(keys, sort=False).mean().reset_index(), keys))
        accounts = [stand_in(setting(name, seed), name) for seed in range(arguments.seeds)]
        print(markdown(pd.DataFrame(accounts).assign(setting=name, seed=range(len(accounts))), ["setting", "seed"], 3))
    for number in arguments.oracles:
        table = oracles(number, arguments.epochs, 0)
        columns = ["problem", "target", "source", "auc", "auc_live", "mrr", "precision_at_k", "hits_at_100"]
        print(markdown(table[columns], columns[:3]))


if __name__ == "__main__":
    main()
