"""A table against a truth: the metrics are those of the parts it is made of."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from gsnn.base.errors import DataError
from gsnn.discovery import evaluate_table, read_roles, read_truth
from gsnn.discovery.baselines import degree_product, residual_correlation
from gsnn.edges.aliases import alias_groups
from gsnn.io.truth import read_table
from gsnn.metrics import evaluate_edges, group_metrics

from .conftest import simulated

HIDDEN = [("f1", "f5"), ("f2", "f7"), ("f6", "f9")]


@pytest.fixture
def graph():
    return simulated(5, without=HIDDEN).graph


@pytest.fixture
def table(graph):
    rng = np.random.default_rng(0)
    pairs = [(s, t) for s in graph.functions for t in graph.functions if s != t]
    known = set(graph.function_edges)
    score = [rng.normal() + 2 * (pair in HIDDEN) for pair in pairs]
    frame = pd.DataFrame(pairs, columns=["source", "target"])
    return frame.assign(score=score, known=[pair in known for pair in pairs])


def test_figures_against_scikit_learn(table, graph):
    found = evaluate_table(table, HIDDEN, graph=graph)
    rows = table[~table["known"]]
    label = [pair in HIDDEN for pair in zip(rows["source"], rows["target"], strict=True)]
    wide = found.wide()
    assert wide.loc["table", "roc_auc"] == pytest.approx(roc_auc_score(label, rows["score"]))
    assert wide.loc["table", "average_precision"] == pytest.approx(average_precision_score(label, rows["score"]))
    places = rows.assign(label=label).sort_values("score", ascending=False)["label"]
    assert wide.loc["table", "precision@3"] == pytest.approx(places.head(3).mean())
    assert found.counts == {
        "n_truth": 3, "n_known": 0, "n_self": 0, "n_outside": 0, "n_positives": 3, "n_unscored": 0
    }  # fmt: skip


def test_baselines_and_groups_stand_beside(table, graph):
    rng = np.random.default_rng(1)
    x, residual = rng.normal(size=(20, graph.I)), rng.normal(size=(20, graph.O))
    found = evaluate_table(table, HIDDEN, graph=graph, x=x, residual=residual, k=[3, 5])
    wide = found.wide()
    index = {name: i for i, name in enumerate(graph.functions)}
    pairs = [(index[s], index[t]) for s, t in HIDDEN]
    known = [(index[s], index[t]) for s, t in graph.function_edges]
    for name, scores in (
        ("degree product", degree_product(graph)),
        ("residual correlation", residual_correlation(graph, x, residual)),
    ):
        expected = evaluate_edges(scores, pairs, known, k=[3, 5]).to_dict()
        assert {key: wide.loc[name, key] for key in expected} == pytest.approx(expected, nan_ok=True)
    candidate = ~np.eye(graph.N, dtype=bool)
    candidate[tuple(np.array(known).T)] = False
    label = np.zeros_like(candidate)
    label[tuple(np.array(pairs).T)] = True
    scores = np.zeros((graph.N, graph.N))
    scores[[index[s] for s in table["source"]], [index[t] for t in table["target"]]] = table["score"]
    groups = alias_groups(graph).matrix()
    expected = group_metrics(scores[candidate], label[candidate], groups[candidate], k=5)
    assert {name: wide.loc["table", name] for name in expected.to_dict()} == pytest.approx(expected.to_dict())
    chance = found.metrics.query("method == 'table' and metric == 'group_roc_auc'")["chance"]
    assert chance.item() == expected.chance_roc_auc
    assert {"near_precision@3", "near_precision@5"} <= set(wide)
    assert set(found.metrics["by"]) == {"table", "baseline"}
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_verdict_is_that_of_a_self_check(graph):
    pairs = [(s, t) for s in graph.functions for t in graph.functions if s != t and (s, t) not in graph.function_edges]
    rng = np.random.default_rng(0)
    truth = [pairs[k] for k in rng.choice(len(pairs), 24, replace=False)]
    noise = rng.normal(size=len(pairs))
    table = pd.DataFrame(pairs, columns=["source", "target"])
    label = np.array([pair in truth for pair in pairs])
    for effect, short, tone in ((4.0, "finds ", "good"), (-4.0, "worse than guessing", "bad")):
        found = evaluate_table(table.assign(score=noise + effect * label), truth, graph=graph)
        assert found.verdict.short.startswith(short)
        assert found.verdict.tone == tone
        assert "24 true edges" in found.verdict.text
        assert found.to_dict()["verdict"]["next"]
    auc = roc_auc_score(label, noise + -4.0 * label)
    assert f"AUC {auc:.2f} (" in found.verdict.text
    few = evaluate_table(table.assign(score=noise), truth[:5], graph=graph).verdict
    assert (few.short, few.tone) == ("cannot be judged", "unsure")
    assert evaluate_table(table.assign(score=noise), truth, graph=graph, baselines=False).verdict is None


def test_what_ranked_without_the_data_is_the_baseline_that_counts(graph):
    pairs = [(s, t) for s in graph.functions for t in graph.functions if s != t and (s, t) not in graph.function_edges]
    rng = np.random.default_rng(0)
    truth = [pairs[k] for k in rng.choice(len(pairs), 24, replace=False)]
    score = rng.normal(size=len(pairs)) + 4 * np.array([pair in truth for pair in pairs])
    table = pd.DataFrame(pairs, columns=["source", "target"]).assign(score=score)
    same = table.assign(rank_structure=(-score).argsort().argsort() + 1)
    found = evaluate_table(same, truth, graph=graph)
    assert found.wide().loc["structure", "roc_auc"] == found.wide().loc["table", "roc_auc"]
    assert found.verdict.short == "no better than topology"
    assert "structure" in found.verdict.text
    assert evaluate_table(table, truth, graph=graph).verdict.tone == "good"


def test_roles(table, graph):
    found = evaluate_table(table, HIDDEN, roles={HIDDEN[0]: "merge", HIDDEN[1]: "merge"}, graph=graph)
    assert list(dict.fromkeys(found.metrics["role"])) == ["all", "merge", "other"]
    # Positives of one role are neither positives nor negatives of another.
    left = evaluate_table(table, HIDDEN[:2], known_true=HIDDEN[2:], graph=graph)
    for metric in ("roc_auc", "group_roc_auc", "group_average_precision", "group_n_left_out"):
        assert found.wide("merge").loc["table", metric] == left.wide().loc["table", metric]


def test_known_edges_come_from_the_table_or_the_caller(table, graph):
    # A function without a known edge would not be known without the graph, but every one is in the table.
    from_graph = evaluate_table(table, HIDDEN, graph=graph).wide()
    for other in (
        evaluate_table(table, HIDDEN),
        evaluate_table(table[~table["known"]].drop(columns="known"), HIDDEN, graph.function_edges),
    ):
        part = other.wide()
        pd.testing.assert_frame_equal(part.loc[["table"]], from_graph.loc[["table"], part.columns])
        assert any("no graph" in note for note in other.notes)


def test_truth_that_cannot_be_found_is_counted(table, graph):
    truth = [*HIDDEN, graph.function_edges[0], ("f1", "f1"), ("f1", "elsewhere")]
    found = evaluate_table(table.iloc[::2], truth, graph=graph)
    assert {k: found.counts[k] for k in ("n_truth", "n_known", "n_self", "n_outside", "n_positives")} == {
        "n_truth": 6, "n_known": 1, "n_self": 1, "n_outside": 1, "n_positives": 3
    }  # fmt: skip
    half = set(zip(table.iloc[::2]["source"], table.iloc[::2]["target"], strict=True))
    missing = sum(edge not in half for edge in HIDDEN)
    assert found.counts["n_unscored"] == missing > 0
    assert any("rank last" in note for note in found.notes)


def test_the_tables_of_an_inferer_are_welcome(table, graph):
    named = table.rename(columns={"source": "src_func", "target": "dst_func", "score": "corr", "known": "has_edge"})
    assert evaluate_table(named, HIDDEN).wide().equals(evaluate_table(table, HIDDEN).wide())


@pytest.mark.parametrize(
    ("change", "truth", "message"),
    [
        (lambda t: t.drop(columns="target"), HIDDEN, "needs the columns source and target"),
        (lambda t: t.drop(columns="score"), HIDDEN, "no column 'score' or 'corr'"),
        (lambda t: t.assign(score="x"), HIDDEN, "must hold numbers"),
        (lambda t: t.assign(source="f99"), HIDDEN, "does not have: .'f99'"),
        (lambda t: t, [("F1", "F2")], "no edge to find.*'F1'.*closest: f1"),
        (lambda t: t, [], "no edge to find"),
    ],
)
def test_wrong_input(table, graph, change, truth, message):
    with pytest.raises(DataError, match=message):
        evaluate_table(change(table), truth, graph=graph)


def test_known_edges_and_scores_must_be_there(table, graph):
    with pytest.raises(DataError, match=r"known edges name nodes that the graph does not have: .'f99'"):
        evaluate_table(table, HIDDEN, known=[("f1", "f99")], graph=graph)
    with pytest.raises(DataError, match="the table has no column 'scor'; did you mean 'score'"):
        evaluate_table(table, HIDDEN, graph=graph, score_col="scor")


def test_what_is_no_table(tmp_path):
    with pytest.raises(DataError, match="is a folder without a run; give a table of edges or a run folder"):
        read_table(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\xff\xfe")
    with pytest.raises(DataError, match=r"picture\.png cannot be read as a table"):
        read_table(tmp_path / "picture.png")


def test_files(tmp_path):
    (tmp_path / "truth.sif").write_text("a\t1\tb\nNA\t-1\tc\n")
    assert read_truth(tmp_path / "truth.sif") == [("a", "b"), ("NA", "c")]
    (tmp_path / "roles.tsv").write_text("source\ttarget\trole\nNA\tb\tmerge\n")
    assert read_roles(tmp_path / "roles.tsv") == {("NA", "b"): "merge"}
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="columns source, target and role"):
        read_roles(tmp_path / "bad.csv")
    with pytest.raises(DataError, match="does not exist"):
        read_roles(tmp_path / "nowhere.csv")
