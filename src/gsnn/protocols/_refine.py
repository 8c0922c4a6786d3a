"""Rounds of inferring edges, adding them, and keeping what lowers the validation loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gsnn._progress import track
from gsnn._sources import fingerprint
from gsnn.data import PerturbationData
from gsnn.edges._table import descending
from gsnn.errors import DataError, unknown_option
from gsnn.graph import Graph
from gsnn.protocols._refine_result import ARMS, Edge, Refinement
from gsnn.protocols._train import Scorer, Trained, resolve_scorers, train_on

if TYPE_CHECKING:
    from gsnn.training import TrainConfig

FloatArray = npt.NDArray[np.float64]

DECISIONS = ("single", "bisect", "none")

__all__ = ["DECISIONS", "decide", "refine"]


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
    inferer: Any = "gradient",  # noqa: ANN401 - a name, a method, a class or a function
    *,
    rounds: int = 3,
    per_round: int = 6,
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

    Each round scores the candidates with the model of the graph so far and proposes the ``per_round`` best that were
    never proposed before. ``decision`` says what stays: ``'single'``: each edge is tried alone on top of those kept, so
    none stays that did not lower the loss itself, for a training an edge; ``'bisect'``: batches, halved where they do
    not help (:func:`decide`), for fewer trainings, but idle edges enter in good company; ``'none'``: all stay (the
    greedy loop without a test). Every training starts from the same seed, with the same split of the samples.

    Beside it runs the control: as many edges a round, drawn at random from the candidates, put through the same test.
    Two trainings differ a little whatever was added, so some random edges stay too, fewer with a ``min_drop`` above 0;
    what the inferred ones bring more than these is what counts. The test samples are never used to decide; their loss
    is reported.

    Args:
        data: The data with the prior graph.
        config: Settings of the training; None takes the defaults. The validation samples decide, so
            ``config.validation`` should not be too small.
        inferer: Name of a registered method, or a method, an inferer class or a function (model, graph, batches) ->
            (N, N).
        rounds: Number of rounds.
        per_round: Edges proposed a round, at most.
        decision: ``'single'``, ``'bisect'`` or ``'none'``.
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
        DataError: If the method is unknown, or there are no validation samples.
        RunError: If ``folder`` holds a refinement and neither switch is set, or it was made with other settings.
        ValueError: If an option is wrong.
    """
    from gsnn.training import TrainConfig

    config = config or TrainConfig()
    for name, value in (("rounds", rounds), ("per_round", per_round)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}")
    if decision not in DECISIONS:
        raise unknown_option("decision", decision, DECISIONS)
    if not 0 <= min_drop < 1:
        raise ValueError(f"min_drop must be a share of the loss, from 0 up to, but not including, 1, got {min_drop}")
    scorers = resolve_scorers([inferer] if isinstance(inferer, str) else {_name(inferer): inferer}, config)
    (method, scorer), *_ = scorers.items()
    true = None if truth is None else {(str(s), str(t)) for s, t in truth}
    settings: dict[str, Any] = {
        "method": method,
        "rounds": rounds,
        "per_round": per_round,
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
        model = train_on(data, graph, config)
        if not np.isfinite(model.validation_loss):
            raise DataError(
                "no response was measured in the validation samples, so nothing can be decided; raise validation"
            )
        for number in track(todo, f"refinement, {arm} edges: rounds", total=len(todo), show=progress):
            proposals = _propose(
                model, scorer if arm == "inferred" else None, set(state.tried(arm)), per_round, seed, number
            )
            record, model = _round(data, config, model, proposals, settings, true)
            state.arms[arm].append({"round": number + 1, **record})
            if folder is not None:
                state.write(folder)
    return state


def _name(inferer: Any) -> str:  # noqa: ANN401
    return str(getattr(inferer, "__name__", type(inferer).__name__))


def _propose(
    model: Trained, scorer: Scorer | None, tried: set[Edge], per_round: int, seed: int, number: int
) -> list[tuple[Edge, float]]:
    """The best candidates that were never proposed, with their scores; random ones without a scorer."""
    graph: Graph = model.graph
    names = graph.functions
    closed = np.eye(graph.N, dtype=bool)
    place = {name: i for i, name in enumerate(names)}
    for source, target in [*graph.function_edges, *tried]:
        closed[place[source], place[target]] = True
    if scorer is None:
        rng = np.random.default_rng((seed, number))
        free = np.flatnonzero(~closed.ravel())
        drawn = rng.choice(free, size=min(per_round, len(free)), replace=False)
        return [((names[i], names[j]), float("nan")) for i, j in zip(*np.divmod(drawn, graph.N), strict=True)]
    scores = np.array(scorer(model.model, graph, model.batches), dtype=np.float64)
    scores[closed] = np.nan
    order = descending(scores.ravel())[:per_round]
    chosen = [(divmod(int(pair), graph.N), float(scores.ravel()[pair])) for pair in order]
    return [((names[i], names[j]), score) for (i, j), score in chosen if np.isfinite(score)]


def _round(
    data: PerturbationData,
    config: TrainConfig,
    model: Trained,
    proposals: list[tuple[Edge, float]],
    settings: dict[str, Any],
    true: set[Edge] | None,
) -> tuple[dict[str, Any], Trained]:
    """Decide on the proposals; the record of the round and the model after it."""
    before = model
    trials: list[dict[str, Any]] = []
    models: dict[tuple[Edge, ...], Trained] = {(): model}

    def trial(edges: list[Edge]) -> float:
        found = train_on(data, before.graph.with_edges(edges), config)
        models[tuple(edges)] = found
        trials.append({"edges": [list(edge) for edge in edges], "loss": found.validation_loss})
        return found.validation_loss

    edges = [edge for edge, _ in proposals]
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
                "kept": edge in stays,
                "true": None if true is None else edge in true,
            }
            for edge, score in proposals
        ],
        "trials": trials,
    }
    return record, model
