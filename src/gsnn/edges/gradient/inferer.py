"""Edges from the first-order effect that opening them would have on the loss."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import check_option
from gsnn.base.memory import check_fits, free_on, matrix_dtype, memory_bytes
from gsnn.base.progress import track
from gsnn.edges.capture import Capture, Criterion, captures
from gsnn.edges.gradient.blocks import Components, leading, pair_norms, principal_components
from gsnn.edges.gradient.null import Chance, combined, excess, node_sums, normal_scores, p_values
from gsnn.edges.gradient.regressed import Regressors, regressed_norms
from gsnn.edges.gradient.sign import along, orientation, references
from gsnn.edges.inferer import check_capture, check_unchanged
from gsnn.edges.pairs import Column, FloatMatrix, ScoredPairs, checked_targets, column_of, undefined_column
from gsnn.edges.significance import Significance, lazy_columns
from gsnn.edges.stats.moments import full_precision
from gsnn.edges.stored_inferer import StoredInferer

# Signs computed at a time.
_SIGNS = 1 << 12

SCORES = ("regressed", "normalised", "explained")
LAYER_AGGREGATIONS = ("mean0", "rss")
# Of 'explained': components of an activation, and the least standard deviation relative to the layer's largest.
N_EXPLAINING, EXPLAINING_FLOOR = 3, 1e-2


class GradientEdgeInferer(StoredInferer):
    r"""Scores an edge by how fast the loss would fall if it were opened with a small weight.

    Open an edge i -> j between blocks n - 1 and n with weights W (channels of i x channels of j): the loss changes by
    :math:`M \langle W, G_n(i, j) \rangle` to first order, with

    .. math:: G_n(i, j) = \frac1M \sum_b z_i^{n-1}(b) \otimes g_j^n(b)

    of the activation z of i and the gradient g of the loss at j. Both are deviations from their means over the samples,
    since the bias of the target already does what the mean of a message would. (With the means the scores are the same
    on one benchmark and slightly worse on the other.)

    Scores (each within [0, 1] for a pair of blocks; see :meth:`evaluate`):

    - ``'regressed'``: z_i and g_j are first regressed on the activations at block n - 1 of j's known parents and of j
      itself, which the model already uses; then as ``'normalised'``. 0 for known edges.
    - ``'normalised'``: the Frobenius norm of G over the root mean squares of z_i and g_j.
    - ``'explained'``: the root of the share of g_j's mean square explained by the three leading principal components
      of i's activation after norm and nonlinearity.

    Such a score is never negative, and by chance alone it is larger where more pairs of blocks are defined, nodes have
    more directions or a regression leaves fewer degrees of freedom. These follow from the graph: permuted samples would
    seem to find edges. Unless ``null_correction=False``, the chance level (the median when the gradients of the samples
    are permuted) is therefore subtracted from every score: 0 is chance or undefined, below 0 less than chance. The best
    pairs hardly change places. Pairs near chance lose what the graph alone gave them, and so do, with few samples
    (several dozen), targets with many parents.

    The samples themselves are kept, not their N C x N C products: in memory up to a quarter of ``memory_budget``, then
    in a temporary file, so results are exact and N is not bounded by N^2 C^2. One sample takes 12 N C L bytes in
    float32; a few thousand are plenty. Scores are computed in blocks of targets within another quarter of the budget.

    Every edge also gets a sign. Channels have arbitrary signs, so a node is oriented by the measured node nearest to it
    in the prior graph, an input upstream or else an output downstream: up is where its activation moves as that node
    rises, along known signs, unknown ones counting as positive. The sign is that of minus the derivative of the loss
    for an edge that carries the oriented signal of i into the orientation of j: 1 activating, -1 inhibiting, 0 where
    a node has no orientation.

    ``'normalised'`` has a p-value: the probability of a sum of squared scores at least as large (however ``layer_agg``
    combines the pairs of blocks) when gradients are permuted against activations, the same way at every pair. It tests
    association, not an edge. The other two scores have none (NaN): the variation of the residual activations with every
    target's regressors is not modelled closely enough.

    Args:
        model: A :class:`gsnn.nn.GSNN` of at least 2 blocks, compiled (``torch.compile``) or not.
        data: The prior graph it was built from, HeteroData-like; its function-function edges are the known ones.
        use_pre_norm: Read activations and gradients before the norm; False reads them after the nonlinearity, for the
            norms batch, groupbatch and none only.
        keep_post: Whether to keep what ``'explained'`` needs; False saves a third of the memory and half of the time
            of :meth:`update`.
        memory_budget: Bytes, or a text such as ``'2GB'``, beside the model; None for half of what is available. A
            quarter is for samples, a quarter for blocks of targets, half for the scores of all pairs of nodes, which
            take (4 P + 17) N^2 bytes in single precision.
        targets: Score only edges into these, and keep only their gradients; None for all. q-values are then over the
            edges into these. :mod:`gsnn.edges.parallel` puts such parts together.

    Attributes:
        L: Number of blocks.
        n_pairs: P = L - 1.
        parents_by_target: For each target index the int64 array of its known parents' indices; never itself.

    Raises:
        RuntimeError: If the model has fewer than 2 blocks.
        ValueError: If the post tap is read after another norm, the budget is no number of bytes, or data and model
            disagree.
        TypeError: If the model has no taps or ``data`` is no graph.

    Example:
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(50, 1, generator=generator), torch.randn(50, 1, generator=generator)
        >>> inferer = GradientEdgeInferer(GSNN.from_graph(graph, channels=2, layers=4), graph)
        >>> inferer.fit([(x, y)], verbose=False)
        50
        >>> list(inferer.evaluate().columns)[4:7]
        ['score', 'has_edge', 'sign']
    """

    default_score: ClassVar[str] = "regressed"
    _alike = ("function_nodes", "L", "use_pre_norm", "keep_post", "targets")

    def __init__(
        self,
        model: nn.Module,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        use_pre_norm: bool = True,
        *,
        keep_post: bool = True,
        memory_budget: int | float | str | None = None,
        targets: range | None = None,
    ) -> None:
        super().__init__(model, data)
        self.targets = checked_targets(targets, self.N)
        gsnn = self._open(model, use_pre_norm)
        self.keep_post = keep_post
        self.memory_budget = memory_bytes(memory_budget)
        check_fits(
            2 * (4 * self.n_pairs + 17) * self.N * len(self.targets),
            self.memory_budget,
            f"the scores of {self.N} nodes at {self.n_pairs} pairs of blocks, twice over for samples and blocks,",
            "use a model of fewer layers",
        )
        self._describe(gsnn, data)
        self.reset_stats()

    def _forget(self) -> None:
        super()._forget()
        self._device = torch.device("cpu")

    def _sizes(self) -> list[int]:
        channels, own = len(self._channel_node), self._own_channels()
        post = [channels] * self.n_pairs if self._separate_post else []
        return [channels] * self.L + [own.stop - own.start] * self.n_pairs + post + list(self._shape)

    def _own_channels(self) -> slice:
        """The channels of the targets, which are contiguous."""
        start, stop = np.searchsorted(self._channel_node.numpy(), [self.targets.start, self.targets.stop]).tolist()
        return slice(start, stop)

    @property
    def _separate_post(self) -> bool:
        """Whether activations after the nonlinearity are kept beside those at the tap."""
        return self.use_pre_norm and self.keep_post

    def _read(self, x: Tensor, y: Tensor, crit: Criterion | None, **options: Any) -> None:  # noqa: ANN401
        where = ("pre", "post") if self._separate_post else ("pre" if self.use_pre_norm else "post",)
        seen = captures(self._model, x, y, crit, where=where, **options)
        self.add(seen[0], x, y, seen[1] if self._separate_post else None)

    def add(self, seen: Capture, x: Tensor, y: Tensor, post: Capture | None = None) -> None:
        """Add a batch that was captured elsewhere, so that several inferers can share one pass over the data.

        Args:
            seen: What :func:`gsnn.edges.capture.capture` gave for this model, at this inferer's tap.
            x: (B, I) inputs of the batch.
            y: (B, O) its targets, NaN where missing.
            post: What capture gave at the post tap; needed with ``keep_post``, unless that is this inferer's tap.

        Raises:
            ValueError: If a capture does not fit this model, or ``post`` is missing.
        """
        if self._separate_post and post is None:
            raise ValueError("post is missing: pass the capture at the post tap, or build with keep_post=False")
        for each in (seen, post):
            if each is not None:
                check_capture(each, self.L, self.N)
        own = self._own_channels()
        parts = [*seen.activations, *(g[own] for g in seen.gradients[1:])]
        if self._separate_post and post is not None:
            parts += post.activations[:-1]
        self._device = seen.activations[0].device
        self._append([*parts, x.T, y.T], seen.activations[0].dtype)

    def evaluate(
        self,
        layer_agg: str | None = None,
        exclude_self: bool = True,
        score: str | None = None,
        ridge: float = 1e-6,
        *,
        rank_tolerance: float = 0.0,
        null_correction: bool = True,
    ) -> pd.DataFrame:
        """One row per ordered pair, best score first; equal scores in the order of the nodes.

        Args:
            layer_agg: Combines the P scores: ``'mean0'``, their mean, or ``'rss'``, the root of the sum of their
                squares; an undefined one counts as 0. None: ``'rss'`` for ``'explained'``, else ``'mean0'``.
            exclude_self: Leave out the pairs (i, i).
            score: ``'regressed'`` (what None means), ``'normalised'`` or ``'explained'``.
            ridge: Of the regression, in units of a node's variance.
            rank_tolerance: Principal components of a node below this share of its largest standard deviation are left
                out, which is faster and changes the score of a pair by about twice this at most (``'normalised'``).
            null_correction: Subtract the chance level; False for the scores as defined, which are never negative.

        Returns:
            Columns src_func, dst_func (categoricals), src_idx, dst_idx, score, has_edge, sign (1, -1 or 0),
            score_a0_g1 .. score_a{P-1}_g{P} (never corrected; NaN where undefined: nothing varies, or the regression
            leaves nothing), p_value and q_value (NaN but for ``'normalised'``; q is over the candidates, so NaN for
            known edges and self pairs).

        Raises:
            RuntimeError: If fewer than 3 samples were seen.
            ValueError: If an option is unknown, or ``'explained'`` is asked for without ``keep_post``.
        """
        return super().evaluate(
            exclude_self=exclude_self,
            layer_agg=layer_agg,
            score=score or self.default_score,
            ridge=ridge,
            rank_tolerance=rank_tolerance,
            null_correction=null_correction,
        )

    def add_samples_of(self, other: GradientEdgeInferer, samples: IntArray) -> None:
        """Add some of the samples of another inferer of the same model, taps and targets, by their numbers."""
        self._store.append([other._store.read(key)[:, samples] for key in range(len(self._store.sizes))])
        self._last = None

    def scored(
        self,
        *,
        layer_agg: str | None = None,
        score: str = "regressed",
        ridge: float = 1e-6,
        rank_tolerance: float = 0.0,
        null_correction: bool = True,
    ) -> ScoredPairs:
        """Scores and columns of all pairs; see :meth:`evaluate` for the options and errors."""
        check_option("score", score, SCORES)
        if layer_agg is None:
            layer_agg = "rss" if score == "explained" else "mean0"
        check_option("layer_agg", layer_agg, LAYER_AGGREGATIONS)
        if not 0 < ridge < 1:
            raise ValueError(f"ridge must be above 0 and below 1, got {ridge}")
        if not 0 <= rank_tolerance < 1:
            raise ValueError(f"rank_tolerance must be at least 0 and below 1, got {rank_tolerance}")
        if score == "explained" and self.use_pre_norm and not self.keep_post:
            raise ValueError("score='explained' needs the activations that keep_post=False leaves out")
        key = (layer_agg, score, ridge, rank_tolerance, null_correction)
        # By a copy, which holds no scores: columns that led back to the scores would keep both until a collection.
        return self._scored_once(key, lambda: copy(self)._score(*key))

    def _source_keys(self, score: str) -> range:
        """Keys in the store of the activations at the P pairs of blocks; ``'explained'`` takes the post tap."""
        first = self.L + self.n_pairs if score == "explained" and self._separate_post else 0
        return range(first, first + self.n_pairs)

    @full_precision()
    def _score(
        self, layer_agg: str, score: str, ridge: float, rank_tolerance: float, null_correction: bool
    ) -> ScoredPairs:
        regressors = Regressors.of(self.prior.pairs, self.N).within(self.targets)
        pairs = []
        of_sources, of_targets = _Scales.of(self.n_pairs, self.N), _Scales.of(self.n_pairs, len(self.targets))
        own_node = self._channel_node[self._own_channels()] - self.targets.start
        for p, key in enumerate(track(self._source_keys(score), "pairs of blocks", show=None)):
            gradients = self._store.read(self.L + p).to(self._device)
            target = principal_components(gradients, own_node, len(self.targets), rank_tolerance)
            del gradients
            values = self._store.read(key).to(self._device)
            source = principal_components(values, self._channel_node, self.N, rank_tolerance)
            del values
            if score == "explained":
                source = leading(source, N_EXPLAINING, EXPLAINING_FLOOR)
            scores, of_targets.freedom[p] = self._pair(score, source, target, regressors, ridge)
            of_sources.add(p, source)
            of_targets.add(p, target)
            pairs.append(scores)
        if null_correction:
            total = excess(pairs, layer_agg, self._chance(score, of_sources, of_targets, third=False))
        else:
            total = combined(pairs, layer_agg)
        columns: dict[str, Column] = {"sign": self._signs(of_sources, of_targets)}
        columns |= {f"score_a{p}_g{p + 1}": column_of(scores) for p, scores in enumerate(pairs)}
        if score == "normalised":
            columns |= self._significance(pairs, of_sources, of_targets)
        else:
            columns["p_value"] = columns["q_value"] = undefined_column
        return ScoredPairs(self.prior, total, self.score_name, columns, self.targets.start)

    def _chance(self, score: str, of_sources: _Scales, of_targets: _Scales, *, third: bool) -> Chance:
        """What the scores of permuted samples depend on; only sums of squares need third moments."""
        own = self._channels[self.targets.start : self.targets.stop]
        rank, scale = None, of_targets.scale
        if score == "explained":
            # A share of the mean square, not of the variance, is explained.
            rank, scale = of_sources.rank, of_targets.raw * (of_targets.scale > 0)
        z = node_sums(self._store, self._source_keys(score), self._channels, of_sources.scale, rank, third=third)
        g = node_sums(self._store, range(self.L, self.L + self.n_pairs), own, scale, third=third)
        if score == "regressed":
            g = g.scaled(((self.n - 1) / of_targets.freedom).T)
        return Chance(z, g, self.n)

    def _significance(self, pairs: list[FloatMatrix], of_sources: _Scales, of_targets: _Scales) -> dict[str, Column]:
        """Columns p_value and q_value, computed when first asked for."""
        n, candidates = self.n, self.prior.candidates(self.targets)

        def chance() -> Chance:
            check_unchanged(n, self.n)
            return self._chance("normalised", of_sources, of_targets, third=True)

        @cache
        def few() -> Significance:
            return Significance(normal_scores(pairs, chance()), candidates)

        if matrix_dtype(self.N) is np.float32:
            return {"p_value": lambda rows: few().p_value(rows), "q_value": lambda rows: few().q_value(rows)}
        return lazy_columns(lambda: p_values(pairs, chance()), candidates)

    def _signs(self, of_sources: _Scales, of_targets: _Scales) -> Column:
        """The column of signs: for few pairs from their nodes alone, else for all pairs, once."""
        store, n, n_targets = self._store, self.n, len(self.targets)

        def signals(sources: IntArray, targets: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
            """For each pair of blocks, activations and gradients along the orientations of some nodes."""
            check_unchanged(n, store.n)
            x, y = (store.read(len(store.sizes) - 2 + k) for k in range(2))
            reference = references(self._orienting, x, y)
            own = self._own_channels()
            at, node = _channels_of(self._channel_node, sources)
            at_target, node_target = _channels_of(self._channel_node[own] - self.targets.start, targets)
            up, up_target = reference[sources], reference[targets + self.targets.start]
            for p in range(self.n_pairs):
                values, after = store.read(p)[at], store.read(p + 1, own)[at_target]
                scale = torch.from_numpy(of_sources.scale[p, sources])
                scale_target = torch.from_numpy(of_targets.scale[p, targets])
                gradients, direction = store.read(self.L + p)[at_target], orientation(after, up_target, node_target)
                yield (
                    along(values, orientation(values, up, node), node, scale),
                    along(gradients, direction, node_target, scale_target),
                )

        @cache
        def whole() -> npt.NDArray[np.int8]:
            parts = (moved @ credit.T for moved, credit in signals(np.arange(self.N), np.arange(n_targets)))
            effect = next(parts)
            for part in parts:
                effect += part
            return np.sign(-effect.numpy()).astype(np.int8).ravel()

        def sign(rows: IntArray) -> npt.NDArray[np.int8]:
            if len(rows) > self.N * n_targets // 8:
                signs: npt.NDArray[np.int8] = whole()[rows]
                return signs
            (sources, i), (targets, j) = (np.unique(side, return_inverse=True) for side in np.divmod(rows, n_targets))
            effect = np.zeros(len(rows))
            for moved, credit in signals(sources, targets):
                for start in range(0, len(rows), _SIGNS):
                    some = slice(start, start + _SIGNS)
                    effect[some] -= torch.linalg.vecdot(moved[i[some]], credit[j[some]]).numpy()
            return np.sign(effect).astype(np.int8)

        return sign

    def _pair(
        self, score: str, source: Components, target: Components, regressors: Regressors, ridge: float
    ) -> tuple[FloatMatrix, FloatArray]:
        """(N, T) scores of one pair of blocks, NaN where undefined, and the degrees of freedom left (T,)."""
        working = min(self.memory_budget // 4, free_on(self._device) // 4)
        freedom = np.full(len(self.targets), self.n - 1.0)
        if score == "regressed":
            scores, used = regressed_norms(source, target, regressors, ridge, working)
            return scores.cpu().numpy(), np.maximum(freedom - used, 1.0)
        scores = pair_norms(source, target, working).clamp_(max=1.0)
        if score == "explained":
            scores *= torch.where(target.raw > 0, target.scale / target.raw, 0.0).to(scores)
        scores[torch.from_numpy(source.rank == 0)] = torch.nan
        scores[:, torch.from_numpy(target.rank == 0)] = torch.nan
        return scores.cpu().numpy(), freedom


def _channels_of(channel_node: Tensor, nodes: IntArray) -> tuple[Tensor, Tensor]:
    """The channels of some nodes, ascending, and for each the position of its node among ``nodes``."""
    place = torch.full((int(channel_node.max()) + 1,), -1)
    place[torch.from_numpy(nodes)] = torch.arange(len(nodes))
    position = place[channel_node]
    at = (position >= 0).nonzero()[:, 0]
    return at, position[at]


@dataclass(frozen=True)
class _Scales:
    """Scale, raw size, rank and degrees of freedom of the nodes of one side at every pair of blocks: (P, N) each."""

    scale: FloatArray
    raw: FloatArray
    rank: IntArray
    freedom: FloatArray

    @staticmethod
    def of(n_pairs: int, n_nodes: int) -> _Scales:
        """Zeros, to be filled in."""
        scale, raw, freedom = np.zeros((3, n_pairs, n_nodes))
        return _Scales(scale, raw, np.zeros((n_pairs, n_nodes), np.int64), freedom)

    def add(self, pair: int, components: Components) -> None:
        """Fill in one pair of blocks."""
        self.scale[pair], self.raw[pair] = components.scale.numpy(), components.raw.numpy()
        self.rank[pair] = components.rank
