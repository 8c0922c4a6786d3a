"""Knock-outs that were never trained on: how predicted effects go with true ones.

Teachers (``benchmarks/teachers.py``): 400 noisy samples of random ligands, in half of which one of 8 functions is
inhibited (its state is 0). A GSNN is trained on them, and each of up to 40 other functions is knocked out in 20 new
conditions. True are the teacher's noiseless responses with that function at 0, minus those without.

ExtLiver: each inhibitor is left out of the training with all its samples; the function that it inhibits is knocked out
in the conditions in which it was applied, and true is what was measured with the inhibitor minus what was measured
without, where both are there.

Beside the values at which functions are held (lowest, zero, highest) stands what needs no model of the inside: the mean
effect of the inhibitors that were seen, and that of the one whose function is nearest in the network. Ridge on the
inputs has no input for a function that was never treated: its answer is no effect, whose correlation is undefined.

Correlations are Pearson's r over all functions, conditions and readouts, in standard deviations of the readouts; of
the teachers over readouts that the function reaches. ``slope`` is the least-squares factor from predicted to true.

With ``--clamp`` the inhibitors of the teachers are no inputs: where one was applied, the channels of its function are 0
in every block while the model trains (answers ``clamp: zero`` and so on).

    python benchmarks/knockout.py [--only extliver|lembas:KEGG|...] [--clamp] [--out knockout.csv]
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import nn

from gsnn.ask import knockout
from gsnn.ask.conditions import Conditions, name_of
from gsnn.data import PerturbationData, Split, Standardiser
from gsnn.datasets import load_extliver
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.training import TrainConfig, train_model
from gsnn.training.prepare import prepare
from teachers import ACTIVE, Teacher, Topology, draw_inputs, saturating, topology

TEACHERS = (("l1000:SPIKE", 1), ("lembas:InnateDB", 2), ("l1000:SPIKE", 3))
SAMPLES, INHIBITED, ASKED, CONDITIONS, NOISE = 400, 8, 40, 20, 0.3
STATES = ("lowest", "zero", "highest")
COLUMNS = ("problem", "answer", "functions", "fit", "r", "rank_r", "slope", "values", "knockouts", "seconds")


def trained(data: PerturbationData, config: TrainConfig) -> tuple[GSNN, Standardiser]:
    """A model of all samples."""
    nothing = np.array([], dtype=np.int64)
    made = prepare(data, config, Split(np.arange(len(data)), nothing, nothing, "condition"))
    train_model(made.model, made.train, None, config)
    return made.model.eval(), made.standardiser


class Clamped(nn.Module):
    """A model whose last inputs tell which functions are silent: (B, I + functions) -> (B, O)."""

    def __init__(self, model: GSNN, functions: list[int]) -> None:
        super().__init__()
        self.model, self.functions = model, functions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predictions with channels of 0 where an intervention is 1."""
        mask = torch.ones(len(x), self.model.N)
        mask[:, self.functions] = 1 - x[:, self.model.I :]
        return self.model(x[:, : self.model.I], node_mask=mask)


def trained_clamped(
    data: PerturbationData, applied: np.ndarray, functions: list[int], config: TrainConfig
) -> tuple[GSNN, Standardiser]:
    """A model of all samples, in which functions were silent where ``applied`` (M, functions)."""
    nothing = np.array([], dtype=np.int64)
    made = prepare(data, config, Split(np.arange(len(data)), nothing, nothing, "condition"))
    x, y = made.train
    both = np.c_[np.asarray(x), applied].astype(np.float32)
    train_model(Clamped(made.model, functions), (both, np.asarray(y)), None, config)
    return made.model.eval(), made.standardiser


def settled(teacher: Teacher, x: np.ndarray, off: np.ndarray) -> np.ndarray:
    """Responses (M, O) of a teacher with functions held at 0 where ``off`` (N, M)."""
    drive = teacher.bias[:, None] + 3 * (teacher.V @ x.T)
    state = np.zeros_like(drive)
    for _ in range(200):
        state = saturating(teacher.W @ state + drive) * ~off
    return 1.2 * state[teacher.read].T


def figures(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float, float, int]:
    """r, Spearman's r, slope and number of values."""
    p, t = predicted.ravel(), true.ravel()
    seen = np.isfinite(p) & np.isfinite(t)
    p, t = p[seen], t[seen]
    if not len(p) or p.std() == 0:
        return float("nan"), float("nan"), float("nan"), len(p)
    return float(np.corrcoef(p, t)[0, 1]), float(spearmanr(p, t)[0]), float((p @ t) / (p @ p)), len(p)


def nearest(graph: nx.Graph, node: str, others: list[str]) -> str:
    """The one of others that is nearest in the network, whatever the direction."""
    far = nx.single_source_shortest_path_length(graph, node)
    return min(others, key=lambda other: (far.get(other, np.inf), other))


def of_teacher(name: str, seed: int, clamp: bool = False) -> list[list[object]]:
    """Rows of a teacher; with ``clamp`` inhibitors are no inputs, their functions are silent."""
    start = time.perf_counter()
    found = topology(name)
    rng = np.random.default_rng(seed)
    teacher = Teacher(found, rng)
    n = len(teacher.functions)
    x = draw_inputs(SAMPLES + CONDITIONS, len(found.inputs), rng, min(ACTIVE, len(found.inputs)))
    new = x[SAMPLES:]
    still = np.zeros((n, CONDITIONS), bool)
    before = settled(teacher, new, still)
    effect = {}
    for k in range(n):
        off = still.copy()
        off[k] = True
        effect[k] = settled(teacher, new, off) - before
    matters = [k for k in rng.permutation(n).tolist() if np.abs(effect[k]).max() > 1e-3]
    inhibited, asked = matters[:INHIBITED], matters[INHIBITED : INHIBITED + ASKED]
    applied = np.zeros((SAMPLES, INHIBITED))
    for row in range(0, SAMPLES, 2):
        applied[row, rng.integers(INHIBITED)] = 1
    off = np.zeros((n, SAMPLES), bool)
    off[inhibited] = applied.T > 0
    y = settled(teacher, x[:SAMPLES], off)
    y += NOISE * y.std(0) * rng.standard_normal(y.shape)
    names = [teacher.functions[k] for k in inhibited]
    drugs = [] if clamp else [f"TR:{name}_off" for name in names]
    graph = Graph.from_edges(
        [
            *((a, b) for a, b in found.graph.edges),
            *zip(drugs, names, strict=not clamp),
            *((name, f"DV:{name}") for name in found.readouts),
        ],
        input_nodes=[*found.inputs, *drugs],
        function_nodes=teacher.functions,
        output_nodes=[f"DV:{name}" for name in found.readouts],
    )
    given = x[:SAMPLES] if clamp else np.c_[x[:SAMPLES], applied]
    data = PerturbationData(graph, pd.DataFrame(given, columns=graph.inputs), pd.DataFrame(y, columns=graph.outputs))
    config = TrainConfig(epochs=40, seed=seed)
    place = [graph.functions.index(name) for name in names]
    model, standardiser = trained_clamped(data, applied, place, config) if clamp else trained(data, config)
    scale = standardiser.scale
    reached = nx.DiGraph(found.graph)
    reaches = np.array(
        [
            [
                target == teacher.functions[k] or nx.has_path(reached, teacher.functions[k], target)
                for target in found.readouts
            ]
            for k in asked
        ]
    )
    true = np.stack([effect[k] for k in asked]) / scale
    true = np.where(reaches[:, None], true, np.nan)
    conditions = np.c_[new, np.zeros((CONDITIONS, len(drugs)))].astype(np.float32)
    answers: dict[str, np.ndarray] = {}
    for to in STATES:
        predicted = knockout(
            [model], data, standardiser, [teacher.functions[k] for k in asked], to=to, conditions=conditions
        )
        answers[f"clamp: {to}" if clamp else to] = predicted.effect / scale
    fit = float(1 - np.square(predicted.plain - before).sum() / np.square(before - before.mean(0)).sum())
    if not clamp:
        answers |= seen_inhibitors(found, teacher, asked, names, y, applied, scale, true)
    own = np.array([teacher.functions[k] in found.readouts for k in asked])
    took = round(time.perf_counter() - start)
    return [
        [f"{name} #{seed}", answer, which, fit, *figures(values[of], true[of]), int(of.sum()), took]
        for which, of in (("all", own | True), ("read", own), ("not read", ~own))
        for answer, values in answers.items()
    ]


def seen_inhibitors(
    found: Topology,
    teacher: Teacher,
    asked: list[int],
    names: list[str],
    y: np.ndarray,
    applied: np.ndarray,
    scale: np.ndarray,
    true: np.ndarray,
) -> dict[str, np.ndarray]:
    """What needs no model of the inside."""
    # In the data: samples with an inhibitor minus those without.
    seen = {name: y[applied[:, k] > 0].mean(0) - y[applied.sum(1) == 0].mean(0) for k, name in enumerate(names)}
    mean = (np.mean(list(seen.values()), axis=0) / scale)[None, None]
    near = nx.Graph(found.graph)
    by_near = np.stack([seen[nearest(near, teacher.functions[k], names)] / scale for k in asked])[:, None]
    return {
        "mean inhibitor": np.broadcast_to(mean, true.shape),
        "nearest inhibitor": np.broadcast_to(by_near, true.shape),
        "ridge on inputs": np.zeros_like(true),
    }


def of_extliver() -> list[list[object]]:
    """Rows of ExtLiver, every inhibitor left out once."""
    start = time.perf_counter()
    data = load_extliver()
    graph, x, y = data.graph, data.x, data.y
    sign = graph.edge_sign_dict["input", "to", "function"].tolist()
    source, target = graph.edge_index_dict["input", "to", "function"].tolist()
    drugs = {s: t for s, t, sg in zip(source, target, sign, strict=True) if sg < 0}
    near = nx.Graph(graph.function_edges)
    predicted: dict[str, list[np.ndarray]] = {}
    true: list[np.ndarray] = []
    pairs = {drug: _pairs(x, drug) for drug in drugs}
    pairs = {drug: some for drug, some in pairs.items() if some}
    seen = {drug: np.nanmean(y[[a for a, _ in some]] - y[[b for _, b in some]], axis=0) for drug, some in pairs.items()}
    drugs = {drug: node for drug, node in drugs.items() if drug in pairs}
    for drug, node in drugs.items():
        out = x[:, drug] != 0
        kept = replace(data, inputs=data.inputs[~out], outputs=data.outputs[~out])
        model, standardiser = trained(kept, TrainConfig())
        scale = standardiser.scale
        rows = [b for _, b in pairs[drug]]
        true.append((y[[a for a, _ in pairs[drug]]] - y[rows]) / scale)
        for to in STATES:
            known = Conditions.of(x[rows], kept)
            found = knockout([model], kept, standardiser, [graph.functions[node]], to=to, conditions=x[rows])
            place = {tuple(row): i for i, row in enumerate(known.x.tolist())}
            order = [place[tuple(row)] for row in x[rows].tolist()]
            predicted.setdefault(to, []).append(found.effect[0][order] / scale)
        others = {graph.functions[t]: d for d, t in drugs.items() if d != drug and t != node}
        mean = np.nanmean([seen[d] for d in others.values()], axis=0) / scale
        close = seen[others[nearest(near, graph.functions[node], sorted(others))]] / scale
        predicted.setdefault("mean inhibitor", []).append(np.tile(mean, (len(rows), 1)))
        predicted.setdefault("nearest inhibitor", []).append(np.tile(close, (len(rows), 1)))
        predicted.setdefault("ridge on inputs", []).append(np.zeros((len(rows), graph.O)))
        each = ", ".join(f"{to} {figures(predicted[to][-1], true[-1])[0]:.2f}" for to in STATES)
        print(f"  without {name_of(graph.inputs[drug])}: r {each}", flush=True)
    every = np.concatenate(true)
    return [
        [
            "ExtLiver",
            answer,
            "all",
            float("nan"),
            *figures(np.concatenate(some), every),
            len(drugs),
            round(time.perf_counter() - start),
        ]
        for answer, some in predicted.items()
    ]


def _pairs(x: np.ndarray, drug: int) -> list[tuple[int, int]]:
    """Samples with the drug, and one each that differs by the drug alone."""
    found = []
    for a in np.flatnonzero(x[:, drug]):
        without = x[a].copy()
        without[drug] = 0
        same = np.flatnonzero((x == without).all(1))
        if len(same):
            found.append((int(a), int(same[0])))
    return found


def main() -> None:
    """Print and, if asked, append to a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="extliver, or a topology")
    parser.add_argument("--clamp", action="store_true", help="teachers alone: interventions as clamps")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for name, seed in (("extliver", 0), *TEACHERS):
        if options.only not in (None, name) or (options.clamp and name == "extliver"):
            continue
        for row in of_extliver() if name == "extliver" else of_teacher(name, seed, options.clamp):
            cells = [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row]
            print("  ".join(cells), flush=True)
            if options.out:
                fresh = not options.out.exists()
                with options.out.open("a", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerows([COLUMNS, cells] if fresh else [cells])


if __name__ == "__main__":
    main()
