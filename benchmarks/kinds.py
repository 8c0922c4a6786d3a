"""Edges from inputs and to outputs: how well are hidden ones found, by which score, on how much data?

    python benchmarks/kinds.py                   # all cells: an hour of one core
    python benchmarks/kinds.py --quick           # one topology, few samples: a minute
    python benchmarks/kinds.py --table
    python benchmarks/kinds.py --null            # p-values under both nulls, on the two real data sets: ten minutes

A cell is a kind, a topology, noise, a number of samples and a seed. A teacher of ``teachers.py`` runs on a published
network. For edges input -> function every tenth part of its inputs' edges is planted anew between random inputs and
functions, takes part in the simulation, and is hidden from the model: second targets of a treatment. For edges
function -> output each of 150 outputs is a weighted sum of 2 to 6 transcription factors, as genes are, and 15 % of the
edges are hidden, none that is the last of an output. Finished cells stand in ``kinds.csv`` and are not done again.

Models are read when most was learnt, as the package does (``gsnn.training.early``), and once more at the end.

Beside the scores of the package stand what needs no model of it: correlation (``response correlation``: the root mean
square correlation of the inputs that reach the source with the outputs that the target reaches), the same with the
model's residuals, and ``lasso``: an ordinary sparse regression of every output on all inputs (scikit-learn's LassoCV),
followed through the network in the same way. ``readers`` is structure alone: how many known edges of the kind the
source has, times those of the target. AUC of edges to outputs is also given among sources that have a known edge to an
output (``fair``): other functions are no transcription factors, and telling these apart is no skill.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LassoCV
from sklearn.metrics import average_precision_score, roc_auc_score

from cells import arguments, work
from gsnn.data import Standardiser
from gsnn.discovery.baselines import prior_scores, reach_masks
from gsnn.discovery.hiding import ends_alive
from gsnn.edges import InputEdgeInferer, OutputEdgeInferer
from gsnn.edges.pairs import PriorEdges
from gsnn.graph import Graph
from gsnn.graph.kinds import INPUT_EDGES, OUTPUT_EDGES
from gsnn.training.early import SHARE
from recovery_methods import batches, error, settings_of, test_loss, train_watched
from teachers import ACTIVE, Problem, Teacher, draw_inputs, topology

RESULTS = Path(__file__).with_name("kinds.csv")
KEY = ["kind", "topology", "noise", "samples", "seed"]
# Never tuned on: the forms of both scores were chosen on lembas:InnateDB, seed 1, 1,000 samples, noise .3.
TOPOLOGIES = ("l1000:BioGRID", "lembas:PhosphoPoint", "l1000:SignaLink3", "lembas:KEGG", "lembas:SPIKE")
N_TEST, N_OUTPUTS = 500, 150


def problem(kind: str, name: str, noise: float, n_train: int, seed: int) -> Problem:
    """A teacher some of whose edges of one kind are hidden."""
    found = topology(name)
    rng = np.random.default_rng(seed)
    teacher = Teacher(found, rng)
    fed = [edge for edge in found.graph.edges if edge[0] in set(found.inputs)]
    hidden: list[tuple[str, str]] = []
    if kind == INPUT_EDGES:
        hidden = _planted(teacher, fed, rng)
    x = draw_inputs(n_train + N_TEST, len(found.inputs), rng, min(ACTIVE, len(found.inputs)))
    state = teacher.settle(x)
    if kind == INPUT_EDGES:
        read = [(name, f"{name}.out") for name in found.readouts]
        y = state[teacher.read].T
    else:
        read, y = _genes(teacher, state, rng)
    y = y + noise * y.std(0) * rng.standard_normal(y.shape)
    outputs = list(dict.fromkeys(target for _, target in read))
    inner = [edge for edge in found.graph.edges if edge[0] not in set(found.inputs)]
    full = Graph.from_edges(
        [*fed, *(hidden if kind == INPUT_EDGES else []), *inner, *read],
        input_nodes=found.inputs,
        function_nodes=found.functions,
        output_nodes=outputs,
    )
    if kind == OUTPUT_EDGES:
        hidden = _not_the_last(read, rng)
    standardiser = Standardiser.fit(y[:n_train])
    y = standardiser.transform(y)
    x, y = x.astype(np.float32), np.asarray(y, np.float32)
    parts = x[:n_train], y[:n_train], x[n_train:], y[n_train:]
    return Problem(f"{kind} {name} #{seed}", full, full.without_edges(hidden), hidden, [], *parts)


def _planted(teacher: Teacher, fed: list[tuple[str, str]], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Edges from inputs, added to the teacher with weights like those it has."""
    inputs, functions = teacher.inputs, teacher.functions
    place, have, weights = {name: i for i, name in enumerate(functions)}, set(fed), teacher.V.tolil()
    planted: list[tuple[str, str]] = []
    while len(planted) < max(10, len(fed) // 10):
        i = int(rng.integers(len(inputs)))
        edge = (inputs[i], functions[int(rng.integers(len(functions)))])
        if edge in have:
            continue
        have.add(edge)
        planted.append(edge)
        weights[place[edge[1]], i] = rng.uniform(0.5, 1.5) * (1 if rng.random() < 0.75 else -1)
    teacher.V = weights.tocsr()
    return planted


def _genes(teacher: Teacher, state: np.ndarray, rng: np.random.Generator) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Outputs that each read several transcription factors: the edges, and (M, O)."""
    edges, values = [], []
    for gene in range(N_OUTPUTS):
        n = min(len(teacher.read), int(rng.integers(2, 7)))
        factors = rng.choice(teacher.read, size=n, replace=False)
        weight = rng.uniform(0.5, 1.5, n) * np.where(rng.random(n) < 0.6, 1, -1)
        part = state[factors]
        part = (part - part.mean(1, keepdims=True)) / (part.std(1, keepdims=True) + 1e-6)
        values.append(weight @ part / np.sqrt(n))
        edges += [(teacher.functions[f], f"gene{gene}") for f in factors]
    return edges, np.array(values).T


def _not_the_last(edges: list[tuple[str, str]], rng: np.random.Generator) -> list[tuple[str, str]]:
    left = pd.Series([target for _, target in edges]).value_counts().to_dict()
    hidden = []
    for k in rng.permutation(len(edges)):
        if left[edges[k][1]] > 1 and len(hidden) < 0.15 * len(edges):
            hidden.append(edges[k])
            left[edges[k][1]] -= 1
    return hidden


def lasso(given: Problem, kind: str) -> np.ndarray:
    """A sparse regression of every output on all inputs, followed through the network: scores (S, T)."""
    coefficients = np.zeros((given.graph.I, given.graph.O))
    for o in range(given.graph.O):
        if given.y_train[:, o].std() > 1e-6:
            model = LassoCV(alphas=20, cv=3, random_state=0).fit(given.x_train, given.y_train[:, o])
            coefficients[:, o] = model.coef_ * given.x_train.std(0)
    above, below = reach_masks(given.graph)
    if kind == INPUT_EDGES:
        above = np.eye(given.graph.I)
    else:
        below = np.eye(given.graph.O)
    count = np.maximum(above.sum(1)[:, None] * below.sum(1)[None, :], 1)
    return np.sqrt(above @ coefficients**2 @ below.T / count)


def figures(given: Problem, kind: str, scores: np.ndarray) -> dict[str, float]:
    """AUC, average precision, MRR within the target and within the source, and shares of the best that are true."""
    prior = PriorEdges(given.graph, kind)
    above, below = ends_alive(given.graph, kind)
    candidate = prior.candidates() & above[:, None] & below[None, :]
    source, target = ({name: i for i, name in enumerate(names)} for names in (prior.sources, prior.targets))
    positive = np.zeros_like(candidate)
    for s, t in given.hidden:
        positive[source[s], target[t]] = True
    positive &= candidate
    values = np.where(np.isfinite(scores), scores, -np.inf)
    values = np.where(np.isfinite(values), values, values[np.isfinite(values)].min() - 1)

    def auc(rows: np.ndarray) -> float:
        return float(roc_auc_score(positive[rows], values[rows]))

    readers = np.zeros(len(prior.sources), bool)
    readers[prior.pairs[0]] = True
    ranks: dict[str, list[float]] = {"mrr_target": [], "mrr_source": []}
    for i, j in np.argwhere(positive):
        for name, line, open_ in (
            ("mrr_target", values[:, j], candidate[:, j] & ~positive[:, j]),
            ("mrr_source", values[i], candidate[i] & ~positive[i]),
        ):
            others = line[open_]
            ranks[name].append(1 / (1 + (others > values[i, j]).sum() + 0.5 * (others == values[i, j]).sum()))
    order = np.argsort(-values[candidate], kind="stable")
    hits = positive[candidate][order]
    return {
        "hidden": int(positive.sum()),
        "candidates": int(candidate.sum()),
        "auc": auc(candidate),
        "fair": auc(candidate & readers[:, None]) if kind == OUTPUT_EDGES else auc(candidate),
        "aupr": float(average_precision_score(positive[candidate], values[candidate])),
        "mrr_target": float(np.mean(ranks["mrr_target"])),
        "mrr_source": float(np.mean(ranks["mrr_source"])),
        "top10": float(hits[:10].mean()),
        "topK": float(hits[: int(positive.sum())].mean()),
    }


def cell(kind: str, name: str, noise: float, n_train: int, seed: int) -> list[dict[str, object]]:
    """One problem, one training, every score."""
    start = time.process_time()
    given = problem(kind, name, noise, n_train, seed)
    settings = settings_of(given)
    # As many steps as 20 passes over 4,000 samples, but no more than 60 passes.
    settings = replace(settings, epochs=min(60, max(20, 80_000 // n_train)))
    (early, model), _ = train_watched(given, given.graph, seed, settings, (SHARE, 1.0))
    scores = {}
    for label, read in (("", early), (", last weights", model)):
        inferer = (InputEdgeInferer if kind == INPUT_EDGES else OutputEdgeInferer)(read, given.graph)
        inferer.fit(batches(given), verbose=False)
        scores |= {f"{score}{label}": inferer.score_matrix(score=score) for score in inferer.scores}
    x, y = given.x_train, given.y_train
    base = prior_scores(given.graph, seed=seed, x=x, residual=error(model, x, y), y=y, kind=kind)
    scores |= {"readers" if k == "degree product" else k: v for k, v in base.items()}
    scores["lasso"] = lasso(given, kind)
    loss = test_loss(model, given)
    rows = []
    for method, matrix in scores.items():
        row: dict[str, object] = dict(zip(KEY, (kind, name, noise, n_train, seed), strict=True))
        rows.append(row | {"method": method, **figures(given, kind, matrix), "test_loss": loss})
    seconds = round(time.process_time() - start)
    return [row | {"cpu_s": seconds, "date": date.today().isoformat()} for row in rows]


def null(n_models: int = 10, n_orders: int = 20) -> str:
    """How often p-values are small where there is nothing to find, as markdown.

    ``credit permuted``: a trained model, the samples of what is wanted at the targets permuted. ``retrained``: the
    responses permuted before training, which the model then fits as far as it can; what it learns by heart is not
    covered by a test that takes the activations as given.
    """
    from gsnn.data import PerturbationData
    from gsnn.datasets import load_dataset
    from gsnn.discovery.retrain import train_on
    from gsnn.discovery.selfcheck.controls import permute_samples
    from gsnn.edges.capture import Capture, captures
    from gsnn.training import TrainConfig

    lines = [
        "| data | null | score | P(p < .05) | P(p < 1e-3) over 1e-3 | any q <= .05 | p-values |",
        "|---|---|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(0)
    for name in ("extliver", "liverdream"):
        data: PerturbationData = load_dataset(name)
        config = TrainConfig()
        found: dict[tuple[str, str], list[np.ndarray]] = {}
        hits: dict[tuple[str, str], list[bool]] = {}

        def note(null: str, inferer: InputEdgeInferer | OutputEdgeInferer, score: str) -> None:
            table = inferer.evaluate(score=score)
            label = (null, f"{inferer.kind} {score}")
            p = table.loc[~table["has_edge"], "p_value"].to_numpy(float)
            found.setdefault(label, []).append(p[np.isfinite(p)])  # noqa: B023
            hits.setdefault(label, []).append(bool((table["q_value"] <= 0.05).any()))  # noqa: B023

        ways = ((InputEdgeInferer, "explained"), (OutputEdgeInferer, "explained"), (OutputEdgeInferer, "residual"))
        for k in range(n_models):
            for null in ("credit permuted", "retrained"):
                used = data if null == "credit permuted" else permute_samples(data, k)
                trained = train_on(used, data.graph, config, seed=k)
                x, y = (torch.cat([batch[side] for batch in trained.batches]) for side in range(2))
                pre, post = captures(trained.model, x, y)
                for _ in range(n_orders if null == "credit permuted" else 1):
                    order = torch.from_numpy(rng.permutation(len(x)))
                    if null == "retrained":
                        order = torch.arange(len(x))
                    assert pre.credit is not None
                    gradients = [g[:, order] for g in pre.gradients]
                    shuffled = Capture(
                        pre.activations, gradients, pre.channel_node, pre.n_nodes, 0.0, pre.credit[:, order]
                    )
                    for kind, score in ways:
                        inferer = kind(trained.model, data.graph)
                        inferer.add(shuffled, post, x, y[order])
                        note(null, inferer, score)
        for (null, score), parts in found.items():
            p = np.concatenate(parts)
            lines.append(
                f"| {name} | {null} | {score} | {(p < 0.05).mean():.3f} | {(p < 1e-3).mean() / 1e-3:.1f} | "
                f"{np.mean(hits[null, score]):.0%} of {len(hits[null, score])} | {len(p)} |"
            )
    return "\n".join(lines)


def cells(*, quick: bool) -> list[tuple[str, str, float, int, int]]:
    """The base point on every topology, then one factor at a time on the first two."""
    if quick:
        return [(kind, "lembas:InnateDB", 0.3, 300, 1) for kind in (INPUT_EDGES, OUTPUT_EDGES)]
    found = []
    for kind in (INPUT_EDGES, OUTPUT_EDGES):
        found += [(kind, name, 0.3, 1000, 301 + k) for k, name in enumerate(TOPOLOGIES)]
        for k, name in enumerate(TOPOLOGIES[:2]):
            found += [(kind, name, noise, n, 301 + k) for noise, n in ((0.3, 300), (0.3, 4000), (0.0, 1000))]
    return found


def table(path: Path) -> str:
    """Means over topologies, as markdown."""
    done = pd.read_csv(path)
    lines = [
        "| kind | noise | samples | n | score | AUC | AUC, fair | AUPR | MRR in target | in source | top 10 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (kind, noise, samples), rows in done.groupby(["kind", "noise", "samples"], sort=False):
        for method in dict.fromkeys(rows["method"]):
            mean = rows[rows["method"] == method].mean(numeric_only=True)
            n = rows["seed"].nunique()
            lines.append(
                f"| {kind} | {noise:g} | {samples} | {n} | {method} | {mean['auc']:.2f} | {mean['fair']:.2f} | "
                f"{mean['aupr']:.3f} | {mean['mrr_target']:.2f} | {mean['mrr_source']:.2f} | {mean['top10']:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Do the cells that are not in the file, then print the table."""
    parser = arguments(__doc__, RESULTS, quick="two small cells; give --results another file")
    parser.add_argument("--null", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if given.null:
        print(null())
        return
    if not given.table:
        shown = [*KEY, "method", "auc", "fair", "mrr_target", "cpu_s"]
        work(given.results, KEY, ((key, partial(cell, *key)) for key in cells(quick=given.quick)), shown)
    print(table(given.results))


if __name__ == "__main__":
    main()
