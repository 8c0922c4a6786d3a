"""Boosted trees as text, and how far a problem lies from those that they were grown on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.base.errors import DataError
from gsnn.base.files import atomic_path
from gsnn.base.torch_state import in_turn
from gsnn.discovery.stacked.features import FloatMatrix

FORMAT = "gsnn scorer 1"
# Pairs that are judged, the best by a cheap score.
JUDGED = 500_000
# Pairs judged at a time.
_PAIRS = 1 << 16
# Standardised figures of a problem are cut at this: one unusual figure must not make a problem unlike all others.
_FAR = 5.0


@dataclass(frozen=True, eq=False)
class Scorer:
    """Boosted trees that judge pairs of functions from their features.

    Attributes:
        trees: The trees, in LightGBM's text format.
        names: Names of the features that they see, in order.
        figures: (P, 2 Q) :func:`figures` of the problems that they were grown on.
        card: What they saw, when, and with what settings.

    Example:
        >>> Scorer("", ["a"], np.zeros((2, 2)), {}).familiar([0.0, 0.0])
        0.0
    """

    trees: str
    names: list[str]
    figures: FloatArray
    card: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    @cache
    def shipped(name: Literal["scorer", "structure"] = "scorer") -> Scorer:
        """The scorer that comes with the package, or its control, which has seen topology alone."""
        with resources.as_file(resources.files("gsnn.discovery.learned") / f"{name}.json") as path:
            return Scorer.load(path)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a scorer that :meth:`save` wrote. The file is text, and nothing in it is executed.

        Raises:
            DataError: If the file holds no scorer.
        """
        try:
            held = json.loads(Path(path).read_text(encoding="utf-8"))
            if held["format"] != FORMAT:
                raise DataError(f"{path} has format {held['format']!r}, expected {FORMAT!r}")
            figures_ = np.array(held["figures"], dtype=np.float64).reshape(-1, 2 * len(held["names"]))
            return cls(str(held["trees"]), [str(name) for name in held["names"]], figures_, dict(held["card"]))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path} holds no scorer of gsnn: {error}") from error

    def save(self, path: Path | str) -> None:
        """Write it as JSON."""
        held = {
            "format": FORMAT,
            "card": self.card,
            "names": self.names,
            "figures": np.round(self.figures, 3).tolist(),
            "trees": self.trees,
        }
        with atomic_path(Path(path)) as new:
            new.write_text(json.dumps(held) + "\n", encoding="utf-8")

    def log_odds(self, names: Sequence[str], values: FloatMatrix) -> FloatArray:
        """Logarithms of the odds that pairs are missing edges, up to a constant.

        Args:
            names: Names of the features, in any order.
            values: (K, F) features of the pairs; NaN where undefined.

        Returns:
            (K,).

        Raises:
            ValueError: If a feature is missing.
        """
        places = self._places(names)
        odds = np.empty(len(values))
        # On one thread: a process that is forked after OpenMP had several would wait for them for ever.
        with in_turn(), threadpool_limits(1, user_api="openmp"):
            for start in range(0, len(values), _PAIRS):  # in parts, since ordering the features copies them
                ordered = values[start : start + _PAIRS, places]
                odds[start : start + _PAIRS] = self._booster.predict(ordered, raw_score=True, num_threads=1)
        return odds

    def distance(self, names: Sequence[str], values: FloatMatrix) -> float:
        """Distance of a problem to the nearest that was learnt from, as a multiple of what is usual among those."""
        places = self._places(names)
        return self.familiar(figures(values).reshape(2, -1)[:, places].ravel())

    def familiar(self, of_problem: Sequence[float] | FloatArray) -> float:
        """The same, from the :func:`figures` of a problem."""
        if not len(self.figures):
            return 0.0
        mean, spread = self.figures.mean(0), self.figures.std(0)
        spread[spread < 1e-6] = np.inf
        learnt, this = (np.clip((each - mean) / spread, -_FAR, _FAR) for each in (self.figures, np.asarray(of_problem)))
        nearest = float(np.sqrt(((learnt - this) ** 2).mean(1).min()))
        usual = self._usual(learnt)
        return nearest / usual if usual > 0 else 0.0

    @staticmethod
    def _usual(learnt: FloatArray) -> float:
        """The distance to the nearest other problem that one in twenty problems exceeds."""
        squares = (learnt**2).mean(1)
        between = squares[:, None] + squares[None, :] - 2 * learnt @ learnt.T / learnt.shape[1]
        np.fill_diagonal(between, np.inf)
        return float(np.quantile(np.sqrt(np.maximum(between.min(1), 0.0)), 0.95)) if len(learnt) > 1 else 0.0

    def _places(self, names: Sequence[str]) -> list[int]:
        """The columns of the features of the trees."""
        place = {name: k for k, name in enumerate(names)}
        missing = [name for name in self.names if name not in place]
        if missing:
            raise ValueError(
                f"the scorer needs features that were not given: {missing[:5]}; teach one with this version"
            )
        return [place[name] for name in self.names]

    @cached_property
    def _booster(self) -> Any:  # noqa: ANN401 - LightGBM has no types
        from lightgbm import Booster  # deferred: it takes a while

        return Booster(model_str=self.trees)


def best_judged(
    score: npt.NDArray[np.floating], candidates: BoolArray, judge: Callable[[IntArray], FloatArray]
) -> FloatArray:
    """Scores of all pairs, of which only the best are judged: features of all would fill the memory.

    Args:
        score: (N, N), chooses the best pairs.
        candidates: (N, N), False for pairs to leave out.
        judge: Returns new scores of some pairs, i * N + j.

    Returns:
        (N, N): new scores of the best 500,000 pairs; the others follow them in their old order. NaN for pairs that are
        left out or have no score.
    """
    total = np.where(candidates, score, np.nan).ravel().astype(np.float64, copy=False)
    rest = np.isfinite(total)
    free = np.flatnonzero(rest)
    rows = np.sort(free[np.argsort(-total[free], kind="stable")[:JUDGED]])
    del free
    rest[rows] = False
    judged = judge(rows)
    if rest.any():
        total[rest] += judged.min() - total[rest].max() - 1.0
    total[rows] = judged
    return total.reshape(score.shape)


def figures(values: FloatMatrix, weight: npt.NDArray[np.floating] | None = None) -> FloatArray:
    """Mean and SD of every feature over the pairs of a problem.

    Args:
        values: (K, F), NaN where undefined.
        weight: (K,) how many pairs each stands for; None for 1.

    Returns:
        (2 F,): the means, then the SDs; 0 where a feature is defined nowhere.

    Example:
        >>> figures(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
        [2.0, 0.0, 1.0, 0.0]
    """
    counts = np.ones(len(values)) if weight is None else np.asarray(weight, np.float64)
    mean, spread = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for k in range(values.shape[1]):  # column by column: all at once would take several times their memory
        defined = np.isfinite(values[:, k])
        column, share = values[defined, k].astype(np.float64), counts[defined]
        total = max(float(share.sum()), 1e-12)
        mean[k] = (column * share).sum() / total
        spread[k] = np.sqrt(((column - mean[k]) ** 2 * share).sum() / total)
    return np.concatenate([mean, spread])
