"""Edge inferers: which edges does the model miss?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsnn.base.lazy import lazy_names
from gsnn.edges.aliases import AliasGroups, alias_groups
from gsnn.edges.boundary import InputEdgeInferer, OutputEdgeInferer
from gsnn.edges.embedding.inferer import DirectedMagnitudeEdgeKGE, EmbeddingEdgeInferer, MagnitudeEdgeKGE
from gsnn.edges.gradient.inferer import GradientEdgeInferer
from gsnn.edges.inferer import EdgeInferer, EdgeScores, StreamingInferer
from gsnn.edges.magnitude import MagnitudeEdgeInferer
from gsnn.edges.measured import MeasuredEdgeInferer
from gsnn.edges.pairs import ScoredPairs
from gsnn.edges.rank import FunctionEdgeInferer, RankEdgeInferer
from gsnn.edges.regressor import MagnitudeEdgeRegressor
from gsnn.metrics.ranking import source_filtered_mrr as mrr

if TYPE_CHECKING:
    from gsnn.edges.regressor_callback import EdgeRegressorCallback

__all__ = [
    "AliasGroups",
    "DirectedMagnitudeEdgeKGE",
    "EdgeInferer",
    "EdgeRegressorCallback",
    "EdgeScores",
    "EmbeddingEdgeInferer",
    "FunctionEdgeInferer",
    "GradientEdgeInferer",
    "InputEdgeInferer",
    "MagnitudeEdgeInferer",
    "MagnitudeEdgeKGE",
    "MagnitudeEdgeRegressor",
    "MeasuredEdgeInferer",
    "OutputEdgeInferer",
    "RankEdgeInferer",
    "ScoredPairs",
    "StreamingInferer",
    "alias_groups",
    "mrr",
]

__getattr__, __dir__ = lazy_names(__name__, {"EdgeRegressorCallback": "regressor_callback"}, __all__)
