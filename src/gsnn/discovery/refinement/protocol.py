"""Rounds of inferring edges and keeping those that help samples that were held out more than random edges do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import unknown_option
from gsnn.base.progress import track
from gsnn.data import PerturbationData
from gsnn.data.digest import fingerprint
from gsnn.discovery.methods import default_method, method_names
from gsnn.discovery.refinement.held_out import Folds, Losses, Verdict, degree_classes, losses, ranks, verdict
from gsnn.discovery.refinement.joint import largest_ablation_cost, stacked_once
from gsnn.discovery.refinement.result import ARMS, Refinement
from gsnn.discovery.repairs import Repair, read_repairs, repaired, settings_of
from gsnn.discovery.retrain import Scorer, Trained, resolve_scorers, train_on
from gsnn.discovery.stacked.caps import chosen_pairs
from gsnn.discovery.verdicts import ALPHA
from gsnn.edges.candidates import Ends
from gsnn.edges.pairs import PriorEdges, descending
from gsnn.graph import Graph, resolve_kinds
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import FUNCTION_EDGES, KINDS, OUTPUT_EDGES, drawn_targets

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.training import TrainConfig

DECISIONS = ("single", "bisect", "joint", "together", "none")
# Whose proposals are weighed together if nothing is said.
BY_DEFAULT_JOINT = ("stacked", "gradient-explained")
TOLERATED = 0.01  # rise of the held-out loss without an edge that goes

__all__ = ["DECISIONS", "decide", "refine"]


# All edges of a graph by kind, in order.
_Edges = tuple[tuple[Edge, ...], ...]


class Proposal(NamedTuple):
    """An edge that may enter, its score, and the method whose score that is; or another repair, and its gain."""

    edge: Edge
    score: float
    method: str
    kind: str = FUNCTION_EDGES
    action: str = "add"
    sign: int = 0
    low: float = float("nan")

    @property
    def repair(self) -> Repair:
        """What it changes."""
        return Repair(self.action, self.kind, self.edge, self.sign)


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
    kinds: str | Sequence[str] = "function",
    decision: str = "single",
    min_drop: float | None = None,
    control: bool = True,
    repairs: pd.DataFrame | None = None,
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
    - ``'together'``: all together and nothing else. The first gate is another one, which needs fewer deciding samples:
      as many random edges of the same kinds, into other targets of the same degree classes, are trained in their place,
      fold by fold, and the loss must be lower with the proposals in the same two tests. Of random edges 5 % pass, since
      either of two random draws is as likely to be the better one. One proposal into each target unless ``per_target``
      says otherwise. For a better fit with few edges; an idle edge stays in good company.
    - ``'none'``: nothing, all proposals stay.

    The method ``'stacked'`` learns once, from the prior graph.

    ``repairs`` are proposed in place of what a method finds, in the order of their table
    (:func:`gsnn.discovery.repairs_table`), one into each target a round unless ``per_target`` says otherwise; edges to
    add with a gain of 0 or below are passed over. All samples but the test part of the settings made the table, so it
    is the test part that decides, and nothing is left to measure the outcome. An edge to *add* goes through both gates.
    To *remove* an edge the second gate asks for less: that the loss rises by less than 1 %. A *flip* changes nothing in
    a model that knows no signs, so there is nothing to train; it stays if its interval in the table is above 0, and
    turns the sign in the graph. The control draws as many edges to add and to remove, of the same kinds.

    Beside it runs the control: as many edges a round, drawn at random from the candidates, put through the same test.
    The test samples are never used to decide; their loss is reported.

    Args:
        data: The data with the prior graph.
        config: Settings of the training; None takes the defaults. ``config.validation`` is raised to .3, or to 200
            conditions where that is fewer: these samples decide.
        inferer: Name of a registered method, or several (also with commas), or a method, an inferer class or a function
            (model, graph, batches) -> (N, N); None: ``combined``, with ``'joint'``
            ``stacked`` and ``gradient-explained``.
        rounds: Number of rounds.
        per_round: Edges that each method proposes a round, at most, of all kinds together.
        per_target: Of these, edges into one target at most; None: no limit.
        per_source: The same for sources.
        kinds: Kinds of edges to propose, as :func:`gsnn.graph.resolve_kinds` reads them. They take turns, so that each
            proposes as many edges; each is compared with random edges of its own kind.
        decision: ``'single'``, ``'bisect'``, ``'joint'`` (not for edges to outputs), ``'together'`` or ``'none'``.
        min_drop: Share of the held-out loss that an edge must bring at least, in [0, 1); None: no more than the test
            needs, which the outcome has as ``needed``.
        control: Whether to run the control.
        repairs: Table of repairs to try, in place of methods that propose edges.
        truth: True edges, if they are known, for the precision; those that the graph has already may be among them.
        seed: Fixes the random edges.
        folder: Write ``refine.json`` and ``refine.csv`` there after each round of an arm; it is made if need be.
        resume: Keep the rounds that stand in ``folder`` already; if there are none, begin.
        overwrite: Replace what stands there, once the first round is done.
        progress: Show progress on stderr.

    Returns:
        The outcome.

    Raises:
        DataError: If a method is unknown, fewer than 2 conditions are left to decide, or the repairs do not fit the
            graph.
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
    planned = None if repairs is None else read_repairs(repairs, data.graph)
    wanted = resolve_kinds(kinds) if planned is None else tuple(k for k in KINDS if any(k == r.kind for r in planned))
    if planned is not None:
        if decision == "joint" or inferer is not None:
            raise ValueError("repairs stand in a table, so no method proposes them and none are chosen jointly")
        repaired(data.graph, planned)  # a repair that leaves no graph must not cost a training
    if planned is not None or decision == "together":
        limits["per_target"] = per_target or 1
    if decision == "joint" and OUTPUT_EDGES in wanted:
        raise ValueError("decision 'joint' cannot tell what an edge to an output is worth; use 'single' or 'bisect'")
    if inferer is None:
        inferer = BY_DEFAULT_JOINT if decision == "joint" else default_method(data.graph.N)
    named = isinstance(inferer, str) or (isinstance(inferer, Sequence) and all(isinstance(x, str) for x in inferer))
    given = method_names(inferer) if named else {_name(inferer): inferer}
    scorers = {kind: resolve_scorers(given, config, kind) for kind in wanted if planned is None}
    folds = Folds.of(data, config, on_test=planned is not None)
    between = scorers.get(FUNCTION_EDGES, {})
    if named and "stacked" in between:
        between["stacked"] = stacked_once(
            config, data.graph, lambda: train_on(data, data.graph, config, split=folds.whole)
        )
    true = None if truth is None else {(str(s), str(t)) for s, t in truth}
    settings: dict[str, Any] = {
        "method": ",".join(dict.fromkeys(name for some in scorers.values() for name in some)) or "repairs",
        "rounds": rounds,
        "per_round": per_round,
        **limits,
        **({} if wanted == (FUNCTION_EDGES,) else {"kinds": list(wanted)}),
        "decision": decision,
        "min_drop": min_drop,
        **({} if planned is None else {"repairs": settings_of(planned)}),
        "control": control,
        "truth": None if true is None else len(true),
        "seed": seed,
        "config": config.to_dict(),
        "fingerprint": fingerprint(data),
    }
    earlier = Refinement.to_continue(folder, settings, resume=resume, overwrite=overwrite)
    state = Refinement(settings, earlier.arms if earlier else {})
    classes = {kind: degree_classes(data.graph, kind) for kind in wanted}
    # What a round ends with is what the next one starts from, and both arms start from the prior graph.
    seen: dict[_Edges, Losses] = {}
    for arm in ARMS if control else ARMS[:1]:
        state.arms.setdefault(arm, [])
        todo = range(len(state.arms[arm]), rounds)
        if not todo:
            continue
        graph = repaired(data.graph, state.repairs(arm))
        # The same seed gives the same weights, so a refinement that was stopped goes on as if it had not been.
        model = train_on(data, graph, config, split=folds.whole)
        for number in track(todo, f"refinement, {arm} edges: rounds", total=len(todo), show=progress):
            tried = state.settled(arm) if decision == "joint" else state.tried(arm)
            free = {kind: _free(model.graph, kind, tried) for kind in wanted}
            if arm == "inferred" and planned is not None:
                proposals = _planned(planned, tried, per_round, limits)
            elif arm == "inferred":
                proposals = _propose(model, scorers, free, per_round, limits)
            elif planned is not None:
                proposals = _draw_like(
                    state.arms["inferred"][number]["edges"], model.graph, free, tried, (seed, number)
                )
            else:
                n_methods = max(len(some) for some in scorers.values())
                proposals = _draw(model.graph, free, per_round * n_methods, (seed, number))
            bench = _Bench(data, config, folds, classes, settings, number + 1, seen)
            record, model = bench.round(model, proposals, true)
            state.arms[arm].append({"round": number + 1, **record})
            if folder is not None:
                state.write(folder)
    return state


def _name(inferer: Any) -> str:  # noqa: ANN401
    return str(getattr(inferer, "__name__", type(inferer).__name__))


def _free(graph: Graph, kind: str, tried: Iterable[Edge]) -> npt.NDArray[np.bool_]:
    """(S, T) True for pairs that may be proposed; none into a treatment that stands in the network."""
    ends, candidates = Ends.of(graph, kind), PriorEdges(graph, kind).candidates()
    candidates.ravel()[[row for edge in tried if (row := ends.row(*edge)) is not None]] = False
    candidates[:, drawn_targets(graph, kind)] = False
    return candidates


def _propose(
    model: Trained,
    scorers: Mapping[str, Mapping[str, Scorer]],
    free: Mapping[str, npt.NDArray[np.bool_]],
    per_round: int,
    limits: Mapping[str, int | None],
) -> list[Proposal]:
    """The best of each method, of each kind in turn; each edge once, by the first method that proposes it."""
    best: dict[str, list[list[Proposal]]] = {}
    for kind, some in scorers.items():
        prior = PriorEdges(model.graph, kind)
        for method, scorer in some.items():
            scores = np.array(scorer(model.read, model.graph, model.batches), dtype=np.float64)
            scores[~free[kind] | ~np.isfinite(scores)] = np.nan
            if any(limits.values()):
                scores[~chosen_pairs(scores, **limits)] = np.nan
            first = descending(scores.ravel())[:per_round]
            ends = zip(*np.divmod(first, scores.shape[1]), strict=True)
            found = [
                Proposal((prior.sources[i], prior.targets[j]), float(scores[i, j]), method, kind)
                for i, j in ends
                if np.isfinite(scores[i, j])
            ]
            best.setdefault(method, []).append(found)
    proposals: dict[Edge, Proposal] = {}
    for lists in best.values():
        for proposal in _in_turn(lists)[:per_round]:
            proposals.setdefault(proposal.edge, proposal)
    return list(proposals.values())


def _in_turn(lists: Sequence[Sequence[Proposal]]) -> list[Proposal]:
    """The first of each list, the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return [some[k] for k in range(longest) for some in lists if k < len(some)]


def _draw(graph: Graph, free: Mapping[str, npt.NDArray[np.bool_]], n: int, seed: tuple[int, int]) -> list[Proposal]:
    """Random candidates of each kind in turn, without a score."""
    rng, lists = np.random.default_rng(seed), []
    for kind, candidates in free.items():
        prior = PriorEdges(graph, kind)
        rows = np.flatnonzero(candidates.ravel())
        drawn = rng.choice(rows, size=min(n, len(rows)), replace=False)
        ends = zip(*np.divmod(drawn, candidates.shape[1]), strict=True)
        lists.append([Proposal((prior.sources[i], prior.targets[j]), float("nan"), "random", kind) for i, j in ends])
    return _in_turn(lists)[:n]


def _planned(
    planned: Sequence[Repair], tried: Iterable[Edge], per_round: int, limits: Mapping[str, int | None]
) -> list[Proposal]:
    """The next repairs of a table."""
    past, used = set(tried), Counter[tuple[str, str]]()
    found: list[Proposal] = []
    for each in planned:
        ends = tuple(zip(("per_source", "per_target"), each.edge, strict=True))
        full = any(used[end] >= most for end in ends if (most := limits[end[0]]) is not None)
        if each.edge in past or full or (each.action == "add" and each.gain <= 0):
            continue
        found.append(Proposal(each.edge, each.gain, "repairs", each.kind, each.action, each.sign, each.low))
        used.update(ends)
        if len(found) == per_round:
            break
    return found


def _draw_like(
    records: Sequence[Mapping[str, Any]],
    graph: Graph,
    free: Mapping[str, npt.NDArray[np.bool_]],
    tried: Iterable[Edge],
    seed: tuple[int, int],
) -> list[Proposal]:
    """As many random repairs of each kind; edges are added and removed, none is turned."""
    found: list[Proposal] = []
    rng, past = np.random.default_rng(seed), set(tried)
    wanted = Counter((str(e["kind"]), str(e["action"])) for e in records if e["action"] != "flip")
    for (kind, action), n in wanted.items():
        prior = PriorEdges(graph, kind)
        pool = [edge for edge in prior.edges if edge not in past]
        if action == "add":
            ends = np.argwhere(free[kind]).tolist()
            pool = [(prior.sources[i], prior.targets[j]) for i, j in ends]
        drawn = rng.choice(len(pool), size=min(n, len(pool)), replace=False).tolist()
        found += [Proposal(pool[k], float("nan"), "random", kind, action) for k in drawn]
    return found


def _like(
    proposal: Proposal,
    graph: Graph,
    classes: npt.NDArray[np.int64],
    taken: set[Edge],
    rng: np.random.Generator,
) -> dict[Edge, Proposal]:
    """A random edge of the kind of a proposal, into a target of its degree class that has none of those taken."""
    ends, kind = Ends.of(graph, proposal.kind), proposal.kind
    free = _free(graph, kind, taken)
    free[:, classes != classes[ends.place[1][proposal.edge[1]]]] = False
    full = {target for _, target in taken}
    others = free.copy()
    others[:, [j for j, name in enumerate(ends.targets) if name in full]] = False
    # Where the proposals are in every target of the class, one that has another.
    pairs = np.argwhere(others if others.any() else free)
    if not len(pairs):
        return {}
    i, j = rng.choice(pairs).tolist()
    edge = (ends.sources[i], ends.targets[j])
    return {edge: Proposal(edge, float("nan"), "random", kind)}


@dataclass
class _Bench:
    """Decides on the proposals of a round."""

    data: PerturbationData
    config: TrainConfig
    folds: Folds
    classes: Mapping[str, npt.NDArray[np.int64]]
    settings: dict[str, Any]
    number: int
    seen: dict[_Edges, Losses]
    trainings: int = 0
    used: set[_Edges] = field(default_factory=set)
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
        # They were tested fold by fold; the model that goes on must be better, too.
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
        # What the round may spend does not depend on how many edges get this far, which these samples tell.
        n_tests = {"single": len(edges), "bisect": 2 * len(edges) - 1}.get(decision, 1)
        level = ALPHA / (self.number * (self.number + 1) * max(1, n_tests))
        edges = [edge for edge in edges if random.get(edge, 0.0) <= ALPHA]

        def passes(kept: list[Edge], batch: list[Edge]) -> bool:
            without, with_them = (self.losses(before.graph, found) for found in (kept, [*kept, *batch]))
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
            drawn |= _like(each, graph, self.classes[each.kind], {*edges, *drawn}, rng)
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
        """By which share the loss may rise: only where all that is done is to remove edges."""
        removed = bool(edges) and all(self.changes[edge].action == "remove" for edge in edges)
        return TOLERATED if removed else 0.0

    def losses(self, graph: Graph, edges: Sequence[Edge]) -> Losses:
        """Held-out losses with some of the proposals."""
        with_them = self.changed(graph, edges)
        key = tuple(tuple(PriorEdges(with_them, kind).edges) for kind in KINDS)
        # Counted also where an earlier round did them: the record of a refinement that was stopped is the same.
        if key not in self.used:
            self.used.add(key)
            self.trainings += len(self.folds.parts)
        if key not in self.seen:
            self.seen[key] = losses(self.data, with_them, self.config, self.folds)
        return self.seen[key]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
