"""Every inferer and the laws it keeps; the conformance suite runs them all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from gsnn.discovery import (
    CombinedEdgeInferer,
    LearnedEdgeInferer,
    StabilityEdgeInferer,
    StackedEdgeInferer,
    StructureEdgeInferer,
)
from gsnn.discovery.learned import LearnedStructureEdgeInferer
from gsnn.edges import (
    EdgeInferer,
    EmbeddingEdgeInferer,
    GradientEdgeInferer,
    InputEdgeInferer,
    MagnitudeEdgeInferer,
    MagnitudeEdgeRegressor,
    MeasuredEdgeInferer,
    OutputEdgeInferer,
    RankEdgeInferer,
)
from gsnn.training import TrainConfig

LAWS = frozenset(
    {
        "batch_split",  # how samples are batched leaves no trace
        "loss_scale",  # scaling the loss changes no score
        "permutation",  # permuting the nodes permutes the scores
        "merge",  # merged statistics are those of the whole
        "idempotent",  # fitting twice is fitting once
        "isolation",  # the model is left as it was
        "dtype",  # float32 agrees with float64
        "planted",  # finds edges that are known to be missing
        "null",  # p-values are uniform under permutation
    }
)


@dataclass(frozen=True)
class Entry:
    """An inferer as the suite drives it.

    Attributes:
        name: Name of the case.
        make: (model, data) -> inferer.
        score: inferer -> (N, N).
        omits: Laws it cannot keep, each with the reason.
        tolerance: Agreement asked of float64 and of float32 models.
        finds: AUC asked of planted edges.
    """

    name: str
    make: Callable[..., EdgeInferer]
    score: Callable[[EdgeInferer], np.ndarray]
    omits: dict[str, str] = field(default_factory=dict)
    tolerance: tuple[float, float] = (1e-9, 1e-6)
    finds: float = 0.9

    def __post_init__(self) -> None:
        assert not set(self.omits) - LAWS


ENTRIES = [
    Entry(
        f"magnitude-{score}-{agg}",
        MagnitudeEdgeInferer,
        lambda inferer, score=score, agg=agg: inferer.score_matrix(score=score, layer_agg=agg),
        tolerance=(1e-9, 1e-6 if score == "corr" else 1e-4),
    )
    for score in ("corr", "partial")
    for agg in ("mean", "mean0", "max")
]

ENTRIES += [
    Entry(
        f"gradient-{score}-{agg}",
        GradientEdgeInferer,
        lambda inferer, score=score, agg=agg: inferer.score_matrix(score=score, layer_agg=agg),
        omits={"null": "only 'normalised' has a p-value; its calibration is checked in test_gradient.py"},
        # Regressing out activations that nearly repeat one another loses digits, as for 'partial'.
        tolerance=(1e-9, 3e-4 if score == "regressed" else 1e-6),
    )
    for score in ("regressed", "normalised", "explained")
    for agg in ("mean0", "rss")
]


ENTRIES += [
    Entry(
        f"rank-{method}-{'pooled' if pool else 'by-layer'}",
        lambda model, data, method=method, pool=pool: RankEdgeInferer(model, data, method=method, pool=pool),
        lambda inferer: inferer.score_matrix(),
        omits={"merge": "ranks need all samples at once", "null": "has no p-value"},
        # Ranks of float32 values: a rounding can swap neighbours.
        tolerance=(2e-6, 2e-3),
    )
    for method in ("spearman", "pearson")
    for pool in (True, False)
]

ENTRIES += [
    Entry(
        "measured",
        MeasuredEdgeInferer,
        lambda inferer: inferer.score_matrix(),
        omits={
            "batch_split": "only one function of that graph is measured, see test_measured.py",
            "isolation": "reads the model where a parent is not measured, see test_measured.py",
            "loss_scale": "takes no loss",
            "merge": "regressions on all samples at once",
            "null": "has no p-value",
            "planted": "its planted edges are between functions that are measured, see test_measured.py",
        },
        tolerance=(1e-9, 1e-4),
    )
]

_LEARNT = {
    "batch_split": "learnt by descent: each batch is a step",
    "permutation": "starts from seeded random numbers, one for each position",
    "merge": "learnt, not accumulated",
    "null": "has no p-value",
}

ENTRIES += [
    Entry(
        "regressor",
        MagnitudeEdgeRegressor,
        lambda inferer: inferer.score_matrix(),
        omits=_LEARNT,
        tolerance=(1e-4, 1e-3),
        finds=0.8,
    )
]

ENTRIES += [
    Entry(
        name,
        lambda model, data, directed=directed: EmbeddingEdgeInferer(
            model, data, directed=directed, n_epochs=30, embedding_dim=16, layer_agg="mean0"
        ),
        lambda inferer: inferer.score_matrix(),
        omits=_LEARNT | {"loss_scale": "holds for what is mined; a rounding can turn a random walk"},
        finds=0.8,
    )
    for name, directed in (("embedding", False), ("embedding-directed", True))
]


_HIDES = {
    "permutation": "which known edges are hidden follows from the seed and their positions",
    "merge": "learns from models trained again on all samples",
    "null": "has no p-value",
}

ENTRIES += [
    Entry(
        "stacked",
        lambda model, data: StackedEdgeInferer(
            model, data, TrainConfig(epochs=3, batch_size=64), fraction=0.2, repeats=2, n_trees=30
        ),
        lambda inferer: inferer.score_matrix(),
        # A rounding can move a split of a tree.
        omits=_HIDES | {"dtype": "features of float32 models differ in the last digits, and trees split between them"},
        tolerance=(1e-2, 1e-1),
        finds=0.8,
    ),
    Entry(
        "stability",
        lambda model, data: StabilityEdgeInferer(
            model, data, TrainConfig(epochs=4, batch_size=32, lr=1e-2), subsamples=4, rounds=1
        ),
        lambda inferer: inferer.score_matrix(),
        omits=_HIDES
        | {"permutation": "trains from weights and sums in the order of the nodes, whose last digits training spreads"},
        tolerance=(1e-2, 1e-1),
        finds=0.8,
    ),
    Entry(
        "combined",
        CombinedEdgeInferer,
        lambda inferer: inferer.score_matrix(),
        omits={name: reason for name, reason in _HIDES.items() if name != "merge"},
        tolerance=(1e-6, 1e-3),
        finds=0.8,
    ),
    Entry(
        "learned",
        LearnedEdgeInferer,
        lambda inferer: inferer.score_matrix(),
        omits={name: reason for name, reason in _HIDES.items() if name != "merge"}
        | {"dtype": "features of float32 models differ in the last digits, and trees split between them"},
        tolerance=(1e-2, 1e-1),
        finds=0.8,
    ),
    Entry(
        "learned structure",
        LearnedStructureEdgeInferer,
        lambda inferer: inferer.score_matrix(),
        omits=_HIDES
        | {
            "isolation": "never reads the model",
            "planted": "its planted edges are those of networks that repeat themselves, see test_stacked.py",
        },
    ),
    Entry(
        "structure",
        lambda model, data: StructureEdgeInferer(model, data, fraction=0.2),
        lambda inferer: inferer.score_matrix(),
        omits=_HIDES
        | {
            "isolation": "never reads the model; checked for the stacked one",
            "planted": "its planted edges are those of networks that repeat themselves, see test_stacked.py",
        },
    ),
]


_OTHER_KIND = {
    "planted": "those are edges between functions; test_boundary.py plants its own",
    "null": "checked in test_boundary.py",
}

ENTRIES += [
    Entry(
        f"{name}-{score}",
        kind,
        lambda inferer, score=score: inferer.score_matrix(score=score),
        omits=_OTHER_KIND,
    )
    for name, kind in (("input-edges", InputEdgeInferer), ("output-edges", OutputEdgeInferer))
    for score in kind.scores
]


def quickly(entries: Iterable[Entry], slow: Collection[str] = ()) -> list[Any]:
    """The entries as parameters of a test; one that trains models is left to the slow tests, as are others by name."""
    slow = {"stacked", "stability", *slow}
    return [pytest.param(entry, marks=[pytest.mark.slow] * (entry.name in slow)) for entry in entries]


def keeping(law: str) -> list[Entry]:
    assert law in LAWS
    return [entry for entry in ENTRIES if law not in entry.omits]
