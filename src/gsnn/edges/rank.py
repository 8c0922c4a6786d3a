"""Edges from the (rank) correlation of all activations with all gradients, layers and samples pooled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsnn.base.errors import check_option
from gsnn.base.memory import check_fits, free_on, in_words, matrix_dtype, memory_bytes
from gsnn.base.progress import track
from gsnn.edges.capture import Criterion, LossScale, all_samples, capture, isolated, tapped, unwrap
from gsnn.edges.inferer import EdgeInferer, EdgeScores, check_blocks
from gsnn.edges.pairs import ScoredPairs, checked_targets
from gsnn.edges.rank_correlation import CORRELATIONS, cross_correlation, sort_bytes
from gsnn.graph.checks import EDGE_TYPES

FloatMatrix = npt.NDArray[np.float32]

NORMS = ("l1", "l2", "none")
CHANNEL_AGGREGATIONS = ("sum", "mean", "max")
_AMAX = {"sum": "sum", "mean": "mean", "max": "amax"}
# Most channel values at the taps in one pass through the model, which bounds its memory.
_PASS_VALUES = 2**25


class FunctionEdgeInferer(EdgeScores):
    r"""Correlates every node's activity with every node's gradient over all layers and samples (GSNN spec 2.2).

    The pairs (activation of block l, gradient of block l + 1) of all l and all B samples are stacked as
    M = (L - 1) * B observations; W[i, j] is the Spearman or Pearson correlation of activation column i with gradient
    column j. Unlike elsewhere in this package, a constant column gives 0, not NaN.

    This is a heuristic and no causal estimator: common causes inflate the scores of several nodes. Pooling also mixes
    the profile over layers with the variation over samples: :meth:`profile_control` shows what the profile alone gives,
    and ``pool=False`` leaves it out.

    Cost, float32: buffers 8 M N bytes; ranks O(N M log M) time; the matrix 4 N^2 bytes (12 N^2 with the ranking of all
    pairs) and O(M N^2) time. If the device has too little memory for the buffers, they stay on the host and blocks of
    rows are copied (``row_chunk``, chosen from the device's free memory), so that the device holds 8 M row_chunk bytes
    and what sorting takes.

    Args:
        model: A :class:`gsnn.nn.GSNN` of at least 2 blocks.
        crit: ``crit(prediction, target)``, a mean or a sum over samples; None for the mean squared error.
        edge_index: int64 (2, E), the known function -> function edges, local indices.
        use_prenorm: Read the tap before the norm, not the one after the nonlinearity.
        device: Where to run; the model is brought back afterwards.
        norm: Of a channel value v: ``'l1'`` is \|v\|, ``'l2'`` is v^2 (without a root), ``'none'`` v with its sign.
        agg: Over the channels of a node: ``'sum'``, ``'mean'`` or ``'max'``.
        memory_budget: Bytes, or a text such as ``'4GB'``, beside the model; None for half of what is available.
        targets: Score only edges into these T; None for all N. Ranks need all samples, so several processes can share
            only targets: each fits its own, and :func:`gsnn.edges.parallel.top_edges` puts them together.

    Attributes:
        W: float32 (N, N), the result of the last ``fit``; None before.
        L: Number of blocks.
        n_pairs: P = L - 1.
        memory_budget: In bytes.

    Example:
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(50, 1, generator=generator), torch.randn(50, 1, generator=generator)
        >>> model = GSNN.from_graph(graph, channels=2, layers=4)
        >>> known = graph.edge_index_dict["function", "to", "function"]
        >>> FunctionEdgeInferer(model, torch.nn.MSELoss(), known).fit(x, y).shape
        (2, 2)
    """

    @classmethod
    def from_graph(cls, model: nn.Module, graph: Any, **options: Any) -> RankEdgeInferer:  # noqa: ANN401
        """The same for a model, its graph and a loader; see :class:`RankEdgeInferer`, whose options these are."""
        return RankEdgeInferer(model, graph, **options)

    def __init__(
        self,
        model: nn.Module,
        crit: Criterion | None,
        edge_index: Tensor | npt.NDArray[np.int64],
        use_prenorm: bool = True,
        device: torch.device | str = "cpu",
        norm: str = "l1",
        agg: str = "sum",
        *,
        memory_budget: int | float | str | None = None,
        targets: range | None = None,
    ) -> None:
        self._model = unwrap(model)
        gsnn = tapped(model)
        for name, value, options in (("norm", norm, NORMS), ("agg", agg, CHANNEL_AGGREGATIONS)):
            check_option(name, value, options)
        check_blocks(gsnn)
        index = torch.as_tensor(edge_index)
        if index.ndim != 2 or index.shape[0] != 2:
            hint = "; pass edge_index.T" if index.ndim == 2 and index.shape[1] == 2 else ""
            raise ValueError(f"edge_index must have shape (2, E), got {tuple(index.shape)}{hint}")
        names = list(getattr(gsnn, "function_nodes", map(str, range(gsnn.N))))
        known = {EDGE_TYPES[0]: index.detach().long()}
        super().__init__(model, SimpleNamespace(node_names_dict={"function": names}, edge_index_dict=known))
        self.L, self.n_pairs = gsnn.L, gsnn.L - 1
        self.crit, self.use_prenorm, self.device = crit, use_prenorm, device
        self.norm, self.agg = norm, agg
        self.memory_budget = memory_bytes(memory_budget)
        self.targets = checked_targets(targets, self.N)
        self.W: FloatMatrix | None = None

    def fit(
        self,
        x: Tensor | npt.NDArray[Any],
        y: Tensor | npt.NDArray[Any],
        method: str = "spearman",
        penalty_factor: float = 0.0,
        scale_by_act_mean: bool = False,
        estimate: bool = False,
        estimate_iters: int = 10,
        estimate_n_samples: int = 2500,
        row_chunk: int | None = None,
        verbose: bool = False,
        *,
        pool: bool = True,
        seed: int | np.random.Generator = 0,
    ) -> FloatMatrix:
        """Score every pair from all samples at once.

        Args:
            x: (B, I) inputs.
            y: (B, O) targets, NaN where missing.
            method: ``'spearman'`` (average ranks on ties) or ``'pearson'``.
            penalty_factor: a; unless 0, W[i, j] is multiplied by (1 - a)^(known in-degree of j) *
                (1 + a)^(known out-degree of i).
            scale_by_act_mean: Multiply row i by the mean activity of i.
            estimate: Average over bootstrap draws of samples, a full pass each.
            estimate_iters: Number of draws.
            estimate_n_samples: Samples of a draw.
            row_chunk: Sources at a time, which bounds the memory of the product to about row_chunk * (N + M) * 4 bytes.
                None: all on the CPU, which needs no extra memory; as many as fit on a device that is too small for the
                buffers.
            verbose: Show progress on stderr.
            pool: Pool the layers; False correlates within each adjacent pair of blocks and averages the P results.
            seed: Of the bootstrap.

        Returns:
            float32 (N, N), [i, j] the evidence for i -> j.

        Raises:
            ValueError: If an option, a shape or the loss is wrong, or buffers and matrix do not fit into
                ``memory_budget``.
            RuntimeError: If there are fewer than 3 samples.
        """
        self.W = self._run(
            x,
            y,
            method=method,
            scale_by_act_mean=scale_by_act_mean,
            draws=estimate_iters if estimate else 0,
            n_drawn=estimate_n_samples,
            row_chunk=row_chunk,
            verbose=verbose,
            pool=pool,
            generator=np.random.default_rng(seed),
        )
        if penalty_factor:
            known_in = np.bincount(self.prior.pairs[1], minlength=self.N)
            known_out = np.bincount(self.prior.pairs[0], minlength=self.N)
            own = slice(self.targets.start, self.targets.stop)
            factor = np.outer((1.0 + penalty_factor) ** known_out, (1.0 - penalty_factor) ** known_in[own])
            self.W *= factor.astype(np.float32)
        return self.W.copy()

    def profile_control(
        self,
        x: Tensor | npt.NDArray[Any],
        y: Tensor | npt.NDArray[Any],
        method: str = "spearman",
        *,
        row_chunk: int | None = None,
        seed: int | np.random.Generator = 0,
    ) -> FloatMatrix:
        """The scores that the profile over layers gives alone: samples are permuted within each layer.

        In each layer the gradients of all nodes are permuted alike against the activations, which removes all
        information in the samples. Pooling would reach the metrics of this matrix without any samples.

        Args:
            x: (B, I) inputs.
            y: (B, O) targets.
            method: As in :meth:`fit`.
            row_chunk: As in :meth:`fit`.
            seed: Of the permutations.

        Returns:
            float32 (N, N). The scores of :meth:`fit` stay as they are.
        """
        return self._run(x, y, method=method, row_chunk=row_chunk, generator=np.random.default_rng(seed), permute=True)

    def scored(self) -> ScoredPairs:
        """Scores of all pairs; there are no options, and no columns beside the score.

        Raises:
            RuntimeError: If not fitted.
        """
        if self.W is None:
            raise RuntimeError("there are no scores yet; call fit(x, y) first")
        score: npt.NDArray[np.floating] = self.W.astype(matrix_dtype(self.N), copy=False)
        return ScoredPairs(self.prior, score, first=self.targets.start)

    def _run(
        self,
        x: Tensor | npt.NDArray[Any],
        y: Tensor | npt.NDArray[Any],
        *,
        method: str,
        generator: np.random.Generator,
        row_chunk: int | None = None,
        scale_by_act_mean: bool = False,
        draws: int = 0,
        n_drawn: int = 0,
        verbose: bool = False,
        pool: bool = True,
        permute: bool = False,
    ) -> FloatMatrix:
        check_option("method", method, CORRELATIONS)
        if row_chunk is not None and row_chunk < 1:
            raise ValueError(f"row_chunk must be at least 1 or None, got {row_chunk}")
        inputs, outputs = torch.as_tensor(x), torch.as_tensor(y)
        used, n_targets = n_drawn if draws else len(inputs), len(self.targets)
        if min(len(inputs), used) < 3:
            raise RuntimeError(f"Need at least 3 samples, got {min(len(inputs), used)}")
        check_fits(
            4 * self.n_pairs * used * (self.N + n_targets) + (12 + 4 * bool(draws)) * self.N * n_targets,
            self.memory_budget,
            f"{self.n_pairs * used} observations of {self.N} nodes",
            "use fewer samples (estimate=True draws some)",
        )
        total = torch.zeros(self.N, n_targets) if draws else torch.empty(0)
        for _ in track(range(draws or 1), "correlating", show=verbose):
            rows = torch.from_numpy(generator.integers(0, len(inputs), n_drawn)) if draws else slice(None)
            activity, credit = self._observe(inputs[rows], outputs[rows])
            if permute:
                for p in range(self.n_pairs):
                    order = torch.from_numpy(generator.permutation(credit.shape[-1])).to(credit.device)
                    credit[:, p] = credit[:, p, order]
            mean = activity.flatten(1).mean(1, keepdim=True) if scale_by_act_mean else None
            segments = 1 if pool else self.n_pairs
            correlation = cross_correlation(
                activity.view(self.N, segments, -1),
                credit.view(n_targets, segments, -1),
                method,
                row_chunk=row_chunk or self._rows_at_a_time(activity),
                device=self.device,
            )
            del activity, credit
            if mean is not None:
                correlation *= mean
            if draws:
                total += correlation.cpu()
            else:
                total = correlation.cpu()
        if draws:
            total /= draws
        result: FloatMatrix = total.numpy()
        return result

    def _observe(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Activity of blocks 0..L-2, float32 (N, P, B), and credit of blocks 1..L-1, (T, P, B)."""
        where = "pre" if self.use_prenorm else "post"
        n_samples, scale = len(x), LossScale()
        n_channels = len(tapped(self._model).channel_node)
        step = max(2, min(n_samples, _PASS_VALUES // (n_channels * self.L)))
        unit = 1.0
        with isolated(self._model, self.device) as device:
            n_targets, own = len(self.targets), slice(self.targets.start, self.targets.stop)
            size = 4 * (self.N + n_targets) * self.n_pairs * n_samples + 4 * self.N * n_targets
            # Half of what is free, as ranking and the product need room as well.
            place = device if size <= free_on(device) // 2 else torch.device("cpu")
            activity = torch.empty(self.N, self.n_pairs, n_samples, device=place)
            credit = torch.empty(n_targets, self.n_pairs, n_samples, device=place)
            for start in range(0, n_samples, step):
                rows = slice(start, start + step)
                seen = capture(self._model, x[rows], y[rows], self.crit, where=where, loss_reduction=scale)
                if start == 0:
                    unit = _power_of_two(seen.gradients[1:])
                for p in range(self.n_pairs):
                    activity[:, p, rows] = self._node_values(seen.activations[p], seen.channel_node)
                    credit[:, p, rows] = self._node_values(seen.gradients[p + 1] * unit, seen.channel_node)[own]
        return activity, credit

    def _rows_at_a_time(self, observed: Tensor) -> int | None:
        """Rows that fit on the device when the observations (N, P, B) are elsewhere; None for all."""
        device = torch.device(self.device)
        if device.type == observed.device.type:
            return None
        n_observations = observed[0].numel()
        room = free_on(device) // 2
        rows = (room - sort_bytes(n_observations)) // (8 * n_observations)
        if rows < 1:
            raise ValueError(
                f"device {device} has {in_words(2 * room)} free, but ranking {n_observations} observations takes "
                f"{in_words(2 * (sort_bytes(n_observations) + 8 * n_observations))}; use fewer samples or the CPU"
            )
        return int(min(rows, self.N))

    def _node_values(self, values: Tensor, channel_node: Tensor) -> Tensor:
        """(N*C, B) -> (N, B)."""
        values = values.abs() if self.norm == "l1" else values.square() if self.norm == "l2" else values
        index = channel_node[:, None].expand_as(values)
        out = values.new_zeros(self.N, values.shape[1])
        return out.scatter_reduce_(0, index, values, _AMAX[self.agg], include_self=False)


class RankEdgeInferer(EdgeInferer):
    """:class:`FunctionEdgeInferer` for a graph and a loader, as the method ``rank`` of the command line.

    By default layers are not pooled: the profile over layers gives the same for permuted samples, so that the controls
    of a self-check would fail.

    Args:
        model: A :class:`gsnn.nn.GSNN` of at least 2 blocks.
        data: The prior graph it was built from.
        method: ``'spearman'`` or ``'pearson'``.
        pool: Pool the layers.
        **options: Further arguments of :class:`FunctionEdgeInferer`: ``norm``, ``agg``, ``use_prenorm``.
        memory_budget: As there.

    Attributes:
        dense: The :class:`FunctionEdgeInferer`.

    Example:
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> inferer = RankEdgeInferer(GSNN.from_graph(graph, channels=2, layers=4), graph)
        >>> x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
        >>> inferer.fit([(x, -x)], verbose=False), len(inferer.evaluate())
        (50, 2)
    """

    needs_all = True

    def __init__(
        self,
        model: nn.Module,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        *,
        method: str = "spearman",
        pool: bool = False,
        memory_budget: int | float | str | None = None,
        **options: Any,  # noqa: ANN401 - of the other class
    ) -> None:
        super().__init__(model, data)
        self._open(model, options.get("use_prenorm", True))
        check_option("method", method, CORRELATIONS)
        self.method, self.pool = method, pool
        self.dense = FunctionEdgeInferer(model, None, self.prior.pairs, memory_budget=memory_budget, **options)

    def fit(
        self,
        dataloader: Iterable[Any],
        crit: Criterion | None = None,
        device: torch.device | str = "cpu",
        verbose: bool = True,
    ) -> int:
        """Score every pair from all samples of a loader; see :meth:`EdgeInferer.fit`."""
        self.dense.W = None
        x, y = all_samples(self.model, dataloader)
        self.dense.crit, self.dense.device = crit, device
        self.dense.fit(x, y, self.method, pool=self.pool, verbose=verbose)
        return len(x)

    def scored(self) -> ScoredPairs:
        """Scores of all pairs; see :meth:`FunctionEdgeInferer.scored`."""
        return replace(self.dense.scored(), prior=self.prior)


def _power_of_two(gradients: list[Tensor]) -> float:
    """A factor that brings the largest value near 1: a small loss must not underflow when it is squared."""
    largest = max(float(g.abs().max()) for g in gradients)
    return 2.0 ** -int(np.floor(np.log2(largest))) if largest > 0 else 1.0
