"""Known edges that are hidden to learn from, and what a model says of the pairs of a graph without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsnn.base.errors import DataError
from gsnn.discovery.hiding import hideable_edges, holes, mask_edges
from gsnn.discovery.stacked.features import Feature, score_features, stack, structural_features
from gsnn.discovery.stacked.learners import sample_alike
from gsnn.edges.capture import Criterion
from gsnn.edges.gradient.inferer import GradientEdgeInferer
from gsnn.edges.magnitude import MagnitudeEdgeInferer
from gsnn.edges.pairs import PriorEdges
from gsnn.graph import Graph
from gsnn.graph.checks import EDGE_TYPES, Edge

# What is hidden at a time, how often, and how many other pairs are shown beside it.
FRACTION, REPEATS, OTHERS = 0.1, 8, 2000

S = TypeVar("S", GradientEdgeInferer, MagnitudeEdgeInferer)


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
    return np.flatnonzero(prior.candidates().ravel())


def lessons(
    graph: Graph,
    prior: PriorEdges,
    fraction: float,
    repeats: int,
    seed: int,
    n_others: int,
    enough: int | None = None,
) -> list[Lesson]:
    """Hide known edges several times.

    Args:
        graph: The graph.
        prior: Its known edges.
        fraction: Share hidden each time, of the edges that can be (:func:`gsnn.discovery.mask_edges`).
        repeats: How often.
        seed: Fixes what is hidden and drawn.
        n_others: Other pairs beside the hidden ones, at most.
        enough: Stop at two times or more once so many edges were hidden; None: never.

    Returns:
        A lesson for each time; none if fewer than two edges can be hidden, or none that is carries a signal.
    """
    if len(hideable_edges(graph).rows) < 2:
        return []
    n, free = prior.N, free_pairs(prior)
    chosen = np.random.default_rng((seed, 1))
    found: list[Lesson] = []
    for stream in np.random.SeedSequence(seed).spawn(repeats):
        if enough is not None and len(found) >= 2 and sum(len(lesson.hidden) for lesson in found) >= enough:
            break
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


def shown_rows(
    graph: Graph, rows: npt.NDArray[np.int64], n: int, scores: Iterator[Feature]
) -> dict[str, npt.NDArray[Any]]:
    """What a classifier sees of some pairs of a masked graph.

    Args:
        graph: The graph.
        rows: (K,) pairs, i * N + j.
        n: N.
        scores: Features of the scores of a model of the graph.

    Returns:
        ``names`` of all features, those of the topology first; and of the pairs ``topology`` (K, F) and ``scores``
        (K, G).
    """
    names, topology = stack(structural_features(graph), rows, n)
    further, of_scores = stack(scores, rows, n)
    return {"names": np.array(names + further), "topology": topology, "scores": of_scores}


class ModelScores:
    """What the research scores and ours say of the pairs of a graph, by one model of it.

    Args:
        model: The model.
        graph: Its graph.
        batches: (x, y) to score it on.
        crit: As for the ``fit`` of an inferer.
        device: As there.
        loss_reduction: As there.
        memory_budget: As for the inferers.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        batches: list[tuple[Tensor, Tensor]],
        crit: Criterion | None,
        device: torch.device | str = "cpu",
        loss_reduction: str | None = None,
        memory_budget: int | None = None,
    ) -> None:
        self._model, self._graph, self._memory = model, graph, memory_budget
        self._batches, self._crit = batches, crit
        self._options: dict[str, Any] = {"device": device, "loss_reduction": loss_reduction}
        self._gradient: GradientEdgeInferer | None = None

    def features(self, direct: Mapping[str, npt.NDArray[np.float64]]) -> Iterator[Feature]:
        """Features of all pairs, one after the other.

        Args:
            direct: (N, N) of further scores by name, that come first.
        """
        known = PriorEdges(self._graph).matrix()
        for name, score in direct.items():
            yield from score_features(name, score, known)
        # One inferer at a time: either holds matrices of all pairs for each pair of blocks.
        yield from score_features(
            "magnitude", self._fitted(MagnitudeEdgeInferer).score_matrix(layer_agg="mean0"), known
        )
        self._gradient = self._fitted(GradientEdgeInferer)
        for name in ("regressed", "normalised", "explained"):
            score = self._gradient.score_matrix(score=name, null_correction=False)
            yield from score_features(name, score, known)

    def explained(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The score 'explained' and the sign of all pairs, (N, N) each."""
        gradient = self._gradient or self._fitted(GradientEdgeInferer)
        scored = gradient.scored(score="explained", null_correction=False)
        return scored.score, scored.columns["sign"](np.arange(scored.score.size)).reshape(scored.score.shape)

    def _fitted(self, kind: type[S]) -> S:
        inferer = kind(self._model, self._graph, memory_budget=self._memory)
        with torch.inference_mode(False), torch.enable_grad():
            inferer.fit(self._batches, self._crit, verbose=False, **self._options)
        return inferer
