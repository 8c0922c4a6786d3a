"""How well the first-order scores find the held-out edges, beside the magnitude scores; and how fast they are.

    python benchmarks/gradient.py                          # settings A and B, 5 seeds
    python benchmarks/gradient.py --settings B --seeds 2
    python benchmarks/gradient.py --inferring 64           # edges from 64 samples, of models trained on all
    python benchmarks/gradient.py --signs                  # the same data with random signs: are the signs right?
    python benchmarks/gradient.py --speed                  # share of the machine's matrix-product rate, and memory

Positives are all held-out edges, negatives the pairs in no true edge; K is the number of held-out edges (or of alias
groups that hold one). Magnitude and gradient scores read the same samples: one ordered pass over the training data,
or its first rows with --inferring. "Uncorrected" are the scores before chance is subtracted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from converging import markdown
from gsnn.data import Standardiser
from gsnn.edges import GradientEdgeInferer, MagnitudeEdgeInferer, alias_groups
from gsnn.edges.gradient.blocks import pair_norms, principal_components
from gsnn.edges.gradient.regressed import Regressors, regressed_norms
from gsnn.metrics import evaluate_edges, group_metrics
from gsnn.nn import GSNN
from gsnn.simulation import convergence_graph, simulate
from settings import SETTINGS, Problem, build, loader, problem, train

GRADIENT = [(score, agg) for score in ("regressed", "normalised") for agg in ("mean0", "rss")] + [("explained", "rss")]
MAGNITUDE = [(score, agg) for score in ("corr", "partial") for agg in ("mean0", "mean", "max")]
TARGETS = {"A": "AUC .985, precision .65, group precision .95", "B": "AUC .965, precision .60"}


def figures(scores: npt.NDArray[np.float64], data: Problem, nodes: list[str]) -> dict[str, float]:
    """Every metric of one score matrix."""
    found = evaluate_edges(scores, data.held, data.kept, names=nodes)
    k = len(data.held)
    index = {name: i for i, name in enumerate(nodes)}
    true, candidate = np.zeros(scores.shape, bool), ~np.eye(len(nodes), dtype=bool)
    for a, b in data.held:
        true[index[a], index[b]] = True
    for a, b in data.kept:
        candidate[index[a], index[b]] = False
    groups = group_metrics(scores[candidate], true[candidate], alias_groups(data.graph).matrix()[candidate])
    return {
        "AUC": found.roc_auc,
        "precision@K": found.precision_at[k],
        "AUPR": found.average_precision,
        "MRR": found.mrr,
        "group precision@K": groups.precision,
    }


def run(name: str, seed: int, inferring: int | None = None) -> dict[str, dict[str, float]]:
    """Train one seed of a setting and measure every method."""
    torch.set_num_threads(1)  # the graphs are small: a second seed uses a second core better
    setting = SETTINGS[name]
    data = problem(setting, seed)
    model = build(setting, data.graph, seed)
    for _ in train(model, data, setting, seed):
        pass
    gradient, magnitude = GradientEdgeInferer(model, data.graph), MagnitudeEdgeInferer(model, data.graph)
    rows: dict[str, dict[str, float]] = {}
    for kind, inferer, forms in (("gradient", gradient, GRADIENT), ("magnitude", magnitude, MAGNITUDE)):
        some = [(data.x_train[:inferring], data.y_train[:inferring])]
        inferer.fit(some if inferring else loader(data, setting, shuffle=False), verbose=False)
        for score, agg in forms:
            forms_of = {"": {}, ", uncorrected": {"null_correction": False}} if kind == "gradient" else {"": {}}
            for label, options in forms_of.items():
                matrix = inferer.score_matrix(score=score, layer_agg=agg, **options)
                rows[f"{kind} {score}, {agg}{label}"] = figures(matrix, data, inferer.function_nodes)
    return rows


def signed_run(name: str, seed: int) -> dict[str, float]:
    """The setting with a random sign on every function-function edge: how many signs are right."""
    torch.set_num_threads(1)
    setting = SETTINGS[name]
    data = problem(setting, seed)
    graph, inputs, _, outputs, edges = convergence_graph(setting.n)
    rng = np.random.default_rng(seed)
    signs = {edge: int(rng.choice([-1, 1])) for edge in edges}
    x, _, y, _ = simulate(
        graph, setting.n_train, 1, inputs, outputs, noise_scale=setting.noise, signed_edges=signs, seed=seed
    )
    data.x_train = torch.as_tensor(x, dtype=torch.float32)
    data.y_train = torch.as_tensor(Standardiser.fit(y).transform(y), dtype=torch.float32)
    model = build(setting, data.graph, seed)
    for _ in train(model, data, setting, seed):
        pass
    inferer = GradientEdgeInferer(model, data.graph)
    inferer.fit(loader(data, setting, shuffle=False), verbose=False)
    table, held = inferer.top_edges(), set(data.held)
    true = [(place, e) for place, e in enumerate(table.itertuples(index=False)) if (e.src_func, e.dst_func) in held]
    right = [(place, e.sign == signs[e.src_func, e.dst_func]) for place, e in true]
    best = [ok for place, ok in right if place < len(held)]
    return {
        "true among the best K": len(best),
        "of them sign right": float(np.mean(best)),
        "all held-out edges, sign right": float(np.mean([ok for _, ok in right])),
    }


def quality(names: list[str], seeds: int, workers: int, inferring: int | None = None) -> None:
    """Print one table a setting."""
    jobs = [(name, seed, inferring) for name in names for seed in range(seeds)]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(run, *zip(*jobs, strict=True)))
    for name in names:
        runs = [rows for (at, *_), rows in zip(jobs, found, strict=True) if at == name]
        rows = [
            {"method": method} | {c: float(np.mean([r[method][c] for r in runs])) for c in runs[0][method]}
            for method in runs[0]
        ]
        print(f"\n{name}, epoch {SETTINGS[name].epochs}, mean of {seeds} seeds (wanted: {TARGETS.get(name, '')})\n")
        print(markdown(pd.DataFrame(rows)))


def signs(names: list[str], seeds: int, workers: int) -> None:
    """Print how many signs are right."""
    jobs = [(name, seed) for name in names for seed in range(seeds)]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(signed_run, *zip(*jobs, strict=True)))
    print(
        markdown(pd.DataFrame([{"setting": n, "seed": str(s)} | row for (n, s), row in zip(jobs, found, strict=True)]))
    )


def _seconds(call: object, *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def speed(n_nodes: int, channels: int, samples: int) -> None:
    """One pair of blocks with random samples of full rank, the worst case, against plain float32 products."""
    generator = torch.Generator().manual_seed(0)
    n_rows = n_nodes * channels
    z, g = (torch.randn(n_rows, samples, generator=generator) for _ in range(2))
    node = torch.arange(n_nodes).repeat_interleave(channels)
    pairs = np.random.default_rng(0).integers(0, n_nodes, (2, 3 * n_nodes))
    regressors = Regressors.of(pairs, n_nodes)
    rank_two = torch.randn(n_nodes, channels, 2, generator=generator) @ torch.randn(n_nodes, 2, samples)
    cases = {"full rank": (z, g, 0.0), "rank 2": (rank_two.reshape(n_rows, -1), g, 0.0)}
    small = torch.logspace(0, -3, channels)[None, :, None]
    cases["gradients decay to 1e-3, tolerance 1e-2"] = (
        z,
        (g.view(n_nodes, channels, -1) * small).reshape(n_rows, -1),
        1e-2,
    )
    rows = []
    for case, (a, b, tolerance) in cases.items():
        block = a[: min(2048, n_rows)]
        # Before and after, since another process may take its share of the machine in between.
        plain = [_seconds(torch.matmul, block, b.T)]
        start = time.perf_counter()
        source, target = (principal_components(v, node, n_nodes, tolerance) for v in (a, b))
        prepare = time.perf_counter() - start
        normalised = _seconds(pair_norms, source, target, 2**30)
        plain.append(_seconds(torch.matmul, block, b.T))
        regressed = _seconds(regressed_norms, source, target, regressors, 1e-6, 2**30)
        plain.append(_seconds(torch.matmul, block, b.T))
        one = float(np.mean(plain)) * n_rows / len(block)
        rows.append(
            {
                "case": case,
                "plain product, s": one,
                "components, s": prepare,
                "normalised, s": normalised,
                "share of the rate": one / (normalised + prepare),
                "regressed, s": regressed,
                "its share (1.5 products)": 1.5 * one / (regressed + prepare),
            }
        )
    print(
        f"\none pair of blocks, N = {n_nodes}, C = {channels}, {samples} samples, {torch.get_num_threads()} threads\n"
    )
    print(markdown(pd.DataFrame(rows)))
    print(f"peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def memory(n_nodes: int, channels: int, samples: int, layers: int = 6) -> None:
    """Fit and score a model of this size and print the peak memory; call in a fresh process."""
    rng = np.random.default_rng(0)
    names = [f"f{i}" for i in range(n_nodes)]
    edges = [(f"x{i}", names[i]) for i in range(100)] + [(names[-1 - i], f"y{i}") for i in range(100)]
    edges += [(names[a], names[b]) for a, b in rng.integers(0, n_nodes, (3 * n_nodes, 2)) if a != b]
    from gsnn.graph import Graph

    graph = Graph.from_edges(
        list(dict.fromkeys(edges)),
        input_nodes=[f"x{i}" for i in range(100)],
        function_nodes=names,
        output_nodes=[f"y{i}" for i in range(100)],
    )
    model = GSNN.from_graph(graph, channels=channels, layers=layers)
    inferer = GradientEdgeInferer(model, graph)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(samples, 100, generator=generator) for _ in range(2))
    fit = _seconds(lambda: inferer.fit(list(zip(x.split(64), y.split(64), strict=True)), verbose=False))
    score = _seconds(inferer.top_edges, 1000)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"N = {n_nodes}, C = {channels}, L = {layers}, {samples} samples: fit {fit:.0f} s, best 1000 edges "
        f"{score:.0f} s, peak resident memory {peak:.2f} GiB"
    )


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=["A", "B"], choices=sorted(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="processes, one seed each")
    parser.add_argument("--inferring", type=int, metavar="M", help="infer from the first M training samples only")
    parser.add_argument("--signs", action="store_true", help="measure the signs instead")
    parser.add_argument("--speed", action="store_true", help="measure speed instead, at N = 1000")
    parser.add_argument("--memory", type=int, metavar="N", help="measure memory instead, at N nodes")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--samples", type=int, default=2000)
    arguments = parser.parse_args()
    if arguments.memory:
        memory(arguments.memory, arguments.channels, arguments.samples)
    elif arguments.speed:
        speed(1000, arguments.channels, arguments.samples)
    elif arguments.signs:
        signs(arguments.settings, arguments.seeds, arguments.workers)
    else:
        quality(arguments.settings, arguments.seeds, arguments.workers, arguments.inferring)


if __name__ == "__main__":
    main()
