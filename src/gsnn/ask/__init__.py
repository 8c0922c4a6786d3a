"""Ask trained models: what a new condition will do, and what several models agree on.

Intervals are of members, models that were trained on bootstraps of the conditions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsnn.base.lazy import lazy_names

if TYPE_CHECKING:
    from gsnn.ask.comparison import Comparison, compare
    from gsnn.ask.ensemble import Ensemble
    from gsnn.ask.predictions import Predictions, predict

_LAZY = {
    "Comparison": "comparison",
    "Ensemble": "ensemble",
    "Predictions": "predictions",
    "compare": "comparison",
    "predict": "predictions",
}

__all__ = ["Comparison", "Ensemble", "Predictions", "compare", "predict"]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
