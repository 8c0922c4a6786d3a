"""The harness of refinement under the null, in its quick form."""

from __future__ import annotations

import pandas as pd
import pytest


@pytest.fixture
def harness(load_benchmark):
    return load_benchmark("refine_null")


def test_permuted_responses_let_nothing_in(harness, tmp_path):
    path = tmp_path / "null.csv"
    cells = [("B", decision, "permuted", 0) for decision in ("single", "bisect")]
    harness.run(cells, path, quick=True)
    done = pd.read_csv(path)
    assert done[["inferred", "random"]].to_numpy().tolist() == [[3, 3], [3, 3]]
    assert done[["inferred_kept", "random_kept"]].to_numpy().sum() == 0
    before = path.read_bytes()
    harness.run(cells, path, quick=True)
    assert path.read_bytes() == before
    assert "| B | single | permuted | 1 | 0 of 3 |  | 0 of 3 | 0% (0%-46%) |" in harness.table(path)


def test_of_all_random_candidates_five_percent_pass_the_first_gate(harness, tmp_path):
    path = tmp_path / "first.csv"
    harness.run([("B", "first gate", responses, 0) for responses in ("real", "permuted")], path, quick=True)
    real, permuted = pd.read_csv(path).to_dict("records")
    graph = harness.problem("B", 0, quick=True)[0].graph
    assert permuted["random"] == graph.N * (graph.N - 1) - len(graph.function_edges)
    # Fewer with the real responses: hidden edges and their aliases are left out.
    assert real["random"] < permuted["random"] - real["hidden"]
    for row in (real, permuted):
        assert row["inferred"] == 3
        assert row["random_kept"] <= 0.05 * permuted["random"]
    assert 0.02 * permuted["random"] < permuted["random_kept"]


def test_aliases_of_hidden_edges_are_told_apart(harness):
    data, _, hidden = harness.problem("B", 0, quick=True)
    assert not harness.not_aliases(data, hidden, hidden).any()
    # f1 -> f13 is hidden, and f2 feeds f13 alone: f1 -> f2 sends the same inputs to the same outputs.
    assert not harness.not_aliases(data, [("f1", "f2")], hidden).any()
    free = [("f0", "f1"), ("f23", "f0")]
    assert harness.not_aliases(data, free, hidden).all()
    assert harness.not_aliases(data, free, []).all()
