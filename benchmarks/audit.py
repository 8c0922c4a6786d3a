"""Whether an audit tells edges that were planted into a network, and signs that were turned, from true ones.

Random edges, a fifth of those of each kind, are planted into the network of a teacher, and the signs of 15 % of its
edges are turned; both networks and responses are known. Every kind of evidence ranks the known edges; the AUC is that
of true edges above planted ones, for all true edges and for the function -> function edges whose removal changes the
responses. Structure alone and chance stand beside them.

    python benchmarks/audit.py            # all problems into audit.csv; what stands there is not done again
    python benchmarks/audit.py --table             # the table of README.md from audit.csv
    python benchmarks/audit.py --l1000 FOLDER      # how long the whole l1000 network takes; nothing is planted
    python benchmarks/audit.py --ablation          # closing edges of the GSNN, too (slow)
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import rankdata

import recovery_families
from cells import arguments, read, work
from gsnn.data import PerturbationData, Standardiser
from gsnn.discovery import Audit, audit
from gsnn.discovery.auditing.restricted import STEPS
from gsnn.discovery.auditing.verdicts import pooled, reasons_not_to_judge
from gsnn.graph import EDGE_TYPES, Graph
from gsnn.nn import GSNN
from gsnn.training import TrainConfig, train_model
from gsnn.training.prepare import new_model
from teachers import ACTIVE, MATTERS, Edge, Teacher, build_graph, draw_inputs, topology

OUT = Path(__file__).with_name("audit.csv")
KEY = ["problem", "seed", "samples", "noise"]
PLANTED, TURNED = 0.2, 0.15
# (problem, seed, samples, noise). The first two were looked at while the evidence was chosen.
PROBLEMS: tuple[tuple[str, int, int, float], ...] = (
    ("l1000:SPIKE", 12, 2000, 0.3),
    ("lembas:InnateDB", 11, 2000, 0.3),
    ("l1000:BioGRID", 101, 2000, 0.3),
    ("B", 1, 2000, 0.15),
    ("A", 1, 2000, 0.15),
    ("B", 2, 2000, 0.15),
    ("A", 2, 2000, 0.15),
    ("l1000:SPIKE", 12, 2000, 0.0),
    ("lembas:InnateDB", 11, 4000, 0.0),
    ("lembas:InnateDB", 11, 1000, 0.3),
    ("lembas:PhosphoPoint", 102, 2000, 0.3),
    ("l1000:SignaLink3", 103, 2000, 0.3),
    ("l1000:BioGRID", 101, 4000, 0.0),
)


@dataclass(frozen=True)
class Planted:
    """A problem whose network holds edges and signs that are wrong.

    Attributes:
        data: Samples on the network that is audited.
        true: (E,) whether an edge is of the teacher, in the order of `EDGE_TYPES`.
        turned: (E,) whether its sign is the other one.
        effect: (E,) relative change of the responses without it; infinite where it was not measured, NaN if planted.
    """

    data: PerturbationData
    true: np.ndarray
    turned: np.ndarray
    effect: np.ndarray


def edges_of(graph: Graph) -> list[Edge]:
    """All edges, in the order of `EDGE_TYPES`."""
    names, index = graph.node_names_dict, graph.edge_index_dict
    return [(names[k[0]][a], names[k[2]][b]) for k in EDGE_TYPES for a, b in index[k].T.tolist()]


def kinds_of(graph: Graph) -> np.ndarray:
    """(E,) the number of the kind of each edge."""
    return np.repeat(np.arange(3), [graph.edge_index_dict[kind].shape[1] for kind in EDGE_TYPES])


def random_edges(graph: Graph, share: float, rng: np.random.Generator) -> list[Edge]:
    """Random pairs that are no edges, a share of the edges of each kind."""
    found: list[Edge] = []
    names = graph.node_names_dict
    for kind in EDGE_TYPES:
        index = graph.edge_index_dict[kind].numpy()
        known, sources, targets = set(map(tuple, index.T.tolist())), names[kind[0]], names[kind[2]]
        new: set[tuple[int, int]] = set()
        while len(new) < round(share * len(known)):
            pair = int(rng.integers(len(sources))), int(rng.integers(len(targets)))
            if pair not in known and not (kind[0] == kind[2] and pair[0] == pair[1]):
                new.add(pair)
        found += [(sources[a], targets[b]) for a, b in sorted(new)]
    return found


def teacher(
    name: str, seed: int, samples: int, noise: float
) -> tuple[Graph, dict[Edge, int], dict[Edge, float], tuple[np.ndarray, np.ndarray]]:
    """Graph, true signs, effects of function -> function edges, and samples of a saturating teacher."""
    found = topology(name)
    rng = np.random.default_rng(seed)
    made = Teacher(found, rng)
    x = draw_inputs(samples, len(found.inputs), rng, min(ACTIVE, len(found.inputs)))
    y = 1.2 * made.settle(x)[made.read].T
    y += noise * y.std(0) * rng.standard_normal(y.shape)
    place = {node: i for i, node in enumerate(made.functions)}
    which = {node: i for i, node in enumerate(made.inputs)}
    weights = {e: made.W[b, a] for e, a, b in zip(made.edges, made.source, made.target, strict=True)}
    weights |= {(a, b): made.V[place[b], which[a]] for a, b in found.graph.edges if a in which}
    weights |= {(node, f"{node}.out"): 1.0 for node in found.readouts}
    effects = dict(zip(made.edges, made.effects(x[:100]).tolist(), strict=True))
    graph = build_graph(found.inputs, found.functions, found.graph.edges, found.readouts)
    return graph, {edge: int(np.sign(w)) for edge, w in weights.items()}, effects, (x, y)


def problem(name: str, seed: int, samples: int, noise: float) -> Planted:
    """A problem with planted edges and turned signs."""
    if name in ("A", "B"):
        made = recovery_families.setting(name, seed)
        graph, xy = made.full, (made.x_train, made.y_train)
        signs, effects = dict.fromkeys(edges_of(graph), 1), {}
    else:
        graph, signs, effects, xy = teacher(name, seed, samples, noise)
    rng = np.random.default_rng((seed, 1))
    new = random_edges(graph, PLANTED, rng)
    functions = set(graph.functions)
    inner = [edge for edge in signs if edge[0] in functions and edge[1] in functions]
    turned = {inner[i] for i in rng.permutation(len(inner))[: int(TURNED * len(inner))]}
    listed = [(*edge, -sign if edge in turned else sign) for edge, sign in signs.items()]
    listed += [(*edge, int(rng.choice([-1, 1]))) for edge in new]
    nodes = {"input_nodes": graph.inputs, "function_nodes": graph.functions, "output_nodes": graph.outputs}
    network = Graph.from_edges(listed, **nodes)
    x, y = (np.asarray(part, dtype=np.float32) for part in xy)
    data = PerturbationData(network, pd.DataFrame(x, columns=network.inputs), pd.DataFrame(y, columns=network.outputs))
    edges, planted = edges_of(network), set(new)
    return Planted(
        data,
        np.array([edge not in planted for edge in edges]),
        np.array([edge in turned for edge in edges]),
        np.array([np.nan if edge in planted else effects.get(edge, np.inf) for edge in edges]),
    )


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores above a negative, ties half."""
    n = positive.sum()
    if not 0 < n < len(positive):
        return float("nan")
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / n / (len(positive) - n))


def structure(graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Scores that know the network alone."""
    whole = nx.DiGraph(edges_of(graph))
    around = {node: set(whole.predecessors(node)) | set(whole.successors(node)) for node in whole}
    found: dict[str, list[float]] = {"degree product": [], "common neighbours": [], "nearness without it": []}
    for a, b in list(whole.edges):
        whole.remove_edge(a, b)
        away = nx.single_source_shortest_path_length(whole, a, cutoff=6).get(b, 7)
        whole.add_edge(a, b)
        found["nearness without it"].append(-away)
    order = {edge: i for i, edge in enumerate(whole.edges)}
    edges = edges_of(graph)
    found["nearness without it"] = [found["nearness without it"][order[edge]] for edge in edges]
    found["degree product"] = [whole.out_degree(a) * whole.in_degree(b) for a, b in edges]
    found["common neighbours"] = [len(around[a] & around[b]) for a, b in edges]
    return {name: np.array(values, dtype=float) for name, values in found.items()} | {"random": rng.random(len(edges))}


def gsnn_evidence(data: PerturbationData, seed: int, ablation: bool) -> dict[str, np.ndarray]:
    """What one GSNN says: first order, weights, and (slow) edges closed one by one."""
    rows = np.random.default_rng(seed).permutation(len(data))
    train, held = rows[: -len(rows) // 5], rows[-len(rows) // 5 :][:256]
    y = np.asarray(Standardiser.fit(data.y[train]).transform(data.y), np.float32)
    config = TrainConfig(epochs=max(5, 40000 // len(train)), batch_size=64, lr=5e-3, dropout=0.0, seed=seed)
    model = new_model(data.graph, config)
    train_model(model, (data.x[train], y[train]), None, config, progress=None)
    model.eval()
    x, target = torch.from_numpy(data.x[held]), torch.from_numpy(y[held])
    n_edges = data.graph.E
    with torch.no_grad():
        states, predicted = run_states(model, x)
        centred = states - states.mean(2, keepdim=True)
    linear = -(gradients(model, x, 2 * (predicted - target)) * centred).sum(0)
    generator = torch.Generator().manual_seed(0)
    square = torch.zeros_like(linear)
    for _ in range(8):
        probe = torch.randint(0, 2, target.shape, generator=generator) * 2.0 - 1
        square += (gradients(model, x, probe) * centred).sum(0).square() / 8
    norm = torch.zeros(model.E)
    for block in model.blocks:
        norm.index_add_(0, block.lin_in.pattern.positions()[0], block.lin_in.weight.detach().square())
    found = {
        "GSNN: carried, first order": square.mean(1).sqrt(),
        "GSNN: gain, first order": (linear + square).mean(1),
        "GSNN: Taylor": linear.mean(1),
        "GSNN: norm of the weights": norm.sqrt(),
    }
    if ablation:
        found["GSNN: gain, closed"] = closed(model, states, target)
    return {name: values[:n_edges].numpy().astype(float) for name, values in found.items()}


def run_states(model: GSNN, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Edge states before and after each block, (L + 1, E, B), and predictions."""
    state = F.pad(x.t()[model.input_source], model._padding)
    states = [state]
    for layer, block in enumerate(model.blocks):
        state = block(state, layer=layer)
        states.append(state)
    return torch.stack(states), model._read_out(state[model.layout.output_edges])


def gradients(model: GSNN, x: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
    """Derivatives of a product with the predictions by all edge states, (L + 1, E, B)."""
    state = F.pad(x.t()[model.input_source], model._padding).requires_grad_()
    states = [state]
    for layer, block in enumerate(model.blocks):
        state = block(state, layer=layer)
        states.append(state)
    out = (model._read_out(state[model.layout.output_edges]) * cotangent).sum()
    found = torch.autograd.grad(out, states, allow_unused=True)
    return torch.stack([torch.zeros_like(s) if g is None else g for s, g in zip(states, found, strict=True)])


@torch.no_grad()
def closed(model: GSNN, states: torch.Tensor, target: torch.Tensor, chunk: int = 16) -> torch.Tensor:
    """Rise of the squared error with the state of an edge at its mean, for every edge."""
    mean = states.mean(2)
    batch = states.shape[2]
    found = []
    whole = (model._read_out(states[-1][model.layout.output_edges]) - target).square().mean()
    for some in torch.arange(states.shape[1]).split(chunk):
        rows, columns = some[:, None], torch.arange(len(some) * batch).view(len(some), batch)
        state = states[0].repeat(1, len(some))
        state[rows, columns] = mean[0, some][:, None]
        for layer, block in enumerate(model.blocks):
            state = block(state, layer=layer)
            state[rows, columns] = mean[layer + 1, some][:, None]
        out = model._read_out(state[model.layout.output_edges]).view(len(some), batch, -1)
        found.append((out - target).square().mean((1, 2)) - whole)
    return torch.cat(found)


def audit_evidence(data: PerturbationData, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, Audit]:
    """What the audit says: evidence, the sign of the model (mean of the folds, weighed), and the outcome."""
    found = audit(data, TrainConfig(seed=seed), removal=False, seed=seed)
    weights = np.array([fold["network"]["weight"] for fold in found.folds])
    carried = np.array([fold["carried"] for fold in found.folds])
    estimate = pooled(found.folds, "estimate")
    gain = found.table()["gain"].fillna(0.0).to_numpy()
    evidence = {
        "audit: carried": carried.mean(0),
        "audit: carried, geometric mean": np.log(carried + 1e-4).mean(0),
        "audit: carried, one network": carried[0],
        "audit: gain, first order": estimate.gain,
        "audit: t, first order": estimate.t,
        "audit: gain as in the table": gain,
        "audit: size of the weight": np.abs(weights).mean(0),
        "audit: sign agrees in all folds": np.abs(np.sign(weights).mean(0)),
    }
    return evidence, (np.sign(weights) * carried).mean(0), found


def measure(name: str, seed: int, samples: int, noise: float, ablation: bool) -> Iterator[dict[str, object]]:
    """A row for each kind of evidence."""
    made = problem(name, seed, samples, noise)
    graph = made.data.graph
    kind = kinds_of(graph)
    start = time.perf_counter()
    found, moved, outcome = audit_evidence(made.data, seed)
    seconds = time.perf_counter() - start
    scores = found | gsnn_evidence(made.data, seed, ablation) | structure(graph, np.random.default_rng(seed))
    rank = [rankdata(scores[n]) for n in ("audit: carried", "GSNN: carried, first order")]
    scores["audit and GSNN: mean rank of carried"] = np.add(*rank)
    common = {"problem": name, "seed": seed, "samples": samples, "noise": noise, "edges": graph.E}
    hidden = np.array([bool(r) for r in reasons_not_to_judge(graph, made.data.x, made.data.y, STEPS)])
    inner = kind == 0
    for evidence, score in scores.items():
        row: dict[str, object] = {**common, "evidence": evidence, "seconds": round(seconds)}
        row["auc"] = auc(score, made.true)
        row["auc_judged"] = auc(score[~hidden], made.true[~hidden])
        for number, label in enumerate(("function", "input", "output")):
            row[f"auc_{label}"] = auc(score[kind == number], made.true[kind == number])
        for label, least in (("matters", MATTERS), ("matters_little", MATTERS / 10)):
            rows = inner & (~made.true | (made.effect > least))
            row[f"auc_{label}"] = auc(score[rows], made.true[rows])
        yield row
    sign = np.concatenate([graph.edge_sign_dict[kind].numpy() for kind in EDGE_TYPES])
    rows = inner & made.true & (made.effect > MATTERS)
    verdict = outcome.table()["verdict"].to_numpy()
    yield {
        **common,
        "evidence": "sign",
        "seconds": round(seconds),
        "auc_matters": auc((-sign * moved)[rows], made.turned[rows]),
        "right": float((np.sign(sign * moved)[rows] == np.where(made.turned[rows], -1, 1)).mean()),
        "contradicted": float((verdict[rows & made.turned] == "contradicts the sign").mean()),
        "falsely": float((verdict[rows & ~made.turned] == "contradicts the sign").mean()),
        "r2": outcome.facts["r2"],
        "agreement": outcome.agreement.get("same", np.nan),
    }
    for label, some in (("true", made.true), ("planted", ~made.true), ("matters", rows)):
        shares = {v: float((verdict[some] == v).mean()) for v in dict.fromkeys(verdict)}
        yield {**common, "evidence": f"verdicts of {label}", "seconds": round(seconds), **shares}


def whole_network(folder: Path) -> None:
    """Time an audit of the l1000 network with simulated responses; what was done before stays done."""
    found = topology("l1000")
    rng = np.random.default_rng(1)
    made = Teacher(found, rng)
    x = draw_inputs(1000, len(found.inputs), rng)
    y = 1.2 * made.settle(x, 100)[made.read].T
    y += 0.3 * y.std(0) * rng.standard_normal(y.shape)
    graph = build_graph(found.inputs, found.functions, found.graph.edges, found.readouts)
    data = PerturbationData(graph, pd.DataFrame(x, columns=graph.inputs), pd.DataFrame(y, columns=graph.outputs))
    wall, processor = time.perf_counter(), time.process_time()
    outcome = audit(data, TrainConfig(epochs=15, batch_size=32), folder=folder, resume=True, progress=True)
    print(graph, f"{time.perf_counter() - wall:.0f} s, of one core {time.process_time() - processor:.0f} s")
    print(outcome.summary().to_string(), *outcome.notes, sep="\n")


def main() -> None:
    """Measure what is not in the file yet, or print the table."""
    parser = arguments(__doc__, OUT, file="--out")
    parser.add_argument("--only", nargs="+", help="Names of problems.")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--l1000", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    if given.l1000:
        whole_network(given.l1000)
        return
    if given.table:
        show(read(given.out))
        return

    def rows(*key: Any) -> list[dict[Hashable, Any]]:
        return pd.DataFrame(list(measure(*key, given.ablation))).round(4).to_dict("records")

    wanted = (key for key in PROBLEMS if not given.only or key[0] in given.only)
    work(given.out, KEY, ((key, partial(rows, *key)) for key in wanted))


_ROWS = ("audit: carried", "audit: gain as in the table", "GSNN: carried, first order", "degree product")
_ROWS += ("common neighbours", "random")


def show(done: pd.DataFrame) -> None:
    """Two tables in Markdown: how edges are ranked, and what is said of signs and edges; a row for each problem."""
    print("| problem | evidence | all | function | input | output | effect > 1e-3 | > 1e-4 |")
    print("|---|---|---|---|---|---|---|---|")
    names = ("auc", "auc_function", "auc_input", "auc_output", "auc_matters", "auc_matters_little")
    for key, part in done.groupby(KEY, sort=False):
        for evidence in _ROWS:
            row = part[part["evidence"] == evidence].iloc[0]
            title = "{} #{}, {}, noise {}".format(*key) if evidence == _ROWS[0] else ""
            print(f"| {title} | {evidence} | " + " | ".join(_figure(row[name]) for name in names) + " |")
    head = ("problem", "sign: AUC", "right", "contradicted: turned", "true", "true: s / n / c / j", "planted", "r2")
    print("\n| " + " | ".join(head) + " |")
    print("|---|---|---|---|---|---|---|---|")
    shares = ("supported", "not needed", "contradicts the sign", "cannot be judged")
    for key, part in done.groupby(KEY, sort=False):
        by = part.set_index("evidence")
        cells = [_figure(by.loc["sign", name]) for name in ("auc_matters", "right", "contradicted", "falsely")]
        for label in ("true", "planted"):
            found = by.loc[f"verdicts of {label}"]
            cells.append(" / ".join(_figure(found.get(name, 0.0)) for name in shares))
        print("| {} #{}, {}, noise {} | ".format(*key) + " | ".join([*cells, _figure(by.loc["sign", "r2"])]) + " |")


def _figure(value: float) -> str:
    return "0" if value != value else f"{value:.2f}".removeprefix("0")


if __name__ == "__main__":
    main()
