"""What a network of 20,000 functions and a million samples would cost, computed from rates measured here.

    python benchmarks/cost.py [--nodes 20000] [--samples 1000000] [--bandwidth 1e9]

Measures CPU time, on one thread: the float32 matrix product, a sample's way through the model and into
the statistics, the ranking of a pair, a training step. Everything else is arithmetic, written out in ``table``,
for processes with a core each. Bandwidth (bytes/s, between processes and to disk) is an assumption.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from graphs import power_law_graph
from gsnn.edges import MagnitudeEdgeInferer
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.nn.losses import masked_mse

LAYERS, CHANNELS, DENSITY = 6, 8, 10
PROCESSES = (1, 8, 64)
GRADIENT_SAMPLES = 2_000


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Attributes:
        product: Multiply-adds a second, times two, of the float32 matrix product.
        sample: Seconds per edge for a sample's forward and backward pass, magnitudes and centring.
        pair: Seconds to score and rank a pair of functions, products not counted.
        step: Seconds per edge and sample of a training step.
        parameters: Parameters per edge.
    """

    product: float
    sample: float
    pair: float
    step: float
    parameters: float


def best(call: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest call."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds)


def measured(n: int = 4_000, samples: int = 512) -> Rates:
    """Rates of this machine at a size where they have settled."""
    a, b = torch.randn(n, samples), torch.randn(samples, n)
    product = 2 * n * n * samples / best(lambda: a @ b)
    graph = Graph(*power_law_graph(n, DENSITY * n))
    torch.manual_seed(0)
    model = GSNN.from_graph(graph, channels=CHANNELS, layers=LAYERS, norm="none")
    x, y = torch.rand(samples, graph.I), torch.randn(samples, graph.O)
    inferer = MagnitudeEdgeInferer(model, graph)

    def see() -> None:
        inferer.fit(zip(x.split(256), y.split(256), strict=True), verbose=False)
        if not inferer._moments.put_off:  # centres what was seen, without the products
            raise RuntimeError("the sums were made: choose more nodes, so that they are put off")

    seen = best(see, 2)

    def rank() -> None:
        inferer._last = None
        inferer.top_edges(10_000, layer_agg="mean0")

    ranked = best(rank, 2) - (LAYERS - 1) * 2 * n * n * samples / product
    optimiser = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimiser.zero_grad()
        masked_mse(model(x[:64]), y[:64]).backward()
        optimiser.step()

    edges = DENSITY * n
    count = sum(p.numel() for p in model.parameters())
    return Rates(product, seen / samples / edges, ranked / n**2, best(step) / 64 / edges, count / edges)


def hours(seconds: float) -> str:
    """A time to read."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def table(rates: Rates, n: int, m: int, bandwidth: float) -> list[str]:
    """Rows of the table: N = n, M = m, E = 10 N, U = N, P = L - 1."""
    p, edges = LAYERS - 1, DENSITY * n
    pass_all = m * edges * rates.sample
    products = 2 * p * m * 2 * n * n / rates.product  # activations with gradients, and with those of known parents
    ranking = n * n * rates.pair
    sums = 8 * p * n * 2 * n
    per_sample = 8 * p * n
    weights = 4 * edges * rates.parameters
    gradient = p * 2 * (CHANNELS * n) ** 2 * GRADIENT_SAMPLES / rates.product
    gradient_pass = GRADIENT_SAMPLES * edges * rates.sample
    rows = []
    for k in PROCESSES:
        exchange = 2 * sums * (k - 1) / k / bandwidth
        # One buffer is a quarter of a budget of 16 GB, at most 4096 samples; sums beyond half of it are in a file.
        flushes = math.ceil(m / k / min(4096, 4e9 / per_sample))
        file = 2 * sums * flushes / bandwidth if sums > 8e9 else 0.0
        by_samples = pass_all / k + products / k + exchange + ranking + file
        by_targets = (
            pass_all + products / k + ranking / k + (2 * sums / k * flushes * k / bandwidth if sums / k > 8e9 else 0)
        )
        memory = 12 * n * n + min(4e9, 4096 * per_sample)
        epoch = m / k * edges * rates.step + (m / 64 / k) * (2 * weights * (k - 1) / k / bandwidth)
        rows.append(
            f"| {k} | {hours(epoch)} | {hours(by_samples)} | {(memory + min(sums, 8e9)) / 1e9:.0f} "
            f"| {hours(by_targets)} | {(memory + min(sums / k, 8e9)) / 1e9:.0f} "
            f"| {hours(gradient_pass + gradient / k)} |"
        )
    return rows


def main() -> None:
    """Print rates and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--bandwidth", type=float, default=1e9)
    options = parser.parse_args()
    rates = measured()
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, C = {CHANNELS}, L = {LAYERS}, E = {DENSITY} N\n"
    )
    print("| rate | measured |\n|---|---|")
    print(f"| matrix product r | {rates.product / 1e9:.0f} GFLOP/s |")
    print(f"| sample s | {rates.sample * 1e9:.0f} ns an edge |")
    print(f"| pair q | {rates.pair * 1e9:.0f} ns |")
    print(f"| training step t | {rates.step * 1e9:.0f} ns an edge and sample |\n")
    print(f"N = {options.nodes:,}, M = {options.samples:,}, bandwidth {options.bandwidth / 1e9:g} GB/s\n")
    print(
        "| processes | an epoch of training | magnitude, samples shared | GB each | targets shared | GB each "
        f"| gradient, {GRADIENT_SAMPLES} samples, targets shared |\n|---|---|---|---|---|---|---|"
    )
    print("\n".join(table(rates, options.nodes, options.samples, options.bandwidth)))


if __name__ == "__main__":
    main()
