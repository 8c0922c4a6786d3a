"""Known edges that are hidden to learn from, and what a model says of the pairs of a graph without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsnn.base.errors import DataError
from gsnn.discovery.hiding import hideable_edges, holes, mask_edges
from gsnn.discovery.stacked.features import Features, score_features
from gsnn.discovery.stacked.learners import sample_alike
from gsnn.edges.capture import Criterion
from gsnn.edges.gradient.inferer import GradientEdgeInferer
from gsnn.edges.magnitude import MagnitudeEdgeInferer
from gsnn.edges.pairs import PriorEdges
from gsnn.graph import Graph
from gsnn.graph.checks import EDGE_TYPES, Edge

# What is hidden at a time, how often, and how many other pairs are shown beside it.
FRACTION, REPEATS, OTHERS = 0.1, 8, 2000

__all__ = ["FRACTION", "OTHERS", "REPEATS", "Lesson", "free_pairs", "lessons", "model_features"]


@dataclass(frozen=True)
class Lesson:
    """Known edges hidden for a classifier to learn from.

    Attributes:
        graph: The graph without them.
        hidden: Those that still carry a signal.
        seed: For whatever is done with the graph.
        rows: (K,) pairs to learn from, i * N + j.
        label: (K,) True for the hidden ones.
    """

    graph: Graph
    hidden: list[Edge]
    seed: int
    rows: npt.NDArray[np.int64]
    label: npt.NDArray[np.bool_]


def free_pairs(prior: PriorEdges) -> npt.NDArray[np.int64]:
    """The pairs that are no known edges and not (i, i), as i * N + j."""
    return np.flatnonzero(~(prior.matrix() | np.eye(prior.N, dtype=bool)).ravel())


def lessons(graph: Graph, prior: PriorEdges, fraction: float, repeats: int, seed: int, n_others: int) -> list[Lesson]:
    """Hide known edges several times.

    Args:
        graph: The graph.
        prior: Its known edges.
        fraction: Share hidden each time, of the edges that can be (:func:`gsnn.discovery.mask_edges`).
        repeats: How often.
        seed: Fixes what is hidden and drawn.
        n_others: Other pairs beside the hidden ones, at most.

    Returns:
        A lesson for each time; none if fewer than two edges can be hidden, or none that is carries a signal.
    """
    if len(hideable_edges(graph).rows) < 2:
        return []
    n, free = prior.N, free_pairs(prior)
    chosen = np.random.default_rng((seed, 1))
    found = []
    for stream in np.random.SeedSequence(seed).spawn(repeats):
        rng = np.random.default_rng(stream)
        try:
            masking = mask_edges(graph, fraction, rng)
        except DataError:  # without any one of the edges an output is out of reach of every input
            return []
        pairs = [prior.index[s] * n + prior.index[t] for s, t in masking.testable]
        # Where hiding left a hole all the same, it must not tell hidden pairs from others.
        childless, orphaned = holes(masking.graph.edge_index_dict[EDGE_TYPES[0]].numpy(), n)
        kind = (2 * childless[:, None] + orphaned[None, :]).ravel()
        true, others = sample_alike(np.sort(np.array(pairs, dtype=np.int64)), free, kind, n_others, chosen)
        rows, label = np.concatenate([true, others]), np.arange(len(true) + len(others)) < len(true)
        found.append(Lesson(masking.graph, masking.testable, int(rng.integers(2**31)), rows, label))
    return found if any(lesson.label.any() for lesson in found) else []


def model_features(
    model: nn.Module,
    graph: Graph,
    batches: list[tuple[Tensor, Tensor]],
    direct: dict[str, npt.NDArray[np.float64]],
    crit: Criterion | None,
    device: torch.device | str,
    loss_reduction: str | None,
) -> tuple[Features, dict[str, npt.NDArray[Any]]]:
    """Features of the scores of a model.

    Args:
        model: A model of the graph.
        graph: The graph.
        batches: (x, y) to score it on.
        direct: (N, N) of further scores by name.
        crit: As for the ``fit`` of an inferer.
        device: As there.
        loss_reduction: As there.

    Returns:
        The features, and what a table shows: 'explained' (N, N) and 'sign' (N, N).
    """
    gradient = GradientEdgeInferer(model, graph)
    gradient.fit(batches, crit, device, verbose=False, loss_reduction=loss_reduction)
    magnitude = MagnitudeEdgeInferer(model, graph)
    magnitude.fit(batches, crit, device, verbose=False, loss_reduction=loss_reduction)
    scores = dict(direct)
    # 'explained' last: its table is kept for the signs.
    for name in ("regressed", "normalised", "explained"):
        scores[name] = gradient.score_matrix(score=name, null_correction=False)
    scores["magnitude"] = magnitude.score_matrix(layer_agg="mean0")
    known = PriorEdges(graph).matrix()
    explained = gradient.scored(score="explained", null_correction=False)
    sign = explained.columns["sign"](np.arange(known.size)).reshape(known.shape)
    return score_features(scores, known), {"explained": explained.score, "sign": sign}
