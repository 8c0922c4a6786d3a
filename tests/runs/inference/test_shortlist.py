"""The short list of candidates, against the list itself."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gsnn.runs.inference.shortlist import shortlist


def listed(pairs, groups=None):
    table = pd.DataFrame(pairs, columns=["source", "target"])
    table = table.assign(rank=np.arange(1, len(table) + 1), score=np.linspace(1, 0, len(table)), known=False)
    return table if groups is None else table.assign(alias_group=groups)


def shown(found):
    return [(row["source"], row["target"]) for row in found.rows]


def test_look_alikes_stand_in_one_row_with_their_members():
    edges = listed([("a", "x"), ("b", "x"), ("c", "y"), ("d", "x"), ("e", "z")], [4, 4, 7, 4, 9])
    found = shortlist(edges, n=2)
    assert shown(found) == [("a", "x"), ("c", "y")]
    assert found.rows[0]["look_alikes"] == [("b", "x"), ("d", "x")]
    assert found.to_list()[0]["look_alikes"] == ["b:x", "d:x"]
    assert found.rows[1]["look_alikes"] == []


def test_one_target_does_not_fill_the_list_and_it_is_said():
    edges = listed([(f"s{i}", "hub") for i in range(9)] + [("t", "u"), ("v", "w"), ("p", "q"), ("k", "l")])
    found = shortlist(edges, n=5)
    assert shown(found) == [("s0", "hub"), ("s1", "hub"), ("s2", "hub"), ("t", "u"), ("v", "w")]
    assert [row["rank"] for row in found.rows] == [1, 2, 3, 10, 11]
    assert found.notes == [
        "5 of the best 5 have the target hub; shown are at most 3 of each source and target, where there are others"
    ]
    # Where there are no others, the best of those that were passed over fill up, in order.
    only = shortlist(listed([(f"s{i}", "hub") for i in range(9)]), n=5)
    assert [row["rank"] for row in only.rows] == [1, 2, 3, 4, 5]
    assert only.notes == ["5 of the best 5 have the target hub"]


def test_a_group_that_fills_the_top_is_said():
    pairs = [(f"s{i}", f"t{i}") for i in range(20)]
    found = shortlist(listed(pairs, [0] * 9 + list(range(1, 12))))
    assert found.notes[0].startswith("9 of the best 10 come from one group of look-alikes")
    assert len(found.rows) == 10


def test_known_edges_and_empty_tables():
    edges = listed([("a", "b")]).assign(known=True)
    assert shortlist(edges).rows == []
    assert shortlist(edges.head(0)).notes == []
