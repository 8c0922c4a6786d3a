"""Metrics: against scikit-learn, loops and closed-form expectations, with every stated rule."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from gsnn.metrics import (
    Ranks,
    average_precision,
    edge_ranks,
    evaluate_edges,
    filtered_target_ranking,
    group_metrics,
    precision_at_k,
    recall_at_k,
    roc_auc,
    target_ranking,
)
from gsnn.metrics.ranking import source_filtered_mrr
from gsnn.metrics.scores import collapse_groups

K = 7
SCALAR = {
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "precision@k": lambda s, y: precision_at_k(s, y, K),
    "recall@k": lambda s, y: recall_at_k(s, y, K),
}


def sample(seed, n=60, ties=True):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.3
    labels[:2] = True, False
    scores = rng.integers(0, 8, n).astype(float) if ties else rng.normal(size=n)
    return scores, labels


@pytest.mark.parametrize("metric", SCALAR.values(), ids=SCALAR)
class TestMetricCases:
    """What holds for every metric of a list."""

    @pytest.mark.parametrize("seed", range(5))
    def test_range_and_monotone_invariance(self, metric, seed):
        scores, labels = sample(seed)
        assert 0 <= metric(scores, labels) <= 1
        assert metric(np.exp(scores) * 1e-6, labels) == pytest.approx(metric(scores, labels), abs=1e-12)

    def test_order_of_the_rows_does_not_matter(self, metric):
        scores, labels = sample(0)
        order = np.random.default_rng(1).permutation(len(scores))
        assert metric(scores[order], labels[order]) == pytest.approx(metric(scores, labels), abs=1e-12)

    def test_best_and_worst(self, metric):
        labels = np.arange(20) < K
        assert metric(-np.arange(20.0), labels) == 1.0
        others = metric(np.arange(20.0), labels)
        hits = np.arange(1, K + 1)
        worst = np.mean(hits / (20 - K + hits)) if metric is average_precision else 0.0
        assert others == pytest.approx(worst)

    def test_direction(self, metric):
        labels = np.array([0, 1] * 10)
        scores = -np.arange(20.0)
        better = scores.copy()
        better[[6, 7]] = scores[[7, 6]]  # the positive in place K + 1 overtakes the negative in place K
        assert metric(better, labels) > metric(scores, labels)

    def test_nan_ranks_below_every_number(self, metric):
        scores, labels = sample(2)
        scores[labels.nonzero()[0][:3]] = np.nan
        filled = np.where(np.isnan(scores), -1e30, scores)
        assert metric(scores, labels) == metric(filled, labels)

    def test_input_is_not_changed(self, metric):
        scores, labels = np.array([1.0, np.nan, 2.0]), np.array([1, 0, 0])
        metric(scores, labels)
        np.testing.assert_array_equal(scores, [1.0, np.nan, 2.0])

    def test_tensors(self, metric):
        scores, labels = sample(3)
        assert metric(torch.tensor(scores, requires_grad=True), torch.tensor(labels)) == metric(scores, labels)

    def test_errors(self, metric):
        with pytest.raises(ValueError, match=r"must have one shape, got \(2,\) and \(3,\)"):
            metric([1.0, 2.0], [0, 1, 1])
        with pytest.raises(ValueError, match=r"^labels must be 0 or 1 .* e\.g\. labels > 0$"):
            metric([1.0, 2.0], [0, 2])


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("ties", [True, False])
    @pytest.mark.parametrize("seed", range(10))
    def test_roc_auc_and_average_precision(self, seed, ties):
        scores, labels = sample(seed, ties=ties)
        assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


class TestTies:
    """Metrics at k are the mean over all orders of tied scores."""

    @pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
    def test_against_all_orders(self, k):
        scores, labels = np.array([2.0, 1.0, 1.0, 1.0, 0.0, 0.0]), np.array([0, 1, 0, 0, 1, 0])
        hits = []
        for order in permutations(range(6)):
            ranked = sorted(order, key=lambda i: -scores[i])  # stable: ties stay as permuted
            hits.append(labels[ranked[:k]].sum())
        assert precision_at_k(scores, labels, k) == pytest.approx(np.mean(hits) / k)
        assert recall_at_k(scores, labels, k) == pytest.approx(np.mean(hits) / 2)

    def test_a_constant_score_gets_what_chance_gets(self):
        labels = np.arange(40) < 10
        constant = np.full(40, 3.0)
        assert roc_auc(constant, labels) == 0.5
        assert average_precision(constant, labels) == 0.25
        assert precision_at_k(constant, labels, 8) == 0.25
        assert recall_at_k(constant, labels, 8) == pytest.approx(0.2)

    def test_random_scores_have_these_expectations(self):
        rng = np.random.default_rng(0)
        n, m, repeats = 30, 6, 4000
        labels = np.arange(n) < m
        draws = rng.random((repeats, n))
        harmonic = np.sum(1 / np.arange(1, n + 1))
        expected = {
            "roc_auc": 0.5,
            # Mean over k of E[hits above | positive at k] / k: 1/k + (m - 1)/(n - 1) (k - 1)/k.
            "average_precision": (harmonic + (m - 1) / (n - 1) * (n - harmonic)) / n,
            "precision@k": m / n,
            "recall@k": K / n,
        }
        for name, metric in SCALAR.items():
            values = np.array([metric(row, labels) for row in draws])
            assert abs(values.mean() - expected[name]) < 5 * values.std() / np.sqrt(repeats)


class TestDegenerate:
    def test_undefined_is_nan(self):
        assert np.isnan(roc_auc([1.0, 2.0], [1, 1]))
        assert np.isnan(roc_auc([1.0, 2.0], [0, 0]))
        assert np.isnan(average_precision([1.0, 2.0], [0, 0]))
        assert np.isnan(recall_at_k([1.0, 2.0], [0, 0], 1))
        assert precision_at_k([1.0, 2.0], [0, 0], 1) == 0.0
        for metric in SCALAR.values():
            assert np.isnan(metric([], []))

    def test_k(self):
        assert precision_at_k([1.0, 2.0], [1, 0], 10) == 0.5
        with pytest.raises(ValueError, match="k must be at least 1, got 0"):
            recall_at_k([1.0], [1], 0)

    def test_undefined_scores_of_any_kind(self):
        labels = np.array([0, 1, 0, 1])
        for scores in (
            [None, 0.5, 0.1, 0.2],
            pd.Series([pd.NA, 0.5, 0.1, 0.2], dtype="Float64"),
            [float("nan"), 5, 1, 2],
        ):
            assert roc_auc(scores, labels) == average_precision(scores, labels) == 1.0
            assert precision_at_k(scores, labels, 3) == pytest.approx(2 / 3)

    def test_infinite_scores(self):
        assert roc_auc([np.inf, 0.0, -np.inf], [1, 0, 0]) == 1.0
        assert precision_at_k([np.inf, np.inf, -np.inf], [1, 0, 0], 1) == 0.5


class TestGroups:
    def test_against_a_loop(self):
        rng = np.random.default_rng(0)
        scores, labels, groups = rng.normal(size=50), rng.random(50) < 0.2, rng.integers(0, 15, 50) * 3
        best, holds = collapse_groups(scores, labels, groups)
        for i, group in enumerate(sorted(set(groups.tolist()))):
            assert best[i] == max(s for s, g in zip(scores, groups, strict=True) if g == group)
            assert holds[i] == any(t for t, g in zip(labels, groups, strict=True) if g == group)

    def test_shape(self):
        with pytest.raises(ValueError, match=r"^groups must have the shape of the scores, \(1,\), got \(2,\)$"):
            collapse_groups([1.0], [1], [1, 2])


def matrix(seed, n=12, ties=True):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (n, n)).astype(float) if ties else rng.normal(size=(n, n))
    pairs = rng.permutation([(i, j) for i in range(n) for j in range(n) if i != j])
    known, test, validation = pairs[:20].T, pairs[20:30].T, pairs[30:38].T
    return scores, known, test, validation


def as_set(edges):
    return set(map(tuple, edges.T.tolist()))


class TestRanks:
    @pytest.mark.parametrize("within", ["target", "source"])
    @pytest.mark.parametrize("filtered", [True, False])
    @pytest.mark.parametrize("chunk_size", [3, 2048])
    def test_against_a_loop(self, within, filtered, chunk_size):
        scores, known, test, validation = matrix(0)
        ranks = edge_ranks(
            scores, test, known, known_true=validation, within=within, filtered=filtered, chunk_size=chunk_size
        )
        removed = as_set(known) | (as_set(test) | as_set(validation) if filtered else set())
        for q, (s, t) in enumerate(test.T.tolist()):
            rivals = [(i, t) if within == "target" else (s, i) for i in range(12)]
            rivals = [p for p in rivals if p[0] != p[1] and p not in removed and p != (s, t)]
            assert ranks.better[q] == sum(scores[p] > scores[s, t] for p in rivals)
            assert ranks.tied[q] == sum(scores[p] == scores[s, t] for p in rivals)
            assert ranks.n_candidates[q] == len(rivals) + 1

    def test_tie_rules_against_enumeration(self):
        better, tied = 2, 3
        places = np.arange(better + 1, better + tied + 2)  # every rank is equally likely
        ranks = Ranks(np.array([better]), np.array([tied]), np.array([9]))
        assert ranks.rank("optimistic")[0] == 3
        assert ranks.rank("pessimistic")[0] == 6
        assert ranks.rank()[0] == places.mean()
        assert ranks.mrr() == pytest.approx(np.mean(1 / places))
        assert ranks.mrr("optimistic") == pytest.approx(1 / 3)
        assert ranks.mrr("pessimistic") == pytest.approx(1 / 6)
        for k in (1, 3, 4, 6, 10):
            assert ranks.top_at(k) == pytest.approx(np.mean(places <= k))
        assert ranks.top_at(3, "optimistic") == 1.0
        assert ranks.top_at(5, "pessimistic") == 0.0

    def test_best_is_exactly_one(self):
        ranks = Ranks(np.array([0, 0]), np.array([0, 0]), np.array([5, 5]))
        assert ranks.mrr() == ranks.top_at(1) == 1.0

    def test_a_constant_score_gets_what_chance_gets(self):
        ranks = edge_ranks(np.zeros((6, 6)), [(0, 1)])
        assert ranks.rank().tolist() == [3.0]
        assert ranks.mrr() == pytest.approx(np.sum(1 / np.arange(1, 6)) / 5)
        assert ranks.top_at(2) == pytest.approx(2 / 5)

    def test_without_queries(self):
        ranks = edge_ranks(np.zeros((3, 3)), [])
        assert len(ranks) == 0
        assert np.isnan(ranks.mrr())
        assert np.isnan(ranks.top_at(1))

    def test_errors(self):
        scores = np.zeros((3, 3))
        with pytest.raises(ValueError, match=r"1 positives are known edges or self-edges.*\[\(0, 1\)\]"):
            edge_ranks(scores, [(0, 1)], [(0, 1)])
        with pytest.raises(ValueError, match="positives are known edges or self-edges"):
            edge_ranks(scores, [(1, 1)])
        assert len(edge_ranks(scores, [(1, 1)], exclude_self=False)) == 1
        with pytest.raises(ValueError, match="unknown within 'row'"):
            edge_ranks(scores, [(0, 1)], within="row")
        with pytest.raises(
            ValueError, match=r"^unknown ties 'best'; use one of 'realistic', 'optimistic', 'pessimistic'"
        ):
            edge_ranks(scores, [(0, 1)]).rank("best")
        with pytest.raises(ValueError, match=r"scores must have shape \(N, N\), got \(2, 3\)"):
            edge_ranks(np.zeros((2, 3)), [(0, 1)])
        with pytest.raises(ValueError, match=r"positives has an index out of range 0\.\.2"):
            edge_ranks(scores, [(0, 3)])
        with pytest.raises(ValueError, match=r"shape \(2, Q\), got \(3, 2\); pass its transpose"):
            edge_ranks(scores, np.zeros((3, 2), int))
        with pytest.raises(ValueError, match="whole numbers, got float64"):
            edge_ranks(scores, np.ones((2, 1)))
        with pytest.raises(ValueError, match="pass names="):
            edge_ranks(scores, [("a", "b")])
        with pytest.raises(ValueError, match=r"\['bb'\]; the closest to 'bb' are \['b'\]"):
            edge_ranks(scores, [("a", "bb")], names=["a", "b", "c"])

    def test_every_number_of_ties_against_enumeration(self):
        better, tied = (values.ravel() for values in np.mgrid[0:5, 0:4])
        ranks = Ranks(better, tied, np.full(20, 9))
        places = [np.arange(b + 1, b + t + 2) for b, t in zip(better, tied, strict=True)]
        np.testing.assert_allclose(ranks.reciprocal(), [(1 / each).mean() for each in places], rtol=1e-12)
        np.testing.assert_allclose(ranks.rank(), [each.mean() for each in places])
        for k in range(1, 9):
            np.testing.assert_allclose(ranks.top(k), [(each <= k).mean() for each in places])
            assert ranks.top(k, "pessimistic").tolist() == [each[-1] <= k for each in places]
            assert ranks.top(k, "optimistic").dtype == np.float64
        few = ranks.take(np.array([7, 2]))
        assert (few.better.tolist(), few.tied.tolist()) == (better[[7, 2]].tolist(), tied[[7, 2]].tolist())

    def test_without_ties_reciprocals_are_exact(self):
        ranks = Ranks(np.arange(1000), np.zeros(1000, int), np.full(1000, 1000))
        np.testing.assert_array_equal(ranks.reciprocal(), 1 / np.arange(1, 1001))

    def test_names_of_every_kind_of_edge(self):
        scores, known, test, validation = matrix(3)
        names = [f"n{i}" for i in range(12)]

        def named(edges):
            return [(names[s], names[t]) for s, t in edges.T.tolist()]

        by_place = edge_ranks(scores, test, known, known_true=validation, chunk_size=1)
        by_name = edge_ranks(scores, named(test), named(known), known_true=named(validation), names=names)
        for field in ("better", "tied", "n_candidates"):
            assert getattr(by_name, field).dtype == np.int64
            np.testing.assert_array_equal(getattr(by_name, field), getattr(by_place, field))

    def test_errors_name_what_was_passed(self):
        scores = np.zeros((9, 9))
        for parameter in ("known", "known_true"):
            with pytest.raises(ValueError, match=rf"^{parameter} has an index out of range 0\.\.8: 0\.\.9$"):
                edge_ranks(scores, [(0, 1)], **{parameter: [(0, 9)]})
        with pytest.raises(ValueError, match=r"^unknown within 'row'; use one of 'target', 'source'"):
            edge_ranks(scores, [(0, 1)], within="row")
        with pytest.raises(ValueError, match=r"^chunk_size must be at least 1, got 0$"):
            edge_ranks(scores, [(0, 1)], chunk_size=0)
        with pytest.raises(ValueError, match=r"^k must be at least 1, got 0$"):
            edge_ranks(scores, [(0, 1)]).top_at(0)
        loops = [(i, i) for i in range(7)]
        shown = r"\[\(0, 0\), \(1, 1\), \(2, 2\), \(3, 3\), \(4, 4\)\]"
        with pytest.raises(ValueError, match=rf"^7 positives .*: {shown}; leave them out, or out of known=$"):
            edge_ranks(scores, loops)
        with pytest.raises(ValueError, match=r"no candidates: \[\('a', 'b'\)\]; "):
            edge_ranks(scores[:2, :2], [("a", "b")], [("a", "b")], names=["a", "b"])


class TestSourceFilteredMrr:
    @pytest.mark.parametrize("chunk", [1, 4, 2048])
    def test_against_brute_force(self, chunk):
        A, known, test, validation = matrix(1)
        true = np.hstack([known, test, validation])
        expected = []
        for s, d in test.T.tolist():
            row = sorted((A[s, j] for j in range(12) if (s, j) not in as_set(true) or j == d), reverse=True)
            places = [i + 1 for i, value in enumerate(row) if value == A[s, d]]
            expected.append(1 / np.mean(places))
        assert source_filtered_mrr(A, test, true, query_chunk_size=chunk) == pytest.approx(np.mean(expected))
        tensors = [torch.tensor(a) for a in (A, test, true)]
        assert source_filtered_mrr(*tensors) == pytest.approx(np.mean(expected))

    def test_the_own_column_stays_a_candidate(self):
        A = np.array([[9.0, 1.0], [0.0, 0.0]])
        assert source_filtered_mrr(A, [(0, 1)], [(0, 1)]) == 0.5

    def test_average_rank_on_ties(self):
        assert source_filtered_mrr(np.zeros((5, 5)), [(0, 1)], [(0, 1)]) == pytest.approx(1 / 3)

    def test_edges(self):
        A = np.zeros((3, 3))
        assert np.isnan(source_filtered_mrr(A, np.empty((2, 0), int), [(0, 1)]))
        A = np.array([[0.0, np.nan, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        assert source_filtered_mrr(A, [(0, 1)], []) == pytest.approx(1 / 3)
        # A query given twice counts twice: it is a mean over queries.
        A = np.array([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        assert source_filtered_mrr(A, [(0, 1), (0, 1), (0, 2)], []) == pytest.approx((1 + 1 + 0.5) / 3)

    def test_errors_name_what_was_passed(self):
        A = np.zeros((3, 3))
        with pytest.raises(ValueError, match=r"^edge_index has an index out of range 0\.\.2: 0\.\.3$"):
            source_filtered_mrr(A, [(0, 3)], [(0, 1)])
        with pytest.raises(ValueError, match=r"^all_true_edges has an index out of range 0\.\.2: 0\.\.3$"):
            source_filtered_mrr(A, [(0, 1)], [(0, 3)])
        with pytest.raises(ValueError, match=r"^query_chunk_size must be at least 1, got 0$"):
            source_filtered_mrr(A, [(0, 1)], [(0, 1)], query_chunk_size=0)


class TestTargetRanking:
    def table(self, seed=0, n=9):
        rng = np.random.default_rng(seed)
        rows = [(f"n{i}", f"n{j}") for i in range(n) for j in range(n) if i != j]
        table = pd.DataFrame(rows, columns=["src_func", "dst_func"])
        table["score"] = rng.integers(0, 4, len(rows)).astype(float)
        table.loc[rng.random(len(rows)) < 0.1, "score"] = np.nan
        table["has_edge"] = rng.random(len(rows)) < 0.2
        return table.sort_values("score", ascending=False, kind="stable", na_position="last").reset_index(drop=True)

    @pytest.mark.parametrize("filtered", [True, False])
    def test_against_a_loop(self, filtered):
        table = self.table()
        given = [tuple(p) for p in table.sample(20, random_state=1)[["src_func", "dst_func"]].to_numpy()]
        true = [tuple(p) for p in table.sample(20, random_state=2)[["src_func", "dst_func"]].to_numpy()]
        if filtered:
            detail, summary = filtered_target_ranking(table, [*given, given[3]], top_k=(1, 2), known_true=true)
        else:
            detail, summary = target_ranking(table, [*given, given[3]], top_k=(1, 2))
        positives = sorted(given)
        gone = set(positives) | set(true) | {(r.src_func, r.dst_func) for r in table.itertuples() if r.has_edge}
        assert list(detail.columns[:4]) == ["src_func", "dst_func", "score", "rank"]
        assert list(detail.columns[4:]) == ["n_candidates", "reciprocal_rank", "top@1", "top@2"]
        reciprocal = []
        for row, (s, t) in zip(detail.itertuples(index=False), positives, strict=True):
            candidates = [
                (r.src_func, r.score)
                for r in table.itertuples()
                if r.dst_func == t
                and not np.isnan(r.score)
                and (not filtered or r.src_func == s or (r.src_func, t) not in gone)
            ]
            ranked = [name for name, _ in sorted(candidates, key=lambda c: -c[1])]
            rank = ranked.index(s) + 1 if s in ranked else np.nan
            reciprocal.append(0.0 if np.isnan(rank) else 1 / rank)
            assert (row.src_func, row.dst_func, row.n_candidates) == (s, t, len(ranked))
            np.testing.assert_equal(row.rank, rank)
            assert row.reciprocal_rank == reciprocal[-1]
            assert detail.loc[len(reciprocal) - 1, "top@2"] == (rank <= 2)
        assert np.isnan(detail["rank"]).any()
        assert {type(value) for value in summary.values()} == {float}
        assert list(summary) == ["n_positives", "mrr", "top@1", "top@2"]
        assert summary["n_positives"] == 20
        assert summary["mrr"] == pytest.approx(np.mean(reciprocal))
        assert summary["top@1"] == pytest.approx(np.mean(detail["rank"] == 1))

    def test_ranks_are_those_of_pandas_with_first_come_ties(self):
        table = self.table(seed=3)
        positives = {tuple(p) for p in table.sample(30, random_state=1)[["src_func", "dst_func"]].to_numpy()}
        detail, summary = target_ranking(table, positives)
        scored = table.dropna(subset="score")
        rank = scored.groupby("dst_func")["score"].rank(ascending=False, method="first")
        expected = dict(zip(zip(scored["src_func"], scored["dst_func"], strict=True), rank, strict=True))
        assert list(zip(detail["src_func"], detail["dst_func"], strict=True)) == sorted(positives)
        np.testing.assert_array_equal(detail["rank"], [expected.get(edge, np.nan) for edge in sorted(positives)])
        assert summary["mrr"] == pytest.approx(sum(1 / expected[e] for e in positives if e in expected) / 30)
        assert summary == target_ranking(table, reversed(sorted(positives)))[1]

    def test_categories_and_another_column(self):
        table = self.table().rename(columns={"score": "corr"})
        positives = [("n0", "n1"), ("n2", "n3")]
        plain = target_ranking(table, positives, score_col="corr")[0]
        names = pd.CategoricalDtype([f"n{i}" for i in range(9)])
        categorical = table.astype({"src_func": names, "dst_func": names})
        pd.testing.assert_frame_equal(target_ranking(categorical, positives, score_col="corr")[0], plain)

    def test_known_edges_and_self_edges_are_rivals_unless_filtered(self):
        rows = [("a", "d", 0.9, 1), ("b", "d", 0.8, 0), ("d", "d", 0.7, 0), ("c", "d", 0.6, 0), ("d", "a", 0.5, 1)]
        table = pd.DataFrame(rows, columns=["src_func", "dst_func", "score", "has_edge"]).astype({"has_edge": object})
        wanted = [("c", "d"), ("d", "a")]
        detail = filtered_target_ranking(table, wanted)[0]
        assert detail["rank"].tolist() == [2.0, 1.0]
        assert detail["n_candidates"].tolist() == [2, 1]
        everything = target_ranking(table, wanted)[0]
        assert everything["rank"].tolist() == [4.0, 1.0]
        assert everything["n_candidates"].tolist() == [4, 1]
        assert filtered_target_ranking(table.drop(columns="has_edge"), wanted)[0]["rank"].tolist() == [3.0, 1.0]
        alone = filtered_target_ranking(table, wanted, known_true=[("b", "d")])[0]
        assert alone["rank"].tolist() == alone["n_candidates"].tolist() == [1.0, 1.0]
        with pytest.raises(ValueError, match=r"^known_true names unknown nodes: \['e'\]"):
            filtered_target_ranking(table, wanted, known_true=[("e", "d")])

    def test_missing_scores_of_pandas_and_a_target_without_candidates(self):
        table = pd.DataFrame({"src_func": ["a", "b", "a"], "dst_func": ["b", "c", "z"]})
        table["score"] = pd.array([0.5, 0.1, pd.NA], dtype="Float64")
        detail, summary = target_ranking(table, [("a", "b"), ("a", "z")], top_k=(1,))
        np.testing.assert_array_equal(detail["rank"], [1.0, np.nan])
        np.testing.assert_array_equal(detail["score"], [0.5, np.nan])
        assert detail["n_candidates"].tolist() == [1, 0]
        assert detail["top@1"].tolist() == [True, False]
        assert summary == {"n_positives": 2.0, "mrr": 0.5, "top@1": 0.5}

    def test_missing_positive(self):
        table = pd.DataFrame({"src_func": ["a", "b"], "dst_func": ["b", "c"], "score": [1.0, 1.0]})
        detail, summary = target_ranking(table, [("a", "c"), ("c", "a")])
        assert detail["reciprocal_rank"].tolist() == [0.0, 0.0]
        assert detail["n_candidates"].tolist() == [1, 0]
        assert (summary["mrr"], summary["top@5"]) == (0.0, 0.0)

    def test_errors(self):
        table = self.table()
        with pytest.raises(ValueError, match="positive_edges is empty"):
            target_ranking(table, [])
        with pytest.raises(ValueError, match="the table is empty"):
            target_ranking(table[:0], [("n0", "n1")])
        with pytest.raises(ValueError, match=r"^positive_edges names unknown nodes: \['m1'\]; the closest to 'm1' are"):
            target_ranking(table, [("n0", "m1")])
        with pytest.raises(ValueError, match="the table has no column 'corr'"):
            target_ranking(table, [("n0", "n1")], score_col="corr")
        with pytest.raises(ValueError, match="top_k must be at least 1"):
            target_ranking(table, [("n0", "n1")], top_k=(0,))
        with pytest.raises(
            ValueError, match=r"^positive_edges must hold \(source, target\) names, got \['n0', 'n1', 'n2'\]$"
        ):
            target_ranking(table, ["n0", "n1", "n2", "n3"])
        with pytest.raises(ValueError, match=r"^positive_edges must hold"):
            target_ranking(table, [("n0", "n1"), ("n0", "n1", "n2")])


class TestEvaluateEdges:
    names = tuple(f"n{i}" for i in range(12))

    def by_name(self, edges):
        return [(self.names[s], self.names[t]) for s, t in edges.T.tolist()]

    def test_against_a_loop(self):
        scores, known, test, validation = matrix(4)
        found = evaluate_edges(scores, test, known, known_true=validation, k=(5, 10), top_k=(1, 3))
        pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
        pairs = [p for p in pairs if p not in as_set(known) | as_set(validation)]
        labels = np.array([p in as_set(test) for p in pairs])
        values = np.array([scores[p] for p in pairs])
        assert (found.n_positives, found.n_negatives) == (10, len(pairs) - 10)
        assert found.n_candidates == len(pairs)
        assert found.roc_auc == pytest.approx(roc_auc_score(labels, values))
        assert found.average_precision == pytest.approx(average_precision_score(labels, values))
        assert found.precision_at == {k: pytest.approx(precision_at_k(values, labels, k)) for k in (5, 10)}
        assert found.recall_at == {k: pytest.approx(recall_at_k(values, labels, k)) for k in (5, 10)}
        ranks = edge_ranks(scores, test, known, known_true=validation)
        assert found.mrr == ranks.mrr()
        assert found.top_at == {k: ranks.top_at(k) for k in (1, 3)}
        assert found.mean_rank_candidates == ranks.n_candidates.mean()

    def test_validation_edges_are_negatives_only_if_not_named(self):
        scores, known, test, validation = matrix(5)
        clean = evaluate_edges(scores, test, known, known_true=validation)
        research = evaluate_edges(scores, test, known)
        assert research.n_negatives == clean.n_negatives + validation.shape[1]
        everything = np.hstack([known, test, validation])
        assert evaluate_edges(scores, test, known, known_true=everything).to_dict() == clean.to_dict()

    def test_matrix_tensor_names_and_table_agree(self):
        scores, known, test, validation = matrix(6)
        expected = evaluate_edges(scores, test, known, known_true=validation).to_dict()
        assert evaluate_edges(
            torch.tensor(scores), torch.tensor(test), torch.tensor(known), known_true=validation
        ).to_dict() == (expected)
        positives, others = self.by_name(test), self.by_name(validation)
        named = evaluate_edges(scores, positives, self.by_name(known), known_true=others, names=self.names)
        assert named.to_dict() == expected
        rows = [(s, t, scores[i, j]) for i, s in enumerate(self.names) for j, t in enumerate(self.names) if i != j]
        table = pd.DataFrame(rows, columns=["src_func", "dst_func", "score"])
        table["has_edge"] = [(s, t) in self.by_name(known) for s, t, _ in rows]
        table = table.sample(frac=1, random_state=0)
        assert evaluate_edges(table, positives, known_true=others).to_dict() == expected
        categorical = table.astype({"src_func": "category", "dst_func": "category"})
        assert evaluate_edges(categorical, positives, known_true=others).to_dict() == expected

    def test_undefined_scores_come_last_and_are_counted(self):
        scores, known, test, _ = matrix(7, ties=False)
        scores[test[0, :2], test[1, :2]] = np.nan
        low = np.where(np.isnan(scores), -1e9, scores)
        found, expected = evaluate_edges(scores, test, known), evaluate_edges(low, test, known)
        assert found.n_undefined == 2
        assert found.to_dict() == {**expected.to_dict(), "n_undefined": 2}

    def test_roles(self):
        scores, known, test, _ = matrix(8)
        roles = {edge: "merge" if i < 4 else "sink" for i, edge in enumerate(map(tuple, test.T.tolist()))}
        found = evaluate_edges(scores, test, known, roles=roles)
        assert list(found.by_role) == ["merge", "sink"]
        assert all((each.by_role, each.by_group) == ({}, {}) for each in found.by_role.values())
        merge = evaluate_edges(scores, test[:, :4], known, known_true=test[:, 4:])
        assert found.by_role["merge"].to_dict() == merge.to_dict()
        assert found.by_role["sink"].n_positives == 6
        with pytest.raises(ValueError, match="roles has no label for 9 of the positives"):
            evaluate_edges(scores, test, known, roles=dict(list(roles.items())[:1]))

    def test_groups(self):
        scores, known, test, _ = matrix(9, ties=False)
        groups = np.random.default_rng(0).integers(0, 30, (12, 12))
        found = evaluate_edges(scores, test, known, groups=groups)
        positives = as_set(test)
        best: dict[int, float] = {}
        true = set()
        for i in range(12):
            for j in range(12):
                if i != j and (i, j) not in as_set(known):
                    best[groups[i, j]] = max(best.get(groups[i, j], -np.inf), scores[i, j])
                    if (i, j) in positives:
                        true.add(groups[i, j])
        top = sorted(best, key=best.get, reverse=True)[: len(true)]
        (grouped,) = found.by_group.values()
        assert (grouped.k, grouped.n_groups, grouped.n_true_groups) == (len(true), len(best), len(true))
        share = len(true & set(top)) / len(true)
        assert (grouped.precision, grouped.recall) == pytest.approx((share, share))
        holds = [group in true for group in best]
        assert found.to_dict()["group_roc_auc"] == pytest.approx(roc_auc_score(holds, list(best.values())))
        assert found.to_dict()["group_average_precision"] == pytest.approx(
            average_precision_score(holds, list(best.values()))
        )
        assert found.chance["group_roc_auc"] == grouped.chance_roc_auc
        with pytest.raises(ValueError, match="groups must have the shape"):
            evaluate_edges(scores, test, known, groups=groups[:2])

    def test_group_of_another_true_edge_is_no_false_discovery(self):
        scores, known, test, _ = matrix(9, ties=False)
        groups = np.random.default_rng(0).integers(0, 30, (12, 12))
        roles = {tuple(edge): "kept" if place < 5 else "other" for place, edge in enumerate(test.T.tolist())}
        role = evaluate_edges(scores, test, known, groups=groups, roles=roles).by_role["kept"]
        alone = evaluate_edges(scores, test[:, :5], known, known_true=test[:, 5:], groups=groups)
        assert role.by_group == alone.by_group
        (grouped,) = alone.by_group.values()
        to_find, others = ({int(groups[i, j]) for i, j in part.T} for part in (test[:, :5], test[:, 5:]))
        assert grouped.n_left_out == len(others - to_find) > 0
        assert grouped.n_true_groups == len(to_find)

    def test_a_constant_score_gets_its_chance_expectation(self):
        _, known, test, validation = matrix(10)
        found = evaluate_edges(np.ones((12, 12)), test, known, known_true=validation, k=(3, 10), top_k=(1, 4))
        values = found.to_dict()
        assert set(found.chance) == set(values) - {
            "n_positives", "n_negatives", "n_candidates", "n_undefined", "mean_rank_candidates"
        }  # fmt: skip
        for name, expected in found.chance.items():
            assert values[name] == pytest.approx(expected), name

    @pytest.mark.parametrize("within", ["target", "source"])
    def test_random_scores_give_the_chance_column(self, within):
        rng = np.random.default_rng(0)
        _, known, test, _ = matrix(11)
        draws = [evaluate_edges(rng.random((12, 12)), test, known, within=within, k=(5,)) for _ in range(400)]
        for name, expected in draws[0].chance.items():
            values = np.array([draw.to_dict()[name] for draw in draws])
            if name == "average_precision":  # a random order does a little better than one threshold
                assert values.mean() > expected
            else:
                assert abs(values.mean() - expected) < 5 * values.std() / 20

    def test_counts_of_the_benchmark(self):
        from gsnn.simulation import convergence_graph, held_out_edges, split_held_out

        for n, non_edges, candidates in ((12, 519, 535), (25, 2378, 2413)):
            _, _, names, _, edges = convergence_graph(n)
            validation, test = split_held_out(n)
            known = sorted(set(edges) - set(held_out_edges(n)))
            scores = np.zeros((2 * n, 2 * n))
            assert evaluate_edges(scores, held_out_edges(n), known, names=names).n_candidates == candidates
            clean = evaluate_edges(scores, test, known, known_true=validation, names=names)
            assert clean.n_negatives == non_edges
            research = evaluate_edges(scores, test, known, names=names)
            assert research.n_negatives == candidates - len(test)

    def test_errors(self):
        scores = np.zeros((3, 3))
        with pytest.raises(ValueError, match="positives is empty"):
            evaluate_edges(scores, [])
        with pytest.raises(ValueError, match="names must have one name for each of the 3 rows, got 2"):
            evaluate_edges(scores, [(0, 1)], names=["a", "b"])
        with pytest.raises(ValueError, match=r"are no candidates: \[\('a', 'b'\)\]"):
            evaluate_edges(scores, [("a", "b")], [("a", "b")], names=["a", "b", "c"])
        with pytest.raises(ValueError, match=r"scores must have shape \(N, N\)"):
            evaluate_edges(np.zeros(3), [(0, 1)])
        with pytest.raises(ValueError, match="unknown ties"):
            evaluate_edges(scores, [(0, 1)], ties="mean")
        with pytest.raises(ValueError, match="the table has no column 'score'"):
            evaluate_edges(pd.DataFrame({"src_func": ["a"], "dst_func": ["b"]}), [("a", "b")])
        table = pd.DataFrame({"src_func": ["a"], "dst_func": ["bb"], "score": [1.0]})
        with pytest.raises(ValueError, match=r"the column dst_func names unknown nodes: \['bb'\]"):
            evaluate_edges(table, [("a", "b")], names=["a", "b"])

    def test_groups_at_several_numbers_of_places(self):
        scores, known, test, validation = matrix(9, ties=False)
        groups = np.random.default_rng(0).integers(0, 30, (12, 12))
        found = evaluate_edges(scores, test, known, known_true=validation, groups=groups, k=(4, 9))
        pairs = [(i, j) for i in range(12) for j in range(12) if i != j and (i, j) not in as_set(known)]
        at = tuple(np.array(pairs).T)
        labels, other = ([pair in as_set(edges) for pair in pairs] for edges in (test, validation))
        assert found.by_group == {
            k: group_metrics(scores[at], labels, groups[at], other_true=other, k=k) for k in (4, 9)
        }
        flat = found.to_dict()
        assert {"roc_auc", "precision@4", "top@5", "group_precision@4", "group_precision@9"} <= set(flat)
        assert set(flat) - set(found.chance) == {
            "n_positives", "n_negatives", "n_candidates", "n_undefined", "mean_rank_candidates",
            "group_average_precision", "group_n_groups", "group_n_true_groups", "group_n_left_out",
        }  # fmt: skip

    def test_roles_by_name(self):
        scores, known, test, _ = matrix(8)
        positives = self.by_name(test)
        roles = {edge: "ab"[place % 2] for place, edge in enumerate(positives)}
        found = evaluate_edges(scores, positives, self.by_name(known), names=list(self.names), roles=roles)
        by_place = {tuple(edge): "ab"[place % 2] for place, edge in enumerate(test.T.tolist())}
        expected = evaluate_edges(scores, test, known, roles=by_place)
        assert {role: each.to_dict() for role, each in found.by_role.items()} == {
            role: each.to_dict() for role, each in expected.by_role.items()
        }
        without = ", ".join(str(edge) for edge in positives[2:7]).replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(ValueError, match=rf"^roles has no label for 8 of the positives: \[{without}\]$"):
            evaluate_edges(scores, positives, names=self.names, roles=dict(list(roles.items())[:2]))
        with pytest.raises(ValueError, match=r"^roles names unknown nodes: \['m0'\]"):
            evaluate_edges(scores, positives, names=self.names, roles={("m0", "n1"): "a"})

    @pytest.mark.parametrize("within", ["target", "source"])
    @pytest.mark.parametrize("filtered", [True, False])
    @pytest.mark.parametrize("ties", ["realistic", "optimistic", "pessimistic"])
    def test_rules_are_kept_and_reported(self, within, filtered, ties):
        scores, known, test, validation = matrix(2)
        found = evaluate_edges(
            scores, test, known, known_true=validation, within=within, filtered=filtered, ties=ties, chunk_size=3
        )
        ranks = edge_ranks(scores, test, known, known_true=validation, within=within, filtered=filtered)
        assert (found.within, found.filtered, found.ties) == (within, filtered, ties)
        assert found.mrr == ranks.mrr(ties)
        assert found.top_at == {k: ranks.top_at(k, ties) for k in (1, 3, 5)}
        assert found.mean_rank_candidates == ranks.n_candidates.mean()
        assert list(found.precision_at) == list(found.recall_at) == [10]
        assert (found.by_role, found.by_group) == ({}, {})
        counts = ranks.n_candidates
        assert found.chance["mrr"] == pytest.approx(np.mean([np.mean(1 / np.arange(1, n + 1)) for n in counts]))
        assert found.chance["top@3"] == pytest.approx(np.mean(np.minimum(3 / counts, 1)))
        assert found.chance["recall@10"] == pytest.approx(10 / found.n_candidates)
        assert found.chance["precision@10"] == found.chance["average_precision"] == 10 / found.n_candidates
        assert found.chance["roc_auc"] == 0.5
        assert evaluate_edges(scores, test, known, k=(1000,)).chance["recall@1000"] == 1.0

    def test_defaults(self):
        scores, known, test, _ = matrix(2)
        found = evaluate_edges(scores, test, known)
        assert (found.within, found.filtered, found.ties) == ("target", True, "realistic")
        assert list(found.top_at) == [1, 3, 5]
        loops = evaluate_edges(scores, np.hstack([test, [[3], [3]]]), known, exclude_self=False)
        assert loops.n_candidates == found.n_candidates + 12

    def test_undefined_negatives_are_counted_once_each(self):
        scores, known, test, validation = matrix(7, ties=False)
        scores[:, 3] = np.nan
        found = evaluate_edges(scores, test, known, known_true=validation)
        left_out = as_set(known) | as_set(validation)
        assert found.n_undefined == sum((i, 3) not in left_out for i in range(12) if i != 3)

    def test_table_with_a_column_of_its_own_and_names_given(self):
        scores, known, test, _ = matrix(6)
        rows = [(s, t, scores[i, j]) for i, s in enumerate(self.names) for j, t in enumerate(self.names) if i != j]
        table = pd.DataFrame(rows, columns=["src_func", "dst_func", "corr"])
        names = [*self.names, "nobody"]
        found = evaluate_edges(table, self.by_name(test), self.by_name(known), names=names, score_col="corr")
        assert found.n_negatives == 13 * 12 - 20 - 10
        assert found.n_undefined == 24
        # A column of known edges says nothing where they are given.
        marked = table.assign(has_edge=True)
        again = evaluate_edges(marked, self.by_name(test), self.by_name(known), names=names, score_col="corr")
        assert again.to_dict() == found.to_dict()

    def test_scores_and_marks_of_any_kind(self):
        scores, known, test, _ = matrix(6)
        expected = evaluate_edges(scores, test, known).to_dict()
        assert evaluate_edges(torch.tensor(scores, requires_grad=True), test, known).to_dict() == expected
        assert evaluate_edges(torch.tensor(scores).to(torch.bfloat16), test, known).to_dict() == expected
        assert evaluate_edges(scores.astype(int).tolist(), test, known).to_dict() == expected
        holes = np.where(np.arange(12)[:, None] == 3, None, scores)
        assert (
            evaluate_edges(holes, test, known).to_dict() == evaluate_edges(holes.astype(float), test, known).to_dict()
        )
        rows = [(s, t, scores[i, j]) for i, s in enumerate(self.names) for j, t in enumerate(self.names) if i != j]
        table = pd.DataFrame(rows, columns=["src_func", "dst_func", "score"])
        marks = [int((s, t) in self.by_name(known)) for s, t, _ in rows]
        for kind in (int, object):
            marked = table.assign(has_edge=pd.Series(marks, dtype=kind))
            assert evaluate_edges(marked, self.by_name(test)).to_dict() == expected

    @pytest.mark.parametrize("parameter", ["positives", "known", "known_true"])
    def test_errors_name_what_was_passed(self, parameter):
        edges = {"positives": [(0, 1)], "known": [(1, 2)], "known_true": [(2, 0)]}
        with pytest.raises(ValueError, match=rf"^{parameter} has an index out of range 0\.\.2: 0\.\.3$"):
            evaluate_edges(np.zeros((3, 3)), **edges | {parameter: [(0, 3)]})
        with pytest.raises(ValueError, match=rf"^{parameter} names unknown nodes: \['x'\]$"):
            evaluate_edges(np.zeros((3, 3)), **edges | {parameter: [("a", "x")]}, names=["a", "bbbbb", "ccccc"])

    def test_shapes_are_named(self):
        with pytest.raises(ValueError, match=r"^scores must have shape \(N, N\), got \(2, 3\)$"):
            evaluate_edges(np.zeros((2, 3)), [(0, 1)])
        with pytest.raises(ValueError, match=r"^scores must have shape \(N, N\), got \(2, 2, 2\)$"):
            evaluate_edges(np.zeros((2, 2, 2)), [(0, 1)])
        with pytest.raises(ValueError, match=r"^positives is empty: there is nothing to find$"):
            evaluate_edges(np.zeros((2, 2)), np.empty((2, 0)))
        with pytest.raises(ValueError, match=r"^groups must have the shape of the scores, \(2, 2\), got \(2,\)$"):
            evaluate_edges(np.zeros((2, 2)), [(0, 1)], groups=[0, 1])

    def test_nothing_but_positives(self):
        found = evaluate_edges(np.zeros((2, 2)), [(0, 1), (1, 0)])
        assert np.isnan(found.roc_auc)
        assert np.isnan(found.chance["roc_auc"])
        assert found.n_negatives == 0
