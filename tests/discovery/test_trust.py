"""How far what was learnt from hidden edges is trusted: against loops, and in cases where the answer is known."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import optimize

from gsnn.discovery.stacked.lessons import lessons
from gsnn.discovery.stacked.trust import Exam, exam, fitted_slope, odds_left_out, weight
from gsnn.edges.pairs import PriorEdges
from gsnn.graph import Graph


def groups(rng, n, size, better):
    """Odds of n groups; the first of each is ``better`` higher on average."""
    odds = rng.normal(size=(n, size))
    odds[:, 0] += better
    return odds.ravel(), np.arange(n) * size


def test_the_slope_maximises_the_conditional_likelihood():
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 9, 40)
    starts = np.cumsum([0, *sizes])[:-1]
    odds = rng.normal(size=sizes.sum())
    odds[starts] += 0.7

    def mean(b):
        total = 0.0
        for start, size in zip(starts, sizes, strict=True):
            s = odds[start : start + size]
            total += b * s[0] - np.log(np.exp(b * s).sum())
        return total / len(starts)

    best = optimize.minimize_scalar(lambda b: -mean(b), bounds=(0, 10), method="bounded", options={"xatol": 1e-10})
    b, gain = fitted_slope(odds, starts)
    assert b == pytest.approx(best.x, rel=1e-5)
    assert gain == pytest.approx(mean(best.x) - mean(0), rel=1e-6)


def test_what_puts_hidden_edges_last_has_no_slope():
    odds, starts = groups(np.random.default_rng(1), 50, 6, -1.0)
    assert fitted_slope(odds, starts) == (0.0, 0.0)
    assert fitted_slope(np.zeros(0), np.zeros(0, dtype=np.int64)) == (0.0, 0.0)


def test_an_edge_that_is_always_first_is_trusted_within_bounds():
    odds, starts = groups(np.random.default_rng(2), 5, 4, 100.0)
    b, gain = fitted_slope(odds, starts)
    assert np.isfinite(b)
    assert gain == pytest.approx(np.log(4), abs=1e-6)


@pytest.mark.parametrize(
    ("of_odds", "of_topology", "low", "high"),
    [(3.0, 3.0, 0.9, 1.5), (3.0, 0.0, 0.0, 0.02), (-2.0, 3.0, 0.0, 0.0), (0.0, 3.0, 0.0, 0.2), (2.0, 4.0, 0.9, 1.5)],
)
def test_the_weight_asks_for_both(of_odds, of_topology, low, high):
    rng = np.random.default_rng(3)
    exams, odds, topology = [], [], []
    for _ in range(4):
        each, starts = groups(rng, 50, 10, of_odds)
        odds.append(each)
        topology.append(groups(rng, 50, 10, of_topology)[0])
        exams.append(Exam(np.arange(len(each)), starts))
    assert low <= weight(odds, topology, exams) <= high


def test_no_exam_no_trust():
    none = Exam(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    assert weight([np.zeros(0)], [np.zeros(0)], [none]) == 0.0


def test_rivals_share_the_target_and_are_no_known_edges():
    names = [f"n{k}" for k in range(12)]
    rng = np.random.default_rng(0)
    pairs = sorted({(a, b) for a, b in rng.integers(0, 12, (40, 2)).tolist() if a < b})
    edges = [("x", "n0"), ("x", "n1"), *((names[a], names[b]) for a, b in pairs), ("n11", "y"), ("n10", "z")]
    graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=names, output_nodes=["y", "z"])
    prior = PriorEdges(graph)
    taught = lessons(graph, prior, 0.2, 3, 0, 50)
    for lesson in taught:
        asked = exam(lesson, prior)
        bounds = np.append(asked.starts, len(asked.rows))
        assert set(asked.rows[asked.starts].tolist()) == set(lesson.rows[lesson.label].tolist())
        for start, end in pairwise(bounds):
            source, target = np.divmod(asked.rows[start:end], 12)
            assert (target == target[0]).all()
            assert len(set(source.tolist())) == end - start > 1
            assert prior.matrix()[source[0], target[0]]
            assert not prior.matrix()[source[1:], target[1:]].any()
            assert target[0] not in source


def test_a_lesson_is_judged_by_the_others():
    rng = np.random.default_rng(4)
    taught = []
    for sign in (1.0, 1.0, -1.0):  # the third lesson says the opposite
        label = np.arange(300) < 100
        taught.append(((label[:, None] * sign + 0.1 * rng.normal(size=(300, 1))).astype(np.float32), label))
    asked = [np.array([[1.0], [0.0]], dtype=np.float32)] * 3
    found = odds_left_out(taught, asked, ["f"])
    assert found[2][0] > found[2][1]  # learnt from the two that agree
    assert abs(found[0][0] - found[0][1]) < 0.2 * (found[2][0] - found[2][1])
    silent = [(x, np.zeros(300, dtype=bool)) for x, _ in taught[:2]]
    assert (odds_left_out([*silent, taught[0]], asked, ["f"])[2] == 0).all()
