"""Edges that a user names: what is typed, pairs and files."""

from __future__ import annotations

import pytest

from gsnn.base.errors import DataError
from gsnn.edges.candidates import Ends, Selection, named_edges
from gsnn.graph.kinds import FUNCTION_EDGES, INPUT_EDGES, OUTPUT_EDGES

FUNCTIONS = ["a", "b", "a:b", "b:a", "c"]
ENDS = [Ends(FUNCTION_EDGES, FUNCTIONS, FUNCTIONS)]
EVERY_KIND = [Ends(INPUT_EDGES, ["x1", "x2"], FUNCTIONS), *ENDS, Ends(OUTPUT_EDGES, FUNCTIONS, ["y"])]


def typed(given, ends=ENDS, *, patterns=False):
    """(kind, source, target) of every edge that was understood."""
    found = named_edges(given, ends, "forbidden", patterns=patterns)
    by_kind = {each.kind: each for each in ends}
    return [
        (
            kind,
            by_kind[kind].sources[row // len(by_kind[kind].targets)],
            by_kind[kind].targets[row % len(by_kind[kind].targets)],
        )
        for kind, rows in found.rows.items()
        for row in rows
    ]


def test_edges_of_every_kind_and_patterns():
    assert typed(["x1:a", "c:y", ("b", "c")], EVERY_KIND) == [
        (INPUT_EDGES, "x1", "a"),
        (FUNCTION_EDGES, "b", "c"),
        (OUTPUT_EDGES, "c", "y"),
    ]
    # An exact edge wins over what its letters match as a pattern; self pairs are never meant.
    assert typed(["x*:c"], EVERY_KIND, patterns=True) == [(INPUT_EDGES, "x1", "c"), (INPUT_EDGES, "x2", "c")]
    assert typed(["c:*"], patterns=True) == [(FUNCTION_EDGES, "c", name) for name in FUNCTIONS[:-1]]
    with pytest.raises(DataError, match="forbidden edge 'x\\*:c' is not between two functions"):
        typed(["x*:c"], ENDS, patterns=True)
    with pytest.raises(DataError, match="there is no 'c\\*'"):
        typed(["c*:zz*"], ENDS)


def test_every_way_to_name_an_edge(tmp_path):
    (tmp_path / "all.sif").write_text("a\t1\tc\nc\t1\tb\n")
    found = named_edges(["a:c", ("a:b", "c"), tmp_path / "all.sif"], ENDS, "forbidden")
    assert [(FUNCTIONS[row // 5], FUNCTIONS[row % 5]) for row in found.rows[FUNCTION_EDGES]] == [
        ("a", "c"),
        ("a:b", "c"),
        ("c", "b"),
    ]
    assert found.notes == []
    (tmp_path / "part.sif").write_text("a\t1\tc\na\t1\tx\nc\t1\tc\n")
    found = named_edges([str(tmp_path / "part.sif")], ENDS, "required")
    assert found.rows[FUNCTION_EDGES].tolist() == [4]
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
        named_edges([given], ENDS, "forbidden")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["top", "per_target"])
def test_limits_are_at_least_one(name):
    with pytest.raises(DataError, match=f"{name.replace('_', '-')} must be at least 1, got 0; leave it out"):
        Selection(**{name: 0})
