"""p- and q-values of all pairs, or of a few without computing those of all."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property

import numpy as np
import scipy.special

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.base.progress import track
from gsnn.base.torch_state import map_in_threads
from gsnn.edges.pairs import Column, FloatMatrix
from gsnn.edges.stats import false_discovery, upper_tail

_CHUNK = 1 << 17
_BINS = 1 << 16
# Scores that are binned at a time: several for each bin, and still in cache.
_BLOCK = 1 << 18
# Share of the candidates up to which their p-values are sorted, not counted in bins.
_SORTED = 0.02


def lazy_columns(p_values: Callable[[], FloatArray], candidates: BoolArray) -> dict[str, Column]:
    """Columns p_value and q_value of all pairs (S, T), computed when first asked for; q is over the candidates."""

    @cache
    def p() -> FloatArray:
        return p_values().ravel()

    @cache
    def q() -> FloatArray:
        return false_discovery(p(), candidates.ravel())

    return {"p_value": lambda rows: p()[rows], "q_value": lambda rows: q()[rows]}


class Significance:
    """p-values from scores of a known null distribution, and Benjamini-Hochberg q-values over the candidates.

    Args:
        z: (N, N) scores, float64 or float32; the p-value of a pair is at least P(Z > z) of a standard normal wherever
            that is below 1/2.
        candidates: (N, N) bool, the pairs tested; the others, and those without a p-value, have q = NaN.
        tail: Maps rows i * N + j (K,) to their p-values (K,), elementwise; None for P(Z > z) itself.
        none: (N, N) bool, the pairs whose p-value is NaN; None for no such pair.
    """

    def __init__(
        self,
        z: FloatMatrix,
        candidates: BoolArray,
        tail: Callable[[IntArray], FloatArray] | None = None,
        *,
        none: BoolArray | None = None,
    ) -> None:
        self._none = none if none is not None and none.any() else None
        self.z, self.candidates = z, candidates if self._none is None else candidates & ~self._none
        self.monotone = tail is None
        self.tail = tail or (lambda rows: upper_tail(z.ravel()[rows].astype(np.float64, copy=False)))
        self._size = int(candidates.sum())

    def p_value(self, rows: IntArray) -> FloatArray:
        """(K,) p-values of the given rows."""
        return self._all_p[rows] if len(rows) > self.z.size // 4 else self._compute(rows)

    def q_value(self, rows: IntArray) -> FloatArray:
        """(K,) q-values of the given rows; they are over all candidates."""
        if len(rows) <= self.z.size // 4 and "_all_q" not in self.__dict__:
            tested = self.candidates.ravel()[rows]
            few = self._few(self._compute(rows[tested])) if tested.any() else np.zeros(0)
            if few is not None:
                q = np.full(len(rows), np.nan)
                q[tested] = few
                return q
        return self._all_q[rows]

    def _few(self, p: FloatArray) -> FloatArray | None:
        """q-values of candidates with these p-values, from the p-values that can matter to them; None if too many.

        The q-value of the member of rank r is the least p * size / rank from rank r on. Beyond a cut this ratio is not
        below the cut, since p * size / rank >= p, which often settles it.
        """
        if np.isnan(p).any():
            return None
        cut = float(p.max())
        # Without the shortcut below, several attempts are still far cheaper than sorting the p-values of all pairs.
        for _ in range(2 if self.monotone else 8):
            if cut > (_SORTED if self.monotone else 0.4):
                break
            smallest = self._up_to(cut)
            q = adjusted(smallest, p, self._size)
            if q.max() <= cut:
                return q
            cut = float(q.max()) * (1 + 1e-12)
        cut = float(p.max())
        if not self.monotone or cut > 0.4:
            return None
        smallest = self._up_to(cut)
        return np.minimum(adjusted(smallest, p, self._size), self._least_beyond(cut, len(smallest)))

    def _up_to(self, cut: float) -> FloatArray:
        """All p-values of candidates up to the cut, ascending."""
        p = self._compute(np.flatnonzero((self.z >= _bound(cut)) & self.candidates))
        p = p[p <= cut]
        p.sort()
        return p

    def _least_beyond(self, cut: float, rank: int) -> float:
        """Least p * size / rank of the candidates with p > cut, which come after ``rank`` others.

        They are counted in narrow bins of z. The counts bound the ratio in each bin from both sides, so that exact
        p-values are needed only in the few bins that can hold the least.
        """
        bound = _bound(cut)
        width = (bound + 9.0) / _BINS

        def counted(z: FloatMatrix) -> IntArray:
            return np.bincount(_bins(z.astype(np.float64), bound, width), minlength=_BINS + 1)

        near = self.z[(self.z >= bound) & self.candidates].astype(np.float64)
        # The few pairs that are no candidates are counted with the others and subtracted.
        counts = -counted(self.z[~self.candidates]) - counted(near)
        for part in map_in_threads(lambda rows: counted(self.z[rows].ravel()), self._blocks()):
            counts += part
        near = upper_tail(near)
        near = np.sort(near[near > cut])
        near_least = float(np.min(near * (self._size / np.arange(rank + 1, rank + len(near) + 1)), initial=1.0))
        rank += len(near)
        if not counts.any():
            return near_least
        ends = rank + np.cumsum(counts)
        starts = np.concatenate([[rank], ends[:-1]])
        edges = bound - width * np.arange(_BINS + 2, dtype=np.float64)
        edges[-1] = -np.inf
        # The edge of a bin may be off by a rounding.
        low, high = upper_tail(edges[:-1]) * (1 - 1e-9), upper_tail(edges[1:]) * (1 + 1e-9)
        filled = ends > starts
        with np.errstate(divide="ignore"):
            least_low = np.where(filled, low * (self._size / ends), np.inf)
            least = min(near_least, float(np.min(np.where(filled, high * (self._size / ends), np.inf))) * (1 + 1e-9))
        chosen = least_low <= least
        if not chosen.any():
            return near_least
        # From the first to the last of these bins, with one more on either side, and all beyond the last bin.
        outermost = np.flatnonzero(chosen)[[0, -1]]
        highest = min(bound - width * (outermost[0] - 1), bound)
        lowest = bound - width * (outermost[1] + 2) if outermost[1] < _BINS else -np.inf

        def inside(rows: slice) -> FloatArray:
            z = self.z[rows]
            between = (z < highest) & (z >= lowest) if lowest > -np.inf else ~(z >= highest)
            z = z[between & self.candidates[rows]].astype(np.float64)
            return z[chosen[_bins(z, bound, width)]]

        z = np.concatenate(list(map_in_threads(inside, self._blocks())))
        bins = _bins(z, bound, width)
        order = np.lexsort((-z, bins))
        z, bins = z[order], bins[order]
        first = np.searchsorted(bins, bins, side="left")
        ranks = starts[bins] + np.arange(1, len(bins) + 1) - first
        exact = np.min(upper_tail(z) * (self._size / ranks), initial=np.inf)
        return min(float(exact), near_least)

    def _blocks(self) -> list[slice]:
        """Blocks of sources."""
        step = max(1, _BLOCK // self.z.shape[1])
        return [slice(start, start + step) for start in range(0, len(self.z), step)]

    def _compute(self, rows: IntArray) -> FloatArray:
        # In chunks, so that the intermediate arrays of a tail stay in cache.
        starts = track(range(0, len(rows), _CHUNK), "p-values", show=None)
        parts = [self.tail(rows[start : start + _CHUNK]) for start in starts]
        p: FloatArray = np.concatenate(parts) if parts else np.zeros(0)
        if self._none is not None:
            p[self._none.ravel()[rows]] = np.nan
        return p

    @cached_property
    def _all_p(self) -> FloatArray:
        return self._compute(np.arange(self.z.size))

    @cached_property
    def _all_q(self) -> FloatArray:
        return false_discovery(self._all_p, self.candidates.ravel())


def _bins(z: FloatArray, bound: float, width: float) -> IntArray:
    """Narrow bins of scores below a bound: the first also holds all above it, the last all farther ones and NaN."""
    scaled = bound - z
    scaled /= width
    # fmin takes the number where the other is NaN.
    np.fmin(scaled, _BINS, out=scaled)
    np.maximum(scaled, 0.0, out=scaled)
    return scaled.astype(np.int64)


def _bound(cut: float) -> float:
    """A score below which no p-value is as small as the cut."""
    return float(-scipy.special.ndtri(max(cut, 1e-300))) * (1 - 1e-9) - 1e-9


def adjusted(p_sorted: FloatArray, p: FloatArray, size: int) -> FloatArray:
    """For each of ``p`` the least p * size / rank from it on, among the smallest p-values of a family, ascending."""
    # In the order of scipy's operations, so that both ways to a q-value give the same bits.
    ranked = p_sorted * (size / np.arange(1, len(p_sorted) + 1))
    q = np.minimum.accumulate(ranked[::-1])[::-1]
    return np.clip(q[np.searchsorted(p_sorted, p, side="left")], 0, 1)
