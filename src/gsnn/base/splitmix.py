"""A hash of 64-bit numbers, for random numbers that follow from what they are for: SplitMix64 (Steele et al. 2014)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

# Weights, masks and splits of trained models depend on these numbers: never change them.
STEP = 0x9E3779B97F4A7C15
"""What is added before the bits are scrambled, and lies between numbers that follow each other."""

MIX = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""The two factors."""


def mixed(values: Hashes) -> Hashes:
    """Scramble 64-bit numbers, one to one.

    Args:
        values: uint64.

    Example:
        >>> mixed(np.zeros(1, np.uint64))
        array([16294208416658607535], dtype=uint64)
    """
    values = values + np.uint64(STEP)  # a copy; the rest is in place
    values ^= values >> np.uint64(30)
    values *= np.uint64(MIX[0])
    values ^= values >> np.uint64(27)
    values *= np.uint64(MIX[1])
    values ^= values >> np.uint64(31)
    return values
