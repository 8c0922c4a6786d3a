"""Rank the candidate edges of a trained run, and write them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import DataError, unknown_option
from gsnn.base.progress import now

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from gsnn.edges.candidates import Given
    from gsnn.graph import Graph
    from gsnn.runs.folder import Run
    from gsnn.runs.job import Job


SCORES = ("corr", "partial")


AGGREGATIONS = ("mean0", "mean", "max")


SAMPLES = ("train", "all")


ALIASES = ("reach", "hops", "none")


def check_inference(
    method: str = "magnitude",
    score: str | None = None,
    agg: str | None = None,
    samples: str = "train",
    top: int | None = None,
    aliases: str = "reach",
) -> dict[str, Any]:
    """Refuse options that no method has.

    Args:
        method: A name of ``gsnn.discovery.METHODS``.
        score: ``corr`` or ``partial``; None for the method's own.
        agg: ``mean0``, ``mean`` or ``max``; None for the method's own.
        samples: ``train`` or ``all``.
        top: A number of candidates, at least 1, or None.
        aliases: ``reach``, ``hops`` or ``none``.

    Returns:
        The options for the ``evaluate`` of the method's inferer.

    Raises:
        DataError: Naming the options and the closest one.

    Example:
        >>> check_inference("magnitude", agg="max")
        {'layer_agg': 'max'}
        >>> check_inference(score="cor")
        Traceback (most recent call last):
        ...
        gsnn.base.errors.DataError: unknown score 'cor'; use one of 'corr', 'partial' (did you mean 'corr'?)
    """
    given = (
        ("score", score, SCORES),
        ("agg", agg, AGGREGATIONS),
        ("samples", samples, SAMPLES),
        ("aliases", aliases, ALIASES),
    )
    for parameter, value, choices in given:
        if value is not None and value not in choices:
            raise DataError(str(unknown_option(parameter, value, choices)))
    if top is not None and top < 1:
        raise DataError(f"top must be at least 1, got {top}; leave it out for every candidate")
    from gsnn.discovery.methods import METHODS

    if method not in METHODS:
        raise DataError(str(unknown_option("method", method, METHODS)))
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
    top: int | None = None,
    per_target: int | None = None,
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
    forbidden: Iterable[Given] = (),
    required: Iterable[Given] = (),
    known: bool = False,
    aliases: str = "reach",
    out: Sequence[str | Path] = (),
    progress: bool = False,
    job: Job | None = None,
) -> pd.DataFrame:
    """Rank the candidate edges of a trained run and write them to its ``edges.csv``.

    How they were inferred stands in ``run.json`` under ``inference``: among other things the number of all
    ``candidates``, how far these alias, and ``notes`` that a reader of the table should know.

    Args:
        run: A run whose training is complete.
        method: A name of ``gsnn.discovery.METHODS``, or several (also with commas): the first ranks, each further
            one adds its columns ``rank_<method>`` and ``score_<method>``. None: ``gsnn.discovery.DEFAULT_METHOD``, or
            ``magnitude`` if ``score`` or ``agg``, which are of that method, are given.
        score: ``corr``, or ``partial`` given the known parents of the target; None for the method's own.
        agg: How the layers are combined: ``mean0``, ``mean`` or ``max``; None for the method's own.
        samples: ``train`` for the samples the model was trained on, ``all`` for all of them.
        top: Keep only so many candidates, none with an undefined score; None keeps all.
        per_target: Keep only so many of each target, chosen before ``top`` applies.
        sources: Keep only candidates whose source has one of these names or matches one of these glob patterns.
        targets: The same for targets.
        forbidden: Edges that are no candidates: pairs, texts ``A:B`` and files of edges.
        required: Candidates to keep whatever the other options say; the column ``required`` marks them.
        known: Add the known edges after the candidates, without rank.
        aliases: Group the candidates that the data cannot tell apart: by ``reach`` (the inputs that reach the source,
            the outputs reached from the target), by ``hops`` (their distances too, up to the layers of the model), or
            ``none`` to leave out the two columns. Takes a fraction of a second with 10,000 functions.
        out: Further files to write the table to, as :func:`gsnn.io.write_edges` does by their extension. SIF and
            GraphML get the known edges too. An ``.h5ad`` becomes a copy of the responses, if these are AnnData.
        progress: Show progress on stderr.
        job: By which processes, what they share, and how statistics are kept while samples are read; None for this one
            alone. An interrupted inference of the same run, samples and options is continued.

    Returns:
        The table written (an empty one in all but the first of several processes): source, target, score, rank
        (1 is best, among all candidates that are not forbidden, also if only some are kept), p, q (over all
        candidates), known; the sign, of a method that has one; alias_group and alias_size; the columns of
        further methods; and the precision to expect, if the run holds a self-check of this method.
        ``edges.csv-metadata.json`` says what each of them means.

    Raises:
        DataError: If an option is unknown.
        RunError: If training is not complete, the data are not those of the run any more, or another program is
            working in the folder.
    """
    import pandas as pd

    from gsnn.discovery.methods import DEFAULT_METHOD, METHODS, method_names
    from gsnn.edges import alias_groups
    from gsnn.edges.candidates import Selection, named_edges, select
    from gsnn.runs.job import Job
    from gsnn.runs.ranking import rank_together, score_pairs
    from gsnn.runs.regressor import FROM_TRAINING, learnt_in_training

    if method is None:
        method = DEFAULT_METHOD if score is None and agg is None else "magnitude"
    names = method_names(method)
    if len(names) > 1 and (score is not None or agg is not None):
        raise DataError(f"score and agg are of one method, and there are {len(names)}; leave them out")
    options = {name: check_inference(name, score, agg, samples, top, aliases) for name in names}
    selection = Selection(top, per_target, tuple(sources), tuple(targets))
    files = _checked_outputs(out)
    from gsnn.runs.results import calibrate_edges

    job = job or Job()
    with run.lock() if job.joined.first else nullcontext():
        run.refresh()
        data = run.open_data()
        functions = list(data.graph.functions)
        select(functions, selection)  # a wrong pattern must not cost an inference
        banned, asked = ([item for item in each] for each in (forbidden, required))
        no, must = named_edges(banned, functions, "forbidden"), named_edges(asked, functions, "required")
        clash = [row for row in must.rows.tolist() if row in set(no.rows.tolist())]
        if clash:
            pair = ":".join(functions[i] for i in divmod(clash[0], len(functions)))
            raise DataError(f"{pair!r} is both forbidden and required; drop one of them")
        now("scoring edges")
        ranking = rank_together(
            score_pairs(run, data, options, samples, progress and job.joined.first, job),
            selection,
            job.joined,
            forbidden=no.rows,
            required=must.rows,
            known=known,
        )
        if ranking is None:
            return pd.DataFrame()
        table = ranking.table
        # A function's edge to itself is no candidate, be it known or not.
        prior = {edge for edge in data.graph.function_edges if edge[0] != edge[1]}
        index = {name: i for i, name in enumerate(functions)}
        known_rows = {index[s] * len(functions) + index[t] for s, t in prior}
        n_candidates = data.graph.N * (data.graph.N - 1) - len(prior) - len(set(no.rows.tolist()) - known_rows)
        notes = [*no.notes, *must.notes, *job.notes()]
        there = [row for row in must.rows.tolist() if row in known_rows]
        if there:
            pairs = [":".join(functions[i] for i in divmod(row, len(functions))) for row in there]
            notes.append(f"required and in the network already, so no candidate: {', '.join(pairs[:5])}")
        now("finding aliases")
        groups = None
        if aliases != "none":
            by: Any = aliases  # one of the two, checked above
            groups = alias_groups(data.graph, by, run.config.layers if by == "hops" else None)
            table = groups.attach(table)
            notes += groups.warnings
        edges = edge_table(table, ranking.score_name, known=known, rank=ranking.rank)
        further = [f"{what}_{name}" for name in names[1:] for what in ("rank", "score")]
        edges = edges.assign(**{name: table[name].array for name in further})
        if len(must.rows):
            rows = table["src_idx"].to_numpy("int64") * len(functions) + table["dst_idx"].to_numpy("int64")
            edges["required"] = [row in set(must.rows.tolist()) - known_rows for row in rows.tolist()]
        scored_by = options[names[0]]
        if learnt_in_training(run, METHODS[names[0]].inferer, job.fresh):
            scored_by = scored_by | FROM_TRAINING
        edges, uncalibrated = calibrate_edges(run, edges, names[0], options=scored_by)
        if uncalibrated:
            notes.append(uncalibrated)
        inference = {"method": names[0], "options": scored_by, "samples": samples, "n": ranking.n, "top": top}
        chosen = {
            "methods": names if len(names) > 1 else [],
            "per_target": per_target,
            "sources": list(sources),
            "targets": list(targets),
            "forbidden": [_text(item) for item in banned],
            "required": [_text(item) for item in asked],
        }
        inference |= {name: value for name, value in chosen.items() if value} | job.facts()
        aliasing = None if groups is None else groups.summary()
        inference |= {"candidates": n_candidates, "aliases": aliasing, "notes": notes}
        now("writing edges")
        run.write_edges(edges, inference)
        _write_outputs(run, edges, data.graph, files)
        job.forget()
    return edges


def _text(item: Given) -> str:
    return ":".join(item) if isinstance(item, tuple) else str(item)


def _checked_outputs(out: Sequence[str | Path]) -> list[Path]:
    """Refuse what cannot be written before anything is computed."""
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
        cells = Path(str(run.sources.files.get("data", {}).get("path", "")))
        given: dict[str, Any] = {"graph": graph} if EDGE_FORMATS[chosen].network else {}
        if chosen == "h5ad" and not path.exists() and suffix_of(cells) == ".h5ad":
            given["h5ad"] = cells
        write_edges(edges, path, **given)


def edge_table(
    table: pd.DataFrame, score_name: str = "corr", *, known: bool = False, rank: npt.ArrayLike | None = None
) -> pd.DataFrame:
    """The columns of ``edges.csv`` from an inferer's table.

    Args:
        table: As an inferer's ``evaluate`` returns it: sorted by score, best first, undefined last.
        score_name: Its column of scores.
        known: Keep the known edges, after the candidates and without rank.
        rank: Rank of each row of ``table`` that is a candidate; None counts them as they stand.

    Returns:
        source, target, score, rank, p, q, known; and sign, alias_group and alias_size where the table has them.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"src_func": ["a", "b"], "dst_func": ["b", "c"], "corr": [0.9, 0.2],
        ...                       "has_edge": [True, False], "p_value": [0.1, 0.2], "q_value": [None, 0.2]})
        >>> edge_table(table)[["source", "target", "rank", "known"]].to_dict("list")
        {'source': ['b'], 'target': ['c'], 'rank': [1], 'known': [False]}
    """
    import numpy as np
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
            "score": chosen[score_name],
            "rank": ranks,
            "p": chosen.get("p_value", undefined),
            "q": chosen.get("q_value", undefined),
            "known": chosen["has_edge"].astype(bool),
            **{name: chosen[name] for name in ("sign", "alias_group", "alias_size") if name in chosen},
        }
    )
