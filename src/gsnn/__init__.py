"""Graph structured neural networks: which edges are missing from my prior network?"""

from __future__ import annotations

from gsnn._version import __version__
from gsnn.base.lazy import lazy_names

# Name -> module, imported at first use: `import gsnn` and `gsnn --help` must not wait for torch.
_PUBLIC = {
    "DataError": "base.errors",
    "DirectedMagnitudeEdgeKGE": "edges",
    "FunctionEdgeInferer": "edges",
    "GSNN": "nn",
    "GSNNRegressor": "sklearn",
    "GradientEdgeInferer": "edges",
    "Graph": "graph",
    "GsnnError": "base.errors",
    "MagnitudeEdgeInferer": "edges",
    "MagnitudeEdgeKGE": "edges",
    "MagnitudeEdgeRegressor": "edges",
    "MissingExtraError": "base.errors",
    "RunError": "base.errors",
}

__all__ = [
    "GSNN",
    "DataError",
    "DirectedMagnitudeEdgeKGE",
    "FunctionEdgeInferer",
    "GSNNRegressor",
    "GradientEdgeInferer",
    "Graph",
    "GsnnError",
    "MagnitudeEdgeInferer",
    "MagnitudeEdgeKGE",
    "MagnitudeEdgeRegressor",
    "MissingExtraError",
    "RunError",
    "__version__",
]

__getattr__, __dir__ = lazy_names(__name__, _PUBLIC, __all__)
