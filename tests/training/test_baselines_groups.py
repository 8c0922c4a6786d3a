"""The group mean and the conditions left out, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from gsnn.training.baselines import (
    Figures,
    FitReport,
    GroupMeanBaseline,
    MeanBaseline,
    fit_report,
    pooled_correlation,
)
from gsnn.training.left_out import left_out_correlations, left_out_ridge


def table(m=30, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.random((m, 4)) < [0.1, 0.45, 0.8, 1.0]).astype(float)
    y = x @ rng.normal(size=(4, 3)) + rng.normal(scale=0.5, size=(m, 3))
    y[rng.random(y.shape) < 0.1] = np.nan
    return x, y


def test_group_mean_takes_the_most_even_treatment():
    x, y = table()
    group = GroupMeanBaseline.fit(x, y)
    smaller = [min((x[:, i] != 0).sum(), (x[:, i] == 0).sum()) for i in range(4)]
    assert group.treatment == int(np.argmax(smaller))
    for row, predicted in zip(x, group.predict(x), strict=True):
        members = (x[:, group.treatment] != 0) == (row[group.treatment] != 0)
        np.testing.assert_allclose(predicted, np.nanmean(y[members], axis=0))


def test_group_mean_without_a_split_or_a_value_is_the_mean():
    x, y = table()
    np.testing.assert_allclose(
        GroupMeanBaseline.fit(np.ones_like(x), y).predict(x[:2]), MeanBaseline.fit(x, y).predict(x[:2])
    )
    x = np.array([[0.0], [0.0], [1.0], [1.0]])
    y = np.array([[1.0], [3.0], [np.nan], [np.nan]])
    assert GroupMeanBaseline.fit(x, y).predict(x).ravel().tolist() == [2.0] * 4


def test_correlation_is_numpys_over_what_both_have():
    _, y = table()
    prediction = y + np.random.default_rng(1).normal(size=y.shape)
    seen = ~np.isnan(y)
    assert pooled_correlation(y, prediction) == pytest.approx(np.corrcoef(y[seen], prediction[seen])[0, 1])
    assert np.isnan(pooled_correlation(y, np.zeros_like(y)))


def test_conditions_are_left_out_one_by_one():
    x, y = table()
    found = left_out_correlations(x, y)
    conditions = np.unique(x, axis=0)
    assert found["folds"] == len(conditions)
    for name, kind in (("group mean", GroupMeanBaseline), ("mean", MeanBaseline)):
        predicted = np.empty_like(y)
        for condition in conditions:
            out = (x == condition).all(axis=1)
            predicted[out] = kind.fit(x[~out], y[~out]).predict(x[out])
        assert found[name] == pytest.approx(pooled_correlation(y, predicted)), name


@pytest.mark.parametrize("wide", [False, True])
def test_ridge_without_each_condition_is_that_of_a_loop(wide):
    """Every alpha refitted without every condition; the one of the other conditions' errors predicts."""
    x, y = table()
    if wide:  # more inputs than samples
        x = np.concatenate([x, x @ np.random.default_rng(1).normal(size=(4, 40))], axis=1)
    y[:, 1] = np.nan
    y[x[:, 1] > 0, 1] = 3.0
    conditions, fold = np.unique(x, axis=0, return_inverse=True)
    fold, alphas = fold.reshape(-1), np.array([0.01, 1.0, 100.0])
    want = np.full((len(conditions), 3), np.nan)
    for o in range(3):
        seen = ~np.isnan(y[:, o])
        predicted, errors = np.full((2, len(alphas), len(conditions)), np.nan)
        for a, alpha in enumerate(alphas):
            for g, condition in enumerate(conditions):
                rest, own = seen & (fold != g), seen & (fold == g)
                if not rest.any():
                    continue
                if rest.sum() > 1:
                    predicted[a, g] = Ridge(alpha=alpha).fit(x[rest], y[rest, o]).predict(condition[None])[0]
                else:
                    predicted[a, g] = y[rest, o][0]
                errors[a, g] = ((y[own, o] - predicted[a, g]) ** 2).sum()
        for g in range(len(conditions)):
            others = np.delete(errors, g, axis=1).sum(1)[::-1]  # largest first
            want[g, o] = predicted[len(alphas) - 1 - int(others.argmin()), g]
    np.testing.assert_allclose(left_out_ridge(x, y, fold, alphas), want, rtol=1e-6, atol=1e-8)
    found = left_out_correlations(x, y)
    assert found["ridge"] == pytest.approx(pooled_correlation(y, left_out_ridge(x, y, fold)[fold]))


def test_of_many_conditions_a_sample(monkeypatch):
    monkeypatch.setattr("gsnn.training.left_out.MOST_CONDITIONS", 50)
    x = np.random.default_rng(0).normal(size=(300, 2))
    found = left_out_correlations(x, x @ np.array([[1.0], [2.0]]))
    assert (found["folds"], found["of"]) == (50, 300)
    assert found["ridge"] > 0.99
    assert left_out_correlations(np.zeros((5, 1)), np.ones((5, 1)))["folds"] == 1


def test_readouts_that_miss_different_samples_are_sampled_where_they_cost_too_much(monkeypatch):
    x, y = table(60)
    assert "readouts" not in left_out_correlations(x, y)
    monkeypatch.setattr("gsnn.training.left_out._MOST_WORK", 60 * 4 * 4)
    assert left_out_correlations(x, y)["readouts"] == 1


def test_a_report_keeps_its_correlations():
    y = np.array([[0.0], [2.0]])
    report = fit_report({"model": Figures.of(y, y)}, ["DV:a"])
    assert (report.correlation, report.left_out) == ({}, {})
    full = FitReport(report.readouts, report.summary, 2, {"model": 1.0, "mean": float("nan")}, {"ridge": 0.5})
    again = FitReport.from_dict(full.to_dict())
    assert again.correlation["model"] == 1.0
    assert np.isnan(again.correlation["mean"])
    assert again.left_out == {"ridge": 0.5}
    old = {name: value for name, value in full.to_dict().items() if name not in ("correlation", "left_out")}
    assert FitReport.from_dict(old).correlation == {}


def test_the_published_figures_of_the_ligand_screen(gsnn_data):
    pd = pytest.importorskip("pandas")
    folder = gsnn_data / "lembas_ligandscreen"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    x, y = (pd.read_csv(folder / f"ligandScreen-{name}.tsv", sep="\t", index_col=0) for name in ("Ligands", "TFs"))
    found = left_out_correlations(x.to_numpy(), y.loc[x.index].to_numpy())
    assert found["folds"] == 103
    assert found["group mean"] == pytest.approx(0.58, abs=0.005)
    assert found["ridge"] == pytest.approx(0.77, abs=0.03)  # with a penalty chosen per readout, it is a little better
