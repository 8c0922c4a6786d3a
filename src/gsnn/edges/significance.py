"""p- and q-values of all pairs, or of a few without computing those of all."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.special

from gsnn.base.progress import track
from gsnn.base.torch_state import map_in_threads
from gsnn.edges.stats import false_discovery, upper_tail

FloatArray = npt.NDArray[np.float64]
FloatMatrix = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_CHUNK = 1 << 17
_BINS = 1 << 16
# Scores looked through at a time: some times as many as there are bins to add up, and still in cache.
_BLOCK = 1 << 18
# Share of the candidates up to which their p-values are sorted, not counted in bins.
_SORTED = 0.02


class Significance:
    """p-values from scores of a known null distribution, and Benjamini-Hochberg q-values over the candidates.

    Args:
        z: (N, N) scores, float64 or float32; the p-value of a pair is at least P(Z > z) of a standard normal wherever
            that is below 1/2.
        candidates: (N, N) bool, the pairs tested; all others, and those without a p-value, get q = NaN.
        tail: Maps rows i * N + j (K,) to their p-values (K,), elementwise; None for P(Z > z) itself.
        none: (N, N) bool, pairs without a p-value: it is NaN; None for no such pair.
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
        if len(rows) > self.z.size // 4:
            taken: FloatArray = self._all_p[rows]
            return taken
        return self._compute(rows)

    def q_value(self, rows: IntArray) -> FloatArray:
        """(K,) q-values of the given rows; they are over all candidates."""
        if len(rows) > self.z.size // 4 or "_all_q" in self.__dict__:
            taken: FloatArray = self._all_q[rows]
            return taken
        q = np.full(len(rows), np.nan)
        tested = self.candidates.ravel()[rows]
        found = self._few(self._compute(rows[tested])) if tested.any() else np.zeros(0)
        if found is None:
            taken = self._all_q[rows]
            return taken
        q[tested] = found
        return q

    def _few(self, p: FloatArray) -> FloatArray | None:
        """q-values of candidates with these p-values, from the p-values that can matter to them; None if too many.

        The q-value of the member of rank r is the least p * size / rank from rank r on. Beyond a cut it cannot fall
        below the cut, since p * size / rank >= p: often that settles it.
        """
        if np.isnan(p).any():
            return None
        cut = float(p.max())
        # Without the shortcut below, trying again is still far cheaper than sorting the p-values of all pairs.
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
        """Least p * size / rank of the candidates with p > cut, of which ``rank`` candidates come before.

        They are counted in narrow bins of z. The counts bound the ratio in each bin from both sides, so that exact
        p-values are needed in the few bins alone which can hold the least.
        """
        bound = _bound(cut)
        width = (bound + 9.0) / _BINS

        def counted(z: FloatMatrix) -> IntArray:
            return np.bincount(_bins(z.astype(np.float64), bound, width), minlength=_BINS + 1)

        near = self.z[(self.z >= bound) & self.candidates].astype(np.float64)
        # Few pairs are no candidates: they are counted with the others and taken off.
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
        # Bins are cut in floating point: an edge may be off by a rounding.
        low, high = upper_tail(edges[:-1]) * (1 - 1e-9), upper_tail(edges[1:]) * (1 + 1e-9)
        filled = ends > starts
        with np.errstate(divide="ignore"):
            least_low = np.where(filled, low * (self._size / ends), np.inf)
            least = min(near_least, float(np.min(np.where(filled, high * (self._size / ends), np.inf))) * (1 + 1e-9))
        chosen = least_low <= least
        if not chosen.any():
            return near_least
        # Looked for between the outermost of these bins; a bin more on either side, and all beyond the last one.
        outermost = np.flatnonzero(chosen)[[0, -1]]
        highest = min(bound - width * (outermost[0] - 1), bound)
        lowest = bound - width * (outermost[1] + 2) if outermost[1] < _BINS else -np.inf

        def inside(rows: slice) -> FloatArray:
            z = self.z[rows]
            wanted = (z < highest) & (z >= lowest) if lowest > -np.inf else ~(z >= highest)
            z = z[wanted & self.candidates[rows]].astype(np.float64)
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
        """Some sources at a time."""
        step = max(1, _BLOCK // self.z.shape[1])
        return [slice(start, start + step) for start in range(0, len(self.z), step)]

    def _compute(self, rows: IntArray) -> FloatArray:
        # In chunks, so that what a tail needs on the way stays in cache.
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
    """Narrow bins of scores below a bound, the first for those above it, the last for all that are farther and NaN."""
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
    """Least p * size / rank from each of ``p`` on, among the smallest p-values of a family, ascending."""
    # The order of operations is scipy's, so that both ways to a q-value give the same bits.
    ranked = p_sorted * (size / np.arange(1, len(p_sorted) + 1))
    q = np.minimum.accumulate(ranked[::-1])[::-1]
    found: FloatArray = np.clip(q[np.searchsorted(p_sorted, p, side="left")], 0, 1)
    return found
