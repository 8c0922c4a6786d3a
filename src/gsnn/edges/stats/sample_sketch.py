"""Random samples of a stream that depend only on its order and can be merged like sums."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gsnn.base.splitmix import STEP, mixed


class SampleSketch:
    """All samples of a stream, or ``size`` random ones of a longer stream.

    Sample number b has the key hash(b), and the samples with the smallest keys are kept: which these are depends only
    on the order of the stream, not on how it was batched. The smallest keys of two parts of a stream, each counted from
    0, are such a sample of the whole.

    Args:
        shape: Of one sample.
        size: Most samples to keep; 0 keeps none.
        dtype: Of the kept samples.
        device: Of the kept samples.

    Example:
        >>> sketch = SampleSketch((1,), 2, torch.float32)
        >>> sketch.update(torch.tensor([[5.0, 6.0]]))
        >>> sketch.samples
        tensor([[5., 6.]])
        >>> sketch.update(torch.tensor([[7.0, 8.0, 9.0]]))
        >>> sketch.samples.shape
        torch.Size([1, 2])
    """

    def __init__(
        self, shape: tuple[int, ...], size: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.shape, self.size, self.dtype, self.device = shape, size, dtype, torch.device(device)
        self.reset()

    def reset(self) -> None:
        """Forget every sample."""
        self._seen = 0
        self._parts: list[tuple[npt.NDArray[np.uint64], Tensor]] = []
        self._held = 0

    def update(self, values: Tensor) -> None:
        """Add samples.

        Args:
            values: (..., B).
        """
        if not self.size:
            return
        count = values.shape[-1]
        keys = mixed(np.arange(self._seen, self._seen + count, dtype=np.uint64) * np.uint64(STEP))
        self._seen += count
        self._add(keys, values.to(self.device, self.dtype, copy=True))

    def merge(self, other: SampleSketch) -> None:
        """Add the samples of another sketch, which stays as it is."""
        if not self.size:
            return
        self._seen += other._seen
        for keys, values in other._parts:
            self._add(keys, values.to(self.device, copy=True))

    @property
    def seen(self) -> int:
        """Number of samples of the stream."""
        return self._seen

    @property
    def keys(self) -> Tensor:
        """(m,) int64, the keys of the samples that are kept."""
        return torch.from_numpy(self._compact()[0].view(np.int64))

    @property
    def samples(self) -> Tensor:
        """(..., m) samples in the order in which they came."""
        return self._compact()[1]

    def load(self, keys: Tensor, samples: Tensor, seen: int) -> None:
        """Replace everything by ``keys`` (m,) and ``samples`` (..., m) of a stream of which ``seen`` were seen."""
        self.reset()
        self._seen = seen
        if self.size:
            self._add(keys.cpu().numpy().view(np.uint64).copy(), samples.to(self.device, self.dtype, copy=True))

    def _add(self, keys: npt.NDArray[np.uint64], values: Tensor) -> None:
        self._parts.append((keys, values))
        self._held += len(keys)
        if self._held > 2 * self.size:
            self._compact()

    def _compact(self) -> tuple[npt.NDArray[np.uint64], Tensor]:
        if not self._parts:
            self._parts = [
                (np.zeros(0, np.uint64), torch.zeros((*self.shape, 0), dtype=self.dtype, device=self.device))
            ]
        if len(self._parts) > 1 or self._held > self.size:
            keys = np.concatenate([part for part, _ in self._parts])
            values = torch.cat([part for _, part in self._parts], -1)
            if len(keys) > self.size:
                kept = np.sort(np.argsort(keys, kind="stable")[: self.size])
                keys, values = keys[kept], values[..., torch.from_numpy(kept).to(self.device)].contiguous()
            self._parts, self._held = [(keys, values)], len(keys)
        return self._parts[0]
