"""Pictures with matplotlib, for notebooks and papers.

Every function takes ``ax`` and returns it. With ``ax`` nothing global is touched: pyplot is not even imported. Without
it a new figure is made through pyplot. The numbers drawn come from functions that can be called by themselves
(:mod:`gsnn.metrics`, :class:`gsnn.discovery.SelfCheck`); what was drawn can be read back from the axes.
"""

from __future__ import annotations

from gsnn.plot.fit import loss_curves, observed_predicted
from gsnn.plot.heat import heatmap
from gsnn.plot.networks import edge_neighbourhood, network, subnetwork
from gsnn.plot.recovery import expected_precision, self_check
from gsnn.plot.tables import method_agreement, precision_recall, roc, score_distributions

__all__ = [
    "edge_neighbourhood",
    "expected_precision",
    "heatmap",
    "loss_curves",
    "method_agreement",
    "network",
    "observed_predicted",
    "precision_recall",
    "roc",
    "score_distributions",
    "self_check",
    "subnetwork",
]
