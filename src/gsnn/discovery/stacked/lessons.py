"""Known edges that are hidden to learn from, and the features of pairs of the graph without them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsnn.base.arrays import BoolArray, IntArray
from gsnn.base.errors import DataError
from gsnn.discovery.hiding import hideable_edges, holes, mask_edges
from gsnn.discovery.stacked.features import Feature, score_features, stack, structural_features
from gsnn.discovery.stacked.learners import sample_alike
from gsnn.edges.capture import Criterion, isolated
from gsnn.edges.gradient.inferer import GradientEdgeInferer
from gsnn.edges.magnitude import MagnitudeEdgeInferer
from gsnn.edges.pairs import PriorEdges, ScoredPairs
from gsnn.graph import Graph
from gsnn.graph.checks import EDGE_TYPES, Edge

# Share of the known edges hidden at a time, how often, and how many other pairs are shown beside them.
FRACTION, REPEATS, OTHERS = 0.1, 8, 2000

# Samples per pass through a model.
BATCH = 256
# Scores of the gradient inferer that features are made of.
FIRST_ORDER = ("regressed", "normalised", "explained")

S = TypeVar("S", GradientEdgeInferer, MagnitudeEdgeInferer)


@dataclass(frozen=True)
class Lesson:
    """Known edges hidden for a classifier to learn from.

    Attributes:
        graph: The graph without them.
        hidden: The hidden edges that still carry a signal.
        seed: For what is trained or drawn on the graph.
        rows: (K,) pairs to learn from, i * N + j.
        label: (K,) True for the hidden ones.
    """

    graph: Graph
    hidden: list[Edge]
    seed: int
    rows: IntArray
    label: BoolArray


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
        enough: Stop after two times or more once so many edges were hidden; None: never.

    Returns:
        A lesson for each time; none if fewer than two edges can be hidden, or no hidden edge carries a signal.
    """
    if len(hideable_edges(graph).rows) < 2:
        return []
    n, free = prior.N, np.flatnonzero(prior.candidates())
    others_rng = np.random.default_rng((seed, 1))
    taught: list[Lesson] = []
    for stream in np.random.SeedSequence(seed).spawn(repeats):
        if enough is not None and len(taught) >= 2 and sum(len(lesson.hidden) for lesson in taught) >= enough:
            break
        rng = np.random.default_rng(stream)
        try:
            masking = mask_edges(graph, fraction, rng)
        except DataError:  # without any one of the edges an output is out of reach of every input
            return []
        pairs = [prior.index[s] * n + prior.index[t] for s, t in masking.testable]
        # Where hiding could not avoid a hole, it must not tell hidden pairs from others.
        childless, orphaned = holes(masking.graph.edge_index_dict[EDGE_TYPES[0]].numpy(), n)
        kind = (2 * childless[:, None] + orphaned[None, :]).ravel()
        true, others = sample_alike(np.sort(np.array(pairs, dtype=np.int64)), free, kind, n_others, others_rng)
        rows, label = np.concatenate([true, others]), np.arange(len(true) + len(others)) < len(true)
        taught.append(Lesson(masking.graph, masking.testable, int(rng.integers(2**31)), rows, label))
    return taught if any(lesson.label.any() for lesson in taught) else []


def shown_rows(graph: Graph, rows: IntArray, n: int, scores: Iterable[Feature]) -> dict[str, npt.NDArray[Any]]:
    """The features of some pairs of a masked graph, for a classifier.

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
    score_names, of_scores = stack(scores, rows, n)
    return {"names": np.array(names + score_names), "topology": topology, "scores": of_scores}


def predictions(model: nn.Module, x: Tensor) -> Tensor:
    """(M, O) float64 predictions of a model in eval mode, for (M, I) inputs."""
    with isolated(model) as device, torch.no_grad():
        dtype = next((p.dtype for p in model.parameters()), x.dtype)
        return torch.cat([model(part.to(device, dtype)).double().cpu() for part in x.split(BATCH)])


def column_matrix(scored: ScoredPairs, name: str) -> npt.NDArray[Any]:
    """A column of the scores of all pairs, (N, N)."""
    return scored.columns[name](np.arange(scored.score.size)).reshape(scored.score.shape)


class ModelScores:
    """The research score and the first-order scores of the pairs of a graph, by one model of it.

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
            direct: Further scores (N, N) by name, whose features come first.
        """
        free = PriorEdges(self._graph).candidates()
        for name, score in direct.items():
            yield from score_features(name, score, free)
        # One inferer at a time: each holds matrices of all pairs for each pair of blocks.
        yield from score_features("magnitude", self._fitted(MagnitudeEdgeInferer).score_matrix(layer_agg="mean0"), free)
        self._gradient = self._fitted(GradientEdgeInferer)
        for name in FIRST_ORDER:
            score = self._gradient.score_matrix(score=name, null_correction=False)
            yield from score_features(name, score, free)

    def explained(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The score 'explained' and the sign of all pairs, (N, N) each."""
        gradient = self._gradient or self._fitted(GradientEdgeInferer)
        scored = gradient.scored(score="explained", null_correction=False)
        return scored.score, column_matrix(scored, "sign")

    def _fitted(self, kind: type[S]) -> S:
        inferer = kind(self._model, self._graph, memory_budget=self._memory)
        with torch.inference_mode(False), torch.enable_grad():
            inferer.fit(self._batches, self._crit, verbose=False, **self._options)
        return inferer
