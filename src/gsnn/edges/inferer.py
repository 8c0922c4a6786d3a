"""The contract of edge inferers: scores to read, a model and samples to fit, statistics that add up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from gsnn.base.progress import track
from gsnn.edges.capture import (
    Capture,
    Criterion,
    ForwardOptions,
    LossScale,
    Tapped,
    isolated,
    iterate_batches,
    naming_batch,
    tapped,
    unwrap,
)
from gsnn.edges.pairs import Nodes, PriorEdges, ScoredPairs
from gsnn.graph.kinds import FUNCTION_EDGES
from gsnn.metrics import target_ranking

# Norms whose post tap still tells samples apart by magnitude.
POST_TAP_NORMS = ("batch", "groupbatch", "none")


class EdgeScores(ABC):
    """Scores of every pair (i, j) that an edge may join, and how they are read.

    A subclass implements :meth:`scored`; tables, rankings and matrices are built here from it. An undefined score is
    NaN and ranks last; equal scores keep the order (source, target) of the nodes; neither the diagonal nor a known edge
    is ever a candidate.

    Args:
        model: The model to read, or None.
        data: HeteroData-like prior graph; its function-function edges are the known ones.

    Attributes:
        kind: The kind of its edges, one of :data:`gsnn.graph.KINDS`; between functions (S, T) below is (N, N).
        score_name: The column of the result table that holds the score.
        function_nodes: The N names.
        N: Number of function nodes.
        edges: Set of the known edges as (source, target) names.
        prior: The same by number, as :class:`ScoredPairs` takes it.
        model: The model as it was given, with any wrapper; None if none is read.
        data: The prior graph as it was given.
    """

    model: Any

    kind: ClassVar[str] = FUNCTION_EDGES
    score_name: ClassVar[str] = "score"

    def __init__(self, model: Any, data: Any) -> None:  # noqa: ANN401 - any model, anything HeteroData-like
        # Not through nn.Module's own setter: an inferer that is a module must not register the model as a part of it.
        self.__dict__["model"] = model
        self.data = data
        self.prior = PriorEdges(data, self.kind)
        self.function_nodes = self.prior.names
        self.N = self.prior.N
        self.edges = set(self.prior.edges)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind}, N={self.N}, known={len(self.edges)})"

    @abstractmethod
    def scored(self, *args: Any, **options: Any) -> ScoredPairs:  # noqa: ANN401 - each inferer has its own options
        """Scores of all pairs, and how to compute the other columns.

        Args:
            *args: Never used: options are given by name.
            **options: Those of ``evaluate``; each inferer has its own, all with defaults.

        Raises:
            RuntimeError: If it was not fitted, or on too few samples.
        """

    def beside(self) -> Mapping[str, ScoredPairs]:
        """Rankings by name to show beside this one, such as one without the data; most inferers have none."""
        return {}

    def evaluate(self, *args: Any, **options: Any) -> pd.DataFrame:  # noqa: ANN401
        """One row per ordered pair, best score first, undefined last; equal scores in the order of the nodes.

        Args:
            *args: Never used, unless an inferer says so.
            **options: ``exclude_self=False`` keeps the pairs (i, i); the others are those of :meth:`scored`.

        Returns:
            Columns src_func, dst_func (categoricals), src_idx, dst_idx, the score, has_edge, and the inferer's own.

        Raises:
            RuntimeError: If it was not fitted, or on too few samples.
        """
        exclude_self = options.pop("exclude_self", True)
        scored = self.scored(*args, **options)
        return scored.table(scored.all_rows(exclude_self=exclude_self))

    def score_matrix(self, **options: Any) -> npt.NDArray[np.float64]:  # noqa: ANN401
        """Scores as an array (S, T), [i, j] for the edge i -> j, NaN where undefined; options of :meth:`scored`."""
        return self.scored(**options).score.astype(np.float64)

    def top_edges(
        self,
        k: int | None = None,
        per_target: int | None = None,
        exclude_known: bool = True,
        sources: Nodes | None = None,
        targets: Nodes | None = None,
        **options: Any,  # noqa: ANN401
    ) -> pd.DataFrame:
        """The best pairs, without building the table of all; rows and columns are those of ``evaluate``.

        Self pairs and undefined scores are never among them.

        Args:
            k: At most this many in all; None for no limit.
            per_target: At most this many for each target, chosen before ``k`` applies.
            exclude_known: Leave out known edges.
            sources: Names or glob patterns of the sources allowed; q-values are still over all candidates.
            targets: The same for targets.
            **options: Those of :meth:`scored`.

        Returns:
            One row per pair, best first.

        Raises:
            ValueError: If ``k`` or ``per_target`` is negative, or a name matches no node.
        """
        scored = self.scored(**options)
        rows = scored.top_rows(k, per_target=per_target, exclude_known=exclude_known, sources=sources, targets=targets)
        return scored.table(rows)

    @classmethod
    def evaluate_target_ranking(
        cls,
        res: pd.DataFrame,
        positive_edges: Iterable[tuple[str, str]],
        score_col: str | None = None,
        top_k: Sequence[int] = (1, 3, 5),
    ) -> tuple[pd.DataFrame, dict[str, float]]:
        """Rank of each true edge among all rows of its target that have a score, known edges and self pairs included.

        See :func:`gsnn.metrics.target_ranking`, and :func:`gsnn.metrics.filtered_target_ranking` for ranks without the
        other true edges.

        Args:
            res: A table of ``evaluate``.
            positive_edges: True edges as (source, target) names.
            score_col: The column to rank by, descending; None for ``score_name``.
            top_k: The k of the top@k figures.

        Returns:
            A table with one row per true edge, sorted by name, and the floats 'n_positives', 'mrr', 'top@k' by name.

        Raises:
            ValueError: If there are no true edges or a name is unknown.
        """
        return target_ranking(res, positive_edges, score_col or cls.score_name, top_k)


class EdgeInferer(EdgeScores):
    """How much does the model miss the edge i -> j? The contract of every named method.

    ``Inferer(model, data)`` makes one (further arguments have defaults), ``fit`` reads the samples, :meth:`scored`
    returns the scores. One suite checks its laws for every inferer:

    - the model is left as it was, also after an exception;
    - permuting the nodes permutes the scores; scaling the loss changes none of them;
    - how samples were batched does not matter; fitting twice is fitting once; merged statistics are those of the
      whole.

    An inferer that cannot keep one of them says so.

    Making one raises a TypeError if the model has no taps or ``data`` is no graph, a ValueError if the two disagree,
    an option is wrong or the scores do not fit into the memory budget, and a RuntimeError if the model has fewer than 2
    blocks where two are compared.

    Attributes:
        needs_all: Whether it needs all samples in memory at once, so that streamed data are refused.
        reads_weights: Whether scores depend on the weights of the model; if not, members of a run would all agree.
    """

    needs_all: ClassVar[bool] = False
    reads_weights: ClassVar[bool] = True
    _model: nn.Module

    @classmethod
    def from_graph(cls, model: Any, graph: Any, **options: Any) -> Self:  # noqa: ANN401 - of the class
        """An inferer of a model and its graph, not fitted yet; the registry makes one of any class by this.

        Args:
            model: The trained model; None if none is read.
            graph: The prior graph that the model was built from.
            **options: Further arguments of the class.
        """
        return cls(model, graph, **options)

    def _open(self, model: nn.Module, use_pre_norm: bool = True) -> Tapped:
        """Keep the GSNN inside ``model`` and its number of blocks, unless :func:`check_model` refuses it."""
        gsnn = tapped(model)
        check_model(gsnn, self.function_nodes, use_pre_norm)
        # As in EdgeScores, not through nn.Module's own setter.
        self.__dict__["_model"] = unwrap(model)
        self.use_pre_norm, self.L, self.n_pairs = use_pre_norm, gsnn.L, gsnn.L - 1
        self.parents_by_target = self.prior.parents
        return gsnn

    @abstractmethod
    def fit(
        self,
        dataloader: Iterable[Any],
        crit: Criterion | None = None,
        device: torch.device | str = "cpu",
        verbose: bool = True,
    ) -> int:
        """Start afresh and read every batch of a loader.

        Args:
            dataloader: Yields (x, y) or tuples with more items, which are ignored.
            crit: ``crit(prediction, target)``, a mean or a sum over samples; None for the mean squared error.
                Missing targets (NaN) are left out of it.
            device: Where to run the model; it is brought back afterwards.
            verbose: Show progress on stderr.

        Returns:
            Number of samples.

        Raises:
            ValueError: If the loader is empty, or a batch has the wrong width or a non-finite loss (the error names
                the batch).
        """


class StreamingInferer(EdgeInferer):
    """An inferer whose statistics add up: ``fit`` clears them and calls ``update`` for every batch.

    A subclass keeps the statistics: ``_forget`` clears them, ``_read`` adds a batch, and ``_take`` adds those of
    another inferer whose attributes ``_alike`` are equal.
    """

    _alike: ClassVar[tuple[str, ...]] = ("function_nodes",)
    _scale: tuple[Criterion | None, str | None, LossScale] | None
    _last: tuple[tuple[object, ...], ScoredPairs] | None

    def __getstate__(self) -> dict[str, Any]:
        """Without what is computed again: the scores, and whether the criterion is a mean or a sum."""
        return self.__dict__ | {"_last": None, "_scale": None}

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of samples so far."""

    def reset_stats(self) -> None:
        """Forget every sample."""
        self._scale = self._last = None
        self._forget()

    def update(
        self,
        x: Tensor,
        y: Tensor,
        crit: Criterion | None = None,
        *,
        model_kwargs: Mapping[str, Any] | None = None,
        loss_reduction: str | None = None,
    ) -> int:
        """Add one batch, on the device the model is on.

        Args:
            x: (B, I) inputs.
            y: (B, O) targets, NaN where missing.
            crit: As in :meth:`fit`, like the others.
            model_kwargs: Arguments of the model's forward.
            loss_reduction: ``'mean'`` or ``'sum'``; None finds out.

        Returns:
            Number of samples so far.
        """
        self._read(x, y, crit, loss_reduction=self._loss_scale(crit, loss_reduction), model_kwargs=model_kwargs)
        return self.n

    def merge(self, other: Self) -> Self:
        """Add the samples of another inferer, as if this one had seen them too.

        Args:
            other: An inferer of the same class, model and options; it is not changed.

        Returns:
            This object.

        Raises:
            TypeError: If ``other`` is of another class.
            ValueError: If the two cannot be added up.
        """
        if not isinstance(other, type(self)):
            raise TypeError(f"other must be {type(self).__name__}, got {type(other).__name__}")
        for name in self._alike:
            if getattr(self, name) != getattr(other, name):
                raise ValueError(f"other differs in {name}: its samples cannot be added to these")
        self._take(other)
        self._last = None
        return self

    @abstractmethod
    def _forget(self) -> None:
        """Clear the statistics."""

    @abstractmethod
    def _read(self, x: Tensor, y: Tensor, crit: Criterion | None, **options: Any) -> None:  # noqa: ANN401
        """Add one batch; the options are those of :func:`gsnn.edges.capture.capture`."""

    @abstractmethod
    def _take(self, other: Self) -> None:
        """Add the samples of another inferer."""

    def fit(
        self,
        dataloader: Iterable[Any],
        crit: Criterion | None = None,
        device: torch.device | str = "cpu",
        verbose: bool = True,
        *,
        model_kwargs: ForwardOptions = None,
        loss_reduction: str | None = None,
    ) -> int:
        """As :meth:`EdgeInferer.fit`, with two more options.

        ``model_kwargs`` are arguments of the model's forward, or a function of the batch tuple that returns them.
        ``loss_reduction`` is ``'mean'`` or ``'sum'``; None finds out.
        """
        self.reset_stats()
        try:
            with isolated(self._model, device):
                loader = track(dataloader, "reading activations and gradients", show=verbose)
                for batch in iterate_batches(loader, model_kwargs):
                    with naming_batch(batch.index):
                        self.update(
                            batch.x, batch.y, crit, model_kwargs=batch.model_kwargs, loss_reduction=loss_reduction
                        )
        except BaseException:
            # The statistics of half a loader must not pass for all of them.
            self.reset_stats()
            raise
        return self.n

    def _check_seen(self, least: int) -> None:
        if self.n < least:
            raise RuntimeError(f"Need at least {least} samples, got {self.n}; call fit or update first")

    def _scored_once(self, key: tuple[object, ...], score: Callable[[], ScoredPairs]) -> ScoredPairs:
        """The scores for these options, computed unless the last ones were for the same."""
        self._check_seen(3)
        if self._last is None or self._last[0] != key:
            self._last = None  # two sets of scores may not fit into memory
            self._last = (key, score())
        return self._last[1]

    def _loss_scale(self, crit: Criterion | None, loss_reduction: str | None) -> LossScale:
        """How this criterion scales with the batch; found out once and kept until the criterion changes."""
        if self._scale is None or self._scale[0] is not crit or self._scale[1] != loss_reduction:
            self._scale = (crit, loss_reduction, LossScale(loss_reduction))
        return self._scale[2]


def check_unchanged(before: int, now: int) -> None:
    """Refuse to compute a column of scores after samples were added to those that were scored."""
    if now != before:
        raise RuntimeError("samples were added since; evaluate again")


def check_capture(seen: Capture, n_blocks: int, n_nodes: int) -> None:
    """Refuse a capture of another model."""
    if len(seen.activations) != n_blocks or seen.n_nodes != n_nodes:
        raise ValueError(
            f"seen holds {len(seen.activations)} blocks of {seen.n_nodes} nodes, expected {n_blocks} and {n_nodes}"
        )


def check_blocks(gsnn: Tapped) -> None:
    """Refuse a model without a pair of adjacent blocks."""
    if gsnn.L < 2:
        raise RuntimeError(f"Need at least 2 blocks for an adjacent pair, got a model with layers={gsnn.L}")


def check_nodes(gsnn: Tapped, function_nodes: Sequence[str]) -> None:
    """Refuse a model whose functions are not those of the prior graph."""
    if gsnn.N != len(function_nodes) or list(getattr(gsnn, "function_nodes", function_nodes)) != list(function_nodes):
        raise ValueError("data and model have different function nodes; pass the graph the model was built from")


def check_model(gsnn: Tapped, function_nodes: Sequence[str], use_pre_norm: bool) -> None:
    """Refuse a model whose adjacent blocks cannot be read for these nodes at this tap.

    Raises:
        RuntimeError: If the model has fewer than 2 blocks.
        ValueError: If model and graph disagree, or the post tap is read after a norm that removes the magnitudes.
    """
    check_blocks(gsnn)
    check_nodes(gsnn, function_nodes)
    norm = getattr(gsnn, "norm", None)
    if not use_pre_norm and norm not in POST_TAP_NORMS:
        raise ValueError(
            f"use_pre_norm=False needs norm 'batch', 'groupbatch' or 'none', the model has {norm!r}, which takes "
            "the magnitudes away; use use_pre_norm=True"
        )
