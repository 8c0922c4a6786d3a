"""Statistics saved from time to time, so that a job that was killed continues where it was."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsnn.base.errors import RunError
from gsnn.base.files import write_json
from gsnn.base.processes import Processes
from gsnn.edges.parallel.statistics import Statistics

STATE, FORMAT = "state.json", 2
EVERY = 60.0
# Writing takes at most about this share of the time.
_SHARE = 0.05


@dataclass(frozen=True)
class Checkpoint:
    """Where statistics are saved while they grow, on a disk that all processes see.

    Attributes:
        folder: Made when first needed, and removed with its files when all samples are read.
        samples: Identifies the samples, by a digest for instance: statistics of others are not continued.
        every: Least seconds between two saves; more where saving takes long. 0 saves after every batch.
        fresh: Do not continue saved statistics.
    """

    folder: str | Path
    samples: str
    every: float = EVERY
    fresh: bool = False


class Keeper:
    """Saves and loads the statistics of one pass over the samples.

    Args:
        checkpoint: Where to save; None saves nothing.
        statistics: What to save.
        joined: The processes.
        shard: What they share.
    """

    def __init__(self, checkpoint: Checkpoint | None, statistics: Statistics, joined: Processes, shard: str) -> None:
        self.checkpoint, self.statistics, self.joined, self.shard = checkpoint, statistics, joined, shard
        self.note = ""
        self.begun = time.monotonic()
        self._saved = -1
        self._names: list[str] = []
        self._generation = 0
        self._last, self._cost = time.monotonic(), 0.0

    @property
    def _folder(self) -> Path:
        assert self.checkpoint is not None
        return Path(self.checkpoint.folder)

    def due(self) -> bool:
        """Whether it is time to save; process 0 decides."""
        if self.checkpoint is None or not self.joined.first:
            return False
        least = max(self.checkpoint.every, self._cost / _SHARE) if self.checkpoint.every else 0.0
        return time.monotonic() - self._last >= least

    def worthwhile(self) -> bool:
        """Whether the pass was long enough to keep its statistics while they are scored."""
        if self.checkpoint is None:
            return False
        return time.monotonic() - self.begun >= self.checkpoint.every or self._saved >= 0

    def load(self) -> int:
        """Load saved statistics.

        Returns:
            Batches that were done; 0 to start afresh, with the reason in ``note`` if there were saved statistics.

        Raises:
            RunError: If a file of statistics is damaged.
        """
        if self.checkpoint is None or self.checkpoint.fresh:
            return 0
        state, self.note = self.joined.broadcast(self._read() if self.joined.first else None)
        if state is None:
            return 0
        parts: list[list[str]] = state["parts"]
        if self.shard == "targets":
            self._names = parts[self.joined.rank]
        else:
            # Merged sums are in one file; any number of processes may read stored samples.
            every = [name for names in parts for name in names]
            self._names = every[self.joined.rank :: self.joined.size]
        self._generation = state["generation"]
        self.statistics.read([self._folder / name for name in self._names])
        self._saved = int(state["done"])
        return self._saved

    def _read(self) -> tuple[dict[str, Any] | None, str]:
        path = self._folder / STATE
        if not path.is_file():
            return None, ""
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return None, f"statistics in {self._folder} were not continued: {STATE} cannot be read ({error})"
        here = self._identity()
        if state.get("format") != FORMAT or state.get("fingerprint") != here["fingerprint"]:
            why = "they are of another model, other samples or options"
        elif state.get("layout") != here["layout"]:
            why = f"they were made with {state.get('layout')}, now {here['layout']}"
        elif missing := [n for names in state["parts"] for n in names if not (self._folder / n).is_file()]:
            why = f"{missing[0]} is gone"
        else:
            return state, ""
        return None, f"statistics in {self._folder} were not continued: {why}"

    def _identity(self) -> dict[str, str]:
        samples = "" if self.checkpoint is None else self.checkpoint.samples
        layout = "samples shared" if self.shard == "samples" else f"targets shared by {self.joined.size}"
        return {"fingerprint": f"{self.statistics.fingerprint()} {samples}", "layout": layout}

    def save(self, done: int) -> None:
        """Write the statistics of the first ``done`` batches; every process calls it.

        Args:
            done: Batches done by all.

        Raises:
            OSError: If the disk is full, for instance.
        """
        if self.checkpoint is None or done == self._saved:
            return
        begun, folder, joined = time.monotonic(), self._folder, self.joined
        if joined.first:
            folder.mkdir(parents=True, exist_ok=True)
        joined.barrier("saving statistics")
        self._generation += 1
        if self.shard == "samples":
            self.statistics.gather_for_file(joined)
        names: list[str] = []
        replace = True
        if joined.first or self.shard == "targets" or not self.statistics.adds_up:
            names, replace = self.statistics.write(folder / f"statistics-{self._generation:06d}-{joined.rank:04d}")
        self._names = names if replace else self._names + names
        parts = joined.gather(self._names, "saving statistics")
        if joined.first:
            state = {"format": FORMAT, **self._identity(), "done": done, "generation": self._generation, "parts": parts}
            write_json(folder / STATE, state)
            self._clean(keep={name for names in parts for name in names} | {STATE})
        joined.barrier("saving statistics")
        self._last = time.monotonic()
        self._cost, self._saved = self._last - begun, done

    def remove(self) -> None:
        """Remove what was saved; other files in the folder stay."""
        if self.checkpoint is not None and self.joined.first and self._folder.is_dir():
            self._clean(keep=set())
            with suppress(OSError):
                self._folder.rmdir()

    def _clean(self, keep: set[str]) -> None:
        for path in [*self._folder.glob("statistics-*.safetensors"), *self._folder.glob(STATE)]:
            if path.name not in keep:
                path.unlink(missing_ok=True)


def check_folder(checkpoint: Checkpoint) -> None:
    """Raise a RunError if the folder of a checkpoint is a file."""
    folder = Path(checkpoint.folder)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; statistics need a folder")
