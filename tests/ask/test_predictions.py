"""Predictions in the units of the data, their intervals against numpy, and what lies outside."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from gsnn.ask import Ensemble, predict
from gsnn.ask.ensemble import calibrate
from gsnn.ask.predictions import outside, treatment_inputs
from gsnn.base.errors import DataError
from gsnn.data import Standardiser
from gsnn.graph import Graph
from gsnn.io import Responses

GRAPH = Graph.from_edges(
    [("TR:EGF", "EGF"), ("TR:MEKi", "MEK"), ("EGF", "MEK"), ("MEK", "DV:MEK"), ("EGF", "DV:EGF")],
    input_nodes=["TR:EGF", "TR:MEKi"],
    function_nodes=["EGF", "MEK"],
    output_nodes=["DV:MEK", "DV:EGF"],
)


@pytest.fixture
def ensemble():
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2, size=(24, 2)).astype(np.float32)
    y = (100 + 30 * x @ rng.normal(size=(2, 2)) + 3 * rng.normal(size=(24, 2))).astype(np.float32)
    torch.manual_seed(0)
    model, *members = [nn.Linear(2, 2).eval() for _ in range(5)]
    return Ensemble(GRAPH, model, members, Standardiser.fit(y), x, y, rng.poisson(1, size=(4, 24)))


def test_mean_and_interval_are_in_the_units_of_the_data(ensemble):
    new = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
    found = predict(ensemble, new, interval=0.8)
    with torch.no_grad():
        alone = ensemble.model(torch.tensor(new)).numpy().astype(float)
        told = np.stack([model(torch.tensor(new)).numpy() for model in ensemble.members]).astype(float)
        seen = np.stack([model(torch.tensor(ensemble.x)).numpy() for model in ensemble.members]).astype(float)
    mean, scale = ensemble.y.mean(0).astype(float), ensemble.y.astype(float).std(0, ddof=1)
    known = calibrate(seen, ensemble.times, (ensemble.y - mean) / scale)
    np.testing.assert_allclose(found.mean, (alone + told.mean(0)) / 2 * scale + mean, rtol=1e-5)
    raw = scale * np.sqrt(known.noise + told.var(0, ddof=1) / 4)
    np.testing.assert_allclose(found.sd, raw * np.sqrt(np.mean(known.ratios**2)), rtol=1e-4)
    half = raw * np.quantile(known.ratios, 0.8)
    np.testing.assert_allclose(found.high - found.mean, half, rtol=1e-4)
    np.testing.assert_allclose(found.mean - found.low, half, rtol=1e-4)
    assert found.level == 0.8


def test_tables_of_both_shapes(ensemble):
    new = pd.DataFrame({"EGF": [1.0, 0.5], "TR:MEKi": [0, 1.0]}, index=pd.Index(["A", "B"], name="condition"))
    found = predict(ensemble, new)
    wide, long = found.to_table(), found.to_frame()
    names = ["MEK", "MEK_low", "MEK_high", "EGF", "EGF_low", "EGF_high"]
    assert list(wide) == ["condition", "treatments", *names, "outside"]
    assert wide["treatments"].tolist() == ["EGF", "EGF=0.5 + MEKi"]
    assert list(long) == ["condition", "treatments", "readout", "mean", "sd", "low", "high", "outside"]
    assert long["condition"].tolist() == ["A", "A", "B", "B"]
    assert long.query("condition == 'B' and readout == 'EGF'")["low"].item() == wide["EGF_low"][1]


def test_a_single_model_has_no_interval(ensemble):
    none = np.zeros((0, 24), int)
    single = Ensemble(GRAPH, ensemble.model, [], ensemble.standardiser, ensemble.x, ensemble.y, none)
    found = predict(single, ensemble.x)
    assert found.sd is found.low is found.high is None
    assert "gsnn train --members 5 gives intervals" in found.notes[0]
    assert list(found.to_table()) == ["condition", "treatments", "MEK", "EGF", "outside"]
    with pytest.raises(DataError, match="no members; gsnn train --members 5 gives intervals"):
        predict(single, ensemble.x, interval=0.9)


@pytest.mark.parametrize("level", [0, 1, 90, -0.5])
def test_an_interval_is_a_share(ensemble, level):
    with pytest.raises(DataError, match="share between 0 and 1"):
        predict(ensemble, ensemble.x, interval=level)


def test_a_plot_has_a_point_and_an_interval_for_each_readout(ensemble):
    pytest.importorskip("matplotlib").use("Agg")
    found = predict(ensemble, ensemble.x[:2])
    ax = found.plot(1)
    points = ax.lines[0].get_xdata()
    np.testing.assert_allclose(points, found.mean[1])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["MEK", "EGF"]


def test_treatments_are_found_by_the_rules_of_the_readers():
    responses = Responses(pd.DataFrame({"EGF": [1.0]}), pd.DataFrame({"EGF": [0.0]}))
    inputs, notes = treatment_inputs(GRAPH, responses)
    assert inputs.to_numpy().tolist() == [[1.0, 0.0]]
    assert notes == ["1 treatment without a column, taken as not applied: 'MEKi'"]
    kinds = Responses(pd.DataFrame({"MEKi": [1.0]}), pd.DataFrame({"EGF": [0.0]}), kinds={"MEKi": "inhibitor"})
    assert treatment_inputs(GRAPH, kinds)[0].to_numpy().tolist() == [[0.0, 1.0]]
    with pytest.raises(DataError, match="none of the run"):
        treatment_inputs(GRAPH, pd.DataFrame({"egf": [1.0]}))
    assert treatment_inputs(GRAPH, pd.DataFrame({"egf": [1.0]}), ignore_case=True)[0].iloc[0, 0] == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            pd.DataFrame({"EFG": [1.0]}),
            r"1 treatment of the new data .*'EFG' - closest: 'EGF'.*trained on 'EGF', 'MEKi'",
        ),
        (pd.DataFrame({"EGF": [1.0, None]}), r"'TR:EGF' is missing or no number in row 1; write 0"),
        (pd.DataFrame({"EGF": ["much"]}), r"'TR:EGF' is missing or no number in row 0"),
        (pd.DataFrame({"EGF": [1.0], "TR:EGF": [0.0]}), "two treatment columns are the same input"),
        (pd.DataFrame({"EGF": []}), "no condition to predict"),
        (np.zeros((2, 3)), r"must have shape \(B, 2\)"),
    ],
)
def test_refuses_what_cannot_be_predicted(table, message):
    with pytest.raises(DataError, match=message):
        treatment_inputs(GRAPH, table)


def test_outside_by_kind():
    seen = np.array([[1, 0, 0, 0], [0, 2, 0, 1], [1, 2, 0, 0], [-1, 0, 0, 1]], np.float32)
    new = [
        [1, 0, 0, 0],
        [1, 1.5, 0, 0],
        [0, 0, 1, 0],
        [2, 0, 0, 0],
        [-2, 0, 0, 0],
        [0, 1, 0, 0],
        [1, 0, 0, 1],
        [0, 0, 0, 0],
    ]
    assert outside(np.array(new, np.float32), seen, list("abcd")) == [
        "",
        "",  # doses between those that were seen
        "treatment never seen: c",
        "dose beyond the range: a=2 (-1 to 1)",
        "dose beyond the range: a=-2 (-1 to 1)",
        "combination never seen: b alone",
        "",
        "combination never seen: nothing",
    ]
