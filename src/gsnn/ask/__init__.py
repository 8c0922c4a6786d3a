"""Ask a trained model: what a knock-out does, why it predicts what it does, which experiment to do next.

Every question takes a sequence of models that were trained on the same data, the members of an ensemble or a single
one; intervals are of the members.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsnn.base.lazy import lazy_names

if TYPE_CHECKING:
    from gsnn.ask.experiments import Design, design
    from gsnn.ask.explanation import Explanation, explain
    from gsnn.ask.knockouts import Knockouts, knockout

_LAZY = {
    "Design": "experiments",
    "Explanation": "explanation",
    "Knockouts": "knockouts",
    "design": "experiments",
    "explain": "explanation",
    "knockout": "knockouts",
}

__all__ = ["Design", "Explanation", "Knockouts", "design", "explain", "knockout"]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
