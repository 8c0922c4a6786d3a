"""What rankings agree on, against scipy and sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom, spearmanr

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


def test_verdict_by_the_two_that_agree_least():
    rng = np.random.default_rng(4)
    one = table(rng)
    assert compare({"one": one, "two": one}).verdict.tone == "good"
    other = table(np.random.default_rng(5))
    found = compare({"one": one, "two": other, "three": one}, tops=(10,))
    (row,) = [row for row in found.pairs.to_dict("records") if {row["first"], row["second"]} == {"one", "two"}]
    assert found.verdict.text.startswith(f"{row['overlap_10']} of the best 10 ")
    assert hypergeom.sf(row["overlap_10"] - 1, 40, 10, 10) > 0.05
    assert (found.verdict.short, found.verdict.tone) == ("the rankings do not agree", "bad")
    part = one.copy()
    part["rank"] = [*range(31, 41), *range(1, 31)]
    part.loc[part.index[:4], "rank"], part.loc[part.index[10:14], "rank"] = [1, 2, 3, 4], [31, 32, 33, 34]
    assert compare({"one": one, "two": part}, tops=(10,)).verdict.tone == "bad"
    wide = pd.concat([one.assign(target=f"t{k}", rank=one["rank"] + 40 * k) for k in range(5)])
    shifted = wide.assign(rank=(wide["rank"] + 193) % 200 + 1)
    found = compare({"one": wide, "two": shifted}, tops=(10,))
    assert found.pairs["overlap_10"].tolist() == [4]
    assert (found.verdict.short, found.verdict.tone) == ("the rankings agree in part", "unsure")
