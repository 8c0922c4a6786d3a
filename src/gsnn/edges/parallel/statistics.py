"""The statistics of an inferer: pooled over processes, cut to some targets, kept in files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from gsnn.base.errors import RunError
from gsnn.base.files import write_tensors
from gsnn.edges import GradientEdgeInferer, MagnitudeEdgeInferer, StreamingInferer
from gsnn.edges.capture import unwrap
from gsnn.edges.stats import PairMoments, load_moments, moments_state, narrowed_moments, pool_moments, pool_sketches

if TYPE_CHECKING:
    from gsnn.base.processes import Processes
    from gsnn.nn.config import Described

FORMAT = "gsnn-statistics-2"


class Statistics:
    """The statistics of an inferer's samples.

    Args:
        inferer: A magnitude or gradient inferer.
        device: Of the sums.

    Raises:
        TypeError: If it is another one.
    """

    def __init__(self, inferer: StreamingInferer, device: torch.device | str = "cpu") -> None:
        if not isinstance(inferer, MagnitudeEdgeInferer | GradientEdgeInferer):
            raise TypeError(
                "processes share the samples of MagnitudeEdgeInferer and GradientEdgeInferer, not of "
                f"{type(inferer).__name__}; give it targets=joined.share(N) and all samples in every process, if it "
                "takes targets"
            )
        self.inferer, self.device = inferer, device
        self._written = 0

    @property
    def adds_up(self) -> bool:
        """Whether the statistics of several processes are added to statistics of the same size."""
        return isinstance(self.inferer, MagnitudeEdgeInferer)

    def pool(self, joined: Processes) -> None:
        """Every process ends with the statistics of the samples of all."""
        if joined.size == 1:
            return
        self.inferer._last = None
        if isinstance(self.inferer, MagnitudeEdgeInferer):
            pool_moments(self._moments(), joined.all_reduce)
            pool_sketches(self._moments(), joined.rank, joined.size, joined.all_reduce)
            return
        own, dtype = self.inferer._store, self._dtype()
        pooled = self.inferer._new_store()
        for rank in range(joined.size):
            widths = joined.broadcast(own.widths if rank == joined.rank else None, rank)
            for at, width in enumerate(widths):
                batch = own.batch(at) if rank == joined.rank else None
                parts = [
                    torch.empty(rows, width, dtype=dtype) if batch is None else batch[key].contiguous()
                    for key, rows in enumerate(own.sizes)
                ]
                pooled.append([joined.broadcast_tensor(part, rank) for part in parts])
        self.inferer._store = pooled

    def narrow(self, targets: range) -> None:
        """Keep only the statistics for edges into some targets."""
        inferer = self.inferer
        if targets == inferer.targets:
            return
        if isinstance(inferer, MagnitudeEdgeInferer):
            moments = self._moments()
            inferer.targets = targets
            inferer._moments = narrowed_moments(
                moments, targets, inferer._new_moments(moments.dtype, "cpu").condition_on
            )
        else:
            whole, keys = inferer._store, range(inferer.L, inferer.L + inferer.n_pairs)
            inferer.targets = targets
            own = inferer._own_channels()
            inferer._store = inferer._new_store()
            for at in range(len(whole.widths)):
                parts = whole.batch(at)
                inferer._store.append([part[own] if key in keys else part for key, part in enumerate(parts)])
        inferer._last = None

    # ------------------------------------------------------------------ files

    def gather_for_file(self, joined: Processes) -> None:
        """Before :meth:`write`, with shared samples: statistics that add up go to process 0, others stay."""
        if joined.size > 1 and isinstance(self.inferer, MagnitudeEdgeInferer):
            self.pool(joined)
            if not joined.first:
                self._moments().reset()

    def write(self, stem: Path) -> tuple[list[str], bool]:
        """Write the batches that are not in a file yet; statistics that are sums are written whole.

        Args:
            stem: Path without the extension.

        Returns:
            The names of the new files, and whether they replace the earlier ones.
        """
        path = stem.with_suffix(".safetensors")
        if isinstance(self.inferer, MagnitudeEdgeInferer):
            state = {name: value.contiguous().cpu() for name, value in moments_state(self._moments()).items()}
            write_tensors(path, state, {"format": FORMAT})
            return [path.name], True
        store = self.inferer._store
        new = range(self._written, len(store.widths))
        if not new:
            return [], False
        tensors = {f"{at:08d}.{key:03d}": part.contiguous() for at in new for key, part in enumerate(store.batch(at))}
        write_tensors(path, tensors, {"format": FORMAT})
        self._written = len(store.widths)
        return [path.name], False

    def read(self, paths: Sequence[Path]) -> None:
        """Replace the statistics by those in files.

        Raises:
            RunError: If one cannot be read.
            ValueError: If it is of another model.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self.inferer.reset_stats()
        for path in paths:
            try:
                tensors = load_file(path)
            except (OSError, SafetensorError) as error:
                raise RunError(f"{path} cannot be read: {error}") from error
            if isinstance(self.inferer, MagnitudeEdgeInferer):
                load_moments(self._moments(), tensors)
                continue
            batches: dict[str, list[torch.Tensor]] = {}
            for name in sorted(tensors):
                batches.setdefault(name.split(".")[0], []).append(tensors[name])
            for parts in batches.values():
                self.inferer._store.append(parts)
        if not isinstance(self.inferer, MagnitudeEdgeInferer):
            self._written = len(self.inferer._store.widths)

    def fingerprint(self) -> str:
        """Hex digest of all but the samples: the model with its weights, the known edges and the options."""
        inferer = self.inferer
        model = cast("Described", unwrap(inferer._model))
        own = inferer.reduction if isinstance(inferer, MagnitudeEdgeInferer) else inferer.keep_post
        kind, dtype = type(inferer).__name__, str(self._dtype())
        options = [kind, inferer.use_pre_norm, dtype, inferer.prior.edges, inferer.function_nodes, own]
        digest = hashlib.sha256(json.dumps([options, model.config(edges=True)]).encode())
        for name, value in inferer._model.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
        return digest.hexdigest()

    def _dtype(self) -> torch.dtype:
        first = next(self.inferer._model.parameters(), None)
        return torch.float64 if first is not None and first.dtype == torch.float64 else torch.float32

    def _moments(self) -> PairMoments:
        inferer = self.inferer
        assert isinstance(inferer, MagnitudeEdgeInferer)
        if inferer._moments is None:
            inferer._moments = inferer._new_moments(self._dtype(), self.device)
        return inferer._moments
