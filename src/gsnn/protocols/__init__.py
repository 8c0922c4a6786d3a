"""Protocols: is a discovery worth believing? Evaluation against truth, self-check on hidden edges, refinement.

:func:`evaluate_table` measures a table of edges against a truth, beside baselines that know the prior graph alone.
:func:`self_check` hides known edges and tells what a method finds on these data, with negative controls and the
precision to expect. :func:`refine` adds the best candidates round by round and keeps what helps samples held out.
"""

from __future__ import annotations

from gsnn._hiding import Masking, mask_edges
from gsnn.protocols._baselines import (
    PRIOR_BASELINES,
    common_neighbours,
    degree_product,
    jaccard,
    prior_scores,
    random_scores,
    residual_correlation,
    spectral_embedding,
)
from gsnn.protocols._check_result import SelfCheck, attach_precision
from gsnn.protocols._evaluate import Evaluation, evaluate_table, read_roles, read_truth
from gsnn.protocols._intervals import auc_interval, degree_weights, least_visible, precision_interval
from gsnn.protocols._masking import permute_samples, rewire
from gsnn.protocols._refine import decide, refine
from gsnn.protocols._refine_result import Refinement
from gsnn.protocols._selfcheck import self_check

__all__ = [
    "PRIOR_BASELINES",
    "Evaluation",
    "Masking",
    "Refinement",
    "SelfCheck",
    "attach_precision",
    "auc_interval",
    "common_neighbours",
    "decide",
    "degree_product",
    "degree_weights",
    "evaluate_table",
    "jaccard",
    "least_visible",
    "mask_edges",
    "permute_samples",
    "precision_interval",
    "prior_scores",
    "random_scores",
    "read_roles",
    "read_truth",
    "refine",
    "residual_correlation",
    "rewire",
    "self_check",
    "spectral_embedding",
]
