"""Which known edges the data support: close each in restricted networks, and measure what held-out samples lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import DataError
from gsnn.base.progress import now, stage
from gsnn.data import PerturbationData, Split
from gsnn.data.digest import sample_settings
from gsnn.data.split import conditions
from gsnn.discovery.auditing.result import Audit
from gsnn.discovery.auditing.steps import Parts, Work, kind_numbers
from gsnn.discovery.auditing.verdicts import PairedTests, judge, only_edges, pooled
from gsnn.graph import EDGE_TYPES, Graph, resolve_kinds
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import edge_type

if TYPE_CHECKING:
    from torch import nn

    from gsnn.discovery.auditing.restricted import Recipe
    from gsnn.training import TrainConfig


# Shares of the edges that are not needed, tried in this order until one can be removed together.
TOGETHER = (1.0, 0.75, 0.5, 0.25, 0.125)
_TOLERATED = 0.01  # rise of the held-out loss without edges that are removed together
REFIT_ALL = 500  # up to so many edges, each is refitted
DOUBTFUL, RANDOM = 300, 50  # of more edges, refit those with the most doubtful estimate, and some random others


def audit(
    data: PerturbationData,
    config: TrainConfig | None = None,
    *,
    kinds: str | Sequence[str] = "all",
    removal: bool = True,
    model: nn.Module | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Audit:
    """Judge every known edge: supported, not needed, contradicts the sign, or cannot be judged.

    A GSNN has so many weights for each edge that its known edges stand in for one another. The audit therefore trains
    *restricted* networks, with one number for each function and one weight for each edge
    (:class:`~gsnn.discovery.auditing.restricted.Restricted`): one for each of 4 folds of the conditions, without the
    fold and from a seed of its own. The test part of the settings is left out.

    *Gain.* The edge is closed, the other weights into its target and its bias are refitted by one Gauss-Newton step,
    and the held-out samples go through the changed network. The gain of the edge is the share by which the loss is
    lower with it. It must be above 0 in every fold, which happens by luck to one useless edge in 16, and in a one-sided
    paired t test over the conditions at 5 %. With more than 500 edges each gain is estimated to first order, without a
    refit. Then the 300 edges with the most doubtful estimates are refitted, and 50 random others, which show how well
    estimates and refits agree.

    *Sign.* The sign of the weight, if all folds agree on it. All weights start positive, whatever the network says, so
    a function counts as active where most of its sources and targets are.

    *Cannot be judged.* The edge lies on no path from an input that varies to a measured output, its source moves like
    another known source of its target, there are too few conditions to measure its gain, or it is the only edge of an
    input or output.

    *Together.* If two edges can stand in for one another, neither is needed, but one of the two is. So the edges that
    are not needed are closed together, starting with the one that carries least, and the networks are trained on: all
    of them, or 3/4, 1/2, 1/4, 1/8, the first share that leaves the held-out loss within 1 %. The others cannot be
    judged.

    Finally a GSNN of the settings is trained without all edges that are not needed. It is compared with one of the
    whole graph on the test part, which judged nothing.

    Args:
        data: The data with the prior graph.
        config: Settings of the GSNN and of the split; None takes the defaults.
        kinds: Any of ``input``, ``function`` and ``output`` (input -> function, function -> function, function ->
            output), with commas or in a sequence, or ``all``. Others are left out of the table.
        removal: Whether to measure the effect of removing edges.
        model: A GSNN of the whole graph that was trained with these settings, so that none needs to be trained.
        recipe: How the restricted networks are trained; None takes the best measured one.
        seed: Fixes the folds and the networks.
        folder: Write ``audit.json`` and ``audit.csv`` there after each fold; it is created if needed.
        resume: Keep the folds that are in ``folder`` already; if there are none, begin.
        overwrite: Replace them once the first fold is done.
        progress: Show progress on stderr.

    Raises:
        DataError: If a kind is unknown or has no edge, or fewer than 4 conditions are left to judge.
        RunError: If ``folder`` holds an audit and neither switch is set, or it was made with other settings.
    """
    from gsnn.discovery.auditing.restricted import Recipe
    from gsnn.training import TrainConfig

    config, recipe = config or TrainConfig(), recipe or Recipe()
    chosen_kinds = _kinds(kinds, data.graph)
    parts = Parts.of(data, config, seed)
    settings: dict[str, Any] = {
        "kinds": list(chosen_kinds),
        "removal": removal,
        "seed": seed,
        "recipe": recipe.to_dict(),
        "config": config.to_dict(),
        **sample_settings(data),
    }
    earlier = Audit.to_continue(folder, settings, resume=resume, overwrite=overwrite)
    outcome = earlier or Audit(settings)

    def keep(**values: Any) -> None:  # noqa: ANN401 - fields of the result
        nonlocal outcome
        outcome = replace(outcome, **values)
        if folder is not None:
            outcome.write(folder)

    work = Work(data, parts, recipe, seed)
    types = [EDGE_TYPES.index(edge_type(kind)) for kind in chosen_kinds]
    chosen = np.flatnonzero(np.isin(kind_numbers(data.graph), types))
    total = 2 * len(parts.folds) + 1 + removal
    n_refitted = sum("refit" in fold for fold in outcome.folds)
    n_done = len(outcome.folds) + n_refitted + bool(outcome.edges)
    with stage("audit: steps", total, done=n_done, show=progress) as shown:
        numbers = range(len(outcome.folds), len(parts.folds))
        with work.side_by_side([partial(work.trained, number) for number in numbers]) as trained:
            for record in trained:
                keep(folds=[*outcome.folds, record])
                shown.advance(note=f"network {len(outcome.folds)} of {len(parts.folds)}")
        picked = _picked(work, outcome.folds, chosen, seed)
        numbers = range(n_refitted, len(parts.folds))
        jobs = [partial(work.refitted, number, outcome.folds[number], picked.edges) for number in numbers]
        with work.side_by_side(jobs) as refits:
            for number, refit in zip(numbers, refits, strict=True):
                record = {**outcome.folds[number], "refit": refit}
                keep(folds=[*outcome.folds[:number], record, *outcome.folds[number + 1 :]])
                shown.advance(note=f"edges closed in network {number + 1}")
        if not outcome.edges:
            edges, agreement = _judged(work, outcome.folds, chosen, picked)
            _go_together(work, outcome.folds, chosen, edges)
            keep(edges=edges, agreement=agreement, facts=_facts(outcome.folds))
            shown.advance(note="edges closed together")
        if removal and not outcome.removal:
            now("training without the edges that are not needed")
            keep(removal=_removal(data, config, parts.split, outcome.of("not needed"), model))
            shown.advance()
        elif not outcome.removal:
            keep(removal={"reason": "it was not asked for", "removed": len(outcome.of("not needed"))})
    return outcome


def _kinds(kinds: str | Sequence[str], graph: Graph) -> tuple[str, ...]:
    """The kinds that were asked for; refuse them if the network has no edge of any."""
    resolved = resolve_kinds(kinds)
    if not any(graph.edge_index_dict[edge_type(kind)].shape[1] for kind in resolved):
        raise DataError(f"the network has no edge of the kind {' or '.join(resolved)}; name another kind")
    return resolved


@dataclass(frozen=True, eq=False)
class _Picked:
    """Edges to refit: ``edges``, and which of them were drawn at random."""

    edges: IntArray
    random: IntArray


def _picked(work: Work, folds: Sequence[dict[str, Any]], chosen: IntArray, seed: int) -> _Picked:
    """Which edges to refit: all that can be judged, or the most doubtful of them and some at random."""
    can = np.array([not reason for reason in work.hidden()])
    judgeable = chosen[can[chosen]]
    if len(judgeable) <= REFIT_ALL:
        return _Picked(judgeable, judgeable[:0])
    estimated = pooled(folds, "estimate")
    # Most doubtful are those nearest to passing or failing; an edge whose weight is 0 in all folds is not in doubt.
    doubt = np.where(estimated.spread > 0, -np.abs(estimated.t - 1.0), -np.inf)
    order = judgeable[np.argsort(-doubt[judgeable], kind="stable")]
    doubtful, rest = order[:DOUBTFUL], np.sort(order[DOUBTFUL:])
    random = np.random.default_rng((seed, 3)).choice(rest, size=min(RANDOM, len(rest)), replace=False)
    return _Picked(np.sort(np.concatenate([doubtful, random])), np.sort(random))


def _judged(
    work: Work, folds: Sequence[dict[str, Any]], chosen: IntArray, picked: _Picked
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The record of each edge, and how estimates and refits agree."""
    names, sign = work.names(), work.signs()
    weights = np.array([fold["network"]["weight"] for fold in folds])
    carried = np.array([fold["carried"] for fold in folds]).mean(0)
    alike = np.array([fold["alike"] for fold in folds]).mean(0)
    others = [names[e][1] if e >= 0 else "" for e in folds[0]["other"]]
    estimated = pooled(folds, "estimate")
    best = estimated
    if len(picked.edges):
        best = _merged(estimated, pooled(folds, "refit"), picked.edges)
    hidden, only = work.hidden(), only_edges(work.data.graph)

    def verdicts(tests: PairedTests) -> list[dict[str, Any]]:
        return judge(tests, weights, sign, hidden, alike, others, only)

    judged = verdicts(best)
    measured = set(picked.edges.tolist())
    records = []
    for e in chosen.tolist():
        kind, source, target = names[e]
        unjudged = bool(hidden[e])
        figures = {"gain": best.gain[e], "gain_low": best.low[e], "gain_high": best.high[e], "p": best.p[e]}
        records.append(
            {
                "kind": kind,
                "source": source,
                "target": target,
                "verdict": judged[e]["verdict"],
                "why": judged[e]["why"],
                "carried": float(carried[e]),
                **{name: None if unjudged else float(value) for name, value in figures.items()},
                "sign_network": int(sign[e]),
                "sign_model": 0 if unjudged else judged[e]["sign_model"],
                "estimated": not unjudged and e not in measured,
            }
        )
    agreement: dict[str, Any] = {}
    if len(picked.random):
        before = verdicts(estimated)
        same = [before[e]["verdict"] == judged[e]["verdict"] for e in picked.random.tolist()]
        spearman = stats.spearmanr(estimated.gain[picked.random], best.gain[picked.random]).statistic
        agreement = {"edges": len(same), "same": float(np.mean(same)), "spearman": float(spearman)}
    return records, agreement


def _go_together(work: Work, folds: Sequence[dict[str, Any]], chosen: IntArray, records: list[dict[str, Any]]) -> None:
    """Change the verdict of edges that are not needed alone but cannot be removed together with the others."""
    idle = [place for place, record in enumerate(records) if record["verdict"] == "not needed"]
    idle.sort(key=lambda place: records[place]["carried"])
    kept = 0
    if len(idle) > 1:
        whole = work.losses_without(folds, ())
        for share in TOGETHER:
            some = chosen[idle[: int(np.ceil(share * len(idle)))]].tolist()
            # Trained on in the same way, on the same batches, so the two losses are paired.
            if work.losses_without(folds, some) <= (1 + _TOLERATED) * whole:
                kept = len(some)
                break
    elif idle:
        kept = 1
    for place in idle[kept:]:
        records[place]["verdict"] = "cannot be judged"
        records[place]["why"] = "alone it is not needed, but it is where others that are not needed are gone, too"


def _merged(estimated: PairedTests, refitted: PairedTests, edges: IntArray) -> PairedTests:
    """The refits of some edges, else the estimates."""
    values: dict[str, npt.NDArray[Any]] = {}
    for name in ("gain", "low", "high", "p", "passes", "t", "spread"):
        values[name] = getattr(estimated, name).copy()
        values[name][edges] = getattr(refitted, name)
    return PairedTests(**values, n=estimated.n)


def _facts(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    total = sum(fold["total"] for fold in folds)
    return {
        "conditions": sum(fold["conditions"] for fold in folds),
        "r2": 1 - sum(fold["loss"] for fold in folds) / total if total > 0 else float("nan"),
    }


def _removal(
    data: PerturbationData, config: TrainConfig, split: Split, edges: list[Edge], model: nn.Module | None
) -> dict[str, Any]:
    """The loss of the test part with and without the edges that are not needed."""
    record: dict[str, Any] = {"removed": len(edges)}
    if not edges:
        return record
    try:
        graph = data.graph.without_edges(edges)
    except DataError as error:
        return record | {"reason": str(error)}
    before = _test_errors(data, data.graph, config, split, model)
    after = _test_errors(data, graph, config, split, None)
    condition = conditions(data.x)[split.test] if split.by == "condition" else split.test
    unit = np.unique(condition, return_inverse=True)[1].reshape(-1)
    seen = np.isfinite(before)
    if not seen.any():
        return record | {"reason": "no response of the test part was measured"}
    n_units = int(unit.max()) + 1
    sums = [np.bincount(unit, np.where(seen, np.square(each), 0.0).sum(1)) for each in (before, after)]
    rise = (sums[0] - sums[1]) / (sums[0].sum() / n_units)
    half = stats.t.isf(0.025, n_units - 1) * rise.std(ddof=1) / np.sqrt(n_units) if n_units > 1 else float("inf")
    return record | {
        "conditions": n_units,
        "loss_before": float(sums[0].sum() / seen.sum()),
        "loss_after": float(sums[1].sum() / seen.sum()),
        "gain": float(rise.mean()),
        "gain_low": float(rise.mean() - half),
        "gain_high": float(rise.mean() + half),
    }


def _test_errors(
    data: PerturbationData, graph: Graph, config: TrainConfig, split: Split, model: nn.Module | None
) -> FloatArray:
    """Standardised errors of a GSNN on the test part; None trains one."""
    from gsnn.training import predict, train_model
    from gsnn.training.prepare import prepare

    made = prepare(replace(data, graph=graph), config, split)
    if model is None:
        model = made.model
        train_model(model, made.train, made.validation, config, progress=None)
    y = np.asarray(made.standardiser.transform(data.y[split.test]), dtype=np.float64)
    error: FloatArray = y - predict(model, data.x[split.test])
    return error
