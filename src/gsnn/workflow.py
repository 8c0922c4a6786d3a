"""The main job as three functions: train into a run folder, infer its missing edges, write its report.

The command line and the demo call these; so may a script. They return what they made, print nothing, and check
everything before the first file is written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.errors import DataError, RunError, require, unknown_option

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.runs import Run
    from gsnn.training import TrainConfig, TrainResult

SCORES = ("corr", "partial")
AGGREGATIONS = ("mean0", "mean", "max")
SAMPLES = ("train", "all")
ALIASES = ("reach", "hops", "none")
BATCH = 256  # samples per pass of an inference; scores do not depend on it

__all__ = [
    "AGGREGATIONS",
    "ALIASES",
    "SAMPLES",
    "SCORES",
    "check_inference",
    "infer_run",
    "make_config",
    "report_run",
    "train_demo",
    "train_run",
]


def make_config(settings: Mapping[str, Any]) -> TrainConfig:
    """Settings of a training, checked; a wrong value is the user's to mend.

    Args:
        settings: Fields of `TrainConfig`; None values are left out and take their defaults.

    Returns:
        The configuration.

    Raises:
        DataError: If a name or a value is wrong.

    Example:
        >>> make_config({"epochs": 3, "norm": None}).epochs
        3
        >>> make_config({"norm": "layr"})
        Traceback (most recent call last):
        ...
        gsnn.errors.DataError: unknown norm 'layr'; use one of 'none', 'layer', ... (did you mean 'layer'?)
    """
    from gsnn.training import TrainConfig

    try:
        return TrainConfig.from_dict({name: value for name, value in settings.items() if value is not None})
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from error


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
        method: A name of ``gsnn.edges.INFERERS``.
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
        gsnn.errors.DataError: unknown score 'cor'; use one of 'corr', 'partial' (did you mean 'corr'?)
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
    from gsnn.edges import INFERERS

    if method not in INFERERS:
        raise DataError(str(unknown_option("method", method, INFERERS)))
    kind: Any = INFERERS[method].inferer
    accepted = inspect.signature(kind.evaluate).parameters
    options = dict(INFERERS[method].options)
    for parameter, name, value in (("score", "score", score), ("agg", "layer_agg", agg)):
        if value is None:
            continue
        if name not in accepted:
            raise DataError(f"method '{method}' has no {parameter}; leave it out")
        options[name] = value
    return options


def train_run(
    path: str | Path,
    *,
    graph: str | Path,
    data: str | Path | None = None,
    inputs: str | Path | None = None,
    outputs: str | Path | None = None,
    network_options: Mapping[str, Any] | None = None,
    responses_options: Mapping[str, Any] | None = None,
    build_options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = False,
    notify: Callable[[list[str]], None] | None = None,
) -> tuple[Run, TrainResult]:
    """Train on a network file and a response file, or two matrices, into a run folder.

    Args:
        path: The run folder.
        graph: The prior network.
        data: The responses, as MIDAS or one prefixed table.
        inputs: The matrix of treatments, with ``outputs`` instead of ``data``.
        outputs: The matrix of readouts.
        network_options: Keyword arguments of `gsnn.io.read_network`.
        responses_options: Keyword arguments of `gsnn.io.read_responses`.
        build_options: Keyword arguments of `gsnn.data.build_data`.
        settings: Fields of `TrainConfig`. A run that is resumed keeps its own where a field is missing or None.
        overwrite: Replace a run in the folder.
        resume: Continue a run in the folder; if there is none, begin one.
        progress: Show progress on stderr.
        notify: Called with the warnings about the data before the training begins; and after it with what in the
            folder (a self-check, a refinement) is from other data or settings.

    Returns:
        The run and the result of its training.

    Raises:
        DataError: If a file or a setting is wrong.
        RunError: If the folder does not allow this.
    """
    from gsnn.runs import Run, Sources

    # What is cheap to refuse comes before torch is imported, which takes longer than everything here.
    Run.check_target(path, overwrite=overwrite, resume=resume)
    sources = Sources.from_files(
        graph,
        data,
        inputs=inputs,
        outputs=outputs,
        network_options=network_options,
        responses_options=responses_options,
        build_options=build_options,
    )
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    before = Run.open(path).config.to_dict() if resume and Run.exists(path) else {}
    config = make_config({**before, **given})
    read = sources.read()
    if notify is not None:
        notify(read.warnings)
    from gsnn.protocols._commands import stale_results
    from gsnn.training import train_run as train

    run, result = train(path, sources, config, data=read, overwrite=overwrite, resume=resume, progress=progress)
    if notify is not None:
        notify(stale_results(run))
    return run, result


def train_demo(
    path: str | Path, dataset: str, *, settings: Mapping[str, Any] | None = None, progress: bool = False
) -> tuple[Run, TrainResult]:
    """Train on a bundled data set into a run folder, replacing an earlier demo there and nothing else.

    Args:
        path: The run folder.
        dataset: One of ``gsnn.datasets.DATASETS``.
        settings: Fields of `TrainConfig`.
        progress: Show progress on stderr.

    Returns:
        The run and the result of its training.

    Raises:
        DataError: If there is no such data set.
        MissingExtraError: If a package of the extra ``demo`` is not installed.
        RunError: If the folder holds anything but a demo.
    """
    from gsnn.runs import Run, Sources

    for module in ("jinja2", "plotly.offline"):
        require(module, extra="demo")  # not only after the training
    sources = Sources.dataset(dataset)
    config = make_config(settings or {})
    if Run.exists(path) and Run.open(path).sources.kind != "dataset":
        raise RunError(f"{path} holds a run on your own files, not a demo; choose another folder with -o")
    Run.check_target(path, overwrite=True)
    from gsnn.training import train_run as train

    return train(path, sources, config, overwrite=True, progress=progress)


def infer_run(
    run: Run,
    *,
    method: str = "magnitude",
    score: str | None = None,
    agg: str | None = None,
    samples: str = "train",
    top: int | None = None,
    known: bool = False,
    aliases: str = "reach",
    progress: bool = False,
) -> pd.DataFrame:
    """Rank the candidate edges of a trained run and write them to its ``edges.csv``.

    How they were inferred stands in ``run.json`` under ``inference``: among other things the number of all
    ``candidates``, how far these alias, and ``notes`` that a reader of the table should know.

    Args:
        run: A run whose training is complete.
        method: A name of ``gsnn.edges.INFERERS``.
        score: ``corr``, or ``partial`` given the known parents of the target; None for the method's own.
        agg: How the layers are combined: ``mean0``, ``mean`` or ``max``; None for the method's own.
        samples: ``train`` for the samples the model was trained on, ``all`` for all of them.
        top: Keep only so many candidates, none with an undefined score; None keeps all.
        known: Add the known edges after the candidates, without rank.
        aliases: Group the candidates that the data cannot tell apart: by ``reach`` (the inputs that reach the source,
            the outputs reached from the target), by ``hops`` (their distances too, up to the layers of the model), or
            ``none`` to leave out the two columns. Takes a fraction of a second with 10,000 functions.
        progress: Show progress on stderr.

    Returns:
        The table written: source, target, score, rank (1 is best), p, q, known; the sign, of a method that has one;
        alias_group and alias_size; and the precision to expect, if the run holds a self-check of this method.
        ``edges.csv-metadata.json`` says what each of them means.

    Raises:
        DataError: If an option is unknown.
        RunError: If training is not complete, or the data are not those of the run any more.
    """
    options = check_inference(method, score, agg, samples, top, aliases)
    model, data = run.model(), run.data()
    import numpy as np
    import torch

    from gsnn.edges import INFERERS, alias_groups
    from gsnn.losses import masked_mse
    from gsnn.protocols._commands import calibrate_edges

    rows = np.arange(len(data)) if samples == "all" else run.split().train
    x = torch.as_tensor(data.x[rows], dtype=torch.float32)
    y = torch.as_tensor(run.standardiser().transform(data.y[rows]), dtype=torch.float32)
    batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    kind: Any = INFERERS[method].inferer
    try:
        # Some inferers train models of their own.
        own = {"train": run.config} if "train" in inspect.signature(kind).parameters else {}
        inferer = kind(model, data.graph, **own)
        n = inferer.fit(batches, crit=masked_mse, verbose=progress)
        # The best few need no table of all pairs, which is most of the time and memory on a large network.
        few = top is not None and not known
        table = inferer.top_edges(top, **options) if few else inferer.evaluate(**options)
    except RuntimeError as error:
        # Too few layers or samples: the run does not allow inference, nothing is broken.
        raise RunError(f"edges cannot be inferred from {run.path}: {error}") from error
    # A function's edge to itself is no candidate, be it known or not.
    prior = {edge for edge in data.graph.function_edges if edge[0] != edge[1]}
    n_candidates = data.graph.N * (data.graph.N - 1) - len(prior)
    notes: list[str] = []
    groups = None
    if aliases != "none":
        by: Any = aliases  # one of the two, checked above
        groups = alias_groups(data.graph, by, run.config.layers if by == "hops" else None)
        table = groups.attach(table)
        notes += groups.warnings
    edges = edge_table(table, kind.score_name, known=known)
    if top is not None:
        edges = edges[edges["rank"].isna() | ((edges["rank"] <= top) & edges["score"].notna())]
    edges, uncalibrated = calibrate_edges(run, edges, method, options=options)
    if uncalibrated:
        notes.append(uncalibrated)
    inference = {"method": method, "options": options, "samples": samples, "n": n, "top": top}
    inference |= {"candidates": n_candidates, "aliases": None if groups is None else groups.summary(), "notes": notes}
    run.write_edges(edges, inference)
    return edges


def edge_table(table: pd.DataFrame, score_name: str = "corr", *, known: bool = False) -> pd.DataFrame:
    """The columns of ``edges.csv`` from an inferer's table.

    Args:
        table: As an inferer's ``evaluate`` returns it: sorted by score, best first, undefined last.
        score_name: Its column of scores.
        known: Keep the known edges, after the candidates and without rank.

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
    rank = pd.Series(np.arange(1, len(order) + 1), dtype="Int64")
    if known:
        order = np.concatenate([order, np.flatnonzero(has_edge)])
        rank = rank.reindex(range(len(order)))
    chosen = table.iloc[order].reset_index(drop=True)
    undefined = pd.Series(np.nan, index=chosen.index)  # a method without a test
    return pd.DataFrame(
        {
            "source": chosen["src_func"].astype(object),
            "target": chosen["dst_func"].astype(object),
            "score": chosen[score_name],
            "rank": rank,
            "p": chosen.get("p_value", undefined),
            "q": chosen.get("q_value", undefined),
            "known": chosen["has_edge"].astype(bool),
            **{name: chosen[name] for name in ("sign", "alias_group", "alias_size") if name in chosen},
        }
    )


def report_run(run: Run) -> Path:
    """Write the report of a run as one HTML file into its folder.

    Args:
        run: A run whose training is complete.

    Returns:
        The file.

    Raises:
        RunError: If training is not complete, or the data are not those of the run any more.
        MissingExtraError: If the packages of the extra ``report`` are not installed.
    """
    from gsnn.report import write_report

    return write_report(run)
