"""Graph structured neural networks: which edges are missing from my prior network?"""

from __future__ import annotations

from gsnn._version import __version__
from gsnn.base.lazy import lazy_names

# Name -> module, imported at first use: `import gsnn` and `gsnn --help` must not wait for torch.
_PUBLIC = {
    "CombinedEdgeInferer": "discovery",
    "DataError": "base.errors",
    "DirectedMagnitudeEdgeKGE": "edges",
    "EmbeddingEdgeInferer": "edges",
    "FunctionEdgeInferer": "edges",
    "GSNN": "nn",
    "GSNNRegressor": "sklearn",
    "GradientEdgeInferer": "edges",
    "Graph": "graph",
    "InputEdgeInferer": "edges",
    "LearnedEdgeInferer": "discovery",
    "LearnedStructureEdgeInferer": "discovery",
    "GsnnError": "base.errors",
    "MagnitudeEdgeInferer": "edges",
    "MagnitudeEdgeKGE": "edges",
    "MagnitudeEdgeRegressor": "edges",
    "MeasuredEdgeInferer": "edges",
    "MissingExtraError": "base.errors",
    "OutputEdgeInferer": "edges",
    "RankEdgeInferer": "edges",
    "RunError": "base.errors",
    "StabilityEdgeInferer": "discovery",
    "StackedEdgeInferer": "discovery",
    "StructureEdgeInferer": "discovery",
}

__all__ = [
    "GSNN",
    "CombinedEdgeInferer",
    "DataError",
    "DirectedMagnitudeEdgeKGE",
    "EmbeddingEdgeInferer",
    "FunctionEdgeInferer",
    "GSNNRegressor",
    "GradientEdgeInferer",
    "Graph",
    "GsnnError",
    "InputEdgeInferer",
    "LearnedEdgeInferer",
    "LearnedStructureEdgeInferer",
    "MagnitudeEdgeInferer",
    "MagnitudeEdgeKGE",
    "MagnitudeEdgeRegressor",
    "MeasuredEdgeInferer",
    "MissingExtraError",
    "OutputEdgeInferer",
    "RankEdgeInferer",
    "RunError",
    "StabilityEdgeInferer",
    "StackedEdgeInferer",
    "StructureEdgeInferer",
    "__version__",
]

__getattr__, __dir__ = lazy_names(__name__, _PUBLIC, __all__)
