"""Time and memory of alias groups against the size of the graph, and of the columns they give to tables.

    python benchmarks/aliases.py            # all sizes, about a minute
    python benchmarks/aliases.py --quick

Memory is the peak of what numpy and Python allocate during the call, the graph itself not counted. A fitted exponent b
means time ~ N^b at ten edges a function and N/10 inputs and outputs, where the work is E (I + O) / 64 word operations:
the order expected is 2 for 'reach', times the number of distinct distances for 'hops'.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from graphs import power_law_graph
from gsnn.edges import AliasGroups, alias_groups
from gsnn.graph import EDGE_TYPES, Graph


def measured(call: Callable[[], Any], repeats: int = 3) -> tuple[Any, float, float]:
    """Result, best seconds of some runs, and peak MB of one more."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, min(seconds), peak / 1e6


def wired(n: int, edges: np.ndarray, terminals: int) -> Graph:
    """Functions wired as given, with terminals spread evenly over them."""
    at = torch.arange(terminals)
    spread = torch.from_numpy(np.linspace(0, n - 1, terminals).astype(np.int64))
    index = dict(
        zip(EDGE_TYPES, (torch.from_numpy(edges), torch.stack([at, spread]), torch.stack([spread, at])), strict=True)
    )
    names = {
        kind: [f"{kind}{i}" for i in range(k)]
        for kind, k in zip(("input", "function", "output"), (terminals, n, terminals), strict=True)
    }
    return Graph(index, names)


def row(label: str, graph: Graph) -> dict[str, float]:
    """Measure one graph by both profiles and print a line for each."""
    seconds = {}
    for name, options in {"reach": ("reach", None), "hops, L=6": ("hops", 6), "hops": ("hops", None)}.items():
        groups: AliasGroups
        groups, seconds[name], peak = measured(lambda options=options: alias_groups(graph, *options))
        print(
            f"| {label} | {graph.N} / {graph.E} / {graph.I} | {name} | {seconds[name]:.3f} | {peak:.0f} "
            f"| {groups.n_groups} | {groups.share_aliased:.3f} | {groups.largest_share:.4f} |"
        )
    return seconds


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    quick = parser.parse_args().quick
    sizes = [500, 1000, 2000] if quick else [1000, 2000, 5000, 10_000, 20_000]
    print("| graph | N / E / I = O | alias_by | s | peak MB | groups | share aliased | share of the largest |")
    print("|---|---|---|---|---|---|---|---|")
    seconds = [row("power law", Graph(*power_law_graph(n, 10 * n))) for n in sizes]
    n = sizes[-2]
    chain = np.stack([np.arange(n - 1), np.arange(1, n)])
    row("chain", wired(n, chain, n // 20))
    row("ring", wired(n, np.concatenate([chain, [[n - 1], [0]]], axis=1), n // 20))
    for name in seconds[0]:
        exponent = np.polyfit(np.log(sizes), np.log([s[name] for s in seconds]), 1)[0]
        print(f"fitted exponent of time in N, {name}: {exponent:.2f}")

    n = 1000 if quick else 3000
    groups = alias_groups(Graph(*power_law_graph(n, 10 * n)), "hops", 6)
    pairs = np.random.default_rng(0).permutation(n * n)
    for label, chosen in (("10,000 rows", pairs[:10_000]), (f"all {n * n} rows, ranked", pairs)):
        table = pd.DataFrame(dict(zip(("src_idx", "dst_idx"), np.divmod(chosen.astype(np.int32), n), strict=True)))
        _, taken, peak = measured(lambda table=table: groups.attach(table))
        print(f"columns of {label}, N={n}: {taken:.3f} s, {peak:.0f} MB")
    _, taken, peak = measured(lambda: groups.matrix())
    print(f"matrix() at N={n}: {taken:.3f} s, {peak:.0f} MB")


if __name__ == "__main__":
    main()
