from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score

from gsnn.training.baselines import (
    ALPHAS,
    Figures,
    FitReport,
    MeanBaseline,
    RidgeBaseline,
    fit_report,
    pooled_r2,
    readout_metrics,
)


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = (rng.random((40, 6)) < 0.4).astype(float)
    y = x @ rng.normal(size=(6, 5)) + rng.normal(scale=[0.01, 0.1, 1, 3, 10], size=(40, 5)) + 2.0
    y[rng.random(y.shape) < 0.2] = np.nan
    y[:, 4] = y[:, 4]
    return x, y


def test_ridge_is_scikit_learns_at_the_chosen_alpha(problem):
    x, y = problem
    ridge = RidgeBaseline.fit(x, y)
    for column in range(y.shape[1]):
        seen = ~np.isnan(y[:, column])
        # The default of RidgeCV is exact leave-one-out by mean squared error.
        oracle = RidgeCV(alphas=ALPHAS).fit(x[seen], y[seen, column])
        assert ridge.alphas[column] == pytest.approx(oracle.alpha_)
        np.testing.assert_allclose(ridge.predict(x)[:, column], oracle.predict(x), rtol=1e-8, atol=1e-8)


def test_ridge_chooses_by_refitting_without_each_sample(problem):
    x, y = problem
    x, y = x[:12], np.where(np.isnan(y[:12]), 0.5, y[:12])
    alphas = [0.01, 1.0, 100.0]
    errors = np.zeros((3, y.shape[1]))
    for a, alpha in enumerate(alphas):
        for i in range(len(x)):
            rest = np.arange(len(x)) != i
            errors[a] += (Ridge(alpha=alpha).fit(x[rest], y[rest]).predict(x[i : i + 1])[0] - y[i]) ** 2
    assert RidgeBaseline.fit(x, y, alphas).alphas.tolist() == [alphas[a] for a in errors.argmin(0)]


def test_ridge_of_few_or_no_values():
    x = np.array([[0.0], [1.0], [2.0]])
    y = np.array([[np.nan, 4.0, 1.0], [np.nan, np.nan, 1.0], [np.nan, np.nan, 1.0]])
    ridge = RidgeBaseline.fit(x, y)
    prediction = ridge.predict(x)
    assert np.isnan(prediction[:, 0]).all()
    np.testing.assert_allclose(prediction[:, 1:], [[4, 1]] * 3)
    assert ridge.alphas[2] == ALPHAS.max(), "of equally good alphas the largest"


def test_ridge_with_more_inputs_than_samples():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 30)), rng.normal(size=(5, 2))
    assert np.isfinite(RidgeBaseline.fit(x, y).predict(x)).all()


@pytest.mark.parametrize("alphas", [[], [0.0], [-1.0], [np.inf], [[1.0]]])
def test_ridge_refuses_alphas(alphas):
    with pytest.raises(ValueError, match="alphas must be finite numbers above 0"):
        RidgeBaseline.fit(np.eye(3), np.eye(3), alphas)


def test_refuses_shapes():
    with pytest.raises(ValueError, match="same M > 0"):
        MeanBaseline.fit(np.zeros((2, 1)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="x must be finite"):
        RidgeBaseline.fit(np.array([[np.nan], [0.0]]), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="same shape"):
        readout_metrics(np.zeros((2, 1)), np.zeros((2, 2)))


def test_mean_baseline_is_the_mean(problem):
    x, y = problem
    np.testing.assert_allclose(MeanBaseline.fit(x, y).predict(x[:3]), np.tile(np.nanmean(y, 0), (3, 1)))


def test_metrics_match_a_loop(problem):
    _, y = problem
    prediction = np.nan_to_num(y) + np.random.default_rng(2).normal(size=y.shape)
    figures = readout_metrics(y, prediction)
    sse = sst = 0.0
    for column in range(y.shape[1]):
        seen = ~np.isnan(y[:, column])
        truth, guess = y[seen, column], prediction[seen, column]
        assert figures["n"][column] == seen.sum()
        assert figures["mse"][column] == pytest.approx(np.mean((truth - guess) ** 2))
        assert figures["r2"][column] == pytest.approx(r2_score(truth, guess))
        sse += ((truth - guess) ** 2).sum()
        sst += ((truth - truth.mean()) ** 2).sum()
    assert pooled_r2(y, prediction) == pytest.approx(1 - sse / sst)


def test_undefined_is_nan():
    y = np.array([[0.1, 1.0, np.nan, 0.0], [0.1, np.nan, np.nan, 1.0], [0.1, np.nan, np.nan, 2.0]])
    figures = readout_metrics(y, np.zeros_like(y))
    assert np.isnan(figures["r2"][:3]).all()
    assert figures["r2"][3] == pytest.approx(-1.5)
    assert np.isnan(figures["mse"][2])
    assert figures["n"].tolist() == [3, 1, 0, 3]
    assert np.isnan(pooled_r2(y[:, :3], np.zeros((3, 3))))
    assert np.isnan(pooled_r2(y[:1], np.zeros((1, 4))))


def test_report_survives_json(problem):
    _, y = problem
    y = y.copy()
    y[:, 2] = np.nan
    names = ["DV:a", "NA", "DV:ü", "DV:<", 'DV:"']
    report = fit_report({"model": Figures.of(y, np.nan_to_num(y)), "mean": Figures.of(y, np.zeros_like(y))}, names)
    assert report.predictors == ["model", "mean"]
    assert list(report.readouts) == ["readout", "n", "model_r2", "model_mse", "mean_r2", "mean_mse"]
    assert np.isnan(report.readouts["model_r2"][2])
    assert report.summary.loc["model", "mean_r2"] == 1.0
    again = FitReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))
    pd.testing.assert_frame_equal(again.readouts, report.readouts, check_exact=True)
    pd.testing.assert_frame_equal(again.summary, report.summary, check_exact=True)
    assert again.samples == report.samples


def test_report_refuses():
    with pytest.raises(ValueError, match="at least one predictor"):
        fit_report({}, ["a"])
    with pytest.raises(ValueError, match="2 names for 1 columns"):
        fit_report({"model": Figures.of(np.zeros((2, 1)), np.zeros((2, 1)))}, ["a", "b"])
