"""Edge inference by one process and by several: time, memory, and how far the scores differ.

``python benchmarks/processes.py [--nodes 1000] [--samples 2000] [--processes 1 2]`` starts them with torchrun on this
machine, one thread each, for samples and for targets shared. Times are of the slowest process: by the clock, and in
seconds of the CPU, which count where other programs keep the machine busy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from gsnn import GSNN, GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.edges.parallel import fit, processes, top_edges
from gsnn.graph import Graph

KINDS = {"magnitude": (MagnitudeEdgeInferer, {"layer_agg": "mean0"}), "gradient": (GradientEdgeInferer, {})}


def problem(n_nodes: int, n_samples: int) -> tuple[Graph, GSNN, list[tuple[torch.Tensor, torch.Tensor]]]:
    """A random graph of 5 edges a node, an untrained model and random samples."""
    rng = np.random.default_rng(0)
    names = [f"f{i}" for i in range(n_nodes)]
    source, target = rng.integers(0, n_nodes, size=(2, 5 * n_nodes))
    edges = {(names[i], names[j]) for i, j in zip(source, target, strict=True) if i != j}
    ends = n_nodes // 10
    edges |= {(f"x{i}", names[i]) for i in range(ends)} | {(names[-1 - i], f"y{i}") for i in range(ends)}
    graph = Graph.from_edges(
        sorted(edges),
        input_nodes=[f"x{i}" for i in range(ends)],
        function_nodes=names,
        output_nodes=[f"y{i}" for i in range(ends)],
    )
    torch.manual_seed(0)
    model = GSNN.from_graph(graph, channels=4, layers=4)
    x, y = (torch.from_numpy(rng.normal(size=(n_samples, ends))).float() for _ in range(2))
    return graph, model, list(zip(x.split(128), y.split(128), strict=True))


def work(method: str, shard: str, n_nodes: int, n_samples: int, out: Path) -> None:
    """What one of the processes does."""
    torch.set_num_threads(1)
    graph, model, batches = problem(n_nodes, n_samples)
    kind, options = KINDS[method]
    with processes() as joined:
        inferer = kind(model, graph, **({"targets": joined.share(graph.N)} if shard == "targets" else {}))
        joined.barrier("starting")
        wall, cpu = time.perf_counter(), time.process_time()
        fit(inferer, batches, joined, shard=shard, verbose=False)
        read = time.perf_counter() - wall, time.process_time() - cpu
        table = top_edges(inferer, joined, 1000, **options)
        whole = time.perf_counter() - wall, time.process_time() - cpu
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        told = joined.gather((*read, *whole, memory))
        if table is not None:
            most = np.max(np.array(told), axis=0).tolist()
            scores = table.set_index(["src_idx", "dst_idx"])[inferer.score_name]
            out.write_text(json.dumps({"figures": most, "scores": [[*key, value] for key, value in scores.items()]}))


def main() -> None:
    """Start the processes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "SHARD", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        work(given.one[0], given.one[1], given.nodes, given.samples, Path(given.one[2]))
        return
    print("| method | processes, shared | read s (CPU) | to the top 1000 s (CPU) | MB a process | scores differ by |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for method in KINDS:
            alone: dict[tuple[int, int], float] = {}
            for n in given.processes:
                for shard in ("samples",) if n == 1 else ("samples", "targets"):
                    out = Path(folder) / "out.json"
                    command = [
                        sys.executable,
                        "-m",
                        "torch.distributed.run",
                        "--standalone",
                        "--nproc-per-node",
                        str(n),
                    ]
                    command += [__file__, "--nodes", str(given.nodes), "--samples", str(given.samples)]
                    threads = {"OMP_NUM_THREADS": "1"}
                    subprocess.run([*command, "--one", method, shard, str(out)], env=os.environ | threads, check=True)
                    found = json.loads(out.read_text())
                    scores = {(i, j): value for i, j, value in found["scores"]}
                    alone = alone or scores
                    off = max(abs(scores[key] - alone[key]) for key in scores.keys() & alone.keys())
                    read, read_cpu, whole, whole_cpu, memory = found["figures"]
                    what = f"{n}" if n == 1 else f"{n}, {shard}"
                    times = f"{read:.1f} ({read_cpu:.1f}) | {whole:.1f} ({whole_cpu:.1f})"
                    print(
                        f"| {method} | {what} | {times} | {memory:.0f} |"
                        f" {off:.0e} ({len(scores.keys() & alone.keys())} of 1000 in both) |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
