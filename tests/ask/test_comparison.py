"""What rankings agree on, against scipy and sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from gsnn.ask import compare
from gsnn.base.errors import DataError


def table(rng, n=40, drop=()):
    order = rng.permutation(n)
    found = pd.DataFrame({"source": [f"s{i}" for i in order], "target": "t", "rank": np.arange(1, n + 1)})
    return found[~found["source"].isin(drop)]


def test_spearman_and_overlap():
    rng = np.random.default_rng(0)
    one, other = table(rng), table(rng, drop=("s3", "s7"))
    found = compare({"one": one, "two": other}, tops=(5, 10, 30))
    (row,) = found.pairs.to_dict("records")
    both = one.merge(other, on=["source", "target"])
    assert row["candidates"] == 38
    assert row["spearman"] == pytest.approx(spearmanr(both["rank_x"], both["rank_y"]).statistic)
    best = [set(both.nsmallest(10, f"rank_{end}")["source"]) for end in "xy"]
    assert (row["overlap_10"], row["chance_10"]) == (len(best[0] & best[1]), pytest.approx(100 / 38))
    assert "overlap_30" not in row  # of 38, two rankings share most by chance


def test_edges_high_in_all_come_first():
    rng = np.random.default_rng(1)
    tables = {name: table(rng) for name in "abc"}
    edges = compare(tables).edges
    assert (edges["worst"] == edges[list("abc")].max(axis=1)).all()
    assert edges["worst"].is_monotonic_increasing
    assert len(compare(tables).high_in_all(5)) == (edges["worst"] <= 5).sum()
    first = tables["a"].set_index("source")["rank"]
    assert edges.set_index("source")["a"].to_dict() == first.to_dict()


def test_known_edges_of_one_are_no_candidates_of_any():
    rng = np.random.default_rng(2)
    one, other = table(rng), table(rng)
    one = one.assign(known=one["source"].eq("s5"))
    assert "s5" not in set(compare({"one": one, "two": other}).edges["source"])


def test_refuses_what_cannot_be_compared():
    rng = np.random.default_rng(3)
    one = table(rng)
    with pytest.raises(DataError, match="at least two runs"):
        compare({"one": one})
    with pytest.raises(DataError, match="no candidate edge in common"):
        compare({"one": one, "two": one.assign(target="another")})
    with pytest.raises(DataError, match="edges of two have no column 'rank'"):
        compare({"one": one, "two": one.drop(columns="rank")})
