"""Edges from the first-order effect that opening them would have on the loss."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import unknown_option
from gsnn.base.memory import check_fits, free_on, matrix_dtype, memory_bytes
from gsnn.base.progress import track
from gsnn.edges.capture import Capture, Criterion, captures, tapped, unwrap
from gsnn.edges.gradient.blocks import Components, leading, pair_norms, principal_components
from gsnn.edges.gradient.null import Chance, combined, excess, node_sums, normal_scores, p_values
from gsnn.edges.gradient.regressed import Regressors, regressed_norms
from gsnn.edges.gradient.sign import along, orientation, reference_weights, references
from gsnn.edges.inferer import StreamingInferer, check_model
from gsnn.edges.pairs import Column, ScoredPairs, checked_targets
from gsnn.edges.sample_store import SampleStore
from gsnn.edges.significance import Significance
from gsnn.edges.stats import false_discovery

# Signs found at a time.
_SIGNS = 1 << 12

SCORES = ("regressed", "normalised", "explained")
LAYER_AGGREGATIONS = ("mean0", "rss")
# Of 'explained': components of an activation, and the least standard deviation relative to the layer's largest.
N_EXPLAINING, EXPLAINING_FLOOR = 3, 1e-2


class GradientEdgeInferer(StreamingInferer):
    r"""Scores an edge by how fast the loss would fall if it were opened with a small weight.

    Open an edge i -> j between blocks n - 1 and n with weights W (channels of i x channels of j): the loss changes by
    :math:`M \langle W, G_n(i, j) \rangle` to first order, with

    .. math:: G_n(i, j) = \frac1M \sum_b z_i^{n-1}(b) \otimes g_j^n(b)

    of the activation z of i and the gradient g of the loss at j. Both are taken as deviations from their means over
    the samples: the mean of a message does what the bias of the target does already. (Without it the scores are the
    same on one benchmark and slightly worse on the other.)

    Scores (each within [0, 1] for a pair of blocks; see :meth:`evaluate`):

    - ``'regressed'``: z_i and g_j are first regressed on the activations at block n - 1 of j's known parents and of j
      itself, which the model already uses; then as ``'normalised'``. 0 for known edges.
    - ``'normalised'``: the Frobenius norm of G over the root mean squares of z_i and g_j.
    - ``'explained'``: the root of the share of g_j's mean square explained by the three leading principal components
      of i's activation after norm and nonlinearity.

    Such a score is never negative, so chance alone gives more of it where more pairs of blocks are defined, nodes have
    more directions or a regression leaves fewer degrees of freedom, which the graph decides: permuted samples would
    seem to find edges. Unless ``null_correction=False``, what chance gives (its median when the gradients of the
    samples are permuted) is therefore subtracted from every score: 0 is chance or undefined, below 0 less than chance.
    The best pairs hardly change places. Those near chance lose what the graph alone gave them, and with few samples
    (several dozen) targets of many parents do.

    The samples themselves are kept, not their N C x N C products: in memory up to a quarter of ``memory_budget``, then
    in a temporary file, so results are exact and N is not bounded by N^2 C^2. One sample takes 12 N C L bytes in
    float32; a few thousand are plenty. Scores are computed in blocks of targets within another quarter of the budget.

    Every edge also gets a sign. Channels have arbitrary signs, so a node is oriented by the measured node nearest to it
    in the prior graph, an input upstream or else an output downstream: up is where its activation moves as that
    rises, along known signs, unknown ones counting as positive. The sign is that of minus the derivative of the loss
    for an edge that carries the oriented signal of i into the orientation of j: 1 activating, -1 inhibiting, 0 where
    a node has no orientation.

    ``'normalised'`` has a p-value: the probability of such a sum of squared scores (whichever way the pairs of blocks
    are combined for the order) where gradients are permuted against activations, the same way at every pair. It tests
    association, not an edge. The other two scores have none (NaN): how what is left of an activation varies with every
    target's regressors is not followed closely enough.

    Args:
        model: A :class:`gsnn.nn.GSNN` (or a compiled (``torch.compile``) one) of at least 2 blocks.
        data: The prior graph it was built from, HeteroData-like; its function-function edges are the known ones.
        use_pre_norm: Read activations and gradients before the norm; False reads them after the nonlinearity, for the
            norms batch, groupbatch and none only.
        keep_post: Whether to keep what ``'explained'`` needs; False saves a third of the memory and half of the time
            of :meth:`update`.
        memory_budget: Bytes, or a text such as ``'2GB'``, beside the model; None for half of what is available. A
            quarter is for samples, a quarter for blocks of targets, half for the scores of all pairs of nodes, which
            take (4 P + 17) N^2 bytes in single precision.
        targets: Score only edges into these, and keep the gradients of these only; None for all. q-values are then over
            the edges into these. :mod:`gsnn.edges.parallel` puts such parts together.

    Attributes:
        L: Number of blocks.
        n_pairs: P = L - 1.
        parents_by_target: For each target index the int64 array of its known parents' indices; never itself.

    Raises:
        RuntimeError: If the model has fewer than 2 blocks.
        ValueError: If the post tap is asked of another norm, the budget is no number of bytes, or data and model
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
        self._model = unwrap(model)
        gsnn = tapped(model)
        check_model(gsnn, self.function_nodes, use_pre_norm)
        self.use_pre_norm, self.keep_post = use_pre_norm, keep_post
        self.memory_budget = memory_bytes(memory_budget)
        self.L, self.n_pairs = gsnn.L, gsnn.L - 1
        check_fits(
            2 * (4 * self.n_pairs + 17) * self.N * len(self.targets),
            self.memory_budget,
            f"the scores of {self.N} nodes at {self.n_pairs} pairs of blocks, twice over for samples and blocks,",
            "use a model of fewer layers",
        )
        self.parents_by_target = self.prior.parents
        self._channel_node = gsnn.channel_node.detach().cpu()
        self._shape = (gsnn.I, gsnn.O)
        self._orienting = reference_weights(data, self.N, gsnn.I, gsnn.O)
        self.reset_stats()

    @property
    def n(self) -> int:
        """Number of samples so far."""
        return self._store.n

    def _forget(self) -> None:
        self._store = self._new_store(self.targets)
        self._device = torch.device("cpu")

    def _new_store(self, targets: range) -> SampleStore:
        channels, own = len(self._channel_node), self._channels_of(targets)
        after = [channels] * self.n_pairs if self._separate_post else []
        sizes = [channels] * self.L + [own.stop - own.start] * self.n_pairs + after + list(self._shape)
        return SampleStore(sizes, self.memory_budget // 4)

    def _channels_of(self, targets: range) -> slice:
        """The channels of some targets, which are contiguous."""
        start, stop = np.searchsorted(self._channel_node.numpy(), [targets.start, targets.stop]).tolist()
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
            ValueError: If what was seen does not fit this model, or ``post`` is missing.
        """
        if self._separate_post and post is None:
            raise ValueError("post is missing: pass the capture at the post tap, or build with keep_post=False")
        for taken in (seen, post):
            if taken is not None and (len(taken.activations) != self.L or taken.n_nodes != self.N):
                raise ValueError(
                    f"seen holds {len(taken.activations)} blocks of {taken.n_nodes} nodes, expected {self.L} and "
                    f"{self.N}"
                )
        dtype = torch.float64 if seen.activations[0].dtype == torch.float64 else torch.float32
        own = self._channels_of(self.targets)
        parts = [*seen.activations, *(g[own] for g in seen.gradients[1:])]
        if self._separate_post and post is not None:
            parts += post.activations[:-1]
        self._device = seen.activations[0].device
        self._store.append([p.to(dtype) for p in [*parts, x.T, y.T]])
        self._last = None

    def _take(self, other: Self) -> None:
        self._store.extend(other._store)

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
            layer_agg: How the P scores make one: ``'mean0'``, their mean, or ``'rss'``, the root of the sum of their
                squares; an undefined one counts as 0. None: ``'rss'`` for ``'explained'``, else ``'mean0'``.
            exclude_self: Leave out the pairs (i, i).
            score: ``'regressed'`` (what None means), ``'normalised'`` or ``'explained'``.
            ridge: Of the regression, in units of a node's variance.
            rank_tolerance: Principal components of a node below this share of its largest standard deviation are left
                out, which is faster and changes the score of a pair by about twice this at most (``'normalised'``).
            null_correction: Subtract what chance gives; False for the scores as they are defined, none negative.

        Returns:
            Columns src_func, dst_func (categoricals), src_idx, dst_idx, score, has_edge, sign (1, -1 or 0),
            score_a0_g1 .. score_a{P-1}_g{P} (never corrected; NaN where undefined: nothing varies, or nothing is left
            by the regression), p_value and q_value (NaN but for ``'normalised'``; q is over the candidates, so NaN for
            known edges and self pairs).

        Raises:
            RuntimeError: If fewer than 3 samples were seen.
            ValueError: If an option is unknown, or ``'explained'`` is asked without ``keep_post``.
        """
        scored = self.scored(
            layer_agg=layer_agg,
            score=score or self.default_score,
            ridge=ridge,
            rank_tolerance=rank_tolerance,
            null_correction=null_correction,
        )
        return scored.table(scored.all_rows(exclude_self=exclude_self))

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
        if score not in SCORES:
            raise unknown_option("score", score, SCORES)
        if layer_agg is None:
            layer_agg = "rss" if score == "explained" else "mean0"
        if layer_agg not in LAYER_AGGREGATIONS:
            raise unknown_option("layer_agg", layer_agg, LAYER_AGGREGATIONS)
        if not 0 < ridge < 1:
            raise ValueError(f"ridge must be above 0 and below 1, got {ridge}")
        if not 0 <= rank_tolerance < 1:
            raise ValueError(f"rank_tolerance must be at least 0 and below 1, got {rank_tolerance}")
        if score == "explained" and self.use_pre_norm and not self.keep_post:
            raise ValueError("score='explained' needs the activations that keep_post=False leaves out")
        key = (layer_agg, score, ridge, rank_tolerance, null_correction)
        # By a copy, which holds no scores: columns that led back to the scores would keep both until a collection.
        return self._scored_once(key, lambda: copy(self)._score(*key))

    def _activations(self, block: int) -> Tensor:
        return self._store.read(block)

    def _gradients(self, pair: int) -> Tensor:
        return self._store.read(self.L + pair)

    def _post_activations(self, block: int) -> Tensor:
        return self._store.read(self.L + self.n_pairs + block) if self._separate_post else self._activations(block)

    def _score(
        self, layer_agg: str, score: str, ridge: float, rank_tolerance: float, null_correction: bool
    ) -> ScoredPairs:
        # True float32 products, whatever a training script has chosen for its own.
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            return self._score_exactly(layer_agg, score, ridge, rank_tolerance, null_correction)
        finally:
            torch.set_float32_matmul_precision(precision)

    def _score_exactly(
        self, layer_agg: str, score: str, ridge: float, rank_tolerance: float, null_correction: bool
    ) -> ScoredPairs:
        regressors = Regressors.of(self.prior.pairs, self.N).within(self.targets)
        pairs = []
        of_sources, of_targets = _Scales.of(self.n_pairs, self.N), _Scales.of(self.n_pairs, len(self.targets))
        for p in track(range(self.n_pairs), "pairs of blocks", show=None):
            target = self._target_components(p, rank_tolerance)
            values = self._post_activations(p) if score == "explained" else self._activations(p)
            source = self._components(values, rank_tolerance)
            del values
            if score == "explained":
                source = leading(source, N_EXPLAINING, EXPLAINING_FLOOR)
            found, of_targets.freedom[p] = self._pair(score, source, target, regressors, ridge)
            of_sources.add(p, source)
            of_targets.add(p, target)
            pairs.append(found)
        if null_correction:
            total = excess(pairs, layer_agg, self._chance(score, of_sources, of_targets, third=False))
        else:
            total = combined(pairs, layer_agg)

        def entries(matrix: npt.NDArray[Any]) -> Column:
            return lambda rows: matrix.ravel()[rows]

        columns: dict[str, Column] = {"sign": self._signs(of_sources, of_targets)}
        for p, found in enumerate(pairs):
            columns[f"score_a{p}_g{p + 1}"] = entries(found)
        if score == "normalised":
            columns |= self._significance(pairs, of_sources, of_targets)
        else:
            columns["p_value"] = columns["q_value"] = lambda rows: np.full(len(rows), np.nan)
        return ScoredPairs(self.prior, total, self.score_name, columns, self.targets.start)

    def _chance(self, score: str, of_sources: _Scales, of_targets: _Scales, *, third: bool) -> Chance:
        """What decides the scores of permuted samples; third moments are for sums of squares alone."""
        channels = np.bincount(self._channel_node.numpy(), minlength=self.N)
        blocks, own = range(self.n_pairs), slice(self.targets.start, self.targets.stop)
        post = score == "explained" and self._separate_post
        z = node_sums(
            self._store,
            [self.L + self.n_pairs + p if post else p for p in blocks],
            channels,
            of_sources.scale,
            of_sources.rank if score == "explained" else None,
            third=third,
        )
        g = node_sums(
            self._store,
            [self.L + p for p in blocks],
            channels[own],
            # A share of the mean square, not of the variance, is explained.
            of_targets.raw * (of_targets.scale > 0) if score == "explained" else of_targets.scale,
            third=third,
        )
        if score == "regressed":
            g = g.scaled(((self.n - 1) / of_targets.freedom).T)
        return Chance(z, g, self.n)

    def _significance(
        self, pairs: list[npt.NDArray[np.floating]], of_sources: _Scales, of_targets: _Scales
    ) -> dict[str, Column]:
        """Columns p_value and q_value, computed when first asked for."""
        n, candidates = self.n, self.prior.candidates(self.targets)

        def chance() -> Chance:
            if self.n != n:
                raise RuntimeError("samples were added since; evaluate again")
            return self._chance("normalised", of_sources, of_targets, third=True)

        @cache
        def both() -> tuple[FloatArray, FloatArray]:
            p = p_values(pairs, chance())
            return p.ravel(), false_discovery(p, candidates).ravel()

        @cache
        def few() -> Significance:
            return Significance(normal_scores(pairs, chance()), candidates)

        if matrix_dtype(self.N) is np.float32:
            return {"p_value": lambda rows: few().p_value(rows), "q_value": lambda rows: few().q_value(rows)}
        return {"p_value": lambda rows: both()[0][rows], "q_value": lambda rows: both()[1][rows]}

    def _signs(self, of_sources: _Scales, of_targets: _Scales) -> Column:
        """The column of signs: of few pairs from their nodes alone, else of all pairs, once."""
        store, n, n_targets = self._store, self.n, len(self.targets)

        def signals(sources: IntArray, targets: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
            """For each pair of blocks activations and gradients along the orientations of some nodes."""
            if store.n != n:
                raise RuntimeError("samples were added since; evaluate again")
            x, y = (store.read(len(store.sizes) - 2 + k) for k in range(2))
            reference = references(self._orienting, x, y)
            own = self._channels_of(self.targets)
            at, node = _channels(self._channel_node, sources)
            at_target, node_target = _channels(self._channel_node[own] - self.targets.start, targets)
            up, up_target = reference[sources], reference[targets + self.targets.start]
            for p in range(self.n_pairs):
                values, after = store.read(p)[at], store.read(p + 1, own)[at_target]
                scale, scale_target = (torch.from_numpy(s) for s in (of_sources.scale[p, sources],
                                                                     of_targets.scale[p, targets]))  # fmt: skip
                yield (
                    along(values, orientation(values, up, node), node, scale),
                    along(
                        store.read(self.L + p)[at_target],
                        orientation(after, up_target, node_target),
                        node_target,
                        scale_target,
                    ),
                )

        @cache
        def whole() -> npt.NDArray[np.int8]:
            parts = (moved @ felt.T for moved, felt in signals(np.arange(self.N), np.arange(n_targets)))
            effect = next(parts)
            for part in parts:
                effect += part
            return np.sign(-effect.numpy()).astype(np.int8).ravel()

        def sign(rows: IntArray) -> npt.NDArray[np.int8]:
            if len(rows) > self.N * n_targets // 8:
                taken: npt.NDArray[np.int8] = whole()[rows]
                return taken
            (sources, i), (targets, j) = (np.unique(side, return_inverse=True) for side in np.divmod(rows, n_targets))
            effect = np.zeros(len(rows))
            for moved, felt in signals(sources, targets):
                for start in range(0, len(rows), _SIGNS):
                    some = slice(start, start + _SIGNS)
                    effect[some] -= torch.linalg.vecdot(moved[i[some]], felt[j[some]]).numpy()
            return np.sign(effect).astype(np.int8)

        return sign

    def _target_components(self, p: int, rank_tolerance: float) -> Components:
        node = self._channel_node[self._channels_of(self.targets)] - self.targets.start
        return principal_components(self._gradients(p).to(self._device), node, len(self.targets), rank_tolerance)

    def _components(self, values: Tensor, rank_tolerance: float) -> Components:
        return principal_components(values.to(self._device), self._channel_node, self.N, rank_tolerance)

    def _pair(
        self, score: str, source: Components, target: Components, regressors: Regressors, ridge: float
    ) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.float64]]:
        """(N, T) scores of one pair of blocks, NaN where undefined, and the degrees of freedom left (T,)."""
        working = min(self.memory_budget // 4, free_on(self._device) // 4)
        freedom = np.full(len(self.targets), self.n - 1.0)
        if score == "regressed":
            found, taken = regressed_norms(source, target, regressors, ridge, working)
            return found.cpu().numpy(), np.maximum(freedom - taken, 1.0)
        found = pair_norms(source, target, working).clamp_(max=1.0)
        if score == "explained":
            found *= torch.where(target.raw > 0, target.scale / target.raw, 0.0).to(found)
        found[torch.from_numpy(source.rank == 0)] = torch.nan
        found[:, torch.from_numpy(target.rank == 0)] = torch.nan
        return found.cpu().numpy(), freedom


def _channels(channel_node: Tensor, nodes: IntArray) -> tuple[Tensor, Tensor]:
    """The channels of some nodes, ascending, and for each its place among the nodes."""
    place = torch.full((int(channel_node.max()) + 1,), -1)
    place[torch.from_numpy(nodes)] = torch.arange(len(nodes))
    found = place[channel_node]
    at = (found >= 0).nonzero()[:, 0]
    return at, found[at]


@dataclass(frozen=True)
class _Scales:
    """Scale, raw size, rank and degrees of freedom of the nodes of one side at every pair of blocks: (P, N) each."""

    scale: FloatArray
    raw: FloatArray
    rank: IntArray
    freedom: FloatArray

    @staticmethod
    def of(n_pairs: int, n_nodes: int) -> _Scales:
        """Room for them."""
        scale, raw, freedom = np.zeros((3, n_pairs, n_nodes))
        return _Scales(scale, raw, np.zeros((n_pairs, n_nodes), np.int64), freedom)

    def add(self, pair: int, components: Components) -> None:
        """Fill in one pair of blocks."""
        self.scale[pair], self.raw[pair] = components.scale.numpy(), components.raw.numpy()
        self.rank[pair] = components.rank
