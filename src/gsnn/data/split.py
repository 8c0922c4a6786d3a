"""Which samples train, validate and test: chosen by index in memory, by a rule in a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int8]
IndexArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST, UNUSED = range(4)
# Keys are below this number.
N_KEYS = 2**64


@dataclass(frozen=True, eq=False)
class StreamedSplit:
    """Which samples train, stop the training and test, as a rule instead of lists.

    Every condition (distinct treatment row, in single precision) has a key, a hash of 64 bits that the seed fixes. The
    smallest keys are the test, the next ones the validation. So a sample's part is known from the sample alone, and no
    condition is in two parts. With fewer than 5 conditions the number of the row is hashed instead of the row.

    Attributes:
        by: ``"condition"``, ``"sample"``, or ``"list"`` if the parts were given.
        seed: Fixes the keys.
        bounds: Keys below the first are the test, others below the second the validation.
        codes: Of given parts, (M,) int8: 0 train, 1 validation, 2 test, 3 none; else None.
        warnings: What a user should know about the split.
    """

    by: str
    seed: int = 0
    bounds: tuple[int, int] = (0, 0)
    codes: Codes | None = None
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def from_lists(cls, split: Split, n: int) -> StreamedSplit:
        """Parts that were chosen elsewhere, such as by plate or by donor.

        Args:
            split: Numbers of the samples in each part; those in none are left out.
            n: Number of all samples M.

        Returns:
            The split; it keeps a byte per sample.

        Raises:
            ValueError: If a number is out of range or in two parts.
        """
        codes = np.full(n, UNUSED, np.int8)
        for code, name in enumerate(PARTS):
            rows = np.asarray(getattr(split, name), dtype=np.int64)
            if rows.size and not (rows.min() >= 0 and rows.max() < n):
                raise ValueError(f"split.{name} has numbers from {rows.min()} to {rows.max()}, of {n} samples")
            if (codes[rows] != UNUSED).any():
                raise ValueError(f"split.{name} has samples that another part has, too; put each into one")
            codes[rows] = code
        return cls("list", codes=codes, warnings=list(split.warnings))

    def codes_of(self, x: FloatArray, start: int) -> Codes:
        """The part of each sample: 0 train, 1 validation, 2 test, 3 none.

        Args:
            x: (B, I) treatments.
            start: Number of the first of these samples.

        Returns:
            (B,) int8.
        """
        if self.codes is not None:
            return self.codes[start : start + len(x)]
        keys = condition_keys(x, self.seed) if self.by == "condition" else sample_keys(start, len(x), self.seed)
        codes = np.full(len(x), TRAIN, np.int8)
        for bound, code in ((self.bounds[1], VALIDATION), (self.bounds[0], TEST)):
            if bound > 0:
                codes[keys <= np.uint64(bound - 1)] = code
        return codes

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        found: dict[str, Any] = {"by": self.by, "warnings": list(self.warnings)}
        if self.codes is not None:
            return found | {name: np.flatnonzero(self.codes == code).tolist() for code, name in enumerate(PARTS)}
        return found | {"seed": self.seed, "bounds": [str(bound) for bound in self.bounds]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], n: int) -> StreamedSplit:
        """The inverse of :meth:`to_dict`, for ``n`` samples."""
        warnings = list(values["warnings"])
        if values["by"] == "list":
            codes = np.full(n, UNUSED, np.int8)
            for code, name in enumerate(PARTS):
                codes[np.asarray(values[name], dtype=np.int64)] = code
            return cls("list", codes=codes, warnings=warnings)
        test, validation = (int(bound) for bound in values["bounds"])
        return cls(values["by"], int(values["seed"]), (test, validation), warnings=warnings)


def condition_keys(x: npt.NDArray[np.floating[Any]], seed: int) -> Keys:
    """A key for each row, the same for equal rows; (B,) uint64, spread evenly.

    Every value is hashed with a salt of its column, and the sum over the columns once more (the finaliser of
    SplitMix64, Steele et al. 2014). -0 is 0.
    """
    bits = (np.asarray(x, dtype=np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)
    salts = np.random.SeedSequence((seed, 1)).generate_state(max(1, bits.shape[1]), np.uint64)
    return _mixed(_mixed(bits + salts[: bits.shape[1]]).sum(axis=1, dtype=np.uint64))


def sample_keys(start: int, n: int, seed: int) -> Keys:
    """A key for each of ``n`` samples from number ``start`` on; (n,) uint64."""
    salt = np.random.SeedSequence((seed, 2)).generate_state(1, np.uint64)
    return _mixed(_mixed(np.arange(start, start + n, dtype=np.uint64) + salt))


def _mixed(z: Keys) -> Keys:
    z = (z + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Split:
    """Which samples train, which stop the training, which test.

    Attributes:
        train: Indices of samples, ascending int64.
        validation: Likewise.
        test: Likewise.
        by: ``"condition"`` if no treatment row is in two parts, ``"sample"`` if there were too few to see to that.
        warnings: What a user should know about the split.
    """

    train: IndexArray
    validation: IndexArray
    test: IndexArray
    by: str
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        parts = {name: [int(i) for i in getattr(self, name)] for name in ("train", "validation", "test")}
        return {"by": self.by, "warnings": list(self.warnings), **parts}
