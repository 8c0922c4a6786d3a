"""The import paths of the research code, so that existing notebooks find what they import.

One table says which old module offers which of today's objects. The modules do not exist as files: a finder at the
end of ``sys.meta_path`` makes them when, and only when, somebody imports one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

#: Old module -> {name it offers: today's module}.
OLD_MODULES: dict[str, dict[str, str]] = {
    "gsnn.models.GSNN": {"GSNN": "gsnn.nn"},
    "gsnn.simulate.simulate": {"simulate": "gsnn.simulation", "simulate_sde": "gsnn.simulation.research_sde"},
    "gsnn.simulate.nx2pyg": {"nx2pyg": "gsnn.graph.graph", "pyg2nx": "gsnn.graph.graph"},
    "gsnn.optim.MagnitudeEdgeInferer": {"MagnitudeEdgeInferer": "gsnn.edges"},
    "gsnn.optim.FunctionEdgeInferer": {"FunctionEdgeInferer": "gsnn.edges", "mrr": "gsnn.edges"},
    "gsnn.optim.MagnitudeEdgeRegressor": {
        "MagnitudeEdgeRegressor": "gsnn.edges",
        "MagnitudeEdgeInferer": "gsnn.edges",
    },
    "gsnn.optim.MagnitudeEdgeKGE": {"MagnitudeEdgeKGE": "gsnn.edges"},
}

_PACKAGES = {name.rpartition(".")[0] for name in OLD_MODULES}


class _ResearchFinder(MetaPathFinder, Loader):
    """Finds the old modules and, being their loader too, fills them from today's."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for an old name, None for any other, which leaves ordinary imports as they are."""
        if fullname in _PACKAGES:
            return ModuleSpec(fullname, self, is_package=True)
        if fullname in OLD_MODULES:
            return ModuleSpec(fullname, self)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make the empty module."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the very objects of today's modules under their old names."""
        for name, home in OLD_MODULES.get(module.__name__, {}).items():
            setattr(module, name, getattr(importlib.import_module(home), name))


def install() -> None:
    """Append the finder once; real modules always win because it comes last."""
    if not any(isinstance(finder, _ResearchFinder) for finder in sys.meta_path):
        sys.meta_path.append(_ResearchFinder())
