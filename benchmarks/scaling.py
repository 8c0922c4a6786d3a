"""How time and memory grow with the nodes, edges, samples, batch and channels: a table of fitted exponents and a chart.

    python benchmarks/scaling.py --plot growth.svg     # some minutes of one core
    python benchmarks/scaling.py --quick               # a minute; small sizes, where constant costs flatten everything

Each row varies one size and keeps the others. Time is the CPU time of one thread, memory what the call adds to the
high-water mark of its process, which has made one tiny call before. An exponent b says that time grows as size^b,
fitted by least squares to the logarithms of all points; the expected one is that of the work that has to be done. Rows
above it by more than 0.3 are marked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from graphs import power_law_graph
from gsnn.edges import FunctionEdgeInferer, GradientEdgeInferer, MagnitudeEdgeInferer, alias_groups
from gsnn.graph import Graph
from gsnn.metrics import evaluate_edges
from gsnn.nn import GSNN
from gsnn.nn.losses import masked_mse

TOLERATED = 0.3


@dataclass(frozen=True)
class Size:
    """What is varied: nodes, edges, samples (M) or a batch (B), channels."""

    N: int = 1000
    E: int = 10_000
    M: int = 1000
    B: int = 64
    C: int = 4
    layers: int = 4


def world(size: Size) -> tuple[Graph, GSNN]:
    """A power-law graph and its model."""
    graph = Graph(*power_law_graph(size.N, size.E, n_terminals=100))
    torch.manual_seed(0)
    return graph, GSNN.from_graph(graph, channels=size.C, layers=size.layers, norm="none")


def samples(graph: Graph, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, graph.I, generator=generator), torch.randn(n, graph.O, generator=generator)


def step(size: Size) -> Callable[[], object]:
    """A training step."""
    graph, model = world(size)
    x, y = samples(graph, size.B)
    optimiser = torch.optim.Adam(model.parameters())

    def call() -> None:
        optimiser.zero_grad()
        masked_mse(model(x), y).backward()
        optimiser.step()

    return call


def streaming(kind: type, size: Size, **options: object) -> Callable[[], object]:
    """Statistics of M samples, then the best thousand edges."""
    graph, model = world(size)
    x, y = samples(graph, size.M)

    def call() -> None:
        inferer = kind(model, graph, **({"keep_post": False} if kind is GradientEdgeInferer else {}))
        inferer.fit(zip(x.split(256), y.split(256), strict=True), verbose=False)
        inferer.top_edges(1000, **options)

    return call


def ranks(size: Size) -> Callable[[], object]:
    """Pooled rank correlation."""
    graph, model = world(size)
    x, y = samples(graph, size.M)
    known = graph.edge_index_dict["function", "to", "function"]

    def call() -> None:
        inferer = FunctionEdgeInferer(model, None, known)
        inferer.fit(x, y)
        inferer.top_edges(1000)

    return call


def aliases(size: Size) -> Callable[[], object]:
    """Alias groups by hops."""
    graph = Graph(*power_law_graph(size.N, size.E, n_terminals=100))
    return lambda: alias_groups(graph, "hops", size.layers)


def evaluation(size: Size) -> Callable[[], object]:
    """Metrics of a score matrix."""
    graph = Graph(*power_law_graph(size.N, size.E, n_terminals=100))
    rng = np.random.default_rng(0)
    score = rng.standard_normal((size.N, size.N))
    known = graph.edge_index_dict["function", "to", "function"].numpy()
    order = rng.permutation(known.shape[1])
    hidden, kept = known[:, order[: len(order) // 10]], known[:, order[len(order) // 10 :]]
    return lambda: evaluate_edges(score, hidden, kept)


TASKS: dict[str, Callable[[Size], Callable[[], object]]] = {
    "step": step,
    "magnitude": lambda size: streaming(MagnitudeEdgeInferer, size, layer_agg="mean0"),
    "ranks": ranks,
    "gradient normalised": lambda size: streaming(GradientEdgeInferer, size, score="normalised"),
    "gradient regressed": lambda size: streaming(GradientEdgeInferer, size, score="regressed"),
    "aliases": aliases,
    "evaluate": evaluation,
}
# Task, what varies, over which values, base, exponents of time and of memory that the work has.
Sweep = tuple[str, str, list[int], Size, float, float]
NODES = [1000, 1600, 2500, 4000]
SWEEPS: list[Sweep] = [
    ("step", "N", [2000, 4000, 8000, 16000], Size(E=60_000), 1, 1),
    ("step", "E", [10_000, 20_000, 40_000, 80_000], Size(), 1, 1),
    ("step", "B", [64, 128, 256, 512], Size(), 1, 1),
    ("step", "C", [4, 8, 16, 32], Size(), 1, 1),
    ("magnitude", "N", NODES, Size(E=20_000), 2, 2),
    ("magnitude", "E", [10_000, 20_000, 40_000, 80_000], Size(), 1, 1),
    ("magnitude", "M", [1000, 2000, 4000, 8000], Size(), 1, 1),
    ("magnitude", "C", [4, 8, 16, 32], Size(), 1, 1),
    ("ranks", "N", NODES, Size(E=20_000), 2, 2),
    ("ranks", "M", [1000, 2000, 4000, 8000], Size(), 1, 1),
    ("gradient normalised", "N", [500, 800, 1250, 2000], Size(E=12_000), 2, 2),
    ("gradient normalised", "M", [500, 1000, 2000, 4000], Size(N=500, E=5000), 1, 1),
    ("gradient normalised", "C", [2, 4, 8, 16], Size(N=500, E=5000), 2, 2),
    ("gradient regressed", "N", [500, 800, 1250, 2000], Size(E=12_000), 2, 2),
    ("gradient regressed", "M", [500, 1000, 2000, 4000], Size(N=500, E=5000), 1, 1),
    ("aliases", "N", [4000, 8000, 16000, 32000], Size(E=60_000), 1, 1),
    ("aliases", "E", [20_000, 40_000, 80_000, 160_000], Size(N=4000), 1, 1),
    ("evaluate", "N", NODES, Size(E=20_000), 2, 2),
]
QUICK: list[Sweep] = [
    (task, letter, [max(v // 4, 200 if letter == "N" else v // 4) for v in values[:3]], replace(base, M=250), *orders)
    if letter != "C"
    else (task, letter, values[:3], replace(base, N=250, E=2500, M=250), *orders)
    for task, letter, values, base, *orders in SWEEPS
]


def measured(task: str, size: Size) -> tuple[float, float]:
    """CPU seconds and MB of one task at one size, in a forked process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # What goes wrong here has to end here, whatever it is.
        try:
            os.close(read)
            # Imports, compiled kernels and thread pools come with the first call.
            TASKS[task](replace(size, N=200, E=1500, M=16, B=16, C=2))()
            call = TASKS[task](size)
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            before, start = status("VmRSS"), time.process_time()
            call()
            seconds, megabytes = time.process_time() - start, max(status("VmHWM") - before, 0.0)
            if seconds < 1:
                start = time.process_time()
                call()
                seconds = min(seconds, time.process_time() - start)
            with os.fdopen(write, "w") as file:
                json.dump((seconds, megabytes), file)
            os._exit(0)
        except BaseException as error:
            print(f"{task} at {size}: {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    if os.waitpid(child, 0)[1] or not text:
        return float("nan"), float("nan")
    seconds, megabytes = json.loads(text)
    return seconds, megabytes


def status(field: str) -> float:
    """A memory field of this process, MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1e3 for line in file if line.startswith(field))


def exponent(values: list[int], taken: list[float]) -> float:
    """Slope of the logarithms; NaN where something was too little to measure."""
    if not all(t > 0 for t in taken):
        return float("nan")
    return float(np.polyfit(np.log(values), np.log(taken), 1)[0])


def chart(path: str, results: list[tuple[Sweep, list[float], list[float]]]) -> None:
    """Time above memory, a column for each size that varies."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    letters = list(dict.fromkeys(sweep[1] for sweep, _, _ in results))
    figure, axes = pyplot.subplots(2, len(letters), figsize=(2.9 * len(letters), 5.4), squeeze=False, sharey="row")
    colours = {task: f"C{k}" for k, task in enumerate(TASKS)}
    for (task, letter, values, *_), seconds, megabytes in results:
        column = letters.index(letter)
        for row, taken in enumerate((seconds, megabytes)):
            axes[row, column].loglog(values, taken, "o-", color=colours[task], label=task, markersize=4, linewidth=1.2)
            axes[row, column].set_xlabel(letter)
    for row, label in enumerate(("CPU seconds", "MB")):
        axes[row, 0].set_ylabel(label)
    for axis in axes.ravel():
        axis.grid(True, which="major", linewidth=0.4)
        axis.minorticks_off()
        ticks = sorted({v for (_, letter, values, *_), _, _ in results if letter == axis.get_xlabel() for v in values})
        axis.set_xticks(ticks[:: max(1, len(ticks) // 4)])
        axis.set_xticklabels([f"{t / 1000:g}k" if t >= 1000 else str(t) for t in axis.get_xticks()], fontsize=7)
    handles = {
        label: line for axis in axes.ravel() for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=len(handles), frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path)


def main() -> None:
    """Print the table, draw the chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS))
    parser.add_argument("--plot", metavar="FILE", help="draw the chart into this .png or .svg")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: list[tuple[Sweep, list[float], list[float]]] = []
    print("| task | varies | over | CPU s | MB | exponent of time (expected) | of memory (expected) |")
    print("|---|---|---|---|---|---|---|")
    for sweep in QUICK if options.quick else SWEEPS:
        task, letter, values, base, of_time, of_memory = sweep
        if task not in options.tasks:
            continue
        found = [measured(task, replace(base, **{letter: value})) for value in values]
        seconds, megabytes = ([f[k] for f in found] for k in range(2))
        results.append((sweep, seconds, megabytes))
        shown = []
        for taken, expected in ((seconds, of_time), (megabytes, of_memory)):
            b = exponent(values, taken)
            shown.append(f"{b:.2f} ({expected:g})" + (" **above**" if b > expected + TOLERATED else ""))
        ends = f"{seconds[0]:.3g} to {seconds[-1]:.3g} | {megabytes[0]:.0f} to {megabytes[-1]:.0f}"
        print(f"| {task} | {letter} | {values[0]} to {values[-1]} | {ends} | {' | '.join(shown)} |", flush=True)
    if options.plot:
        chart(options.plot, results)


if __name__ == "__main__":
    main()
