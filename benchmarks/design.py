"""Whether designed experiments find hidden edges sooner than random ones.

Teachers of 100 to 300 functions (``benchmarks/teachers.py``), a tenth of whose edges is hidden. All arms start from the
same 100 samples of random ligands with noise .3; a GSNN is trained on them and its candidates are ranked. Then 8
experiments, each a single or paired treatment, are added with 10 noisy replicates each:

- ``design``: chosen by ``gsnn.ask.design`` (8 alias groups);
- ``random``: drawn from the same experiments;
- ``variance``: those whose predictions differ most between refits;
- ``nothing``: no experiment at all, only another seed. The rival of a hidden edge is the one that was luckiest at the
  start, so that a training anew puts more hidden edges above it whatever was done: this arm says how many.

A model is trained from scratch on all 180 samples, with one seed for all arms. ``mrr`` is the mean reciprocal rank of
the hidden edges among all candidates, ``separated`` the share of hidden edges that rank above their rival: of the false
candidates into the same target the one that was best at the start. ``start`` is before any experiment. ``true`` is how
many of the 8 leading groups at the start hold a hidden edge.

    python benchmarks/design.py --out design.csv       # what stands there is not done again
    python benchmarks/design.py --out design.csv --table
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from cells import arguments, work
from gsnn.ask import Design, design
from gsnn.ask.experiments import HYPOTHESES, Experiment, possible_experiments
from gsnn.ask.hypotheses import leading_hypotheses
from gsnn.data import PerturbationData, Split, Standardiser
from gsnn.discovery.retrain import resolve_scorers, train_on
from gsnn.edges import alias_groups
from gsnn.nn import GSNN
from gsnn.training import TrainConfig
from teachers import ACTIVE, MATTERS, Edge, Teacher, build_graph, draw_inputs, finish, topology

TOPOLOGIES = ("lembas:PhosphoSite", "lembas:SPIKE", "lembas:SignaLink3", "l1000:SPIKE")
SEEDS = range(301, 306)
START, EXPERIMENTS, REPLICATES, NOISE, HIDDEN = 100, 8, 10, 0.3, 0.1
ARMS = ("start", "design", "random", "variance", "nothing")
PAIRS = (
    ("design", "random"),
    ("design", "variance"),
    ("design", "nothing"),
    ("random", "nothing"),
    ("nothing", "start"),
)
METHOD = "gradient-explained"
CONFIG = {"epochs": 40, "layers": 6, "channels": 6}


class World:
    """A teacher, its network with edges hidden, and a way to do experiments."""

    def __init__(self, name: str, seed: int) -> None:
        found = topology(name)
        self.rng = np.random.default_rng(seed)
        self.teacher = Teacher(found, self.rng)
        x = draw_inputs(START, len(found.inputs), self.rng, min(ACTIVE, len(found.inputs)))
        clean = self.clean(x)
        self.noise = NOISE * clean.std(0)
        self.x, self.y = x, clean + self.noise * self.rng.standard_normal(clean.shape)
        effect = self.teacher.effects(x)
        eligible = [edge for edge, value in zip(self.teacher.edges, effect, strict=True) if value > MATTERS]
        full = build_graph(found.inputs, found.functions, found.graph.edges, found.readouts)
        n = int(HIDDEN * len(self.teacher.edges))
        problem = finish(name, full, eligible, n, (self.x, self.x, self.y, self.y), self.rng)
        self.graph, self.hidden = problem.graph, problem.hidden

    def clean(self, x: np.ndarray) -> np.ndarray:
        """Responses without noise."""
        return 1.2 * self.teacher.settle(np.asarray(x, float))[self.teacher.read].T

    def data(self, more: np.ndarray | None = None, seed: int = 0) -> PerturbationData:
        """The first samples, and replicates of some treatments."""
        x, y = self.x, self.y
        if more is not None:
            again = np.repeat(more, REPLICATES, axis=0)
            clean = self.clean(again)
            noisy = clean + self.noise * np.random.default_rng(seed).standard_normal(clean.shape)
            x, y = np.concatenate([x, again]), np.concatenate([y, noisy])
        return PerturbationData(
            self.graph, pd.DataFrame(x, columns=self.graph.inputs), pd.DataFrame(y, columns=self.graph.outputs)
        )


def ranked(data: PerturbationData, seed: int) -> tuple[GSNN, Standardiser, pd.DataFrame]:
    """A model of all samples, and its candidates, the best first."""
    nothing = np.array([], dtype=np.int64)
    done = train_on(
        data, data.graph, TrainConfig(seed=seed, **CONFIG), split=Split(np.arange(len(data)), nothing, nothing, "")
    )
    graph = data.graph
    scores = np.asarray(resolve_scorers(METHOD)[METHOD](done.read, graph, done.batches), float)
    known = set(graph.function_edges)
    names = graph.functions
    groups = alias_groups(graph).matrix()
    rows = [
        (names[i], names[j], scores[i, j], int(groups[i, j]))
        for i, j in np.argwhere(np.isfinite(scores)).tolist()
        if i != j and (names[i], names[j]) not in known
    ]
    table = pd.DataFrame(rows, columns=["source", "target", "score", "alias_group"])
    table = table.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    return done.read, Standardiser.fit(data.y), table


def rivals(table: pd.DataFrame, hidden: list[Edge]) -> dict[Edge, Edge]:
    """Of each hidden edge the best false candidate into its target."""
    true = set(hidden)
    best: dict[str, Edge] = {}
    for source, target in zip(table["source"], table["target"], strict=True):
        if (source, target) not in true:
            best.setdefault(target, (source, target))
    return {edge: best[edge[1]] for edge in hidden if edge[1] in best}


def figures(table: pd.DataFrame, hidden: list[Edge], rival: dict[Edge, Edge]) -> tuple[float, float]:
    """Mean reciprocal rank of the hidden edges, and the share that ranks above its rival."""
    rank = {edge: i + 1 for i, edge in enumerate(zip(table["source"], table["target"], strict=True))}
    last = len(rank) + 1
    mrr = float(np.mean([1 / rank.get(edge, last) for edge in hidden]))
    return mrr, float(np.mean([rank.get(edge, last) < rank[other] for edge, other in rival.items()]))


@dataclass(frozen=True, eq=False)
class Start:
    """A problem before any experiment, and the experiments that could be done."""

    world: World
    model: GSNN
    standardiser: Standardiser
    table: pd.DataFrame
    seconds: float
    asked: list[Experiment]


@lru_cache(maxsize=1)
def start(name: str, seed: int) -> Start:
    """The start of a problem, which all its arms share."""
    world = World(name, seed)
    begun = time.perf_counter()
    model, standardiser, table = ranked(world.data(), seed)
    asked = possible_experiments(world.data(), knockouts=False, readouts=False)
    return Start(world, model, standardiser, table, time.perf_counter() - begun, asked)


@lru_cache(maxsize=1)
def designed(name: str, seed: int) -> Design:
    """What ``gsnn design`` makes of a problem."""
    given = start(name, seed)
    return design(
        [given.model],
        given.world.data(),
        given.standardiser,
        TrainConfig(seed=seed, **CONFIG),
        given.table,
        experiments=given.asked,
        batch=EXPERIMENTS,
        replicates=REPLICATES,
        seed=seed,
    )


def chosen(name: str, seed: int, arm: str) -> list[int]:
    """The experiments of an arm."""
    if arm == "random":
        return np.random.default_rng((seed, 1)).permutation(len(start(name, seed).asked))[:EXPERIMENTS].tolist()
    found = designed(name, seed)
    if arm == "design":
        return found.batch
    spread = np.nansum((found.spread[0] / found.noise) ** 2, axis=1)
    return np.argsort(-spread, kind="stable")[:EXPERIMENTS].tolist()


def row(name: str, seed: int, arm: str) -> list[dict[str, object]]:
    """The row of an arm of a problem."""
    given = start(name, seed)
    hidden = given.world.hidden
    rival = rivals(given.table, hidden)
    leading = leading_hypotheses(given.table, k=HYPOTHESES)[1:]
    begun = time.perf_counter()
    after = given.table
    if arm == "nothing":
        after = ranked(given.world.data(), seed + 1)[2]
    elif arm != "start":
        more = np.array([given.asked[i].treatments for i in chosen(name, seed, arm)])
        after = ranked(given.world.data(more, seed), seed)[2]
    seconds = given.seconds if arm == "start" else time.perf_counter() - begun
    mrr, separated = (round(value, 5) for value in figures(after, hidden, rival))
    true = sum(not set(hidden).isdisjoint(one.members) for one in leading)
    told = {"mrr": mrr, "separated": separated, "true": true, "seconds": round(seconds)}
    return [{"problem": name, "seed": seed, "arm": arm, **told}]


def show(path: Path) -> None:
    """Paired differences with their intervals."""
    table = pd.read_csv(path)
    for measure in ("mrr", "separated"):
        wide = table.pivot_table(index=["problem", "seed"], columns="arm", values=measure)
        print(f"{measure}: {len(wide)} problems, means " + ", ".join(f"{a} {wide[a].mean():.3f}" for a in wide))
        for one, other in PAIRS:
            d = (wide[one] - wide[other]).dropna()
            half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5
            ends = f"{d.mean() - half:+.4f} to {d.mean() + half:+.4f}"
            print(f"  {one} - {other}: {d.mean():+.4f} ({ends}), {len(d)} problems")
    true = table.dropna(subset="true").groupby(["problem", "seed"])["true"].first()
    print(f"true among {HYPOTHESES} hypotheses: mean {true.mean():.1f}, {true.min():.0f} to {true.max():.0f}")


def main() -> None:
    """Do what is not in the table yet."""
    given = arguments(__doc__, Path(__file__).with_name("design.csv"), file="--out").parse_args()
    if given.table:
        show(given.out)
        return
    keys = ((name, seed, arm) for seed in SEEDS for name in TOPOLOGIES for arm in ARMS)
    work(given.out, ["problem", "seed", "arm"], ((key, partial(row, *key)) for key in keys))


if __name__ == "__main__":
    main()
