"""Streaming moments, correlations, tests and corrections: pure functions, no model needed."""

from __future__ import annotations

from gsnn.edges.stats.correlations import (
    AGGREGATIONS,
    aggregate,
    at_largest,
    constant_columns,
    correlation,
    inverse_norms,
    layer_correlation,
    layer_thirds,
    partial_correlation,
    residual_directions,
)
from gsnn.edges.stats.moment_parts import load_moments, moments_state, narrowed_moments, pool_moments, pool_sketches
from gsnn.edges.stats.moments import PairMoments
from gsnn.edges.stats.order import descending, descending_key, largest
from gsnn.edges.stats.pvalues import (
    conditional_exceedance,
    false_discovery,
    fisher_z,
    least_p_value,
    max_upper_tail,
    mean_variance,
    skewed_score,
    skewness_of_sum,
    sum_skewness,
    upper_tail,
    variance_of_mean,
)
from gsnn.edges.stats.sample_sketch import SampleSketch

__all__ = [
    "AGGREGATIONS",
    "PairMoments",
    "SampleSketch",
    "aggregate",
    "at_largest",
    "conditional_exceedance",
    "constant_columns",
    "correlation",
    "descending",
    "descending_key",
    "false_discovery",
    "fisher_z",
    "inverse_norms",
    "largest",
    "layer_correlation",
    "layer_thirds",
    "least_p_value",
    "load_moments",
    "max_upper_tail",
    "mean_variance",
    "moments_state",
    "narrowed_moments",
    "partial_correlation",
    "pool_moments",
    "pool_sketches",
    "residual_directions",
    "skewed_score",
    "skewness_of_sum",
    "sum_skewness",
    "upper_tail",
    "variance_of_mean",
]
