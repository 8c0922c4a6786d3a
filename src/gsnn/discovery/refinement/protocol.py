"""Rounds of inferring edges and keeping those that help held-out samples more than random edges do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import check_option
from gsnn.base.progress import track
from gsnn.data import PerturbationData
from gsnn.data.digest import sample_settings
from gsnn.discovery.methods import default_method, method_names
from gsnn.discovery.refinement.bench import Bench, EdgesByKind
from gsnn.discovery.refinement.held_out import Folds, Losses, degree_classes
from gsnn.discovery.refinement.joint import stacked_once
from gsnn.discovery.refinement.proposals import draw, draw_like, free_pairs, next_repairs, propose
from gsnn.discovery.refinement.result import ARMS, Refinement
from gsnn.discovery.repairs import read_repairs, repaired, settings_of
from gsnn.discovery.retrain import resolve_scorers, train_on
from gsnn.graph import resolve_kinds
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import FUNCTION_EDGES, KINDS, OUTPUT_EDGES

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.training import TrainConfig

DECISIONS = ("single", "bisect", "joint", "together", "none")
# The default methods of the decision 'joint'.
BY_DEFAULT_JOINT = ("stacked", "gradient-explained")


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

    30 % of the conditions decide, 200 at most; what proposes edges never sees them. Each round scores the candidates
    with the model of the graph so far, and each method proposes the ``per_round`` best that were never proposed before.
    Two gates follow.

    *More than a random edge.* By its first-order gain on the deciding samples a proposal must be among the first 5 % of
    all non-edges whose targets are of the same degree class. At most 5 % of random edges pass, whatever the data. But
    proposals resemble each other: with few conditions most of them pass by luck, or none, so this gate is not enough.

    *In model after model.* For each of up to 4 folds of the deciding conditions the graph is trained with and without
    it, from a seed of its own, without the fold; both trainings start from the same numbers. The loss of the held-out
    samples must be lower in two paired t tests: over the conditions, and over the folds with their seeds at 5 %. The
    tests over the conditions spend 5 % over all of a refinement, however many rounds it has: .05 / (r (r + 1)) in round
    r, in equal parts (alpha spending). That budget covers the luck of the samples. The rank, and the test over the
    folds (the luck of a training), hold 5 % for each edge and not for all of them together. Finally a model with all
    that is kept must have a lower deciding loss, or nothing stays.

    ``decision`` says what is trained:

    - ``'single'``: each proposal alone on top of those kept;
    - ``'bisect'``: all together, halved where they do not pass (:func:`decide`). It takes fewer trainings, but useless
      edges can stay among useful ones;
    - ``'joint'``: one training with all that the methods propose, and of these the ``per_round`` edges whose signal
      that model misses most, together. What was not chosen may be proposed again, unless nothing stays. It needs no
      choice of one method;
    - ``'together'``: all together and nothing else. The first gate is another one, which needs fewer deciding samples:
      as many random edges of the same kinds, into other targets of the same degree classes, are trained in their place,
      fold by fold, and the loss must be lower with the proposals in the same two tests. Of random edges 5 % pass, since
      either of two random draws is as likely to be the better one. One proposal into each target unless ``per_target``
      says otherwise. For a better fit with few edges; a useless edge stays among useful ones.
    - ``'none'``: nothing, all proposals stay.

    The method ``'stacked'`` learns once, from the prior graph.

    ``repairs`` are proposed in place of what a method finds, in the order of their table
    (:func:`gsnn.discovery.repairs_table`), one into each target a round unless ``per_target`` says otherwise; edges to
    add with a gain of 0 or below are passed over. All samples but the test part of the settings made the table, so it
    is the test part that decides, and nothing is left to measure the outcome. An edge to *add* goes through both gates.
    To *remove* an edge the second gate asks for less: that the loss rises by less than 1 %. A *flip* changes nothing in
    a model that knows no signs, so there is nothing to train; it stays if its interval in the table is above 0, and
    turns the sign in the graph. The control draws as many edges to add and to remove, of the same kinds.

    The control runs beside it: as many edges a round, drawn at random from the candidates, go through the same test.
    The test samples are never used to decide; their loss is reported.

    Args:
        data: The data with the prior graph.
        config: Settings of the training; None takes the defaults. ``config.validation`` is raised to .3, or to 200
            conditions where that is fewer: these samples decide.
        inferer: Name of a registered method, or several (also with commas), or a method, an inferer class or a function
            (model, graph, batches) -> (N, N); None: ``learned``, with ``'joint'`` ``stacked`` and
            ``gradient-explained``.
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
        folder: Write ``refine.json`` and ``refine.csv`` there after each round of an arm; it is created if needed.
        resume: Keep the rounds that are in ``folder`` already; if there are none, begin.
        overwrite: Replace them once the first round is done.
        progress: Show progress on stderr.

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
    check_option("decision", decision, DECISIONS)
    if min_drop is not None and not 0 <= min_drop < 1:
        raise ValueError(f"min_drop must be a share of the loss, from 0 up to, but not including, 1, got {min_drop}")
    planned = None if repairs is None else read_repairs(repairs, data.graph)
    wanted = resolve_kinds(kinds) if planned is None else tuple(k for k in KINDS if any(k == r.kind for r in planned))
    if planned is not None:
        if decision == "joint" or inferer is not None:
            raise ValueError("repairs stand in a table, so no method proposes them and none are chosen jointly")
        repaired(data.graph, planned)  # refuse a repair that leaves no graph before anything is trained
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
        **sample_settings(data),
    }
    earlier = Refinement.to_continue(folder, settings, resume=resume, overwrite=overwrite)
    state = Refinement(settings, earlier.arms if earlier else {})
    classes = {kind: degree_classes(data.graph, kind) for kind in wanted}
    # A round starts where the one before ended, and both arms start from the prior graph: do not train those again.
    seen: dict[EdgesByKind, Losses] = {}
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
            free = {kind: free_pairs(model.graph, kind, tried) for kind in wanted}
            if arm == "inferred" and planned is not None:
                proposals = next_repairs(planned, tried, per_round, limits)
            elif arm == "inferred":
                proposals = propose(model, scorers, free, per_round, limits)
            elif planned is not None:
                proposals = draw_like(state.arms["inferred"][number]["edges"], model.graph, free, tried, (seed, number))
            else:
                n_methods = max(len(some) for some in scorers.values())
                proposals = draw(model.graph, free, per_round * n_methods, (seed, number))
            bench = Bench(data, config, folds, classes, settings, number + 1, seen)
            record, model = bench.round(model, proposals, true)
            state.arms[arm].append({"round": number + 1, **record})
            if folder is not None:
                state.write(folder)
    return state


def _name(inferer: Any) -> str:  # noqa: ANN401
    return str(getattr(inferer, "__name__", type(inferer).__name__))
