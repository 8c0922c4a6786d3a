"""The problems that the scorer learns from: families of networks and dynamics, each problem fixed by family and number.

The published topologies are cut from data bases that neither ``REPORT`` nor ``HARD_REPORT`` of ``teachers.py`` uses,
whole or a neighbourhood of them. The other families are drawn at random. Sizes, samples, noise, readouts, knock-outs,
the share of hidden edges and the training differ from problem to problem; of one in ten the responses are permuted, so
that there is nothing to be learnt from them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace

import networkx as nx
import numpy as np

from gsnn.graph import Graph
from gsnn.simulation import convergence_graph, held_out_edges, simulate
from recovery_families import LOGICAL, finish, knockouts, logical, random_graph
from teachers import Edge, Problem, Teacher, Topology, build_graph, draw_inputs, topology
from teachers import _on_paths as on_paths

DATA_BASES = (
    "lembas:InnateDB", "lembas:SPIKE", "lembas:Lit-BM-17", "lembas:NetPath", "lembas:KEA", "lembas:MIMP",
    "lembas:iPTMnet", "lembas:ACSN", "lembas:Sparser_ProtMapper", "lembas:HPRD-phos", "lembas:phosphoELM",
    "lembas:IntAct", "lembas:HPRD", "lembas:REACH_ProtMapper", "lembas:Wang", "lembas:SIGNOR", "l1000:SPIKE",
    "l1000:InnateDB", "l1000:NetPath", "l1000:IntAct", "l1000:Lit-BM-17", "l1000:ACSN", "l1000:CancerCellMap",
    "l1000:DIP", "l1000:HPRD-phos", "l1000:iPTMnet", "l1000:SIGNOR", "l1000:Macrophage",
)  # fmt: skip
# How many problems of each family.
COUNTS = {
    "published": 260,
    "duplication": 70,
    "modular": 60,
    "layered": 45,
    "dag": 45,
    "scale-free": 45,
    "cyclic": 45,
    "nonlinear": 45,
    "knock-outs": 45,
    "logical": 40,
    "converging": 40,
}
PERMUTED = 0.1


def problem(family: str, number: int) -> tuple[Problem, dict[str, object]]:
    """A problem, and what is to be told of it.

    Args:
        family: A name of :data:`COUNTS`.
        number: Which of them; it is the seed.

    Raises:
        FileNotFoundError: If its data are not on this machine.
    """
    rng = np.random.default_rng((zlib.crc32(family.encode()), number))
    n_train = int(np.exp(rng.uniform(np.log(100), np.log(3000))))
    noise = float(rng.choice([0.0, 0.1, 0.3, 0.3, 0.5]))
    if family in ("published", "duplication", "modular"):
        made = _saturating(family, number, rng, n_train, noise)
    elif family in ("layered", "dag", "scale-free", "cyclic", "nonlinear"):
        n = int(rng.integers(25, 160))
        made = random_graph(
            family, 1000 + number, n=n, noise=0.05 + noise, fraction=float(rng.uniform(0.1, 0.25)), n_train=n_train
        )
    elif family == "knock-outs":
        n = int(rng.integers(40, 160))
        made = knockouts(
            1000 + number, n=n, n_edges=int(n * rng.uniform(1.3, 2.2)), noise=float(rng.uniform(0.05, 0.3))
        )
    elif family == "logical":
        made = logical(LOGICAL[number % len(LOGICAL)], 1000 + number, n_train=n_train, flips=0.02 + noise / 2)
    else:
        made = _converging(number, rng, n_train, noise)
    permuted = bool(rng.random() < PERMUTED)
    if permuted:
        made = replace(made, y_train=made.y_train[rng.permutation(len(made.y_train))])
    training = {
        "channels": int(rng.choice([3, 5, 8])),
        "layers": int(rng.choice([6, 8, 10])),
        "norm": str(rng.choice(["groupbatch", "groupbatch", "layer", "none"])),
        "dropout": float(rng.choice([0.0, 0.1, 0.1])),
        "lr": float(rng.choice([2e-3, 5e-3])),
        "batch_size": int(min(128, max(16, n_train // 4))),
        "one_cycle": True,
        "weight_decay": 1e-2,
    }
    steps = 250 if rng.random() < 0.5 else 450
    training["epochs"] = int(np.clip(steps * training["batch_size"] / len(made.x_train), 5, 80))
    facts = {"family": family, "number": number, "permuted": permuted, "samples": len(made.x_train), "noise": noise}
    return replace(made, training=training), facts


def _cut(name: str, size: int, rng: np.random.Generator) -> Topology:
    """The neighbourhood of a random node, of about so many nodes, and who is read in the whole network."""
    full = topology(name)
    if len(full.functions) <= size:
        return full
    either = full.graph.to_undirected(as_view=True)
    for _ in range(20):
        start = full.functions[int(rng.integers(len(full.functions)))]
        seen = [node for node, _ in zip(_spread(either, start, rng), range(size), strict=False)]
        part = full.graph.subgraph(seen)
        ends = [node for node in part if part.out_degree(node) == 0]
        found = on_paths(nx.DiGraph(part), {*full.readouts, *ends})
        if len(found.functions) >= 20:
            return found
    raise FileNotFoundError(f"no neighbourhood of {size} nodes of {name} leads from inputs to readouts")


def _spread(graph: nx.Graph, start: str, rng: np.random.Generator) -> Iterator[str]:
    """Nodes as a random search comes upon them."""
    seen, front = {start}, [start]
    while front:
        node = front.pop(int(rng.integers(len(front))))
        yield node
        fresh = sorted(set(graph[node]) - seen)
        seen.update(fresh)
        front += fresh


def _grown(family: str, n: int, rng: np.random.Generator) -> Topology:
    """A network that grew by duplication of its nodes, or of modules with few edges between them."""
    graph = nx.DiGraph()
    if family == "duplication":
        graph.add_edges_from([(0, 1), (1, 2), (2, 0), (1, 3)])
        while len(graph) < n:
            old, new = int(rng.integers(len(graph))), len(graph)
            graph.add_node(new)
            keep = rng.uniform(0.35, 0.6)
            graph.add_edges_from((new, child) for child in list(graph.successors(old)) if rng.random() < keep)
            graph.add_edges_from((parent, new) for parent in list(graph.predecessors(old)) if rng.random() < keep)
            if rng.random() < 0.5 or graph.degree(new) == 0:
                graph.add_edge(*((old, new) if rng.random() < 0.5 else (new, old)))
    else:
        group = rng.integers(0, max(3, n // 20), n)
        share = rng.pareto(1.5, n) + 0.3
        while graph.size() < 2.2 * n:
            a = int(rng.choice(n, p=share / share.sum()))
            alike = np.flatnonzero((group == group[a]) if rng.random() < 0.85 else (group != group[a]))
            b = int(rng.choice(alike))
            if a != b:
                graph.add_edge(a, b)
    fed = rng.permutation(n)[: max(3, n // 6)]
    graph = nx.relabel_nodes(graph, {k: f"f{k}" for k in graph})
    graph.add_edges_from((f"in{k}", f"f{k}") for k in fed)
    read = [f"f{k}" for k in rng.permutation(n)[: n // 4]]
    return on_paths(graph, read)


def _saturating(family: str, number: int, rng: np.random.Generator, n_train: int, noise: float) -> Problem:
    """As :func:`teachers.realistic`, on another topology."""
    size = int(np.exp(rng.uniform(np.log(40), np.log(420))))
    if family == "published":
        found = _cut(DATA_BASES[number % len(DATA_BASES)], size, rng)
    else:
        found = _grown(family, min(size, 250), rng)
    teacher = Teacher(found, rng, positive=float(rng.choice([0.5, 0.75, 0.75])))
    functions = found.functions
    x = draw_inputs(n_train + 100, len(found.inputs), rng, min(5, len(found.inputs)))
    readouts = found.readouts
    if rng.random() < 0.4:
        chosen = np.sort(rng.permutation(len(functions))[: max(2, round(rng.uniform(0.2, 1.0) * len(functions)))])
        readouts, teacher.read = [functions[k] for k in chosen], chosen
    dead = None
    if rng.random() < 0.25:
        dead = np.zeros((len(x), len(functions)), dtype=bool)
        for row in np.flatnonzero(rng.random(len(x)) < rng.choice([0.2, 0.5, 0.9])):
            dead[row, rng.choice(len(functions), 2, replace=False)] = True
    y = 1.2 * teacher.settle(x, dead=dead)[teacher.read].T
    y += noise * y.std(0) * rng.standard_normal(y.shape)
    effect = teacher.effects(x[:60], steps=20)
    fraction = float(rng.uniform(0.06, 0.2))
    eligible = [edge for edge, value in zip(teacher.edges, effect, strict=True) if value > 1e-3]
    cited = np.array([found.graph.edges[edge].get("references", 1) for edge in eligible])
    if family == "published" and rng.random() < 0.3:  # hidden by evidence
        order = np.lexsort((rng.random(len(cited)), cited))
        eligible = [eligible[k] for k in order[: max(2, int(fraction * len(teacher.edges)))]]
    inputs, edges = list(found.inputs), sorted(found.graph.edges)  # subgraphs follow the order of a set
    if dead is not None:
        inputs += [f"ko.{name}" for name in functions]
        edges += [(f"ko.{name}", name) for name in functions]
        x = np.concatenate([x, dead], axis=1)
    full = build_graph(inputs, functions, edges, readouts)
    samples = (x[:n_train], x[n_train:], y[:n_train], y[n_train:])
    return finish(f"{family} #{number}", full, eligible, max(2, int(fraction * len(teacher.edges))), samples, rng)


def _converging(number: int, rng: np.random.Generator, n_train: int, noise: float) -> Problem:
    """The converging benchmark with another number of tiers, none of those of the settings."""
    n = int(rng.choice([8, 10, 14, 16, 18, 20, 22, 28]))
    full, inputs, functions, outputs, _ = convergence_graph(n)
    x, x_test, y, y_test = simulate(full, n_train, 100, inputs, outputs, noise_scale=0.05 + noise, seed=1000 + number)
    held: list[Edge] = list(held_out_edges(n))
    whole = Graph.from_edges(list(full.edges), input_nodes=inputs, function_nodes=functions, output_nodes=outputs)
    return finish(f"converging #{number}", whole, held, len(held), (x, x_test, y, y_test), rng)
