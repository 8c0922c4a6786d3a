"""Edges from a linear map that learns, while the model trains, to predict gradients from activations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsnn.base.errors import RunError, check_option
from gsnn.base.files import read_tensors, write_tensors
from gsnn.base.progress import track
from gsnn.edges.capture import (
    Criterion,
    LossScale,
    TapHooks,
    capture,
    isolated,
    iterate_batches,
    naming_batch,
    node_norms,
    tapped,
)
from gsnn.edges.inferer import EdgeInferer
from gsnn.edges.loss_scale import REDUCTIONS
from gsnn.edges.pairs import ScoredPairs, edge_indices, undefined_column
from gsnn.metrics import roc_auc

AGGREGATORS = ("sum", "max", "mean", "l2")
SCORE_MODES = ("abs", "relu", "signed")
# A column with a standard deviation below this share of its mean is divided by that share of the mean instead; one that
# varies by at most so many roundings of its mean is constant.
_LEAST_SPREAD = 1e-4
_CONSTANT_ROUNDINGS = 32

FORMAT = "gsnn-regressor-1"
_STATISTICS = ("feature_mean", "feature_std", "target_mean", "target_std", "n_batches")


class MagnitudeEdgeRegressor(EdgeInferer, nn.Module):
    r"""Learns W (N, N) so that source magnitudes times W predict the targets' gradient magnitudes (GSNN spec 2.3).

    For each of the P adjacent pairs of blocks and each aggregator k over channels, x (B, N) is k of
    \|activation\| and y (B, N) the sum over channels of \|gradient\|; both are z-scored and

    .. math:: \text{loss} = \sum_{p,k} \overline{(x_{p,k} W - y_p)^2} + \text{ridge} \sum W^2 .

    AdamW moves W alone. Nothing flows into the GSNN, which is held but not registered: ``parameters()`` are the
    N * N entries of W. In a training loop, in this order::

        regressor.pre_forward()
        loss = criterion(model(x), y)
        regressor.arm_retained_grads()
        optimiser.zero_grad()
        loss.backward()
        regressor.aux_step()
        optimiser.step()

    ``gsnn.edges.EdgeRegressorCallback`` does the same in a Lightning ``Trainer``, and :meth:`fit` after training.
    In eval mode of the regressor :meth:`aux_step` measures by the running statistics and changes nothing.

    At an optimum of the GSNN its edges have used up the gradient that they can explain, so W is best taken from the
    epoch that ranks some hidden edges best: see :meth:`maybe_save_best`.

    Args:
        model: A :class:`gsnn.nn.GSNN` of at least 2 blocks.
        data: The prior graph it was built from.
        aggregators: Over channels of \|activation\|: any of 'sum', 'max', 'mean', 'l2'.
        use_pre_norm: Read the tap before the norm; False the one after the nonlinearity (norms batch, groupbatch
            and none only).
        standardize: Whether to z-score; a column that hardly varies is not inflated.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
        dropout: Of entries of W, in training mode.
        ridge: Weight of the sum of squares of W.
        score_mode: Score from W: 'abs', 'relu' (max(W, 0)) or 'signed' (W).
        ema_momentum: Weight of the newest batch in the running statistics.
        loss_reduction: 'mean' if the training loss is a mean over samples (gradients are then multiplied by B, so
            that a smaller last batch is on the same scale), 'sum' if it is a sum.
        seed: Of the initial W.

    Attributes:
        n: Number of samples that W was learnt from.
        losses: Mean aux_loss of each epoch of the last :meth:`fit`.

    Example:
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> model = GSNN.from_graph(graph, channels=2, layers=3)
        >>> regressor = MagnitudeEdgeRegressor(model, graph)
        >>> sum(p.numel() for p in regressor.parameters())
        4
        >>> regressor.pre_forward()
        >>> loss = model(torch.ones(8, 1)).square().mean()
        >>> regressor.arm_retained_grads()
        >>> loss.backward()
        >>> regressor.aux_step()["n_terms"]
        4
    """

    feature_mean: Tensor
    feature_std: Tensor
    target_mean: Tensor
    target_std: Tensor
    n_batches: Tensor

    def __init__(
        self,
        model: nn.Module,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        *,
        aggregators: Sequence[str] = ("sum", "max"),
        use_pre_norm: bool = True,
        standardize: bool = True,
        lr: float = 1e-2,
        weight_decay: float = 1e-4,
        dropout: float = 0.0,
        ridge: float = 0.0,
        score_mode: str = "abs",
        ema_momentum: float = 0.1,
        loss_reduction: str = "mean",
        seed: int = 0,
    ) -> None:
        nn.Module.__init__(self)
        EdgeInferer.__init__(self, model, data)
        self.aggregators = (aggregators,) if isinstance(aggregators, str) else tuple(aggregators)
        for aggregator in self.aggregators:
            check_option("aggregators", aggregator, AGGREGATORS)
        if not self.aggregators:
            raise ValueError(f"aggregators is empty; give at least one of {AGGREGATORS}")
        for name, value, options in (
            ("score_mode", score_mode, SCORE_MODES),
            ("loss_reduction", loss_reduction, REDUCTIONS),
        ):
            check_option(name, value, options)
        for name, number in (("lr", lr), ("weight_decay", weight_decay), ("ridge", ridge)):
            if not number >= 0:
                raise ValueError(f"{name} must not be negative, got {number}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        if not 0 < ema_momentum <= 1:
            raise ValueError(f"ema_momentum must be in (0, 1], got {ema_momentum}")
        self._open(model, use_pre_norm)
        self.standardize, self.dropout, self.ridge = standardize, dropout, ridge
        self.score_mode, self.ema_momentum, self.loss_reduction = score_mode, ema_momentum, loss_reduction
        self.lr, self.weight_decay, self.seed = lr, weight_decay, seed
        device = next((p.device for p in self._model.parameters()), torch.device("cpu"))
        with torch.inference_mode(False):
            # Made under inference mode, W could never be trained.
            self._make(device)
        self._watch: TapHooks | None = None
        self.restart()

    def _make(self, device: torch.device) -> None:
        self.W = nn.Parameter(torch.empty(self.N, self.N, device=device))
        shape = (len(self.aggregators) * self.n_pairs, self.N)
        for kind, rows in (("feature", shape), ("target", (self.n_pairs, self.N))):
            self.register_buffer(f"{kind}_mean", torch.zeros(rows, device=device), persistent=False)
            self.register_buffer(f"{kind}_std", torch.ones(rows, device=device), persistent=False)
        self.register_buffer("n_batches", torch.zeros((), dtype=torch.int64), persistent=False)

    @property
    def n_terms(self) -> int:
        """Number of terms of the loss: aggregators x adjacent pairs."""
        return len(self.aggregators) * self.n_pairs

    @torch.no_grad()
    def restart(self) -> None:
        """Draw W anew (Xavier-uniform, gain 0.1), and forget the optimiser, the statistics and the best W."""
        bound = 0.1 * math.sqrt(3.0 / self.N)
        generator = torch.Generator().manual_seed(self.seed)
        self.W.copy_((torch.rand(self.N, self.N, generator=generator) * 2 - 1) * bound)
        self.optimizer = torch.optim.AdamW([self.W], lr=self.lr, weight_decay=self.weight_decay)
        self.n_batches.zero_()
        self.n = 0
        self.losses: list[float] = []
        self.best_metric: float | None = None
        self._best: Tensor | None = None
        self.abandon()

    def abandon(self) -> None:
        """Drop an unfinished step, and remove its hooks from the model."""
        if self._watch is not None:
            self._watch.close()
        self._watch = None

    def pre_forward(self) -> None:
        """First call of a step: watch the next ``model(x)``. An unfinished step is dropped."""
        self.abandon()
        tap = "pre_tap" if self.use_pre_norm else "post_tap"
        self._watch = TapHooks(self._model, tap, self._features, self._target)

    def arm_retained_grads(self) -> None:
        """Second call, after ``model(x)`` and before ``loss.backward()``.

        Raises:
            RuntimeError: If ``pre_forward()`` or ``model(x)`` is missing, or the model ran without gradients.
        """
        watch = self._ran("arm_retained_grads()")
        if not watch.differentiable:
            self.abandon()
            raise RuntimeError("model(x) ran under torch.no_grad(); run it with gradients enabled after pre_forward()")
        watch.armed = True

    def aux_step(self) -> dict[str, float]:
        """Last call, after ``loss.backward()``: one step of W.

        Returns:
            'aux_loss', the loss / n_terms before the step, and 'n_terms'.

        Raises:
            RuntimeError: If one of the calls before it is missing.
            ValueError: If an activation or a gradient is not finite.
        """
        watch = self._ran("aux_step()")
        if not watch.armed:
            raise RuntimeError("arm_retained_grads() is missing: call it after model(x) and before loss.backward()")
        if all(g is None for g in watch.gradients):
            raise RuntimeError("loss.backward() is missing: call it after arm_retained_grads() and before aux_step()")
        self.abandon()
        activations = [a for a in watch.activations if a is not None]
        # A tap that the loss does not depend on has no gradient.
        gradients = [activations[0].new_zeros(activations[0].shape[1:]) if g is None else g for g in watch.gradients]
        scale = activations[0].shape[-1] if self.loss_reduction == "mean" else 1
        return self._step(torch.stack(activations, 1), torch.stack(gradients) * scale)

    def update(
        self, x: Tensor, y: Tensor, crit: Criterion | None = None, *, loss_reduction: str | LossScale | None = None
    ) -> dict[str, float]:
        """One step of W on a batch, without training the GSNN, which is left as it was.

        Args:
            x: (B, I) inputs.
            y: (B, O) targets, NaN where missing.
            crit: ``crit(prediction, target)``, a mean or a sum over samples; None for the mean squared error.
            loss_reduction: 'mean' or 'sum'; None finds out.

        Returns:
            As :meth:`aux_step`.
        """
        where = "pre" if self.use_pre_norm else "post"
        seen = capture(self._model, x, y, crit, where=where, loss_reduction=loss_reduction)
        with torch.inference_mode(False):
            activations = torch.stack([self._features(a.abs()) for a in seen.activations[:-1]], 1)
            return self._step(activations, torch.stack([self._target(g.abs()) for g in seen.gradients[1:]]))

    def fit(
        self,
        dataloader: Iterable[Any],
        crit: Criterion | None = None,
        device: torch.device | str = "cpu",
        verbose: bool = True,
        *,
        n_epochs: int = 5,
    ) -> int:
        """Start afresh and learn W from a model that is not being trained.

        Args:
            dataloader: Yields (x, y) or tuples with more items, which are ignored; read ``n_epochs`` times.
            crit: As in :meth:`update`.
            device: Where the model runs; it is brought back afterwards.
            verbose: Show progress on stderr.
            n_epochs: Passes over the loader. With more passes W fits noise and ranks worse on the benchmarks.

        Returns:
            Number of samples.

        Raises:
            ValueError: If the loader is empty, or a batch is wrong (the error names it).
        """
        self.restart()
        scale = LossScale()
        try:
            with isolated(self._model, device):
                for _ in track(range(n_epochs), "regressing gradients on activations", show=verbose):
                    losses, n = [], 0
                    for batch in iterate_batches(dataloader):
                        with naming_batch(batch.index):
                            losses.append(self.update(batch.x, batch.y, crit, loss_reduction=scale)["aux_loss"])
                        n += len(batch.x)
                    self.losses.append(float(np.mean(losses)))
                    self.n = n
        except BaseException:
            self.restart()
            raise
        return self.n

    def scored(self) -> ScoredPairs:
        """Scores of all pairs; there are no options.

        p_value and q_value are NaN, because weights learnt by descent have no null distribution.
        """
        weights = self.W.detach().double().cpu()
        score = weights.abs() if self.score_mode == "abs" else weights.relu() if self.score_mode == "relu" else weights
        columns = {"p_value": undefined_column, "q_value": undefined_column}
        return ScoredPairs(self.prior, score.numpy().copy(), self.score_name, columns)

    def evaluate_against(
        self,
        positive_edges: Iterable[tuple[str, str]],
        *,
        top_k: Sequence[int] = (1, 3, 5),
        known_true: Iterable[tuple[str, str]] | None = None,
    ) -> dict[str, float]:
        """How well the scores recover some true edges.

        Args:
            positive_edges: True edges as (source, target) names.
            top_k: The k of top@k.
            known_true: Further true edges, which are no negatives; with None, negatives are all pairs but self pairs,
                known edges and the positives.

        Returns:
            'auc', 'n_positives', and of the ranks within targets 'mrr' and 'top@k'.

        Raises:
            ValueError: If there is no positive edge, or a name is unknown.
        """
        positives = list(positive_edges)
        scored = self.scored()
        ranked = scored.table(scored.all_rows())
        _, summary = self.evaluate_target_ranking(ranked, positives, top_k=top_k)
        negative = self.prior.candidates()
        negative[tuple(edge_indices(known_true or (), self.prior.index, "known_true"))] = False
        positive = np.zeros_like(negative)
        positive[tuple(edge_indices(positives, self.prior.index, "positive_edges"))] = True
        compared = negative | positive
        return {"auc": roc_auc(scored.score[compared], positive[compared])} | summary

    @torch.no_grad()
    def maybe_save_best(self, metric: float | None, mode: str = "max") -> bool:
        """Keep a copy of W if the metric is the best so far.

        Args:
            metric: Its value now; None or NaN never counts.
            mode: 'max' or 'min'.

        Returns:
            Whether W was kept: only for a strict improvement.

        Raises:
            ValueError: If ``mode`` is unknown.
        """
        check_option("mode", mode, ("max", "min"))
        if metric is None or math.isnan(value := float(metric)):
            return False
        if self.best_metric is not None and not (
            value > self.best_metric if mode == "max" else value < self.best_metric
        ):
            return False
        self.best_metric, self._best = value, self.W.detach().clone()
        return True

    @torch.no_grad()
    def load_best(self) -> None:
        """Go back to the W that :meth:`maybe_save_best` kept; the GSNN is not touched.

        Raises:
            RuntimeError: If none was kept.
        """
        if self._best is None:
            raise RuntimeError("no W was kept; call maybe_save_best(metric) with a number first")
        self.W.copy_(self._best)

    def state(self) -> dict[str, Any]:
        """Tensors and plain data for a checkpoint: W, the running statistics, the optimiser, the best W, the counts."""
        return {
            "W": self.W.detach(),
            "statistics": {name: getattr(self, name) for name in _STATISTICS},
            "optimizer": self.optimizer.state_dict(),
            "best": self._best,
            "best_metric": self.best_metric,
            "n": self.n,
        }

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of :meth:`state`."""
        self.abandon()
        self.W.copy_(state["W"])
        for name, value in state["statistics"].items():
            getattr(self, name).copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self._best, self.best_metric, self.n = state["best"], state["best_metric"], int(state["n"])

    def save(self, path: str | Path, **facts: str) -> None:
        """Write W and what it was learnt from to a safetensors file, in one step.

        Args:
            path: The file.
            **facts: Further entries of the file.

        Raises:
            OSError: If the disk is full, for instance.
        """
        write_tensors(path, {"W": self.W.detach().cpu().contiguous()}, {"format": FORMAT, "n": str(self.n), **facts})

    @torch.no_grad()
    def load(self, path: str | Path) -> dict[str, str]:
        """Take W from a file of :meth:`save`.

        Returns:
            The other entries of the file.

        Raises:
            RunError: If it is not such a file, or has another number of nodes.
        """
        try:
            tensors, facts = read_tensors(path)
            n, weights = int(facts["n"]), tensors["W"]
        except (OSError, LookupError, ValueError) as error:
            raise RunError(f"{path} is not a readable regressor ({error})") from error
        fits = weights.dtype in (torch.float32, torch.float64) and weights.shape == self.W.shape
        if facts.get("format") != FORMAT or not fits or not weights.isfinite().all():
            raise RunError(f"{path} is not a regressor of {self.N} function nodes")
        self.restart()
        self.W.copy_(weights)
        self.n = n
        return facts

    def _ran(self, call: str) -> TapHooks:
        if self._watch is None:
            raise RuntimeError(f"pre_forward() is missing: call it before model(x), and {call} after")
        if not self._watch.finished:
            raise RuntimeError(
                f"model(x) is missing: call it after pre_forward() and before {call} (a torch.compiled model hides "
                "its taps; call the model it was made from)"
            )
        return self._watch

    def _features(self, magnitude: Tensor) -> Tensor:
        """|activation| (N*C, B) -> (K, N, B), one for each aggregator."""
        node = tapped(self._model).channel_node.to(magnitude.device)
        return torch.stack([_aggregate(magnitude, node, self.N, how) for how in self.aggregators])

    def _target(self, magnitude: Tensor) -> Tensor:
        """|gradient| (N*C, B) -> (N, B)."""
        return node_norms(magnitude, tapped(self._model).channel_node.to(magnitude.device), self.N, "l1")

    def _step(self, activations: Tensor, gradients: Tensor) -> dict[str, float]:
        """One step of W from activations (K, P, N, B) and gradients (P, N, B)."""
        features, targets = activations.detach().flatten(0, 1), gradients.detach()
        if not bool(torch.isfinite(features).all() & torch.isfinite(targets).all()):
            raise ValueError("an activation or a gradient is not finite; W was left alone")
        device, dtype = self.W.device, self.W.dtype
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            x = self._scaled(features.to(device), self.feature_mean, self.feature_std).to(dtype)
            y = self._scaled(targets.to(device), self.target_mean, self.target_std).to(dtype)
            if self.training:
                self.n_batches += 1
            n_terms, n_pairs = len(x), self.n_pairs
            weights = F.dropout(self.W, self.dropout, self.training)
            # All terms in one product: (T * B, N) @ (N, N).
            predicted = x.transpose(1, 2).flatten(0, 1) @ weights
            y = y.transpose(1, 2)
            loss = n_terms * F.mse_loss(predicted, y.expand(n_terms // n_pairs, *y.shape).flatten(0, 2))
            if self.ridge:
                loss = loss + self.ridge * self.W.square().sum()
            if self.training:
                (self.W.grad,) = torch.autograd.grad(loss, self.W)
                self.optimizer.step()
                self.W.grad = None
        return {"aux_loss": loss.item() / n_terms, "n_terms": n_terms}

    def _scaled(self, values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """z-scores of (T, N, B) over samples; the running statistics follow while training."""
        if not self.standardize:
            return values
        if self.training or not int(self.n_batches):
            size = values.amax(-1, keepdim=True)
            # In units of the largest value no square can underflow.
            unit = values / torch.where(size > 0, size, torch.ones_like(size))
            now_std, now_mean = torch.std_mean(unit, -1, correction=0)
            now_std, now_mean = (now_std * size[..., 0]).to(std.dtype), (now_mean * size[..., 0]).to(mean.dtype)
            if self.training:
                weight = self.ema_momentum if int(self.n_batches) else 1.0
                mean.lerp_(now_mean, weight)
                std.lerp_(now_std, weight)
        else:
            now_mean, now_std = mean, std
        level = now_mean.abs()
        # Exactly 0, since an adaptive optimiser would follow any remainder at full speed.
        constant = now_std <= _CONSTANT_ROUNDINGS * torch.finfo(values.dtype).eps * level
        spread = torch.maximum(now_std, _LEAST_SPREAD * level).masked_fill(constant, torch.inf)
        return (values - now_mean[..., None]) / spread[..., None]


def _aggregate(magnitude: Tensor, node: Tensor, n_nodes: int, how: str) -> Tensor:
    """(N*C, B) magnitudes -> (N, B)."""
    if how == "max":
        out = magnitude.new_zeros(n_nodes, magnitude.shape[1])
        return out.scatter_reduce_(0, node[:, None].expand_as(magnitude), magnitude, "amax")
    norms = node_norms(magnitude, node, n_nodes, "l2" if how == "l2" else "l1")
    return norms / torch.bincount(node, minlength=n_nodes)[:, None] if how == "mean" else norms
