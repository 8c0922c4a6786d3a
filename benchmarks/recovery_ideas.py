"""Ideas for a better single score than ``explained``, each against the same table, each one function.

    python benchmarks/recovery_ideas.py                             # every idea on the five problems; 15 minutes
    python benchmarks/recovery_ideas.py --problems A B --ideas whitened "children's credit out"

Everything reads the post-nonlinearity activations of block n - 1 and the gradients of block n of trained models, as the
gradient inferer keeps them. The teachers are of the list TUNING: this is a search, not a report.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import lars_path_gram
from torch import Tensor

from gsnn.edges import GradientEdgeInferer
from gsnn.edges.gradient.blocks import Components, leading, pair_norms, principal_components
from gsnn.edges.gradient.inferer import EXPLAINING_FLOOR, N_EXPLAINING
from gsnn.edges.gradient.regressed import Regressors
from gsnn.graph import Graph
from gsnn.nn import GSNN
from recovery_families import knockouts, setting
from recovery_methods import Settings, batches, error, measure, settings_of, train
from teachers import TUNING, Problem, realistic

FloatArray = np.ndarray
Values = tuple[Tensor, Tensor]  # (rows, M), and the node of each row
WORKING_BYTES = 2**28
N_BATCHES = 8  # of 256 samples
RIDGE = 1e-3
TINY = 1e-12


@dataclass(frozen=True)
class Reading:
    """What a score may look at: P activations and gradients (channels, M) of one trained model.

    Attributes:
        activations: After the nonlinearity, blocks 0 .. P - 1.
        gradients: Blocks 1 .. P.
        channel_node: (channels,) node of each row.
        n_nodes: N.
        known: (2, E) function-function edges of the graph.
    """

    activations: list[Tensor]
    gradients: list[Tensor]
    channel_node: Tensor
    n_nodes: int
    known: np.ndarray

    @property
    def n_pairs(self) -> int:
        """P."""
        return len(self.gradients)

    @cached_property
    def sources(self) -> list[Tensor]:
        """(N, K, M) for every pair: the whitened leading components of every activation, 0 where there are fewer."""
        return [dense(_leading(z, self.channel_node, self.n_nodes)) for z in self.activations]

    @cached_property
    def targets(self) -> list[Tensor]:
        """(N, K, M) for every pair: the leading components of every gradient, with a sum of squares of at most 1."""
        return [
            dense(principal_components(g, self.channel_node, self.n_nodes))[:, :N_EXPLAINING] for g in self.gradients
        ]

    @cached_property
    def share(self) -> FloatArray:
        """(P, N): what each pair has of the sum of squares of a target's gradients that its known parents leave."""
        scales = [principal_components(g, self.channel_node, self.n_nodes).scale.numpy() ** 2 for g in self.gradients]
        left = np.stack([s * r.square().sum((1, 2)).numpy() for s, r in zip(scales, self.residuals, strict=True)])
        return left / np.maximum(left.sum(0), TINY)

    @cached_property
    def residuals(self) -> list[Tensor]:
        """The targets less what the activations of their known parents and of their own explain."""
        given = Regressors.of(self.known, self.n_nodes)
        return [taken_out(t, s, given) for t, s in zip(self.targets, self.sources, strict=True)]


def read(inferer: GradientEdgeInferer) -> Reading:
    """What a fitted inferer has kept."""
    pairs = range(inferer.n_pairs)
    return Reading(
        [inferer._post_activations(p) for p in pairs],
        [inferer._gradients(p) for p in pairs],
        inferer._channel_node,
        inferer.N,
        inferer.prior.pairs,
    )


def _leading(values: Tensor, owner: Tensor, n_nodes: int, n_slots: int = N_EXPLAINING) -> Components:
    return leading(principal_components(values, owner, n_nodes), n_slots, EXPLAINING_FLOOR)


def dense(components: Components) -> Tensor:
    """Components as (N, K, M), padded with zeros."""
    n = len(components.rank)
    rows, owner = components.rows_of(np.arange(n))
    slot = np.arange(len(rows)) - np.searchsorted(owner, owner, side="left")
    out = components.values.new_zeros(n, max(1, int(components.rank.max(initial=0))), components.values.shape[1])
    out[torch.from_numpy(owner), torch.from_numpy(slot)] = components.values[torch.from_numpy(rows)]
    return out


def taken_out(values: Tensor, basis: Tensor, given: Regressors) -> Tensor:
    """Residuals of (N, R, M) values of every node after a ridge regression on the basis (N, K, M) of given nodes."""
    out = torch.empty_like(values)
    k = basis.shape[1]
    for node in range(len(values)):
        these = given.nodes[given.indptr[node] : given.indptr[node + 1]]
        rows = basis[torch.from_numpy(these)].reshape(len(these) * k, basis.shape[2])
        gram = rows @ rows.T
        gram.diagonal().add_(RIDGE)
        out[node] = values[node] - torch.linalg.solve(gram, rows @ values[node].T).T @ rows
    return out


def rss(pairs: Iterable[FloatArray]) -> FloatArray:
    """Root of the sum of squares over pairs."""
    return np.sqrt(sum(np.square(p) for p in pairs))


def products(source: Tensor, target: Tensor) -> FloatArray:
    """(N, N) of norms of Z_i G_j', for padded sources and targets."""
    n, k, m = source.shape
    found = source.reshape(n * k, m) @ target.reshape(-1, m).T
    return found.square_().view(n, k, len(target), -1).sum((1, 3)).sqrt_().numpy()


def explained(sources: list[Values], targets: list[Values], n_nodes: int) -> FloatArray:
    """Root of the summed share of every target that three components of a source explain, for any values."""
    return rss(
        pair_norms(_leading(*source, n_nodes), principal_components(*target, n_nodes), WORKING_BYTES).numpy()
        for source, target in zip(sources, targets, strict=True)
    )


def baseline(reading: Reading) -> FloatArray:
    """``explained``."""
    owner = reading.channel_node
    return explained([(z, owner) for z in reading.activations], [(g, owner) for g in reading.gradients],
                     reading.n_nodes)  # fmt: skip


def whitened(reading: Reading) -> FloatArray:
    """Activations and gradients both whitened over the channels of a node; the mean over pairs where both vary."""
    total, defined = np.zeros((2, reading.n_nodes, reading.n_nodes))
    for z, g in zip(reading.activations, reading.gradients, strict=True):
        source = _leading(z, reading.channel_node, reading.n_nodes)
        target = _leading(g, reading.channel_node, reading.n_nodes, n_slots=g.shape[0])
        total += pair_norms(source, target, WORKING_BYTES).numpy()
        defined += (source.rank > 0)[:, None] & (target.rank > 0)[None, :]
    return total / np.maximum(defined, 1)


def by_energy(reading: Reading) -> FloatArray:
    """``explained`` with the pairs of each target weighted by the gradient's energy that its parents leave."""
    weights = np.sqrt(reading.share)
    return rss(products(s, t) * w for s, t, w in zip(reading.sources, reading.targets, weights, strict=True))


def residuals_by_energy(reading: Reading) -> FloatArray:
    """Both: what parents leave of the gradients, weighted by its energy."""
    weights = np.sqrt(reading.share)
    return rss(products(s, t) * w for s, t, w in zip(reading.sources, reading.residuals, weights, strict=True))


def energy_and_whitened(reading: Reading) -> FloatArray:
    """Geometric mean of ``whitened`` and ``pairs by energy``."""
    return np.sqrt(whitened(reading) * by_energy(reading))


def parents_out(reading: Reading) -> FloatArray:
    """``explained`` of what the known parents leave of the gradient (the activations as they are)."""
    return rss(products(s, t) for s, t in zip(reading.sources, reading.residuals, strict=True))


def children_out(reading: Reading) -> FloatArray:
    """``explained`` of what the children's gradients at the next block leave of each gradient."""
    given = Regressors.of(reading.known[::-1], reading.n_nodes)
    given = Regressors(*_without_itself(given))
    after = [*reading.targets[1:], torch.zeros_like(reading.targets[-1])]
    left = [taken_out(t, _unit(a), given) for t, a in zip(reading.targets, after, strict=True)]
    return rss(products(s, t) for s, t in zip(reading.sources, left, strict=True))


def less_children(reading: Reading) -> FloatArray:
    """``explained`` less the mean of the target's children: credit that only passes through is theirs."""
    score = baseline(reading)
    A = np.zeros((reading.n_nodes, reading.n_nodes))
    A[reading.known[0], reading.known[1]] = 1.0
    mean = score @ A.T / np.maximum(A.sum(1), 1)[None, :]
    return score - 0.5 * mean


def less_source_level(reading: Reading) -> FloatArray:
    """The logarithm of ``explained`` less half the mean of the source: the same few sources outrank everywhere."""
    log = np.log(np.maximum(baseline(reading), 1e-3))
    return log - 0.5 * log.mean(1, keepdims=True)


def _without_itself(given: Regressors) -> tuple[np.ndarray, np.ndarray]:
    owner = np.repeat(np.arange(len(given.indptr) - 1), np.diff(given.indptr))
    keep = owner != given.nodes
    return np.searchsorted(owner[keep], np.arange(len(given.indptr))), given.nodes[keep]


def _unit(values: Tensor) -> Tensor:
    return values / values.square().sum(2, keepdim=True).sqrt_().clamp_(min=TINY)


def pursuit(reading: Reading, *, steps: int = 5, n_subsamples: int = 12, seed: int = 0) -> FloatArray:
    """Stability selection over half samples of an orthogonal matching pursuit of what parents leave of each gradient.

    A source is a group of three components. How often it enters, weighted by the energy of the pair; ties by
    ``explained``.
    """
    generator = torch.Generator().manual_seed(seed)
    n, m = reading.n_nodes, reading.sources[0].shape[2]
    entered = np.zeros((n, n))
    closed = torch.from_numpy(_closed(reading).T.copy())
    for _ in range(n_subsamples):
        half = torch.randperm(m, generator=generator)[: m // 2]
        for source, target, weight in zip(reading.sources, reading.residuals, reading.share, strict=True):
            if weight.any():
                entered += _pursue(source[:, :, half], target[:, :, half], closed, steps) * weight[None, :]
    return entered / n_subsamples + 1e-3 * baseline(reading)


def _closed(reading: Reading) -> np.ndarray:
    """(N, N), True for known edges and for pairs of a node with itself."""
    closed = np.eye(reading.n_nodes, dtype=bool)
    closed[reading.known[0], reading.known[1]] = True
    return closed


def _pursue(source: Tensor, target: Tensor, closed: Tensor, steps: int) -> FloatArray:
    """(N, N), 1 where a source entered within the steps; all targets together, in covariances; ``closed`` is [j, i]."""
    n, k, m = source.shape
    U = source.reshape(n * k, m)
    gram = U @ U.T
    cross = (U @ target.reshape(-1, m).T).view(n * k, n, -1).permute(1, 0, 2)  # (N, N k, R)
    left, at = cross, torch.zeros(n, 0, dtype=torch.int64)
    entered = torch.zeros(n, n, dtype=torch.bool)
    for _ in range(steps):
        gain = left.square().reshape(n, n, -1).sum(2).masked_fill_(closed | entered, -1.0)
        best = gain.argmax(1)
        entered[torch.arange(n), best] = True
        at = torch.cat([at, best[:, None] * k + torch.arange(k)], 1)
        inner = gram[at[:, :, None], at[:, None, :]]
        inner.diagonal(dim1=1, dim2=2).add_(RIDGE)
        weight = torch.linalg.solve(inner, cross.gather(1, at[:, :, None].expand(-1, -1, cross.shape[2])))
        spread = torch.zeros_like(cross).scatter_add_(1, at[:, :, None].expand_as(weight), weight)
        left = cross - gram @ spread
    return entered.T.double().numpy()


def lars(reading: Reading, *, steps: int = 20) -> FloatArray:
    """1 / entry order in the LARS path of what parents leave of a gradient, on the first component of each source."""
    n = reading.n_nodes
    found = np.zeros((n, n))
    closed = _closed(reading)
    for source, target, weight in zip(reading.sources, reading.residuals, reading.share, strict=True):
        U = source[:, 0].double().numpy()
        varies = U.any(1)
        gram, cross = U @ U.T, U @ target[:, 0].double().numpy().T
        for j in np.flatnonzero(weight > 1e-3):
            free = np.flatnonzero(varies & ~closed[:, j])
            scale = np.sqrt(float(target[j, 0].square().sum())) + TINY
            _, active, _ = lars_path_gram(
                cross[free, j] / scale, gram[np.ix_(free, free)], n_samples=U.shape[1], max_iter=steps, method="lar"
            )
            found[free[active], j] += weight[j] / np.arange(1, len(active) + 1)
    return found + 1e-3 * baseline(reading)


def trees(reading: Reading, *, n_trees: int = 50, n_pairs: int = 2, n_samples: int = 1024) -> FloatArray:
    """Importances in extra-trees of what parents leave of a gradient, on the first component of every activation.

    The pairs of most energy of each target; an importance counts by its pair's energy.
    """
    n = reading.n_nodes
    found = np.zeros((n, n))
    closed = _closed(reading)
    for j in range(n):
        for p in np.argsort(-reading.share[:, j])[:n_pairs]:
            if reading.share[p, j] < 0.05:
                continue
            free = np.flatnonzero(~closed[:, j])
            forest = ExtraTreesRegressor(n_trees, max_features="sqrt", min_samples_leaf=5, random_state=0, n_jobs=1)
            forest.fit(
                reading.sources[p][free, 0, :n_samples].T.numpy(), reading.residuals[p][j, 0, :n_samples].numpy()
            )
            found[free, j] += reading.share[p, j] * forest.feature_importances_
    return found + 1e-4 * baseline(reading)


ONE_MODEL: dict[str, Callable[[Reading], FloatArray]] = {
    "explained": baseline,
    "whitened": whitened,
    "pairs by energy": by_energy,
    "parents out of the gradient": parents_out,
    "parents out, pairs by energy": residuals_by_energy,
    "whitened x pairs by energy": energy_and_whitened,
    "children's credit out": children_out,
    "less the children's score": less_children,
    "less half the source's level": less_source_level,
    "pursuit, stability selection": pursuit,
    "LARS entry order": lars,
    "extra-trees": trees,
}


def reading_of(model: GSNN, problem: Problem, graph: Graph | None = None, outputs: np.ndarray | None = None) -> Reading:
    """A reading on the first samples; of some outputs alone where ``outputs`` (O,) is given."""
    inferer = GradientEdgeInferer(model, graph or problem.graph)
    data = batches(problem)[:N_BATCHES]
    if outputs is not None:
        away = ~torch.from_numpy(outputs)
        data = [(x, y.masked_fill(away, torch.nan)) for x, y in data]
    inferer.fit(data, verbose=False)
    return read(inferer)


def connected(graph: Graph) -> np.ndarray:
    """(O,), True for outputs that an input reaches."""
    return ~np.isin(graph.outputs, graph.unreached_outputs)


def repaired(problem: Problem, model: GSNN, seed: int, settings: Settings) -> FloatArray:
    """``explained`` after every output that no input reaches got an edge into the function read, and a new training.

    The edge comes from the function whose activation explains most of the output. The new edges stand first.
    """
    graph = problem.graph
    away = np.flatnonzero(~connected(graph))
    reading = reading_of(model, problem)
    m = reading.sources[0].shape[2]
    left = error(model, problem.x_train[:m], problem.y_train[:m])[:, away]
    unit = torch.from_numpy((left - left.mean(0)) / np.maximum(np.sqrt(m) * left.std(0), TINY)).T[:, None]
    best = rss(products(s, unit.to(s)) for s in reading.sources)
    source, output = graph.edge_index_dict["function", "to", "output"].numpy()
    into = np.array([source[np.flatnonzero(output == o)[0]] for o in away])
    best[into, np.arange(len(away))] = -1
    pairs = np.stack([best.argmax(0), into])
    fresh = [(graph.functions[i], graph.functions[j]) for i, j in pairs.T]
    mended = graph.with_edges(sorted(set(fresh)))
    again = train(problem, mended, seed, settings)
    score = baseline(reading_of(again, problem, mended))
    score[pairs[0], pairs[1]] = 1.0 + score.max()
    return score


def several_models(
    problem: Problem, models: Mapping[str, list[GSNN]], seed: int, settings: Settings
) -> Iterator[tuple[str, FloatArray]]:
    """Ideas that need more than one model, or other losses."""
    for name in ("snapshots", "seeds"):
        each = [reading_of(model, problem) for model in models[name]]
        for label, idea in (("explained", baseline), ("whitened", whitened)):
            yield f"{label}, mean over {name}", np.mean([idea(r) for r in each], axis=0)
    live = connected(problem.graph)
    if not live.all():
        final = models["last"][0]
        yield "explained, connected outputs alone", baseline(reading_of(final, problem, outputs=live))
        yield "explained, outputs connected first", repaired(problem, final, seed, settings)


def trained(problem: Problem, settings: Settings, n_seeds: int) -> dict[str, list[GSNN]]:
    """One training with five snapshots at equal distances, and further seeds."""
    steps = max(1, len(problem.x_train) // settings.batch_size) * settings.epochs
    states: list[dict[str, Tensor]] = []

    def watch(step: int, model: GSNN) -> None:
        if step and step in {steps * k // 5 for k in range(1, 6)}:
            states.append({key: value.clone() for key, value in model.state_dict().items()})

    last = train(problem, problem.graph, 0, settings, watch)
    models = []
    for state in states:
        model = GSNN.from_graph(
            problem.graph,
            channels=settings.channels,
            layers=settings.layers,
            norm=settings.norm,
            dropout=settings.dropout,
            share_layers=False,
        )
        model.load_state_dict(state)
        models.append(model.eval())
    others = [train(problem, problem.graph, seed, settings) for seed in range(1, n_seeds)]
    return {"last": [last], "snapshots": models, "seeds": [last, *others]}


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "A": lambda: setting("A", 0),
    "B": lambda: setting("B", 0),
    "knock-outs": lambda: knockouts(0),
    TUNING[1][0]: lambda: realistic(*TUNING[1]),
    TUNING[0][0]: lambda: realistic(*TUNING[0]),
}


COLUMNS = ("auc", "mrr", "precision_at_k", "hits_at_100")


def run(name: str, ideas: list[str], several: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """The figures of every idea on one problem."""
    problem = PROBLEMS[name]()
    settings = settings_of(problem)
    if ":" in name:
        settings = replace(settings, epochs=10)
    models = trained(problem, settings, 3 if several else 1)
    reading = reading_of(models["last"][0], problem)
    for idea in ideas:
        yield idea, measure(problem, ONE_MODEL[idea](reading))
    if several:
        for idea, scores in several_models(problem, models, 0, settings):
            yield idea, measure(problem, scores)


def main() -> None:
    """Parse the arguments, run, print each line when it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--ideas", nargs="*", default=list(ONE_MODEL), choices=list(ONE_MODEL))
    parser.add_argument("--one-model", action="store_true", help="leave out what needs further trainings")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.problems:
        print(f"\n| {name} | AUC | MRR | P@K | hits@100 |\n|---|---|---|---|---|")
        for idea, found in run(name, arguments.ideas, not arguments.one_model):
            cells = [f"{found[c]:.{0 if c == 'hits_at_100' else 3}f}" for c in COLUMNS]
            print("| " + " | ".join([idea, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
