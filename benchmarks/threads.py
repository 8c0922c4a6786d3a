"""One thread or all of them: a training step of small to large models, in turn, in one process.

    python benchmarks/threads.py

``gsnn.base.torch_state.WORTH_THREADS`` is where all threads begin to pay on a quiet machine. On a busy one they cost
many times the step, as each waits for the others, spinning; the load is printed, so that a run can be judged.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

import torch

from gsnn.base.torch_state import WORTH_THREADS
from gsnn.nn import GSNN

sys.path.insert(0, str(Path(__file__).resolve().parent))
from graphs import power_law_graph

SIZES = [(50, 144), (100, 400), (150, 700), (200, 1200), (300, 2000), (600, 5000), (1000, 10_600), (3000, 47_700)]
BATCH = 64


def main() -> None:
    """Print a row a size."""
    every = torch.get_num_threads()
    print(f"PyTorch {torch.__version__}, 1 and {every} threads, load {os.getloadavg()[0]:.1f} before\n")
    print("| N / E | products of a pass | one thread, ms | all, ms | all / one | chosen |\n|---|---|---|---|---|---|")
    for nodes, edges in SIZES:
        torch.manual_seed(0)
        index, names = power_law_graph(nodes, edges)
        model = GSNN(index, names, 8, 6, share_layers=False, norm="groupbatch", dropout=0.1)
        optimiser = torch.optim.AdamW(model.parameters(), fused=True)
        x = torch.randn(BATCH, model.I)

        def step(model: GSNN = model, optimiser: torch.optim.Optimizer = optimiser, x: torch.Tensor = x) -> float:
            start = time.perf_counter()
            optimiser.zero_grad()
            model(x).square().sum().backward()
            optimiser.step()
            return time.perf_counter() - start

        times: dict[int, list[float]] = {1: [], every: []}
        for turn in range(24):
            for threads, record in times.items():
                torch.set_num_threads(threads)
                step()
                if turn > 1:
                    record.append(step())
        torch.set_num_threads(every)
        one, all_ = (1e3 * statistics.median(record) for record in times.values())
        products = model.products * BATCH
        chosen = "one" if products < WORTH_THREADS else "all"
        print(
            f"| {nodes} / {edges} | {products:.1e} | {one:.2f} | {all_:.2f} | {all_ / one:.2f} | {chosen} |", flush=True
        )


if __name__ == "__main__":
    main()
