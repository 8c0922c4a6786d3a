"""Edges from the correlation of activation magnitudes with gradient magnitudes at adjacent blocks."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.special
import torch
from torch import Tensor, nn

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import check_option
from gsnn.base.memory import check_fits, matrix_dtype, memory_bytes
from gsnn.base.progress import track
from gsnn.base.torch_state import map_in_threads
from gsnn.edges.capture import Capture, Criterion, capture
from gsnn.edges.inferer import StreamingInferer, check_capture
from gsnn.edges.magnitude_null import PartialNull, PlainNull
from gsnn.edges.pair_correlations import PairCorrelations
from gsnn.edges.pairs import Column, ScoredPairs, checked_targets
from gsnn.edges.significance import Significance
from gsnn.edges.stats import (
    AGGREGATIONS,
    PairMoments,
    aggregate,
    fisher_z,
    least_p_value,
    max_upper_tail,
    skewed_score,
)

REDUCTIONS = ("l1", "l2")
SCORES = ("corr", "partial")
P_METHODS = ("calibrated", "uncorrected")

# Skewness of a correlation under permutation beyond which a few samples decide, and no p-value is given.
MOST_SKEWED = 4.0
# Factor of the skewness; set on log-normal magnitudes of 25 to 2,000 samples (benchmarks/null_pvalues.py).
SKEWNESS_MARGIN = 1.2
# Standard deviations up to which half a step of few-valued magnitudes does not count, and from which it counts in full.
_NO_STEP, _WHOLE_STEP = 1.5, 4.0
# So many samples that there is no least p-value.
_ENDLESS = 10**12

_LOWEST = 1e30
_CHUNK_BYTES = 2 * 2**20
# Of a pair when ranked: score, z and marks in single precision, and the memory to choose the best.
_PAIR_BYTES = 12


class MagnitudeEdgeInferer(StreamingInferer):
    r"""Correlates :math:`x_i = \|z_i^{n-1}\|` with :math:`y_j = \|\partial \ell / \partial z_j^n\|` over samples.

    Forward, activations flow from block n - 1 to block n; backward, credit flows from n to n - 1. Where the model
    lacks an edge i -> j, the activation of i at block n - 1 and the gradient of the loss at j in block n depend on
    each other. Each of the P = L - 1 adjacent pairs of blocks gives one correlation; they are aggregated.

    Statistics stream: :meth:`fit` calls :meth:`update` for every batch, and :meth:`merge` adds those of another
    process. Scores depend neither on how samples were batched nor on the scale of the loss.

    Args:
        model: A :class:`gsnn.nn.GSNN` of at least 2 blocks, compiled (``torch.compile``) or not.
        data: The prior graph it was built from, HeteroData-like; its function-function edges are the known ones.
        reduction: Norm over the channels of a node: ``'l1'`` or ``'l2'``.
        use_pre_norm: Read the tap before the norm; False reads the one after the nonlinearity, for the norms batch,
            groupbatch and none only.
        memory_budget: Bytes, or a text such as ``'4GB'``, beside the model; None for half of what is available. A
            quarter is for the magnitudes of samples, 8 P N bytes each in float32, half for sums of 8 P N (N + U)
            bytes, U the number of known parents. Sums above 1 GiB are made only once the samples outgrow their part,
            and are kept in a temporary file where they outgrow theirs. Up to 2,048 samples, in 128 MiB but at least
            256, are kept beside these for the null of the p-values. Scores take 12 N^2 bytes.
        targets: Keep sums only for edges into these, and score only these; None for all. q-values are then over the
            edges into these. :mod:`gsnn.edges.parallel` puts such parts together.

    Attributes:
        L: Number of blocks.
        n_pairs: P = L - 1.
        parents_by_target: For each target index the int64 array of its known parents' indices; never itself.
        memory_budget: In bytes.

    Example:
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(50, 1, generator=generator), torch.randn(50, 1, generator=generator)
        >>> inferer = MagnitudeEdgeInferer(GSNN.from_graph(graph, channels=2, layers=4), graph)
        >>> inferer.fit([(x, y)], verbose=False)
        50
        >>> list(inferer.evaluate().columns)[:6]
        ['src_func', 'dst_func', 'src_idx', 'dst_idx', 'corr', 'has_edge']
    """

    score_name = "corr"
    _alike = ("function_nodes", "L", "reduction", "use_pre_norm", "targets")

    def __init__(
        self,
        model: nn.Module,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        reduction: str = "l1",
        use_pre_norm: bool = True,
        *,
        memory_budget: int | float | str | None = None,
        targets: range | None = None,
    ) -> None:
        super().__init__(model, data)
        self.targets = checked_targets(targets, self.N)
        self.memory_budget = memory_bytes(memory_budget)
        check_fits(
            _PAIR_BYTES * self.N * len(self.targets),
            self.memory_budget,
            f"the scores of {self.N} nodes",
            "share the targets among processes",
        )
        check_option("reduction", reduction, REDUCTIONS)
        self._open(model, use_pre_norm)
        self.reduction = reduction
        self.reset_stats()

    @property
    def n(self) -> int:
        """Number of samples so far."""
        return 0 if self._moments is None else self._moments.n

    def _forget(self) -> None:
        self._moments: PairMoments | None = None

    def _read(self, x: Tensor, y: Tensor, crit: Criterion | None, **options: Any) -> None:  # noqa: ANN401
        self.add(capture(self._model, x, y, crit, where="pre" if self.use_pre_norm else "post", **options))

    def add(self, seen: Capture) -> None:
        """Add a batch that was captured elsewhere, so that several inferers can share one pass over the data.

        Args:
            seen: What :func:`gsnn.edges.capture.capture` gave for this model, at this inferer's tap.
        """
        check_capture(seen, self.L, self.N)
        x = torch.stack([seen.node_norms(v, self.reduction) for v in seen.activations[:-1]])
        y = torch.stack([seen.node_norms(v, self.reduction) for v in seen.gradients[1:]])
        if self._moments is None:
            dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
            self._moments = self._new_moments(dtype, x.device)
        self._moments.update(x.to(self._moments.device), y.to(self._moments.device))
        self._last = None

    def _new_moments(self, dtype: torch.dtype, device: torch.device | str) -> PairMoments:
        inside = (self.prior.pairs[1] >= self.targets.start) & (self.prior.pairs[1] < self.targets.stop)
        return PairMoments(
            self.n_pairs,
            self.N,
            dtype,
            device,
            condition_on=torch.from_numpy(np.unique(self.prior.pairs[0][inside])),
            memory_bytes=self.memory_budget,
            targets=self.targets,
        )

    def _take(self, other: Self) -> None:
        if other._moments is not None:
            if self._moments is None:
                self._moments = self._new_moments(other._moments.dtype, other._moments.device)
            self._moments.merge(other._moments)

    def evaluate(
        self,
        layer_agg: str = "mean",
        exclude_self: bool = True,
        score: str = "corr",
        ridge: float = 1e-8,
        *,
        p_method: str = "calibrated",
    ) -> pd.DataFrame:
        """One row per ordered pair, best score first, undefined last; equal scores in the order of the nodes.

        Args:
            layer_agg: Combines the P correlations: ``'mean'`` over the defined ones, ``'mean0'`` counting undefined
                ones as 0, or ``'max'``, the signed value of the largest absolute one.
            exclude_self: Leave out the pairs (i, i).
            score: ``'corr'``, or ``'partial'``: given the activations of the target's known parents.
            ridge: Added to the diagonal of the parents' covariance.
            p_method: ``'calibrated'``: the p-value of the aggregate under permutation of gradients against
                activations. ``'uncorrected'``: as if the aggregate were a single correlation; not a p-value unless
                P = 1, offered for comparison with published counts. Either tests association, not an edge.

        Returns:
            Columns src_func, dst_func (categoricals), src_idx, dst_idx, corr, has_edge, n_cond (``'partial'`` only),
            corr_a0_g1 .. corr_a{P-1}_g{P}, p_value, q_value. q is over the candidates: NaN for known edges and self
            pairs. Both are NaN where a few samples decide a correlation (skewness under permutation above 4).

        Raises:
            RuntimeError: If fewer than 3 samples were seen.
            ValueError: If an option is unknown.
        """
        scored = self.scored(layer_agg=layer_agg, score=score, ridge=ridge, p_method=p_method)
        return scored.table(scored.all_rows(exclude_self=exclude_self))

    def scored(
        self, *, layer_agg: str = "mean", score: str = "corr", ridge: float = 1e-8, p_method: str = "calibrated"
    ) -> ScoredPairs:
        """Scores and columns of all pairs; see :meth:`evaluate` for the options and errors."""
        key = _checked(layer_agg, score, ridge, p_method)
        return self._scored_once(key, lambda: self._score(*key))

    def score_matrix(self, **options: Any) -> FloatArray:  # noqa: ANN401
        """Only the scores, (N, N), without the work for p-values; see :meth:`evaluate` for options and errors."""
        key = _checked(**options)
        self._check_seen(3)
        ready = self._last is not None and self._last[0] == key
        scored = self.scored(**options) if ready else self._score(*key, alone=True)
        return scored.score.astype(np.float64)

    def _score(self, layer_agg: str, score: str, ridge: float, p_method: str, *, alone: bool = False) -> ScoredPairs:
        """Scores and columns; ``alone`` leaves out p- and q-values and the work for them."""
        moments = self._moments
        assert moments is not None
        pairs = PairCorrelations(moments, self.parents_by_target, ridge if score == "partial" else None)
        own, n_targets = slice(self.targets.start, self.targets.stop), len(self.targets)
        n_given = np.array([len(s) for s in self.parents_by_target])[own] * (score == "partial")
        df = (moments.n - 3) - n_given
        single = p_method == "uncorrected" or layer_agg == "max"
        null: PlainNull | PartialNull | None = None
        if p_method == "calibrated" and not alone and score == "partial":
            null = PartialNull(pairs, moments, self.parents_by_target[own], ridge, largest=single)
        elif p_method == "calibrated" and not alone:
            null = PlainNull(pairs, moments)
        dtype = matrix_dtype(self.N)
        result = np.empty((self.N, n_targets), dtype)
        z = result if alone else np.empty_like(result)
        chunk = max(1, _CHUNK_BYTES // (8 * self.n_pairs * n_targets))

        def score_rows(rows: slice) -> None:
            if single:
                r = pairs.block(rows)
                result[rows] = mean = aggregate(r, layer_agg)
            else:
                total, defined = pairs.total(rows)
                with np.errstate(invalid="ignore"):
                    mean = np.clip(total / defined, -1.0, 1.0)
                # Where all are defined, 'mean0' is the mean.
                result[rows] = total / self.n_pairs if layer_agg == "mean0" and defined.size > 1 else mean
            if alone:
                return
            # A correlation of -1 has a p-value; -inf stands for none.
            normal = fisher_z(mean, df)
            np.maximum(normal, -_LOWEST, out=normal)
            if null is not None and single:
                normal = _supported(normal, *null.largest(rows, r), moments.n)
            elif null is not None:
                variance, skewness, step = null.mean(rows)
                normal /= np.sqrt(variance)
                normal = _supported(normal, skewness, step, moments.n)
            z[rows] = normal

        blocks = [slice(start, min(start + chunk, self.N)) for start in range(0, self.N, chunk)]
        done = map(score_rows, blocks) if moments.put_off else map_in_threads(score_rows, blocks)
        for _ in track(blocks, "blocks of sources", show=None):
            next(done)
        columns: dict[str, Column] = {}
        if score == "partial":
            columns["n_cond"] = lambda rows: n_given[rows % n_targets]
        columns |= {f"corr_a{p}_g{p + 1}": pairs.column(p) for p in range(self.n_pairs)}

        def of_max(rows: IntArray) -> FloatArray:
            assert null is not None
            i, j = np.divmod(rows, n_targets)
            return max_upper_tail(z.ravel()[rows].astype(np.float64), *null.adjacent(i, j))

        if not alone:
            tail = of_max if null is not None and layer_agg == "max" else None
            significance = Significance(z, self.prior.candidates(self.targets), tail, none=z == -np.inf)
            columns |= {"p_value": significance.p_value, "q_value": significance.q_value}
        return ScoredPairs(self.prior, result, self.score_name, columns, self.targets.start)


def _checked(
    layer_agg: str = "mean", score: str = "corr", ridge: float = 1e-8, p_method: str = "calibrated"
) -> tuple[str, str, float, str]:
    """The options, once they are checked."""
    for name, value, options in (
        ("layer_agg", layer_agg, AGGREGATIONS),
        ("score", score, SCORES),
        ("p_method", p_method, P_METHODS),
    ):
        check_option(name, value, options)
    if not ridge >= 0:
        raise ValueError(f"ridge must be at least 0, got {ridge}")
    return layer_agg, score, ridge, p_method


def _supported(z: FloatArray, skewness: FloatArray, step: FloatArray, n: int) -> FloatArray:
    """Scores no larger than permuting n samples supports; -inf, for no p-value, where a few samples decide.

    The margin is for skewness that comes from few samples, with a longer tail than a gamma variable of this skewness.
    Half a step counts in full from ``_WHOLE_STEP`` on, where one step too few makes a p-value several times too small.
    Near .05 half of the steps are one too few and half one too many, so that the rate holds without the correction.
    """
    # A step is at most as large as the range over which it comes in, so that scores increase with z.
    reached = z - _NO_STEP
    reached *= 1 / (_WHOLE_STEP - _NO_STEP)
    np.clip(reached, 0.0, 1.0, out=reached)
    reached *= np.minimum(step, _WHOLE_STEP - _NO_STEP)
    np.subtract(z, reached, out=reached)
    score = skewed_score(reached, np.maximum(SKEWNESS_MARGIN * skewness, skewness), _ENDLESS)
    high = score > -scipy.special.ndtri(1.0 / n)
    if high.any():
        with np.errstate(divide="ignore"):
            score[high] = np.minimum(score[high], -scipy.special.ndtri(least_p_value(skewness[high], n)))
    beyond = skewness > MOST_SKEWED
    if beyond.any():
        score[beyond & ~np.isnan(z)] = -np.inf
    return score
