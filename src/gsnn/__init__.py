"""Graph structured neural networks: which edges are missing from my prior network?"""

from __future__ import annotations

import importlib

from gsnn._version import __version__

# Name -> module, imported at first use: `import gsnn` and `gsnn --help` must not wait for torch.
_PUBLIC = {
    "DataError": "gsnn.base.errors",
    "DirectedMagnitudeEdgeKGE": "gsnn.edges",
    "FunctionEdgeInferer": "gsnn.edges",
    "GSNN": "gsnn.nn",
    "GSNNRegressor": "gsnn.sklearn",
    "GradientEdgeInferer": "gsnn.edges",
    "Graph": "gsnn.graph",
    "GsnnError": "gsnn.base.errors",
    "MagnitudeEdgeInferer": "gsnn.edges",
    "MagnitudeEdgeKGE": "gsnn.edges",
    "MagnitudeEdgeRegressor": "gsnn.edges",
    "MissingExtraError": "gsnn.base.errors",
    "RunError": "gsnn.base.errors",
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


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'gsnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted(__all__)
