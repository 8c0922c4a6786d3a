"""How well scores recover true edges: one set of definitions for every method.

Rules that hold throughout, because published figures differ silently in them: a higher score means "more likely an
edge"; an undefined (NaN) score ranks below every number, tied with the other undefined ones; a metric that is not
defined (no positives, no negatives) is NaN; ties are "realistic" unless said otherwise, so that a constant score gets
what chance gets. Candidates in one alias group (:func:`gsnn.edges.alias_groups`) predict the same thing as far as the
data can tell: :func:`group_metrics` counts such a group once, and :func:`near_hits` counts hits beside a true edge.
"""

from __future__ import annotations

from gsnn.metrics.evaluate import EdgeMetrics, evaluate_edges
from gsnn.metrics.groups import GroupMetrics, group_metrics
from gsnn.metrics.ranking import filtered_target_ranking, target_ranking
from gsnn.metrics.ranks import Ranks, edge_ranks
from gsnn.metrics.scores import average_precision, precision_at_k, recall_at_k, roc_auc

__all__ = [
    "EdgeMetrics",
    "GroupMetrics",
    "Ranks",
    "average_precision",
    "edge_ranks",
    "evaluate_edges",
    "filtered_target_ranking",
    "group_metrics",
    "precision_at_k",
    "recall_at_k",
    "roc_auc",
    "target_ranking",
]
