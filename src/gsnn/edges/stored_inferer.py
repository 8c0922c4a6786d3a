"""Inferers that keep the samples themselves and no sums over them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gsnn.edges.capture import Tapped
from gsnn.edges.gradient.sign import reference_weights
from gsnn.edges.inferer import StreamingInferer
from gsnn.edges.sample_store import SampleStore


class StoredInferer(StreamingInferer):
    """Keeps its samples in memory up to a quarter of ``memory_budget``, then in a temporary file."""

    memory_budget: int

    def _describe(self, gsnn: Tapped, data: Any) -> None:  # noqa: ANN401 - anything HeteroData-like
        """Set what is known of the channels, the widths of samples, and what orients the functions."""
        self._channel_node = gsnn.channel_node.detach().cpu()
        self._channels = np.bincount(self._channel_node.numpy(), minlength=self.N)
        self._shape = (gsnn.I, gsnn.O)
        self._orienting = reference_weights(data, self.N, gsnn.I, gsnn.O)

    @property
    def n(self) -> int:
        """Number of samples so far."""
        return self._store.n

    def _forget(self) -> None:
        self._store = self._new_store()

    def _new_store(self) -> SampleStore:
        return SampleStore(self._sizes(), self.memory_budget // 4)

    @abstractmethod
    def _sizes(self) -> list[int]:
        """Rows of every matrix in the store."""

    def _append(self, parts: Iterable[Tensor], dtype: torch.dtype) -> None:
        """Add the matrices of a batch, in double precision only where the model computes in it."""
        kept = torch.float64 if dtype == torch.float64 else torch.float32
        self._store.append([part.to(kept) for part in parts])
        self._last = None

    def _take(self, other: Self) -> None:
        self._store.extend(other._store)
