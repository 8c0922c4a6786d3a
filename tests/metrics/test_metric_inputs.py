"""What the metrics take: indices, names and tables, and what is said about anything else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.metrics import edge_ranks, evaluate_edges
from gsnn.metrics.edges import as_index, name_codes, table_matrix, table_nodes


def table(rows, **columns):
    found = pd.DataFrame(rows, columns=["src_func", "dst_func", "score"])
    return found.assign(**columns)


class TestIndices:
    @pytest.mark.parametrize(
        "edges",
        [
            np.array([[2, 0, 2], [1, 1, 1]]),
            np.array([[2, 0, 2], [1, 1, 1]], dtype=np.uint8),
            torch.tensor([[2, 0, 2], [1, 1, 1]], requires_grad=False),
            [(2, 1), (0, 1), (2, 1)],
        ],
        ids=["array", "bytes", "tensor", "pairs"],
    )
    def test_order_is_kept_and_repeats_are_dropped_where_asked(self, edges):
        once, as_given = as_index("edges", edges, 3), as_index("edges", edges, 3, unique=False)
        assert once.tolist() == [[2, 0], [1, 1]]
        assert as_given.tolist() == [[2, 0, 2], [1, 1, 1]]
        assert once.dtype == as_given.dtype == np.int64

    def test_pairs_that_can_be_read_once(self):
        assert as_index("edges", zip([2, 0, 2], [1, 1, 1], strict=True), 3).tolist() == [[2, 0], [1, 1]]

    def test_an_edge_and_its_reverse_are_two(self):
        pairs = [(s, t) for s in range(4) for t in range(4)]
        assert as_index("edges", pairs[::-1], 4).T.tolist() == [list(pair) for pair in pairs[::-1]]

    @pytest.mark.parametrize("edges", [[], (), np.empty((2, 0)), np.empty((0, 2)), torch.zeros(2, 0), np.array([])])
    def test_nothing(self, edges):
        found = as_index("edges", edges, 3)
        assert found.shape == (2, 0)
        assert found.dtype == np.int64

    def test_names(self):
        names = ["a", "b", "c"]
        assert as_index("edges", [("c", "a"), ["a", "b"]], 3, names).tolist() == [[2, 0], [0, 1]]
        assert as_index("edges", [(2, 0)], 3, names).tolist() == [[2], [0]]

    def test_ends_of_the_range(self):
        assert as_index("edges", [(0, 2)], 3).tolist() == [[0], [2]]
        with pytest.raises(ValueError, match=r"^edges has an index out of range 0\.\.2: 0\.\.3$"):
            as_index("edges", [(0, 1), (2, 3)], 3)
        with pytest.raises(ValueError, match=r"^edges has an index out of range 0\.\.2: -1\.\.2$"):
            as_index("edges", [(0, -1), (2, 1)], 3)

    def test_shapes_that_are_refused(self):
        for wrong in (np.zeros((3, 2), int), np.zeros((1, 2), int)):
            with pytest.raises(ValueError, match=r"^edges must have shape \(2, Q\), got .*; pass its transpose$"):
                as_index("edges", wrong, 3)
        for wrong in (np.zeros((3, 3), int), np.zeros(4, int), np.zeros((2, 2, 1), int), np.zeros((3, 1), int)):
            with pytest.raises(ValueError, match=r"^edges must have shape \(2, Q\), got \([0-9, ]+\)$"):
                as_index("edges", wrong, 3)

    def test_what_is_no_pair(self):
        for wrong in (["ab"], [(0, 1), (0, 1, 2)], [(0,)]):
            with pytest.raises(ValueError, match=r"^edges must be \(source, target\) pairs or a .* array, got \["):
                as_index("edges", wrong, 3, ["a", "b", "c"])
        with pytest.raises(ValueError, match=r"got \['x0', 'x1', 'x2'\]$"):
            as_index("edges", [f"x{i}" for i in range(9)], 3)

    def test_fractions(self):
        with pytest.raises(ValueError, match=r"^edges must hold whole numbers, got float64$"):
            as_index("edges", [(0.0, 1.0)], 3)

    def test_names_that_are_needed_or_unknown(self):
        with pytest.raises(ValueError, match=r"^edges has names of nodes; pass names= with the name of each row"):
            as_index("edges", [(0, 1), (0, "b")], 3)
        with pytest.raises(ValueError, match=r"^edges names unknown nodes: \['zzz'\]$"):
            as_index("edges", [("alpha", "zzz")], 2, ["alpha", "beta"])
        with pytest.raises(ValueError, match=r"unknown nodes: \['alphq'\]; the closest to 'alphq' are \['alpha'\]$"):
            as_index("edges", [("alpha", "beta"), ("alphq", "beta")], 2, ["alpha", "beta"])
        with pytest.raises(ValueError, match=r"unknown nodes: \['q0', 'q1', 'q2', 'q3', 'q4'\]"):
            as_index("edges", [(f"q{i}", "beta") for i in range(8)], 2, ["alpha", "beta"])


class TestTables:
    rows = (("a", "b", 0.5), ("b", "c", -1.0), ("c", "a", 2.0))

    def test_matrix_of_a_table(self):
        expected = np.full((3, 3), np.nan)
        expected[0, 1], expected[1, 2], expected[2, 0] = 0.5, -1.0, 2.0
        np.testing.assert_array_equal(table_matrix(table(self.rows), "score", ["a", "b", "c"]), expected)

    def test_missing_numbers_of_pandas(self):
        missing = table(self.rows, score=pd.array([0.5, pd.NA, 2.0], dtype="Float64"))
        found = table_matrix(missing, "score", ["a", "b", "c"])
        assert found.dtype == np.float64
        assert (found[0, 1], found[2, 0]) == (0.5, 2.0)
        assert np.isnan(found[1, 2])

    def test_nodes_are_those_of_both_columns_in_order(self):
        assert table_nodes(table((("c", "a", 0.0), ("a", "d", 0.0), ("c", "b", 0.0)))) == ["c", "a", "d", "b"]
        kind = pd.CategoricalDtype(["d", "c", "b", "a", "unused"])
        mixed = table((("c", "a", 0.0), ("a", "e", 0.0))).astype({"src_func": kind})
        assert table_nodes(mixed) == ["d", "c", "b", "a", "unused", "e"]

    def test_codes_are_places_among_the_names(self):
        values = ["b", "z", "a", "b"]
        kind = pd.CategoricalDtype(["z", "b", "a"])
        for column in (pd.Series(values), pd.Series(values, dtype=kind)):
            assert name_codes(column, ["a", "b"]).tolist() == [1, -1, 0, 1]
        # Names that differ in what fixed-width strings of numpy would drop.
        assert name_codes(pd.Series(["a\0", "a"]), ["a", "a\0"]).tolist() == [1, 0]

    @pytest.mark.parametrize("column", ["src_func", "dst_func"])
    def test_unknown_names_are_those_of_the_column(self, column):
        wrong = table(self.rows)
        wrong.loc[1, column] = "x"
        with pytest.raises(ValueError, match=rf"^the column {column} names unknown nodes: \['x'\]"):
            table_matrix(wrong, "score", ["a", "b", "c"])

    def test_missing_category_is_no_node(self):
        gap = table(self.rows).astype({"src_func": "category"})
        gap.loc[1, "src_func"] = None
        with pytest.raises(ValueError, match=r"^the column src_func names unknown nodes: "):
            table_matrix(gap, "score", ["a", "b", "c"])

    @pytest.mark.parametrize("column", ["src_func", "dst_func", "score"])
    def test_absent_columns(self, column):
        with pytest.raises(ValueError, match=rf"^the table has no column '{column}'; it has \["):
            evaluate_edges(table(self.rows).drop(columns=column), [("a", "b")], names=["a", "b", "c"])


def test_matrix_needs_as_many_names_as_rows():
    scores = np.arange(9.0).reshape(3, 3)
    assert edge_ranks(scores, [("a", "b")], names=["a", "b", "c"]).rank().tolist() == [2.0]
