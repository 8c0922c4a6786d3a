"""The verdict on each known edge with its reason, from the figures of all folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats
from scipy.sparse import csgraph

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.discovery.verdicts import ALPHA
from gsnn.graph import EDGE_TYPES, Graph

ALIKE = 0.99  # if two signals have a higher correlation, neither edge can be judged by its own gain
_ORDINARY = 0.5  # quantile of the gains of supported edges; edges with less gain are not needed
_LARGEST_SMALL = 0.05  # but never more than this share of the loss
_POWER = 0.5  # with less power the test would more likely miss an edge of an ordinary gain


@dataclass(frozen=True, eq=False)
class PairedTests:
    """Whether closing an edge raises the loss of held-out samples, for each of E edges.

    Attributes:
        gain: Share by which the edge lowers the loss.
        low: Lower end of its interval of 95 %.
        high: Upper end.
        p: Of no gain, of the paired t test over the conditions.
        passes: Whether that test rejects no gain, and the gain is above 0 in every fold.
        t: The statistic of the test over the conditions, divided by its critical value: above 1 the test rejects.
        spread: Standard deviation of the gain among conditions.
        n: Number of conditions, U.
    """

    gain: FloatArray
    low: FloatArray
    high: FloatArray
    p: FloatArray
    passes: BoolArray
    t: FloatArray
    spread: FloatArray
    n: int


def paired_tests(rise: FloatArray, square: FloatArray, conditions: IntArray, loss: FloatArray) -> PairedTests:
    """Paired tests from the sums of each fold.

    Args:
        rise: (F, E) sum over the conditions of a fold of the rise of squared errors with the edge closed.
        square: (F, E) sum of its squares.
        conditions: (F,) number of conditions of the folds.
        loss: (F,) sums of squared errors of the whole network.

    Returns:
        The tests. A gain is r / (1 + r) with r the rise as a share of the loss of the whole network.
    """
    n = int(conditions.sum())
    scale = loss.sum() / n if loss.sum() > 0 else 1.0
    mean = rise.sum(0) / n / scale
    spread = np.sqrt(np.maximum(square.sum(0) / n / scale**2 - mean**2, 0.0) * n / max(1, n - 1))
    error = spread / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, mean / error, np.where(mean > 0, np.inf, 0.0))
    critical = stats.t.isf(ALPHA, n - 1) if n > 1 else np.inf
    half = stats.t.isf(0.025, n - 1) * error if n > 1 else np.full_like(mean, np.inf)
    return PairedTests(
        gain=_share(mean),
        low=_share(mean - half),
        high=_share(mean + half),
        p=np.where(error > 0, stats.t.sf(t, max(1, n - 1)), np.where(mean > 0, 0.0, 1.0)),
        passes=(t > critical) & (rise > 0).all(0),
        t=t / critical,
        spread=spread,
        n=n,
    )


def _share(rise: FloatArray) -> FloatArray:
    """A rise as a share of the higher loss; a fall as a share of the whole network's loss."""
    return np.where(rise > 0, rise / (1 + np.maximum(rise, 0)), rise)


def reasons_not_to_judge(
    graph: Graph, x: npt.NDArray[np.floating[Any]], y: npt.NDArray[np.floating[Any]], steps: int
) -> list[str]:
    """Why the data cannot show an edge, whatever it does; empty where they could.

    Args:
        graph: The graph.
        x: (M, I) inputs.
        y: (M, O) responses, NaN where missing.
        steps: Longest path that counts.

    Returns:
        A reason for each edge, in the order of `EDGE_TYPES`.
    """
    index = {kind: ends.numpy() for kind, ends in graph.edge_index_dict.items()}
    inner, fed, read = (index[kind] for kind in EDGE_TYPES)
    varies = np.ptp(x, axis=0) > 0 if len(x) else np.zeros(graph.I, dtype=bool)
    measured = np.isfinite(y).sum(0) > 1
    above = _depth(inner, np.unique(fed[1][varies[fed[0]]]), graph.N)
    below = _depth(inner[::-1], np.unique(read[0][measured[read[1]]]), graph.N)
    reasons = []
    for kind in EDGE_TYPES:
        for source, target in index[kind].T.tolist():
            before = 0 if kind[0] == "input" else above[source]
            after = 0 if kind[2] == "output" else below[target]
            if kind[0] == "input" and not varies[source]:
                reasons.append("its input never varies in these data")
            elif kind[2] == "output" and not measured[target]:
                reasons.append("its output was not measured")
            elif not np.isfinite(before):
                reasons.append("no input that varies reaches its source")
            elif not np.isfinite(after):
                reasons.append("its target reaches no measured output")
            elif before + after > steps:
                reasons.append(f"every path over it passes more than {steps} functions")
            else:
                reasons.append("")
    return reasons


def _depth(edges: IntArray, starts: IntArray, n_nodes: int) -> FloatArray:
    """Number of functions on the shortest path from a start to each function, ends included; infinite without one."""
    rows = np.concatenate([edges[0], np.full(len(starts), n_nodes)])
    columns = np.concatenate([edges[1], starts])
    adjacency = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_nodes + 1, n_nodes + 1))
    depth: FloatArray = csgraph.dijkstra(adjacency, indices=[n_nodes], unweighted=True)[0, :n_nodes]
    return depth


def only_edges(graph: Graph) -> list[str]:
    """For each edge its input or output if that has no other edge, else an empty text, in the order of `EDGE_TYPES`."""
    only: list[str] = []
    for kind in EDGE_TYPES:
        side = 0 if kind[0] == "input" else 1
        ends = graph.edge_index_dict[kind][side].numpy()
        single = np.bincount(ends, minlength=1)[ends] == 1 if kind[0] != kind[2] else np.zeros(len(ends), dtype=bool)
        names = graph.node_names_dict[kind[2 * side]]
        only += [names[end] if alone else "" for end, alone in zip(ends.tolist(), single.tolist(), strict=True)]
    return only


def judge(
    tests: PairedTests,
    weights: FloatArray,
    sign: IntArray,
    hidden: Sequence[str],
    alike: FloatArray,
    others: Sequence[str],
    only: Sequence[str],
) -> list[dict[str, Any]]:
    """A verdict for each edge.

    An edge is supported if closing it raises the held-out loss in the test over the conditions, and in every fold. If
    the network also gives it a sign and its weight has the other one in every fold, it contradicts the sign. An edge
    that is not supported is not needed if the interval of its gain excludes the gain of an ordinary supported edge:
    the median of their gains, but at most 5 %. It cannot be judged where the data cannot show it (``hidden``), another
    known source sends the same signal, the interval is too wide, or it is the only edge of an input or output.

    Args:
        tests: The tests.
        weights: (F, E) weights of the edges in the networks of the folds.
        sign: (E,) -1, 0 or 1 of the network.
        hidden: Reasons why the data cannot show an edge, empty where they can.
        alike: (E,) largest correlation with the signal of another known source of the target.
        others: Names of these sources.
        only: Name of the input or output that has no other edge, empty where it has others.

    Returns:
        For each edge verdict, why, and sign_model.
    """
    supported = tests.gain[tests.passes & np.array([not reason for reason in hidden])]
    ordinary = min([_LARGEST_SMALL, *(np.quantile(supported, _ORDINARY) for _ in supported[:1])])
    folds = len(weights)
    votes = np.sign(weights)
    agreed = np.where((votes == votes[0]).all(0), votes[0], 0).astype(np.int64)
    records = []
    for e in range(len(sign)):
        gain, high = tests.gain[e], tests.high[e]
        contradicts = tests.passes[e] and agreed[e] != 0 and sign[e] != 0 and agreed[e] != sign[e]
        if hidden[e]:
            verdict, why = "cannot be judged", hidden[e]
        elif contradicts:
            word = "lowers" if agreed[e] < 0 else "raises"
            verdict = "contradicts the sign"
            why = f"it is needed (the held-out loss is {gain:.2%} lower with it), but its source {word} its target"
            why += f" in all {folds} folds"
        elif tests.passes[e]:
            verdict, why = "supported", f"the held-out loss is {gain:.2%} lower with it, and lower in all {folds} folds"
        elif alike[e] >= ALIKE:
            verdict = "cannot be judged"
            why = f"its source moves as {others[e]} does, another known source (r = {alike[e]:.3f})"
        elif only[e]:
            verdict, why = "cannot be judged", f"no gain is seen, but {only[e]} has no other edge"
        elif high < ordinary and tests.t[e] <= 1:
            verdict = "not needed"
            why = f"the held-out loss is {_difference(gain)} with it; a gain above {max(high, 0.0):.2%} is excluded"
        else:
            verdict = "cannot be judged"
            left = _power(ordinary, tests.spread[e], tests.n)
            if tests.t[e] > 1:
                why = f"its gain of {gain:.1%} is not there in every fold"
            elif left < _POWER:
                why = f"{tests.n} conditions are too few: the gain may be up to {high:.1%}; that of an ordinary edge, "
                why += f"{ordinary:.1%}, would be seen with a probability of {left:.0%}"
            else:
                why = f"its gain of {gain:.1%} may be luck, but up to {high:.1%} is not excluded"
        records.append({"verdict": verdict, "why": why, "sign_model": int(agreed[e])})
    return records


def _difference(gain: float) -> str:
    """A gain in words.

    Example:
        >>> _difference(0.021), _difference(-0.003), _difference(1e-6)
        ('2.10% lower', '0.30% higher', 'the same')
    """
    if abs(gain) < 5e-5:
        return "the same"
    return f"{abs(gain):.2%} {'lower' if gain > 0 else 'higher'}"


def _power(gain: float, spread: float, n: int) -> float:
    """The power of the test over the conditions for a gain."""
    if n < 2:
        return 0.0
    if spread <= 0:
        return 1.0
    rise = gain / max(1e-9, 1 - gain)
    return float(stats.nct.sf(stats.t.isf(ALPHA, n - 1), n - 1, rise / spread * np.sqrt(n)))


def pooled(folds: Sequence[Mapping[str, Any]], what: str) -> PairedTests:
    """The tests of all folds, of the estimates or of the refits.

    Args:
        folds: Records of the folds.
        what: ``estimate`` or ``refit``.
    """
    rise, square = (np.array([fold[what][name] for fold in folds], dtype=float) for name in ("rise", "square"))
    conditions = np.array([fold["conditions"] for fold in folds], dtype=np.int64)
    return paired_tests(rise, square, conditions, np.array([fold["loss"] for fold in folds], dtype=float))
