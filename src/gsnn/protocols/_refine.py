"""Rounds of inferring edges, adding them, and keeping what lowers the validation loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gsnn._inference import method_names
from gsnn._progress import track
from gsnn._sources import fingerprint
from gsnn.data import PerturbationData, Split
from gsnn.edges import DEFAULT_METHOD
from gsnn.edges._stacked_caps import chosen_pairs
from gsnn.edges._table import descending
from gsnn.errors import DataError, unknown_option
from gsnn.graph import Graph
from gsnn.protocols._joint import learnt_once, most_missed
from gsnn.protocols._refine_result import ARMS, Edge, Refinement
from gsnn.protocols._train import Scorer, Trained, resolve_scorers, train_on

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


def decide(
    edges: Sequence[Edge], loss: float, trial: Callable[[list[Edge]], float], *, min_drop: float = 0.0
) -> tuple[list[Edge], float]:
    """Which of some edges to keep, by halving.

    All edges are tried together, on top of what was kept so far. If the loss falls by more than the share ``min_drop``
    of what it was, they all stay. Otherwise the two halves are decided one after the other in the same way, down to
    single edges. So no edge that was decided alone stays without lowering the loss, and a batch costs from 1 to
    2 n - 1 trainings; but an idle edge can enter in the company of a good one.

    Args:
        edges: Edges to decide, best first.
        loss: The loss without them.
        trial: The loss with the edges kept so far in this call and some more, in that order.
        min_drop: Share of the loss by which it must fall, in [0, 1); above 0 to ask for more than a difference between
            two trainings.

    Returns:
        The edges to keep, in order, and the loss with them.

    Example:
        >>> def loss(edges):
        ...     return 1.0 - 0.1 * edges.count("good") + 0.2 * edges.count("bad")
        >>> decide(["bad", "good", "good"], 1.0, loss)[0]
        ['good', 'good']
    """
    kept: list[Edge] = []

    def settle(batch: list[Edge], before: float) -> float:
        after = trial([*kept, *batch])
        if _falls(before, after, min_drop):
            kept.extend(batch)
            return after
        if len(batch) == 1:
            return before
        half = (len(batch) + 1) // 2
        return settle(batch[half:], settle(batch[:half], before))

    return kept, settle(list(edges), loss) if edges else loss


def _falls(before: float, after: float, min_drop: float) -> bool:
    """Whether the loss falls by more than a share of it. Relative: the units of a loss must not decide."""
    return after < before * (1 - min_drop)


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
    min_drop: float = 0.0,
    control: bool = True,
    truth: Iterable[Edge] | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Refinement:
    """Add the best candidates, retrain from scratch, keep what lowers the validation loss; and again (GSNN spec 3.2).

    Each round scores the candidates with the model of the graph so far, and each method proposes the ``per_round`` best
    that were never proposed before. ``decision`` says what stays:

    - ``'single'``: each edge is tried alone on top of those kept, so none stays that did not lower the loss itself, for
      a training an edge;
    - ``'bisect'``: batches, halved where they do not help (:func:`decide`), for fewer trainings, but idle edges enter
      in good company;
    - ``'joint'``: one training with all that the methods propose, then the ``per_round`` edges whose signal that model
      misses most are trained alone, and stay if they lower the loss: two trainings a round. What was not chosen may be
      proposed again. It needs no choice of one method and found most edges in ``benchmarks/recovery_refine.py``;
    - ``'none'``: all stay (the greedy loop without a test).

    Every training starts from the same seed, with the same split of the samples. The method ``'stacked'`` learns once,
    from the prior graph.

    Beside it runs the control: as many edges a round, drawn at random from the candidates, put through the same test.
    Two trainings differ a little whatever was added, so some random edges stay too, fewer with a ``min_drop`` above 0;
    what the inferred ones bring more than these is what counts. The test samples are never used to decide; their loss
    is reported.

    Args:
        data: The data with the prior graph.
        config: Settings of the training; None takes the defaults. The validation samples decide, so
            ``config.validation`` should not be too small.
        inferer: Name of a registered method, or several (also with commas), or a method, an inferer class or a function
            (model, graph, batches) -> (N, N); None: ``gradient-explained``, and with ``'joint'`` also ``stacked``.
        rounds: Number of rounds.
        per_round: Edges that each method proposes a round, at most.
        per_target: Of these, edges into one target at most; None: no limit.
        per_source: The same for sources.
        decision: ``'single'``, ``'bisect'``, ``'joint'`` or ``'none'``.
        min_drop: Share of the validation loss by which it must fall for edges to stay, in [0, 1): with 0.01 from 0.80
            to below 0.792.
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
        DataError: If a method is unknown, or there are no validation samples.
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
    if not 0 <= min_drop < 1:
        raise ValueError(f"min_drop must be a share of the loss, from 0 up to, but not including, 1, got {min_drop}")
    if inferer is None:
        inferer = BY_DEFAULT_JOINT if decision == "joint" else BY_DEFAULT
    named = isinstance(inferer, str) or (isinstance(inferer, Sequence) and all(isinstance(x, str) for x in inferer))
    scorers = resolve_scorers(method_names(inferer) if named else {_name(inferer): inferer}, config)
    if named and "stacked" in scorers:
        scorers["stacked"] = learnt_once(config, data.graph, lambda: train_on(data, data.graph, config))
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
    for arm in ARMS if control else ARMS[:1]:
        state.arms.setdefault(arm, [])
        todo = range(len(state.arms[arm]), rounds)
        if not todo:
            continue
        graph = data.graph.with_edges(state.kept(arm)) if state.kept(arm) else data.graph
        # The same seed gives the same weights, so a refinement that was stopped goes on as if it had not been.
        model = train_on(data, graph, config, split=_held_out(data, config))
        if not np.isfinite(model.validation_loss):
            raise DataError(
                "no response was measured in the validation samples, so nothing can be decided; raise validation"
            )
        for number in track(todo, f"refinement, {arm} edges: rounds", total=len(todo), show=progress):
            closed = _closed(model.graph, state.settled(arm) if decision == "joint" else state.tried(arm))
            if arm == "inferred":
                proposals = _propose(model, scorers, closed, per_round, limits)
            else:
                proposals = _draw(model.graph, closed, per_round * len(scorers), (seed, number))
            record, model = _round(data, config, model, proposals, settings, true)
            state.arms[arm].append({"round": number + 1, **record})
            if folder is not None:
                state.write(folder)
    return state


def _held_out(data: PerturbationData, config: TrainConfig) -> Split:
    """The parts of the samples; the validation part decides here, whatever the training uses it for."""
    return data.split(**config.split_options() | {"validation": config.validation})


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


def _round(
    data: PerturbationData,
    config: TrainConfig,
    model: Trained,
    proposals: list[Proposal],
    settings: dict[str, Any],
    true: set[Edge] | None,
) -> tuple[dict[str, Any], Trained]:
    """Decide on the proposals; the record of the round and the model after it."""
    before = model
    trials: list[dict[str, Any]] = []
    models: dict[tuple[Edge, ...], Trained] = {(): model}

    def trial(edges: list[Edge]) -> float:
        found = train_on(data, before.graph.with_edges(edges), config, split=_held_out(data, config))
        models[tuple(edges)] = found
        trials.append({"edges": [list(edge) for edge in edges], "loss": found.validation_loss})
        return found.validation_loss

    edges = [proposal.edge for proposal in proposals]
    kept: list[Edge] = []
    loss = before.validation_loss
    if settings["decision"] == "bisect":
        kept, loss = decide(edges, loss, trial, min_drop=settings["min_drop"])
    elif settings["decision"] == "single":
        for edge in edges:
            after = trial([*kept, edge])
            if _falls(loss, after, settings["min_drop"]):
                kept, loss = [*kept, edge], after
            else:
                del models[(*kept, edge)]
    elif settings["decision"] == "joint":
        chosen = edges
        if len(edges) > settings["per_round"]:
            trial(edges)
            pool = models.pop(tuple(edges))
            chosen = most_missed(pool.model, pool.graph, edges, pool.batches, settings["per_round"])
        if chosen and _falls(loss, after := trial(chosen), settings["min_drop"]):
            kept, loss = chosen, after
    elif edges:
        kept, loss = edges, trial(edges)
    model = models[tuple(kept)]
    stays = set(kept)
    record = {
        "loss_before": before.validation_loss,
        "loss_after": loss,
        "test_before": before.test_loss,
        "test_after": model.test_loss,
        "edges": [
            {
                "source": edge[0],
                "target": edge[1],
                "score": None if np.isnan(score) else score,
                "method": method,
                "kept": edge in stays,
                "true": None if true is None else edge in true,
            }
            for edge, score, method in proposals
        ],
        "trials": trials,
    }
    return record, model
