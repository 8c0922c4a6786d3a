"""Does hiding known edges leave a hole that a ranking can read, without any data?

    python benchmarks/masking.py                        # ExtLiver, LiverDREAM and a teacher's topology, 20 draws each
    python benchmarks/masking.py --draws 3 --graphs extliver

A hidden edge can leave its target without any parent, or its source without any child. Other pairs rarely are like
that, so whoever looks for such nodes finds hidden edges, and learns nothing of missing ones. For each graph: the share
of targets without a parent (sources without a child) among hidden edges and among the pairs that they are compared
with, and what the inferer that knows the graph alone makes of it: the median rank, among all candidates, of the hidden
edges that left a hole and of the others, and the AUC of the hidden edges against the pairs they are compared with.
"Hidden edge by edge" draws from all edges on a path, as self-checks did before.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from gsnn.datasets import load_extliver, load_liverdream
from gsnn.discovery import StructureEdgeInferer, mask_edges
from gsnn.discovery.hiding import live_nodes
from gsnn.graph import Graph
from gsnn.metrics.auc import place
from teachers import build_graph, topology


def teacher() -> Graph:
    """The topology of a teacher of the recovery benchmark."""
    found = topology("l1000:SignaLink3")
    return build_graph(found.inputs, found.functions, found.graph.edges, found.readouts)


GRAPHS: dict[str, Callable[[], Graph]] = {
    "extliver": lambda: load_extliver().graph,
    "liverdream": lambda: load_liverdream().graph,
    "teacher": teacher,
}


def holes(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """Which functions have no function as child, and which none as parent: (N,) each."""
    edges = graph.edge_index_dict["function", "to", "function"].numpy()
    edges = edges[:, edges[0] != edges[1]]
    out, into = (np.bincount(edges[side], minlength=graph.N) == 0 for side in (0, 1))
    return out, into


def draw(graph: Graph, seed: int, fraction: float) -> dict[str, object]:
    """One draw: shares of holes, and ranks by the structure alone."""
    masking = mask_edges(graph, fraction, seed)
    masked = masking.graph
    index = {name: i for i, name in enumerate(graph.functions)}
    hidden = np.array([(index[s], index[t]) for s, t in masking.testable]).T
    every = graph.edge_index_dict["function", "to", "function"].numpy()
    unknown = ~np.eye(graph.N, dtype=bool)
    unknown[every[0], every[1]] = False
    above, below = live_nodes(masked)
    others = unknown & above[:, None] & below[None, :]
    childless, orphaned = holes(masked)
    inferer = StructureEdgeInferer(None, masked, seed=seed)
    inferer.fit([(torch.zeros(2, graph.I), torch.zeros(2, graph.O))], verbose=False)
    scores = inferer.score_matrix()
    share = place(scores, hidden, unknown).share_below
    rank = 1 + unknown.sum() * (1 - share)
    hole = orphaned[hidden[1]] | childless[hidden[0]]
    source, target = np.nonzero(others)
    return {
        "n": hidden.shape[1],
        "orphaned": orphaned[hidden[1]],
        "childless": childless[hidden[0]],
        "orphaned others": orphaned[target].mean(),
        "childless others": childless[source].mean(),
        "rank": rank,
        "hole": hole,
        "auc": place(scores, hidden, others).auc,
    }


def summary(name: str, graph: Graph, draws: int, fraction: float) -> dict[str, object]:
    """One row of the table."""
    found = [draw(graph, seed, fraction) for seed in range(draws)]
    rank, hole = (np.concatenate([each[key] for each in found]) for key in ("rank", "hole"))

    def median(which: np.ndarray) -> float:
        return float(np.median(rank[which])) if which.any() else float("nan")

    return {
        "graph": name,
        "functions": graph.N,
        "hidden a draw": np.mean([each["n"] for each in found]),
        "orphaned": np.concatenate([each["orphaned"] for each in found]).mean(),
        "of other pairs": np.mean([each["orphaned others"] for each in found]),
        "childless": np.concatenate([each["childless"] for each in found]).mean(),
        "of other pairs ": np.mean([each["childless others"] for each in found]),
        "rank, hole": median(hole),
        "rank, none": median(~hole),
        "AUC": np.mean([each["auc"] for each in found]),
    }


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS), choices=list(GRAPHS))
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--fraction", type=float, default=0.15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    rows = [summary(name, GRAPHS[name](), arguments.draws, arguments.fraction) for name in arguments.graphs]
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
