"""What the learnt scorer would say without the data: the control of every ranking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gsnn.base.arrays import FloatArray
from gsnn.discovery.learned.features import graph_facts, opinion_features
from gsnn.discovery.learned.scorer import Scorer, best_judged
from gsnn.discovery.stacked.features import Feature, stack, structural_features
from gsnn.discovery.stacked.inferer import StructureEdgeInferer
from gsnn.edges.capture import Criterion


class LearnedStructureEdgeInferer(StructureEdgeInferer):
    """Boosted trees that were shown the same problems as those of ``learned``, but of each the topology alone.

    They see features of the graph, and what :class:`gsnn.discovery.StructureEdgeInferer` learns from hidden known edges
    of this network. So they know what networks have in common and how this one goes on, and nothing of the data.
    Whatever they rank high is a guess; what another method finds beyond them, the data have told.

    Args:
        model: Not used; any inferer takes one.
        data: The prior graph, with its inputs and outputs.
        seed: Fixes the hidden edges.
        scorer: What has learnt; None for the one that comes with the package.

    Attributes:
        function_nodes: The N names.
        N: Number of function nodes.
        edges: Set of the known edges as (source, target) names.

    Raises:
        ValueError: If an option is out of range.
    """

    def __init__(
        self,
        model: object,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        *,
        seed: int = 0,
        scorer: Scorer | None = None,
    ) -> None:
        super().__init__(model, data, seed=seed)
        self.scorer = Scorer.shipped("structure") if scorer is None else scorer

    def fit(
        self,
        dataloader: Iterable[Any],
        crit: Criterion | None = None,
        device: torch.device | str = "cpu",
        verbose: bool = True,
        *,
        loss_reduction: str | None = None,
    ) -> int:
        """Hide, learn, and judge all pairs; see :meth:`gsnn.discovery.StructureEdgeInferer.fit`."""
        n = super().fit(dataloader, crit, device, verbose, loss_reduction=loss_reduction)
        own = self._fitted()["structure"]
        self._found = {"structure": judged_by_structure(self._graph, own, self.prior.candidates(), self.scorer)}
        return n


def judged_by_structure(
    graph: Any,  # noqa: ANN401 - anything HeteroData-like
    own: FloatArray,
    candidates: npt.NDArray[np.bool_],
    scorer: Scorer,
) -> FloatArray:
    """(N, N) logarithms of odds by the topology alone; NaN for pairs that are no candidates.

    As for ``learned``, of a large network the best 500,000 by ``own`` are judged, the others stay behind them.

    Args:
        graph: The graph.
        own: (N, N) what known edges of this network teach; not NaN for a candidate.
        candidates: (N, N).
        scorer: What other networks have taught.
    """
    n = len(candidates)
    known = ~candidates
    np.fill_diagonal(known, False)

    def features() -> Iterator[Feature]:
        yield from graph_facts(graph, n)
        yield from structural_features(graph)
        yield from opinion_features("structure", own, known)

    return best_judged(own, candidates, lambda rows: scorer.log_odds(*stack(features(), rows, n)))
