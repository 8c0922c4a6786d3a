"""Whether edges help samples that were held out: more than random edges do, and in model after model."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from gsnn.base.arrays import FloatArray
from gsnn.base.errors import DataError
from gsnn.base.workers import arrays_in_processes
from gsnn.data.split import conditions
from gsnn.discovery.retrain import BATCH, Trained, refit_workers, resolve_scorers
from gsnn.discovery.verdicts import ALPHA
from gsnn.edges.pairs import PriorEdges
from gsnn.graph.kinds import FUNCTION_EDGES, edge_type

if TYPE_CHECKING:
    from gsnn.data import PerturbationData, Split
    from gsnn.graph import Graph
    from gsnn.training import TrainConfig


FOLDS = 4  # folds of the deciding conditions, each with a seed of its own
SHARE = 0.3  # of the conditions decide; what proposes edges never sees them
# No more conditions than this decide, unless the settings say so: they detect a gain of a quarter of its standard
# deviation with a power of .8 (a test at .004). The others are better used by what proposes edges.
ENOUGH = 200


@dataclass(frozen=True, eq=False)
class Folds:
    """The samples of a refinement.

    Attributes:
        whole: The split that proposes on its training part and decides on its validation part.
        parts: A split for each fold of the deciding samples: the fold is the validation part.
        condition: int64 (M,), the condition of each sample.
        n_conditions: Number of deciding conditions, U.
    """

    whole: Split
    parts: list[Split]
    condition: npt.NDArray[np.int64]
    n_conditions: int

    @classmethod
    def of(cls, data: PerturbationData, config: TrainConfig, *, on_test: bool = False) -> Folds:
        """Split the data: the test part of the settings, then `SHARE` of all conditions to decide, or `ENOUGH` of them.

        Where the validation part of the settings is larger, it decides.

        Args:
            data: The data.
            config: Settings.
            on_test: Let the test part decide, if the proposals come from all other samples.

        Raises:
            DataError: If too little is left.
        """
        seed = config.seed if config.split_seed is None else config.split_seed
        condition = conditions(data.x)
        wanted = min(SHARE, ENOUGH / max(1, len(np.unique(condition))))
        try:
            if on_test:
                whole = data.split(**config.split_options())
                rest = np.sort(np.concatenate([whole.train, whole.validation]))
                whole = replace(whole, train=rest, validation=whole.test, test=whole.test[:0])
            else:
                share = min(max(config.validation, wanted), (1 - config.test) / 2)
                whole = data.split(seed=seed, test=config.test, validation=share)
        except ValueError as error:
            raise DataError(str(error)) from error
        if whole.by == "sample":
            condition = np.arange(len(data))
        deciding = whole.validation[np.isfinite(data.y[whole.validation]).any(1)]
        units = np.unique(condition[deciding])
        if len(units) < 2:
            raise DataError(
                f"{len(units)} conditions with a measured response are left to decide on edges, and 2 are the least; "
                "raise validation, lower test, or refine on more data"
            )
        n_folds = min(FOLDS, len(units))
        dealt = np.random.default_rng((seed, 1)).permutation(units).tolist()
        fold = {unit: place % n_folds for place, unit in enumerate(dealt)}
        of_sample = np.array([fold.get(c, -1) for c in condition[whole.validation].tolist()])
        parts = []
        for number in range(n_folds):
            held, rest = whole.validation[of_sample == number], whole.validation[of_sample != number]
            parts.append(replace(whole, train=np.sort(np.concatenate([whole.train, rest])), validation=held))
        return cls(whole, parts, condition, len(units))


@dataclass(frozen=True, eq=False)
class Losses:
    """Errors of some models, one for each fold, each on the samples of its fold.

    Attributes:
        squares: (U,) sum of squared standardised errors of each deciding condition.
        counts: (U,) number of measured values of each.
        fold: int64 (U,), the fold of the condition.
    """

    squares: FloatArray
    counts: FloatArray
    fold: npt.NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Mean squared error over all measured values."""
        return float(self.squares.sum() / self.counts.sum())


def losses(data: PerturbationData, graph: Graph, config: TrainConfig, folds: Folds) -> Losses:
    """Train a graph for each fold, without its samples and from a seed of its own, and measure the fold.

    Graphs that differ by some edges start from the same numbers (:mod:`gsnn.nn.draws`) and see the same batches and
    dropout, so their losses are paired.

    Args:
        data: The data; its graph is not used.
        graph: The graph.
        config: Settings of the training.
        folds: The folds.
    """
    from gsnn.data import Standardiser
    from gsnn.training import predict, train_model
    from gsnn.training.prepare import new_model

    def one(number: int, part: Split) -> dict[str, npt.NDArray[Any]]:
        own = replace(config, seed=config.seed + number)
        train, held = part.train, part.validation
        y = np.asarray(Standardiser.fit(data.y[train]).transform(data.y), dtype=np.float32)
        model = new_model(graph, own)
        watched = (data.x[held], y[held]) if own.uses_validation else None
        train_model(model, (data.x[train], y[train]), watched, own, progress=None)
        squared = np.square(y[held] - predict(model, data.x[held]))
        seen = np.isfinite(squared)
        unit = np.unique(folds.condition[held], return_inverse=True)[1].reshape(-1)
        count = np.bincount(unit, seen.sum(1))
        return {
            "squares": np.bincount(unit, np.where(seen, squared, 0.0).sum(1))[count > 0],
            "counts": count[count > 0],
            "fold": np.full(int((count > 0).sum()), number),
        }

    jobs = [partial(one, number, part) for number, part in enumerate(folds.parts)]
    with closing(arrays_in_processes(jobs, refit_workers(data, graph, config))) as done:
        found = list(done)
    return Losses(*(np.concatenate([each[name] for each in found]) for name in ("squares", "counts", "fold")))


def degree_classes(graph: Graph, kind: str = FUNCTION_EDGES) -> npt.NDArray[np.int64]:
    """The class of each target of a kind of edges, by its number of in-edges of any kind.

    Degrees are joined, from the largest down, until a class holds a quarter of the targets: otherwise the few targets
    of a rare degree would be compared with each other, and where one of them lacks an edge, several edges help.

    Returns:
        (T,) numbers of the classes, ascending with the degree.
    """
    end = edge_type(kind)[2]
    n_targets = len(graph.node_names_dict[end])
    into = [index[1].numpy() for each, index in graph.edge_index_dict.items() if each[2] == end]
    degree = np.bincount(np.concatenate(into), minlength=n_targets)
    values, inverse, counts = np.unique(degree, return_inverse=True, return_counts=True)
    of_value = np.zeros(len(values), dtype=np.int64)
    held, number = 0, 0
    for k in reversed(range(len(values))):
        of_value[k] = number
        held += counts[k]
        if 4 * held >= n_targets and 4 * counts[:k].sum() >= n_targets:
            held, number = 0, number + 1
    return number - of_value[inverse.reshape(-1)]


def ranks(
    data: PerturbationData,
    model: Trained,
    folds: Folds,
    classes: npt.NDArray[np.int64],
    kind: str = FUNCTION_EDGES,
) -> FloatArray:
    """The rank of each non-edge among the non-edges whose targets are of the same degree class, on deciding samples.

    The non-edges are ranked by ``explained``, the share of the loss that an edge would take away to first order, by a
    model that never saw these samples. For a random non-edge all ranks are equally likely, whatever the data, so the
    result is its p-value.

    Args:
        data: The data.
        model: Trained on the training part of ``folds.whole``.
        folds: The folds.
        classes: From :func:`degree_classes`.
        kind: The kind of the edges.

    Returns:
        (S, T) share of the non-edges of the class that score as high or higher, itself included; 1 where there is no
        score, NaN for edges and self pairs.
    """
    scores = _explained(data, model, folds, kind)
    candidates = PriorEdges(model.graph, kind).candidates()
    share = np.full(candidates.shape, np.nan)
    for number in np.unique(classes):
        members = candidates & (classes == number)[None, :]
        values = np.where(np.isfinite(scores[members]), scores[members], -np.inf)
        above = len(values) - np.searchsorted(np.sort(values), values, side="left")
        share[members] = np.where(np.isfinite(values), above / max(1, len(values)), 1.0)
    return share


def _explained(data: PerturbationData, model: Trained, folds: Folds, kind: str) -> FloatArray:
    """(S, T) first-order gains on the deciding samples."""
    import torch

    from gsnn.data import Standardiser

    rows = folds.whole.validation
    y = Standardiser.fit(data.y[folds.whole.train]).transform(data.y[rows])
    x, target = (torch.as_tensor(np.asarray(part), dtype=torch.float32) for part in (data.x[rows], y))
    scorer = resolve_scorers("gradient-explained", kind=kind)["gradient-explained"]
    return np.asarray(scorer(model.read, model.graph, list(zip(x.split(BATCH), target.split(BATCH), strict=True))))


@dataclass(frozen=True)
class Verdict:
    """Whether edges help samples that were held out.

    Attributes:
        gain: The fall of the loss, as a share of the loss before.
        needed: The gain above which the edges pass.
        p: Of the paired test over the conditions; it must be below the level of the test.
    """

    gain: float
    needed: float
    p: float

    @property
    def passes(self) -> bool:
        """Whether the gain is above what is needed."""
        return self.gain > self.needed


def verdict(
    before: Losses, after: Losses, level: float, min_drop: float | None = None, tolerated: float = 0.0
) -> Verdict:
    """Test whether the loss is lower with some edges.

    Two one-sided paired t tests must both reject that it is not. The test over the U conditions, at the level of the
    test, is about the samples. The test over the means of the F folds, each with its own seed and training part, at
    `ALPHA`, is about the luck of a training, which all conditions of a fold share.

    Args:
        before: Without the edges.
        after: With them.
        level: Of the test over the conditions; the share of `ALPHA` that it may spend.
        min_drop: Least gain to ask for; None for no more than the test needs.
        tolerated: Share by which the loss may rise: the test is whether it rises by less. The gain is still that of the
            loss, and may be below 0.
    """
    # Scaled so that the mean over conditions is the gain.
    units = ((1 + tolerated) * before.squares - after.squares) * (len(before.squares) / before.squares.sum())
    numbers = np.unique(before.fold)
    folds = np.array([units[before.fold == k].mean() for k in numbers])
    gain = float(units.mean())
    critical = [_critical(units, level), _critical(folds, ALPHA), 0.0 if min_drop is None else min_drop]
    error = units.std(ddof=1) / np.sqrt(len(units))
    p = float(stats.t.sf(gain / error, len(units) - 1)) if error > 0 else float(gain <= 0)
    return Verdict(gain - tolerated, max(critical) - tolerated, p)


def _critical(values: FloatArray, level: float) -> float:
    """The mean above which a one-sided t test rejects, given the spread of these values."""
    n = len(values)
    return float(stats.t.isf(level, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")


def power(n_conditions: int, level: float, effect: float = 1.0) -> float:
    """The chance that the paired test over the conditions passes an edge.

    Args:
        n_conditions: U.
        level: Of the test.
        effect: The gain of the edge over its standard deviation among conditions; 1 where it helps in five of six.

    Returns:
        From the noncentral t distribution with U - 1 degrees of freedom.
    """
    if n_conditions < 2:
        return 0.0
    freedom = n_conditions - 1
    return float(stats.nct.sf(stats.t.isf(level, freedom), freedom, effect * np.sqrt(n_conditions)))
