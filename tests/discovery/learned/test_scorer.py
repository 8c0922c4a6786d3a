"""What learns from other problems: how it is taught, kept, and when it says that a problem is a stranger."""

import json

import numpy as np
import pytest

from gsnn.base.errors import DataError
from gsnn.base.workers import arrays_in_processes
from gsnn.discovery.learned.learn import OTHERS, AnsweredPairs, _weights, learn
from gsnn.discovery.learned.scorer import Scorer, figures

NAMES = ["signal", "noise", "constant"]


def lesson(seed, shift=0.0, k=400):
    """Pairs whose first feature tells missing edges; of every tenth pair the second is not defined."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(shift, 1, (k, 2)), np.ones((k, 1))], axis=1).astype(np.float32)
    label = rng.random(k) < 1 / (1 + np.exp(4 - 3 * (values[:, 0] - shift)))
    values[::10, 1] = np.nan
    return AnsweredPairs(NAMES, values, label, np.where(label, 1.0, rng.integers(1, 5, k)))


@pytest.fixture(scope="module")
def scorer():
    return learn([lesson(seed) for seed in range(6)], rounds=30, card={"problems": {"toy": 6}}, min_data_in_leaf=20)


def test_it_ranks_the_pairs_of_a_problem_that_it_has_not_seen(scorer):
    fresh = lesson(99)
    odds = scorer.log_odds(NAMES, fresh.values)
    true, others = odds[fresh.label], odds[~fresh.label]
    assert (true[:, None] > others).mean() > 0.85


def test_features_are_taken_by_name(scorer):
    fresh = lesson(99)
    expected = scorer.log_odds(NAMES, fresh.values)
    turned = np.concatenate([fresh.values[:, ::-1], np.zeros((400, 1), np.float32)], axis=1)
    np.testing.assert_array_equal(scorer.log_odds([*NAMES[::-1], "unknown"], turned), expected)
    with pytest.raises(ValueError, match=r"needs features that were not given: \['constant'\]"):
        scorer.log_odds(NAMES[:2], fresh.values[:, :2])


def test_it_is_kept_as_text_and_read_back(scorer, tmp_path):
    scorer.save(tmp_path / "mine.json")
    again = Scorer.load(tmp_path / "mine.json")
    fresh = lesson(99)
    np.testing.assert_array_equal(again.log_odds(NAMES, fresh.values), scorer.log_odds(NAMES, fresh.values))
    assert again.distance(NAMES, fresh.values) == pytest.approx(scorer.distance(NAMES, fresh.values), abs=2e-2)
    assert again.card == {"problems": {"toy": 6}}
    assert json.loads((tmp_path / "mine.json").read_text())["names"] == NAMES


@pytest.mark.parametrize("text", ["", "{}", '{"format": "gsnn scorer 0"}', "[1]", '{"format": "gsnn scorer 1"}'])
def test_what_is_no_scorer_is_refused(tmp_path, text):
    (tmp_path / "wrong.json").write_text(text)
    with pytest.raises(DataError, match=r"wrong\.json"):
        Scorer.load(tmp_path / "wrong.json")


def test_the_same_lessons_and_seed_give_the_same_trees(scorer):
    again = learn([lesson(seed) for seed in range(6)], rounds=30, min_data_in_leaf=20)
    assert again.trees == scorer.trees
    assert learn([lesson(seed) for seed in range(6)], rounds=30, min_data_in_leaf=20, seed=1).trees != scorer.trees


def test_features_can_be_left_out(scorer):
    blind = learn([lesson(seed) for seed in range(6)], rounds=5, leave_out=["sig"], min_data_in_leaf=20)
    assert blind.names == ["noise", "constant"]


def test_every_problem_counts_by_the_root_of_its_missing_edges():
    for given in (lesson(0), AnsweredPairs(NAMES, lesson(1).values, lesson(1).label)):
        weight = _weights(given)
        root = np.sqrt(given.label.sum())
        assert weight[given.label].sum() == pytest.approx(root)
        assert weight[~given.label].sum() == pytest.approx(OTHERS * root)


def test_lessons_without_hidden_edges_teach_nothing():
    empty = AnsweredPairs(NAMES, lesson(0).values, np.zeros(400, dtype=bool))
    with pytest.raises(ValueError, match="at least one with missing edges"):
        learn([empty])
    with pytest.raises(ValueError, match="the same features in the same order"):
        learn([lesson(0), AnsweredPairs(NAMES[::-1], lesson(1).values, lesson(1).label)])


def test_figures_are_moments_over_the_pairs_that_each_stands_for():
    given = lesson(3)
    repeated = np.repeat(given.values, given.weight.astype(int), axis=0)
    expected = np.concatenate([np.nanmean(repeated, axis=0), np.nanstd(repeated, axis=0)])
    np.testing.assert_allclose(figures(given.values, given.weight), expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(figures(np.full((3, 2), np.nan))).all()


def test_a_stranger_is_far_and_a_problem_of_the_kind_is_not(scorer):
    assert scorer.distance(NAMES, lesson(50).values) < 2
    assert scorer.distance(NAMES, lesson(50, shift=4.0).values) > 2.3
    assert scorer.familiar(scorer.figures[0]) == 0


def test_processes_that_are_forked_after_it_was_used_can_use_it(scorer):
    fresh = lesson(99)
    expected = scorer.log_odds(NAMES, fresh.values)

    def again():
        read = Scorer(scorer.trees, scorer.names, scorer.figures)
        return {"odds": read.log_odds(NAMES, fresh.values)}

    for found in arrays_in_processes([again, again], workers=2):
        np.testing.assert_array_equal(found["odds"], expected)
