"""A scorer that has learnt from many problems of known truth, and how to teach one of your own."""

from __future__ import annotations

from gsnn.discovery.learned.inferer import LearnedEdgeInferer
from gsnn.discovery.learned.learn import AnsweredPairs, learn
from gsnn.discovery.learned.scorer import Scorer
from gsnn.discovery.learned.structure import LearnedStructureEdgeInferer

__all__ = ["AnsweredPairs", "LearnedEdgeInferer", "LearnedStructureEdgeInferer", "Scorer", "learn"]
