"""A table of edges against a truth: every metric, per role, beside baselines that know the prior graph alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import DataError, closest
from gsnn.base.files import plain
from gsnn.base.verdict import Verdict
from gsnn.discovery.baselines import prior_scores, residual_correlation
from gsnn.discovery.verdicts import BEST, Recovery, check_verdict
from gsnn.edges.aliases import AliasBy, alias_groups
from gsnn.edges.pairs import PriorEdges
from gsnn.graph import Graph
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import FUNCTION_EDGES
from gsnn.metrics import evaluate_edges
from gsnn.metrics.auc import auc_difference, auc_interval, place
from gsnn.metrics.edges import never_joined, squared, table_matrix, table_nodes
from gsnn.metrics.groups import near_hits

ALL = "all"
_ENDS = ("src_func", "dst_func")
_SCORES = ("score", "corr")
# Baselines that know the data.
_OF_DATA = ("residual correlation", "response correlation")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What :func:`evaluate_table` found.

    Attributes:
        metrics: Columns kind (of the edges), method, by (table or baseline), role (``all`` or a role), metric, value,
            chance (the value of a score that knows nothing; NaN for metrics without one).
        counts: ``n_truth`` true edges, of which ``n_known`` are in the prior graph, ``n_self`` are self-edges,
            ``n_outside`` name a node that no candidate has and ``n_positives`` are left to find; ``n_unscored`` of
            these have no score in the table.
        notes: What a reader must know to read the figures.
        verdict: The judgement of the table from the figures over all true edges; None without baselines.
    """

    metrics: pd.DataFrame
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)
    verdict: Verdict | None = None

    def wide(self, role: str = ALL) -> pd.DataFrame:
        """The metrics of one role as a table: a row per method, a column per metric."""
        chosen = self.metrics[self.metrics["role"] == role]
        order = list(dict.fromkeys(chosen["metric"]))
        table = chosen.pivot(index="method", columns="metric", values="value")
        return table.loc[list(dict.fromkeys(chosen["method"])), order].rename_axis(columns=None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: counts, notes, the metrics as records, and the verdict; NaN becomes None."""
        content = {
            "counts": self.counts,
            "notes": self.notes,
            "metrics": self.metrics.to_dict("records"),
            "verdict": None if self.verdict is None else self.verdict.to_dict(),
        }
        return dict(plain(content))


def evaluate_table(
    table: pd.DataFrame,
    truth: Iterable[Edge],
    known: Iterable[Edge] | None = None,
    roles: Mapping[Edge, str] | None = None,
    *,
    graph: Graph | None = None,
    score_col: str | None = None,
    known_true: Iterable[Edge] = (),
    within: str = "target",
    filtered: bool = True,
    ties: str = "realistic",
    k: Sequence[int] | None = None,
    top_k: Sequence[int] = (1, 3, 5),
    alias_by: AliasBy = "reach",
    max_hops: int | None = None,
    kind: str = FUNCTION_EDGES,
    baselines: bool = True,
    x: npt.ArrayLike | None = None,
    residual: npt.ArrayLike | None = None,
    y: npt.ArrayLike | None = None,
    seed: int | np.random.Generator = 0,
) -> Evaluation:
    """Every metric of :func:`gsnn.metrics.evaluate_edges` for a table of scored edges, and for the baselines.

    Candidates are all pairs that an edge of the kind may join and that are neither known nor self-edges. A candidate
    that the table lacks, or that has no score, ranks below every number. Edges of the truth that are no candidates
    (known already, self-edges, nodes that the graph does not have) are counted and left out.

    Args:
        table: Scored edges: columns src_func and dst_func, or source and target; and a score.
        truth: The true edges; those that are known may be among them.
        known: Known edges; None: those of ``graph``, else those that the table marks in has_edge or known.
        roles: A label for true edges, for the figures by role; a true edge without one has the role ``other``.
        graph: The prior graph, for its names, its known edges and the alias groups.
        score_col: Column of the scores; None: ``score`` or ``corr``, the first that the table has.
        known_true: True edges that count neither as positives nor as negatives.
        within: Whether MRR and top@k rank within the ``target`` or the ``source``.
        filtered: Whether other true edges are left out of such a ranking.
        ties: Tie rule of the ranks.
        k: Places for precision and recall; None: as many as there are edges to find.
        top_k: Places for top@k.
        alias_by: Alias groups by ``reach`` or ``hops``; groups need ``graph``.
        max_hops: Cap of the distances for ``hops``.
        kind: The kind of the edges, one of :data:`gsnn.graph.KINDS`; rows with another kind in the column ``kind`` are
            left out. Edges from inputs and to outputs need ``graph``.
        baselines: Whether to add the baselines.
        x: (M, I) inputs of the samples, for the baselines that know the data; with ``graph``.
        residual: (M, O) residuals of a model, for one of these baselines.
        y: (M, O) responses, for the other one.
        seed: Seed or generator of the random baseline.

    Raises:
        DataError: If the table lacks a column, or nothing is left to find.
        ValueError: If an option is wrong.

    Example:
        >>> table = pd.DataFrame({"source": ["a", "b", "a"], "target": ["b", "c", "c"], "score": [0.1, 0.9, 0.5]})
        >>> found = evaluate_table(table, truth=[("b", "c")], baselines=False)
        >>> found.wide().loc["table", ["roc_auc", "average_precision"]].tolist()
        [1.0, 1.0]
    """
    table, score_col = edge_columns(table, score_col)
    if "kind" in table.columns:
        table = table[table["kind"] == kind]
    between = kind == FUNCTION_EDGES
    if not between and graph is None:
        raise DataError(f"{kind} edges are evaluated with the graph alone: pass a run folder, or graph=")
    prior = None if graph is None else PriorEdges(graph, kind)
    edges = _known_edges(table, known, prior)
    if prior is None:
        names = list(dict.fromkeys([*table_nodes(table), *(end for edge in edges for end in edge)]))
    else:
        names = prior.names if between else [*prior.sources, *prior.targets]
    number = {name: i for i, name in enumerate(names)}
    unknown = {end for edge in edges for end in edge if end not in number}
    if unknown:
        raise DataError(f"known edges name nodes that the graph does not have: {sorted(unknown)[:5]}")
    outside = [name for name in table_nodes(table) if name not in number]
    if outside:
        near = closest(outside[0], names)
        raise DataError(
            f"the table names {len(outside)} nodes that the graph does not have: {outside[:5]}"
            + (f" (closest to {outside[0]!r}: {', '.join(near)})" if near else "")
        )
    true = list(dict.fromkeys((str(s), str(t)) for s, t in truth))
    if prior is not None and not between:
        sources, targets = set(prior.sources), set(prior.targets)
        true = [(s, t) for s, t in true if s in sources and t in targets]
    positives, counts = _positives(true, set(edges), number)
    to_find = set(positives)
    ignored = [e for e in known_true if e[0] in number and e[1] in number and e[0] != e[1] and e not in to_find]

    def numbered(pairs: Sequence[Edge]) -> IntArray:
        return np.array([[number[s], number[t]] for s, t in pairs], dtype=np.int64).reshape(-1, 2).T

    scores = table_matrix(table, score_col, names)
    index, positive, other_true = numbered(edges), numbered(positives), numbered(ignored)
    counts["n_unscored"] = int(np.isnan(scores[positive[0], positive[1]]).sum())
    notes: list[str] = []
    if counts["n_unscored"]:
        notes.append(f"{counts['n_unscored']} of {len(positives)} true edges have no score in the table and rank last")
    if not edges:
        notes.append("no known edges were given: every pair of functions is a candidate, and topology is no baseline")

    methods = {"table": ("table", scores)}
    if baselines:
        if between:
            flat = sparse.csr_matrix((np.ones(index.shape[1]), (index[0], index[1])), shape=(len(names), len(names)))
            base = prior_scores(graph if graph is not None and known is None else flat, seed=seed)
            if graph is not None and x is not None and residual is not None:
                base["residual correlation"] = residual_correlation(graph, x, residual)
        else:
            base = prior_scores(graph, seed=seed, x=x, residual=residual, y=y, kind=kind)
            base = {name: squared(matrix) for name, matrix in base.items()}
        if not edges:
            base = {"random": base["random"]}
        # The ranking without the data, from a method that has one.
        if "rank_structure" in table and table["rank_structure"].notna().any():
            base["structure"] = -table_matrix(table, "rank_structure", names)
        methods |= {name: ("baseline", matrix) for name, matrix in base.items()}

    groups = None
    if graph is not None:
        aliases = alias_groups(graph, alias_by, max_hops, kind=kind)
        notes += aliases.warnings
        groups = aliases.matrix() if between else squared(aliases.matrix(), -1)
    else:
        notes.append("no graph was given, so there are no alias groups (pass the run, or graph=)")
    labels = None if roles is None else {(number[s], number[t]): roles.get((s, t), "other") for s, t in positives}
    rows: list[tuple[Any, ...]] = []
    closed = index
    if prior is not None and not between:
        closed = np.concatenate([index, never_joined(len(prior.sources), len(prior.targets))], axis=1)
    for method, (by, matrix) in methods.items():
        measured = evaluate_edges(
            matrix,
            positive,
            closed,
            known_true=other_true,
            roles=labels,
            within=within,  # type: ignore[arg-type]  # checked there
            filtered=filtered,
            ties=ties,  # type: ignore[arg-type]
            k=k,
            top_k=top_k,
            groups=groups,
        )
        for role, part in {ALL: measured, **measured.by_role}.items():
            for metric, value in part.to_dict().items():
                rows.append((kind, method, by, role, metric, float(value), part.chance.get(metric, float("nan"))))
        if groups is not None and between:
            rows += [(kind, method, by, ALL, *row) for row in _near_rows(matrix, positive, index, k)]
    columns = ["kind", "method", "by", "role", "metric", "value", "chance"]
    verdict = None
    if baselines:
        negatives = ~np.eye(len(names), dtype=bool)
        for pairs in (closed, positive, other_true):
            negatives[pairs[0], pairs[1]] = False
        topology = {name: m for name, (_, m) in methods.items() if name not in ("table", "random", *_OF_DATA)}
        verdict = _verdict(scores, topology, positives, positive, negatives)
    return Evaluation(pd.DataFrame(rows, columns=columns), counts, notes, verdict)


def _verdict(
    scores: FloatArray,
    topology: Mapping[str, FloatArray],
    edges: Sequence[Edge],
    positives: IntArray,
    negatives: npt.NDArray[np.bool_],
) -> Verdict:
    """Whether the scores put true edges first, and do so better than the best score that knows the graph alone."""
    own = place(scores, positives, negatives)
    auc, low, high = auc_interval(edges, own.share_below, own.negative_variance)
    placed = {name: place(matrix, positives, negatives) for name, matrix in topology.items()}
    best = max(placed, key=lambda name: placed[name].auc, default="")
    difference = (np.nan,) * 3
    if best:
        variance = own.negative_variance + placed[best].negative_variance
        difference = auc_difference(edges, own.share_below, placed[best].share_below, variance)
    count = float(np.count_nonzero(own.share_below >= 1 - BEST))
    judged = check_verdict(Recovery(len(edges), auc, low, high, count, best, *difference), "true edge")
    advice = {
        "good": "the best candidates are worth an experiment; those that the truth lacks are no errors for that alone",
        "bad": "another method (gsnn infer --method), other perturbations, or another network; do not build on this "
        "ranking",
    }
    return replace(judged, next=advice.get(judged.tone, ""))


def _near_rows(
    scores: FloatArray, positives: IntArray, known: IntArray, k: Sequence[int] | None
) -> list[tuple[str, float, float]]:
    """Share of the best candidates within one hop of an edge to find, as (metric, value, chance)."""
    n = len(scores)
    candidate = ~np.eye(n, dtype=bool)
    candidate[known[0], known[1]] = False
    source, target = np.nonzero(candidate)
    numbers: Sequence[int | None] = (None,) if k is None else k
    hits = [near_hits(scores[candidate], source, target, positives, known, n, k=places) for places in numbers]
    # With fewer candidates than places all of them are taken, so several numbers of places may become one.
    rows = {hit.k: (f"near_precision@{hit.k}", hit.near / hit.k, hit.chance_near / hit.k) for hit in hits}
    return list(rows.values())


def edge_columns(table: pd.DataFrame, score_col: str | None = None) -> tuple[pd.DataFrame, str]:
    """A table of edges with the columns src_func and dst_func, and the name of its column of scores.

    Args:
        table: With src_func and dst_func, or source and target.
        score_col: Column of the scores; None: ``score`` or ``corr``.

    Returns:
        The table, its columns renamed where needed, and the column of scores.

    Raises:
        DataError: If a column is missing.
    """
    if not set(_ENDS) <= set(table.columns):
        if not {"source", "target"} <= set(table.columns):
            raise DataError(
                f"a table of edges needs the columns source and target (or src_func and dst_func), got "
                f"{list(map(str, table.columns))[:8]}"
            )
        table = table.rename(columns={"source": "src_func", "target": "dst_func"})
    if score_col is None:
        score_col = next((name for name in _SCORES if name in table.columns), None)
        if score_col is None:
            raise DataError(f"the table has no column 'score' or 'corr'; it has {list(map(str, table.columns))[:8]}")
    if score_col not in table.columns:
        near = closest(score_col, map(str, table.columns), 1)
        raise DataError(f"the table has no column {score_col!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if not pd.api.types.is_numeric_dtype(table[score_col]):
        raise DataError(f"the column {score_col!r} must hold numbers, got {table[score_col].dtype}")
    return table, score_col


def _known_edges(table: pd.DataFrame, known: Iterable[Edge] | None, prior: PriorEdges | None) -> list[Edge]:
    """Known edges, without self-edges, each once."""
    if known is not None:
        pairs = [(str(s), str(t)) for s, t in known]
    elif prior is not None:
        pairs = prior.edges
    else:
        column = next((name for name in ("has_edge", "known") if name in table.columns), None)
        if column is None:
            return []
        marked = table[table[column].astype(bool).to_numpy()]
        pairs = [(str(s), str(t)) for s, t in zip(marked["src_func"], marked["dst_func"], strict=True)]
    return list(dict.fromkeys(edge for edge in pairs if edge[0] != edge[1]))


def _positives(truth: list[Edge], known: set[Edge], nodes: Mapping[str, int]) -> tuple[list[Edge], dict[str, int]]:
    """The true edges that are candidates, and how many of the others are of which sort."""
    inside = [(s, t) for s, t in truth if s in nodes and t in nodes]
    positives = [(s, t) for s, t in inside if s != t and (s, t) not in known]
    counts = {
        "n_truth": len(truth),
        "n_known": sum(edge in known for edge in inside),
        "n_self": sum(s == t for s, t in inside),
        "n_outside": len(truth) - len(inside),
        "n_positives": len(positives),
    }
    if not positives:
        missing = next((end for edge in truth for end in edge if end not in nodes), None)
        near = closest(missing, nodes) if missing is not None else []
        raise DataError(
            f"there is no edge to find: of {len(truth)} true edges {counts['n_known']} are known already, "
            f"{counts['n_self']} are self-edges and {counts['n_outside']} name a node that is not there"
            + (f" ({missing!r}{'; closest: ' + ', '.join(near) if near else ''})" if missing is not None else "")
        )
    return positives, counts
