"""Rank the candidate edges of a trained run, and write them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsnn.base.errors import DataError, RunError, check_option
from gsnn.base.progress import now
from gsnn.base.wording import asked
from gsnn.graph.kinds import FUNCTION_EDGES, OUTPUT_EDGES, drawn_treatments

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from gsnn.base.arrays import IntArray
    from gsnn.data import PerturbationData, StreamedData
    from gsnn.discovery import Method
    from gsnn.edges import AliasGroups, ScoredPairs
    from gsnn.edges.candidates import Ends, Given, Selection
    from gsnn.graph import Graph
    from gsnn.nn import GSNN
    from gsnn.runs.folder import Run
    from gsnn.runs.inference.job import Job
    from gsnn.runs.inference.ranking import Ranking


SCORES = ("corr", "partial")
AGGREGATIONS = ("mean0", "mean", "max")
SAMPLES = ("train", "all")
ALIASES = ("auto", "reach", "hops", "none")
_VACUOUS = 0.25  # share of the candidates in one group by reach above which hops tell more
_HEAD = 50  # how many of the best candidates are compared with those of the network alone


def _method_options(method: str, score: str | None, agg: str | None) -> dict[str, Any]:
    """The options of a method, with the score and the aggregation that were asked for."""
    from gsnn.discovery.methods import METHODS

    accepted = inspect.signature(METHODS[method].inferer.scored).parameters
    options = dict(METHODS[method].options)
    for parameter, name, value in (("score", "score", score), ("agg", "layer_agg", agg)):
        if value is None:
            continue
        if name not in accepted:
            raise DataError(f"method '{method}' has no {parameter}; leave it out")
        options[name] = value
    return options


def infer_run(
    run: Run,
    *,
    method: str | Sequence[str] | None = None,
    score: str | None = None,
    agg: str | None = None,
    samples: str = "train",
    kinds: str | Sequence[str] = "function",
    top: int | None = None,
    per_target: int | None = None,
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
    forbidden: Iterable[Given] = (),
    required: Iterable[Given] = (),
    known: bool = False,
    aliases: str = "auto",
    out: Sequence[str | Path] = (),
    progress: bool = False,
    job: Job | None = None,
    members: bool | None = None,
) -> pd.DataFrame:
    """Rank the candidate edges of a trained run and write them to its ``edges.csv``.

    How they were inferred is recorded in ``run.json`` under ``inference``, with the number of all ``candidates``, how
    far these alias, and ``notes`` for readers of the table.

    A treatment that is a species of the network too, with edges out of it and none into it, is no target.

    Of all three kinds, in a run that has an audit, ``repairs.csv`` is written too
    (:func:`gsnn.discovery.repairs_table`).

    Args:
        run: A run whose training is complete.
        method: A name of ``gsnn.discovery.METHODS``, or several (also with commas): the first ranks, each further
            one adds its columns ``rank_<method>`` and ``score_<method>``. None: ``gsnn.discovery.DEFAULT_METHOD``, or
            ``magnitude`` if ``score`` or ``agg``, which are of that method, are given. Each kind is ranked by the first
            method that can.
        score: ``corr``, or ``partial`` given the known parents of the target; None for the method's own.
        agg: How the layers are combined: ``mean0``, ``mean`` or ``max``; None for the method's own.
        samples: ``train`` for the samples the model was trained on, ``all`` for all of them.
        kinds: Kinds of edges to rank: ``input``, ``function``, ``output`` or the whole names of
            :data:`gsnn.graph.KINDS`; ``all``; several, also with commas. Each has ranks of its own.
        top: Keep at most this many candidates of each kind, none with an undefined score; None keeps all.
        per_target: Keep at most this many of each target, chosen before ``top`` applies.
        sources: Keep only candidates whose source has one of these names or matches one of these glob patterns.
        targets: The same for targets.
        forbidden: Edges that are no candidates: pairs, texts ``A:B``, also with glob patterns, and files of edges.
        required: Candidates to keep whatever the other options say; the column ``required`` marks them.
        known: Add the known edges after the candidates, without rank.
        aliases: Group the candidates that the data cannot tell apart: by ``reach`` (the inputs that reach the source,
            the outputs reached from the target), by ``hops`` (their distances too, up to the layers of the model), or
            ``none`` to leave out the two columns; ``auto`` takes hops where reach puts more than a quarter of
            the candidates into one group. Takes a fraction of a second with 10,000 functions.
        out: Further files to write the table to, as :func:`gsnn.io.write_edges` does by their extension. SIF and
            GraphML get the known edges too. An ``.h5ad`` becomes a copy of the responses, if these are AnnData.
        progress: Show progress on stderr.
        job: The processes that share the work, and how statistics are kept while samples are read; None for this
            process alone. An interrupted inference of the same run, samples and options is continued.
        members: Read each member of the run and average their ranks (:func:`gsnn.ask.agreement.average_ranks`), instead
            of reading the model of the run; None: if it has members.

    Returns:
        The table written (an empty one in all but the first of several processes): source, target, kind, score, rank
        (1 is best, among all candidates of the kind that are not forbidden, also if only some are kept), p, q (over
        all candidates of the kind), known; the sign, of a method that has one; alias_group and alias_size; the columns
        of further methods; worst_rank, of members; and the precision to expect, if the run has a self-check of this
        method. ``edges.csv-metadata.json`` says what each of them means.

    Raises:
        DataError: If an option is unknown.
        RunError: If training is not complete, the data are not those of the run any more, or another program is
            working in the folder.
    """
    import pandas as pd

    from gsnn.base.torch_state import threads_for
    from gsnn.discovery.methods import DEFAULT_METHOD, SHARED_METHOD, SIMPLER_METHOD, method_names, too_large, ways
    from gsnn.edges.candidates import Ends, Selection, check_patterns, named_edges
    from gsnn.graph import resolve_kinds
    from gsnn.runs.inference.job import Job
    from gsnn.runs.repairs import update_repairs

    chosen_kinds = resolve_kinds(kinds)
    functions_alone = chosen_kinds == (FUNCTION_EDGES,)
    by_default = method is None and score is None and agg is None
    job = job or Job()
    if method is None:
        method = "magnitude" if not by_default else SHARED_METHOD if job.joined.size > 1 else DEFAULT_METHOD
    names = method_names(method)
    if len(names) > 1 and (score is not None or agg is not None):
        raise DataError(f"score and agg are of one method, and there are {len(names)}; leave them out")
    if (score is not None or agg is not None) and not functions_alone:
        raise DataError(f"score and agg are of {FUNCTION_EDGES} edges alone; leave them out, or the other kinds")
    choices = (("score", score, SCORES), ("agg", agg, AGGREGATIONS), ("samples", samples, SAMPLES))
    for parameter, value, known_values in (*choices, ("aliases", aliases, ALIASES)):
        if value is not None:
            check_option(parameter, value, known_values, DataError)
    options = {name: _method_options(name, score, agg) for name in names}
    by_kind = {kind: ways(names, kind) for kind in chosen_kinds}
    if functions := by_kind.get(FUNCTION_EDGES):
        by_kind[FUNCTION_EDGES] = {name: replace(way, options=options[name]) for name, way in functions.items()}
    selection = Selection(top, per_target, tuple(sources), tuple(targets))
    files = _checked_outputs(out)
    if job.joined.size > 1 and not functions_alone:
        raise DataError(f"several processes rank {FUNCTION_EDGES} edges alone; start the other kinds in one process")
    with run.lock() if job.joined.first else nullcontext():
        run.refresh()
        data = run.open_data()
        ends = [Ends.of(data.graph, kind) for kind in chosen_kinds]
        check_patterns(selection, ends)  # a wrong pattern must not cost an inference
        forbidden, required = list(forbidden), list(required)
        never = named_edges(forbidden, ends, "forbidden", patterns=True)
        always = named_edges(required, ends, "required")
        for each in ends:
            clash = sorted(set(always.rows[each.kind].tolist()) & set(never.rows[each.kind].tolist()))
            if clash:
                raise DataError(f"{each.name(clash[0])!r} is both forbidden and required; drop one of them")
        notes = [*never.notes, *always.notes]
        if by_default and FUNCTION_EDGES in by_kind and (reason := too_large(data.graph.N, job.memory_budget)):
            notes.append(f"ranked by '{SIMPLER_METHOD}': {reason}")
            by_kind[FUNCTION_EDGES] = ways([SIMPLER_METHOD], FUNCTION_EDGES)
        models = _models(run, job, members)
        treatments = [name for name in drawn_treatments(data.graph) if name not in selection.targets]
        parts = []
        for each in ends:
            into_treatments = _pairs_into(each, treatments, always.rows[each.kind])
            with threads_for(models[0], len(data)):
                part = _infer_kind(
                    run,
                    models,
                    data,
                    each,
                    by_kind[each.kind],
                    selection,
                    forbidden=np.union1d(never.rows[each.kind], into_treatments),
                    required=always.rows[each.kind],
                    known=known,
                    aliases=aliases,
                    samples=samples,
                    progress=progress,
                    job=job,
                )
            if part is None:
                return pd.DataFrame()
            parts.append(part)
        edges = pd.concat([part.edges for part in parts], ignore_index=True) if len(parts) > 1 else parts[0].edges
        first = next((part for part in parts if part.kind == FUNCTION_EDGES), parts[0])
        selected = {
            "methods": names if len(names) > 1 else [],
            "per_target": per_target,
            "sources": list(sources),
            "targets": list(targets),
            "no_targets": [] if chosen_kinds == (OUTPUT_EDGES,) else treatments,
            "forbidden": [_text(item) for item in forbidden],
            "required": [_text(item) for item in required],
        }
        notes += [*job.notes(), *(note for part in parts for note in part.notes)]
        inference = {
            **{name: first.facts[name] for name in ("method", "options")},
            "samples": samples,
            "n": first.n,
            "top": top,
            **{name: value for name, value in selected.items() if value},
            **job.facts(),
            **first.facts,
            "candidates": sum(part.facts["candidates"] for part in parts),
            **({"structure": first.shared} if first.shared else {}),
            **({} if functions_alone else {"kinds": {part.kind: part.facts for part in parts}}),
            "notes": list(dict.fromkeys(notes)),
        }
        now("writing edges")
        run.write_edges(edges, inference)
        _write_outputs(run, edges, data.graph, files)
        job.forget()
        update_repairs(run)
    return edges


@dataclass(frozen=True, eq=False)
class _Part:
    """The edges of one kind, and facts and notes about them."""

    kind: str
    edges: pd.DataFrame
    n: int
    facts: dict[str, Any]
    shared: dict[str, int]
    notes: list[str]


def _models(run: Run, job: Job, members: bool | None) -> list[GSNN]:
    """The models to read: the members, or the model of the run."""
    if members and not run.n_members:
        raise RunError(f"{run.path} has no members; add them with gsnn train --resume --members 5 -o {run.path}")
    if run.n_members and members is not False:
        if job.joined.size > 1:
            raise DataError(
                "members are read in one process; start without torchrun, or read the model of the run alone with "
                f"{asked('members=False', '--no-members')}"
            )
        models = [member.model if job.weights == "last" else member.early or member.model for member in run.members()]
    else:
        models = [run.reading_model(job.weights)]
    return [model.double() for model in models] if job.double else models


def _score(
    run: Run,
    models: Sequence[GSNN],
    data: PerturbationData | StreamedData,
    ways: Mapping[str, Method],
    samples: str,
    progress: bool,
    job: Job,
) -> tuple[dict[str, ScoredPairs], int]:
    """As :func:`gsnn.runs.inference.ranking.score_pairs`; of several models by the average of their ranks."""
    from gsnn.ask.agreement import average_ranks
    from gsnn.runs.inference.ranking import score_pairs

    by_weights = {name: way for name, way in ways.items() if way.inferer.reads_weights}
    if len(models) == 1 or not by_weights:
        return score_pairs(run, models[0], data, ways, samples, progress, job)
    scores, counts = zip(
        *(
            score_pairs(run, model, data, by_weights, samples, progress, replace(job, member=number))
            for number, model in enumerate(models, start=1)
        ),
        strict=True,
    )
    # Further rankings do not depend on the model, nor do the methods that read no weights of it.
    averaged = scores[0] | {name: average_ranks([each[name] for each in scores]) for name in by_weights}
    others = {name: way for name, way in ways.items() if name not in by_weights}
    once = score_pairs(run, models[0], data, others, samples, progress, job)[0] if others else {}
    return {name: (averaged | once)[name] for name in (*ways, *averaged)}, counts[0]


def _infer_kind(
    run: Run,
    models: Sequence[GSNN],
    data: PerturbationData | StreamedData,
    ends: Ends,
    ways: Mapping[str, Method],
    selection: Selection,
    *,
    forbidden: IntArray,
    required: IntArray,
    known: bool,
    aliases: str,
    samples: str,
    progress: bool,
    job: Job,
) -> _Part | None:
    """Rank the edges of one kind; None in all but the first of several processes."""
    from gsnn.ask.agreement import agreement
    from gsnn.edges.pairs import PriorEdges
    from gsnn.runs.inference.ranking import rank_together
    from gsnn.runs.regressor import FROM_TRAINING, learnt_in_training
    from gsnn.runs.results import calibrate_edges

    now("scoring edges")
    scores, n = _score(run, models, data, ways, samples, progress and job.joined.first, job)
    ranking = rank_together(scores, selection, job.joined, forbidden=forbidden, required=required, known=known)
    if ranking is None:
        return None
    table, notes = ranking.table, [note for scored in scores.values() for note in scored.notes]
    prior = PriorEdges(data.graph, ends.kind)
    # Self-edges are never candidates, known or not.
    known_rows = {ends.row(*edge) for edge in prior.edges if edge[0] != edge[1]}
    n_candidates = int(prior.candidates().sum()) - len(set(forbidden.tolist()) - known_rows)
    required_known = [ends.name(row) for row in required.tolist() if row in known_rows]
    if required_known:
        notes.append(f"required and in the network already, so no candidate: {', '.join(required_known[:5])}")
    now("finding aliases")
    groups = _alias_groups(run, data.graph, ends.kind, aliases, forbidden)
    if groups is not None:
        table = groups.attach(table)
        notes += groups.warnings
    edges = edge_table(table, ranking.score_name, known=known, rank=ranking.rank, kind=ends.kind)
    first = next(iter(ways))
    further = [f"{column}_{name}" for name in ranking.others for column in ("rank", "score")]
    edges = edges.assign(**{name: table[name].array for name in further})
    if len(required):
        rows = table["src_idx"].to_numpy("int64") * len(ends.targets) + table["dst_idx"].to_numpy("int64")
        edges["required"] = np.isin(rows, [row for row in required.tolist() if row not in known_rows])
    options = dict(ways[first].options)
    if job.weights != "early":
        options["weights"] = job.weights
    averaged = len(models) > 1 and ways[first].inferer.reads_weights
    if averaged:
        options["members"] = len(models)
    elif learnt_in_training(run, ways[first].inferer, job.fresh):
        options = options | FROM_TRAINING
    edges, uncalibrated = calibrate_edges(run, edges, first, kind=ends.kind, options=options)
    if uncalibrated:
        notes.append(uncalibrated)
    facts = {
        "method": first,
        "options": options,
        "candidates": n_candidates,
        "aliases": None if groups is None else groups.summary(),
        **({"members": agreement(edges, len(models))} if averaged else {}),
    }
    return _Part(ends.kind, edges, n, facts, _shared_with_structure(ranking, n_candidates), notes)


def _alias_groups(run: Run, graph: Graph, kind: str, aliases: str, forbidden: IntArray) -> AliasGroups | None:
    """The groups of candidates that the data cannot tell apart, without the forbidden ones; None if not asked for."""
    from gsnn.edges import alias_groups

    def groups_by(by: Any) -> AliasGroups:  # noqa: ANN401 - one of two names, checked before
        return alias_groups(graph, by, run.config.layers if by == "hops" else None, kind=kind).without(forbidden)

    if aliases == "none":
        return None
    groups = groups_by("reach" if aliases == "auto" else aliases)
    vacuous = aliases == "auto" and (groups.summary()["largest_share"] or 0) > _VACUOUS
    return groups_by("hops") if vacuous else groups


def _shared_with_structure(ranking: Ranking, n_candidates: int) -> dict[str, int]:
    """How many of the best candidates are among the best by structure alone; empty if that ranking is missing."""
    k = min(_HEAD, n_candidates // 10)
    head = ranking.table[(ranking.rank > 0) & (ranking.rank <= k)]
    if "structure" not in ranking.others or not len(head):
        return {}
    return {"top": len(head), "shared": int((head["rank_structure"] <= k).sum())}


def _pairs_into(ends: Ends, treatments: Sequence[str], required: IntArray) -> IntArray:
    """Pairs into treatments that are species of the network, without the required ones."""
    targets = [ends.place[1][name] for name in treatments if name in ends.place[1]]
    pairs = np.zeros((len(ends.sources), len(ends.targets)), dtype=bool)
    pairs[:, targets] = True
    if ends.kind == FUNCTION_EDGES:
        np.fill_diagonal(pairs, False)
    return np.setdiff1d(np.flatnonzero(pairs), required)


def _text(item: Given) -> str:
    return ":".join(item) if isinstance(item, tuple) else str(item)


def _checked_outputs(out: Sequence[str | Path]) -> list[Path]:
    """The paths of the outputs; those that cannot be written are refused before anything is computed."""
    from gsnn.io.write import format_of

    paths = [Path(path) for path in out]
    for path in paths:
        format_of(path)
        if not path.parent.is_dir():
            raise DataError(f"{path}: there is no folder {path.parent}; make it first")
    return paths


def _write_outputs(run: Run, edges: pd.DataFrame, graph: Graph, files: Sequence[Path]) -> None:
    from gsnn.io import EDGE_FORMATS, write_edges
    from gsnn.io.text import suffix_of
    from gsnn.io.write import format_of

    for path in files:
        now(f"writing {path.name}")
        chosen = format_of(path)
        responses = Path(str(run.sources.files.get("data", {}).get("path", "")))
        options: dict[str, Any] = {"graph": graph} if EDGE_FORMATS[chosen].network else {}
        if chosen == "h5ad" and not path.exists() and suffix_of(responses) == ".h5ad":
            options["h5ad"] = responses
        write_edges(edges, path, **options)


def edge_table(
    table: pd.DataFrame,
    score_name: str = "corr",
    *,
    known: bool = False,
    rank: npt.ArrayLike | None = None,
    kind: str = FUNCTION_EDGES,
) -> pd.DataFrame:
    """The columns of ``edges.csv`` from an inferer's table.

    Args:
        table: As an inferer's ``evaluate`` returns it: sorted by score, best first, undefined last.
        score_name: Its column of scores.
        known: Keep the known edges, after the candidates and without rank.
        rank: Rank of each row of ``table`` that is a candidate; None numbers them in their order.
        kind: The kind of all of its edges.

    Returns:
        source, target, kind, score, rank, p, q, known; and sign, worst_rank, alias_group and alias_size where the table
        has them.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"src_func": ["a", "b"], "dst_func": ["b", "c"], "corr": [0.9, 0.2],
        ...                       "has_edge": [True, False], "p_value": [0.1, 0.2], "q_value": [None, 0.2]})
        >>> edge_table(table)[["source", "target", "rank", "known"]].to_dict("list")
        {'source': ['b'], 'target': ['c'], 'rank': [1], 'known': [False]}
    """
    import pandas as pd

    has_edge = table["has_edge"].to_numpy(dtype=bool)
    order = np.flatnonzero(~has_edge)
    places = np.arange(1, len(order) + 1) if rank is None else np.asarray(rank, dtype=np.int64)[order]
    ranks = pd.Series(places, dtype="Int64")
    if known:
        order = np.concatenate([order, np.flatnonzero(has_edge)])
        ranks = ranks.reindex(range(len(order)))
    chosen = table.iloc[order].reset_index(drop=True)
    undefined = pd.Series(np.nan, index=chosen.index)  # a method without a test
    return pd.DataFrame(
        {
            "source": chosen["src_func"].astype(object),
            "target": chosen["dst_func"].astype(object),
            "kind": kind,
            "score": chosen[score_name],
            "rank": ranks,
            "p": chosen.get("p_value", undefined),
            "q": chosen.get("q_value", undefined),
            "known": chosen["has_edge"].astype(bool),
            **{name: chosen[name] for name in ("sign", "worst_rank", "alias_group", "alias_size") if name in chosen},
        }
    )
