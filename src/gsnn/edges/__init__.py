"""Edge inferers: which function-function edges does the model miss?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gsnn.edges._aliases import AliasGroups, alias_groups
from gsnn.edges._contract import EdgeInferer
from gsnn.edges._embedding import DirectedMagnitudeEdgeKGE, MagnitudeEdgeKGE
from gsnn.edges._function import FunctionEdgeInferer
from gsnn.edges._gradient import GradientEdgeInferer
from gsnn.edges._magnitude import MagnitudeEdgeInferer
from gsnn.edges._regressor import MagnitudeEdgeRegressor
from gsnn.edges._stacked import StackedEdgeInferer, StructureEdgeInferer
from gsnn.edges._streaming import StreamingInferer
from gsnn.edges._table import ScoredPairs
from gsnn.metrics import source_filtered_mrr as mrr


@dataclass(frozen=True)
class Method:
    """A way to rank missing edges, as the command line offers it.

    Attributes:
        inferer: The class.
        options: What its ``evaluate`` and ``top_edges`` are called with.
        summary: One line on what it does.
        by_default: Whether a protocol takes it when no method is named; not if it trains models of its own, or needs
            an extra.
    """

    inferer: type[EdgeInferer]
    options: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    by_default: bool = True


INFERERS: Mapping[str, Method] = {
    "gradient": Method(
        GradientEdgeInferer,
        {"score": "regressed", "layer_agg": "mean0"},
        "first-order effect of the edge on the loss, given what the target already receives",
    ),
    "gradient-explained": Method(
        GradientEdgeInferer,
        {"score": "explained", "layer_agg": "rss"},
        "share of the target's gradient that the source's activation explains",
    ),
    "magnitude": Method(
        MagnitudeEdgeInferer,
        {"layer_agg": "mean0"},
        "correlation of activation with gradient magnitudes at adjacent blocks",
    ),
    "magnitude-partial": Method(
        MagnitudeEdgeInferer,
        {"layer_agg": "mean0", "score": "partial"},
        "the same, given the known parents of the target",
    ),
    "stacked": Method(
        StackedEdgeInferer,
        {"score": "stacked"},
        "classifiers that learn from hidden known edges, on the graph and the scores of the others; trains again",
        by_default=False,
    ),
    "structure": Method(
        StructureEdgeInferer,
        {},
        "the same classifiers on the graph alone, without the data: the control of 'stacked'",
        by_default=False,
    ),
}

# What ranks edges if nothing else is said: the best of one training over the families of benchmarks/recovery.py.
DEFAULT_METHOD = "gradient-explained"

__all__ = [
    "DEFAULT_METHOD",
    "INFERERS",
    "AliasGroups",
    "DirectedMagnitudeEdgeKGE",
    "EdgeInferer",
    "FunctionEdgeInferer",
    "GradientEdgeInferer",
    "MagnitudeEdgeInferer",
    "MagnitudeEdgeKGE",
    "MagnitudeEdgeRegressor",
    "Method",
    "ScoredPairs",
    "StackedEdgeInferer",
    "StreamingInferer",
    "StructureEdgeInferer",
    "alias_groups",
    "mrr",
]
