"""Average ranks against scipy and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gmean, rankdata

from gsnn.ask.agreement import average_ranks, pair_ranks
from gsnn.edges.pairs import PriorEdges, ScoredPairs
from gsnn.graph import Graph


@pytest.fixture
def prior():
    return PriorEdges(
        Graph.from_edges(
            [("x", "a"), ("a", "b"), ("b", "c"), ("c", "y")],
            input_nodes=["x"],
            function_nodes=["a", "b", "c"],
            output_nodes=["y"],
        )
    )


def scored(prior, score, sign=None):
    columns = {"p_value": lambda rows: np.zeros(len(rows))}
    if sign is not None:
        columns["sign"] = lambda rows: np.full(len(rows), sign, np.int8)
    return ScoredPairs(prior, np.array(score, float), "corr", columns)


def test_ranks_are_scipys(prior):
    score = np.array([[9, 3, 5], [5, 9, 2], [np.nan, 1, 9]], float)
    ranks = pair_ranks(scored(prior, score))
    candidates = prior.candidates() & ~np.isnan(score)
    np.testing.assert_array_equal(ranks[candidates], rankdata(-score[candidates]))
    assert np.isnan(ranks[2, 0])
    # a -> b is known: its place is between those of the candidates.
    assert ranks[0, 1] == (score[candidates] > 3).sum() + 0.5


def test_the_average_is_one_over_the_geometric_mean(prior):
    rng = np.random.default_rng(1)
    members = [scored(prior, rng.normal(size=(3, 3)), sign) for sign in (1, -1, 1)]
    members[1].score[0, 2] = np.nan
    together = average_ranks(members)
    ranks = np.stack([pair_ranks(each) for each in members])
    np.testing.assert_allclose(together.score, 1 / gmean(ranks, axis=0))
    assert np.isnan(together.score[0, 2])
    rows = np.array([3, 6, 7])
    table = together.table(rows)
    np.testing.assert_array_equal(table["worst_rank"], ranks.max(axis=0).ravel()[rows])
    assert table["sign"].tolist() == [1, 1, 1]
    assert "p_value" not in table


def test_scores_on_other_scales_weigh_the_same(prior):
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    before = average_ranks([scored(prior, one), scored(prior, other)])
    after = average_ranks([scored(prior, np.exp(one) * 1e3), scored(prior, other)])
    np.testing.assert_array_equal(before.score, after.score)
