"""How an inference of a run is done: its processes, what they share, and what is kept for a restart."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import DataError, as_data_error, check_option
from gsnn.base.memory import memory_bytes
from gsnn.base.processes import Processes
from gsnn.base.torch_state import check_device
from gsnn.edges import EdgeInferer, GradientEdgeInferer, MagnitudeEdgeInferer, MagnitudeEdgeRegressor
from gsnn.edges.parallel.checkpoint import EVERY, Checkpoint
from gsnn.edges.parallel.fit_parts import SHARDS, Pass, fit
from gsnn.runs.regressor import learnt_in_training, load_regressor

if TYPE_CHECKING:
    from gsnn.edges.capture import Criterion
    from gsnn.runs.folder import Run

WEIGHTS = ("early", "last")


@dataclass
class Job:
    """One inference, by one process or several.

    Attributes:
        joined: The processes.
        shard: ``samples`` or ``targets``.
        double: Run the model in double precision.
        every: Seconds between two saves of the statistics; 0 after every batch.
        fresh: Use neither the statistics that were kept nor the regressor that has learnt while training.
        memory_budget: Of an inferer, as a number of bytes or a text such as ``'4GB'``; None for its own choice.
        device: Where the model runs.
        weights: ``early`` or ``last``: which weights of the training are read.
        member: The number of the member whose model is read; 0 for the model of the run.
        passes: The passes over the samples so far.

    Raises:
        DataError: If ``shard`` is unknown, ``every`` negative, ``memory_budget`` no amount, or ``device`` unknown.
        RunError: If the device is not there.
    """

    joined: Processes = field(default_factory=Processes)
    shard: str = "samples"
    double: bool = False
    every: float = EVERY
    fresh: bool = False
    memory_budget: str | int | None = None
    device: str = "cpu"
    weights: str = "early"
    member: int = 0
    passes: list[Pass] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_option("shard", self.shard, SHARDS, DataError)
        check_option("weights", self.weights, WEIGHTS, DataError)
        if not self.every >= 0:
            raise DataError(f"save-every must be at least 0 seconds, got {self.every:g}")
        with as_data_error():
            memory_bytes(self.memory_budget, "memory-budget")
        check_device(self.device)

    def offered(self) -> dict[str, Any]:
        """Arguments for the inferers that take them."""
        return {} if self.memory_budget is None else {"memory_budget": self.memory_budget}

    def shared(self, kind: type[EdgeInferer], name: str, n_nodes: int) -> dict[str, Any]:
        """Arguments of an inferer whose work several processes share.

        Raises:
            DataError: If they cannot share its work.
        """
        if self.joined.size == 1:
            return {}
        able = "targets" in inspect.signature(kind).parameters
        if not (able and issubclass(kind, MagnitudeEdgeInferer | GradientEdgeInferer)):
            raise DataError(f"the method '{name}' works in one process only; start it without torchrun or srun")
        return {"targets": self.joined.share(n_nodes)} if self.shard == "targets" else {}

    def fit(
        self, inferer: EdgeInferer, batches: Iterable[Any], crit: Criterion, run: Run, samples: str, progress: bool
    ) -> int:
        """Fit an inferer to samples of a run, shared between processes and with saved statistics where it can be.

        Returns:
            Number of samples, of all processes.
        """
        fresh = self.fresh or self.member > 0  # the regressor learnt beside the model of the run, not of a member
        if isinstance(inferer, MagnitudeEdgeRegressor) and learnt_in_training(run, type(inferer), fresh):
            return load_regressor(run, inferer, samples)
        if not isinstance(inferer, MagnitudeEdgeInferer | GradientEdgeInferer):
            return inferer.fit(batches, crit=crit, device=self.device, verbose=progress)
        label = type(inferer).__name__.removesuffix("EdgeInferer").lower()
        data = run.info["data"]["fingerprint"]
        of_member = f"-{self.member}" if self.member else ""
        checkpoint = Checkpoint(
            Path(run.path) / f"statistics-{label}{of_member}",
            f"{run.info['id']} {data} {samples} {self.weights}{of_member}",
            self.every,
            self.fresh,
        )
        done = fit(
            inferer,
            batches,
            self.joined,
            shard=self.shard,
            crit=crit,
            device=self.device,
            verbose=progress,
            checkpoint=checkpoint,
        )
        self.passes.append(done)
        return done.n

    def forget(self) -> None:
        """Remove the statistics that were kept, once the results are written."""
        for done in self.passes:
            done.forget()

    def facts(self) -> dict[str, Any]:
        """How it was done, for ``run.json``; empty for one uninterrupted process with the defaults."""
        resumed = [done.resumed_after for done in self.passes if done.resumed_after]
        return {
            **({"processes": self.joined.size, "shard": self.shard} if self.joined.size > 1 else {}),
            **({"weights": "last"} if self.weights == "last" else {}),
            **({"double": True} if self.double else {}),
            **({"resumed_after": resumed[0]} if resumed else {}),
        }

    def notes(self) -> list[str]:
        """Notes on the passes for readers of the results."""
        return [done.note for done in self.passes if done.note]
