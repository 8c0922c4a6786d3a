"""Curves, agreement, cells and the sentences at the top."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import precision_recall_curve

from gsnn.base.verdict import Verdict
from gsnn.discovery import Refinement
from gsnn.plot.check_tables import agreement, check_tables, hidden_ranks, method_ranks, precision_at_recall
from gsnn.plot.data import ReportData
from gsnn.report.columns import edge_columns
from gsnn.report.html import render
from gsnn.report.page import page_data
from gsnn.report.summary import answers
from gsnn.training.baselines import FitReport
from gsnn.training.verdict import fit_verdict

from .conftest import make_check


@pytest.mark.parametrize("weighted", [False, True])
def test_precision_at_recall_is_that_of_the_ranking(weighted):
    rng = np.random.default_rng(3)
    positives, negatives = rng.normal(1, 1, 17), rng.normal(0, 1, 300)
    weight = rng.uniform(0, 2, 300) if weighted else np.ones(300)
    below = np.array([weight[negatives < value].sum() / weight.sum() for value in positives])
    label = np.repeat([1, 0], [17, 300])
    expected, recall, _ = precision_recall_curve(
        label, np.concatenate([positives, negatives]), sample_weight=np.concatenate([np.ones(17), weight])
    )
    for k in range(1, 18):
        # The curve holds a point for each threshold; at the k-th positive itself the precision is the highest.
        best = expected[np.isclose(recall, k / 17)].max()
        assert precision_at_recall(below, weight.sum(), [k / 17])[0] == pytest.approx(best)


def test_precision_at_recall_without_positives_is_undefined():
    assert np.isnan(precision_at_recall([np.nan], 10, [0.5])).all()
    assert precision_at_recall([np.nan, 1.0], 10, [0.5, 1.0]).tolist() == [1.0, 1.0]
    assert precision_at_recall(np.full(100, 0.5), 100, [0.07])[0] == pytest.approx(7 / 57)


def test_check_tables_average_the_repeats():
    check = make_check()
    tables = check_tables(check, "first")
    curves = tables.curves
    real = curves[(curves["condition"] == "real") & (curves["method"] == "first") & (curves["negatives"] == "all")]
    each = [
        precision_at_recall(r["conditions"]["real"]["methods"]["first"]["placement"]["all"], 400, real["recall"])
        for r in check.repeats
    ]
    np.testing.assert_allclose(real["precision"], np.mean(each, axis=0), rtol=1e-9)
    assert real["chance"].iloc[0] == pytest.approx(12 / 412)
    assert len(tables.places) == 2 * 2 * 24
    assert tables.hidden == 24


def test_a_self_check_that_found_nothing_to_hide_has_no_curves():
    check = make_check(repeats=1)
    for record in check.repeats[0]["conditions"].values():
        record["testable"], record["methods"] = [], {}
    data = ReportData(title="t", check=check_tables(check, "first"))
    assert page_data(data)["check"] is None
    assert "cannot be judged" in [a.short for a in answers(data)]


def test_no_number_of_edges_is_praised_beside_a_ranking_that_failed(report_data):
    def edges(verdict):
        data = replace(report_data, check=replace(report_data.check, verdict=verdict))
        return next(answer for answer in answers(data) if answer.question == "How many of the best are edges?")

    assert "But the ranking" not in edges(Verdict("finds 14 of 40", "", "good")).text
    failed = edges(Verdict("no better than topology", "", "bad"))
    assert failed.text.endswith(
        "But the ranking is no better than topology: this number says nothing about what the data add."
    )
    assert failed.tone == "unsure"


def test_baselines_are_marked_and_methods_are_not(report_data):
    mark = '{} <span class="soft">(baseline)'.format
    page = render(report_data)
    assert not any(mark(name) in page for name in report_data.check.summary["method"])
    summary = report_data.check.summary.assign(by="baseline")
    page = render(replace(report_data, check=replace(report_data.check, summary=summary)))
    assert all(mark(name) in page for name in summary["method"])


def test_agreement_is_spearman_and_the_overlap():
    rng = np.random.default_rng(0)
    ranks = pd.DataFrame({"a": rng.permutation(50) + 1.0, "b": rng.permutation(50) + 1.0})
    ranks["c"] = ranks["a"].where(ranks["a"] > 5)
    found = agreement(ranks, "candidates", top=10).set_index(["first", "second"])
    assert found.loc[("a", "b"), "spearman"] == pytest.approx(spearmanr(ranks["a"], ranks["b"]).statistic)
    assert found.loc[("a", "b"), "shared"] == ((ranks["a"] <= 10) & (ranks["b"] <= 10)).sum()
    assert found.loc[("a", "c"), "spearman"] == pytest.approx(1)
    assert found.loc[("a", "c"), "n"] == 45
    assert agreement(ranks[["a"]], "candidates").empty
    assert np.isnan(agreement(ranks.head(2), "candidates")["spearman"]).all()


def test_hidden_and_candidate_ranks_have_a_column_per_method(report_data):
    assert list(hidden_ranks(make_check()).columns) == ["first", "second"]
    assert list(method_ranks(report_data.candidates, "first").columns) == ["first", "other"]


def test_cells_of_a_table_with_everything(report_data):
    columns = {column.name: column for column in edge_columns(report_data.candidates)}
    row = report_data.candidates.iloc[0].to_dict()
    assert columns["expected_precision"].cell(row) == "not estimable (30–90 %)"
    assert columns["expected_precision"].label == "Expected precision (guessing 0.4 %)"
    assert columns["expected_precision"].cell(report_data.candidates.iloc[19].to_dict()) == "25 % (12–38 %)"
    assert columns["alias_size"].cell(row | {"alias_size": 1}) == "none"
    assert columns["alias_size"].cell(row | {"alias_size": 4}) == "3 more"
    assert columns["sign"].cell(row | {"sign": -1}) == "inhibits"
    assert columns["rank_other"].label == "Rank, other"
    assert "alias_group" not in columns


def test_cells_of_columns_of_ones_own_and_of_nothing():
    table = pd.DataFrame({"rank": [1], "source": ["a"], "target": ["b"], "p_own": [1e-4], "weight": [2.0]})
    columns = {column.name: column for column in edge_columns(table)}
    assert [columns[name].kind for name in ("p_own", "weight")] == ["probability", "number"]
    assert columns["weight"].cell({"weight": np.nan}) == "–"
    assert columns["rank"].cell({"rank": None}) == "–"


def test_chance_that_is_undefined_has_no_curve():
    check = make_check(repeats=1)
    for record in check.repeats[0]["conditions"].values():
        record["methods"]["first"]["metrics"]["all"]["chance_average_precision"] = None
    curves = check_tables(check, "first").curves
    lost = curves["method"] == "first"  # both kinds of negatives have the same figures here
    assert curves.loc[lost, "precision"].isna().all()
    assert curves.loc[~lost, "precision"].notna().all()


def test_nothing_is_promised_without_an_expected_precision():
    table = pd.DataFrame({"source": ["a"], "target": ["b"], "score": [0.5], "rank": [1], "p": [0.1], "q": [0.1]})
    found = answers(ReportData(title="t", edges=table.assign(known=False, expected_precision=np.nan)))
    assert "How many of the best are edges?" not in [answer.question for answer in found]


def test_what_is_not_estimable_is_said_and_not_guessed(report_data):
    question = "How many of the best are edges?"
    (told,) = (answer for answer in answers(report_data) if answer.question == question)
    assert told.short == "5 of 50"
    assert "Guessing finds 0.2." in told.text
    wide = report_data.edges.assign(expected_precision=np.nan)
    (told,) = (answer for answer in answers(replace(report_data, edges=wide)) if answer.question == question)
    assert (told.short, told.tone) == ("not known", "unsure")
    assert "wider than one half" in told.text


def test_controls_without_power_do_not_speak_for_a_ranking(report_data):
    check = make_check(repeats=1)
    for record in check.repeats[0]["conditions"].values():
        record["testable"] = record["testable"][:5]
        for found in record["methods"].values():
            for name in found["placement"]:
                found["placement"][name] = [0.9, 0.1, 0.5, 0.95, 0.05]
    tables = check_tables(check, "first")
    assert set(tables.controls["verdict"]) == {"no power"}
    (told,) = (
        answer for answer in answers(replace(report_data, check=tables)) if answer.question.startswith("Can edges")
    )
    assert "have no power: 5 hidden edges are too few" in told.text
    assert told.tone == "unsure"
    assert any("5 hidden edges cannot show" in caveat for caveat in tables.caveats)


def test_places_of_edges_that_no_method_could_score_are_not_drawn(report_data):
    check = make_check()
    for repeat in check.repeats:
        placement = repeat["conditions"]["permuted"]["methods"]["first"]["placement"]
        placement["all"] = [float("nan")] * len(placement["all"])
    drawn = page_data(replace(report_data, check=check_tables(check, "first")))
    assert [series["name"] for series in drawn["scores"]["hidden"]] == ["hidden known edges"]


@pytest.mark.parametrize(
    ("model", "ridge", "mean", "tone", "words"),
    [
        (0.8, 0.5, 0.0, "good", "explains 80 %"),
        (0.51, 0.5, 0.0, "unsure", "adds nothing"),
        (0.2, 0.5, 0.0, "bad", "keeps the model from fitting"),
        (-0.1, 0.5, 0.0, "bad", "means little"),
    ],
)
def test_the_fit_is_told_as_on_the_screen(model, ridge, mean, tone, words):
    pooled = {"model": model, "ridge": ridge, "mean": mean}
    curve = pd.DataFrame({"epoch": range(1, 51), "train_loss": 0.7})
    verdict = fit_verdict(FitReport(pd.DataFrame(), pd.DataFrame({"pooled_r2": pooled}), 9), curve)
    data = ReportData(title="t", pooled=pooled, fit_verdict=verdict)
    first = answers(data)[0]
    assert (first.tone, first.short) == (tone, verdict.short)
    assert words in first.text
    assert verdict.text in render(data)


def test_a_refinement_is_told_with_its_rounds(report_data):
    assert 'id="refine"' not in render(report_data)
    edges = [{"source": "a", "target": "b<", "score": 1.0, "kept": True, "true": None, "gain": 0.1, "p": 0.01}]
    figures = {"loss_before": 1.0, "loss_after": 0.9, "test_before": 1.0, "test_after": 0.95, "trainings": 3}
    arm = [{"round": 1, "edges": edges, **figures}]
    found = Refinement({"rounds": 1, "decision": "single"}, {"inferred": arm, "random": arm})
    table = found.table()
    data = replace(
        report_data,
        refinement=found.summary(),
        refined=table[table["arm"] == "inferred"],
        refine_verdict=found.verdict(),
    )
    page = render(data)
    assert "Random edges did as well:" in page
    assert "b&lt;" in page
    (told,) = (answer for answer in answers(data) if answer.link == "refine")
    assert (told.short, told.tone) == ("random edges did as well", "bad")


def test_the_self_check_is_told_with_its_control(report_data):
    found = {answer.question: answer for answer in answers(report_data)}
    check = found["Can edges be found in these data?"]
    assert check.tone == "good"
    assert "controls show nothing" in check.text
    # The 50th of the made-up table: precision 5 / 50 = 0.1, interval 0.05 to 0.15.
    assert "best 50 candidates about 5 are" in found["How many of the best are edges?"].text
    assert "(2 to 8)" in found["How many of the best are edges?"].text
    failing = make_check()
    for record in failing.repeats:  # a control that finds what is not there
        record["conditions"]["permuted"]["methods"] = record["conditions"]["real"]["methods"]
    told = answers(ReportData(title="t", check=check_tables(failing, "first")))
    assert ("bad", True) in [(answer.tone, "the control 'permuted' fails" in answer.text) for answer in told]
