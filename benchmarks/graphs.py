"""Seeded random graphs for the benchmarks: power-law degrees at an exact size."""

from __future__ import annotations

import numpy as np
import torch

EdgeIndexDict = dict[tuple[str, str, str], torch.Tensor]
NodeNamesDict = dict[str, list[str]]


def power_law_weights(n: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Draw node weights whose tail falls as ``k ** -exponent``, in random order, summing to 1."""
    ranks = np.arange(1, n + 1, dtype=np.float64) ** (-1.0 / (exponent - 1.0))
    rng.shuffle(ranks)
    return ranks / ranks.sum()


def power_law_graph(
    n_functions: int, n_edges: int, *, n_terminals: int | None = None, exponent: float = 2.5, seed: int = 0
) -> tuple[EdgeIndexDict, NodeNamesDict]:
    """Build a directed graph with power-law in- and out-degrees and no duplicated edge.

    Args:
        n_functions: number of function nodes N.
        n_edges: number of edges of every type, the N self-edges that the model adds included.
        n_terminals: number of inputs, and of outputs; default a tenth of the functions, at least 2.
        exponent: of the degree distribution (2 to 3 in measured regulatory and protein networks).
        seed: seed of the generator.

    Returns:
        ``(edge_index_dict, node_names_dict)`` as :class:`gsnn.nn.GSNN` takes them.

    Raises:
        ValueError: if ``n_edges`` is too small for the self-edges and one edge per input and output.
    """
    terminals = max(2, n_functions // 10) if n_terminals is None else n_terminals
    rng = np.random.default_rng(seed)
    n_inner = n_edges - n_functions - 2 * terminals
    if n_inner < 1:
        raise ValueError(f"n_edges={n_edges} leaves no function edges beside self-edges and terminals; raise it")
    out_weight = power_law_weights(n_functions, exponent, rng)
    in_weight = power_law_weights(n_functions, exponent, rng)
    pairs = np.empty(0, dtype=np.int64)
    while len(pairs) < n_inner:
        src = rng.choice(n_functions, size=2 * n_inner, p=out_weight)
        dst = rng.choice(n_functions, size=2 * n_inner, p=in_weight)
        fresh = src[src != dst] * n_functions + dst[src != dst]
        pairs = np.unique(np.concatenate([pairs, fresh]))
    pairs = rng.permutation(pairs)[:n_inner]
    ends = torch.from_numpy(np.stack([pairs // n_functions, pairs % n_functions]))
    terminal = torch.arange(terminals)
    heads = torch.from_numpy(rng.choice(n_functions, size=terminals, replace=terminals > n_functions))
    tails = torch.from_numpy(rng.choice(n_functions, size=terminals, replace=terminals > n_functions))
    edge_index_dict = {
        ("input", "to", "function"): torch.stack([terminal, heads]),
        ("function", "to", "function"): ends,
        ("function", "to", "output"): torch.stack([tails, terminal]),
    }
    node_names_dict = {
        "input": [f"in{i}" for i in range(terminals)],
        "function": [f"f{i}" for i in range(n_functions)],
        "output": [f"o{i}" for i in range(terminals)],
    }
    return edge_index_dict, node_names_dict
