"""How well scores recover true edges: one set of definitions for every method.

Rules that hold throughout, because published figures differ silently in them: a higher score means "more likely an
edge"; an undefined (NaN) score ranks below every number, tied with the other undefined ones; a metric that is not
defined (no positives, no negatives) is NaN; ties are "realistic" unless said otherwise, so that a constant score gets
what chance gets.
"""

from __future__ import annotations

from gsnn.metrics._evaluate import EdgeMetrics, evaluate_edges
from gsnn.metrics._ranking import source_filtered_mrr, target_ranking
from gsnn.metrics._ranks import Ranks, edge_ranks
from gsnn.metrics._scores import (
    average_precision,
    collapse_groups,
    precision_at_k,
    recall_at_k,
    roc_auc,
)

__all__ = [
    "EdgeMetrics",
    "Ranks",
    "average_precision",
    "collapse_groups",
    "edge_ranks",
    "evaluate_edges",
    "precision_at_k",
    "recall_at_k",
    "roc_auc",
    "source_filtered_mrr",
    "target_ranking",
]
