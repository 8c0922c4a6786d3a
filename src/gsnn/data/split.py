"""The split of samples for training, validation and test."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gsnn.io.text import counted

Codes = npt.NDArray[np.int8]
IndexArray = npt.NDArray[np.int64]
SampleArray = npt.NDArray[np.float32]  # inputs and responses are kept in single precision

PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST, UNUSED = range(4)
MIN_SAMPLES = 3  # one each to train, validate and test
_MIN_CONDITIONS = 5
# For more samples the parts are written as packed codes, which take a hundredth of the space of numbers.
_LISTED = 100_000


@dataclass(frozen=True, eq=False)
class Split:
    """The samples for training, for stopping the training, and for the test.

    Attributes:
        train: Indices of samples, ascending int64.
        validation: Likewise.
        test: Likewise.
        by: ``"condition"`` if no treatment row is in two parts, ``"sample"`` if there were too few rows for that.
        warnings: What a user should know about the split.
    """

    train: IndexArray
    validation: IndexArray
    test: IndexArray
    by: str
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def from_codes(cls, codes: Codes, by: str, warnings: Sequence[str] = ()) -> Split:
        """The inverse of :meth:`codes`."""
        train, validation, test = (np.flatnonzero(codes == code) for code in range(UNUSED))
        return cls(train, validation, test, by, list(warnings))

    def codes(self, n: int) -> Codes:
        """The part of each of ``n`` samples: 0 train, 1 validation, 2 test, 3 none.

        Raises:
            ValueError: If an index is out of range, or occurs more than once.
        """
        codes = np.full(n, UNUSED, np.int8)
        for code, name in enumerate(PARTS):
            rows = np.asarray(getattr(self, name), dtype=np.int64)
            if rows.size and not (rows.min() >= 0 and rows.max() < n):
                raise ValueError(f"split.{name} has numbers from {rows.min()} to {rows.max()}, of {n} samples")
            if (codes[rows] != UNUSED).any():
                raise ValueError(f"split.{name} has samples that another part has, too; put each into one")
            codes[rows] = code
            if np.count_nonzero(codes == code) < len(rows):
                raise ValueError(f"split.{name} has a sample twice; name each once")
        return codes

    def to_dict(self) -> dict[str, Any]:
        """The split as JSON-able values."""
        values: dict[str, Any] = {"by": self.by, "warnings": list(self.warnings)}
        parts = {name: np.asarray(getattr(self, name), dtype=np.int64) for name in PARTS}
        if sum(map(len, parts.values())) <= _LISTED:
            return values | {name: rows.tolist() for name, rows in parts.items()}
        codes = self.codes(1 + max(int(rows.max(initial=-1)) for rows in parts.values()))
        return values | {"packed": base64.b64encode(zlib.compress(codes.tobytes())).decode()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], n: int) -> Split:
        """The inverse of :meth:`to_dict`, for ``n`` samples.

        Raises:
            ValueError: If the parts do not fit ``n`` samples.
        """
        by, warnings = str(values["by"]), list(values["warnings"])
        if "packed" in values:
            try:
                unpacked = zlib.decompressobj().decompress(base64.b64decode(values["packed"], validate=True), n)
            except zlib.error as error:
                raise ValueError(str(error)) from error
            return cls.from_codes(np.frombuffer(unpacked, np.int8), by, warnings)
        parts = [values[name] for name in PARTS]
        if not all(type(i) is int and 0 <= i < n for part in parts for i in part):
            raise ValueError(f"samples are numbered from 0 to {n - 1}")
        train, validation, test = (np.asarray(part, dtype=np.int64) for part in parts)
        return cls(train, validation, test, by, warnings)


def conditions(x: SampleArray) -> IndexArray:
    """Number the conditions, which are distinct rows of treatments; (B, I) to (B,), in sorted order of the rows.

    Rows that are equal in single precision are one condition, as for the model, and -0 is 0.
    """
    numbers: IndexArray = np.unique(np.asarray(x, np.float32) + np.float32(0), axis=0, return_inverse=True)[1]
    return numbers.reshape(-1)


def draw_split(
    condition: npt.NDArray[np.integer[Any]], seed: int | np.random.Generator, test: float, validation: float
) -> Split:
    """Set samples aside by condition; see :meth:`gsnn.data.PerturbationData.split`.

    Args:
        condition: (M,) number of the condition of each sample, from 0 on; -1 leaves the sample out.
        seed: Seed or generator of the draw.
        test: Share for the test.
        validation: Share for the validation.

    Example:
        >>> draw_split(np.array([0, 1, 2, 3, 4, 0, -1]), 1, test=0.2, validation=0.0).test.tolist()
        [4]
    """
    for name, share in (("test", test), ("validation", validation)):
        if not 0 <= share < 1:
            raise ValueError(f"{name} must be a share in [0, 1), got {share}")
    by, warnings = "condition", []
    n = int(condition.max(initial=-1)) + 1
    if n < _MIN_CONDITIONS:
        warnings.append(
            f"only {counted(n, 'distinct treatment row')}: split by sample, so the test shows how well "
            "repeats are predicted, not new conditions"
        )
        used = condition >= 0
        by, condition, n = "sample", np.where(used, np.cumsum(used) - 1, -1), int(used.sum())
    n_test, n_validation = (max(1, int(np.floor(share * n + 0.5))) if share else 0 for share in (test, validation))
    if n_test + n_validation >= n:
        raise ValueError(f"test={test} and validation={validation} of {n} {by}s leave nothing to train on; lower them")
    drawn = np.random.default_rng(seed).permutation(n)
    part = np.full(n + 1, TRAIN, np.int8)
    part[drawn[:n_test]] = TEST
    part[drawn[n_test : n_test + n_validation]] = VALIDATION
    part[-1] = UNUSED  # of the condition -1
    return Split.from_codes(part[condition], by, warnings)
