"""Hide some known edges, train without them, and see how well each method finds them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.base.errors import DataError, check_option
from gsnn.base.progress import stage
from gsnn.base.workers import json_in_processes
from gsnn.data import PerturbationData
from gsnn.data.digest import sample_settings
from gsnn.discovery.baselines import prior_scores
from gsnn.discovery.hiding import Masking, Stratify, ends_alive, holes, mask_edges
from gsnn.discovery.learned.structure import LearnedStructureEdgeInferer
from gsnn.discovery.retrain import Scorer, Trained, refit_workers, resolve_scorers, train_on
from gsnn.discovery.selfcheck.controls import permute_samples, rewire
from gsnn.discovery.selfcheck.result import SelfCheck, variant_of
from gsnn.edges.candidates import Ends
from gsnn.edges.pairs import PriorEdges
from gsnn.graph.bypass import routed
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import FUNCTION_EDGES, KINDS, drawn_targets
from gsnn.metrics import EdgeMetrics, evaluate_edges
from gsnn.metrics.auc import Placements, beaten_share, degree_weights, place, weighted_average_precision
from gsnn.metrics.edges import never_joined, squared
from gsnn.metrics.scores import as_scores

if TYPE_CHECKING:
    from gsnn.training import TrainConfig


CONTROLS = ("rewired", "permuted")
_LEARNT_UP_TO = 2000  # functions up to which `structure` is measured, in seconds


def self_check(
    data: PerturbationData,
    config: TrainConfig | None = None,
    inferers: Sequence[str] | Mapping[str, Any] | str | None = None,
    *,
    fraction: float = 0.15,
    repeats: int = 3,
    seed: int = 0,
    stratify: Stratify = "none",
    roles: Mapping[Edge, str] | None = None,
    kind: str = FUNCTION_EDGES,
    controls: Sequence[str] = CONTROLS,
    folder: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> SelfCheck:
    """Measure, before any discovery is trusted, what a method finds on these data (GSNN spec 3.2).

    In each repeat a share of the known function -> function edges is hidden, a model is trained from scratch without
    them, and every method ranks them among the pairs that were never known. Negatives are such pairs: all of them,
    or weighted to the degrees of the hidden edges, because topology alone finds masked literature edges. Some of them
    are edges nobody knows yet, so every figure is rather too low than too high. These are neither positives nor
    negatives: hidden edges that lost every signal (``cut_off``, see :func:`mask_edges`); other pairs whose source no
    input reaches or whose target reaches no output, or a method would be praised for telling dead nodes from live
    ones; and, since hidden edges leave no function bare, pairs whose source has no child or whose target no parent.
    Where fewer than 10 edges can be hidden without that, others are hidden too, and both groups are reported
    separately (:meth:`SelfCheck.groups`). The methods are compared with baselines that know the graph alone, and one
    that knows the residuals of the outputs.

    The controls take the same steps. ``rewired`` hides edges of a graph rewired at random with the same degrees (edges
    that the true graph has are not counted against a method). ``permuted`` trains on samples whose responses were
    shuffled. Both must show an AUC of 0.5 within its interval; with permuted samples an AUC no better than that of
    ``structure`` will do, since what a method knows of networks it knows there, too.

    Args:
        data: The data with the prior graph. If they are a sample, that is recorded (:attr:`SelfCheck.drawn`).
        config: Settings of the training; None takes the defaults.
        inferers: Names of registered methods, or a mapping from names to methods, inferer classes or functions
            (model, graph, batches) -> (N, N); None: every registered method that is taken by default.
        fraction: Share of the known edges to hide, of those that can be (see :func:`mask_edges`).
        repeats: How often; each costs one training, and one more for each control.
        seed: Fixes the draws and the weights. The split of the samples is that of ``config``.
        stratify: As for :func:`mask_edges`.
        roles: As for :func:`mask_edges`.
        kind: The kind of edges to hide, one of :data:`gsnn.graph.KINDS`: what is found of one kind says nothing of
            another.
        controls: Any of ``rewired`` and ``permuted``.
        folder: Write ``selfcheck.json`` and ``selfcheck.csv`` there after each repeat, for other kinds
            ``selfcheck-input`` or ``selfcheck-output``; it is created if needed.
        resume: Keep the repeats that are in ``folder`` already; if there are none, begin.
        overwrite: Replace them once the first repeat is done.
        progress: Show progress on stderr.

    Raises:
        DataError: If no edge can be hidden, or a method is unknown.
        RunError: If ``folder`` holds a self-check and neither switch is set, or it was made with other settings.
        ValueError: If an option is wrong.
    """
    from gsnn.training import TrainConfig

    config = config or TrainConfig()
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats!r}")
    for control in controls:
        check_option("control", control, CONTROLS)
    check_option("stratify", stratify, get_args(Stratify))
    check_option("kind", kind, KINDS)
    scorers = resolve_scorers(inferers, config, kind, data.graph.N)
    # Refuse a graph whose edges cannot be hidden before anything is trained.
    mask_edges(data.graph, fraction, seed, stratify, roles, kind=kind)
    prior = PriorEdges(data.graph, kind)
    settings: dict[str, Any] = {
        "fraction": fraction,
        "repeats": repeats,
        "seed": seed,
        "stratify": stratify,
        # Earlier files lack these two: they read other weights and hid edges of another sort.
        "weights": "early",
        "masking": "without holes",
        "roles": None if roles is None else _digest(roles),
        "methods": list(scorers),
        "controls": [control for control in CONTROLS if control in controls],
        "config": config.to_dict(),
        **sample_settings(data),
        "n_functions": data.graph.N,
        "n_known": len({edge for edge in prior.edges if edge[0] != edge[1]}),
        "n_candidates": int(prior.candidates().sum()),
        "kind": kind,
    }
    earlier = SelfCheck.to_continue(folder, settings, resume=resume, overwrite=overwrite, variant=variant_of(kind))
    done = earlier.repeats if earlier else []
    check = SelfCheck(settings, done)
    if folder is not None and done and resume:
        check.write(folder)  # repeats may have been raised
    todo = range(len(done), repeats)
    each = 1 + len(settings["controls"])
    names = ["real", *settings["controls"]]
    jobs = [
        partial(_condition, name, data, config, scorers, settings, repeat, roles) for repeat in todo for name in names
    ]
    # A function of the user may rely on being called in this process.
    named = not isinstance(inferers, Mapping)
    workers = refit_workers(data, data.graph, config) if named and todo else 0
    with (
        stage("self-check: trainings", repeats * each, done=len(done) * each, show=progress) as shown,
        closing(json_in_processes(jobs, workers)) as records,
    ):
        for repeat in todo:
            conditions = {}
            for name in names:
                conditions[name] = next(records)
                shown.advance()
            baseline = conditions["real"]["methods"].get("structure")
            if "permuted" in conditions and baseline and "structure" not in scorers:
                # It knows the masked graph alone, which is the same.
                conditions["permuted"]["methods"]["structure"] = baseline
            record = {"repeat": repeat, "seeds": _seeds(settings, repeat), "conditions": conditions}
            check = SelfCheck(settings, [*check.repeats, record])
            if folder is not None:
                check.write(folder)
    return check


def _digest(roles: Mapping[Edge, str]) -> str:
    """A short text that differs for different roles."""
    lines = sorted("\t".join((*edge, role)) for edge, role in roles.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _seeds(settings: Mapping[str, Any], repeat: int) -> list[int]:
    # A stream of its own for each purpose, so that leaving out a control changes nothing else.
    return [int(s) for s in np.random.SeedSequence((settings["seed"], repeat)).generate_state(6)]


def _condition(
    name: str,
    data: PerturbationData,
    config: TrainConfig,
    scorers: Mapping[str, Scorer],
    settings: Mapping[str, Any],
    repeat: int,
    roles: Mapping[Edge, str] | None,
) -> dict[str, Any]:
    """The record of one condition of a repeat: ``real`` or a control."""
    mask_seed, model_seed, rewire_seed, permute_seed, random_seed, rewired_mask_seed = _seeds(settings, repeat)
    fraction, stratify = settings["fraction"], settings["stratify"]
    kind = settings["kind"]

    def measured(used: PerturbationData, masked: Masking, also_true: Sequence[Edge] = ()) -> dict[str, Any]:
        trained = train_on(used, masked.graph, config, seed=model_seed)
        return _measure(trained, masked, scorers, random_seed, also_true, structure=name == "real")

    if name == "rewired":
        null = rewire(data.graph, rewire_seed, kind=kind)
        labels: Stratify = "none" if stratify == "role" else stratify  # roles belong to the true edges
        masked = mask_edges(null, fraction, rewired_mask_seed, labels, kind=kind)
        known = set(PriorEdges(data.graph, kind).edges)
        record = measured(data, _without(masked, known), sorted(known))
        return record | {"n_unchanged": len(known & set(PriorEdges(null, kind).edges))}
    masking = mask_edges(data.graph, fraction, mask_seed, stratify, roles, kind=kind)
    return measured(permute_samples(data, permute_seed) if name == "permuted" else data, masking)


def _without(masking: Masking, true: set[Edge]) -> Masking:
    """A masking of a rewired graph without the hidden edges that are true by chance."""

    def untrue(edges: Sequence[Edge]) -> list[Edge]:
        return [edge for edge in edges if edge not in true]

    return replace(
        masking,
        testable=untrue(masking.testable),
        cut_off=untrue(masking.cut_off),
        holes=untrue(masking.holes),
    )


def _measure(
    trained: Trained,
    masking: Masking,
    scorers: Mapping[str, Scorer],
    seed: int,
    also_true: Sequence[Edge],
    structure: bool,
) -> dict[str, Any]:
    """The record of one condition; with ``structure`` among the baselines, if asked for."""
    graph, kind = trained.graph, masking.kind
    prior = PriorEdges(graph, kind)
    sources, targets = Ends.of(graph, kind).place

    def located(edges: Sequence[Edge]) -> IntArray:
        return np.array([[sources[s], targets[t]] for s, t in edges], dtype=np.int64).reshape(-1, 2).T

    known = prior.pairs
    positives = located(masking.testable)
    kept = set(prior.edges) | set(masking.testable)
    others = located([edge for edge in [*masking.cut_off, *also_true] if edge not in kept])
    unknown = prior.candidates()
    for pairs in (positives, others):
        unknown[pairs[0], pairs[1]] = False
    above, below = ends_alive(graph, kind)
    negatives = unknown & above[:, None] & below[None, :]
    childless, orphaned = holes(known, unknown.shape, kind)
    hole = childless[:, None] | orphaned[None, :]
    if not masking.holes:
        negatives &= ~hole
    negatives[:, drawn_targets(graph, kind)] = False
    weights, matched = degree_weights(known, positives, negatives)
    record: dict[str, Any] = {
        "testable": [list(edge) for edge in masking.testable],
        "cut_off": [list(edge) for edge in masking.cut_off],
        "holes": [list(edge) for edge in masking.holes],
        "n_eligible": masking.n_eligible,
        "n_pathless": masking.n_pathless,
        "n_protected": masking.n_protected,
        "n_last": masking.n_last,
        "n_negatives": int(negatives.sum()),
        "n_left_out": int(unknown.sum() - negatives.sum()),
        "n_unmatched": int((~matched).sum()),
        "validation_loss": trained.validation_loss,
        "test_loss": trained.test_loss,
        "methods": {},
    }
    if kind == FUNCTION_EDGES:
        ways_round = routed(graph, masking.testable)
        record["bypassed"] = [list(edge) for edge, way in zip(masking.testable, ways_round, strict=True) if way]
    if not negatives.any():
        raise DataError(
            "there is no candidate to compare hidden edges with: every pair of nodes that could matter is known"
        )
    if not positives.size:
        return record
    scored = {name: ("inferer", score(trained.read, graph, trained.batches)) for name, score in scorers.items()}
    y = None
    if kind != FUNCTION_EDGES:
        y = np.concatenate([np.asarray(batch[1], dtype=np.float64) for batch in trained.batches])
    baselines = prior_scores(graph, seed=seed, x=trained.x, residual=trained.residual, y=y, kind=kind)
    if structure and kind == FUNCTION_EDGES and graph.N <= _LEARNT_UP_TO and "structure" not in scored:
        inferer = LearnedStructureEdgeInferer(None, graph, seed=seed)
        inferer.fit([(torch.zeros(1, graph.I), torch.zeros(1, graph.O))], verbose=False)
        baselines["structure"] = inferer.score_matrix()
    scored |= {name: ("baseline", scores) for name, scores in baselines.items() if name not in scored}
    for name, (by, scores) in scored.items():
        record["methods"][name] = {
            "by": by,
            **_figures(scores, positives, unknown, negatives, weights, matched, kind),
        }
        if masking.holes:
            record["methods"][name]["groups"] = _by_group(scores, positives, negatives, hole)
    return record


def _by_group(scores: FloatArray, positives: IntArray, negatives: BoolArray, hole: BoolArray) -> dict[str, Any]:
    """Placements of the hidden edges that left a hole, and of the others, each among negatives of the same kind."""
    own = hole[positives[0], positives[1]]
    groups = {}
    for name, members, among in (("no hole", ~own, negatives & ~hole), ("hole", own, negatives & hole)):
        placed = place(scores, positives[:, members], among)
        groups[name] = {"placement": _shares(placed, members), "negative_variance": placed.negative_variance}
    return groups


def _figures(
    scores: FloatArray,
    positives: IntArray,
    unknown: BoolArray,
    negatives: BoolArray,
    weights: FloatArray,
    matched: BoolArray,
    kind: str,
) -> dict[str, Any]:
    """Placements and metrics of one method, against both kinds of negatives."""
    every = place(scores, positives, negatives)
    fair = place(scores, positives[:, matched], negatives, weights)
    candidate = negatives.copy()
    candidate[positives[0], positives[1]] = True
    plain = _evaluated(scores, positives, candidate, kind)
    values = as_scores(scores)
    beaten = beaten_share(values[positives[0], positives[1]], values[unknown])
    label = np.arange(positives.shape[1] + int(negatives.sum())) < positives.shape[1]
    value = np.concatenate([scores[positives[0], positives[1]], scores[negatives]])
    weight = np.concatenate([matched.astype(np.float64), weights[negatives]])
    total = weight.sum()
    return {
        "rank": [round(1 + int(unknown.sum()) * (1 - v), 3) for v in beaten.tolist()],
        "placement": {"all": _shares(every, np.ones_like(matched)), "degree-matched": _shares(fair, matched)},
        "negative_variance": {"all": every.negative_variance, "degree-matched": fair.negative_variance},
        "metrics": {
            "all": {
                "roc_auc": plain.roc_auc,
                "average_precision": plain.average_precision,
                "chance_average_precision": plain.chance["average_precision"],
                "precision": plain.precision_at[plain.n_positives],
                "mrr": plain.mrr,
                "n_positives": plain.n_positives,
                "n_negatives": plain.n_negatives,
                "n_undefined": plain.n_undefined,
            },
            "degree-matched": {
                "roc_auc": fair.auc,
                "average_precision": weighted_average_precision(value, label, weight),
                "chance_average_precision": float(matched.sum()) / total if total > 0 else float("nan"),
                "n_positives": int(matched.sum()),
            },
        },
    }


def _evaluated(scores: FloatArray, positives: IntArray, candidate: BoolArray, kind: str) -> EdgeMetrics:
    """Metrics of some positives among the candidates (S, T)."""
    left_out = np.stack(np.nonzero(~candidate))
    if kind == FUNCTION_EDGES:
        return evaluate_edges(scores, positives, left_out)
    n_sources, n_targets = scores.shape
    shift = np.array([[0], [n_sources]])
    known = np.concatenate([left_out + shift, never_joined(n_sources, n_targets)], axis=1)
    return evaluate_edges(squared(scores), positives + shift, known)


def _shares(placements: Placements, members: BoolArray) -> list[float]:
    """The placements of some positives in the order of all, NaN for the others."""
    share = np.full(len(members), np.nan)
    share[members] = placements.share_below
    # Nine digits tell ranks among a billion candidates apart.
    return [round(v, 9) for v in share.tolist()]
