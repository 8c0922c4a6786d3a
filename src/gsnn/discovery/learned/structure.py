"""The control of every ranking: a scorer that has learnt from the topology of other problems alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gsnn.base.arrays import BoolArray, FloatArray
from gsnn.discovery.learned.features import graph_facts, opinion_features
from gsnn.discovery.learned.scorer import Scorer, best_judged
from gsnn.discovery.stacked.features import Feature, stack, structural_features
from gsnn.discovery.stacked.inferer import StructureEdgeInferer


class LearnedStructureEdgeInferer(StructureEdgeInferer):
    """Boosted trees that were shown the same problems as those of ``learned``, but only their topology.

    They see features of the graph, and what :class:`gsnn.discovery.StructureEdgeInferer` learns from hidden known edges
    of this network. So they know what networks have in common and how this one goes on, and nothing of the data. What
    they rank high is a guess; what another method finds beyond them comes from the data.

    Args:
        model: Not used; any inferer takes one.
        data: The prior graph, with its inputs and outputs.
        seed: Fixes the hidden edges.
        scorer: The trained scorer; None for the one that comes with the package.

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

    def _judged(self, own: FloatArray) -> FloatArray:
        return judged_by_structure(self._graph, own, self.prior.candidates(), self.scorer)


def judged_by_structure(
    graph: Any,  # noqa: ANN401 - anything HeteroData-like
    own: FloatArray,
    candidates: BoolArray,
    scorer: Scorer,
) -> FloatArray:
    """(N, N) logarithms of odds by the topology alone; NaN for pairs that are no candidates.

    As for ``learned``, of a large network only the best 500,000 by ``own`` are judged; the others stay behind them.

    Args:
        graph: The graph.
        own: (N, N), what known edges of this network teach; not NaN for a candidate.
        candidates: (N, N).
        scorer: A scorer taught by other networks.
    """
    n = len(candidates)

    def features() -> Iterator[Feature]:
        yield from graph_facts(graph, n)
        yield from structural_features(graph)
        yield from opinion_features("structure", own, candidates)

    return best_judged(own, candidates, lambda rows: scorer.log_odds(*stack(features(), rows, n)))
