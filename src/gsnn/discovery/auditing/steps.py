"""The steps of an audit: its samples, its networks, and the closing of edges."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import DataError
from gsnn.base.workers import json_in_processes, workers_for
from gsnn.data import PerturbationData, Split
from gsnn.data.split import conditions
from gsnn.discovery.auditing.result import Audit
from gsnn.discovery.auditing.verdicts import reasons_not_to_judge
from gsnn.graph import EDGE_TYPES, Graph

if TYPE_CHECKING:
    from gsnn.discovery.auditing.restricted import Recipe, Restricted
    from gsnn.training import TrainConfig

T = TypeVar("T")

FOLDS = 4  # of the conditions, each with a seed of its own
_AGAIN = 10  # without some edges, a network is trained on for a tenth of its steps


@dataclass(frozen=True, eq=False)
class Parts:
    """The samples of an audit.

    Attributes:
        split: Of the settings; its test part judges nothing.
        condition: (M,) the condition of each sample.
        folds: Samples of each fold; the others train, except for the test part of ``split``.
    """

    split: Split
    condition: IntArray
    folds: list[IntArray]

    @classmethod
    def of(cls, data: PerturbationData, config: TrainConfig, seed: int) -> Parts:
        """Deal the conditions into folds."""
        try:
            split = data.split(**config.split_options())
        except ValueError as error:
            raise DataError(str(error)) from error
        condition = np.arange(len(data)) if split.by == "sample" else conditions(data.x).astype(np.int64)
        rows = np.sort(np.concatenate([split.train, split.validation]))
        rows = rows[np.isfinite(data.y[rows]).any(1)]
        units = np.unique(condition[rows])
        if len(units) < FOLDS:
            raise DataError(
                f"{len(units)} conditions with a measured response are left to judge edges, and {FOLDS} are the least; "
                "lower test, or audit on more data"
            )
        dealt = np.random.default_rng((seed, 2)).permutation(units)
        fold = {unit: place % FOLDS for place, unit in enumerate(dealt.tolist())}
        of_row = np.array([fold[unit] for unit in condition[rows].tolist()])
        return cls(split, condition, [rows[of_row == k] for k in range(FOLDS)])

    def train(self, number: int) -> IntArray:
        """Samples that train the network of a fold."""
        return np.sort(np.concatenate([rows for k, rows in enumerate(self.folds) if k != number]))


@dataclass(eq=False)
class Work:
    """The steps of an audit. Each returns a record of rounded numbers, so that a file holds exactly the same."""

    data: PerturbationData
    parts: Parts
    recipe: Recipe
    seed: int

    @classmethod
    def of_audit(cls, data: PerturbationData, audit: Audit) -> Work:
        """The steps of a finished audit of these data."""
        from gsnn.discovery.auditing.restricted import Recipe
        from gsnn.training import TrainConfig

        seed, config = int(audit.settings["seed"]), TrainConfig.from_dict(audit.settings["config"])
        return cls(data, Parts.of(data, config, seed), Recipe(**audit.settings["recipe"]), seed)

    def samples(self, number: int) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
        """Training and held-out samples of a fold, standardised by the former."""
        from gsnn.data import Standardiser

        train, held = self.parts.train(number), self.parts.folds[number]
        x = np.asarray(self.data.x, dtype=np.float64)
        y = np.asarray(Standardiser.fit(self.data.y[train]).transform(self.data.y), dtype=np.float64)
        return (x[train], y[train]), (x[held], y[held])

    def trained(self, number: int) -> dict[str, Any]:
        """Train the network of a fold and estimate the effect of closing each edge."""
        from gsnn.discovery.auditing.closing import closest_parents, first_order, squared_errors
        from gsnn.discovery.auditing.restricted import fit_restricted

        train, held = self.samples(number)
        net = fit_restricted(self.data.graph, *train, self.recipe, self.seed + number)
        estimate = first_order(net, *held, self.seed)
        alike, other = closest_parents(net, train[0])
        loss = squared_errors(net, *held)
        return {
            "network": net.to_lists(),
            "conditions": len(np.unique(self.parts.condition[self.parts.folds[number]])),
            "loss": float(loss.sum()),
            "total": float(np.nansum(np.square(held[1]))),
            "estimate": self._sums(number, estimate.rise),
            "carried": _short(estimate.carried),
            "alike": _short(alike),
            "other": other.tolist(),
        }

    def network(self, record: dict[str, Any]) -> Restricted:
        """The network of a fold, from its record."""
        from gsnn.discovery.auditing.restricted import Restricted

        return Restricted.from_lists(self.data.graph, record["network"])

    def refitted(self, number: int, record: dict[str, Any], edges: IntArray) -> dict[str, Any]:
        """Close edges one by one, each with a refit."""
        from gsnn.discovery.auditing.closing import refitted_errors, squared_errors

        train, held = self.samples(number)
        net = self.network(record)
        if not len(edges):
            return {"edges": [], "rise": [], "square": []}
        rise = refitted_errors(net, edges.tolist(), train, held, self.seed) - squared_errors(net, *held)
        return {"edges": edges.tolist(), **self._sums(number, rise)}

    def loss_without(self, number: int, record: dict[str, Any], edges: Sequence[int]) -> float:
        """Held-out loss of a fold after some more training without some edges."""
        from gsnn.discovery.auditing.closing import squared_errors
        from gsnn.discovery.auditing.restricted import train_restricted

        train, held = self.samples(number)
        net = train_restricted(self.network(record), *train, self.shorter(), self.seed + number, edges)
        return float(squared_errors(net, *held).sum())

    def losses_without(self, records: Sequence[dict[str, Any]], edges: Sequence[int]) -> float:
        """:meth:`loss_without`, added up over all folds."""
        jobs = [partial(self.loss_without, k, record, edges) for k, record in enumerate(records)]
        with self.side_by_side(jobs) as folds:
            return sum(folds)

    def side_by_side(self, jobs: Sequence[Callable[[], T]]) -> closing[Generator[T, None, None]]:
        """Results of jobs of several folds, in their order, by as many processes as there are threads."""
        from gsnn.discovery.auditing.closing import bytes_of
        from gsnn.discovery.auditing.restricted import Restricted

        net = Restricted(self.data.graph)
        return closing(json_in_processes(jobs, workers_for(net, self.recipe.batch, bytes_of(net))))

    def shorter(self) -> Recipe:
        """The recipe of a further, shorter training."""
        return replace(self.recipe, steps=max(1, self.recipe.steps // _AGAIN), rate=self.recipe.rate / 4)

    def _sums(self, number: int, rise: FloatArray) -> dict[str, Any]:
        """Sums over the conditions of a fold, and of their squares."""
        each = self.by_condition(number, rise)
        return {"rise": _short(each.sum(1)), "square": _short(np.square(each).sum(1))}

    def by_condition(self, number: int, values: FloatArray) -> FloatArray:
        """(E, M) values of the samples of a fold, added up over those of each condition: (E, U)."""
        unit = np.unique(self.parts.condition[self.parts.folds[number]], return_inverse=True)[1].reshape(-1)
        each = np.zeros((len(values), unit.max() + 1))
        np.add.at(each.T, unit, values.T)
        return each

    def names(self) -> list[tuple[str, str, str]]:
        """Kind, source and target of each edge."""
        graph = self.data.graph
        names, index = graph.node_names_dict, graph.edge_index_dict
        return [
            (f"{kind[0]}->{kind[2]}", names[kind[0]][a], names[kind[2]][b])
            for kind in EDGE_TYPES
            for a, b in index[kind].T.tolist()
        ]

    def signs(self) -> IntArray:
        """(E,) signs of the network, 0 where unknown."""
        signs, kinds = self.data.graph.edge_sign_dict, kind_numbers(self.data.graph)
        if signs is None:
            return np.zeros(len(kinds), dtype=np.int64)
        return np.concatenate([signs[kind].numpy() for kind in EDGE_TYPES]).astype(np.int64)

    def hidden(self) -> list[str]:
        """For each edge the reason why the judging samples cannot show it, empty where they can."""
        from gsnn.discovery.auditing.restricted import STEPS

        rows = np.sort(np.concatenate(self.parts.folds))
        return reasons_not_to_judge(self.data.graph, self.data.x[rows], self.data.y[rows], STEPS)


def kind_numbers(graph: Graph) -> IntArray:
    """(E,) the number of the kind of each edge, in the order of `EDGE_TYPES`."""
    sizes = [graph.edge_index_dict[kind].shape[1] for kind in EDGE_TYPES]
    return np.repeat(np.arange(len(EDGE_TYPES)), sizes)


def _short(values: FloatArray) -> list[float]:
    """Round to seven digits, so that a resumed audit reads from its file what another one has in memory."""
    return [float(f"{value:.7g}") for value in np.asarray(values, dtype=float).tolist()]
