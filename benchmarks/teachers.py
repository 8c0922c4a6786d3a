"""Problems whose truth is known and whose topology is real: saturating teachers on published networks.

A teacher runs h <- f(W h + b + 3 x) to its steady state on a published signalling network with random signed weights;
its readouts, standardised, are the responses. f is leaky below 0, the identity up to 1/2, and saturates above. Then a
tenth of the function-function edges is hidden, drawn from those whose removal changes the responses.

Half of a hard teacher's function-function weights are negative, of the others a quarter. Then fewer edges matter and a
larger share of them is hidden, so that more of the fit is lost.

Seeds: everything that was tuned was tuned on ``TUNING`` and ``HARD_TUNING`` alone; the tables report ``REPORT`` and
``HARD_REPORT``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse import linalg

from gsnn.data import Standardiser
from gsnn.graph import Graph

Edge = tuple[str, str]

# Committed before any method was tuned: (topology, seed). A seed fixes the weights, the samples and the hidden edges.
# Only lembas:InnateDB and l1000:SPIKE were ever tuned on.
TUNING: tuple[tuple[str, int], ...] = (("lembas:InnateDB", 11), ("l1000:SPIKE", 12), ("lembas:InnateDB", 13))
REPORT: tuple[tuple[str, int], ...] = (
    ("l1000:BioGRID", 101),
    ("lembas:PhosphoPoint", 102),
    ("l1000:SignaLink3", 103),
    ("lembas:KEGG", 104),
    ("l1000:BioGRID", 105),
)
# Hard teachers; how hard was decided on the tuning problems.
HARD_TUNING: tuple[tuple[str, int], ...] = (("l1000:SPIKE", 12), ("lembas:InnateDB", 11))
HARD_REPORT: tuple[tuple[str, int], ...] = (
    ("l1000:BioGRID", 201),
    ("l1000:PhosphoSite_ProtMapper", 202),
    ("lembas:PhosphoPoint", 203),
)
# Other sizes, for the table by size.
SIZES: tuple[tuple[str, int], ...] = (
    ("extliver", 111),
    ("extliver", 112),
    ("lembas:BioGRID", 113),
    ("lembas:SPIKE", 114),
    ("l1000:HPRD", 115),
)

ACTIVE = 5  # ligands that are not 0 in a sample
STEPS = 200
MATTERS = 1e-3  # relative mean squared change of the responses
RADIUS = 0.9  # of the weights; above 1 a teacher need not settle
POSITIVE, HARD_POSITIVE = 0.75, 0.5  # share of positive weights among function-function edges


@dataclass(frozen=True)
class Problem:
    """What a method is given, and what was hidden from it.

    Attributes:
        name: Family and seed.
        full: The true graph.
        graph: The graph without the hidden edges.
        hidden: Hidden edges that a method could find: source reachable, target observable in ``graph``.
        lost: The other hidden edges; neither positives nor negatives.
        x_train: (M, I).
        y_train: (M, O), standardised.
        x_test: (M', I).
        y_test: (M', O).
        training: What :func:`recovery_methods.train` is to use where it differs from its defaults.
    """

    name: str
    full: Graph
    graph: Graph
    hidden: list[Edge]
    lost: list[Edge]
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    training: dict[str, object] = field(default_factory=dict)


def saturating(x: np.ndarray) -> np.ndarray:
    """0.01 x below 0, x up to 1/2, 1 - 1/(4 x) above; continuous with its slope at 1/2."""
    return np.where(x < 0, 0.01 * x, np.where(x <= 0.5, x, 1 - 0.25 / np.maximum(x, 0.5)))


@dataclass(frozen=True)
class Topology:
    """A network of inputs, functions and read functions, every function on a path from an input to a readout.

    Edges have the number of their ``references`` where the data set gives it.
    """

    graph: nx.DiGraph
    inputs: list[str]
    readouts: list[str]

    @property
    def functions(self) -> list[str]:
        """Names, sorted."""
        return sorted(set(self.graph) - set(self.inputs))


def data_folder() -> Path:
    """Where the published networks are: $GSNN_DATA, by default beside the repository."""
    return Path(os.environ.get("GSNN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def topology(name: str) -> Topology:
    """A published signalling network, or the part of it that one of its data bases cites.

    Args:
        name: ``extliver``, ``lembas``, ``l1000``, or one of the latter two with the data base that must cite an edge,
            such as ``lembas:KEGG``.

    Returns:
        The topology: nodes without parents are its inputs, transcription factors (measured species) are read.

    Raises:
        FileNotFoundError: If the data set is not there.
        ValueError: If the name is unknown or nothing is left.
    """
    kind, _, cited = name.partition(":")
    if kind == "extliver":
        from gsnn.datasets import load_extliver

        prior = load_extliver().graph
        full = nx.DiGraph(prior.function_edges)
        readouts = {prior.functions[i] for i in prior.edge_index_dict["function", "to", "output"][0].tolist()}
    elif kind in ("lembas", "l1000"):
        folder, stem = {
            "lembas": ("lembas_ligandscreen", "ligandScreen"),
            "l1000": ("l1000_drug_pkn", "l1000_lvl3_withsignor"),
        }[kind]
        edges = pd.read_csv(data_folder() / folder / f"{stem}-Model.tsv", sep="\t", dtype=str)
        nodes = pd.read_csv(data_folder() / folder / f"{stem}-Annotation.tsv", sep="\t", dtype=str)
        if cited:
            edges = edges[edges["sources"].fillna("").str.split(";").map(lambda bases: cited in bases)]
        cited_by = edges["references"].fillna("").str.split(";").map(len)
        full = nx.DiGraph()
        full.add_weighted_edges_from(zip(edges["source"], edges["target"], cited_by, strict=True), weight="references")
        readouts = set(nodes.loc[nodes["TF"] == "True", "code"])
    else:
        raise ValueError(f"unknown topology {name!r}")
    full.remove_edges_from(list(nx.selfloop_edges(full)))
    found = _on_paths(full, readouts)
    if not found.functions:
        raise ValueError(f"no function is left of topology {name!r}")
    return found


def _on_paths(graph: nx.DiGraph, readouts: Iterable[str]) -> Topology:
    """The part between nodes without parents and readouts."""
    inputs = {node for node in graph if graph.in_degree(node) == 0 and graph.out_degree(node) > 0}
    read = {node for node in readouts if node in graph} - inputs
    # Multi-source reachability: a virtual root and a virtual end.
    down = _reached(graph, inputs)
    up = _reached(graph.reverse(copy=False), read)
    kept = graph.subgraph(down & up).copy()
    kept.remove_nodes_from([node for node in inputs & set(kept) if kept.out_degree(node) == 0])
    return Topology(kept, sorted(inputs & set(kept)), sorted(read & set(kept)))


def _reached(graph: nx.DiGraph, starts: set[str]) -> set[str]:
    found, front = set(starts), list(starts)
    while front:
        front = [child for node in front for child in graph.successors(node) if child not in found]
        found.update(front)
    return found


class Teacher:
    """Seeded weights on a topology, and the responses they give; ``positive`` is a share of function-function edges."""

    def __init__(self, topology: Topology, seed: int | np.random.Generator, positive: float = POSITIVE) -> None:
        self.topology = topology
        rng = np.random.default_rng(seed)
        self.functions, self.inputs = topology.functions, topology.inputs
        place = {name: i for i, name in enumerate(self.functions)}
        self.edges = sorted(e for e in topology.graph.edges if e[0] in place)
        source = np.array([place[s] for s, _ in self.edges])
        target = np.array([place[t] for _, t in self.edges])
        n = len(self.functions)
        into = np.bincount(target, minlength=n)
        weight = rng.uniform(0.5, 1.5, len(self.edges)) / np.sqrt(into[target])
        weight *= np.where(rng.random(len(self.edges)) < positive, 1.0, -1.0)
        self.W = sparse.csr_matrix((weight, (target, source)), shape=(n, n))
        radius = float(np.abs(linalg.eigs(self.W, k=1, v0=np.ones(n), return_eigenvectors=False, tol=1e-3)[0]))
        self.W *= min(1.0, RADIUS / radius) if radius > 0 else 1.0
        self.bias = rng.uniform(-0.05, 0.2, n)
        fed = sorted((a, b) for a, b in topology.graph.edges if b in place and a not in place)
        which = {name: i for i, name in enumerate(self.inputs)}
        strength = rng.uniform(0.5, 1.5, len(fed)) * np.where(rng.random(len(fed)) < 0.75, 1.0, -1.0)
        rows, columns = [place[b] for _, b in fed], [which[a] for a, _ in fed]
        self.V = sparse.csr_matrix((strength, (rows, columns)), shape=(n, len(self.inputs)))
        self.source, self.target = source, target
        self.read = np.array([place[name] for name in topology.readouts])

    def settle(self, x: np.ndarray, steps: int = STEPS, dead: np.ndarray | None = None) -> np.ndarray:
        """State (N, M) of all functions for inputs (M, I); those that are dead, (M, N), stay at 0."""
        drive = self.bias[:, None] + 3 * (self.V @ x.T)
        alive = 1.0 if dead is None else ~dead.T
        state = np.zeros_like(drive)
        for _ in range(steps):
            state = saturating(self.W @ state + drive) * alive
        return state

    def effects(self, x: np.ndarray, steps: int = 30) -> np.ndarray:
        """Relative mean squared change of the readouts when an edge is removed, for every edge."""
        drive = self.bias[:, None] + 3 * (self.V @ x.T)
        settled = self.settle(x)
        m = x.shape[0]
        spread = ((settled[self.read] - settled[self.read].mean(1, keepdims=True)) ** 2).mean()
        weight = np.asarray(self.W[self.target, self.source]).ravel()
        found = np.empty(len(self.edges))
        for start in range(0, len(self.edges), 100):
            these = np.arange(start, min(start + 100, len(self.edges)))
            state = np.tile(settled, len(these))
            drives = np.tile(drive, len(these))
            columns = np.arange(len(these) * m).reshape(len(these), m)
            rows, origin, w = self.target[these][:, None], self.source[these][:, None], weight[these][:, None]
            for _ in range(steps):
                total = self.W @ state + drives
                total[rows, columns] -= w * state[origin, columns]
                state = saturating(total)
            moved = state[self.read].reshape(len(self.read), len(these), m) - settled[self.read][:, None]
            found[these] = (moved**2).mean((0, 2)) / spread
        return found


def draw_inputs(n_samples: int, n_inputs: int, rng: np.random.Generator, active: int = ACTIVE) -> np.ndarray:
    """(M, I): ``active`` random ligands a sample, U(0, 1)."""
    x = np.zeros((n_samples, n_inputs))
    picked = rng.random((n_samples, n_inputs)).argsort(1)[:, :active]
    np.put_along_axis(x, picked, rng.random(picked.shape), 1)
    return x


def build_graph(inputs: Sequence[str], functions: Sequence[str], edges: Iterable[Edge], read: Sequence[str]) -> Graph:
    """A graph with an output for each read function."""
    every = [*edges, *((name, f"{name}.out") for name in read)]
    return Graph.from_edges(
        every, input_nodes=list(inputs), function_nodes=list(functions), output_nodes=[f"{name}.out" for name in read]
    )


def finish(
    name: str,
    full: Graph,
    eligible: Sequence[Edge],
    n_hidden: int,
    samples: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    rng: np.random.Generator,
    training: dict[str, object] | None = None,
) -> Problem:
    """Hide some of the eligible edges, tell which could be found, standardise."""
    from gsnn.discovery.hiding import live_nodes

    drawn = rng.permutation(len(eligible))[:n_hidden]
    hidden = [eligible[i] for i in sorted(drawn)]
    graph = full.without_edges(hidden)
    above, below = live_nodes(graph)
    place = {node: i for i, node in enumerate(graph.functions)}
    can = [edge for edge in hidden if above[place[edge[0]]] and below[place[edge[1]]]]
    x_train, x_test, y_train, y_test = samples
    standardiser = Standardiser.fit(y_train)
    return Problem(
        name=name,
        full=full,
        graph=graph,
        hidden=can,
        lost=[edge for edge in hidden if edge not in set(can)],
        x_train=np.asarray(x_train, np.float32),
        y_train=np.asarray(standardiser.transform(y_train), np.float32),
        x_test=np.asarray(x_test, np.float32),
        y_test=np.asarray(standardiser.transform(y_test), np.float32),
        training=training or {},
    )


def realistic(
    name: str,
    seed: int,
    *,
    n_train: int = 4000,
    n_test: int = 500,
    fraction: float = 0.1,
    noise: float = 0.0,
    positive: float = POSITIVE,
    read: float | None = None,
    knocked: float = 0.0,
    by_evidence: bool = False,
) -> Problem:
    """A teacher on a published topology with a share of its edges hidden; hard with ``positive=HARD_POSITIVE``.

    With ``read`` that share of all functions is read in place of the transcription factors. In a share ``knocked`` of
    the samples two functions are held at 0; the model gets an input to every function, 1 where it is held. With
    ``by_evidence`` the edges with the fewest references are hidden, in random order where they have as many.
    """
    found = topology(name)
    rng = np.random.default_rng(seed)
    teacher = Teacher(found, rng, positive)
    x = draw_inputs(n_train + n_test, len(found.inputs), rng, min(ACTIVE, len(found.inputs)))
    if read is not None:
        names = found.functions
        chosen = np.random.default_rng((seed, 1)).permutation(len(names))[: round(read * len(names))]
        found = replace(found, readouts=[names[k] for k in np.sort(chosen)])
        teacher.read = np.sort(chosen)
    dead = None
    if knocked:
        others = np.random.default_rng((seed, 2))
        dead = np.zeros((len(x), len(found.functions)), dtype=bool)
        for row in np.flatnonzero(others.random(len(x)) < knocked):
            dead[row, others.choice(len(found.functions), 2, replace=False)] = True
    y = 1.2 * teacher.settle(x, dead=dead)[teacher.read].T
    y += noise * y.std(0) * rng.standard_normal(y.shape)
    effect = teacher.effects(x[: min(100, n_train)])
    eligible = [edge for edge, value in zip(teacher.edges, effect, strict=True) if value > MATTERS]
    inputs, edges = list(found.inputs), list(found.graph.edges)
    if dead is not None:
        inputs += [f"ko.{name}" for name in found.functions]
        edges += [(f"ko.{name}", name) for name in found.functions]
        x = np.concatenate([x, dead], axis=1)
    if by_evidence:
        cited = np.array([found.graph.edges[edge].get("references", 1) for edge in eligible])
        order = np.lexsort((np.random.default_rng((seed, 3)).random(len(cited)), cited))
        eligible = [eligible[k] for k in order[: int(fraction * len(teacher.edges))]]
    full = build_graph(inputs, found.functions, edges, found.readouts)
    return finish(
        f"{name} #{seed}" if positive == POSITIVE else f"hard {name} #{seed}",
        full,
        eligible,
        int(fraction * len(teacher.edges)),
        (x[:n_train], x[n_train:], y[:n_train], y[n_train:]),
        rng,
    )
