"""Ask trained models: what a new condition or a knock-out does, why a model predicts what it does, what to do next.

Every question takes the models of a run, its members or a single one; intervals are of members, models that were
trained on bootstraps of the conditions. Also what several models or runs agree on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsnn.base.lazy import lazy_names

if TYPE_CHECKING:
    from gsnn.ask.comparison import Comparison, compare
    from gsnn.ask.ensemble import Ensemble
    from gsnn.ask.experiments import Design, design
    from gsnn.ask.explanation import Explanation, explain
    from gsnn.ask.knockouts import Knockouts, knockout
    from gsnn.ask.predictions import Predictions, predict

_LAZY = {
    "Comparison": "comparison",
    "Design": "experiments",
    "Ensemble": "ensemble",
    "Explanation": "explanation",
    "Knockouts": "knockouts",
    "Predictions": "predictions",
    "compare": "comparison",
    "design": "experiments",
    "explain": "explanation",
    "knockout": "knockouts",
    "predict": "predictions",
}

__all__ = [
    "Comparison",
    "Design",
    "Ensemble",
    "Explanation",
    "Knockouts",
    "Predictions",
    "compare",
    "design",
    "explain",
    "knockout",
    "predict",
]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
