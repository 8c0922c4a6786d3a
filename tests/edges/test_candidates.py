"""Edges that a user names: what is typed, pairs and files."""

from __future__ import annotations

import pytest

from gsnn.base.errors import DataError
from gsnn.edges.candidates import Selection, named_edges

FUNCTIONS = ["a", "b", "a:b", "b:a", "c"]


def test_every_way_to_name_an_edge(tmp_path):
    (tmp_path / "all.sif").write_text("a\t1\tc\nc\t1\tb\n")
    found = named_edges(["a:c", ("a:b", "c"), tmp_path / "all.sif"], FUNCTIONS, "forbidden")
    assert [(FUNCTIONS[row // 5], FUNCTIONS[row % 5]) for row in found.rows] == [("a", "c"), ("a:b", "c"), ("c", "b")]
    assert found.notes == []
    (tmp_path / "part.sif").write_text("a\t1\tc\na\t1\tx\nc\t1\tc\n")
    found = named_edges([str(tmp_path / "part.sif")], FUNCTIONS, "required")
    assert found.rows.tolist() == [4]
    assert len(found.notes) == 1
    assert found.notes[0].startswith("2 of 3 required edges in ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a:b:a", "forbidden edge 'a:b:a' can be read in 2 ways; put it into a file of edges"),
        ("a:a", "forbidden edge 'a:a' is a self-edge, which is no candidate"),
        ("c:bb", "there is no 'bb' (did you mean 'b'?)"),
        (("c", "zz"), "forbidden edge 'c:zz' is not between two functions of the network: there is no 'zz'"),
        (("a", "b", "c"), "forbidden edge 'a:b:c' is not between two functions"),
        ("nowhere.csv", "forbidden edge 'nowhere.csv' is neither A:B nor a file of edges"),
    ],
)
def test_what_is_no_edge_is_told(given, message):
    with pytest.raises(DataError) as caught:
        named_edges([given], FUNCTIONS, "forbidden")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["top", "per_target"])
def test_limits_are_at_least_one(name):
    with pytest.raises(DataError, match=f"{name.replace('_', '-')} must be at least 1, got 0; leave it out"):
        Selection(**{name: 0})
