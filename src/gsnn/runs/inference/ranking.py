"""Candidate edges of a trained run, by one method or several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import DataError, GsnnError, RunError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from gsnn.base.arrays import IntArray
    from gsnn.data import PerturbationData, StreamedData
    from gsnn.discovery import Method
    from gsnn.edges import EdgeInferer, ScoredPairs
    from gsnn.edges.candidates import Selection
    from gsnn.edges.parallel import Processes
    from gsnn.graph import Graph
    from gsnn.nn import GSNN
    from gsnn.runs.folder import Run
    from gsnn.runs.inference.job import Job

BATCH = 256  # samples per pass of an inference; scores do not depend on it


@dataclass(frozen=True)
class Ranking:
    """The pairs that are kept of a ranking.

    Attributes:
        table: A row per pair, as an inferer's ``evaluate`` has them, best first; known edges after the candidates.
        rank: The rank of each among all candidates, 0 for a known edge.
        score_name: The column of the score.
        others: Further rankings, whose columns are ``rank_<name>`` and ``score_<name>``.
    """

    table: pd.DataFrame
    rank: IntArray
    score_name: str
    others: Sequence[str] = ()


def score_pairs(
    run: Run,
    model: GSNN,
    data: PerturbationData | StreamedData,
    methods: Mapping[str, Method],
    samples: str,
    progress: bool,
    job: Job,
) -> tuple[dict[str, ScoredPairs], int]:
    """Scores of all pairs by each method, and the number of samples they are from.

    Methods with the same inferer share its pass over the samples.

    Returns:
        Scores by name: those of the methods, all of one kind of edges, then the further rankings of their inferers.
        Each of several processes has the pairs into its own targets. The number is that of the first method.

    Raises:
        RunError: If the run does not allow inference.
    """
    from gsnn.edges.parallel import ProcessError
    from gsnn.nn.losses import masked_mse

    batches = _batches(run, data, samples, methods)
    fitted: dict[Any, EdgeInferer] = {}
    counts: list[int] = []
    scores: dict[str, ScoredPairs] = {}
    further: dict[str, ScoredPairs] = {}
    for name, method in methods.items():
        key = method.inferer, tuple(sorted(method.settings.items()))
        try:
            if key not in fitted:
                offered = {"train": run.config, **job.offered()}
                shared = job.shared(method.inferer, name, data.graph.N)
                fitted[key] = _make_inferer(method, name, model, data.graph, offered, shared)
                counts.append(job.fit(fitted[key], batches, masked_mse, run, samples, progress))
            scores[name] = fitted[key].scored(**method.options)
            further |= fitted[key].beside()
        except ProcessError:
            raise
        except RuntimeError as error:
            # Too few layers or samples: the run does not allow inference, nothing is broken.
            raise RunError(f"edges cannot be inferred from {run.path}: {error}") from error
    return scores | {name: scored for name, scored in further.items() if name not in scores}, counts[0]


def _batches(
    run: Run, data: PerturbationData | StreamedData, samples: str, methods: Mapping[str, Method]
) -> Iterable[tuple[Tensor, Tensor]]:
    """The samples in batches; streamed data are read as the batches are asked for."""
    import numpy as np
    import torch

    from gsnn.data import StreamedData

    if isinstance(data, StreamedData):
        whole = [name for name, method in methods.items() if method.inferer.needs_all]
        if whole:
            raise RunError(
                f"method '{whole[0]}' needs all samples in memory, and those of {run.path} are streamed from their "
                "file; use another one, or train a run on a part of the samples, with --no-stream"
            )
        return data.batches(run.standardiser(), BATCH, split=None if samples == "all" else run.split())
    rows = np.arange(len(data)) if samples == "all" else run.split().train
    x = torch.as_tensor(data.x[rows], dtype=torch.float32)
    y = torch.as_tensor(run.standardiser().transform(data.y[rows]), dtype=torch.float32)
    return list(zip(x.split(BATCH), y.split(BATCH), strict=True))


def rank_together(
    scores: Mapping[str, ScoredPairs],
    selection: Selection,
    joined: Processes,
    *,
    forbidden: IntArray,
    required: IntArray,
    known: bool = False,
) -> Ranking | None:
    """As :func:`rank_candidates`, from the parts of several processes; None in all but the first."""
    from gsnn.edges.parallel.ranking import merge_candidates

    if joined.size == 1:
        return rank_candidates(scores, selection, forbidden=forbidden, required=required, known=known)
    merged = merge_candidates(scores, selection, joined, forbidden=forbidden, required=required, known=known)
    if merged is None:
        return None
    for name, place in merged.places.items():
        merged.table[f"rank_{name}"] = _whole(place)
        merged.table[f"score_{name}"] = merged.scores[name]
    first = next(iter(scores.values()))
    return Ranking(merged.table, merged.rank, first.score_name, list(merged.places))


def rank_candidates(
    scores: Mapping[str, ScoredPairs],
    selection: Selection,
    *,
    forbidden: IntArray,
    required: IntArray,
    known: bool = False,
) -> Ranking:
    """The candidates to keep by the first method, with rank and score of each further one beside them.

    Args:
        scores: From :func:`score_pairs`.
        selection: What to keep.
        forbidden: Pairs that are no candidates.
        required: Candidates to keep whatever ``selection`` says.
        known: Add the known edges that match the patterns.
    """
    import numpy as np

    from gsnn.edges.candidates import candidate_rows, keep_rows, matching, rank_rows

    (_, first), *further = scores.items()
    simple = selection.top is not None and selection.per_target is None and not (selection.sources or selection.targets)
    if simple and not known and not len(required):
        # The best few need no sorting of all pairs, which takes most of the time and memory on a large network.
        rows = first.top_rows((selection.top or 0) + len(forbidden))
        rows = rows[~np.isin(rows, forbidden)][: selection.top]
        rank = np.arange(1, len(rows) + 1)
    else:
        order = candidate_rows(first, forbidden)
        rows = keep_rows(first, order, selection, required)
        rank = rank_rows(order, first.score.size)[rows]
        if known:
            pairs = first.all_rows()
            pairs = pairs[np.isin(pairs, first.prior.rows(*first.prior.pairs))]
            pairs = pairs[matching(first, pairs, selection)]
            rows, rank = np.concatenate([rows, pairs]), np.concatenate([rank, np.zeros(len(pairs), dtype=np.int64)])
    table = first.table(rows)
    for name, scored in further:
        place = rank_rows(candidate_rows(scored, forbidden), scored.score.size)[rows]
        score = scored.score.ravel()[rows]
        table[f"rank_{name}"] = _whole(np.where(np.isnan(score), 0, place))
        table[f"score_{name}"] = score
    return Ranking(table, rank, first.score_name, [name for name, _ in further])


def _make_inferer(
    method: Method, name: str, model: GSNN, graph: Graph, offered: Mapping[str, Any], shared: Mapping[str, Any]
) -> EdgeInferer:
    """An inferer; a graph that is too small for it is an error that the user can mend."""
    try:
        return method.make(model, graph, offered, **shared)
    except GsnnError:
        raise
    except ValueError as error:
        raise DataError(f"the method '{name}' cannot be used here: {error}") from error


def _whole(values: IntArray) -> Any:  # noqa: ANN401 - an array of pandas
    """Whole numbers, undefined where 0."""
    import pandas as pd

    return pd.arrays.IntegerArray(values.astype("int64"), values == 0)
