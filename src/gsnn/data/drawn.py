"""A random sample of data with too many samples for the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import DataError

SAMPLE = 2000  # samples that are drawn by default


@dataclass(frozen=True)
class Drawn:
    """How a sample was drawn.

    Attributes:
        used: How many samples were drawn; those without measured readout may have been left out since.
        of: From how many.
        seed: Seed of the draw.
        fingerprint: That of all the samples; empty if it is not known.
        FEWEST: Smallest number of samples that can be used.
    """

    FEWEST: ClassVar[int] = 3

    used: int
    of: int
    seed: int
    fingerprint: str = ""

    @staticmethod
    def rows(n: int, pool: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
        """``n`` of the rows in ascending order, or all of them if there are no more.

        Args:
            n: How many to draw, at least 3.
            pool: The rows to draw from.
            seed: Seed of the draw.

        Raises:
            DataError: If ``n`` is below 3.

        Example:
            >>> Drawn.rows(3, np.arange(10), seed=0).tolist()
            [5, 6, 9]
        """
        if n < Drawn.FEWEST:
            raise DataError(f"a sample needs at least {Drawn.FEWEST} samples, got {n}")
        if n >= len(pool):
            return np.sort(pool)
        return np.sort(np.random.default_rng(seed).choice(pool, n, replace=False, shuffle=False))

    @property
    def partial(self) -> bool:
        """Whether there are more samples than were drawn."""
        return self.used < self.of

    @property
    def note(self) -> str:
        """A note for results that are computed from a part of the samples."""
        return f"the samples stay in their files, and these figures are of {self}"

    def to_dict(self) -> dict[str, int]:
        """How many of how many, and the seed; JSON-able."""
        return {"used": self.used, "of": self.of, "seed": self.seed}

    def __str__(self) -> str:
        """How many of how many, by which seed."""
        return f"{self.used:,} of {self.of:,} samples, drawn at random (seed {self.seed})"
