"""Decides on the proposals of a round: which are trained, which pass the gates, and the record of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gsnn.data import PerturbationData
from gsnn.discovery.refinement.held_out import Folds, Losses, Verdict, losses, ranks, verdict
from gsnn.discovery.refinement.joint import largest_ablation_cost
from gsnn.discovery.refinement.proposals import Proposal, draw_one_like
from gsnn.discovery.repairs import repaired
from gsnn.discovery.retrain import Trained, train_on
from gsnn.discovery.verdicts import ALPHA
from gsnn.edges.candidates import Ends
from gsnn.edges.pairs import PriorEdges
from gsnn.graph import Graph
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import KINDS

if TYPE_CHECKING:
    from gsnn.training import TrainConfig

TOLERATED = 0.01  # by which the held-out loss may rise when an edge is removed

EdgesByKind = tuple[tuple[Edge, ...], ...]  # all edges of a graph, in order


def decide(edges: Sequence[Edge], passes: Callable[[list[Edge], list[Edge]], bool]) -> list[Edge]:
    """Which of some edges to keep, by halving.

    All edges are tested together, on top of what was kept so far. If they pass, they all stay. Otherwise the two halves
    are decided one after the other in the same way, down to single edges. A batch costs from 1 to 2 n - 1 tests.

    Args:
        edges: Edges to decide, best first.
        passes: Whether a batch passes on top of those kept: (kept, batch) -> bool.

    Returns:
        The edges to keep, in order.

    Example:
        >>> decide(["bad", "good", "good"], lambda kept, batch: "bad" not in batch)
        ['good', 'good']
    """
    kept: list[Edge] = []

    def settle(batch: list[Edge]) -> None:
        if passes(kept, batch):
            kept.extend(batch)
        elif len(batch) > 1:
            half = (len(batch) + 1) // 2
            settle(batch[:half])
            settle(batch[half:])

    if edges:
        settle(list(edges))
    return kept


@dataclass
class Bench:
    """Decides on the proposals of a round."""

    data: PerturbationData
    config: TrainConfig
    folds: Folds
    classes: Mapping[str, npt.NDArray[np.int64]]
    settings: dict[str, Any]
    number: int
    seen: dict[EdgesByKind, Losses]
    trainings: int = 0
    used: set[EdgesByKind] = field(default_factory=set)
    changes: dict[Edge, Proposal] = field(default_factory=dict)

    def changed(self, graph: Graph, edges: Iterable[Edge]) -> Graph:
        """A graph with some of the proposals."""
        return repaired(graph, [self.changes[edge].repair for edge in edges])

    def train(self, graph: Graph) -> Trained:
        """A model that has seen no deciding sample."""
        self.trainings += 1
        return train_on(self.data, graph, self.config, split=self.folds.whole)

    def round(
        self, before: Trained, proposals: list[Proposal], true: set[Edge] | None
    ) -> tuple[dict[str, Any], Trained]:
        """The record of the round and the model after it."""
        edges = [proposal.edge for proposal in proposals]
        self.changes = {proposal.edge: proposal for proposal in proposals}
        tests: dict[Edge, Verdict] = {}
        random: dict[Edge, float] = {}
        level = 0.0
        if self.settings["decision"] == "none":
            kept = edges
        else:
            added = [proposal for proposal in proposals if proposal.action == "add"]
            alone = self.settings["decision"] != "together"
            for kind in dict.fromkeys(proposal.kind for proposal in added if alone):
                rank = ranks(self.data, before, self.folds, self.classes[kind], kind)
                ends = Ends.of(before.graph, kind)
                for edge in (proposal.edge for proposal in added if proposal.kind == kind):
                    random[edge] = float(rank.ravel()[ends.row(*edge)])
            # A sign changes no model, so nothing is trained for it.
            trained = [proposal.edge for proposal in proposals if proposal.action != "flip"]
            kept, level = self._tested(before, trained, random, tests)
        model = self.train(self.changed(before.graph, kept)) if kept else before
        # Edges were tested fold by fold; the model that goes on must be better, too.
        most = before.validation_loss * (1 + self.tolerated(kept))
        if kept and level and not model.validation_loss < most:
            kept, model = [], before
        turned = [each.edge for each in proposals if each.action == "flip" and each.low > 0]
        if turned and self.settings["decision"] != "none":
            model, kept = replace(model, graph=self.changed(model.graph, turned)), [*kept, *turned]
        stays = set(kept)

        def told(edge: Edge) -> dict[str, float | None]:
            found = tests.get(edge, Verdict(np.nan, np.nan, np.nan))
            figures = {"gain": found.gain, "needed": found.needed, "p": found.p}
            return {"p_random": random.get(edge)} | {name: _finite(value) for name, value in figures.items()}

        record = {
            "loss_before": before.validation_loss,
            "loss_after": model.validation_loss,
            "test_before": before.test_loss,
            "test_after": model.test_loss,
            "edges": [
                {
                    "source": edge[0],
                    "target": edge[1],
                    "kind": each.kind,
                    "action": each.action,
                    "sign": each.sign,
                    "score": _finite(each.score),
                    "method": each.method,
                    **told(edge),
                    "kept": edge in stays,
                    "true": None if true is None else edge in true,
                }
                for edge, each in self.changes.items()
            ],
            "conditions": self.folds.n_conditions,
            "level": level,
            "trainings": self.trainings,
        }
        return record, model

    def _tested(
        self, before: Trained, edges: list[Edge], random: dict[Edge, float], tests: dict[Edge, Verdict]
    ) -> tuple[list[Edge], float]:
        """The edges that pass, and the level of a test; fills ``tests``."""
        decision, most = self.settings["decision"], self.settings["per_round"]
        if decision == "joint" and len(edges) > most:
            pool = self.train(self.changed(before.graph, edges))
            edges = largest_ablation_cost(pool.model, pool.graph, edges, pool.batches, most)
        # The level must not depend on how many edges pass the first gate, since the same samples decide that.
        n_tests = {"single": len(edges), "bisect": 2 * len(edges) - 1}.get(decision, 1)
        level = ALPHA / (self.number * (self.number + 1) * max(1, n_tests))
        edges = [edge for edge in edges if random.get(edge, 0.0) <= ALPHA]

        def passes(kept: list[Edge], batch: list[Edge]) -> bool:
            without, with_them = (self.losses(before.graph, some) for some in (kept, [*kept, *batch]))
            tolerated = self.tolerated(batch)
            least = None if tolerated else self.settings["min_drop"]
            found = verdict(without, with_them, level, least, tolerated)
            tests.update(dict.fromkeys(batch, found))
            return found.passes

        if decision == "bisect":
            return decide(edges, passes), level
        if decision in ("joint", "together"):
            stay = bool(edges) and passes([], edges)
            if stay and decision == "together":
                stay = self.more_than_random(before.graph, edges, level, random)
            return (edges if stay else []), level
        kept: list[Edge] = []
        for edge in edges:
            if passes(kept, [edge]):
                kept.append(edge)
        return kept, level

    def more_than_random(self, graph: Graph, edges: list[Edge], level: float, random: dict[Edge, float]) -> bool:
        """Whether proposals help more than random edges in their place; fills ``random`` with the p of the test."""
        rng = np.random.default_rng((int(self.settings["seed"]), self.number, 2))
        drawn: dict[Edge, Proposal] = {}
        for each in (self.changes[edge] for edge in edges if self.changes[edge].action == "add"):
            drawn |= draw_one_like(each, graph, self.classes[each.kind], {*edges, *drawn}, rng)
        if not drawn:
            return True
        others = [edge for edge in edges if self.changes[edge].action != "add"]
        proposed = self.losses(graph, edges)
        self.changes |= drawn
        instead = self.losses(graph, [*others, *drawn])
        self.changes = {edge: each for edge, each in self.changes.items() if edge not in drawn}
        found = verdict(instead, proposed, level)
        random.update(dict.fromkeys((e for e in edges if e not in others), found.p))
        return found.passes

    def tolerated(self, edges: Sequence[Edge]) -> float:
        """The share by which the loss may rise: above 0 only if all changes remove edges."""
        removed = bool(edges) and all(self.changes[edge].action == "remove" for edge in edges)
        return TOLERATED if removed else 0.0

    def losses(self, graph: Graph, edges: Sequence[Edge]) -> Losses:
        """Held-out losses with some of the proposals."""
        with_them = self.changed(graph, edges)
        key = tuple(tuple(PriorEdges(with_them, kind).edges) for kind in KINDS)
        # Count trainings of earlier rounds too, so that the record of a resumed refinement is the same.
        if key not in self.used:
            self.used.add(key)
            self.trainings += len(self.folds.parts)
        if key not in self.seen:
            self.seen[key] = losses(self.data, with_them, self.config, self.folds)
        return self.seen[key]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
