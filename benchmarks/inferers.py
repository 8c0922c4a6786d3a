"""Time and memory of MagnitudeEdgeInferer against a plain reference, in the same run; the best edges by gradients.

The plain reference is what one writes first: float64 correlation matrices, one row of a list per ordered pair, a
DataFrame of them, sorted. It is timed at N = 1000 only; at N = 3000 it needs more memory than most machines have.

Run: ``python benchmarks/inferers.py [--nodes 1000 3000] [--quick]``. Every figure is the best of several repeats in a
process of its own, memory is the growth of that process's peak.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
import torch

from gsnn.edges import GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.edges.capture import Capture
from gsnn.nn import GSNN
from rank_inference import embedding, ranks, walks

LAYERS, CHANNELS, IO = 6, 2, 20
TARGETS = {
    ("evaluate", 1000): "<= 0.5 s, <= 300 MB",
    ("evaluate", 3000): "<= 6 s, <= 3000 MB",
    ("top_edges", 3000): "<= 0.5 s, first call included",
    ("update", 3000): ">= 60 % of sgemm",
    ("partial", 3000): "<= 2 s per pair",
    ("ranks", 1000): "<= 1.5 x, >= 30 x",
    ("walks", 1000): "<= 2 s",
    ("embedding", 1000): "<= 15 s",
}


def random_data(n: int, low: int, high: int) -> SimpleNamespace:
    """A random graph in which every function has between ``low`` and ``high`` parents."""
    rng = np.random.default_rng(0)
    degree = rng.integers(low, high + 1, n)
    source = np.concatenate([rng.choice(n, d, replace=False) for d in degree])
    ends = np.stack([source, np.repeat(np.arange(n), degree)])
    into = np.stack([np.arange(IO), np.arange(IO)])
    names = {
        kind: [f"{kind[0]}{k}" for k in range(size)] for kind, size in (("input", IO), ("function", n), ("output", IO))
    }
    index = {
        ("input", "to", "function"): torch.from_numpy(into),
        ("function", "to", "function"): torch.from_numpy(ends),
        ("function", "to", "output"): torch.from_numpy(np.stack([np.arange(IO) + IO, np.arange(IO)])),
    }
    return SimpleNamespace(edge_index_dict=index, node_names_dict=names)


def inferer_with_data(n: int, low: int = 1, high: int = 5, samples: int = 1024) -> MagnitudeEdgeInferer:
    """An inferer that has seen synthetic magnitudes with a weak dependence in a hundredth of the pairs."""
    data = random_data(n, low, high)
    model = GSNN(data.edge_index_dict, data.node_names_dict, channels=CHANNELS, layers=LAYERS)
    inferer = MagnitudeEdgeInferer(model, data)
    generator = torch.Generator().manual_seed(0)
    for _ in range(samples // 256):
        z = [torch.randn(n * CHANNELS, 256, generator=generator) for _ in range(LAYERS)]
        g = [torch.randn(n * CHANNELS, 256, generator=generator) for _ in range(LAYERS)]
        for layer in range(1, LAYERS):
            g[layer][: n * CHANNELS // 100] += 0.3 * z[layer - 1][: n * CHANNELS // 100].abs()
        inferer.add(Capture(z, g, model.channel_node, n, 0.0))
    inferer._moments.flush()
    inferer._moments._buffer = None
    return inferer


def best(call: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def current_mb() -> float:
    """Memory of this process now, MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def peak_mb() -> float:
    """Peak memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cold(inferer: MagnitudeEdgeInferer | GradientEdgeInferer, call: Callable[[], object]) -> Callable[[], object]:
    """The call without what an earlier one left behind."""

    def run() -> object:
        inferer._last = None
        return call()

    return run


def evaluate(n: int, repeats: int) -> dict[str, float]:
    """The full table."""
    inferer = inferer_with_data(n)
    before = current_mb()
    inferer.evaluate()
    extra = peak_mb() - before
    return {"seconds": best(cold(inferer, inferer.evaluate), repeats), "extra_mb": extra}


def reference(n: int, repeats: int) -> dict[str, float]:
    """The same table by a loop over pairs."""
    moments = inferer_with_data(n)._moments
    names = [f"f{k}" for k in range(n)]
    before = current_mb()

    def run() -> pd.DataFrame:
        r = [
            (c / torch.sqrt(x[:, None] * y[None, :])).numpy()
            for c, x, y in zip(moments.cross, moments.ss_x, moments.ss_y, strict=True)
        ]
        mean = np.mean(r, axis=0)
        p = scipy.stats.norm.sf(np.arctanh(mean) * (moments.n - 3) ** 0.5)
        rows = []
        for i in range(n):
            for j in range(n):
                if i != j:
                    row = {"src_func": names[i], "dst_func": names[j], "src_idx": i, "dst_idx": j, "corr": mean[i, j]}
                    row |= {f"corr_a{k}_g{k + 1}": r[k][i, j] for k in range(len(r))}
                    rows.append(row | {"p_value": p[i, j]})
        table = pd.DataFrame(rows).sort_values("corr", ascending=False, kind="stable")
        table["q_value"] = scipy.stats.false_discovery_control(table["p_value"])
        return table

    seconds = best(run, 1)
    return {"seconds": seconds, "extra_mb": peak_mb() - before}


def top_edges(n: int, repeats: int) -> dict[str, float]:
    """The best thousand by ``mean0``, p- and q-values included: the first call after the fit, and a later one."""
    return _top(inferer_with_data(n), repeats, layer_agg="mean0")


def top_explained(n: int, repeats: int) -> dict[str, float]:
    """The same by ``gradient-explained``, of a model that was not trained and 1,024 random samples."""
    data = random_data(n, 1, 5)
    torch.manual_seed(0)
    inferer = GradientEdgeInferer(GSNN(data.edge_index_dict, data.node_names_dict, CHANNELS, LAYERS), data)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1024, IO, generator=generator)
    inferer.fit(list(zip(x.split(256), y.split(256), strict=True)), verbose=False)
    return _top(inferer, repeats, score="explained", layer_agg="rss")


def _top(inferer: Any, repeats: int, **options: str) -> dict[str, float]:
    def call() -> object:
        return inferer.top_edges(1000, **options)

    return {"first_seconds": best(call, 1), "seconds": best(cold(inferer, call), repeats)}


def partial(n: int, repeats: int) -> dict[str, float]:
    """Partial correlations with 5 to 25 parents, per pair of blocks."""
    inferer = inferer_with_data(n, 5, 25)
    call = cold(inferer, lambda: inferer.score_matrix(score="partial"))
    return {"seconds_per_pair": best(call, repeats) / inferer.n_pairs}


def update(n: int, repeats: int) -> dict[str, float]:
    """Rate of the accumulation, batches of 64 to sums, of the rate of one float32 matrix product of a flush's size.

    ``all_share`` counts the two products a flush needs (activations with gradients, and activations of parents with
    activations, for the partial correlation), ``cross_share`` the first alone.
    """
    inferer = inferer_with_data(n, samples=256)
    moments = inferer._moments
    a, b = torch.randn(n, moments.buffer_rows), torch.randn(moments.buffer_rows, n)
    generator = torch.Generator().manual_seed(0)
    z = [torch.randn(n * CHANNELS, 64, generator=generator) for _ in range(LAYERS)]
    seen = Capture(z, z[::-1], torch.arange(n).repeat_interleave(CHANNELS), n, 0.0)

    def one_flush() -> None:
        flushed = moments._n_flushed
        while moments._n_flushed == flushed:
            inferer.add(seen)

    one_flush()
    product = best(lambda: a @ b, repeats)
    total = best(one_flush, repeats)
    product = min(product, best(lambda: a @ b, repeats))
    cross = inferer.n_pairs * product / total
    given = len(moments.condition_on) / n
    sgemm = 2 * n * n * moments.buffer_rows / product
    return {"sgemm_gflops": sgemm / 1e9, "all_share": cross * (1 + given), "cross_share": cross}


CASES = {
    f.__name__: f for f in (evaluate, reference, top_edges, top_explained, update, partial, ranks, walks, embedding)
}
# Too large for the reference, or of one size anyway.
SMALL_ONLY = ("reference", "ranks", "walks", "embedding")


def main() -> None:
    """Run every case in a process of its own and print what it took beside the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 3000])
    parser.add_argument("--quick", action="store_true", help="one repeat each")
    parser.add_argument("--case", nargs=2, metavar=("NAME", "N"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    repeats = 1 if arguments.quick else 3
    if arguments.case:
        print(json.dumps(CASES[arguments.case[0]](int(arguments.case[1]), repeats)))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, P = {LAYERS - 1} pairs")
    for n in arguments.nodes:
        for name in CASES:
            if name in SMALL_ONLY and n > 1000:
                continue
            command = [sys.executable, __file__, "--case", name, str(n), *(["--quick"] if arguments.quick else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            shown = ", ".join(f"{key} {value:.3g}" for key, value in figures.items())
            print(f"N={n:5d} {name:10s} {shown:60s} {TARGETS.get((name, n), '')}", flush=True)


if __name__ == "__main__":
    main()
