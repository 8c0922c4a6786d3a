"""Protocols that show whether a discovery can be believed.

:func:`evaluate_table` compares a table of edges with a truth, and with baselines that know the prior graph alone.
:func:`self_check` hides known edges and measures what a method finds on these data, with negative controls and the
precision to expect. :func:`audit` judges the known edges. :func:`refine` adds the best candidates round by round and
keeps those that help held-out samples.
"""

from __future__ import annotations

from gsnn.discovery.auditing import Audit, audit
from gsnn.discovery.baselines import PRIOR_BASELINES, prior_scores
from gsnn.discovery.evaluate import Evaluation, evaluate_table
from gsnn.discovery.hiding import Masking, mask_edges
from gsnn.discovery.learned import LearnedEdgeInferer, LearnedStructureEdgeInferer, learn
from gsnn.discovery.methods import DEFAULT_METHOD, METHODS, Method, of_function, register
from gsnn.discovery.refinement import Refinement, refine
from gsnn.discovery.repairs import repairs_table
from gsnn.discovery.selfcheck import SelfCheck, self_check
from gsnn.discovery.stability import StabilityEdgeInferer
from gsnn.discovery.stacked import CombinedEdgeInferer, StackedEdgeInferer, StructureEdgeInferer
from gsnn.io.truth import read_roles, read_truth

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "PRIOR_BASELINES",
    "Audit",
    "CombinedEdgeInferer",
    "Evaluation",
    "LearnedEdgeInferer",
    "LearnedStructureEdgeInferer",
    "Masking",
    "Method",
    "Refinement",
    "SelfCheck",
    "StabilityEdgeInferer",
    "StackedEdgeInferer",
    "StructureEdgeInferer",
    "audit",
    "evaluate_table",
    "learn",
    "mask_edges",
    "of_function",
    "prior_scores",
    "read_roles",
    "read_truth",
    "refine",
    "register",
    "repairs_table",
    "self_check",
]
