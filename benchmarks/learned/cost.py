"""What `learned` takes on large networks: seconds of each part, and the peak of the memory.

    python benchmarks/learned/cost.py [--nodes 300 1000 3000] [--threads 1]

Each size runs in a process of its own, on random graphs of ten edges a function and an untrained model of 6 blocks and
3 channels, with 512 random samples. An untrained model costs what a trained one does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from graphs import power_law_graph
from gsnn.discovery import LearnedEdgeInferer
from gsnn.graph import Graph
from gsnn.nn import GSNN

EDGES, SAMPLES, LAYERS, CHANNELS = 10, 512, 6, 3


def measured(n: int) -> dict[str, float]:
    """Seconds and GiB of one size."""
    graph = Graph(*power_law_graph(n, EDGES * n, seed=0))
    torch.manual_seed(0)
    model = GSNN.from_graph(graph, channels=CHANNELS, layers=LAYERS)
    x = torch.randn(SAMPLES, graph.I)
    y = torch.randn(SAMPLES, graph.O)
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], object]) -> None:
        start, cpu = time.perf_counter(), time.process_time()
        call()
        seconds[f"{name}, wall s"], seconds[f"{name}, CPU s"] = time.perf_counter() - start, time.process_time() - cpu
        seconds[f"peak after {name}, GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    inferer = LearnedEdgeInferer(model, graph)
    timed("fit", lambda: inferer.fit(list(zip(x.split(256), y.split(256), strict=True)), verbose=False))
    timed("best 1000", lambda: inferer.top_edges(1000))
    timed("control", inferer.beside)
    return seconds


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[300, 1000, 3000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        torch.set_num_threads(arguments.threads)
        print(json.dumps(measured(arguments.one)))
        return
    for n in arguments.nodes:
        command = [sys.executable, __file__, "--one", str(n), "--threads", str(arguments.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"{n:>6} functions: " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
