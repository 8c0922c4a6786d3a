"""What the inferers that stream over samples share: which models they take, and the pass over a loader."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gsnn.base.progress import track
from gsnn.edges.capture import Criterion, ForwardOptions, LossScale, Tapped, isolated, iterate_batches, naming_batch
from gsnn.edges.inferer import EdgeInferer

# Norms whose post tap still tells samples apart by magnitude.
POST_TAP_NORMS = ("batch", "groupbatch", "none")


def check_model(gsnn: Tapped, function_nodes: Sequence[str], use_pre_norm: bool) -> None:
    """Refuse a model whose adjacent blocks cannot be read for these nodes at this tap.

    Args:
        gsnn: The model.
        function_nodes: The N names of the prior graph.
        use_pre_norm: Whether the tap before the norm is read.

    Raises:
        RuntimeError: If the model has fewer than 2 blocks.
        ValueError: If model and graph disagree, or the post tap is asked of a norm that takes the magnitudes away.
    """
    if gsnn.L < 2:
        raise RuntimeError(f"Need at least 2 blocks for an adjacent pair, got a model with layers={gsnn.L}")
    if gsnn.N != len(function_nodes) or list(getattr(gsnn, "function_nodes", function_nodes)) != list(function_nodes):
        raise ValueError("data and model have different function nodes; pass the graph the model was built from")
    norm = getattr(gsnn, "norm", None)
    if not use_pre_norm and norm not in POST_TAP_NORMS:
        raise ValueError(
            f"use_pre_norm=False needs norm 'batch', 'groupbatch' or 'none', the model has {norm!r}, which takes "
            "the magnitudes away; use use_pre_norm=True"
        )


class StreamingInferer(EdgeInferer):
    """An inferer whose statistics add up: ``fit`` forgets them and is a loop over ``update``."""

    _model: nn.Module
    _scale: tuple[Criterion | None, str | None, LossScale] | None

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of samples so far."""

    @abstractmethod
    def reset_stats(self) -> None:
        """Forget every sample."""

    @abstractmethod
    def update(
        self,
        x: Tensor,
        y: Tensor,
        crit: Criterion | None = None,
        *,
        model_kwargs: Mapping[str, Any] | None = None,
        loss_reduction: str | None = None,
    ) -> int:
        """Add one batch; returns the number of samples so far."""

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
        """Start afresh and add every batch of a loader.

        Args:
            dataloader: Yields (x, y) or tuples with more items, which are ignored unless ``model_kwargs`` uses them.
            crit: ``crit(prediction, target)``, a mean or a sum over samples; None for the mean squared error.
                Missing targets (NaN) are left out of it.
            device: Where to run the model; it is brought back afterwards.
            verbose: Show progress on stderr.
            model_kwargs: Arguments of the model's forward, or a function of the batch tuple that returns them.
            loss_reduction: ``'mean'`` or ``'sum'``; None finds out.

        Returns:
            Number of samples.

        Raises:
            ValueError: If the loader is empty, or a batch has the wrong width or a non-finite loss (the error names
                the batch).
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
            # Half of a loader's statistics must not pass for all of them.
            self.reset_stats()
            raise
        return self.n

    def _loss_scale(self, crit: Criterion | None, loss_reduction: str | None) -> LossScale:
        """How this criterion scales with the batch, found out once and remembered until another one comes."""
        if self._scale is None or self._scale[0] is not crit or self._scale[1] != loss_reduction:
            self._scale = (crit, loss_reduction, LossScale(loss_reduction))
        return self._scale[2]
