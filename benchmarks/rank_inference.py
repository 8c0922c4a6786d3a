"""Time of the pooled rank correlation and of the embedding, each against what it may cost at most.

``benchmarks/inferers.py`` runs these with the rest; alone: ``python benchmarks/rank_inference.py``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from gsnn.edges import MagnitudeEdgeKGE
from gsnn.edges.embedding.walks import WalkGraph, random_walks
from gsnn.edges.rank_correlation import cross_correlation

OBSERVATIONS = 10_000


def best(call: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def ranks(n: int, repeats: int) -> dict[str, float]:
    """Spearman of N by N columns, against numpy's argsort of both sides plus one product, and against pandas."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, n, 1, OBSERVATIONS, generator=generator)
    plain_x, plain_y = x[:, 0].numpy().copy(), y[:, 0].numpy().copy()

    def floor() -> None:
        np.argsort(plain_x, axis=1)
        np.argsort(plain_y, axis=1)
        _ = plain_x @ plain_y.T

    # Copies stand outside the clock: the inferer hands over buffers it does not need again.
    ours = min(_timed_ranks(x.clone(), y.clone()) for _ in range(repeats))
    few = min(n, 100)
    frame = pd.DataFrame(np.concatenate([plain_x[:few], plain_y[:few]]).T)
    # pandas goes pair by pair; a hundredth of the pairs is enough to know its time.
    pandas = best(lambda: frame.corr("spearman"), 1) * (n / few) ** 2
    least = best(floor, repeats)
    return {"seconds": ours, "of_argsort_and_sgemm": ours / least, "faster_than_pandas": pandas / ours}


def _timed_ranks(x: torch.Tensor, y: torch.Tensor) -> float:
    start = time.perf_counter()
    cross_correlation(x, y, "spearman")
    return time.perf_counter() - start


def walks(n: int, repeats: int) -> dict[str, float]:
    """Walks on 5,000 nodes and 50,000 edges, 20 of 10 nodes from each, whatever ``n``."""
    generator = torch.Generator().manual_seed(0)
    heads, tails = torch.randint(5000, (2, 50_000), generator=generator)
    weights = torch.rand(50_000, generator=generator)
    return {
        "seconds": best(lambda: random_walks(WalkGraph.build(heads, tails, weights, 5000), 20, 10, generator), repeats)
    }


def embedding(n: int, repeats: int) -> dict[str, float]:
    """200 epochs at the size of setting B: 24 nodes, 79 edges, 25 negatives, whatever ``n``."""
    rng = np.random.default_rng(0)
    nodes, known, mined = 24, 17, 62
    cells = rng.permutation([i * nodes + j for i in range(nodes) for j in range(nodes) if i != j])
    i, j = np.divmod(cells, nodes)
    order = np.arange(len(cells))
    names = [f"f{k}" for k in range(nodes)]
    table = pd.DataFrame({"src_idx": i, "dst_idx": j, "corr": np.linspace(0.9, -0.9, len(cells))})
    table["has_edge"] = order < known
    table["q_value"] = np.where(order < known + mined, 0.0, 1.0)
    inferer = SimpleNamespace(
        N=nodes,
        n=1984,
        function_nodes=names,
        edges=[(names[a], names[b]) for a, b in zip(i[:known], j[:known], strict=True)],
        evaluate=lambda **_: table,
    )
    kge = MagnitudeEdgeKGE(inferer, embedding_dim=32, n_negatives=25, walk_alpha=2.0, lr=0.1, top_k_per_target=0)
    seconds = best(lambda: kge.fit(n_epochs=200, verbose=False), 1)
    return {"seconds": seconds, "pairs": float(kge.n_pairs)}


if __name__ == "__main__":
    for case in (ranks, walks, embedding):
        print(case.__name__, json.dumps({k: round(v, 3) for k, v in case(1000, 3).items()}), flush=True)
