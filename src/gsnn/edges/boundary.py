r"""Edges where signals enter and where they are read: from inputs to functions, from functions to outputs.

One side of such an edge is known exactly: the input of an edge input -> function, and the response at the end of an
edge function -> output. A score is the share of the target's gradient or response that the source explains beyond the
known sources of the target.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import check_option
from gsnn.base.memory import memory_bytes
from gsnn.base.progress import track
from gsnn.edges.capture import Capture, Criterion, captures, node_norms, tapped, unwrap
from gsnn.edges.gradient.blocks import centred_chunks
from gsnn.edges.gradient.null import form_tail, median_factor
from gsnn.edges.gradient.sign import orientation, references
from gsnn.edges.inferer import check_nodes, check_unchanged
from gsnn.edges.pairs import Column, ScoredPairs, column_of, undefined_column
from gsnn.edges.significance import lazy_columns
from gsnn.edges.stats.permutation_forms import FormSums, form_moments, form_sums, joined
from gsnn.edges.stored_inferer import StoredInferer
from gsnn.graph.kinds import INPUT_EDGES, OUTPUT_EDGES

# Variances below this share of what they are compared with are rounding.
_NOTHING = 1e-10
# Directions of a target below this share of its variance change no moment that matters.
_SMALL = 1e-6


@dataclass(frozen=True, eq=False)
class Target:
    """The signal that sources are to explain at one target.

    Attributes:
        number: Its number.
        values: (P, C, M) centred credit or response, in P parts that count alike.
        rows: Samples on which it is known, (M,) of all; None for all.
    """

    number: int
    values: FloatArray
    rows: IntArray | None = None


@dataclass(frozen=True, eq=False)
class Explained:
    """What every source explains of one target.

    Attributes:
        shares: (S,) sum over the parts of the share explained, NaN where undefined.
        cross: (S, P, C) inner products of the sources with the residual.
        residual: (P, C, M) of the target after regression on its known sources, each part with a sum of squares of 1.
        freedom: Degrees of freedom that are left for the source.
    """

    shares: FloatArray
    cross: FloatArray
    residual: FloatArray
    freedom: float


def explain(sources: FloatArray, known: IntArray, values: FloatArray) -> Explained:
    r"""What each source explains of a target beyond the known ones.

    With H the projection on the known sources, a = (I - H) z the residual of a source and R_p = G_p (I - H) that of a
    part of the target: the sum over p of :math:`\|R_p a\|^2 / (\|a\|^2 \|R_p\|_F^2)`.

    Args:
        sources: (S, M), centred, each with a sum of squares of 1 or 0.
        known: Numbers of the known ones.
        values: (P, C, M), centred.

    Returns:
        The shares; NaN for sources without a residual, and for all if the target has none.

    Example:
        >>> z = np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]]) / 2**0.5
        >>> explain(z, np.array([0]), np.array([[[3.0, 1, 2, -6]]])).shares.round(3)
        array([  nan, 0.667])
    """
    n = sources.shape[1]
    basis = np.zeros((0, n))
    if len(known):
        _, sizes, basis = np.linalg.svd(sources[known], full_matrices=False)
        basis = basis[sizes > 1e-6]
    inside = sources @ basis.T
    left_of_source = np.square(sources).sum(1) - np.square(inside).sum(1)
    total = np.square(values).sum((1, 2))
    residual = values - (values @ basis.T) @ basis
    left_of_target = np.square(residual).sum((1, 2))
    alive = left_of_target > _NOTHING * total
    residual = np.where(alive, 1 / np.sqrt(np.where(alive, left_of_target, 1.0)), 0.0)[:, None, None] * residual
    # The residual is orthogonal to the basis, so the sources need no projection.
    cross = (sources @ residual.reshape(-1, n).T).reshape(len(sources), *residual.shape[:2])
    defined = (left_of_source > 1e-6) & alive.any()
    shares = np.full(len(sources), np.nan)
    shares[defined] = np.square(cross[defined]).sum((1, 2)) / left_of_source[defined]
    return Explained(shares, cross, residual, n - 1.0 - len(basis))


class BoundaryEdgeInferer(StoredInferer):
    """What edges from inputs and edges to outputs have in common; see the two classes below."""

    scores: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        model: nn.Module,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        *,
        memory_budget: int | float | str | None = None,
    ) -> None:
        super().__init__(model, data)
        self._model = unwrap(model)
        gsnn = tapped(model)
        check_nodes(gsnn, self.function_nodes)
        self.memory_budget = memory_bytes(memory_budget)
        self.L = gsnn.L
        self._describe(gsnn, data)
        self.reset_stats()

    def _read(self, x: Tensor, y: Tensor, crit: Criterion | None, **options: Any) -> None:  # noqa: ANN401
        pre, post = captures(self._model, x, y, crit, **options)
        self.add(pre, post, x, y)

    def add(self, pre: Capture, post: Capture, x: Tensor, y: Tensor) -> None:
        """Add a batch that was captured elsewhere at both taps.

        Args:
            pre: What :func:`gsnn.edges.capture.captures` gave before the norm.
            post: The same after the nonlinearity.
            x: (B, I) inputs of the batch.
            y: (B, O) its targets, NaN where missing.
        """
        self._append([x.T, y.T, *self._parts(pre, post)], pre.activations[0].dtype)

    def scored(self, *, score: str = "explained", null_correction: bool = True) -> ScoredPairs:
        """Scores and columns of all pairs of a source and a target.

        Args:
            score: One of ``scores``.
            null_correction: Subtract the chance level, the median when samples are permuted; False for scores that are
                never negative. ``'magnitude'`` needs none.

        Returns:
            The scores, with the columns sign (1, -1, or 0 where unknown), p_value and q_value.

        Raises:
            RuntimeError: If fewer than 3 samples were seen.
            ValueError: If the score is unknown.
        """
        check_option("score", score, self.scores)
        return self._scored_once((score, null_correction), lambda: self._score(score, null_correction))

    def _score(self, score: str, null_correction: bool) -> ScoredPairs:
        shape = (len(self.prior.sources), len(self.prior.targets))
        if score == "magnitude":
            none: dict[str, Column] = {"p_value": undefined_column, "q_value": undefined_column}
            return ScoredPairs(self.prior, self._magnitudes(), self.score_name, none)
        values, sign = np.zeros(shape), np.zeros(shape, np.int8)
        sources = self._sources()
        up = self._up(sources)
        for target, explained, sums in track(
            self._explained(score, sources, third=False), "targets", show=None, total=shape[1]
        ):
            undefined = np.isnan(explained.shares)
            column = np.where(undefined, 0.0, explained.shares)
            if null_correction:
                mean, variance, _ = _moments(sums, explained, third=False)
                column = column - np.where(undefined, 0.0, mean * median_factor(mean, variance))
            values[:, target.number] = np.where(undefined, np.nan, np.sign(column) * np.sqrt(np.abs(column)))
            sign[:, target.number] = self._signs(up, target, explained, score)
        n = self.n

        def p_values() -> FloatArray:
            check_unchanged(n, self.n)
            return self._p_values(score, sources)

        columns: dict[str, Column] = {"sign": column_of(sign), **lazy_columns(p_values, self.prior.candidates())}
        return ScoredPairs(self.prior, values, self.score_name, columns)

    def _p_values(self, score: str, sources: FloatArray) -> FloatArray:
        """P(share >= the observed one) when the target's samples are permuted, for all pairs; NaN where undefined."""
        out = np.full((len(self.prior.sources), len(self.prior.targets)), np.nan)
        for target, explained, sums in self._explained(score, sources, third=True):
            if explained.freedom < 2:
                continue
            mean, variance, skewness = _moments(sums, explained)
            varies = (variance > 0) & np.isfinite(explained.shares)
            p = form_tail(np.where(varies, explained.shares, 0.0), mean, variance, skewness)
            out[varies, target.number] = p[varies]
        return out

    def _explained(
        self, score: str, sources: FloatArray, *, third: bool
    ) -> Iterator[tuple[Target, Explained, FormSums]]:
        """Each target, what the sources explain of it, and the sums of the sources on the samples where it is known."""
        all_sums = _unit_sums(sources, third=third)
        for target in self._targets(score):
            own, sums = sources, all_sums
            if target.rows is not None:
                own = _units(sources[:, target.rows])
                sums = _unit_sums(own, third=third)
            yield target, explain(own, self.prior.parents[target.number], target.values), sums

    @abstractmethod
    def _sizes(self) -> list[int]:
        """Rows of every matrix in the store, of which the first two are inputs and responses."""

    @abstractmethod
    def _parts(self, pre: Capture, post: Capture) -> list[Tensor]:
        """What is stored of a batch beside inputs and responses."""

    @abstractmethod
    def _sources(self) -> FloatArray:
        """(S, M), centred, each with a sum of squares of 1; 0 where a source does not vary."""

    @abstractmethod
    def _targets(self, score: str) -> Iterator[Target]:
        """All targets."""

    @abstractmethod
    def _up(self, sources: FloatArray) -> FloatArray:
        """What orients the functions, once for all targets."""

    @abstractmethod
    def _signs(self, up: FloatArray, target: Target, explained: Explained, score: str) -> npt.NDArray[np.int8]:
        """(S,) 1 where the source should activate the target, -1 where inhibit it, 0 where unknown."""

    @abstractmethod
    def _magnitudes(self) -> FloatArray:
        """(S, T) mean over the blocks of the correlations of magnitudes, undefined ones counting as 0."""


class InputEdgeInferer(BoundaryEdgeInferer):
    r"""Scores edges from inputs to functions: off-targets of a drug, receptors of a ligand.

    The signal of an input is known. With :math:`g_j^n` the gradient of the loss at function j before the norm of block
    n and :math:`x_i` the input, both after regression on the known inputs of j:

    .. math:: s_{ij}^2 = \sum_{n=1}^{L} \frac{\|g_j^n x_i\|^2}{\|x_i\|^2 \, \|g_j^n\|_F^2}

    Scores: ``'explained'``, this one, and ``'magnitude'``: the correlation of the absolute input with the gradient's
    magnitude, mean over the blocks, as for edges between functions in the research code.

    The p-value is that of the sum above when samples are permuted: its distribution has the exact mean, variance and
    skewness of the unconditioned sum, widened by the degrees of freedom that the known inputs take.

    Args:
        model: A :class:`gsnn.nn.GSNN`.
        data: The prior graph it was built from; its input-function edges are the known ones.
        memory_budget: Bytes, or a text such as ``'2GB'``; a quarter of it is for samples, of which each takes
            8 N C L bytes in single precision.

    Example:
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("z", "b"), ("a", "b"), ("b", "y")],
        ...     input_nodes=["x", "z"], function_nodes=["a", "b"], output_nodes=["y"])
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(50, 2, generator=generator), torch.randn(50, 1, generator=generator)
        >>> inferer = InputEdgeInferer(GSNN.from_graph(graph, channels=2, layers=2), graph)
        >>> inferer.fit([(x, y)], verbose=False)
        50
        >>> inferer.score_matrix().shape
        (2, 2)
    """

    kind = INPUT_EDGES
    scores = ("explained", "magnitude")

    def _sizes(self) -> list[int]:
        channels = len(self._channel_node)
        return [*self._shape] + [channels] * (2 * self.L)

    def _parts(self, pre: Capture, post: Capture) -> list[Tensor]:
        return [*pre.gradients, *pre.activations]

    def _sources(self) -> FloatArray:
        return _units(self._store.read(0).double().numpy())

    def _targets(self, score: str) -> Iterator[Target]:
        for nodes, parts in centred_chunks(self._store, range(2, 2 + self.L), self._channels):
            for j, values in enumerate(torch.stack([centred for centred, _ in parts], 1).numpy(), nodes.start):
                yield Target(j, values)

    def _up(self, sources: FloatArray) -> FloatArray:
        x, y = self._store.read(0), self._store.read(1)
        reference = references(self._orienting, x, y)
        blocks = (self._store.read(2 + self.L + n) for n in range(self.L))
        return np.stack([orientation(values, reference, self._channel_node).double().numpy() for values in blocks])

    def _signs(self, up: FloatArray, target: Target, explained: Explained, score: str) -> npt.NDArray[np.int8]:
        direction = up[:, self._channel_node.numpy() == target.number]
        # The loss falls where the input moves against the gradient.
        return _sign_of(-np.einsum("spc,pc->s", explained.cross[:, :, : direction.shape[1]], direction))

    def _magnitudes(self) -> FloatArray:
        x = _units(np.abs(self._store.read(0).double().numpy()))
        total = np.zeros((self._shape[0], self.N))
        for n in range(self.L):
            norms = node_norms(self._store.read(2 + n).double(), self._channel_node, self.N, "l1").numpy()
            total += x @ _units(norms).T
        return total / self.L


class OutputEdgeInferer(BoundaryEdgeInferer):
    r"""Scores edges from functions to outputs: which factor drives which gene.

    The response at the end of the edge is known. A function has one signal here: the leading principal component of its
    channels after the nonlinearity, over all blocks together. With y_o the response of output o and a_i the signal of
    function i, both after regression on the signals of the known sources of o,

    .. math:: s_{io}^2 = \frac{(a_i \cdot y_o)^2}{\|a_i\|^2 \, \|y_o\|^2}

    Scores:

    - ``'explained'``: this one. It deliberately regresses out only one direction of a known source. The trained model
      uses all of its channels and makes up for a missing source with them, so that its residual says far less (AUC .77
      against .98 on a teacher; benchmarks/kinds.py).
    - ``'residual'``: the same with the gradient of the loss by the prediction in place of the response.
    - ``'magnitude'``: the correlation of the magnitude of the function before the norm with that of this gradient, mean
      over the blocks, as for edges between functions in the research code.

    The p-value is of the squared partial correlation when the samples of the response are permuted.

    Args:
        model: A :class:`gsnn.nn.GSNN`.
        data: The prior graph it was built from; its function-output edges are the known ones.
        memory_budget: Bytes, or a text such as ``'2GB'``; a quarter of it is for samples, of which each takes
            4 N (C + 1) L bytes in single precision.

    Example:
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("a", "y"), ("b", "z")],
        ...     input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y", "z"])
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(50, 1, generator=generator), torch.randn(50, 2, generator=generator)
        >>> inferer = OutputEdgeInferer(GSNN.from_graph(graph, channels=2, layers=2), graph)
        >>> inferer.fit([(x, y)], verbose=False)
        50
        >>> inferer.top_edges()["has_edge"].tolist()
        [False, False]
    """

    kind = OUTPUT_EDGES
    scores = ("explained", "residual", "magnitude")

    def _sizes(self) -> list[int]:
        n_outputs, channels = self._shape[1], len(self._channel_node)
        return [*self._shape, n_outputs] + [channels] * self.L + [self.N] * self.L

    def _parts(self, pre: Capture, post: Capture) -> list[Tensor]:
        assert pre.credit is not None
        return [pre.credit, *post.activations, *(pre.node_norms(v, "l1") for v in pre.activations)]

    def _sources(self) -> FloatArray:
        out = np.zeros((self.N, self.n))
        for nodes, parts in centred_chunks(self._store, range(3, 3 + self.L), self._channels):
            values = torch.cat([centred for centred, _ in parts], 1)
            level = torch.cat([mean for _, mean in parts], 1).square().sum(1) * self.n
            if values.shape[1] > values.shape[2]:
                # The signal itself is the leading vector on the smaller side.
                signal = torch.linalg.eigh(values.transpose(1, 2) @ values)[1][:, :, -1]
            else:
                signal = (torch.linalg.eigh(values @ values.transpose(1, 2))[1][:, None, :, -1] @ values)[:, 0]
            varies = values.square().sum((1, 2)) > 1e-10 * level
            out[nodes] = (signal * varies[:, None]).numpy()
        return _units(out)

    def _targets(self, score: str) -> Iterator[Target]:
        response, credit = self._store.read(1).double().numpy(), self._store.read(2).double().numpy()
        for o in range(self._shape[1]):
            seen = np.flatnonzero(np.isfinite(response[o]))
            values = (response if score == "explained" else credit)[o, seen]
            values = values - values.mean() if len(values) else values
            yield Target(o, values[None, None], None if len(seen) == self.n else seen)

    def _up(self, sources: FloatArray) -> FloatArray:
        reference = references(self._orienting, self._store.read(0), self._store.read(1)).double().numpy()
        return np.einsum("sm,sm->s", sources, reference - reference.mean(1, keepdims=True))

    def _signs(self, up: FloatArray, target: Target, explained: Explained, score: str) -> npt.NDArray[np.int8]:
        toward = explained.cross[:, 0, 0] if score == "explained" else -explained.cross[:, 0, 0]
        return _sign_of(toward) * _sign_of(up)

    def _magnitudes(self) -> FloatArray:
        credit = _units(np.abs(self._store.read(2).double().numpy()))
        norms = (self._store.read(3 + self.L + n).double().numpy() for n in range(self.L))
        total: FloatArray = sum((_units(block) @ credit.T for block in norms), np.zeros((self.N, self._shape[1])))
        return total / self.L


def _moments(sums: FormSums, explained: Explained, *, third: bool = True) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, variance and skewness (S,) of the shares when the samples of a target are permuted."""
    n = explained.residual.shape[2]
    stacked = explained.residual.reshape(-1, n)
    if third or len(stacked) > n:
        stacked = _principal(stacked)
    factor = np.full((1, 1), (n - 1) / max(explained.freedom, 1.0))
    g = form_sums(torch.from_numpy(stacked[None, None]), third=third).scaled(factor)
    mean, variance, skewness = form_moments(sums, g, n, third=third)
    return mean[:, 0], variance[:, 0], skewness[:, 0]


def _principal(values: FloatArray) -> FloatArray:
    """The principal components of (R, M) but those of almost no variance; at least one row."""
    short = len(values) <= values.shape[1]
    sizes, vectors = np.linalg.eigh(values @ values.T if short else values.T @ values)
    kept = sizes > _SMALL * max(sizes.sum(), 0.0)
    if not kept.any():
        return np.zeros((1, values.shape[1]))
    rows: FloatArray = vectors[:, kept].T @ values if short else np.sqrt(sizes[kept])[:, None] * vectors[:, kept].T
    return rows


def _unit_sums(units: FloatArray, *, third: bool) -> FormSums:
    """The sums over samples of sources (S, M) that the moments under permutation need."""
    parts = torch.from_numpy(units)[:, None, None].split(max(1, (1 << 22) // max(1, units.shape[1])))
    return joined([form_sums(part, third=third) for part in parts])


def _units(values: FloatArray) -> FloatArray:
    """Rows centred, with a sum of squares of 1; 0 where nothing varies."""
    level = np.abs(values).max(1, initial=0.0, keepdims=True)
    centred = values - values.mean(1, keepdims=True) if values.shape[1] else values
    size = np.sqrt(np.square(centred).sum(1, keepdims=True))
    # Single precision leaves rounding where nothing varies.
    return np.divide(centred, size, out=np.zeros_like(centred), where=size > 1e-6 * level * values.shape[1] ** 0.5)


def _sign_of(values: FloatArray) -> npt.NDArray[np.int8]:
    return np.sign(np.where(np.abs(values) > 1e-12, values, 0.0)).astype(np.int8)
