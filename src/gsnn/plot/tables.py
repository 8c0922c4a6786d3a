"""Tables of scored edges, alone, against the truth and against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gsnn.base.arrays import BoolArray, FloatArray
from gsnn.base.errors import check_option
from gsnn.graph.checks import Edge
from gsnn.metrics import average_precision, roc_auc
from gsnn.metrics.scores import as_scores
from gsnn.plot.axes import CANDIDATE, GUIDE, KNOWN, PROPOSED, axes
from gsnn.plot.check_tables import agreement, agreement_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_BINS = 60
_COLUMNS = {
    "source": ("source", "src_func"),
    "target": ("target", "dst_func"),
    "score": ("score", "corr"),
    "known": ("known", "has_edge"),
}

Tables = pd.DataFrame | Mapping[str, pd.DataFrame]


def roc(
    tables: Tables,
    positives: Iterable[Edge],
    *,
    known_true: Iterable[Edge] = (),
    score_col: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """ROC curves of rankings of candidates against true edges, with the area under each in the legend.

    Args:
        tables: A table of every candidate (of ``evaluate``, ``infer_edges`` or ``edges.csv``), or several by name.
        positives: The true edges to find, as (source, target) names.
        known_true: Other true edges, which count neither as positives nor as negatives.
        score_col: Column of the scores; None for ``score`` or ``corr``.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes, with a line per table and the diagonal of chance.

    Raises:
        ValueError: If a column is missing, or a positive is not a candidate of a table.

    Example:
        >>> from matplotlib.figure import Figure
        >>> table = pd.DataFrame({"source": list("aab"), "target": list("bcc"), "score": [0.9, 0.1, 0.5]})
        >>> ax = roc(table, [("a", "b")], ax=Figure().subplots())
        >>> ax.lines[0].get_xydata().tolist()
        [[0.0, 0.0], [0.0, 1.0], [0.5, 1.0], [1.0, 1.0]]
    """
    from sklearn.metrics import roc_curve

    labelled = _labelled(tables, positives, known_true, score_col)
    ax = axes(ax)
    for name, (scores, labels) in labelled.items():
        x, y, _ = roc_curve(labels, scores, drop_intermediate=False)
        ax.plot(x, y, label=f"{name} AUC {roc_auc(scores, labels):.3f}".strip())
    ax.plot([0, 1], [0, 1], color=GUIDE, linestyle="--", zorder=0, label="chance")
    ax.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.legend(loc="lower right", fontsize="small")
    return ax


def precision_recall(
    tables: Tables,
    positives: Iterable[Edge],
    *,
    known_true: Iterable[Edge] = (),
    score_col: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Precision-recall curves of rankings of candidates, with the average precision of each in the legend.

    Args:
        tables: A table of every candidate, or several by name.
        positives: The true edges to find, as (source, target) names.
        known_true: Other true edges, which count neither as positives nor as negatives.
        score_col: Column of the scores; None for ``score`` or ``corr``.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes, with a stepped line per table and, for each prevalence of positives, a line of chance.

    Raises:
        ValueError: If a column is missing, or a positive is not a candidate of a table.
    """
    from sklearn.metrics import precision_recall_curve

    labelled = _labelled(tables, positives, known_true, score_col)
    ax = axes(ax)
    for name, (scores, labels) in labelled.items():
        y, x, _ = precision_recall_curve(labels, scores)
        label = f"{name} AP {average_precision(scores, labels):.3f}".strip()
        ax.plot(x[::-1], y[::-1], label=label, drawstyle="steps-pre")
    for prevalence in sorted({float(labels.mean()) for _, labels in labelled.values()}):
        ax.plot([0, 1], [prevalence] * 2, color=GUIDE, linestyle="--", zorder=0, label=f"chance {prevalence:.2g}")
    ax.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.legend(loc="upper right", fontsize="small")
    return ax


def _labelled(
    tables: Tables, positives: Iterable[Edge], known_true: Iterable[Edge], score_col: str | None
) -> dict[str, tuple[FloatArray, BoolArray]]:
    """By table the scores of its candidates, undefined ones lowest, and which are positives; others are left out."""
    true, other_true = set(map(tuple, positives)), set(map(tuple, known_true))
    labelled = {}
    for name, table in ({"": tables} if isinstance(tables, pd.DataFrame) else tables).items():
        edges = _candidates(table, score_col)
        pairs = list(zip(edges["source"], edges["target"], strict=True))
        absent = sorted(true - set(pairs))
        if not true or absent:
            what = f"{len(absent)} of them are not: {absent[:5]}" if absent else "there are none"
            raise ValueError(f"positives must be candidates of the table, which known edges are not; {what}")
        labels = np.array([pair in true for pair in pairs], dtype=bool)
        kept = labels | [pair not in other_true for pair in pairs]
        # scikit-learn takes no infinite scores.
        scores = np.maximum(as_scores(edges["score"].to_numpy()[kept]), np.finfo(np.float64).min)
        labelled[name] = scores, labels[kept]
    return labelled


def score_distributions(
    table: pd.DataFrame,
    masked: Iterable[Edge] = (),
    *,
    score_col: str | None = None,
    bins: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Distributions of the scores of known, masked and candidate edges, each with area 1.

    Args:
        table: Every edge with its score and whether it is known, as ``evaluate`` returns it.
        masked: Edges that were hidden from the model, as (source, target) names; they are no candidates then.
        score_col: Column of the scores; None for ``score`` or ``corr``.
        bins: Bins over the range of all scores; None chooses by numpy's rule ``"auto"``, at most 60.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes, with one outline per kind that has scores; how many are undefined stands in the legend.

    Raises:
        ValueError: If a column is missing, or no score is defined.
    """
    edges = _scored_edges(table, score_col)
    hidden_pairs = set(map(tuple, masked))
    pairs = zip(edges["source"], edges["target"], strict=True)
    hidden = np.fromiter((pair in hidden_pairs for pair in pairs), dtype=bool, count=len(edges))
    known = edges["known"].to_numpy() & ~hidden
    score = edges["score"].to_numpy()
    finite = np.isfinite(score)
    if not finite.any():
        raise ValueError("the table has no defined score to show")
    if bins is None:
        bins = min(len(np.histogram_bin_edges(score[finite], bins="auto")) - 1, _MAX_BINS)
    limits = np.histogram_bin_edges(score[finite], bins=bins)
    ax = axes(ax)
    kinds = (("candidates", ~known & ~hidden, CANDIDATE), ("known", known, KNOWN), ("masked", hidden, PROPOSED))
    for name, member, color in kinds:
        if not (member & finite).any():
            continue
        heights = np.histogram(score[member & finite], limits, density=True)[0]
        undefined = int((member & ~finite).sum())
        label = f"{name} ({int(member.sum()):,}" + (f", {undefined:,} undefined)" if undefined else ")")
        ax.stairs(heights, limits, label=label, color=color, linewidth=1.8, fill=False)
    ax.set(xlabel="score", ylabel="density")
    ax.legend(fontsize="small")
    return ax


def method_agreement(
    tables: Mapping[str, pd.DataFrame],
    *,
    measure: str = "spearman",
    top: int = 100,
    score_col: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A heat map of how far methods agree on the candidates, two by two.

    Args:
        tables: A table of edges for each method.
        measure: ``"spearman"``, the correlation of the ranks of the candidates that both methods score; or
            ``"shared"``, of the ``top`` best of each the share that is the same.
        top: Places compared by ``"shared"``.
        score_col: Column of the scores; None for ``score`` or ``corr``.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes; a pair for which the measure is undefined is left white.

    Raises:
        ValueError: If there are fewer than two methods, or the measure is unknown.
    """
    check_option("measure", measure, ["spearman", "shared"])
    if len(tables) < 2:
        raise ValueError(f"tables must hold at least two methods to compare, got {list(tables)}")
    ranks = pd.DataFrame({name: _ranks(name, table, score_col) for name, table in tables.items()})
    pairs = agreement(ranks, "candidates", top)
    names, values = agreement_matrix(
        pairs, pairs["spearman"] if measure == "spearman" else pairs["shared"] / pairs["top"]
    )
    ax = axes(ax)
    low, cmap = (-1, "RdBu_r") if measure == "spearman" else (0, "Blues")
    ax.imshow(values, vmin=low, vmax=1, cmap=cmap)
    for (i, j), value in np.ndenumerate(values):
        dark = abs(value) > 0.6
        text = "–" if np.isnan(value) else f"{value:.2f}"
        ax.text(j, i, text, ha="center", va="center", color="white" if dark else "black", fontsize="small")
    ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set_title("rank correlation of candidates" if measure == "spearman" else f"share of the {top} best in common")
    return ax


def _scored_edges(table: pd.DataFrame, score_col: str | None) -> pd.DataFrame:
    """Source, target, score and known of a table of edges, whatever it calls them, without self-edges."""
    names = _COLUMNS | ({} if score_col is None else {"score": (score_col,)})
    edges = {}
    for name, options in names.items():
        column = next((option for option in options if option in table.columns), None)
        if column is None and name != "known":
            raise ValueError(
                f"a table of edges needs a column {' or '.join(map(repr, options))}; this one has {list(table.columns)}"
            )
        edges[name] = table[column].to_numpy() if column is not None else np.zeros(len(table), bool)
    kinds = {"source": object, "target": object, "score": np.float64, "known": bool}
    scored = pd.DataFrame({name: np.asarray(edges[name], dtype=kind) for name, kind in kinds.items()})
    return scored[scored["source"] != scored["target"]].reset_index(drop=True)


def _candidates(table: pd.DataFrame, score_col: str | None) -> pd.DataFrame:
    edges = _scored_edges(table, score_col)
    return edges[~edges["known"]]


def _ranks(name: str, table: pd.DataFrame, score_col: str | None) -> pd.Series:
    """Rank of each candidate by its ends, 1 the best, ties averaged, NaN where it has no score."""
    edges = _candidates(table, score_col).set_index(["source", "target"])
    if edges.index.has_duplicates:
        raise ValueError(f"the table of {name!r} lists an edge twice")
    return edges["score"].rank(ascending=False)
