"""Orders and choices among millions of scores, with stated rules for ties and NaN."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gsnn.base.arrays import FloatArray, IntArray


def largest(score: npt.NDArray[np.floating], k: int) -> IntArray:
    """Positions of the k largest, ascending; among equals the first. No NaN.

    Example:
        >>> largest(np.array([1.0, 3.0, 1.0, 2.0]), 3)
        array([0, 1, 3])
    """
    if k == 0:
        return np.zeros(0, dtype=np.int64)
    if k >= len(score):
        return np.arange(len(score))
    threshold = np.partition(score, len(score) - k)[len(score) - k]
    above = np.flatnonzero(score > threshold)
    equal = np.flatnonzero(score == threshold)[: k - len(above)]
    return np.sort(np.concatenate([above, equal]))


def descending(score: FloatArray) -> IntArray:
    """Stable order, highest first, NaN last.

    Numpy sorts integers more than twenty times faster than it argsorts floats. So the leading bits of an integer
    that orders like the score are packed with the position and sorted; the few scores that agree in these bits and yet
    differ are corrected afterwards.

    Args:
        score: (K,).

    Returns:
        (K,) positions.

    Example:
        >>> descending(np.array([1.0, np.nan, 3.0, 1.0]))
        array([2, 0, 3, 1])
    """
    key = descending_key(score)
    low = np.uint64((1 << max(len(score) - 1, 1).bit_length()) - 1)
    packed = key & ~low
    packed |= np.arange(len(score), dtype=np.uint64)
    packed.sort()
    order = (packed & low).astype(np.int64)
    packed &= ~low
    same = packed[1:] == packed[:-1]
    del packed
    if not same.any():
        return order
    tied = np.zeros(len(order), dtype=bool)
    tied[1:] = same
    tied[:-1] |= same
    places = np.flatnonzero(tied)
    run = np.cumsum(np.concatenate([[True], ~same[places[1:] - 1]]))
    exact = key[order[places]]
    wrong = (exact[1:] < exact[:-1]) & (run[1:] == run[:-1])
    if wrong.any():
        unsorted = np.zeros(run[-1] + 1, dtype=bool)
        unsorted[run[1:][wrong]] = True
        inside = unsorted[run]
        places, run, exact = places[inside], run[inside], exact[inside]
        order[places] = order[places[np.lexsort((order[places], exact, run))]]
    return order


def descending_key(score: FloatArray) -> npt.NDArray[np.uint64]:
    """Integers that sort ascending as the scores sort descending; equal where the scores are equal, NaN the largest."""
    bits = (score + 0.0).view(np.int64)
    # Positive floats order like their bits; of negative ones all bits but the sign are inverted.
    bits ^= (bits >> 63) & np.int64(0x7FFF_FFFF_FFFF_FFFF)
    np.invert(bits, out=bits)
    key = bits.view(np.uint64)
    key ^= np.uint64(1 << 63)
    key[np.isnan(score)] = np.iinfo(np.uint64).max
    return key
