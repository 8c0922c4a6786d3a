"""The registry of methods that rank missing edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gsnn.base.errors import DataError, unknown_option
from gsnn.discovery.stacked.inferer import StackedEdgeInferer, StructureEdgeInferer
from gsnn.edges.gradient.inferer import GradientEdgeInferer
from gsnn.edges.inferer import EdgeInferer
from gsnn.edges.magnitude import MagnitudeEdgeInferer


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


def method_names(method: str | Sequence[str]) -> list[str]:
    """Names of methods from a name, several, or a list with commas; each once, in order.

    Raises:
        DataError: If there is none, or no method of that name.

    Example:
        >>> method_names("gradient, magnitude")
        ['gradient', 'magnitude']
    """
    from gsnn.discovery.methods import INFERERS

    texts = [method] if isinstance(method, str) else method
    names = list(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))
    if not names:
        raise DataError(f"give at least one method: {', '.join(INFERERS)}")
    for name in names:
        if name not in INFERERS:
            raise DataError(str(unknown_option("method", name, INFERERS)))
    return names
