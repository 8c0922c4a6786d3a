"""Streaming moments, correlations, tests and corrections: pure functions, no model needed."""

from __future__ import annotations

from gsnn.stats._correlation import (
    AGGREGATIONS,
    aggregate,
    constant_columns,
    correlation,
    inverse_norms,
    layer_correlation,
    partial_correlation,
)
from gsnn.stats._moments import PairMoments
from gsnn.stats._order import descending, largest
from gsnn.stats._pvalues import (
    conditional_exceedance,
    false_discovery,
    fisher_z,
    max_upper_tail,
    mean_variance,
    upper_tail,
)

__all__ = [
    "AGGREGATIONS",
    "PairMoments",
    "aggregate",
    "conditional_exceedance",
    "constant_columns",
    "correlation",
    "descending",
    "false_discovery",
    "fisher_z",
    "inverse_norms",
    "largest",
    "layer_correlation",
    "max_upper_tail",
    "mean_variance",
    "partial_correlation",
    "upper_tail",
]
