"""The fast order against numpy's stable sort."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gsnn.edges.stats import descending, descending_key, largest

scores = hnp.arrays(
    np.float64,
    st.integers(1, 60),
    elements=st.one_of(
        st.floats(allow_nan=True), st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-15, 1.0 - 1e-16, 5e-324, np.inf, -np.inf])
    ),
)


@given(scores)
def test_order_is_numpys_stable_one(score):
    np.testing.assert_array_equal(descending(score), np.argsort(-score, kind="stable"))


@given(scores, st.integers(0, 70))
def test_largest_are_the_head_of_the_order(score, k):
    score = np.nan_to_num(score)
    np.testing.assert_array_equal(largest(score, k), np.sort(np.argsort(-score, kind="stable")[:k]))


def test_many_scores_that_agree_in_their_leading_bits():
    rng = np.random.default_rng(0)
    score = 1 + 1e-13 * rng.integers(0, 50, 20_000)
    score[::7] = np.nan
    np.testing.assert_array_equal(descending(score), np.argsort(-score, kind="stable"))


def test_none_and_all_of_them():
    score = np.array([2.0, 1.0, 2.0])
    for k, places in ((0, []), (1, [0]), (2, [0, 2]), (3, [0, 1, 2]), (4, [0, 1, 2])):
        found = largest(score, k)
        assert found.tolist() == places
        assert found.dtype == descending(score).dtype == np.int64


def test_keys_order_as_scores_do():
    score = np.array([np.inf, 1.5, 1.0, 5e-324, 0.0, -0.0, -5e-324, -1.0, -np.inf, np.nan])
    before = score.copy()
    key = descending_key(score)
    assert key.dtype == np.uint64
    assert key[4] == key[5]
    assert (np.diff(np.delete(key, 5).astype(object)) > 0).all()
    assert key[-1] == 2**64 - 1
    np.testing.assert_array_equal(score, before)
