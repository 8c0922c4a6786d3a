"""Random numbers by name: the draws for an edge do not depend on which other edges there are.

Two models that differ by an edge then start from the same numbers wherever both have a weight, so that differences
after training are due to the edge. The numbers are a hash of (seed, block, map, source, target, copy, channel); only
the seed is drawn from a generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gsnn.base.splitmix import STEP, Hashes, mixed
from gsnn.nn.layout import Layout


class KeyedDraws:
    """Uniform numbers for the weights of a model, each a function of the edge's name, the channel, the block and map.

    Args:
        layout: Nodes and edges. Parallel edges and copies differ by their order; an added self-edge differs from one
            of the data.
        seed: Fixes the numbers.

    Example:
        >>> from gsnn.nn.layout import build_layout
        >>> names = {"input": ["x"], "function": ["f"], "output": ["y"]}
        >>> layout = build_layout({("input", "to", "function"): torch.tensor([[0], [0]])}, names)
        >>> edge, channel = torch.tensor([0, 1]), torch.tensor([0, 0])
        >>> u = KeyedDraws(layout, seed=1).uniform(edge, channel, block=0, which=0)
        >>> bool((u > 0).all() and (u < 1).all() and u[0] != u[1])
        True
    """

    def __init__(self, layout: Layout, seed: int) -> None:
        self._seed = seed
        hashes = _hashes([name for kind in ("function", "input", "output") for name in layout.names[kind]])
        source, target = hashes[layout.edge_index.numpy()]
        # Not symmetric: an edge and its reverse get different keys.
        keys = mixed(source) ^ mixed(mixed(target))
        added = np.arange(layout.n_edges) >= layout.n_edges - layout.counts[3]
        keys[added] = mixed(keys[added])
        self._keys = mixed(keys + _occurrence(keys))

    def uniform(self, edge: Tensor, channel: Tensor, block: int, which: int) -> Tensor:
        """A number for each weight of a map.

        Args:
            edge: int64 (nnz,) the edge of each weight.
            channel: int64 (nnz,) its channel, counted from the first one of its function.
            block: Number of the block.
            which: Number of the map in its block.

        Returns:
            float64 (nnz,), in the open interval (0, 1).
        """
        width = int(channel.max()) + 1 if channel.numel() else 0
        entropy = np.random.SeedSequence((self._seed, block, which)).generate_state(1, np.uint64)
        lanes = mixed(entropy + np.arange(width, dtype=np.uint64) * np.uint64(STEP))
        bits = mixed(self._keys[edge.numpy()] ^ lanes[channel.numpy()])
        bits >>= np.uint64(12)
        drawn = bits.astype(np.float64)
        drawn += 0.5
        drawn *= 2.0**-52
        return torch.from_numpy(drawn)


def _hashes(names: Sequence[str]) -> Hashes:
    """A hash of each name, the same in every process."""
    digests = (hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _occurrence(keys: Hashes) -> Hashes:
    """The number of equal keys before each one."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    first = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(keys) else order
    place = np.arange(len(keys)) - np.repeat(first, np.diff([*first, len(keys)]))
    count = np.empty(len(keys), dtype=np.uint64)
    count[order] = place
    return count
