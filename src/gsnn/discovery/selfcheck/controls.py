"""The two controls of a self-check: a rewired graph and permuted samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from gsnn.base.arrays import IntArray
from gsnn.data import PerturbationData
from gsnn.discovery.hiding import Reach
from gsnn.graph import Graph
from gsnn.graph.kinds import FUNCTION_EDGES, edge_type


def rewire(
    graph: Graph,
    seed: int | np.random.Generator = 0,
    swaps_per_edge: int = 10,
    *,
    kind: str = FUNCTION_EDGES,
) -> Graph:
    """A graph with the same degrees of every node, and otherwise random edges of one kind.

    Two edges a -> b and c -> d become a -> d and c -> b, unless that would make a self-edge or a second edge of the
    same ends (Maslov and Sneppen, 2002); signs and weights stay with their source. Edges of other kinds stay.
    Every output that an input reached is still reached: a stretch of swaps that cuts one off is undone.

    Args:
        graph: The graph.
        seed: Seed or generator.
        swaps_per_edge: Attempted swaps for each edge.
        kind: The kind of the edges.

    Returns:
        The rewired graph. Little changes where degrees leave little freedom.

    Example:
        >>> edges = [("x", "a"), ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "y")]
        >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b", "c", "d"], output_nodes=["y"])
        >>> rewire(graph, seed=0).E == graph.E
        True
    """
    rng = np.random.default_rng(seed)
    reach = Reach(graph, kind)
    index = graph.edge_index_dict
    edges = index[edge_type(kind)].numpy().copy()
    n_edges = edges.shape[1]
    if n_edges < 2:
        return graph
    before = reach.outputs(edges)
    attempts, stretch = swaps_per_edge * n_edges, max(1, n_edges // 4)
    done = 0
    while done < attempts:
        trial = _swapped(edges, min(stretch, attempts - done), rng, loops=kind != FUNCTION_EDGES)
        done += stretch
        if (reach.outputs(trial) == before).all():
            edges = trial
        else:
            # Shorter stretches are less likely to cut an output off.
            stretch = max(1, stretch // 2)
    rewired = {**index, edge_type(kind): edges}
    return Graph(rewired, graph.node_names_dict, graph.edge_weight_dict, graph.edge_sign_dict)


def _swapped(edges: IntArray, attempts: int, rng: np.random.Generator, *, loops: bool) -> IntArray:
    """The edges after some attempted swaps of targets; ``loops``: whether equal numbers may be joined."""
    source, target = edges[0].tolist(), edges[1].tolist()
    present = set(zip(source, target, strict=True))
    for i, j in rng.integers(0, len(source), size=(attempts, 2)).tolist():
        a, b, c, d = source[i], target[i], source[j], target[j]
        if (not loops and (a == d or c == b)) or (a, d) in present or (c, b) in present:
            continue
        present -= {(a, b), (c, d)}
        present |= {(a, d), (c, b)}
        target[i], target[j] = d, b
    return np.array([source, target], dtype=np.int64)


def permute_samples(data: PerturbationData, seed: int | np.random.Generator = 0) -> PerturbationData:
    """The same data with the rows of responses in random order against the treatments.

    Args:
        data: The data.
        seed: Seed or generator.

    Returns:
        Data in which treatments say nothing about responses.
    """
    order = np.random.default_rng(seed).permutation(len(data))
    outputs = pd.DataFrame(data.outputs.to_numpy()[order], columns=data.outputs.columns, index=data.outputs.index)
    return replace(data, outputs=outputs)
