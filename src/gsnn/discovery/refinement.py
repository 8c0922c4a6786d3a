"""Rounds of inferring edges and keeping those that help samples that were held out more than random edges do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import unknown_option
from gsnn.base.progress import track
from gsnn.data import PerturbationData
from gsnn.data.digest import fingerprint
from gsnn.discovery.held_out import ALPHA, Folds, Losses, Verdict, degree_classes, losses, ranks, verdict
from gsnn.discovery.joint import largest_ablation_cost, stacked_once
from gsnn.discovery.methods import DEFAULT_METHOD, method_names
from gsnn.discovery.refine_result import ARMS, Refinement
from gsnn.discovery.retrain import Scorer, Trained, resolve_scorers, train_on
from gsnn.discovery.stacked.caps import chosen_pairs
from gsnn.edges.pairs import descending
from gsnn.graph import Graph
from gsnn.graph.checks import Edge

if TYPE_CHECKING:
    from gsnn.training import TrainConfig

DECISIONS = ("single", "bisect", "joint", "none")
# What proposes edges if nothing is said: a method by itself, or several whose proposals are weighed together.
BY_DEFAULT = (DEFAULT_METHOD,)
BY_DEFAULT_JOINT = ("stacked", "gradient-explained")

__all__ = ["DECISIONS", "decide", "refine"]


class Proposal(NamedTuple):
    """An edge that may enter, its score, and the method whose score that is."""

    edge: Edge
    score: float
    method: str


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


def refine(
    data: PerturbationData,
    config: TrainConfig | None = None,
    inferer: Any = None,  # noqa: ANN401 - a name or several, a method, a class or a function
    *,
    rounds: int = 3,
    per_round: int = 6,
    per_target: int | None = None,
    per_source: int | None = None,
    decision: str = "single",
    min_drop: float | None = None,
    control: bool = True,
    truth: Iterable[Edge] | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Refinement:
    """Propose the best candidates, keep those that bring more than random edges, retrain; and again (GSNN spec 3.2).

    Of the conditions 30 % decide, or 200 where that is fewer, and are never seen by what proposes. Each round scores
    the candidates with the model of the graph so far, and each method proposes the ``per_round`` best that were never
    proposed before. Two gates follow.

    *More than a random edge.* By its first-order gain on the deciding samples a proposal must be among the first 5 % of
    all non-edges whose targets are of the same degree class. Of random edges at most 5 % pass, whatever the data. Those
    proposed resemble each other: with few conditions luck lets most of them pass or none, so this gate is not enough.

    *In model after model.* The graph is trained with and without it, for each of up to 4 folds of the deciding
    conditions, from a seed of its own, without the fold; both start from the same numbers. The loss of the held-out
    samples must be lower in two paired t tests: over the conditions, and over the folds with their seeds at 5 %. The
    tests over the conditions spend 5 % over all of a refinement, however many rounds it has: .05 / (r (r + 1)) in round
    r, in equal parts (alpha spending). That budget is of the luck of the samples; the rank, and the test over the folds
    for the luck of a training, hold 5 % for each edge and not for all of them together. At last the deciding loss of a
    model with all that is kept must be lower, or nothing stays.

    ``decision`` says what is trained:

    - ``'single'``: each proposal alone on top of those kept;
    - ``'bisect'``: all together, halved where they do not pass (:func:`decide`), for fewer trainings, but an idle edge
      can stay in good company;
    - ``'joint'``: one training with all that the methods propose, and of these the ``per_round`` edges whose signal
      that model misses most, together. What was not chosen may be proposed again, unless nothing stays. It needs no
      choice of one method;
    - ``'none'``: nothing, all proposals stay.

    The method ``'stacked'`` learns once, from the prior graph.

    Beside it runs the control: as many edges a round, drawn at random from the candidates, put through the same test.
    The test samples are never used to decide; their loss is reported.

    Args:
        data: The data with the prior graph.
        config: Settings of the training; None takes the defaults. ``config.validation`` is raised to .3, or to 200
            conditions where that is fewer: these samples decide.
        inferer: Name of a registered method, or several (also with commas), or a method, an inferer class or a function
            (model, graph, batches) -> (N, N); None: ``gradient-explained``, and with ``'joint'`` also ``stacked``.
        rounds: Number of rounds.
        per_round: Edges that each method proposes a round, at most.
        per_target: Of these, edges into one target at most; None: no limit.
        per_source: The same for sources.
        decision: ``'single'``, ``'bisect'``, ``'joint'`` or ``'none'``.
        min_drop: Share of the held-out loss that an edge must bring at least, in [0, 1); None: no more than the test
            needs, which the outcome has as ``needed``.
        control: Whether to run the control.
        truth: True edges, if they are known, for the precision; those that the graph has already may be among them.
        seed: Fixes the random edges.
        folder: Write ``refine.json`` and ``refine.csv`` there after each round of an arm; it is made if need be.
        resume: Keep the rounds that stand in ``folder`` already; if there are none, begin.
        overwrite: Replace what stands there, once the first round is done.
        progress: Show progress on stderr.

    Returns:
        The outcome.

    Raises:
        DataError: If a method is unknown, or fewer than 2 conditions are left to decide.
        RunError: If ``folder`` holds a refinement and neither switch is set, or it was made with other settings.
        ValueError: If an option is wrong.
    """
    from gsnn.training import TrainConfig

    config = config or TrainConfig()
    limits = {"per_target": per_target, "per_source": per_source}
    for name, value in {"rounds": rounds, "per_round": per_round, **limits}.items():
        if value is None and name in limits:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}")
    if decision not in DECISIONS:
        raise unknown_option("decision", decision, DECISIONS)
    if min_drop is not None and not 0 <= min_drop < 1:
        raise ValueError(f"min_drop must be a share of the loss, from 0 up to, but not including, 1, got {min_drop}")
    if inferer is None:
        inferer = BY_DEFAULT_JOINT if decision == "joint" else BY_DEFAULT
    named = isinstance(inferer, str) or (isinstance(inferer, Sequence) and all(isinstance(x, str) for x in inferer))
    scorers = resolve_scorers(method_names(inferer) if named else {_name(inferer): inferer}, config)
    folds = Folds.of(data, config)
    if named and "stacked" in scorers:
        scorers["stacked"] = stacked_once(
            config, data.graph, lambda: train_on(data, data.graph, config, split=folds.whole)
        )
    true = None if truth is None else {(str(s), str(t)) for s, t in truth}
    settings: dict[str, Any] = {
        "method": ",".join(scorers),
        "rounds": rounds,
        "per_round": per_round,
        **limits,
        "decision": decision,
        "min_drop": min_drop,
        "control": control,
        "truth": None if true is None else len(true),
        "seed": seed,
        "config": config.to_dict(),
        "fingerprint": fingerprint(data),
    }
    earlier = Refinement.to_continue(folder, settings, resume=resume, overwrite=overwrite)
    state = Refinement(settings, earlier.arms if earlier else {})
    classes = degree_classes(data.graph)
    # What a round ends with is what the next one starts from, and both arms start from the prior graph.
    seen: dict[tuple[Edge, ...], Losses] = {}
    for arm in ARMS if control else ARMS[:1]:
        state.arms.setdefault(arm, [])
        todo = range(len(state.arms[arm]), rounds)
        if not todo:
            continue
        graph = data.graph.with_edges(state.kept(arm)) if state.kept(arm) else data.graph
        # The same seed gives the same weights, so a refinement that was stopped goes on as if it had not been.
        model = train_on(data, graph, config, split=folds.whole)
        for number in track(todo, f"refinement, {arm} edges: rounds", total=len(todo), show=progress):
            closed = _closed(model.graph, state.settled(arm) if decision == "joint" else state.tried(arm))
            if arm == "inferred":
                proposals = _propose(model, scorers, closed, per_round, limits)
            else:
                proposals = _draw(model.graph, closed, per_round * len(scorers), (seed, number))
            bench = _Bench(data, config, folds, classes, settings, number + 1, seen)
            record, model = bench.round(model, proposals, true)
            state.arms[arm].append({"round": number + 1, **record})
            if folder is not None:
                state.write(folder)
    return state


def _name(inferer: Any) -> str:  # noqa: ANN401
    return str(getattr(inferer, "__name__", type(inferer).__name__))


def _closed(graph: Graph, tried: Iterable[Edge]) -> npt.NDArray[np.bool_]:
    """(N, N) True for pairs that are not to be proposed."""
    closed = np.eye(graph.N, dtype=bool)
    place = {name: i for i, name in enumerate(graph.functions)}
    for source, target in [*graph.function_edges, *tried]:
        closed[place[source], place[target]] = True
    return closed


def _propose(
    model: Trained,
    scorers: Mapping[str, Scorer],
    closed: npt.NDArray[np.bool_],
    per_round: int,
    limits: Mapping[str, int | None],
) -> list[Proposal]:
    """The best candidates of each method, each edge once, by the first method that proposes it."""
    graph = model.graph
    names = graph.functions
    found: dict[Edge, Proposal] = {}
    for method, scorer in scorers.items():
        scores = np.array(scorer(model.model, graph, model.batches), dtype=np.float64)
        scores[closed | ~np.isfinite(scores)] = np.nan
        if any(limits.values()):
            scores[~chosen_pairs(scores, **limits)] = np.nan
        for pair in descending(scores.ravel())[:per_round]:
            i, j = divmod(int(pair), graph.N)
            if np.isfinite(scores[i, j]):
                edge = names[i], names[j]
                found.setdefault(edge, Proposal(edge, float(scores[i, j]), method))
    return list(found.values())


def _draw(graph: Graph, closed: npt.NDArray[np.bool_], n: int, seed: tuple[int, int]) -> list[Proposal]:
    """Random candidates, without a score."""
    free = np.flatnonzero(~closed.ravel())
    drawn = np.random.default_rng(seed).choice(free, size=min(n, len(free)), replace=False)
    names = graph.functions
    return [
        Proposal((names[i], names[j]), float("nan"), "random") for i, j in zip(*np.divmod(drawn, graph.N), strict=True)
    ]


@dataclass
class _Bench:
    """Decides on the proposals of a round."""

    data: PerturbationData
    config: TrainConfig
    folds: Folds
    classes: npt.NDArray[np.int64]
    settings: dict[str, Any]
    number: int
    seen: dict[tuple[Edge, ...], Losses]
    trainings: int = 0
    used: set[tuple[Edge, ...]] = field(default_factory=set)

    def train(self, graph: Graph) -> Trained:
        """A model that has seen no deciding sample."""
        self.trainings += 1
        return train_on(self.data, graph, self.config, split=self.folds.whole)

    def round(
        self, before: Trained, proposals: list[Proposal], true: set[Edge] | None
    ) -> tuple[dict[str, Any], Trained]:
        """The record of the round and the model after it."""
        edges = [proposal.edge for proposal in proposals]
        tests: dict[Edge, Verdict] = {}
        place = {name: i for i, name in enumerate(before.graph.functions)}
        random: dict[Edge, float] = {}
        level = 0.0
        if self.settings["decision"] == "none":
            kept = edges
        else:
            rank = ranks(self.data, before, self.folds, self.classes) if edges else np.empty((0, 0))
            random = {edge: float(rank[place[edge[0]], place[edge[1]]]) for edge in edges}
            kept, level = self._tested(before, edges, random, tests)
        model = self.train(before.graph.with_edges(kept)) if kept else before
        # They were tested fold by fold; the model that goes on must be better, too.
        if kept and level and not model.validation_loss < before.validation_loss:
            kept, model = [], before
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
                    "score": _finite(score),
                    "method": method,
                    **told(edge),
                    "kept": edge in stays,
                    "true": None if true is None else edge in true,
                }
                for edge, score, method in proposals
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
            pool = self.train(before.graph.with_edges(edges))
            edges = largest_ablation_cost(pool.model, pool.graph, edges, pool.batches, most)
        # What the round may spend does not depend on how many edges get this far, which these samples tell.
        n_tests = {"single": len(edges), "bisect": 2 * len(edges) - 1, "joint": 1}[decision]
        level = ALPHA / (self.number * (self.number + 1) * max(1, n_tests))
        edges = [edge for edge in edges if random[edge] <= ALPHA]

        def passes(kept: list[Edge], batch: list[Edge]) -> bool:
            without, with_them = (self.losses(before.graph, found) for found in (kept, [*kept, *batch]))
            found = verdict(without, with_them, level, self.settings["min_drop"])
            tests.update(dict.fromkeys(batch, found))
            return found.passes

        if decision == "bisect":
            return decide(edges, passes), level
        if decision == "joint":
            return (edges if edges and passes([], edges) else []), level
        kept: list[Edge] = []
        for edge in edges:
            if passes(kept, [edge]):
                kept.append(edge)
        return kept, level

    def losses(self, graph: Graph, edges: Sequence[Edge]) -> Losses:
        """Held-out losses with some edges added."""
        key = (*graph.function_edges, *edges)
        # Counted also where an earlier round did them: the record of a refinement that was stopped is the same.
        if key not in self.used:
            self.used.add(key)
            self.trainings += len(self.folds.parts)
        if key not in self.seen:
            self.seen[key] = losses(self.data, graph.with_edges(edges) if edges else graph, self.config, self.folds)
        return self.seen[key]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
