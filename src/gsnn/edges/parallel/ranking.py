"""The best candidates of all processes, each of which has scored the edges into its own targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.base.processes import Processes
from gsnn.edges import EdgeInferer, ScoredPairs
from gsnn.edges.candidates import Selection, matching, selected
from gsnn.edges.significance import adjusted
from gsnn.edges.stats import descending_key

Number = TypeVar("Number", np.int64, np.float64)

_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Merged:
    """The merged candidates, in process 0.

    Attributes:
        table: A row per pair, best first; known edges after the candidates.
        rank: The rank of each among all candidates, from 1; 0 for a known edge.
        places: For every further method the same, 0 also where its score is undefined.
        scores: For every further method the score of each.
    """

    table: pd.DataFrame
    rank: IntArray
    places: Mapping[str, IntArray]
    scores: Mapping[str, FloatArray]


class _Block:
    """The candidates of this process by one method, best first."""

    def __init__(self, scored: ScoredPairs, forbidden: IntArray) -> None:
        n = scored.prior.N
        self.scored = scored
        order = scored.all_rows()
        key = self.keys(order)
        known = scored.prior.pairs[0] * n + scored.prior.pairs[1]
        # All pairs that are tested, forbidden ones included.
        self.tested = order[~np.isin(key, known)]
        keep = ~np.isin(key, np.concatenate([known, forbidden]))
        self.order, self.key = order[keep], key[keep]
        self.score = self.scores(self.order)
        self._sorted = descending_key(self.score)
        self._run = np.cumsum(np.concatenate([[False], self._sorted[1:] != self._sorted[:-1]])[: len(self.order)])
        self._within = self._run * n * n + self.key

    def keys(self, rows: IntArray) -> IntArray:
        """The pairs i * N + j of rows."""
        source, target = self.scored.places(rows)
        return source * self.scored.prior.N + target

    def rows(self, keys: IntArray) -> tuple[IntArray, BoolArray]:
        """Rows of those pairs whose target is of this process, and which pairs these are."""
        source, target = np.divmod(keys, self.scored.prior.N)
        n_targets = self.scored.score.shape[1]
        here = (target >= self.scored.first) & (target < self.scored.first + n_targets)
        return source[here] * n_targets + target[here] - self.scored.first, here

    def scores(self, rows: IntArray) -> FloatArray:
        """Scores of rows, float64."""
        return self.scored.score.ravel()[rows].astype(np.float64)

    def before(self, score: FloatArray, keys: IntArray) -> IntArray:
        """How many candidates of this process come before pairs with these scores, of any process."""
        key = descending_key(score)
        place = np.searchsorted(self._sorted, key, side="left")
        tied = place < np.searchsorted(self._sorted, key, side="right")
        n = self.scored.prior.N
        place[tied] = np.searchsorted(self._within, self._run[place[tied]] * n * n + keys[tied])
        return place


def merge_candidates(
    scores: Mapping[str, ScoredPairs],
    selection: Selection,
    joined: Processes,
    *,
    forbidden: IntArray = _NOTHING,
    required: IntArray = _NOTHING,
    known: bool = False,
) -> Merged | None:
    """The candidates to keep by the first method, from the parts of all processes; none holds the scores of all pairs.

    Args:
        scores: For each method the pairs into the targets of this process.
        selection: What to keep.
        joined: The processes.
        forbidden: Pairs i * N + j that are no candidates.
        required: Candidates to keep in any case.
        known: Add the known edges that match the patterns.

    Returns:
        In process 0 the same as from the scores of all pairs; None in the others.
    """
    blocks = {name: _Block(scored, forbidden) for name, scored in scores.items()}
    first = next(iter(blocks.values()))
    kept = selected(first.scored, first.order, selection)
    asked = kept | np.isin(first.key, required)
    rows = first.order[asked]
    edges = _known_rows(first, selection) if known else _NOTHING
    own = (first.keys(rows), first.scores(rows), kept[asked], first.keys(edges), first.scores(edges))
    parts = joined.gather(own)
    chosen: tuple[IntArray, IntArray] | None = None
    if joined.first:
        key, score, counts, edge, edge_score = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((key, descending_key(score)))
        if selection.top is not None:
            within = counts[order] & (np.cumsum(counts[order]) <= selection.top)
            order = order[within | np.isin(key[order], required)]
        edge = edge[np.lexsort((edge, descending_key(edge_score)))]
        chosen = key[order], edge
    key, edge = joined.broadcast(chosen)
    every = np.concatenate([key, edge])
    places, values = [], []
    for block in blocks.values():
        values.append(_scores_of(block, every, joined))
        places.append(joined_sum(block.before(values[-1], every), joined) + 1)
        places[-1][len(key) :] = 0
    table = _table(first, every, joined)
    if table is None:
        return None
    ranks = [np.where(np.isnan(value), 0, place) for value, place in zip(values, places, strict=True)]
    further = list(blocks)[1:]
    return Merged(
        table, places[0], dict(zip(further, ranks[1:], strict=True)), dict(zip(further, values[1:], strict=True))
    )


def top_edges(
    inferer: EdgeInferer,
    joined: Processes,
    k: int | None = None,
    per_target: int | None = None,
    sources: str | Sequence[str] | None = None,
    targets: str | Sequence[str] | None = None,
    **options: object,
) -> pd.DataFrame | None:
    """As ``inferer.top_edges``, of all processes together, for what :func:`gsnn.edges.parallel.fit` fitted.

    Returns:
        In process 0 one row per candidate, best first, none with an undefined score, q over the candidates of all
        processes; None in the others.

    Raises:
        DataError: If ``k`` or ``per_target`` is below 1, or a name matches no node.
        ProcessError: If another process dies.
    """
    scored = inferer.scored(**options)
    limit = k if k is not None or per_target is not None else scored.prior.N**2
    patterns = [[names] if isinstance(names, str) else list(names or ()) for names in (sources, targets)]
    merged = merge_candidates({"": scored}, Selection(limit, per_target, *patterns), joined)
    return None if merged is None else merged.table


def joined_sum(values: npt.NDArray[Number], joined: Processes) -> npt.NDArray[Number]:
    """The sum of an array over all processes."""
    summed: npt.NDArray[Number] = joined.all_reduce(torch.from_numpy(values.copy()), "collecting results").numpy()
    return summed


def _known_rows(block: _Block, selection: Selection) -> IntArray:
    """Known edges into targets of this process that match the patterns; none from a node to itself."""
    source, target = block.scored.prior.pairs
    rows, _ = block.rows((source * block.scored.prior.N + target)[source != target])
    return rows[matching(block.scored, rows, selection)]


def _scores_of(block: _Block, keys: IntArray, joined: Processes) -> FloatArray:
    """Scores of pairs of any process."""
    score = np.zeros(len(keys))
    rows, here = block.rows(keys)
    score[here] = block.scores(rows)
    return joined_sum(score, joined)


def _table(block: _Block, keys: IntArray, joined: Processes) -> pd.DataFrame | None:
    """The table of pairs in process 0, from the rows of all."""
    rows, here = block.rows(keys)
    # q is over the candidates of all processes.
    tested = "q_value" in block.scored.columns
    columns = {name: column for name, column in block.scored.columns.items() if name != "q_value"}
    own = replace(block.scored, columns=columns).table(rows)
    parts = joined.gather((np.flatnonzero(here), own))
    table: pd.DataFrame | None = None
    if joined.first:
        place = np.concatenate([at for at, _ in parts])
        table = pd.concat([part for _, part in parts if len(part)] or [own], ignore_index=True)
        table = table.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)
    if tested:
        p = None
        if table is not None:
            p = np.where(table["has_edge"] | (table["src_idx"] == table["dst_idx"]), np.nan, table["p_value"])
        q = _q_values(block, p, joined)
        if table is not None:
            table["q_value"] = q
    return table


def _q_values(block: _Block, p: FloatArray | None, joined: Processes) -> FloatArray | None:
    """Benjamini-Hochberg q-values, over the candidates of all processes, of some p-values in process 0.

    The q-value of the member of rank r is the least p * size / rank from rank r on, and beyond a cut this ratio is not
    below the cut: so only p-values up to a cut that no q-value exceeds are sent.
    """
    some = joined.broadcast(p is not None and bool(np.isfinite(p).any()))
    if not some:
        return None if p is None else np.full(len(p), np.nan)
    all_p = np.asarray(block.scored.columns["p_value"](block.tested), dtype=np.float64)
    all_p = np.sort(all_p[~np.isnan(all_p)])
    size = int(joined_sum(np.array([len(all_p)]), joined)[0])
    cut = float(np.nanmax(p)) if p is not None else 0.0
    q = p
    while True:
        cut = joined.broadcast(cut)
        if cut < 0:
            return q
        parts = joined.gather(all_p[: np.searchsorted(all_p, cut, side="right")])
        if p is not None and q is not None:
            known = ~np.isnan(p)
            q = p.copy()
            q[known] = adjusted(np.sort(np.concatenate(parts)), p[known], size)
            most = float(np.nanmax(q))
            cut = -1.0 if most <= cut or cut >= 1 else min(1.0, most * (1 + 1e-12))
