r"""The distribution of correlations of magnitudes when the gradients are permuted against the activations.

With unit-norm deviations :math:`u^p` of a source and :math:`v^p` of a target at the pairs p of blocks, and one
permutation of the samples at all pairs, the sum of the :math:`u^p \cdot v^p` has a variance and a third moment that are
known exactly (:func:`gsnn.edges.stats.mean_variance`, :func:`gsnn.edges.stats.sum_skewness`). For partial correlations
:math:`u^p` is the residual of the source after regression on the target's parents, and only the pairs at which the
correlation is defined count. The gradient, which is permuted, is not regressed: what the parents explain of it is
chance, and with k parents the correlation is on average larger than the product by
:math:`\sqrt{(n - 1) / (n - 1 - k)}`.

Magnitudes with few values have a discrete distribution, and a smooth tail runs through the middle of its steps. For two
values on both sides half a step is, in standard deviations, half the skewness of the correlation plus 2 / sqrt(n). It
is subtracted from a score, times 1 / (kurtosis - squared skewness) of both sides, which is 1 for two values and less
for all others; for a mean, whose steps are finer where the pairs of blocks differ, also times the square of its
variance; and in full only in the tail (:mod:`gsnn.edges.magnitude`).

Sums over many pairs of blocks are less skewed than their terms, but where the skewness comes from a few large samples
the sum keeps the tail of a term. So the larger of the skewness of the sum and the mean skewness of the terms is taken.

The residual of a source can have large samples on either side: its skewness is 0, and yet the upper tail of the
correlation is as long as that of a skewed one. For the largest correlation the skewness is therefore taken from the
cubes of deviations of the same sign, above with above and below with below, less the value for normal sides, if that is
more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.base.progress import track
from gsnn.base.torch_state import map_in_threads
from gsnn.edges.pair_correlations import PairCorrelations
from gsnn.edges.stats import PairMoments, at_largest, residual_directions, skewness_of_sum, variance_of_mean

# sqrt(n) times the tail of two normal sides: twice the square of E max(z, 0)^3.
_NORMAL_TAIL = 4 / np.pi
_CHUNK_BYTES = 4 * 2**20
_CACHE_BYTES = 2**19


class PlainNull:
    """The null of plain correlations, from the moments of each node alone.

    Args:
        pairs: The correlations.
        moments: The moments they come from.
    """

    def __init__(self, pairs: PairCorrelations, moments: PairMoments) -> None:
        self._pairs, self._n = pairs, moments.n
        n_pairs = pairs.rho_x.shape[1]
        first, second = np.triu_indices(n_pairs)
        places = np.flatnonzero(first == second)
        # Sums of cubes, (N, P) and (T, P).
        self._cubes_x, self._cubes_y = (t[:, places, np.arange(n_pairs)] for t in (pairs.third_x, pairs.third_y))
        x, y = moments.sketch.samples.cpu()
        self.values_x = _two_valued_samples(x.numpy(), pairs.defined_x).T
        self.values_y = _two_valued_samples(y[:, moments.columns].numpy(), pairs.defined_y).T
        # Each product of two or three blocks once, counted as often as it occurs in the sums over all of them.
        twice = np.where(first == second, 1.0, 2.0)
        self._squares = pairs.rho_x[:, first, second] * twice, pairs.rho_y[:, first, second].T.copy()
        at, last, times = _triples(n_pairs)
        self._thirds = pairs.third_x[:, at, last] * times, pairs.third_y[:, at, last].T.copy()
        wx, wy, scale = self.values_x, self.values_y, _scale(self._n)
        self._steps = (
            np.hstack([wx * self._cubes_x * (scale / 2), wx * (2 / np.sqrt(self._n))]),
            np.hstack([wy * self._cubes_y, wy]).T.copy(),
        )

    def mean(self, rows: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Variance of the mean of some sources, in units of that of one correlation, skewness, half a step: (R, T)."""
        squares, cubes, step = (x[rows] @ y for x, y in (self._squares, self._thirds, self._steps))
        defined = self._pairs.count(rows)
        variance, skewness = variance_of_mean(squares, defined), skewness_of_sum(cubes, squares, self._n)
        count = np.maximum(defined, 1.0)
        each = self._cubes_x[rows] @ self._cubes_y.T
        each *= _scale(self._n) / count
        np.maximum(skewness, each, out=skewness)
        bounded = np.minimum(variance, 1.0)
        step *= bounded
        step *= bounded
        step /= count
        return variance, skewness, np.maximum(step, 0.0, out=step)

    def largest(self, rows: slice, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Skewness and half a step of the largest absolute correlations of r (P, R, T): (R, T) each."""
        sides = zip(self._cubes_x[rows].T, self._cubes_y.T, strict=True)
        each = np.stack([np.outer(x, y) for x, y in sides]) * _scale(self._n)
        weights = zip(self.values_x[rows].T, self.values_y.T, strict=True)
        step = _half_step(each, self._n) * np.stack([np.outer(x, y) for x, y in weights])
        return at_largest(r, each), at_largest(r, step)

    def adjacent(self, i: IntArray, j: IntArray) -> tuple[FloatArray, BoolArray]:
        """Correlations (P - 1, K) of neighbouring pairs of blocks, and which of the P are defined (P, K)."""
        p = self._pairs
        n_pairs = p.rho_x.shape[1]
        rho = [p.rho_x[i, k, k - 1] * p.rho_y[j, k, k - 1] for k in range(1, n_pairs)]
        return np.stack(rho) if rho else np.zeros((0, len(i))), p.defined(i, j)


class PartialNull:
    """The null of partial correlations, from the samples that :class:`gsnn.edges.stats.PairMoments` keeps.

    It takes 12 N T bytes, and for ``'max'`` 4 (3 P - 1) N T.

    Args:
        pairs: The partial correlations.
        moments: The moments they come from.
        parents: For each target of the moments the indices of its known parents.
        ridge: As for the correlations.
        largest: Prepare for :meth:`largest` and :meth:`adjacent`, else for :meth:`mean`.
    """

    def __init__(
        self, pairs: PairCorrelations, moments: PairMoments, parents: list[IntArray], ridge: float, *, largest: bool
    ) -> None:
        self._plain, self._n, self._ridge = PlainNull(pairs, moments), moments.n, ridge
        self._pairs, self._parents, self._largest = pairs, parents, largest
        self._n_pairs, n_nodes = pairs.defined_x.shape
        self._n_targets = len(parents)
        self._samples = moments.sketch.samples[0].cpu().numpy().astype(np.float64)
        self._samples -= self._samples.mean(-1, keepdims=True)
        self._first, self._second = np.triu_indices(self._n_pairs)
        self._diagonal = np.flatnonzero(self._first == self._second)
        shape = (n_nodes, self._n_targets)
        if largest:
            y = moments.sketch.samples[1][:, moments.columns].cpu().numpy()
            v = _unit(y.astype(np.float64), np.float64)
            # Sums of the cubes of the samples above the mean, and of those below, (P, T).
            self._above, self._below = ((np.maximum(part, 0.0) ** 3).sum(2) for part in (v, -v))
            self._each, self._steps = np.zeros((2, self._n_pairs, *shape), np.float32)
            self._rho = np.zeros((self._n_pairs - 1, *shape), np.float32)
        else:
            self._variance, self._skewness, self._step = np.zeros((3, *shape), np.float32)
        conditioned = [j for j in range(self._n_targets) if len(parents[j])]
        for j in track(conditioned, "null of partial correlations", show=None):
            self._target(j)
        self._samples = np.zeros(0)
        self._without = np.array([len(s) == 0 for s in parents])

    def _target(self, j: int) -> None:
        """Moments of all sources with one target."""
        defined = ~np.isnan(self._pairs.target(j))
        u = residual_directions(self._samples, self._parents[j], self._ridge, defined)
        rho, third = self._pairs.rho_y[j], self._pairs.third_y[j]
        places = np.arange(self._n_pairs)
        # The third moments of m of n samples are those of all n times sqrt(m / n).
        scale = _scale(self._n) * np.sqrt(u.shape[-1] / self._n)
        cubes_u = (np.square(u) * u).sum(2)
        each = cubes_u * third[self._diagonal, places][:, None] * scale
        steps = _half_step(each, self._n) * _two_valued(u, defined) * self._plain.values_y[j][:, None]
        if self._largest:
            above = (np.maximum(u, 0.0) ** 3).sum(2)
            tail = above * self._above[:, j, None] + (above - cubes_u) * self._below[:, j, None]
            tail *= _scale(self._n) * u.shape[-1] / self._n
            self._each[:, :, j] = np.maximum(each, tail - _NORMAL_TAIL / np.sqrt(self._n))
            self._steps[:, :, j] = steps
            for p in range(1, self._n_pairs):
                self._rho[p - 1, :, j] = np.einsum("nb,nb->n", u[p], u[p - 1]) * rho[p, p - 1]
            return
        squares = np.einsum("pnb,pnb->n", np.tensordot(rho, u, 1), u)
        cubes = self._cubes(u, third)
        count = (defined & (np.einsum("pp->p", rho) > 0)[:, None]).sum(0)
        known = squares > 1e-12
        root = np.where(known, squares, 1.0)
        skewness = np.where(known, cubes * scale / (root * np.sqrt(root)), 0.0)
        # Without any defined pair both sums are 0; this only avoids dividing by 0.
        count = np.maximum(count, 1)
        self._variance[:, j] = variance = np.maximum(squares, 1e-12) / np.square(count)
        self._skewness[:, j] = np.maximum(skewness, each.sum(0) / count)
        self._step[:, j] = steps.sum(0) / count * np.square(np.minimum(variance, 1.0))

    def _cubes(self, u: FloatArray, third: FloatArray) -> FloatArray:
        """(N,) sums over three pairs of blocks of products of third moments, of u (P, N, m)."""
        weight = (third * np.where(self._first == self._second, 1.0, 2.0)[:, None]).astype(np.float32)
        out = np.empty(u.shape[1])
        step = max(1, _CHUNK_BYTES // (4 * len(self._first) * u.shape[2]))
        for start in range(0, len(out), step):
            some = u[:, start : start + step].astype(np.float32)
            shape = some.shape
            some = some.reshape(self._n_pairs, -1)
            tripled = (weight.T @ (some[self._first] * some[self._second])) * some
            out[start : start + step] = tripled.reshape(shape).sum((0, 2), dtype=np.float64)
        return out

    def mean(self, rows: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
        """As :meth:`PlainNull.mean`."""
        variance, skewness, step = (
            np.where(self._without, plain, own[rows])
            for plain, own in zip(self._plain.mean(rows), (self._variance, self._skewness, self._step), strict=True)
        )
        return variance, skewness, step

    def largest(self, rows: slice, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        """As :meth:`PlainNull.largest`."""
        skewness, step = (
            np.where(self._without, plain, at_largest(r, own[:, rows].astype(np.float64)))
            for plain, own in zip(self._plain.largest(rows, r), (self._each, self._steps), strict=True)
        )
        return skewness, step

    def adjacent(self, i: IntArray, j: IntArray) -> tuple[FloatArray, BoolArray]:
        """As :meth:`PlainNull.adjacent`."""
        rho, _ = self._plain.adjacent(i, j)
        return np.where(self._without[j], rho, self._rho[:, i, j]), self._pairs.defined(i, j)


def _scale(n: int) -> float:
    """The factor from a product of two sums of cubes of unit-norm deviations to the skewness."""
    return float(n * np.sqrt(n - 1) / (n - 2))


def _half_step(skewness: FloatArray, n: int) -> FloatArray:
    """Half a step of the correlation of two-valued variables with this skewness, in standard deviations."""
    return np.maximum(skewness, 0.0) / 2 + 2 / np.sqrt(n)


def _triples(n_pairs: int) -> tuple[IntArray, IntArray, IntArray]:
    """Places (K,) in the third moments of p <= q <= s, and how often these three occur in the sum over all p, q, s."""
    first, second = np.triu_indices(n_pairs)
    at, last = np.nonzero(second[:, None] <= np.arange(n_pairs))
    equal = (first[at] == second[at]).astype(np.int64) + (second[at] == last)
    return at, last, np.array([6, 3, 1])[equal]


def _two_valued_samples(samples: npt.NDArray[np.floating], defined: BoolArray) -> FloatArray:
    """:func:`_two_valued` of the deviations of samples (P, N, m), in single precision and chunks that fit in cache."""
    out = np.empty(samples.shape[:2])
    step = max(1, _CACHE_BYTES // (4 * max(samples.shape[2], 1)))

    def of_pair(p: int) -> None:
        for start in range(0, samples.shape[1], step):
            rows = slice(start, start + step)
            out[p, rows] = _two_valued(_unit(samples[p : p + 1, rows], np.float32), defined[p : p + 1, rows])[0]

    for _ in map_in_threads(of_pair, range(len(samples))):
        pass
    return out


def _unit(samples: npt.NDArray[np.floating], dtype: type[np.floating]) -> npt.NDArray[np.floating]:
    """Deviations (P, N, m) of samples from their means, of unit norm; 0 where they do not vary."""
    deviation = (samples - samples.mean(-1, keepdims=True)).astype(dtype, copy=False)
    norm = np.sqrt(np.einsum("pnb,pnb->pn", deviation, deviation))
    deviation /= np.where(norm > 0, norm, 1.0)[..., None]
    return deviation


def _two_valued(u: npt.NDArray[np.floating], defined: BoolArray) -> FloatArray:
    """1 / (kurtosis - squared skewness) of unit-norm deviations (P, N, m), 1 for two values; 0 where not defined."""
    square = np.square(u)
    fourth, third = (np.einsum("pnb,pnb->pn", square, other).astype(np.float64) for other in (square, u))
    return np.where(defined, 1.0 / np.maximum(u.shape[-1] * (fourth - np.square(third)), 1.0), 0.0)
