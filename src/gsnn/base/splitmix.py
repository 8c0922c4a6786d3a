"""SplitMix64 (Steele et al. 2014), a hash of 64-bit numbers that gives random numbers by key."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

# Weights, masks and splits of trained models depend on these numbers: never change them.
STEP = 0x9E3779B97F4A7C15
"""Added before the bits are scrambled; also the distance between numbers of a sequence."""

MIX = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""The two factors."""


def mixed(values: Hashes) -> Hashes:
    """Scramble 64-bit numbers, one to one.

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
